"""Ten golden searches and the speed of five steps, compared with `tests/release.json` of the last release.

`make record` writes that file: as part of `make release`, or after an intended change of searches.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import Settings
from tests.conftest import ENCODER

RECORD = Path(__file__).parents[1] / "release.json"
QUERIES = (
    "cordless drill",
    "red backpack under 100",
    "tent for 4 persons",
    "garden hose",
    "yoga mat",
    "led desk lamp",
    "waterproof jacket",
    "drill bit set",
    "wireles headphones",
    "蓝牙耳机",
)
HITS = 5
KEPT = 4
"""Number of the first hits that must still be among them, as rounding differs slightly between processors."""
SLOWER = 2.0
"""Highest ratio of a step's time to that at the last release, in reference computations."""
SETTINGS = Settings(backend="embedded")


class Record(msgspec.Struct, frozen=True):
    """The record of a release."""

    version: str
    searches: Mapping[str, list[str]]
    """The ids of the first hits, by query."""
    steps: Mapping[str, float]
    """Processor time of each step, divided by that of the reference computation on the same machine."""


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of some work, in this process, its threads and its children."""

    def spent() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in used)

    before = spent()
    work()
    return spent() - before


def reference() -> None:
    """A fixed computation of the kinds that the steps do: Python objects, texts, sorting, matrix products."""
    texts = [f"{number * 7919 % 10_007:05} drill {number % 97}" for number in range(60_000)]
    counts: dict[str, int] = {}
    for text in sorted(texts):
        for word in text.split():
            counts[word] = counts.get(word, 0) + len(word)
    matrix = np.random.default_rng(0).random((300, 300), dtype=np.float32)
    for _ in range(40):
        matrix = matrix @ matrix / np.float32(300)


def ratio(work: Callable[[], object], repeats: int = 5) -> float:
    """The least processor time of the work divided by that of the reference, measured alternately."""
    pairs = [(processor_seconds(reference), processor_seconds(work)) for _ in range(repeats)]
    return min(spent for _, spent in pairs) / min(spent for spent, _ in pairs)


def measured_steps(demo: DemoFiles, index: Path, cache: Path, folder: Path) -> dict[str, float]:
    """The ratio of each step on a demo store of 600 products."""
    built = iter(range(100))

    def build() -> None:
        rebuild(folder / str(next(built)), RebuildOptions((str(demo.products),), cache, encoder=ENCODER))

    def open_cold() -> None:
        with SearchEngine.open(index, settings=SETTINGS) as opened:
            opened.search("drill")

    def search(stage: str) -> None:
        for query in QUERIES * 3:
            engine.search(query, size=20, facets=["brand"], stage=stage)

    def patch() -> None:
        for price in range(1, 21):
            engine.patch(product, price=float(price))

    with SearchEngine.open(index, settings=SETTINGS) as engine:
        product = engine.search("tent").hits[0].product.id
        return {
            "rebuild": ratio(build, 2),
            "cold open": ratio(open_cold, 3),
            "30 searches, merged": ratio(lambda: search("merged")),
            "30 searches, ranked": ratio(lambda: search("ranked")),
            "20 patches": ratio(patch),
        }


def first_hits(index: Path) -> dict[str, list[str]]:
    with SearchEngine.open(index, settings=SETTINGS) as engine:
        return {query: [hit.product.id for hit in engine.search(query, size=HITS).hits] for query in QUERIES}


def changed_searches(before: Record, now: Mapping[str, list[str]]) -> list[str]:
    """A line for each search whose first hit or too many of the first hits changed."""
    return [
        f"{query}: {' '.join(before.searches[query])} -> {' '.join(now[query])}"
        for query in QUERIES
        if now[query][:1] != before.searches[query][:1]
        or len(set(now[query]) & set(before.searches[query])) < min(KEPT, len(before.searches[query]))
    ]


def slower_steps(before: Record, now: Mapping[str, float]) -> list[str]:
    """A line for each step that takes much longer, in reference computations."""
    return [
        f"{step}: {before.steps[step]:.2f} -> {spent:.2f} ({spent / before.steps[step]:.1f} times as long)"
        for step, spent in now.items()
        if spent > SLOWER * before.steps[step]
    ]


@pytest.mark.slow
def test_searches_and_speed_are_those_of_the_last_release(
    demo: DemoFiles, demo_index: Path, cache: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    version = request.config.getoption("--record-release")
    searches = first_hits(demo_index)
    steps = measured_steps(demo, demo_index, cache, tmp_path)
    if version:
        RECORD.write_bytes(msgspec.json.format(msgspec.json.encode(Record(version, searches, steps))) + b"\n")
        return
    before = msgspec.json.decode(RECORD.read_bytes(), type=Record)
    found = [*changed_searches(before, searches), *slower_steps(before, steps)]
    assert not found, "\n".join([f"since {before.version} (if that is intended: make record)", *found])


def test_changes_are_reported() -> None:
    searches = {query: ["a", "b", "c", "d", "e"] for query in QUERIES}
    before = Record("0.1.0", searches, {"rebuild": 2.0})
    assert changed_searches(before, searches | {QUERIES[0]: ["a", "c", "b", "e", "x"]}) == []
    assert changed_searches(before, searches | {QUERIES[0]: ["b", "a", "c", "d", "e"]}) == [
        "cordless drill: a b c d e -> b a c d e"
    ]
    assert changed_searches(before, searches | {QUERIES[1]: ["a", "b", "c", "x", "y"]}) != []
    assert slower_steps(before, {"rebuild": 2.9}) == []
    assert slower_steps(before, {"rebuild": 4.2}) == ["rebuild: 2.00 -> 4.20 (2.1 times as long)"]
