"""Complaints about changes: products that are found late, stay after they were deleted, or keep an old vector."""

from __future__ import annotations

from dataclasses import replace

from shelfwise.benchmarks.peers.complaints.engine import Condition, Listing, Shop, expect

NEW = Listing("new-1", "Zweeble whistling teapot", "teapot", "Zweeble", 39.0, "TP-9001-A", "A porcelain teapot.")


def new_products_are_found(shop: Shop) -> None:
    """A product that was just added is found by its words and by its meaning (lance-format/lance#3014)."""
    with shop.added(NEW):
        by_words, by_meaning = shop.search("zweeble").ids, shop.search("porcelain pot for tea").ids
    expect(NEW.id in by_words[:1], f"its name finds {by_words[:2]}")
    expect(NEW.id in by_meaning[:1], f"its meaning finds {by_meaning[:2]}")


def deleted_products_are_gone(shop: Shop) -> None:
    """A deleted product is in no answer, by words or by meaning (weaviate/weaviate#3867)."""
    with shop.added(NEW):
        pass
    found = [hit for query in ("zweeble teapot", "porcelain pot for tea") for hit in shop.search(query, size=50).ids]
    expect(NEW.id not in found, "it is still found")


def a_new_title_has_a_new_vector(shop: Shop) -> None:
    """A changed text is found by what it means now, not by what it meant (weaviate/weaviate#2102)."""
    changed = replace(NEW, title="Zweeble folding bicycle", description="A city bike with three gears.", kind="bicycle")
    with shop.added(NEW):
        shop.change(changed)
        now, before = shop.search("bike for commuting").ids, shop.search("porcelain pot for tea").ids
    expect(NEW.id in now[:1], f"the new meaning finds {now[:2]}")
    expect(NEW.id not in before, "the old meaning still finds it")


def a_new_price_counts(shop: Shop) -> None:
    """An updated field holds in filters at once, and the old value no longer does (lancedb/lancedb#1365)."""
    with shop.added(NEW):
        shop.change(replace(NEW, price=9.0))
        cheap, dear = Condition("price", "<", 10.0), Condition("price", ">=", 30.0)
        now, before = (shop.search("whistling teapot", each, size=50).ids for each in (cheap, dear))
    expect(NEW.id in now, "the filter on the new price does not let it through")
    expect(NEW.id not in before, "the filter on the old price lets it through")
