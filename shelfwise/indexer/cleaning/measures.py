"""Quantities in attributes as numbers: the text "1,5 kg" gets a number of grams.

The text stays as it is; the number is stored under the attribute's name and its unit: `weight_g`, `height_mm`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from shelfwise.retrieval.text.analysis import fold
from shelfwise.retrieval.text.units import QUANTITIES, quantities

# The unit in the attribute's name, and the units converted to it, named as in shelfwise.retrieval.text.units, each with
# its factor (NIST Handbook 44, appendix C; US customary volumes). Horsepower (metric or mechanical), gauges and packs
# have no single factor.
_FACTORS = {
    "mm": {"in": 25.4, "ft": 304.8, "yd": 914.4, "mm": 1.0, "cm": 10.0, "m": 1e3, "km": 1e6},
    "m2": {"sqft": 0.09290304, "sqin": 0.00064516, "sqm": 1.0},
    "ml": {
        "gal": 3785.411784,
        "qt": 946.352946,
        "pt": 473.176473,
        "floz": 29.5735295625,
        "l": 1e3,
        "ml": 1.0,
        "cl": 10.0,
        "cuft": 28316.846592,
        "cuin": 16.387064,
    },
    "g": {"oz": 28.349523125, "lb": 453.59237, "kg": 1e3, "g": 1.0, "mg": 1e-3},
    "v": {"v": 1.0, "kv": 1e3},
    "w": {"w": 1.0, "kw": 1e3},
    "wh": {"wh": 1.0, "kwh": 1e3},
    "mah": {"mah": 1.0, "ah": 1e3},
    "a": {"a": 1.0, "ma": 1e-3},
    "hz": {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9},
    "gb": {"kb": 1e-6, "mb": 1e-3, "gb": 1.0, "tb": 1e3},
    **{unit: {unit: 1.0} for unit in ("psi", "rpm", "lm", "db", "mp")},
}
_BASES = {unit: (base, factor) for base, factors in _FACTORS.items() for unit, factor in factors.items()}
"""The unit to which each unit is converted, and the factor."""
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
    base = _BASES.get(found[0].unit) if len(found) == 1 else None
    if base is None:
        return None
    unit, factor = base
    return unit, float(f"{float(found[0].number) * factor:.12g}")
