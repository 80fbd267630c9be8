"""Reranking of candidates, also by the acts of a shopper."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from shelfwise.rerank.ranker.features import FEATURES, MAX_ACTS, Candidates, History, pad_batch
from shelfwise.rerank.ranker.network import Inputs, NetworkShape, RankerNetwork
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import StoredRanker
from shelfwise.retrieval.encoders.base import Tokens, as_token_encoder
from shelfwise.retrieval.errors import ModelError, QueryError, RankerLateError
from shelfwise.retrieval.records import EventKind, Page, PastAct
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.ranking import Ranking
from shelfwise.service.engine.request import ResolvedRequest, parse_history, validate_history
from shelfwise.service.engine.reranking import DEPTH, MAX_TOGETHER, UNREAD, Reranker, Reranking, read_history
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.settings import RankerSettings, Settings
from tests.catalogs import ids
from tests.machine import within
from tests.rankers import REPORT, SPEC, building
from tests.unit.rerank.ranker.random_candidates import candidates
from tests.unit.service.cli.commands import run
from tests.unit.service.engine.demo_rankers import attending_graph, exported, failing, publish, spec_for, weighted_graph

pytestmark = pytest.mark.usefixtures("untyped")

LONG = 30.0
"""Seconds of a wait that only a failing test reaches."""


class HeldRanker(OnnxRanker):
    """A ranker that waits for a signal before it scores, and records the number of lists of each call."""

    def __init__(self, folder: Path) -> None:
        super().__init__(StoredRanker("ranker-0001", folder, SPEC, REPORT))
        self.busy, self.released = threading.Semaphore(0), threading.Event()
        self.together: list[int] = []
        self.trouble: Exception | None = None

    def score(self, lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
        self.together.append(len(lists))
        self.busy.release()
        assert self.released.wait(LONG)
        if self.trouble:
            raise self.trouble
        return super().score(lists)


@pytest.fixture
def held(tmp_path: Path) -> HeldRanker:
    building(4)(tmp_path)
    return HeldRanker(tmp_path)


@pytest.fixture
def reranker(held: HeldRanker) -> Iterator[Reranker]:
    opened = Reranker(held, threads=1)
    yield opened
    held.released.set()
    opened.close()


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def queued(reranker: Reranker, count: int) -> None:
    """Waits until `count` requests are queued."""
    assert within(LONG, lambda: reranker._queue.qsize() >= count)


def test_waiting_requests_are_scored_in_one_batch(
    held: HeldRanker, reranker: Reranker, workers: ThreadPoolExecutor
) -> None:
    asked = [candidates(count, seed=count) for count in range(1, 13)]
    first = workers.submit(reranker.score, asked[0])
    assert held.busy.acquire(timeout=LONG)
    others = [workers.submit(reranker.score, each) for each in asked[1:]]
    queued(reranker, len(others))
    held.released.set()
    found = [future.result() for future in (first, *others)]
    assert held.together == [1, MAX_TOGETHER, len(others) - MAX_TOGETHER]
    for each, scores in zip(asked, found, strict=True):
        (expected,) = OnnxRanker.score(held, [each])
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_single_request_does_not_wait_for_a_batch(held: HeldRanker, reranker: Reranker) -> None:
    held.released.set()
    assert len(reranker.score(candidates(5))) == 5
    assert reranker.score(candidates(0)).tolist() == []
    assert held.together == [1, 1]


def test_late_request_fails_and_is_not_scored(
    held: HeldRanker, reranker: Reranker, workers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workers.submit(reranker.score, candidates(2))
    assert held.busy.acquire(timeout=LONG)
    monkeypatch.setattr(reranker, "deadline", 0.001)
    with pytest.raises(
        RankerLateError, match="ranker-0001 returned no scores within 1 ms; results keep the merged order"
    ):
        reranker.score(candidates(3))
    monkeypatch.undo()
    held.released.set()
    assert len(first.result()) == 2
    assert len(reranker.score(candidates(4))) == 4
    assert held.together == [1, 1]


@pytest.mark.parametrize("trouble", [ModelError("no memory"), ValueError("bad"), MemoryError()])
def test_exception_reaches_all_waiting_requests(
    held: HeldRanker, reranker: Reranker, workers: ThreadPoolExecutor, trouble: Exception
) -> None:
    held.trouble = trouble
    first = workers.submit(reranker.score, candidates(2))
    assert held.busy.acquire(timeout=LONG)
    others = [workers.submit(reranker.score, candidates(2)) for _ in range(3)]
    queued(reranker, 3)
    held.released.set()
    for future in (first, *others):
        with pytest.raises(ModelError):
            future.result()
    held.trouble = None
    assert len(reranker.score(candidates(4))) == 4


@pytest.mark.parametrize("threads", [1, 2])
def test_close_completes_pending_requests(held: HeldRanker, workers: ThreadPoolExecutor, threads: int) -> None:
    reranker = Reranker(held, threads=threads)
    asked = []
    for _ in range(threads):
        asked.append(workers.submit(reranker.score, candidates(2)))
        assert held.busy.acquire(timeout=LONG)
    asked += [workers.submit(reranker.score, candidates(2)) for _ in range(18)]
    queued(reranker, 18)
    closing = workers.submit(reranker.close)
    held.released.set()
    assert [len(future.result()) for future in asked] == [2] * len(asked)
    closing.result()
    assert len(reranker.score(candidates(3))) == 3


QUERIES = ("cordless drill", "stainless pan", "steel", "无线 耳机")
REVERSED = {"merged": -1.0}
"""Weights that reverse the head of the merged order."""


@pytest.fixture(scope="module")
def ranked(open_ranked: Callable[..., SearchEngine]) -> SearchEngine:
    """An engine whose ranker reverses the head."""
    return open_ranked(weighted_graph(**REVERSED))


@pytest.fixture(scope="module")
def reading(open_ranked: Callable[..., SearchEngine], engine: SearchEngine) -> Reranking:
    """The stage of a ranker with cross-attention and random weights, which reads the demo index's token states."""
    opened = open_ranked(attending_graph(engine.snapshot), layers=1)
    stage = opened._ranker.stage(opened.snapshot)
    assert stage is not None
    return stage


