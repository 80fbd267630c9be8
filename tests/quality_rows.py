"""Products and rules for the tests of the quality report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from shelfwise.indexer.quality.checks import Inspector
from shelfwise.indexer.quality.duplicates import DuplicateFinder
from shelfwise.indexer.quality.findings import DuplicateFindings, Findings, RowLocation
from shelfwise.indexer.quality.norms import CategoryCensus
from shelfwise.indexer.quality.rules import Measure, QualityCheck, QualityRule, Severity
from shelfwise.retrieval.records import Product

NOW = datetime(2025, 1, 6, 12, tzinfo=UTC)


def rule(field: str, check: QualityCheck, **operands: object) -> QualityRule:
    """A rule with the severity warning for consistency, named after its field and check, unless `operands` differ."""
    name = f"{field}_{check}".replace(".", "_")
    facts = {"name": name, "measure": Measure.CONSISTENCY, "severity": Severity.WARNING, **operands}
    return QualityRule(field=field, check=check, says="fails", **facts)  # type: ignore[arg-type]


def judged(
    products: Sequence[Product],
    rules: Sequence[QualityRule],
    folder: Path,
    *,
    batch: int = 1_000,
    guessed: bool = False,
    before: tuple[Sequence[Product], Path] | None = None,
) -> tuple[Findings, DuplicateFindings]:
    """Findings of rules in a catalog; product number n has line n + 1 of feed.jsonl. `before` are the products of an
    earlier run, and its folder: comparisons of unchanged products are reused."""
    rows = [(product, RowLocation("feed.jsonl", at + 1, guessed)) for at, product in enumerate(products)]
    ordered = sorted(rows, key=lambda row: row[0].id)
    census = CategoryCensus()
    for product, _ in ordered:
        census.add(product)
    inspector = Inspector(rules, census.norms(), NOW)
    finder = DuplicateFinder(folder, rules)
    findings = Findings()
    known = {product.id: (row, product) for row, product in enumerate(sorted(before[0], key=_id))} if before else {}
    added = [row for row, (product, _) in enumerate(ordered) if known.get(product.id, (0, None))[1] != product]
    for first in range(0, len(added), batch):
        numbers = np.array(added[first : first + batch], np.int64)
        part = [ordered[row] for row in numbers.tolist()]
        inspected = inspector.inspect([product for product, _ in part], [place for _, place in part], numbers)
        findings.merge(inspected.findings)
        finder.add(inspected.signatures)
    if before:
        places = np.full(len(known), -1)
        for row in set(range(len(ordered))) - set(added):
            places[known[ordered[row][0].id][0]] = row
        finder.take_over(before[1], places)
    return findings, finder.groups(ordered.__getitem__)


def _id(product: Product) -> str:
    return product.id


def failing(products: Sequence[Product], one: QualityRule, folder: Path) -> list[str]:
    """The ids of the products that fail a rule (at most ten)."""
    findings, duplicates = judged(products, [one], folder)
    failures = {**findings.failures, **duplicates.failures}.get(one.name)
    return [example.id for example in failures.examples] if failures else []
