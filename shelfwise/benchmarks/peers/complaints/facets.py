"""Complaints about counts: facets that ignore the query, count one page, or disagree with the total."""

from __future__ import annotations

from shelfwise.benchmarks.peers.complaints.catalog import SHOE
from shelfwise.benchmarks.peers.complaints.engine import Condition, Shop, expect

KETTLE = "electric kettle"
BY_MEANING = "rucksack for trekking"
"""No product has one of its words, and more products are near it than an engine takes neighbours."""


def facets_follow_the_query(shop: Shop) -> None:
    """Facets count what the query finds, not the whole index (meilisearch/meilisearch#6590)."""
    counts = shop.search(KETTLE, facets=("kind",)).facets["kind"]
    expect(sum(counts.values()) < len(shop.listings) / 2, f"{sum(counts.values())} of {len(shop.listings)} counted")
    expect(max(counts, key=counts.__getitem__) == KETTLE, f"the counts are {counts}")


def total_follows_the_query(shop: Shop) -> None:
    """A search by words and meaning has its own total, not the size of the index (meilisearch/meilisearch#4494)."""
    shop.require("total")
    total, there = shop.search(KETTLE).total, len(shop.matching(KETTLE))
    expect(there / 2 <= total < len(shop.listings) / 2, f"total {total} for {there} kettles of {len(shop.listings)}")


def facets_count_all_pages(shop: Shop) -> None:
    """Facets are about all hits, whatever the page shows (typesense/typesense#1244)."""
    few, many, later = (
        shop.search(KETTLE, facets=("brand",), size=size, page=page).facets["brand"]
        for size, page in ((5, 1), (50, 1), (5, 3))
    )
    expect(few == many == later, f"size 5 counts {few}, size 50 {many}, page 3 {later}")


def facets_add_up_to_the_total(shop: Shop) -> None:
    """The counts of a field that each hit has once add up to the total (opensearch-project/neural-search#509)."""
    shop.require("total")
    answer = shop.search(KETTLE, facets=("brand",))
    counted = sum(answer.facets["brand"].values())
    expect(counted == answer.total, f"the brands count {counted}, the total is {answer.total}")


def a_chosen_value_has_its_count(shop: Shop) -> None:
    """Choosing a facet's value gives as many hits as its count promised (typesense/typesense#1714)."""
    shop.require("total")
    for query in (KETTLE, BY_MEANING):
        counts = shop.search(query, facets=("brand",)).facets["brand"]
        for brand, count in counts.items():
            total = shop.search(query, Condition("brand", "=", brand)).total
            expect(total == count, f"for {query!r}, {brand} was counted {count} times and has {total} hits")


def facets_count_groups(shop: Shop) -> None:
    """Grouped results count groups in facets and total, not their members (typesense/typesense#2366)."""
    shop.require("total", "group")
    answer = shop.search(SHOE, Condition("kind", "=", SHOE), facets=("brand",), grouped=True)
    counts = set(answer.facets["brand"].values())
    expect(answer.total == 5, f"total {answer.total} for 5 shoes of 15 variants each")
    expect(counts == {1}, f"a brand with one shoe counts {max(counts)}")
