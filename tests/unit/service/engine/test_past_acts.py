"""A shopper's history in a search: validated, and with the network's effect on scores."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.ranker.features import FEATURES, MOST_ACTS, Candidates, History, pad_batch
from shelfwise.rerank.ranker.network import Inputs, NetworkShape, RankerNetwork
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.onnx_export import export_network
from shelfwise.rerank.ranker.spec import StoredRanker
from shelfwise.retrieval.errors import QueryError
from shelfwise.retrieval.records import EventKind, Page, PastAct
from shelfwise.service.cli.main import app
from shelfwise.service.engine.candidates import ResolvedRequest, Stages
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import parse_history, validate_history
from shelfwise.service.engine.reranking import UNREAD, Reranker, Reranking, read_history
from shelfwise.service.engine.snapshot import Snapshot
from tests.rankers import REPORT
from tests.unit.service.engine.demo_rankers import publish, spec_for, weighted_graph

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
    made = RankerNetwork(shape)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn(weight.shape))
    return made.eval()


@pytest.fixture(scope="module")
def folder(network: RankerNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reads-history")
    export_network(network, made / MODEL_FILE)
    return made


@pytest.fixture(scope="module")
def root(engine: SearchEngine, demo_index: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("personal") / "index"))
    publish(copied, spec_for(engine.snapshot), onnx.load(folder / MODEL_FILE))
    return copied


@pytest.fixture(scope="module")
def personal(root: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(root, follow=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def reranker(engine: SearchEngine, folder: Path) -> Iterator[Reranker]:
    found = Reranker(OnnxRanker(StoredRanker("ranker-0001", folder, spec_for(engine.snapshot), REPORT)))
    yield found
    found.close()


def acts(snapshot: Snapshot, count: int, kind: EventKind = EventKind.CLICK) -> list[PastAct]:
    return [PastAct(snapshot.products.id_of(row), kind) for row in range(0, 7 * count, 7)]


def scores(page: Page) -> dict[str, float]:
    return {hit.product.id: hit.score for hit in page.hits}


def scored(reranker: Reranker, snapshot: Snapshot, past: Sequence[PastAct]) -> tuple[Candidates, dict[int, float]]:
    """The ranker's candidates of a query, and its scores by row."""
    with ThreadPoolExecutor(2) as executor:
        ranking = Stages(snapshot, executor).rank(ResolvedRequest("steel pan", snapshot.analyzer.groups("steel pan")))
    Reranking(snapshot, reranker, 60.0, tuple(past)).rerank(ranking, None)
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

    def test_history_changes_scores(self, personal: SearchEngine) -> None:
        plain = scores(personal.search("steel pan", size=50))
        page = personal.search("steel pan", size=50, history=acts(personal.snapshot, 5))
        assert page.degraded == ()
        found = scores(page)
        both = plain.keys() & found.keys()
        assert len(both) > 20
        assert all(abs(found[name] - plain[name]) > 1e-4 for name in both)
        assert list(found.values()) == sorted(found.values(), reverse=True)

    @pytest.mark.parametrize("count", [0, 1, 5, 50])
    def test_scores_equal_those_of_the_network(
        self, reranker: Reranker, engine: SearchEngine, network: RankerNetwork, count: int
    ) -> None:
        snapshot = engine.snapshot
        past = [dataclasses.replace(act, at=datetime.now(UTC) - timedelta(days=3)) for act in acts(snapshot, count)]
        candidates, found = scored(reranker, snapshot, past)
        assert len(candidates.history.kinds) == count
        inputs = pad_batch([candidates], snapshot.vectors.dimension).arrays().values()
        with torch.inference_mode():
            expected = network(*Inputs(*(torch.from_numpy(array) for array in inputs)))[0, :, 0]
        assert sorted(found.values()) == pytest.approx(sorted(expected.tolist()), abs=1e-4)

    def test_ranker_that_reads_no_history_gets_none(self, engine: SearchEngine, tmp_path: Path) -> None:
        onnx.save(weighted_graph(cosine=1.0), tmp_path / MODEL_FILE)
        plain = Reranker(OnnxRanker(StoredRanker("ranker-0002", tmp_path, spec_for(engine.snapshot), REPORT)))
        candidates, found = scored(plain, engine.snapshot, acts(engine.snapshot, 5))
        assert (candidates.vectors.shape[1], len(candidates.history.kinds)) == (0, 0)
        assert found == scored(plain, engine.snapshot, [])[1]
        plain.close()

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
            ({PastAct("a")}, "history is set, it must be a list"),
            (["d000001"], "act 1 of the history is str, it must be PastAct"),
            ([PastAct("a")] * 1_001, "the history has 1,001 acts, at most 1,000 are allowed; send the newest"),
            ([PastAct("a"), PastAct("")], "act 2 of the history has the product id '', it must be a non-empty text"),
            ([PastAct(7)], "act 1 of the history has the product id 7"),  # type: ignore[arg-type]
            (
                [PastAct("a", EventKind.RATING)],
                "has the kind <EventKind.RATING: 'rating'>, it can be consultation, click, cart or purchase",
            ),
            ([PastAct("a", "look")], "has the kind 'look', it can be"),  # type: ignore[arg-type]
            ([PastAct("a", at=datetime(2026, 5, 1))], "is at 2026-05-01T00:00:00, a time needs a zone, such as"),
            ([PastAct("a", at="today")], "has the time 'today', it must be a datetime"),  # type: ignore[arg-type]
            ([PastAct("a", at=NOW + timedelta(days=2))], "is at 2026-11-22T12:00:00.*or the next day"),
            ([PastAct("a", at=datetime.min.replace(tzinfo=UTC))], "it must be within the last hundred years"),
            ([PastAct("a", at=datetime.max.replace(tzinfo=UTC))], "is at 9999-12-31"),
        ],
    )
    def test_invalid_history_is_refused(self, history: Any, problem: str) -> None:  # noqa: ANN401 - anything
        with pytest.raises(QueryError, match=problem):
            validate_history(history, NOW)

    def test_engine_refuses_an_invalid_history(self, engine: SearchEngine) -> None:
        with pytest.raises(QueryError, match="act 1 of the history"):
            engine.search("drill", history=[PastAct("a", EventKind.QUERY)])


