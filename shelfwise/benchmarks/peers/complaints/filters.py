"""Complaints about filters: applied after the search, by one side only, or lost on missing and repeated values."""

from __future__ import annotations

from shelfwise.benchmarks.peers.complaints.catalog import CARD, SHOE
from shelfwise.benchmarks.peers.complaints.engine import Condition, Shop, expect

BACKPACK = "hiking backpack"


def a_narrow_filter_keeps_its_hits(shop: Shop) -> None:
    """A page is full of what was meant, while enough of it passes a filter for 2% of all (lancedb/lancedb#2762)."""
    narrow = (Condition("brand", "=", "Quillon"), Condition("colour", "=", "blue"))
    there = shop.matching(BACKPACK, *narrow)
    found = there.intersection(shop.search("rucksack for trekking", *narrow).ids)
    expect(len(found) == 10, f"{len(found)} of 10 hits are among the {len(there)} backpacks that pass")


def no_hit_breaks_the_filter(shop: Shop) -> None:
    """The filter binds what meaning finds as well as what words find (weaviate/weaviate#7681)."""
    cheap = Condition("price", "<", 80.0)
    broken = [hit for hit in shop.search("backpack", cheap, size=50).ids if not cheap.holds(shop.listings[hit])]
    expect(not broken, f"{len(broken)} hits cost more, such as {broken[:2]}")


def not_equal_keeps_missing_values(shop: Shop) -> None:
    """A product without a colour is not red (weaviate/weaviate#3017)."""
    found = set(shop.search("gift card", Condition("colour", "!=", "red"), size=50).ids)
    there = shop.matching(CARD)
    expect(there <= found, f"{len(there & found)} of {len(there)} products without a colour are found")


def nothing_passes_without_an_error(shop: Shop) -> None:
    """A filter that nothing passes has an empty page, not a failure in the fusion (lancedb/lancedb#2425)."""
    found = shop.search("backpack", Condition("price", "<", 1.0)).ids
    expect(not found, f"{len(found)} hits")


def one_variant_has_both_values(shop: Shop) -> None:
    """A filter on colour and size means one variant that has both, not two that have one each (qdrant/qdrant#3838)."""
    wanted = (Condition("colour", "=", "black"), Condition("size", "=", "43"))
    found = shop.search("running shoes", *wanted, grouped=True, size=20).ids
    groups = sorted(shop.listings[hit].group for hit in found if shop.listings[hit].kind == SHOE)
    there = sorted(shop.listings[each].group for each in shop.matching(SHOE, *wanted))
    expect(groups == there, f"found {groups}, black in 43 are {there}")


def a_filter_needs_no_query(shop: Shop) -> None:
    """Without a text, the filter's products are listed, and nothing else (meilisearch/meilisearch#724)."""
    wanted = (Condition("brand", "=", "Osterby"), Condition("kind", "=", BACKPACK))
    found, there = set(shop.search("", *wanted, size=100).ids), shop.matching("", *wanted)
    expect(found == there, f"{len(found)} hits, {len(found & there)} of the {len(there)} that pass")
