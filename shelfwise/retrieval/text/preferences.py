"""Preferences of a query in addition to the type of product: a price ("drill under 100", "100元以下的背包"), a low one
("cheap drill"), values of the catalog, and what a product should lack ("drill without battery")."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.filters.ast import And, Comparison, Filter, In, format_filter
from shelfwise.retrieval.filters.conditions import Condition
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.records import Preference
from shelfwise.retrieval.text.analysis import HAN, contains_chinese, dictionary_words, fold
from shelfwise.retrieval.text.named_values import NamedValues
from shelfwise.retrieval.text.product_types import ProductTypes, head_phrases

_NUMBER = r"(\d{1,7}(?:,\d{3})*(?:\.\d{1,2})?)"
_SIGN = r"(?:us\$|[$€£¥])\s?"
_UNIT = r"\s?(?:dollars?|bucks|usd|euros?|eur|pounds?|gbp|yuan|rmb|cny|块钱?|元|[$€£¥])"
_AMOUNT = rf"(?:{_SIGN}{_NUMBER}|{_NUMBER}{_UNIT}|{_NUMBER}(?![\w.%\"'/-]|\s(?!(?:or|and|with|in|for)\b)[a-z]))"
_BELOW = r"(?:under|below|less than|cheaper than|up to|at most|max(?:imum)?\.?|no more than)"
_ABOVE = r"(?:over|above|more than|at least|min(?:imum)?\.?|starting at)"
_LEAD = r"(?:\b(?:for|priced?)\s)?\b"
_BOUNDS = re.compile(
    rf"{_LEAD}between\s{_AMOUNT}\s(?:and|to)\s{_AMOUNT}"
    rf"|{_LEAD}{_BELOW}\s{_AMOUNT}"
    rf"|\b(?P<above>{_ABOVE})\s{_AMOUNT}"
    rf"|{_NUMBER}(?:元|块)(?:钱)?(?:以下|以内|之内|(?P<beyond>以上))的?",
    re.IGNORECASE,
)
_CHEAP = re.compile(r"\b(?:cheap(?:est)?|affordable|inexpensive)\b|最?(?:便宜|实惠)的?")
_CHEAPEST, _FEW_PRICES = 2.0, 4
"""Bonus of the cheapest product of a type, in preferences, and the number of prices that must be known for it."""
_JUDGEMENT = re.compile(r"\b(?:best|good|great|nice)\b|(?:好用|最好|性价比高)的?")
"""Words for qualities that a shopper hopes for, which titles do not contain."""
_NEGATION = re.compile(
    r"(?:\b(?:not|no|non|without|except|but not|anything but)(?: (?:in|a|an|any))?[ -]|不要|不是|除了|非)$"
)
"""Words before a value that a shopper does not want."""
_WITHOUT = re.compile(
    r"\b(?:without|w/o|with no)\s(?:(?:an?|any|the)\s)?(?P<words>[a-z][a-z' -]*?)"
    rf"(?=\s?(?:[,;(]|$)|\s(?:for|with|and|in|under|over|below|above)\s)|(?:不含|不带)(?P<chinese>[{HAN}]+)"
)
_LACKING = ("{} free", "{}less", "no {}", "without {}", "{} not included")
_LACKING_CHINESE = ("无{}", "不含{}", "不带{}")
"""Phrases of titles and descriptions which say that a product lacks something."""


@dataclass(frozen=True, slots=True)
class QueryPreferences:
    """A query, and the properties that it prefers."""

    text: str
    """The query without the bounds of a price, and without unwanted values."""
    product: str
    """The text also without values and words such as "best": the part that may name a type of product."""
    preferences: tuple[tuple[Preference, Condition], ...] = ()
    is_cheap: bool = False
    """Whether it asks for a low price, whatever is low for the type of product."""
    lacking: str = ""
    """The thing that a product should lack: "battery"."""


def query_preferences(
    text: str, catalog: FieldCatalog, values: NamedValues, types: ProductTypes, filtered: Collection[str] = ()
) -> QueryPreferences:
    """The preferences of a query, given the catalog's values and types; `filtered` fields have none."""
    bounds = price_bounds(text) if "price" in catalog.fields else None
    text = bounds.text if bounds else text
    found: list[tuple[Preference, Filter]] = [_of_price(bounds)] if bounds and "price" not in filtered else []
    folded = fold(text)
    lacking, folded = _without_lacking(folded, values)
    is_cheap, folded = _without_cheap(folded, values, types) if "price" in catalog.fields else (False, folded)
    text = folded if lacking or is_cheap else text
    product = searched = folded
    for named in reversed(values.find(folded)):
        unwanted = _NEGATION.search(folded, 0, named.start)
        start = unwanted.start() if unwanted else named.start
        behind = product[named.end :].removeprefix("的") if unwanted else product[named.end :]
        rest = f"{product[:start]} {behind}"
        if unwanted and rest.strip():
            # A shopper who wants no black product must not see the black ones first.
            product, searched = rest, f"{searched[:start]} {searched[named.end :].removeprefix('的')}"
        elif _still_names(product, rest, types):
            product = rest
            for field, names in named.values.items():
                if field not in filtered:
                    tree = In(field, tuple(names))
                    found.append((Preference(field, format_filter(tree), tuple(names)), tree))
    text = text if searched is folded else " ".join(searched.split())
    rest = _JUDGEMENT.sub(" ", product)
    if rest != product and _still_names(product, rest, types):
        product = rest
    # The text itself if it names no value: it is analysed once.
    product = text if product is folded else product.strip()
    compiled = tuple((each, catalog.compile(tree)) for each, tree in found)
    return QueryPreferences(text, product, compiled, is_cheap and "price" not in filtered, lacking)


