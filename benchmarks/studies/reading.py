"""Speed and memory of reading and checking a feed, by its size."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import msgspec
import typer

from benchmarks.changes import json_rows
from benchmarks.studies import run_study
from benchmarks.tables import figure_table
from retrieval.errors import SettingError
from service.cli.options import OneFeed, command
from service.cli.output import TerminalProgress, emit, show_table

_PROGRAM = """
import json, resource, sys, time
started = time.perf_counter()
from indexer.pipeline import check_feeds
from indexer.pipeline import FeedOptions
report = check_feeds(FeedOptions((sys.argv[1],)))
seconds = time.perf_counter() - started
peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps([report.read, seconds, spent, *peaks]))
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """One check of a feed in a separate process, from its start to the report."""

    rows: int
    bytes: int
    """The size of the feed, decompressed."""
    seconds: float
    processor_seconds: float
    """Processor seconds of all processes together."""
    peak_megabytes: float
    """Peak resident memory of the program."""
    worker_megabytes: float
    """Peak resident memory of the largest of its workers."""

    @property
    def rows_per_second(self) -> float:
        """Rows read and checked per second."""
        return self.rows / self.seconds


def measure_reading(feed: Path, folder: Path, rows: int) -> Reading:
    """Checks a feed of `rows` rows, made from those of `feed` (JSON lines, each with an id and a title)."""
    grown = folder / f"{rows}.jsonl"
    with grown.open("wb") as file:
        size = sum(file.write(line) for line in grown_rows(feed, rows))
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(grown)], capture_output=True, text=True, check=True)
    grown.unlink()
    read, seconds, spent, peak, worker = json.loads(done.stdout)
    return Reading(read, size, seconds, spent, peak, worker)


def grown_rows(feed: Path, rows: int) -> Iterator[bytes]:
    """`rows` rows: those of the feed, then copies as separate products, with other ids, models and codes.

    Raises SettingError for a feed that is not JSON lines.
    """
    made = 0
    for generation in itertools.count():
        for row in json_rows(feed):
            if made == rows:
                return
            yield msgspec.json.encode(_of_its_own(row, generation) if generation else row) + b"\n"
            made += 1
        if not made:
            raise SettingError(f"{feed} has no rows")


def _of_its_own(row: dict[str, Any], generation: int) -> dict[str, Any]:
    codes = {
        kind: [_own_code(str(code), generation) for code in (spelled if isinstance(spelled, list) else [spelled])]
        for kind, spelled in row.get("identifiers", {}).items()
    }
    title = f"{row['title']} M{generation}"
    return {**row, "id": f"{row['id']}-{generation}", "title": title, "identifiers": codes}


def _own_code(code: str, generation: int) -> str:
    """Another code; for an EAN-13 another one with a correct check digit."""
    if len(code) != 13 or not code.isdecimal():
        return f"{code}-{generation}"
    digits = f"{(int(code[:12]) + generation * 7_000_003) % 10**12:012d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-total % 10}"


@command("reading products.jsonl.gz --rows 100000,2000000")
def reading(
    feed: OneFeed, rows: Annotated[str, typer.Option(help="Sizes to check, comma-separated.")] = "100000,2000000"
) -> None:
    """Time reading and checking a feed grown to several sizes, and measure the memory."""
    measured = []
    with TemporaryDirectory() as folder, TerminalProgress() as progress:
        for count in map(int, rows.split(",")):
            progress.begin(f"{count:,} rows", None, "")
            measured.append(measure_reading(feed, Path(folder), count))
            progress.end(f"{measured[-1].rows_per_second:,.0f} rows a second")
    document = [asdict(each) | {"rows_per_second": each.rows_per_second} for each in measured]
    emit(measured, show_reading, document=document)


def show_reading(measured: Sequence[Reading]) -> None:
    """Sizes by speed and memory."""
    table = figure_table(
        ["rows", "MB", "seconds", "rows a second", "processor us a row", "peak MB", "a worker's MB"], ""
    )
    for each in measured:
        spent = f"{each.processor_seconds / each.rows * 1e6:.0f}"
        memory = (f"{each.peak_megabytes:.0f}", f"{each.worker_megabytes:.0f}")
        speed = (f"{each.seconds:.1f}", f"{each.rows_per_second:,.0f}")
        table.add_row(f"{each.rows:,}", f"{each.bytes / 1e6:,.0f}", *speed, spent, *memory)
    show_table(table)


if __name__ == "__main__":
    run_study(reading)
