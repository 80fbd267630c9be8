"""The ranker's threads: each request gets its own scores, by its deadline or an error, whatever else goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rerank.ranker.features import Candidates
from rerank.ranker.onnx import OnnxRanker
from rerank.ranker.spec import StoredRanker
from retrieval.errors import ModelError, RankerLateError
from service.engine.reranking import MOST_TOGETHER, Reranker
from tests.machine import within
from tests.rankers import REPORT, SPEC, building
from tests.unit.rerank.ranker.random_candidates import candidates
from tests.unit.service.engine.demo_rankers import failing

LONG = 30.0
"""Seconds: nobody waits so long, unless a test has failed."""


class HeldRanker(OnnxRanker):
    """A ranker that scores nothing until it is let go, and notes how many lists it is given at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(StoredRanker("ranker-0001", folder, SPEC, REPORT))
        self.busy, self.may_go = threading.Semaphore(0), threading.Event()
        self.together: list[int] = []
        self.trouble: Exception | None = None

    def score(self, lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
        self.together.append(len(lists))
        self.busy.release()
        assert self.may_go.wait(LONG)
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
    held.may_go.set()
    opened.close()


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def queued(reranker: Reranker, count: int) -> None:
    """Waits until so many requests are in line."""
    assert within(LONG, lambda: reranker._queue.qsize() >= count)


def test_requests_that_wait_are_scored_together_and_each_gets_its_own(
    held: HeldRanker, reranker: Reranker, workers: ThreadPoolExecutor
) -> None:
    asked = [candidates(count, seed=count) for count in range(1, 13)]
    first = workers.submit(reranker.score, asked[0], LONG)
    assert held.busy.acquire(timeout=LONG)
    others = [workers.submit(reranker.score, each, LONG) for each in asked[1:]]
    queued(reranker, len(others))
    held.may_go.set()
    found = [future.result() for future in (first, *others)]
    assert held.together == [1, MOST_TOGETHER, len(others) - MOST_TOGETHER]
    for each, scores in zip(asked, found, strict=True):
        (expected,) = OnnxRanker.score(held, [each])
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_a_lone_request_does_not_wait_for_company(held: HeldRanker, reranker: Reranker) -> None:
    held.may_go.set()
    assert len(reranker.score(candidates(5), LONG)) == 5
    assert reranker.score(candidates(0), LONG).tolist() == []
    assert held.together == [1, 1]


def test_a_late_one_is_told_and_nobody_scores_it_later(
    held: HeldRanker, reranker: Reranker, workers: ThreadPoolExecutor
) -> None:
    first = workers.submit(reranker.score, candidates(2), LONG)
    assert held.busy.acquire(timeout=LONG)
    with pytest.raises(RankerLateError, match="ranker-0001 gave no scores within 1 ms; results keep the merged order"):
        reranker.score(candidates(3), 0.001)
    held.may_go.set()
    assert len(first.result()) == 2
    assert len(reranker.score(candidates(4), LONG)) == 4
    assert held.together == [1, 1]


@pytest.mark.parametrize("trouble", [ModelError("no memory"), ValueError("bad"), MemoryError()])
def test_an_exception_is_told_to_all_who_wait_as_the_rankers(
    held: HeldRanker, reranker: Reranker, workers: ThreadPoolExecutor, trouble: Exception
) -> None:
    held.trouble = trouble
    first = workers.submit(reranker.score, candidates(2), LONG)
    assert held.busy.acquire(timeout=LONG)
    others = [workers.submit(reranker.score, candidates(2), LONG) for _ in range(3)]
    queued(reranker, 3)
    held.may_go.set()
    for future in (first, *others):
        with pytest.raises(ModelError):
            future.result()
    held.trouble = None
    assert len(reranker.score(candidates(4), LONG)) == 4


def test_a_graph_that_fails_is_told(tmp_path: Path) -> None:
    building(1, failing())(tmp_path)
    broken = Reranker(OnnxRanker(StoredRanker("ranker-0001", tmp_path, SPEC, REPORT)))
    with pytest.raises(ModelError, match="ranker-0001 failed on its candidates"):
        broken.score(candidates(3), LONG)
    broken.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_closing_answers_what_was_asked(held: HeldRanker, workers: ThreadPoolExecutor, threads: int) -> None:
    reranker = Reranker(held, threads=threads)
    asked = []
    for _ in range(threads):
        asked.append(workers.submit(reranker.score, candidates(2), LONG))
        assert held.busy.acquire(timeout=LONG)
    asked += [workers.submit(reranker.score, candidates(2), LONG) for _ in range(18)]
    queued(reranker, 18)
    closing = workers.submit(reranker.close)
    held.may_go.set()
    assert [len(future.result()) for future in asked] == [2] * len(asked)
    closing.result()
    assert len(reranker.score(candidates(3), LONG)) == 3


def test_nothing_is_lost_between_asking_and_closing(held: HeldRanker, workers: ThreadPoolExecutor) -> None:
    held.may_go.set()
    for _ in range(30):
        reranker = Reranker(held)
        begun = threading.Barrier(9)

        def ask(reranker: Reranker = reranker, begun: threading.Barrier = begun) -> int:
            begun.wait(LONG)
            return sum(len(reranker.score(candidates(2), LONG)) for _ in range(3))

        asked = [workers.submit(ask) for _ in range(8)]
        begun.wait(LONG)
        reranker.close()
        assert [future.result(LONG) for future in asked] == [6] * 8
