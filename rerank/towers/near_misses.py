"""Near misses: products close to another one that are of another size or type, which a number or one word tells, and
which an encoder likes to take for the same.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from retrieval.chunks import CHUNKS
from retrieval.records import Product
from retrieval.textfold import fold
from retrieval.units import QUANTITIES, in_one, quantities

_QUANTITY = re.compile(QUANTITIES)
_MAX_TITLE = 1_000
"""Characters of a title that are read for sizes."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What tells a product from those near to it."""

    title: str
    """Folded."""
    sizes: Mapping[str, Counter[str]]
    """The numbers of its title by their unit, each as often as it stands there."""
    category: tuple[str, ...]
    """Folded; the deepest level is its type."""


def traits_of(product: Product) -> Traits:
    """Read from title and category; a number without a unit is no size."""
    title = fold(product.title)
    return Traits(title, _sizes(title), tuple(map(fold, product.category)))


def is_near_miss(one: Traits, other: Traits) -> bool:
    """Whether two products, near to each other, differ in a size or in their type; never where their titles are equal.

    Only what both tell can differ: a size where both have one of its unit, the type where both have a category.
    """
    return one.title != other.title and (_differ_in_size(one, other) or _differ_in_type(one, other))


def _sizes(folded: str) -> Mapping[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for chunk in CHUNKS.findall(folded[:_MAX_TITLE]):
        if not _QUANTITY.fullmatch(chunk) or in_one(chunk):
            continue
        # "8 x 10 ft": the unit behind is that of all before it.
        unit = ""
        for each in reversed(quantities(chunk)):
            unit = each.unit or unit
            if unit:
                found[unit][each.number] += 1
    return dict(found)


def _differ_in_size(one: Traits, other: Traits) -> bool:
    """Whether, in one unit, each has a number that the other lacks: a title that tells more sizes differs in none."""
    pairs = ((one.sizes[unit], other.sizes[unit]) for unit in one.sizes.keys() & other.sizes.keys())
    return any(mine - theirs and theirs - mine for mine, theirs in pairs)


def _differ_in_type(one: Traits, other: Traits) -> bool:
    """Whether neither is filed under the other's type: what stands in the wider category may be of the narrower."""
    if not one.category or not other.category:
        return False
    return one.category[-1] not in other.category and other.category[-1] not in one.category
