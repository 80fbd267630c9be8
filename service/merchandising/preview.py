"""What a change of rules would do to a page of a search."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.records import Page


@dataclass(frozen=True, slots=True)
class Moved:
    """A product that is on both pages at another place, or on one of them."""

    product: str
    title: str
    before: int | None
    """Its place over all pages, from 1; None where it is not on the page."""
    after: int | None
    rule: str
    """The rule that moved it, if one says so."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One page of a search by the rules that are, and by those that would be. Nothing was changed."""

    before: Page
    after: Page
    gained: tuple[Moved, ...]
    """Products that would come onto the page, in their order."""
    lost: tuple[Moved, ...]
    """Products that would go from it, in the order in which they stand."""
    moved: tuple[Moved, ...]
    """Products that would stay, at another place; those between that only make room are among them."""


def compared(before: Page, after: Page) -> Preview:
    """The difference between two pages of one search."""
    was, becomes = _places(before), _places(after)
    rules = {hit.product.id: hit.rule for page in (before, after) for hit in page.hits}
    titles = {hit.product.id: hit.product.title for page in (before, after) for hit in page.hits}

    def told(product: str) -> Moved:
        return Moved(product, titles[product], was.get(product), becomes.get(product), rules[product])

    return Preview(
        before,
        after,
        tuple(told(product) for product in becomes if product not in was),
        tuple(told(product) for product in was if product not in becomes),
        tuple(told(product) for product, place in becomes.items() if was.get(product, place) != place),
    )


def _places(page: Page) -> dict[str, int]:
    first = (page.page - 1) * page.size + 1
    return {hit.product.id: place for place, hit in enumerate(page.hits, first)}
