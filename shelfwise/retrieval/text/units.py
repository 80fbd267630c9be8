"""Quantities and dimensions: every way to write "1/2 in." or "2 x 4" gives the same numbers and units."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Each unit as it is in terms, with its other spellings. A space in a spelling may be a dot, a hyphen or nothing.
_SPELLINGS = {
    "in": "inch, inches, \", '', 英寸, 寸",
    "ft": "feet, foot, ', 英尺",
    "yd": "yds, yard, yards",
    "mm": "millimeter, millimeters, millimetre, millimetres, 毫米",
    "cm": "centimeter, centimeters, centimetre, centimetres, 厘米",
    "m": "meter, meters, metre, metres, 米",
    "km": "kilometer, kilometers, kilometre, kilometres, 公里",
    "sqft": "sq ft, sq feet, sq foot, square feet, square foot, ft2, 平方英尺",
    "sqin": "sq in, sq inch, sq inches, square inch, square inches, in2",
    "sqm": "sq m, square meter, square meters, square metre, square metres, m2, 平方米",
    "cuft": "cu ft, cu feet, cubic feet, cubic foot, ft3",
    "cuin": "cu in, cu inch, cubic inch, cubic inches, in3",
    "gal": "gals, gallon, gallons, 加仑",
    "qt": "qts, quart, quarts",
    "pt": "pint, pints",
    "floz": "fl oz, fl ounce, fluid ounce, fluid ounces",
    "oz": "ounce, ounces, 盎司",
    "lb": "lbs, pound, pounds",
    "kg": "kgs, kilo, kilos, kilogram, kilograms, 千克, 公斤",
    "g": "gram, grams, gramme, grammes, 克",
    "mg": "milligram, milligrams, 毫克",
    "l": "liter, liters, litre, litres, 升",
    "ml": "milliliter, milliliters, millilitre, millilitres, 毫升",
    "cl": "centiliter, centiliters, centilitre, centilitres",
    "v": "volt, volts, 伏",
    "kv": "kilovolt, kilovolts",
    "w": "watt, watts, 瓦",
    "kw": "kilowatt, kilowatts, 千瓦",
    "wh": "watt hour, watt hours",
    "kwh": "kilowatt hour, kilowatt hours, 千瓦时",
    "mah": "毫安时, 毫安",
    "ah": "amp hour, amp hours",
    "a": "amp, amps, ampere, amperes",
    "ma": "milliamp, milliamps",
    "hz": "hertz",
    "khz": "kilohertz",
    "mhz": "megahertz",
    "ghz": "gigahertz",
    "kb": "kilobyte, kilobytes",
    "mb": "megabyte, megabytes",
    "gb": "gigabyte, gigabytes",
    "tb": "terabyte, terabytes",
    "mp": "megapixel, megapixels",
    "hp": "horse power",
    "btu": "btus",
    "psi": "",
    "rpm": "",
    "cfm": "",
    "lm": "lumen, lumens",
    "db": "decibel, decibels",
    "ga": "gauge, gauges",
    "deg": "degree, degrees, °",
    "pack": "packs, pk, pks",
    "piece": "pieces, pc, pcs, pc(s)",
    "ct": "count",
}
# "15a" is 15 amperes, but "1 a day" is not.
_NEVER_APART = frozenset({"a"})
# Nobody searches for these units by themselves, and nearly every title would have them.
_SILENT = frozenset({"in", "ft", "yd", "mm", "cm", "m", "km", "sqft", "sqin", "sqm", "cuft", "cuin", "oz", "lb"})
# Without a number these are other words: a preposition, a computer.
_OTHERWISE = frozenset({"in", "pc", "pcs"})


def _squeezed(spelling: str) -> str:
    return re.sub("[ .-]", "", spelling)


def _alternation(spellings: Iterable[str]) -> str:
    """One pattern for all spellings, longest first, branched by first letter so that most are never tried."""
    branches: dict[str, list[str]] = {}
    for spelling in sorted(spellings, key=lambda spelling: (-len(spelling), spelling)):
        rest = re.escape(spelling[1:]).replace(r"\ ", r"\.?[ -]{0,2}+")
        branches.setdefault(re.escape(spelling[0]), []).append(rest)
    return "|".join(f"{first}(?:{'|'.join(rests)})" for first, rests in branches.items())


_TABLE = {unit: unit for unit in _SPELLINGS} | {
    spelling: unit for unit, others in _SPELLINGS.items() for spelling in others.split(", ") if spelling
}
"""Maps each spelling, including its inner spaces, to its unit."""
_UNIT_OF = {_squeezed(spelling): unit for spelling, unit in _TABLE.items()}
_NAME_OF = {unit: unit if len(unit) > 1 else others.split(", ")[0] for unit, others in _SPELLINGS.items()}
"""The word of each unit: a single letter would match every "v" and "m" in a title."""
WORDS = {
    spelling: _NAME_OF[unit]
    for spelling, unit in _TABLE.items()
    if spelling.isascii() and spelling.isalpha() and len(spelling) > 1 and spelling not in _OTHERWISE
}
"""Maps a spelling of a unit that is a word ("gallons") to the word as which it is indexed ("gal")."""

# Atomic groups, not possessive ones: Python 3.11 before 3.11.5 leaves a possessive group in the middle after a failure.
# Only the denominators of rulers, pipes and recipes: "24/7" is not a fraction.
_FRACTION = "[0-9]{1,3}/(?:2|3|4|5|6|8|10|12|16|32|64)(?![0-9])"
_DECIMAL = r"(?:[0-9]{1,3}(?>(?:,[0-9]{3}){1,4})(?![0-9])|[0-9]{1,15}+)(?>(?:\.[0-9]{1,15}+)?)|\.[0-9]{1,15}+"
_NUMBER = rf"(?>(?:[0-9]{{1,3}}[ -]{{1,2}})?{_FRACTION}|{_DECIMAL})"
_END = r"(?:(?![a-z0-9])|(?=x ?[0-9]))"
_APART = _alternation(spelling for spelling in _TABLE if spelling not in _NEVER_APART)
_UNIT = rf"(?:[ -]{{0,2}}+(?:{_APART})|-?(?:{'|'.join(_NEVER_APART)})){_END}\.?+"
# "24 in. W x 36 in. H": the side that a length belongs to does not count for matching.
_SIDE = r"(?>(?: ?[wdhl](?![a-z0-9]))?)"
_TIMES = r" ?(?:[x*]|by(?= )) ?"
_MORE = rf"(?>(?:{_SIDE}{_TIMES}{_NUMBER}(?>(?:{_UNIT})?)){{1,3}}){_SIDE}"
# Characters that may not follow a bare number: they make it the beginning of a model number or of "2-light".
_ALONE = r"(?![0-9a-z]|[-'.&_][a-z0-9])"
_MANY_IN_ONE = r"[0-9]{1,2}[ -]in[ -]1(?![0-9a-z./]|[ -]{1,2}[0-9]{1,3}/)"

QUANTITIES = rf"{_MANY_IN_ONE}|{_NUMBER}(?:{_UNIT}(?>(?:{_MORE})?)|{_MORE}|{_ALONE})|m[0-9]{{1,2}}{_MORE}(?![a-z])"
"""A number, alone or with its unit ("12-volt"), dimensions ("M8 x 40", "2 in. x 4 in.") or "3-in-1"."""

_MEASURE_TERM = re.compile(rf"[0-9]*\.?[0-9]+(?:{'|'.join(_SPELLINGS)})|m?[0-9.]+(?:x[0-9.]+)+")
_PARTS = re.compile(rf"(m?)({_NUMBER})(?>({_UNIT})?)")
_IN_ONE = re.compile(_MANY_IN_ONE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as spelled in terms ("0.5"; "m8" for a metric thread) and its unit, empty if it has none."""

    number: str
    unit: str

    @property
    def term(self) -> str:
        return self.number + self.unit

    @property
    def unit_word(self) -> str:
        """The word that finds this unit by itself ("gal" of "5gal"); empty for lengths, areas and weights."""
        return "" if self.unit in _SILENT else _NAME_OF.get(self.unit, "")


