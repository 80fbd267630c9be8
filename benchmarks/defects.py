"""Plants known defects in the first half of a clean feed and scores what the checker says of it.

The checker must tell every kind at the very rows that have it, and nothing at all of the other half. Some kinds are
rejected rows, some are dropped or cleaned values, most are findings; each says what it expects.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.defect_kinds import KINDS, Kind, Outcome, Row
from indexer.checking import check
from indexer.intake import IntakeOptions
from indexer.quality.findings import MOST_EXAMPLES, Example
from indexer.quality.report import QualityReport
from retrieval.errors import SettingError
from retrieval.records import Product
from service.demo.catalog import make_catalog
from service.demo.dice import named_rng
from service.demo.lines import CATALOG_DAY

NOW = CATALOG_DAY + timedelta(days=1)
"""The time as of which the feed is checked."""
ROWS_PER_KIND = 2
_LEAST = 1_000


@dataclass(frozen=True, slots=True)
class DefectFeed:
    """A feed with planted defects."""

    lines: tuple[bytes, ...]
    planted: Mapping[str, tuple[int, ...]]
    """Kind to the lines that have it, counted from 1."""
    clean_from: int
    """The first line of the half without defects."""


class DefectScore(msgspec.Struct, frozen=True):
    """How well a checker did."""

    rows: int
    kinds: int
    found: int
    missed: tuple[str, ...]
    """Kinds that it did not tell at every planted row."""
    false_findings: tuple[str, ...]
    """What it said of the clean half."""


def defects(folder: Path, *, seed: int = 7, products: int = 2_000) -> DefectScore:
    """Writes a feed with defects from the demo store's catalog, checks it, and scores the report."""
    feed = planted([item.product for item in make_catalog(seed, products).products], seed)
    path = folder / "defects.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in feed.lines))
    return score(check(IntakeOptions((str(path),)), now=NOW), feed)


def planted(products: Sequence[Product], seed: int) -> DefectFeed:
    """Rows of clean products, defects planted in the first half of them; the same for the same arguments.

    Raises SettingError when there are too few products to have norms beside the defects.
    """
    if len(products) < _LEAST:
        raise SettingError(f"products is {len(products)}: the defects need {_LEAST} or more to stand out among")
    dice = random.Random(seed)  # noqa: S311  # a benchmark, not a secret
    rows = [_clean_row(product, dice) for product in products]
    half = len(rows) // 2
    versions: list[list[Row]] = [[row] for row in rows]
    kinds: dict[int, Kind] = {}
    chosen = _spread(rows[:half], ROWS_PER_KIND * len(KINDS), seed)
    for place, at in enumerate(chosen):
        kind = kinds[at] = KINDS[place // ROWS_PER_KIND]
        versions[at] = _planted_rows(kind, rows[at])
    ends = list(accumulate(map(len, versions)))
    places: dict[str, list[int]] = {kind.name: [] for kind in KINDS}
    for at in sorted(kinds):
        places[kinds[at].name].append(ends[at])  # of a repeated row, the second
    lines = tuple(msgspec.json.encode(row) for each in versions for row in each)
    return DefectFeed(lines, {name: tuple(found) for name, found in places.items()}, ends[half - 1] + 1)


def _clean_row(product: Product, dice: random.Random) -> Row:
    """A product as a feed's row that nothing can be said against: fresh, with an image."""
    row: Row = {name: value for name, value in msgspec.to_builtins(product).items() if value not in (None, "", [], {})}
    updated = NOW - timedelta(days=dice.randrange(1, 300), seconds=dice.randrange(86_400))
    row["updated"] = updated.isoformat()
    row["created"] = (updated - timedelta(days=dice.randrange(1, 600))).isoformat()
    row["images"] = [f"https://images.shop.example/{product.id}.jpg"]
    if "rating" not in row:
        row.pop("rating_count", None)
    return row


def _planted_rows(kind: Kind, row: Row) -> list[Row]:
    spoiled = dict(row)
    kind.spoil(spoiled, NOW)
    return [row, spoiled] if kind.repeats else [spoiled]


def _spread(rows: Sequence[Row], count: int, seed: int) -> list[int]:
    """Places of English rows, which the defects are written for, in an order that scatters the defects."""
    english = [at for at, row in enumerate(rows) if row["language"] == "en" and len(row["category"]) > 1]
    if len(english) < count:
        raise SettingError(f"{len(english)} English products are too few for {count} defects; ask for more products")
    order = named_rng(seed, "defects").permutation(len(english)).tolist()
    return [english[place] for place in order[:count]]


def score(report: QualityReport, feed: DefectFeed) -> DefectScore:
    """What a report tells of the planted defects, and what it says of the clean half."""
    missed = tuple(kind.name for kind in KINDS if not _is_told(kind, feed.planted[kind.name], report))
    return DefectScore(len(feed.lines), len(KINDS), len(KINDS) - len(missed), missed, tuple(_false(report, feed)))


def _is_told(kind: Kind, lines: Sequence[int], report: QualityReport) -> bool:
    if kind.outcome is Outcome.CLEANED:
        return report.cleaned.get(kind.key, 0) >= len(lines)
    told = {
        example.line for name, _, examples in _said(report, kind.outcome) if name == kind.key for example in examples
    }
    return set(lines) <= told


def _false(report: QualityReport, feed: DefectFeed) -> list[str]:
    """What a report says of rows in the clean half; a count without all its rows cannot be cleared of it."""
    said = [one for outcome in (Outcome.REJECTED, Outcome.NOTED, Outcome.FINDING) for one in _said(report, outcome)]
    found = []
    for name, count, examples in said:
        lines = [example.line for example in examples if example.line >= feed.clean_from]
        if lines or count > MOST_EXAMPLES:
            found.append(f"{name}: {count:,} rows, line {lines[0]}" if lines else f"{name}: {count:,} rows")
    cleaned = {kind.key for kind in KINDS if kind.outcome is Outcome.CLEANED}
    found.extend(
        f"{name}: {count:,} values"
        for name, count in report.cleaned.items()
        if name not in cleaned or count > MOST_EXAMPLES
    )
    return found


def _said(report: QualityReport, outcome: Outcome) -> list[tuple[str, int, Sequence[Example]]]:
    """The key, the count and the example rows of everything that a report says in one way."""
    if outcome is Outcome.FINDING:
        return [(finding.rule, finding.count, finding.examples) for finding in report.findings]
    counted: Mapping[str, Any] = report.rejected if outcome is Outcome.REJECTED else report.noted
    # A note's key is its field and its reason.
    return [(name.partition(":")[0], each.count, each.examples) for name, each in counted.items()]
