"""Quantities in attributes as numbers: the text "1,5 kg" gets a number of grams. The only file that imports pint.

The text stays as it is; the number is stored under the attribute's name and its unit: `weight_g`, `height_mm`.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from shelfwise.retrieval.text.analysis import fold
from shelfwise.retrieval.text.units import QUANTITIES, quantities

if TYPE_CHECKING:
    from pint import UnitRegistry

# The unit in the attribute's name: pint's name for it, and the units converted to it, named as in
# shelfwise.retrieval.text.units, with pint's names where those differ. Horsepower (metric or mechanical), gauges and
# packs have no single factor.
_BASES = {
    "mm": ("millimeter", "in=inch ft=foot yd=yard mm=millimeter cm=centimeter m=meter km=kilometer"),
    "m2": ("meter**2", "sqft=foot**2 sqin=inch**2 sqm=meter**2"),
    "ml": (
        "milliliter",
        "gal=gallon qt=quart pt=pint floz=fluid_ounce l=liter ml=milliliter cl=centiliter cuft=foot**3 cuin=inch**3",
    ),
    "g": ("gram", "oz=ounce lb=pound kg=kilogram g=gram mg=milligram"),
    "v": ("volt", "v=volt kv=kilovolt"),
    "w": ("watt", "w=watt kw=kilowatt"),
    "wh": ("watt_hour", "wh=watt_hour kwh=kilowatt_hour"),
    "mah": ("milliampere*hour", "mah=milliampere*hour ah=ampere*hour"),
    "a": ("ampere", "a=ampere ma=milliampere"),
    "hz": ("hertz", "hz=hertz khz=kilohertz mhz=megahertz ghz=gigahertz"),
    "gb": ("gigabyte", "kb=kilobyte mb=megabyte gb=gigabyte tb=terabyte"),
    "psi": ("", "psi"),
    "rpm": ("", "rpm"),
    "lm": ("", "lm"),
    "db": ("", "db"),
    "mp": ("", "mp"),
}
_QUANTITY = re.compile(QUANTITIES)
_SHAPE = re.compile(
    r"(?P<number>[0-9]+(?:[.,][0-9]+)?|[0-9 -]*[0-9]+/[0-9]+)(?P<unit>\s?[^\W\d_].{0,24}|\s?[\"'′″]{1,2})"
)
# "1.500 kg" is one and a half in one country and one and a half thousand in another.
_AMBIGUOUS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
# "5 G" and "5g" are networks and "100 Mb" counts bits.
_OTHER_UNIT = re.compile(r"\s?(?:[GM]|[KMGTkmgt]b)\.?")
_NETWORK = re.compile("[2-6]g")
_LONGEST = 40


@lru_cache(maxsize=1 << 16)
def parse_quantity(text: str) -> tuple[str, float] | None:
    """The unit and the number of a text that is one quantity ("16 GB": gb, 16); None for any other.

    It never guesses: ranges, dimensions, ambiguous units and numbers that can be read in two ways are None.
    """
    shape = _SHAPE.fullmatch(text) if len(text) <= _LONGEST else None
    if shape is None or _AMBIGUOUS.fullmatch(shape["number"]):
        return None
    if _OTHER_UNIT.fullmatch(shape["unit"]) or _NETWORK.fullmatch(text):
        return None
    spelled = fold(shape["number"].replace(",", ".") + shape["unit"])
    if not _QUANTITY.fullmatch(spelled):
        return None
    found = quantities(spelled)
    base = _factors().get(found[0].unit) if len(found) == 1 else None
    if base is None:
        return None
    unit, factor = base
    return unit, float(f"{float(found[0].number) * factor:.12g}")


@cache
def _factors() -> dict[str, tuple[str, float]]:
    """The unit to which each unit of `shelfwise.retrieval.text.units` is converted, and the factor."""
    registry = _registry()
    factors: dict[str, tuple[str, float]] = {}
    for base, (name, units) in _BASES.items():
        for entry in units.split():
            unit, _, spelled = entry.partition("=")
            factor = registry.Quantity(1, spelled).to(name).magnitude if name else 1
            factors[unit] = base, float(factor)
    return factors


def _registry() -> UnitRegistry[float]:
    from pint import UnitRegistry

    return UnitRegistry()