def cheapness(
    prices: NDArray[np.floating], known: NDArray[np.floating]
) -> tuple[NDArray[np.float64], Preference] | None:
    """Bonus of products for a low price (n,), in preferences, if a query asks for one, and the preference for the
    cheapest quarter; None if too few prices are known.

    `prices` (n,) are theirs, NaN for none; `known` (m,) are those of all products of their type. The bonus is highest
    for the cheapest product, and 0 above all known prices.
    """
    known = np.sort(known[known > 0])
    if len(known) < _FEW_PRICES:
        return None
    gained: NDArray[np.float64] = np.where(
        prices > 0, _CHEAPEST * (1 - np.searchsorted(known, prices) / len(known)), 0.0
    )
    bound = round(float(known[len(known) // 4]), 2)
    return gained, Preference("price", format_filter(Comparison("price", "<=", bound)), high=bound)


def lacking_forms(what: str) -> tuple[str, ...]:
    """The phrases by which a product says that it lacks something: "battery free", 无硅油."""
    forms = _LACKING_CHINESE if contains_chinese(what) else _LACKING
    # What lacks wires is wireless.
    return tuple(form.format(what.removesuffix("s") if form.endswith("less") else what) for form in forms)


def _without_lacking(folded: str, values: NamedValues) -> tuple[str, str]:
    """The thing that a product should lack, and the query without it; a value of the catalog stays in the query."""
    found = _WITHOUT.search(folded)
    if not found:
        return "", folded
    what, end = found["words"] or found["chinese"], found.end()
    if found["chinese"]:
        # Up to 的, or else one word: what follows it is the product.
        before, of, _ = what.partition("的")
        what = before if of else dictionary_words(what)[0]
        end = found.start("chinese") + len(what) + len(of)
    rest = " ".join(f"{folded[: found.start()]} {folded[end:]}".split())
    return ("", folded) if not rest or values.is_value(what) else (what, rest)


def _without_cheap(folded: str, values: NamedValues, types: ProductTypes) -> tuple[bool, str]:
    """Whether a query asks for a low price, and the query without that word; words of brand names do not count."""
    found = _CHEAP.search(folded)
    if not found or any(each.start < found.end() and found.start() < each.end for each in values.find(folded)):
        return False, folded
    rest = " ".join(f"{folded[: found.start()]} {folded[found.end() :]}".split())
    return (True, rest) if _still_names(folded, rest, types) else (False, folded)


def _still_names(text: str, rest: str, types: ProductTypes) -> bool:
    """Whether a text names the same product without a value as with it: in "phone case", Case is not a brand."""
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


@dataclass(frozen=True, slots=True)
class PriceBounds:
    """The bounds of a price that a query names."""

    low: float | None
    high: float | None
    text: str
    """The query without the bounds."""
    span: tuple[int, int]
    """Where the bounds are in the query, (start, end)."""


def price_bounds(query: str) -> PriceBounds | None:
    """The bounds that a query names; None if it names none, or nothing else.

    A number followed by a unit is not a price ("under 20 inch"), unless the unit is one of money.
    """
    found = _BOUNDS.search(query)
    if found is None:
        return None
    text = " ".join(f"{query[: found.start()]} {query[found.end() :]}".split())
    amounts = [float(group.replace(",", "")) for group in found.groups() if group and group[0].isdigit()]
    if not text or not amounts:
        return None
    if len(amounts) == 2:
        return PriceBounds(min(amounts), max(amounts), text, found.span())
    is_low = bool(found["above"] or found["beyond"])
    return PriceBounds(amounts[0] if is_low else None, None if is_low else amounts[0], text, found.span())
