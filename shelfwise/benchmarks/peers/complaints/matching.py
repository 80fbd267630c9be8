"""Complaints about what matches: senseless and odd queries, failing encoders, misspellings, numbers, variants."""

from __future__ import annotations

from shelfwise.benchmarks.peers.complaints.catalog import SHOE
from shelfwise.benchmarks.peers.complaints.engine import Condition, Shop, expect

BY_MEANING = "rucksack for trekking"
"""No product has one of its words."""
MISSPELLED = {"keyborad": "gaming keyboard", "grindr": "coffee grinder", "hedphones": "wireless headphones"}
ODD = (
    "backpack: {0}, [1] (2)",
    'AND OR NOT "backpack',
    "backpack~ +rain -cover*",
    "hiking/backpack? \\ ^2 && ||",
    "l'électrique — backpack’s %_;'--",
    "背包 backpack 🎒",
)


def senseless_queries_find_nothing(shop: Shop) -> None:
    """A query that fits nothing has no hits, rather than the nearest of what there is (weaviate/weaviate#4315)."""
    found = {query: len(shop.search(query).ids) for query in ("xqzvbn wplkjt", "kubernetes ingress controller")}
    expect(not any(found.values()), f"hits: {found}")


def meaning_answers_where_no_word_matches(shop: Shop) -> None:
    """A search whose words match nothing answers by meaning, without an error (lancedb/lancedb#2249)."""
    found = shop.search(BY_MEANING).ids
    kinds = [shop.listings[hit].kind for hit in found[:5]]
    expect(kinds == ["hiking backpack"] * 5, f"the first five are {kinds}")


def hits_name_what_found_them(shop: Shop) -> None:
    """An answer by meaning alone can be told from one by words (qdrant/qdrant#5116)."""
    shop.require("sides")
    for query, side in ((BY_MEANING, "meaning"), ("hiking backpack", "words")):
        answer = shop.search(query)
        sides = [set(answer.sides.get(hit, ())) for hit in answer.ids]
        is_named = all(sides) and side in set().union(*sides)
        expect(is_named and (side == "words" or sides == [{side}] * len(sides)), f"{query!r} was found by {sides}")


def words_answer_without_the_encoder(shop: Shop) -> None:
    """While the encoder fails, words still find products, and the answer says so (typesense/typesense#1314)."""
    shop.require("encoder")
    shop.engine.break_encoder(broken=True)
    try:
        answer = shop.search("electric kettle")
    finally:
        shop.engine.break_encoder(broken=False)
    kinds = {shop.listings[hit].kind for hit in answer.ids}
    expect(kinds == {"electric kettle"}, f"found {kinds or 'nothing'}")
    expect(answer.degraded, "the answer does not say that a side is missing")


def misspelled_words_are_found(shop: Shop) -> None:
    """A misspelled word finds what the right one finds, also beside vectors (typesense/typesense#815)."""
    for typed, kind in MISSPELLED.items():
        kinds = [shop.listings[hit].kind for hit in shop.search(typed).ids[:5]]
        expect(kinds == [kind] * 5, f"{typed} finds {kinds}")


def a_number_finds_its_product(shop: Shop) -> None:
    """A product number finds its product first, not what is near it in meaning (typesense/typesense#278)."""
    tried = list(shop.listings.values())[::37]
    first = {each.sku: shop.search(each.sku).ids[:1] for each in tried}
    wrong = [each.sku for each in tried if first[each.sku] != (each.id,)]
    expect(
        not wrong, f"{len(wrong)} of {len(tried)} numbers find another product first, such as {', '.join(wrong[:2])}"
    )


def words_are_highlighted(shop: Shop) -> None:
    """Hits of a search by words and meaning show the words that matched (meilisearch/meilisearch#4351)."""
    answer = shop.search("electric kettle", highlight=True)
    marked = answer.highlights.get(answer.ids[0], "")
    expect("<em>electric</em> <em>kettle</em>" in marked, f"the first title is {marked!r}")


def odd_signs_are_text(shop: Shop) -> None:
    """Signs of a query language in a shopper's query raise no error and lose no hit (lancedb/lancedb#1617)."""
    for query in ODD:
        kinds = [shop.listings[hit].kind for hit in shop.search(query).ids[:3]]
        expect("hiking backpack" in kinds, f"{query!r} finds {kinds}")


def a_long_query_is_answered(shop: Shop) -> None:
    """A text of 1,200 words, such as a pasted description, is searched for (elastic/elasticsearch#119124)."""
    text = " ".join(["hiking backpack", *(f"word{number}" for number in range(1_198))])[:9_900]
    kinds = [shop.listings[hit].kind for hit in shop.search(text).ids[:3]]
    expect("hiking backpack" in kinds, f"finds {kinds}")


def variants_are_one_hit(shop: Shop) -> None:
    """Grouping works in a search by words and meaning: one hit for a product's variants (weaviate/weaviate#3408)."""
    found = shop.search("running shoes", grouped=True, size=5).ids
    groups = [shop.listings[hit].group or hit for hit in found]
    expect(len(set(groups)) == len(groups), f"groups are {groups}")
    expect({shop.listings[hit].kind for hit in found} == {SHOE}, f"hits are {found}")


def a_page_has_its_groups(shop: Shop) -> None:
    """A page of grouped hits is full while there are groups (milvus-io/milvus#35777)."""
    found = shop.search("shoes", Condition("kind", "=", SHOE), grouped=True, size=5).ids
    expect(len(found) == 5, f"{len(found)} of 5 groups")
