"""Reasons for the ranks of hits: effects on the order, and always the store's rules, in the language of the query."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from shelfwise.rerank.ranker.memory import MemoryRows, QueryMemory, product_hashes
from shelfwise.retrieval.records import Hit, Reason, ReasonKind
from shelfwise.service.curation.relevance import Relevance, Signal
from shelfwise.service.curation.rules import Boost, Bury, Pin, Rule
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.reasons import reason_line
from shelfwise.service.events.signals import write_memory, write_popularity
from tests.catalogs import ids
from tests.unit.service.engine.demo_rankers import weighted_graph
from tests.unit.service.engine.demo_visits import MADE

QUERY = "cordless drill"


@pytest.fixture(scope="module")
def ranked(open_ranked: Callable[..., SearchEngine]) -> SearchEngine:
    """An engine with a ranker that reads every feature with a reason."""
    weights = {"bm25": 2.0, "cosine": 2.0, "query_product": 1.0, "popularity": 1.0, "rating": 1.0}
    return open_ranked(weighted_graph(**weights), mix=0.2)


def kinds(hit: Hit) -> set[ReasonKind]:
    return {reason.kind for reason in hit.reasons}


def test_a_hit_without_the_named_words_falls(ranked: SearchEngine) -> None:
    page = ranked.search(QUERY, size=50, reasons="en")
    hit = next(each for each in page.hits if ReasonKind.WORDS in kinds(each))
    (reason,) = (each for each in hit.reasons if each.kind is ReasonKind.WORDS)
    assert set(reason.values) <= {"cordless", "drill"}
    assert reason.ranks >= 1
    before = ids(page).index(hit.product.id)
    ranked.upsert([dataclasses.replace(hit.product, title="sample", description="", category=(), attributes={})])
    found = ids(ranked.search(QUERY, size=50))
    ranked.upsert([hit.product])
    assert hit.product.id not in found[: before + 1]


def test_effects_that_move_no_hit_are_no_reasons(ranked: SearchEngine) -> None:
    """A single hit has no hits to be ranked above."""
    (hit,) = ranked.search(QUERY, filters=f'id = "{ranked.search(QUERY).hits[0].product.id}"', reasons="en").hits
    assert hit.reasons == ()


def test_choices_of_shoppers_are_a_reason_only_for_their_query(ranked: SearchEngine) -> None:
    product = ranked.search(QUERY, size=20).hits[9].product.id
    key = " ".join(sorted(QUERY.split()))
    ratios = [np.array([ratio]) for ratio in (8.0, 1.0, 1.0, 0.9, 1.0)]
    known = [ranked.snapshot.products.id_of(row) for row in range(len(ranked.snapshot.products))]
    rows = MemoryRows(["query"], [key], ["product"], [product], ratios)
    write_memory(ranked.root, QueryMemory.of_rows(rows, [(name, "product", name) for name in known]), MADE)
    write_popularity(ranked.root, {product: 5.0, known[0]: 5.0}, MADE)
    ranked.reload_if_changed()
    page = ranked.search(QUERY, reasons="en")
    chosen = [hit for hit in page.hits if ReasonKind.CHOSEN in kinds(hit)]
    assert [hit.product.id for hit in chosen] == [product]
    assert "often chosen by others who searched this" in chosen[0].reason_line
    assert product in [hit.product.id for hit in page.hits if ReasonKind.POPULAR in kinds(hit)]


def test_memory_of_other_queries_is_not_the_querys_own() -> None:
    """The product is chosen for other queries, and the ratio of this one is only that prior."""
    scopes, keys = ["all", "query", "query"], ["", "drill", "drill"]
    members = ["a", "a", "b"]
    ratios = [np.array(each) for each in ([4.0, 3.65, 4.0], [1.0] * 3, [1.0] * 3, [0.9, 0.1, 0.9], [1.0] * 3)]
    memory = QueryMemory.of_rows(MemoryRows(scopes, keys, ["product"] * 3, members, ratios))
    assert memory.features("drill", product_hashes(["a"]))[0, 0] > 1
    assert memory.chosen("drill", product_hashes(["a", "b", "c"])).tolist() == [False, True, False]


def test_the_store_is_always_named(ranked: SearchEngine) -> None:
    plain = ids(ranked.search(QUERY))
    rules = (
        Rule("first", (Pin((plain[5],)),)),
        Rule("up", (Boost(f'id = "{plain[9]}"', 3.0),)),
        Rule("down", (Bury(f'id = "{plain[0]}"', 0.01),)),
    )
    page = ranked.search(QUERY, reasons="en", rules=rules)
    found = {hit.product.id: hit for hit in page.hits}
    assert found[plain[5]].reasons == (Reason(ReasonKind.PINNED, ("first",)),)
    assert found[plain[5]].reason_line == "Placed here by the store"
    assert Reason(ReasonKind.BOOSTED, ("up",)) in found[plain[9]].reasons
    assert Reason(ReasonKind.BURIED, ("down",)) in found[plain[0]].reasons
    assert found[plain[0]].reason_line.endswith("moved down by the store")
    browsed = ranked.search("", reasons="zh", rules=rules).hits[0]
    assert (browsed.product.id, browsed.reason_line) == (plain[5], "商店置于此处")


def test_signals_of_the_store_are_named_without_their_fields(ranked: SearchEngine) -> None:
    page = ranked.search(QUERY, reasons="en", relevance=Relevance(signals=(Signal("price", 3.0),)))
    moved = [hit for hit in page.hits if ReasonKind.SIGNALS in kinds(hit)]
    assert moved
    assert all("preferred by the store" in hit.reason_line for hit in moved)
    assert "price" not in str([hit.reasons for hit in moved])


def test_values_and_types_are_named_as_in_the_query(ranked: SearchEngine) -> None:
    page = ranked.search("drill under 100", reasons="en", size=40)
    values = {
        value for hit in page.hits for each in hit.reasons if each.kind is ReasonKind.VALUE for value in each.values
    }
    assert values == {"≤ 100"}
    types = {each.values[0] for hit in page.hits for each in hit.reasons if each.kind is ReasonKind.TYPE}
    assert any("drill" in name for name in types)


def test_identifier_is_the_only_reason(ranked: SearchEngine) -> None:
    product = next(each for each in (hit.product for hit in ranked.search("drill").hits) if each.identifiers)
    number = next(iter(product.identifiers.values()))[0]
    hit = ranked.search(number, reasons="en").hits[0]
    assert hit.reasons == (Reason(ReasonKind.IDENTIFIER, (number,)),)


@pytest.mark.parametrize(
    "options", [{"sort": "price"}, {"stage": "bm25"}, {"stage": "dense"}, {"merge": "rrf", "stage": "merged"}]
)
def test_other_orders_have_no_reasons(ranked: SearchEngine, options: dict[str, str]) -> None:
    page = ranked.search(QUERY, reasons="en", **options)  # type: ignore[arg-type]
    assert all(hit.reasons == () for hit in page.hits)
    merged = ranked.search(QUERY, reasons="en", stage="merged")
    assert {ReasonKind.TYPE, ReasonKind.WORDS} <= {kind for hit in merged.hits for kind in kinds(hit)}


def test_chinese_query_has_chinese_reasons(ranked: SearchEngine) -> None:
    page = ranked.search("充电电钻", reasons="auto")
    lines = [hit.reason_line for hit in page.hits if ReasonKind.WORDS in kinds(hit)]
    assert lines
    assert all(line.startswith("匹配 ") for line in lines)


def test_line_names_what_matches_once_and_three_others() -> None:
    reasons = (
        Reason(ReasonKind.WORDS, ("cordless", "drills", "18v"), 5),
        Reason(ReasonKind.TYPE, ("cordless drill",), 4),
        Reason(ReasonKind.MEANING, (), 3),
        Reason(ReasonKind.CHOSEN, (), 3),
        Reason(ReasonKind.POPULAR, (), 2),
        Reason(ReasonKind.RATED, ("4.6",), 2),
        Reason(ReasonKind.HISTORY, (), 1),
        Reason(ReasonKind.BOOSTED, ("week",)),
    )
    others = "often chosen by others who searched this; popular; rated 4.6 of 5; moved up by the store"
    assert reason_line(reasons, "auto", "drill") == f"Matches cordless drill, 18v; {others}"
    assert reason_line(reasons[2:3], "en", "钻") == "Close in meaning"
    assert reason_line(reasons[:2], "zh", "drill") == "匹配 cordless drill、18v"
    assert reason_line((), "auto", "drill") == ""
