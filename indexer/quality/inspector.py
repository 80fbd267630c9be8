"""Judges batches of products by rules, in any process and order: what comes back merges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexer.quality.charts import ages, filled_fields, languages, price_bins
from indexer.quality.derived import Batch, Detect, batch_of
from indexer.quality.fields import FIELDS, Kind
from indexer.quality.findings import (
    COMPLETENESS_FIELDS,
    MOST_EXAMPLES,
    Example,
    Failures,
    Findings,
    Place,
    packed,
    shortened,
)
from indexer.quality.frames import base_frame, other_column, rule_frame
from indexer.quality.norms import Norms
from indexer.quality.rule import ACROSS_ROWS, Check, Measure, Rule, Severity
from indexer.quality.signatures import Signatures, signatures
from indexer.quality.steps import failing_rows
from retrieval.records import Product

_SHOWS_NOTHING = frozenset({Check.NOT_NULL})
_YEAR_MOST = 253_402_300_800.0
"""The year 10000, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What one batch gave: findings to merge, and what a DuplicateFinder needs to know of its rows."""

    findings: Findings
    signatures: Signatures


class Inspector:
    """Judges products by rules, the norms of their catalog and the time. Picklable when `detect` is."""

    def __init__(self, rules: Sequence[Rule], norms: Norms, now: datetime, detect: Detect) -> None:
        self._rules = tuple(rule for rule in rules if rule.check not in ACROSS_ROWS)
        self._across = tuple(rule for rule in rules if rule.check in ACROSS_ROWS)
        self._norms = norms
        self._now = now
        self._detect = detect

    def inspect(self, products: Sequence[Product], places: Sequence[Place], first_row: int = 0) -> Inspected:
        """Judges a batch; `first_row` is the position of its first product in the order of ids.

        Raises SettingError for a rule that cannot be evaluated.
        """
        guessed = [place.guessed for place in places]
        batch = batch_of(products, guessed, self._norms, self._now, self._detect)
        base = base_frame(batch, self._rules, COMPLETENESS_FIELDS)
        findings = Findings(
            products=len(products),
            filled=filled_fields(base),
            ages=ages(base, self._now),
            prices=price_bins(base),
            languages=languages(base),
        )
        if products:
            self._judge(batch, rule_frame(base, self._rules), places, first_row, findings)
        return Inspected(findings, signatures(batch, self._across, first_row))

    def _judge(
        self, batch: Batch, frame: pl.DataFrame, places: Sequence[Place], first_row: int, findings: Findings
    ) -> None:
        marked: dict[Measure, list[NDArray[np.int64]]] = {measure: [] for measure in Measure}
        for rule, rows in failing_rows(frame, self._rules):
            if rule.severity is not Severity.INFO:
                marked[rule.measure].append(rows)
            # The products with the smallest ids, which need not stand first in a batch that a test made.
            chosen = sorted(rows.tolist(), key=lambda row: batch.products[row].id) if len(rows) < 100 else rows.tolist()
            findings.failures[rule.name] = Failures(
                len(rows),
                [
                    _example(batch.products[row], places[row], _value(frame, rule, row))
                    for row in chosen[:MOST_EXAMPLES]
                ],
            )
        for measure, rows_of_rules in marked.items():
            findings.marks[measure, first_row] = packed(rows_of_rules, len(batch.products))


def _example(product: Product, place: Place, value: str) -> Example:
    shown = "" if value == product.title else shortened(value)
    return Example(product.id, shortened(product.title), place.file, place.line, shown)


def _value(frame: pl.DataFrame, rule: Rule, row: int) -> str:
    """What failed, as people read it."""
    if rule.check in _SHOWS_NOTHING:
        return ""
    value = _spelled(rule.field, frame[rule.name][row])
    if not rule.other or rule.op == "!=":
        return value
    return f"{value}; {rule.other.replace('_', ' ')} is {_spelled(rule.other, frame[other_column(rule)][row])}"


def _spelled(field: str, value: object) -> str:
    if not isinstance(value, int | float):
        return str(value)
    if field in FIELDS and FIELDS[field].kind is Kind.TIME:
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}" if 0 <= value < _YEAR_MOST else f"{value:.0f}"
    return f"{value:,.2f}".removesuffix(".00")