class TestCommand:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", ()),
            ("B1", (PastAct("B1"),)),
            (" B1, B2:cart ,a:b:purchase", (PastAct("B1"), PastAct("B2", CART), PastAct("a:b", PURCHASE))),
            ("B1:consultation", (PastAct("B1", EventKind.CONSULTATION),)),
        ],
    )
    def test_history_option_is_parsed(self, text: str, expected: tuple[PastAct, ...]) -> None:
        assert parse_history(text) == expected

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("B1,,B2", "has an act without a product; write B0042,B0007:cart"),
            (":cart", "has an act without a product"),
            ("B1:carts", "history has 'B1:carts'; the last colon of an id must be followed by consultation, click"),
            ("B1:query", "the last colon of an id must be followed by"),
        ],
    )
    def test_invalid_history_option_is_refused(self, text: str, problem: str) -> None:
        with pytest.raises(QueryError, match=problem):
            parse_history(text)

    def test_command_searches_with_a_history(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHELFWISE_RANKER__DEADLINE", "60")
        plain, found = (_searched(root, *more) for more in ((), ("--history", "d000001,d000002:cart", "--explain")))
        assert plain["hits"][0]["explanation"] is None
        assert VIEWED_BEFORE in {part["name"] for part in found["hits"][0]["explanation"]["contributions"]}
        assert [hit["score"] for hit in plain["hits"]] != [hit["score"] for hit in found["hits"]]

    def test_command_reports_an_unused_history(self, demo_index: Path) -> None:
        given = ["search", str(demo_index), "pan", "--history", "d000001", "--json"]
        done = CliRunner().invoke(app, given)
        assert done.exit_code == 0
        assert f"warning: {UNREAD}" in done.stderr


def _searched(root: Path, *more: str) -> Any:  # noqa: ANN401 - JSON
    done = CliRunner().invoke(app, ["search", str(root), "steel pan", "--json", *more])
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    return msgspec.json.decode(done.stdout)


def _same(one: History, other: History) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(History)
    )
