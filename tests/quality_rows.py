"""Products and rules for the tests of the quality report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from indexer.quality.findings import DuplicateFindings, Findings, Place
from indexer.quality.rule import Check, Measure, Rule, Severity
from indexer.quality.whole import Asked, inspect_catalog
from retrieval.records import Product

NOW = datetime(2025, 1, 6, 12, tzinfo=UTC)


def detect_by_word(titles: Sequence[str]) -> list[str]:
    """A language for each title: German with "mit", English with "with", else none."""
    words = [title.split() for title in titles]
    return ["de" if "mit" in each else "en" if "with" in each else "" for each in words]


def rule(field: str, check: Check, **operands: object) -> Rule:
    """A warning of consistency named after its field and check."""
    name = f"{field}_{check}".replace(".", "_")
    return Rule(name, Measure.CONSISTENCY, Severity.WARNING, field, check, "fails", **operands)  # type: ignore[arg-type]


def judged(
    products: Sequence[Product], rules: Sequence[Rule], folder: Path, *, batch: int = 1_000, guessed: bool = False
) -> tuple[Findings, DuplicateFindings]:
    """What the rules find in a catalog; product number n stood in line n + 1 of feed.jsonl."""
    rows = [(product, Place("feed.jsonl", at + 1, guessed)) for at, product in enumerate(products)]
    return inspect_catalog(rows, Asked(rules, NOW, detect_by_word), folder, batch)


def failing(products: Sequence[Product], one: Rule, folder: Path) -> list[str]:
    """The ids of the products that fail a rule (at most ten)."""
    findings, duplicates = judged(products, [one], folder)
    failures = {**findings.failures, **duplicates.failures}.get(one.name)
    return [example.id for example in failures.examples] if failures else []
