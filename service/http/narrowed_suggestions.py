"""Suggestions for a key that sees a part of the store: of them, those that lead to something there."""

from __future__ import annotations

from dataclasses import replace

from retrieval.errors import UnknownProductError
from retrieval.filters import Comparison, format_filter
from service.engine import SearchEngine
from service.http.access.narrowing import all_of
from service.suggesting.suggestions import Suggestions

_DEPTH = " > "


def within(engine: SearchEngine, made: Suggestions, filters: str) -> Suggestions:
    """The suggestions that `filters` lets something through of."""

    def leads(text: str, *conditions: str) -> bool:
        found = engine.search(text, size=0, filters=all_of((filters, *conditions)), stage="bm25", correct=False)
        return found.total > 0 and not found.relaxed

    def is_there(product_id: str) -> bool:
        try:
            engine.product(product_id, filters=filters)
        except UnknownProductError:
            return False
        return True

    return replace(
        made,
        queries=tuple(each for each in made.queries if leads(each.text)),
        categories=tuple(each for each in made.categories if leads("", _is("category", _DEPTH.join(each.path)))),
        brands=tuple(each for each in made.brands if leads("", _is("brand", each.name))),
        products=tuple(each for each in made.products if is_there(each.product.id)),
    )


def _is(field: str, value: str) -> str:
    return format_filter(Comparison(field, "=", value))