class TestOrder:
    @pytest.mark.usefixtures("without_default")
    def test_search_without_a_ranker_is_unchanged(self, demo_index: Path) -> None:
        with SearchEngine.open(demo_index, follow=False) as engine:
            assert engine.stages == ("bm25", "dense", "merged")
            page, merged = (engine.search("stainless pan", size=50, stage=stage) for stage in ("ranked", "merged"))
        assert dataclasses.replace(page, timings={}) == dataclasses.replace(merged, timings={})
        assert page.degraded == ()
        assert "rerank" not in page.timings

    def test_the_default_ranker_has_a_name_too(self, demo_index: Path, ranked: SearchEngine) -> None:
        with SearchEngine.open(demo_index, follow=False) as fresh:
            assert fresh.ranker == "default"
            wanted = ids(fresh.search("steel pan"))
        assert ranked.ranker == "ranker-0001"
        assert ids(ranked.search("steel pan", ranker="default")) == wanted != ids(ranked.search("steel pan"))

    @pytest.mark.parametrize("query", QUERIES)
    def test_head_is_in_ranker_order_and_the_rest_in_merged_order(self, ranked: SearchEngine, query: str) -> None:
        assert ranked.stages[-1] == "ranked"
        merged = ranked.search(query, size=600, stage="merged", facets=["brand"])
        assert len(merged.hits) > DEPTH + 20
        page = ranked.search(query, size=600, facets=["brand"])
        assert page.degraded == ()
        assert (page.total, page.facets) == (merged.total, merged.facets)
        assert ids(page)[DEPTH:] == ids(merged)[DEPTH:]
        assert sorted(ids(page)[:DEPTH]) == sorted(ids(merged)[:DEPTH])
        head = [hit.score for hit in reversed(merged.hits[:DEPTH])]
        assert [-hit.score for hit in page.hits[:DEPTH]] == pytest.approx(head, rel=1e-5)
        assert "rerank" in page.timings
        places = {hit.product.id: hit.stages["merged"] for hit in merged.hits}
        for place, hit in enumerate(page.hits, 1):
            assert (hit.stages["ranked"].rank, hit.stages["ranked"].score) == (place, hit.score)
            assert hit.stages["merged"] == places[hit.product.id]

    @pytest.mark.parametrize("query", QUERIES)
    def test_filter_keeps_the_order_of_the_head(self, ranked: SearchEngine, query: str) -> None:
        everything, cheap = ranked.search(query, size=DEPTH), ranked.search(query, size=600, filters="price < 40")
        kept = [hit.product.id for hit in everything.hits if hit.product.price is not None and hit.product.price < 40]
        assert len(kept) > 5
        among = set(kept)
        assert [product for product in ids(cheap) if product in among] == kept


class TestFailure:
    @pytest.mark.parametrize(
        ("deadline", "graph"),
        [
            (1e-9, weighted_graph(**REVERSED)),
            (60, failing()),
            (60, weighted_graph(merged=float("nan"))),
            (60, weighted_graph(merged=float("inf"))),
        ],
        ids=["late", "failing", "not a number", "infinite"],
    )
    def test_ranker_failure_keeps_merged_order_and_is_counted(
        self, root: Path, engine: SearchEngine, deadline: float, graph: onnx.ModelProto
    ) -> None:
        publish(root, spec_for(engine.snapshot), graph)
        settings = Settings(ranker=RankerSettings(deadline=deadline))
        with SearchEngine.open(root, settings=settings, follow=False) as troubled:
            before = _degraded()
            for count, query in enumerate(QUERIES, 1):
                page, merged = troubled.search(query, size=600), engine.search(query, size=600, stage="merged")
                assert page.degraded == ("ranked",)
                assert page.hits == merged.hits
                assert _degraded() == before + count


