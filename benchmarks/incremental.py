"""What a rebuild costs after a little has changed, against the build from nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.reading import json_rows
from indexer.build import RebuildOptions, RebuildReport, rebuild

Row = dict[str, Any]
KINDS: Mapping[str, float] = {"price": 0.4, "availability": 0.2, "title": 0.2, "gone": 0.1, "new": 0.1}
"""What happens to a changed product, with its share."""


@dataclass(frozen=True, slots=True)
class Build:
    """One rebuild, and what it found to do."""

    label: str
    seconds: float
    products: int
    encoded: int
    phases: Mapping[str, float]


def measure_rebuilds(
    feed: Path,
    folder: Path,
    options: Callable[[Path], RebuildOptions],
    share: float,
    seed: int = 0,
    *,
    without_states: bool = False,
) -> Iterator[Build]:
    """Builds a feed from nothing, again without a change, and again after `share` of its products changed; then, where
    `without_states` says so, from nothing into another index whose products have no token states."""
    rows = list(json_rows(feed))
    before, after = folder / "before.jsonl", folder / "after.jsonl"
    _write(before, rows)
    _write(after, changed_rows(rows, share, seed))
    for label, each in (("from nothing", before), ("unchanged", before), (f"{share:.1%} changed", after)):
        started = time.perf_counter()
        report = rebuild(folder / "index", options(each))
        yield _build(label, time.perf_counter() - started, report)
    if without_states:
        started = time.perf_counter()
        report = rebuild(folder / "without-states", replace(options(before), state_dimension=0))
        yield _build("from nothing, without token states", time.perf_counter() - started, report)


def _build(label: str, seconds: float, report: RebuildReport) -> Build:
    return Build(label, seconds, report.products, report.encoded, report.seconds)


def changed_rows(rows: list[Row], share: float, seed: int) -> Iterator[Row]:
    """The rows after a day: some with another price, stock or title, some gone, some new."""
    draw = random.Random(seed)  # noqa: S311 - a benchmark, not a secret
    for row in rows:
        if draw.random() >= share:
            yield row
            continue
        match draw.choices(list(KINDS), list(KINDS.values()))[0]:
            case "price":
                yield {**row, "price": round(draw.uniform(1, 500), 2)}
            case "availability":
                yield {**row, "availability": "out_of_stock" if row.get("availability") == "in_stock" else "in_stock"}
            case "title":
                yield {**row, "title": f"{row['title']}, new edition"}
            case "new":
                yield row
                yield {**row, "id": f"{row['id']}-new", "title": f"{row['title']} mark {draw.randrange(99)}"}


def _write(path: Path, rows: Iterator[Row] | list[Row]) -> None:
    with path.open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")
