"""Inspection of batches of products by rules, in any process and order; the results merge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.indexer.quality.derived import InspectedProduct
from shelfwise.indexer.quality.duplicates import Signatures, signatures
from shelfwise.indexer.quality.findings import (
    AGES,
    COMPLETENESS_FIELDS,
    MAX_EXAMPLES,
    NO_DATE,
    PRICE_STEPS,
    Example,
    Failures,
    Findings,
    RowLocation,
    shorten,
)
from shelfwise.indexer.quality.norms import Norm, Norms
from shelfwise.indexer.quality.rules import (
    ACROSS_ROWS,
    DAY,
    FIELDS,
    FieldKind,
    QualityCheck,
    QualityRule,
    base_frame,
    column_of,
    other_column,
    rule_frame,
)
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.records import Product

_YEAR_MAX = 253_402_300_800.0
"""The year 10000, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class InspectionResult:
    """Findings of one batch, and the signatures of its rows for a DuplicateFinder."""

    findings: Findings
    signatures: Signatures


class Inspector:
    """Inspects products by rules, the norms of their catalog and the time. Picklable."""

    def __init__(self, rules: Sequence[QualityRule], norms: Norms, now: datetime) -> None:
        self._rules = tuple(rule for rule in rules if rule.check not in ACROSS_ROWS)
        self._across = tuple(rule for rule in rules if rule.check in ACROSS_ROWS)
        self._norms = norms
        self._now = now

    def inspect(
        self, products: Sequence[Product], locations: Sequence[RowLocation], rows: NDArray[np.int64]
    ) -> InspectionResult:
        """Inspects a batch; `rows` (n,) are the positions of its products in order of id.

        Raises SettingError for a rule that cannot be evaluated.
        """
        norm_of = cache(self._norms.of)
        batch = [
            InspectedProduct(product, norm_of(product.category), location.has_detected_language, self._now)
            for product, location in zip(products, locations, strict=True)
        ]
        base = base_frame(batch, self._rules, COMPLETENESS_FIELDS)
        findings = _counts(base, self._now)
        if products:
            self._check_rules(products, rule_frame(base, self._rules), locations, rows, findings)
        return InspectionResult(findings, signatures(batch, self._across, rows))

    def _check_rules(
        self,
        products: Sequence[Product],
        frame: pl.DataFrame,
        locations: Sequence[RowLocation],
        rows: NDArray[np.int64],
        findings: Findings,
    ) -> None:
        for rule, failing in failing_rows(frame, self._rules):
            findings.failing[rule.name] = [rows[failing].astype(np.int32)]
            # The products with the smallest ids, which need not come first in a batch of a test.
            positions: list[int] = failing.tolist()
            if len(positions) < 100:
                positions.sort(key=lambda row: products[row].id)
            examples = []
            for row in positions[:MAX_EXAMPLES]:
                product, place, value = products[row], locations[row], _value(frame, rule, row)
                text = "" if value == product.title else shorten(value)
                examples.append(Example(product.id, shorten(product.title), place.file, place.line, text))
            findings.failures[rule.name] = Failures(len(failing), examples)


def _value(frame: pl.DataFrame, rule: QualityRule, row: int) -> str:
    """The value that failed, for display."""
    if rule.check is QualityCheck.NOT_NULL:
        return ""
    value = _spelled(rule.field, frame[rule.name][row])
    if not rule.other or rule.op == "!=":
        return value
    return f"{value}; {rule.other.replace('_', ' ')} is {_spelled(rule.other, frame[other_column(rule)][row])}"


def _spelled(field: str, value: object) -> str:
    if not isinstance(value, int | float):
        return str(value)
    if field in FIELDS and FIELDS[field].kind is FieldKind.TIME:
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}" if 0 <= value < _YEAR_MAX else f"{value:.0f}"
    return f"{value:,.2f}".removesuffix(".00")


def failing_rows(frame: pl.DataFrame, rules: Sequence[QualityRule]) -> Iterator[tuple[QualityRule, NDArray[np.int64]]]:
    """Each rule that rows fail, with their positions in the frame, ascending.

    Raises SettingError for a rule that cannot be evaluated over the frame.
    """
    for rule in rules:
        try:
            # A row without a value passes.
            fails = frame.select(_failure(rule).fill_null(value=False)).to_series()
        except pl.exceptions.PolarsError as error:
            message = f"rule {rule.name}: {rule.check.value} cannot be evaluated on {rule.field}; change it"
            raise SettingError(message) from error
        if fails.any():
            yield rule, fails.arg_true().to_numpy().astype(np.int64)


_OPERATORS: Mapping[str, Callable[[pl.Expr, object], pl.Expr]] = {
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
    "=": pl.Expr.eq,
    "!=": pl.Expr.ne,
}


def _failure(rule: QualityRule) -> pl.Expr:
    """Whether a row fails a rule; null, or false, if it has no value."""
    value = pl.col(rule.name)
    # One list; numbers of a rule file may be integers and floats.
    values = pl.Series(rule.values, strict=False).implode()
    match rule.check:
        case QualityCheck.NOT_NULL:
            return value.is_null()
        case QualityCheck.NULL | QualityCheck.NOT_REGEX:  # the frame has the matches of not_regex
            return value.is_not_null()
        case QualityCheck.BETWEEN:
            low, high = rule.values
            return ~value.is_between(low, high)
        case QualityCheck.IN_SET:
            return ~value.is_in(values)
        case QualityCheck.NOT_IN_SET:
            return value.is_in(values)
        case QualityCheck.REGEX:
            return ~value.str.contains(rule.pattern)
        case QualityCheck.COMPARE:
            return ~_OPERATORS[rule.op](value, pl.col(other_column(rule)) if rule.other else pl.lit(rule.values[0]))
        case _:
            raise ValueError(f"{rule.check} cannot be evaluated on a single batch")


def column(field: str) -> str:
    """The column of a field in the base frame."""
    return column_of(field, FIELDS[field].kind)


def count_products(products: Sequence[Product], now: datetime) -> Findings:
    """The counts of products, without failures."""
    batch = [InspectedProduct(product, Norm(), False, now) for product in products]
    return _counts(base_frame(batch, (), COMPLETENESS_FIELDS), now)


def _counts(base: pl.DataFrame, now: datetime) -> Findings:
    return Findings(
        products=base.height,
        filled=Counter({name: base.height - base[column(name)].null_count() for name in COMPLETENESS_FIELDS}),
        ages=ages(base, now),
        prices=price_bins(base),
        languages=languages(base),
    )


def ages(base: pl.DataFrame, now: datetime) -> Counter[str]:
    """The number of products by the time since their last update."""
    days = (now.timestamp() - base[column("updated")]) / DAY
    counts = Counter({NO_DATE: days.null_count()})
    before = -math.inf
    for label, most in AGES.items():
        counts[label] = int(((days > before) & (days <= most)).sum())
        before = most
    return +counts


def price_bins(base: pl.DataFrame) -> Counter[tuple[str, int]]:
    """The number of products by currency and quarter of a decade of price."""
    step = (pl.col(column("price")).log10() * PRICE_STEPS).floor().cast(pl.Int64).alias("step")
    currency = pl.col(column("currency")).fill_null("").alias("currency")
    counted = base.filter(pl.col(column("price")) > 0).group_by(currency, step).len()
    return Counter({(name, bin_): count for name, bin_, count in counted.iter_rows()})


def languages(base: pl.DataFrame) -> Counter[str]:
    """The number of products by language."""
    counted = base.group_by(pl.col(column("language")).fill_null("")).len().sort(column("language"))
    return Counter(dict(counted.iter_rows()))
