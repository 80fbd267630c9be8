"""A shopper's history in a search: validated, and with the network's effect on scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shelfwise.rerank.ranker.features import FEATURES, MOST_ACTS, Candidates, History, pad_batch
from shelfwise.rerank.ranker.network import Inputs, NetworkShape, RankerNetwork
from shelfwise.retrieval.errors import QueryError
from shelfwise.retrieval.records import EventKind, Page, PastAct
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import ResolvedRequest, parse_history, validate_history
from shelfwise.service.engine.reranking import UNREAD, read_history
from shelfwise.service.engine.snapshot import Snapshot
from tests.unit.service.cli.commands import document, run
from tests.unit.service.engine.demo_rankers import exported, spec_for, weighted_graph

pytestmark = pytest.mark.usefixtures("untyped")

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
VIEWED_BEFORE = "what this shopper viewed before"
CART, PURCHASE = EventKind.CART, EventKind.PURCHASE


@pytest.fixture(scope="module")
def network(engine: SearchEngine) -> RankerNetwork:
    """A features head that reads a history, with random weights."""
    torch.manual_seed(8)
    spec = spec_for(engine.snapshot)
    shape = NetworkShape(spec.state_dimension, spec.vector_dimension, len(FEATURES), layers=0, hidden=8, history=8)
    network = RankerNetwork(shape)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn(weight.shape))
    return network.eval()


@pytest.fixture(scope="module")
def personal(network: RankerNetwork, open_ranked: Callable[..., SearchEngine]) -> SearchEngine:
    return open_ranked(exported(network))


def acts(snapshot: Snapshot, count: int, kind: EventKind = EventKind.CLICK) -> list[PastAct]:
    return [PastAct(snapshot.products.id_of(row), kind) for row in range(0, 7 * count, 7)]


def scores(page: Page) -> dict[str, float]:
    return {hit.product.id: hit.score for hit in page.hits}


def scored(engine: SearchEngine, past: Sequence[PastAct]) -> tuple[Candidates, dict[int, float]]:
    """The ranker's candidates of a query, and its scores by row."""
    snapshot, stage = engine.snapshot, engine._ranker.stage(engine.snapshot, tuple(past))
    assert stage is not None
    with ThreadPoolExecutor(2) as executor:
        ranking = Stages(snapshot, executor).rank(ResolvedRequest("steel pan", snapshot.analyzer.groups("steel pan")))
    stage.rerank(ranking, None)
    assert ranking.scored is not None
    count = len(ranking.scored.rows)
    return ranking.scored.candidates, dict(
        zip(ranking.rows[:count].tolist(), ranking.scores[:count].tolist(), strict=True)
    )


class TestScores:
    def test_scores_without_history_are_unchanged(self, personal: SearchEngine) -> None:
        assert personal.reads_history
        plain = personal.search("steel pan", size=50)
        unknown = [PastAct("gone"), PastAct("no such \udc80 product", PURCHASE)]
        for history in ((), unknown):
            page = personal.search("steel pan", size=50, history=history)
            assert dataclasses.replace(page, timings={}) == dataclasses.replace(plain, timings={})
        assert plain.degraded == ()

    @pytest.mark.parametrize("count", [0, 1, 5, 50])
    def test_scores_equal_those_of_the_network(
        self, personal: SearchEngine, network: RankerNetwork, count: int
    ) -> None:
        snapshot = personal.snapshot
        past = [dataclasses.replace(act, at=datetime.now(UTC) - timedelta(days=3)) for act in acts(snapshot, count)]
        candidates, found = scored(personal, past)
        assert len(candidates.history.kinds) == count
        inputs = pad_batch([candidates], snapshot.vectors.dimension).arrays().values()
        with torch.inference_mode():
            expected = network(*Inputs(*(torch.from_numpy(array) for array in inputs)))[0, :, 0]
        assert sorted(found.values()) == pytest.approx(sorted(expected.tolist()), abs=1e-4)

    def test_ranker_that_reads_no_history_gets_none(self, open_ranked: Callable[..., SearchEngine]) -> None:
        plain = open_ranked(weighted_graph(cosine=1.0))
        candidates, found = scored(plain, acts(plain.snapshot, 5))
        assert (candidates.vectors.shape[1], len(candidates.history.kinds)) == (0, 0)
        assert found == scored(plain, [])[1]

    def test_history_has_no_effect_without_a_ranker(self, engine: SearchEngine) -> None:
        assert not engine.reads_history
        plain, page = engine.search("steel"), engine.search("steel", history=acts(engine.snapshot, 3))
        assert page.hits == plain.hits


