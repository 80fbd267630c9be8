"""Preferences of a query beside the type of product: its price, and values of the catalog that it names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from retrieval.filters.ast import And, Comparison, Filter, In, format_filter
from retrieval.filters.conditions import Condition
from retrieval.filters.schema import FieldCatalog
from retrieval.records import Preference
from retrieval.text.analysis import fold
from retrieval.text.named_values import NamedValue, NamedValues
from retrieval.text.price_bounds import PriceBounds, price_bounds
from retrieval.text.product_types import ProductTypes, head_phrases

_JUDGEMENT = re.compile(
    r"\b(?:cheap(?:est)?|affordable|inexpensive|best|good|great|nice)\b|(?:便宜|实惠|好用|最好|性价比高)的?"
)
"""What a shopper hopes of a product, which no title says."""


@dataclass(frozen=True, slots=True)
class QueryPreferences:
    """A query, and the properties that it prefers."""

    text: str
    """Without the bounds of a price."""
    product: str
    """Without values and words such as "best", too: what may name a type of product."""
    preferences: tuple[tuple[Preference, Condition], ...] = ()


def query_preferences(
    text: str, catalog: FieldCatalog, values: NamedValues, types: ProductTypes, filtered: Collection[str] = ()
) -> QueryPreferences:
    """The preferences of a query of a catalog with these values and types; fields that are `filtered` have none."""
    bounds = price_bounds(text) if "price" in catalog.fields else None
    text = bounds.text if bounds else text
    found: list[tuple[Preference, Filter]] = [_of_price(bounds)] if bounds and "price" not in filtered else []
    product = folded = fold(text)
    for named in reversed(values.find(folded)):
        rest = f"{product[: named.start]} {product[named.end :]}"
        if _still_names(product, rest, types):
            product = rest
            found += _of_values(named, filtered)
    rest = _JUDGEMENT.sub(" ", product)
    if rest != product and _still_names(product, rest, types):
        product = rest
    # The text itself where it names no value: it is analysed once.
    product = text if product is folded else product.strip()
    return QueryPreferences(text, product, tuple((each, catalog.compile(tree)) for each, tree in found))


def _still_names(text: str, rest: str, types: ProductTypes) -> bool:
    """Whether a text without a value names a product, and the same as with it: in "phone case" a brand Case is none."""
    before, after = head_phrases(text), head_phrases(rest)
    is_type = bool(before) and before[0][-1] in types.heads
    return bool(after) and (not is_type or before[0][-1] == after[0][-1])


def _of_price(bounds: PriceBounds) -> tuple[Preference, Filter]:
    tests: list[Filter] = []
    if bounds.low is not None:
        tests.append(Comparison("price", ">=", bounds.low))
    if bounds.high is not None:
        tests.append(Comparison("price", "<=", bounds.high))
    tree = tests[0] if len(tests) == 1 else And(tuple(tests))
    return Preference("price", format_filter(tree), low=bounds.low, high=bounds.high), tree


def _of_values(named: NamedValue, filtered: Collection[str]) -> Iterator[tuple[Preference, Filter]]:
    for field, values in named.values.items():
        if field not in filtered:
            tree = In(field, tuple(values))
            yield Preference(field, format_filter(tree), tuple(values)), tree
