"""Complaints about order: pins lost under reranking, and sorting that is ignored or depends on the page."""

from __future__ import annotations

from shelfwise.benchmarks.peers.complaints.engine import Condition, Shop, expect

QUERY = "office chair"
PINNED = "chair-50"


def a_pin_survives_reranking(shop: Shop) -> None:
    """A pinned product is first, however the hits are reranked (typesense/typesense#2702)."""
    with shop.pinned(QUERY, PINNED):
        first = shop.search(QUERY).ids[:1]
    expect(first == (PINNED,), f"first is {first}")


def a_pin_needs_no_words(shop: Shop) -> None:
    """A pin holds where only meaning answers (typesense/typesense#2592)."""
    query = "comfortable seating"
    with shop.pinned(query, PINNED):
        found = shop.search(query).ids
    expect(found[:1] == (PINNED,), f"first is {found[:1]}")


def a_pin_respects_the_filter(shop: Shop) -> None:
    """A pinned product that the filter excludes stays out (typesense/typesense#1416)."""
    other = Condition("brand", "!=", shop.listings[PINNED].brand)
    with shop.pinned(QUERY, PINNED):
        found = shop.search(QUERY, other).ids
    expect(PINNED not in found, "the pinned product is among the hits")


def a_sort_orders_all_hits(shop: Shop) -> None:
    """A sort by price orders all pages of a search, and leaves in what it found (weaviate/weaviate#3276)."""
    found = [hit for page in range(1, 5) for hit in shop.search(QUERY, sort="price", page=page).ids]
    prices = [shop.listings[hit].price for hit in found]
    expect(prices == sorted(prices), f"the first prices are {prices[:6]}")
    cheapest = min(shop.matching(QUERY), key=lambda each: shop.listings[each].price)
    expect(cheapest in found, f"the cheapest chair, {cheapest}, is not among the first {len(found)}")


def a_sort_ignores_the_size(shop: Shop) -> None:
    """The first hits of a sorted search do not depend on the page's size (opensearch-project/neural-search#1067)."""
    few, many = (shop.search(QUERY, sort="price", size=size).ids for size in (5, 50))
    expect(few == many[:5], f"first of 5 is {' '.join(few)}, of 50 {' '.join(many[:5])}")