class TestPastActs:
    def test_products_kinds_and_days_come_oldest_first(self, engine: SearchEngine) -> None:
        snapshot = engine.snapshot
        ids = [snapshot.products.id_of(row) for row in range(5)]
        past = [
            PastAct(ids[0], PURCHASE, NOW - timedelta(days=1)),
            PastAct("gone", CART, NOW),
            PastAct(ids[1], CART),
            PastAct(ids[2], EventKind.CONSULTATION, NOW - timedelta(days=30)),
            PastAct(ids[3], EventKind.CLICK),
            PastAct(ids[4], EventKind.CLICK, NOW + timedelta(hours=1)),
        ]
        found = read_history(snapshot, past, NOW.timestamp())
        assert found.kinds.tolist() == [0, 3, 2, 1, 1]
        assert found.gaps.tolist() == [30, 1, 0, 0, 0]
        assert np.array_equal(found.vectors, snapshot.vectors.gather(np.array([2, 0, 1, 3, 4])))

    def test_history_keeps_the_newest_acts(self, engine: SearchEngine) -> None:
        snapshot = engine.snapshot
        past = [
            PastAct(snapshot.products.id_of(number), at=NOW - timedelta(hours=1 + (number * 37) % 80))
            for number in range(80)
        ]
        found = read_history(snapshot, past, NOW.timestamp())
        newest = sorted(past, key=lambda act: act.at or NOW)[-MOST_ACTS:]
        assert _same(found, read_history(snapshot, newest, NOW.timestamp()))
        assert found.gaps.max() == pytest.approx(MOST_ACTS / 24)
        undated = acts(snapshot, 51)
        assert _same(read_history(snapshot, undated, 0.0), read_history(snapshot, undated[1:], 0.0))


class TestExplanation:
    def test_history_contribution_is_the_score_difference(self, personal: SearchEngine) -> None:
        past = acts(personal.snapshot, 4)
        plain = scores(personal.search("steel pan", size=60))
        page = personal.search("steel pan", size=20, explain=True, history=past)
        vectors = personal.snapshot.vectors
        liked = vectors.gather(np.arange(0, 28, 7))
        for hit in page.hits:
            assert hit.explanation is not None
            (part,) = (each for each in hit.explanation.contributions if each.name == VIEWED_BEFORE)
            if hit.product.id in plain:
                assert part.contribution == pytest.approx(hit.score - plain[hit.product.id], abs=1e-4)
            row = personal.snapshot.products.row_of(hit.product.id)
            assert row is not None
            nearest = float((liked @ vectors.vector(row)).max())
            assert part.value == f"4 acts; the product nearest in meaning: {nearest:.2f}"


class TestRefused:
    @pytest.mark.parametrize(
        ("history", "problem"),
        [
            ("d000001", r"history is str, it must be a list such as \[PastAct\('B0042'\)\]"),
            (["d000001"], "act 1 of the history is str, it must be PastAct"),
            ([PastAct("a")] * 1_001, "the history has 1,001 acts, at most 1,000 are allowed; send the newest"),
            ([PastAct("a"), PastAct("")], "act 2 of the history has the product id '', it must be a non-empty text"),
            ([PastAct(7)], "act 1 of the history has the product id 7"),  # type: ignore[arg-type]
            (
                [PastAct("a", EventKind.RATING)],
                "has the kind <EventKind.RATING: 'rating'>, it can be consultation, click, cart or purchase",
            ),
            ([PastAct("a", at=datetime(2026, 5, 1))], "is at 2026-05-01T00:00:00, a time needs a zone, such as"),
            ([PastAct("a", at="today")], "has the time 'today', it must be a datetime"),  # type: ignore[arg-type]
            ([PastAct("a", at=NOW + timedelta(days=2))], "is at 2026-11-22T12:00:00.*or the next day"),
            ([PastAct("a", at=datetime.min.replace(tzinfo=UTC))], "it must be within the last hundred years"),
        ],
    )
    def test_invalid_history_is_refused(self, history: Any, problem: str) -> None:  # noqa: ANN401 - anything
        with pytest.raises(QueryError, match=problem):
            validate_history(history, NOW)


class TestCommand:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("", ()), (" B1, B2:cart ,a:b:purchase", (PastAct("B1"), PastAct("B2", CART), PastAct("a:b", PURCHASE)))],
    )
    def test_history_option_is_parsed(self, text: str, expected: tuple[PastAct, ...]) -> None:
        assert parse_history(text) == expected

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("B1,,B2", "has an act without a product; write B0042,B0007:cart"),
            ("B1:carts", "history has 'B1:carts'; the last colon of an id must be followed by consultation, click"),
        ],
    )
    def test_invalid_history_option_is_refused(self, text: str, problem: str) -> None:
        with pytest.raises(QueryError, match=problem):
            parse_history(text)

    def test_command_searches_with_a_history(self, personal: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHELFWISE_RANKER__DEADLINE", "60")
        command = ("search", personal.root, "steel pan")
        plain, found = document(*command), document(*command, "--history", "d000001,d000002:cart", "--explain")
        assert plain["hits"][0]["explanation"] is None
        assert VIEWED_BEFORE in {part["name"] for part in found["hits"][0]["explanation"]["contributions"]}
        assert [hit["score"] for hit in plain["hits"]] != [hit["score"] for hit in found["hits"]]

    def test_command_reports_an_unused_history(self, demo_index: Path) -> None:
        assert f"warning: {UNREAD}" in run("search", demo_index, "pan", "--history", "d000001").err


def _same(one: History, other: History) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(History)
    )
