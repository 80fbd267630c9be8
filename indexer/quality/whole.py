"""Judges a catalog that is in memory, in one process: for tests, small catalogs, and as the order of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from indexer.quality.derived import Detect
from indexer.quality.duplicates import DuplicateFinder
from indexer.quality.findings import DuplicateFindings, Findings, Place
from indexer.quality.inspector import BATCH, Inspector
from indexer.quality.norms import CategoryCensus
from indexer.quality.rule import Rule
from retrieval.records import Product


@dataclass(frozen=True, slots=True)
class Asked:
    """What a catalog is judged by."""

    rules: Sequence[Rule]
    now: datetime
    detect: Detect


def inspect_catalog(
    rows: Sequence[tuple[Product, Place]], asked: Asked, folder: Path, batch: int = BATCH
) -> tuple[Findings, DuplicateFindings]:
    """Findings of each product and across products, whatever the order of the rows and the size of a batch.

    `folder` is for scratch files. Raises SettingError for a rule that cannot be evaluated.
    """
    ordered = sorted(rows, key=lambda row: row[0].id)
    census = CategoryCensus()
    for product, _ in ordered:
        census.add(product)
    inspector = Inspector(asked.rules, census.norms(), asked.now, asked.detect)
    finder = DuplicateFinder(folder, asked.rules)
    findings = Findings()
    for first in range(0, len(ordered), batch):
        part = ordered[first : first + batch]
        inspected = inspector.inspect([product for product, _ in part], [place for _, place in part], first)
        findings.merge(inspected.findings)
        finder.add(inspected.signatures)
    return findings, finder.groups(ordered.__getitem__)