def is_measure(term: str) -> bool:
    """Whether a term is a number with a unit ("36in") or dimensions ("2x4")."""
    return _MEASURE_TERM.fullmatch(term) is not None


def unit_of(spelling: str) -> str:
    """The unit of a spelling as it is in terms ("in" of "inches"); empty for any other text."""
    return _UNIT_OF.get(spelling, "")


def in_one(chunk: str) -> str:
    """The number of a "3-in-1" or "3 in 1"; empty for any other chunk."""
    return re.split("[ -]", chunk)[0] if _IN_ONE.fullmatch(chunk) else ""


def quantities(chunk: str) -> list[Quantity]:
    """The numbers of a chunk that QUANTITIES matched, in order, each with its own unit."""
    return [
        Quantity(metric + number_term(number), _UNIT_OF[_squeezed(unit)] if unit else "")
        for metric, number, unit in _PARTS.findall(chunk)
    ]


def number_term(number: str) -> str:
    """A matched number as a decimal without trailing zeros: "1-1/2", "1.50" and "1 1/2" are "1.5"; "007" stays."""
    if "/" in number:
        *whole, fraction = re.split("[ -]+", number)
        over, under = fraction.split("/")
        return f"{int(whole[0] if whole else 0) + int(over) / int(under):.4f}".rstrip("0").rstrip(".")
    number = number.replace(",", "")
    if "." not in number:
        return number
    whole_part, decimals = number.split(".")
    return f"{whole_part or '0'}.{decimals}".rstrip("0").rstrip(".")