class TestStates:
    def test_token_states_decide_between_equal_features(self, reading: Reranking) -> None:
        assert reading.reads_tokens
        with_words, without = (_reranked(reading, "steel pan", has_tokens=result) for result in (True, False))
        assert not np.allclose(with_words, without, atol=1e-3)
        assert np.isfinite(with_words).all()
        assert np.isfinite(without).all()

    def test_an_index_without_states_is_ranked_by_features_alone(self, reading: Reranking) -> None:
        without = dataclasses.replace(reading, snapshot=dataclasses.replace(reading.snapshot, states=None))
        assert not without.reads_tokens
        scores = _reranked(without, "steel pan", has_tokens=False)
        assert np.isfinite(scores).all()
        assert scores[:DEPTH].std() > 0

    @pytest.mark.parametrize(("count", "text"), [(0, "steel"), (1, "steel"), (DEPTH, "")])
    def test_few_candidates_and_a_query_without_tokens_are_ranked(
        self, reading: Reranking, count: int, text: str
    ) -> None:
        ranking = _merged(reading.snapshot, "steel")
        ranking.rows, ranking.scores = ranking.rows[:count], ranking.scores[:count]
        ranking.merged, ranking.merged_rank = ranking.merged[:count], ranking.merged_rank[:count]
        ranking.evidence = ranking.evidence.select(np.arange(count))
        tokens = _tokens(reading.snapshot, text)
        assert bool(len(tokens.ids)) == bool(text)
        reading.rerank(ranking, tokens)
        assert len(ranking.rows) == len(ranking.scores) == count
        assert np.isfinite(ranking.scores).all()


def _degraded() -> float:
    return REGISTRY.get_sample_value("shelfwise_degraded_searches_total", {"stage": "ranked"}) or 0.0


def _merged(snapshot: Snapshot, text: str) -> Ranking:
    with ThreadPoolExecutor(2) as executor:
        return Stages(snapshot, executor).rank(ResolvedRequest(text, snapshot.analyzer.groups(text)))


def _tokens(snapshot: Snapshot, text: str) -> Tokens:
    encoder = as_token_encoder(snapshot.encoder)
    assert encoder is not None
    return encoder.encode_queries_with_tokens([text])[1][0]


def _reranked(by: Reranking, text: str, *, has_tokens: bool) -> NDArray[np.float64]:
    """The scores of the merged order's candidates, by row."""
    ranking = _merged(by.snapshot, text)
    by.rerank(ranking, _tokens(by.snapshot, text) if has_tokens else None)
    return ranking.scores[np.argsort(ranking.rows)]


def test_the_page_has_the_probability_that_its_best_hit_fits(ranked: SearchEngine) -> None:
    page = ranked.search("stainless pan")
    slope, intercept = 1.5, -0.5  # the calibration in tests.rankers
    assert page.fit == pytest.approx(1 / (1 + np.exp(-(slope * page.hits[0].score + intercept))))
    assert ranked.search("stainless pan", stage="merged").fit is None


@pytest.mark.parametrize("teacher", [{"teacher": "cross-encoder"}, {}])
def test_doubtful_hits_of_missing_words_are_marked_as_nearest(live: SearchEngine, teacher: dict[str, str]) -> None:
    found, short = {}, {}
    for fit in (0.01, 0.2, 0.4, 0.6):
        level = float(np.log(fit / (1 - fit)))
        spec = spec_for(live.snapshot, calibration=(1e-9, level), trained_on=teacher)
        publish(live.root, spec, weighted_graph(cosine=1.0))
        live.reload_if_changed()
        pages = [live.search("raincoat for ladies", filters=filters) for filters in ("", "price < 60")]
        assert live.search("rain jacket").total, "products have both words"
        short[fit] = live.search("raincoat").doubtful
        assert all(page.total for page in pages)
        assert len({page.doubtful for page in pages}) == 1, "a filter plays no part"
        found[fit] = pages[0].doubtful
    assert [fit for fit in found if found[fit]] == ([0.01, 0.2] if teacher else [])
    assert [fit for fit in short if short[fit]] == ([0.01, 0.2, 0.4] if teacher else []), "of no type"


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
        newest = sorted(past, key=lambda act: act.at or NOW)[-MAX_ACTS:]
        assert _same(found, read_history(snapshot, newest, NOW.timestamp()))
        assert found.gaps.max() == pytest.approx(MAX_ACTS / 24)
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

    def test_command_reports_an_unused_history(self, demo_index: Path) -> None:
        assert f"warning: {UNREAD}" in run("search", demo_index, "pan", "--history", "d000001").err


def _same(one: History, other: History) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(History)
    )
