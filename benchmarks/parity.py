"""Whether two engines over one catalog answer alike: the same hits in the same order, totals and facet counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.records import Page
from service.engine import SearchEngine

TOLERANCE = 1e-4
"""How far two scores of one hit may be apart."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One search, put to both engines."""

    text: str
    filters: str = ""
    facets: tuple[str, ...] = ()
    sort: str = ""
    stage: str = "merged"
    size: int = 100


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison found."""

    searches: int
    hits: int
    largest: float
    """The largest difference of two scores of one hit."""
    swapped: tuple[str, ...]
    """A line for each search in which hits changed places whose scores are as good as equal: each backend adds words
    up in single precision in its own order, and two sums of the same may fall on two sides of a step."""
    differing: tuple[str, ...]
    """A line for each search that the two answer differently in any other way."""


def compare(
    one: SearchEngine, other: SearchEngine, searches: Iterable[Asked], advance: Callable[[int], None] = lambda _: None
) -> Parity:
    """Puts every search to both engines."""
    count, hits, largest = 0, 0, 0.0
    swapped: list[str] = []
    differing: list[str] = []
    for asked in searches:
        ours, theirs = _page(one, asked), _page(other, asked)
        count, hits = count + 1, hits + len(ours.hits)
        named = f"{asked.text!r} {asked.filters} {asked.sort} {asked.stage}"
        if told := _difference(ours, theirs):
            differing.append(f"{named}: {told}")
        else:
            if told := _swap(ours, theirs):
                swapped.append(f"{named}: {told}")
            apart = np.abs(np.array(_scores(ours)) - np.array(_scores(theirs)))
            largest = max(largest, float(apart.max(initial=0.0)))
        advance(1)
    return Parity(count, hits, largest, tuple(swapped), tuple(differing))


def varied(queries: Sequence[str], engine: SearchEngine) -> list[Asked]:
    """Each query plainly, with the words alone, under filters, with facets, and sorted; then what is browsed."""
    facets, (chosen, price) = ("brand", "category", "price"), _usual(engine)
    made = []
    for text in queries:
        made += [
            Asked(text, facets=facets),
            Asked(text, stage="bm25", size=300),
            Asked(text, chosen, facets),
            Asked(text, f"price < {price} OR NOT price EXISTS", facets),
            Asked(text, f"NOT ({chosen} AND price >= {price})", sort="-price"),
        ]
    return [*made, Asked("", facets=facets, sort="price"), Asked("", f"price > {price}", facets)]


def _usual(engine: SearchEngine) -> tuple[str, float]:
    """A filter by the commonest category, or brand where there are none, and the middle price of a catalog."""
    facets = engine.search("", size=0, facets=("category", "brand"), rules=False).facets
    counted = facets["category"] if facets["category"].counts else facets["brand"]
    chosen = f'{counted.field} = "{counted.counts[0].value}"' if counted.counts else "brand EXISTS"
    products = engine.snapshot.products
    prices = [price for row in range(0, len(products), 17) if (price := products[row].price) is not None]
    return chosen, float(np.median(prices)) if prices else 10.0


def _page(engine: SearchEngine, asked: Asked) -> Page:
    return engine.search(
        asked.text,
        size=asked.size,
        filters=asked.filters,
        facets=asked.facets,
        sort=asked.sort,
        stage=asked.stage,
        rules=False,
    )


def _scores(page: Page) -> list[float]:
    return [hit.score for hit in page.hits]


def _difference(ours: Page, theirs: Page) -> str:
    """What differs, or nothing."""
    if ours.degraded or theirs.degraded:
        return f"answered without {ours.degraded or theirs.degraded}"
    if ours.total != theirs.total:
        return f"{ours.total} hits, {theirs.total} in the other"
    if len(ours.hits) != len(theirs.hits):
        return "one page is longer"
    for place, (hit, match) in enumerate(zip(ours.hits, theirs.hits, strict=True), 1):
        if abs(hit.score - match.score) > TOLERANCE:
            return f"at place {place} the score {hit.score:.6f}, in the other {match.score:.6f}"
        if hit.product.id != match.product.id and not _is_among(match.product.id, ours, match.score):
            return f"at place {place} {hit.product.id}, in the other {match.product.id}"
    for name, facet in ours.facets.items():
        if facet != theirs.facets[name]:
            return f"the facet {name} differs"
    return ""


def _swap(ours: Page, theirs: Page) -> str:
    """The first place where hits of nearly equal scores changed places, or nothing."""
    for place, (hit, match) in enumerate(zip(ours.hits, theirs.hits, strict=True), 1):
        if hit.product.id != match.product.id:
            return f"at place {place}, scores {hit.score:.7g} and {match.score:.7g}"
    return ""


def _is_among(product_id: str, page: Page, score: float) -> bool:
    """Whether a product is on a page with as good as this score; at the end of a full page it may be the next."""
    found = [hit.score for hit in page.hits if hit.product.id == product_id]
    return abs((found[0] if found else page.hits[-1].score) - score) <= TOLERANCE
