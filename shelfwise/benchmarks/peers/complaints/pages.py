"""Complaints about pages: totals that move, hits that repeat or are skipped, orders that depend on the page's size."""

from __future__ import annotations

from shelfwise.benchmarks.peers.complaints.catalog import CARD, EQUALS
from shelfwise.benchmarks.peers.complaints.engine import Condition, Shop, expect

QUERY, BY_MEANING = "lightweight backpack for hiking", "rucksack for trekking"
QUERIES = (QUERY, BY_MEANING, "hiking backpack", "office chair", "red kettle for the office")


def total_is_equal_on_all_pages(shop: Shop) -> None:
    """The total of a search is the same on each of its pages (meilisearch/meilisearch#5972)."""
    shop.require("total")
    totals = [shop.search(QUERY, page=page).total for page in range(1, 6)]
    expect(len(set(totals)) == 1, f"pages 1 to 5 say {totals}")


def total_is_equal_for_all_sizes(shop: Shop) -> None:
    """The total does not depend on how many hits are asked for (opensearch-project/OpenSearch#22823)."""
    shop.require("total")
    totals = {size: shop.search(QUERY, size=size).total for size in (1, 10, 50)}
    expect(len(set(totals.values())) == 1, f"by size: {totals}")


def no_hit_is_on_two_pages(shop: Shop) -> None:
    """A product is on one page of a search, not on two (weaviate/weaviate#5432)."""
    for query in QUERIES:
        seen = [hit for page in range(1, 7) for hit in shop.search(query, page=page, size=7).ids]
        repeated = sorted({hit for hit in seen if seen.count(hit) > 1})
        expect(not repeated, f"for {query!r}, on two of six pages: {', '.join(repeated)}")


def pages_skip_nothing(shop: Shop) -> None:
    """Six pages of seven hits are the first 42 of one long page (lancedb/lancedb#4027)."""
    for query in QUERIES:
        one = shop.search(query, size=42).ids
        paged = [hit for page in range(1, 7) for hit in shop.search(query, page=page, size=7).ids]
        missing = [hit for hit in one if hit not in paged]
        expect(not missing, f"for {query!r}, on none of six pages: {', '.join(missing)}")


def the_page_number_counts(shop: Shop) -> None:
    """The offset of a hybrid search is applied: page 2 is not page 1, nor empty (lancedb/lancedb#3765)."""
    first, second = (shop.search(QUERY, page=page).ids for page in (1, 2))
    expect(bool(second) and first != second, f"page 1 begins with {first[:3]}, page 2 with {second[:3]}")


def the_size_changes_no_order(shop: Shop) -> None:
    """Asking for more hits does not reorder the first ones (opensearch-project/neural-search#325)."""
    for query in QUERIES:
        few, many = (shop.search(query, size=size).ids for size in (5, 50))
        expect(few == many[:5], f"for {query!r}, first of 5 is {' '.join(few)}, of 50 {' '.join(many[:5])}")


def the_last_page_is_reached(shop: Shop) -> None:
    """All hits that the total counts can be paged to (elastic/elasticsearch#124632)."""
    shop.require("total")
    for query in (QUERY, BY_MEANING):
        total, seen = shop.search(query, size=1).total, set[str]()
        for page in range(1, total // 50 + 2):
            seen |= set(shop.search(query, page=page, size=50).ids)
        expect(len(seen) == total, f"for {query!r}, the total is {total}, the pages have {len(seen)} products")


def equal_products_keep_an_order(shop: Shop) -> None:
    """Equal scores are always in one order, over pages and repetitions (qdrant/qdrant#3834)."""
    only = Condition("kind", "=", CARD)
    runs = {tuple(shop.search("gift card", only, size=20).ids) for _ in range(5)}
    seen = [hit for page in range(1, 5) for hit in shop.search("gift card", only, page=page).ids]
    expect(len(runs) == 1, f"5 searches have {len(runs)} orders")
    expect(len(set(seen)) == EQUALS, f"4 pages of 10 have {len(set(seen))} of {EQUALS} equal products")
