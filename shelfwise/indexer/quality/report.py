"""Quality report: what was read, the problems found, and the four scores. Its JSON is its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from shelfwise.indexer.quality.findings import (
    AGES,
    COMPLETENESS_FIELDS,
    NO_DATE,
    PRICE_STEPS,
    DuplicateFindings,
    Example,
    Findings,
)
from shelfwise.indexer.quality.rules import Measure, QualityRule, Severity

SCHEMA = 1

SCORE_DEFINITIONS: Mapping[Measure, str] = {
    Measure.COMPLETENESS: "the mean share of products with a value in the fields of the completeness chart",
    Measure.CONSISTENCY: "the share of products without an error or warning under consistency",
    Measure.ACCURACY: "the share of products without an error or warning under accuracy",
    Measure.TIMELINESS: "the share of products without an error or warning under timeliness",
}
_ORDER = tuple(Severity)


class ReasonCount(msgspec.Struct, frozen=True):
    """A count of rows or values, with examples."""

    count: int
    examples: tuple[Example, ...] = ()


class FeedSummary(msgspec.Struct, frozen=True):
    """The results of reading and cleaning, before inspection."""

    created: datetime
    feeds: tuple[str, ...]
    read: int
    rejected: Mapping[str, ReasonCount] = {}
    """Rejected rows, by reason."""
    noted: Mapping[str, ReasonCount] = {}
    """Values that were dropped while their rows were kept, by field and reason."""
    cleaned: Mapping[str, int] = {}
    """Changed values, by cleaning rule."""
    pictures: Mapping[str, int] = {}
    """Pictures that cannot be used, by reason, if a picture model was named."""


class Score(msgspec.Struct, frozen=True):
    """One of the four measures: a share from 0 to 1, and how it is computed. None for a catalog without products."""

    measure: Measure
    score: float | None
    how: str


class Finding(msgspec.Struct, frozen=True):
    """A rule that products fail."""

    rule: str
    measure: Measure
    severity: Severity
    count: int
    share: float
    says: str
    advice: str
    examples: tuple[Example, ...]
    """The examples with the smallest ids."""
    groups: int = 0
    """Number of groups of matching products, for rules across rows."""


class PriceBin(msgspec.Struct, frozen=True):
    """Products with a price from `low` up to, but not including, `high`."""

    low: float
    high: float
    count: int


class Charts(msgspec.Struct, frozen=True):
    """The numbers of the plots."""

    filled: Mapping[str, float]
    """The share of products that have each field."""
    ages: Mapping[str, int]
    """The number of products by "up to ..." since the last update, youngest first."""
    prices: Mapping[str, tuple[PriceBin, ...]]
    """The price bins by currency."""
    languages: Mapping[str, int]
    """The number of products by ISO 639-1 code, most frequent first; empty if unknown."""


class QualityReport(FeedSummary, frozen=True, kw_only=True):
    """The report; the counts of the summary are ordered by frequency."""

    schema: int
    products: int
    scores: tuple[Score, ...]
    findings: tuple[Finding, ...]
    """Errors, then warnings, then infos; most frequent first within each."""
    charts: Charts
    pairs_compared: int = 0
    pairs_unchecked: int = 0
    """Candidates for copies beyond the limit of comparisons; 0 except in unusual catalogs."""

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def make_report(
    intake: FeedSummary, findings: Findings, duplicates: DuplicateFindings, rules: Sequence[QualityRule]
) -> QualityReport:
    """The report of all parts; `rules` are those that were inspected."""
    return QualityReport(
        schema=SCHEMA,
        created=intake.created,
        feeds=intake.feeds,
        read=intake.read,
        products=findings.products,
        rejected=_by_count(intake.rejected),
        noted=_by_count(intake.noted),
        cleaned=dict(sorted(intake.cleaned.items(), key=lambda item: (-item[1], item[0]))),
        pictures=intake.pictures,
        scores=_scores(findings, duplicates, rules),
        findings=_findings(findings, duplicates, rules),
        charts=_charts(findings),
        pairs_compared=duplicates.pairs,
        pairs_unchecked=duplicates.unchecked,
    )


def _by_count(counted: Mapping[str, ReasonCount]) -> dict[str, ReasonCount]:
    return dict(sorted(counted.items(), key=lambda item: (-item[1].count, item[0])))


def _findings(findings: Findings, duplicates: DuplicateFindings, rules: Sequence[QualityRule]) -> tuple[Finding, ...]:
    failures = {**findings.failures, **duplicates.failures}
    made = [
        Finding(
            rule=rule.name,
            measure=rule.measure,
            severity=rule.severity,
            count=failed.count,
            share=failed.count / findings.products,
            says=rule.says,
            advice=rule.advice,
            examples=tuple(failed.examples),
            groups=duplicates.groups.get(rule.name, 0),
        )
        for rule in rules
        if (failed := failures.get(rule.name))
    ]
    return tuple(sorted(made, key=lambda finding: (_ORDER.index(finding.severity), -finding.count, finding.rule)))


def _scores(findings: Findings, duplicates: DuplicateFindings, rules: Sequence[QualityRule]) -> tuple[Score, ...]:
    products = findings.products
    if not products:
        return tuple(Score(measure, None, SCORE_DEFINITIONS[measure]) for measure in Measure)
    shares = [findings.filled[name] / products for name in COMPLETENESS_FIELDS]
    scores = {Measure.COMPLETENESS: sum(shares) / len(shares)}
    for measure in (Measure.CONSISTENCY, Measure.ACCURACY, Measure.TIMELINESS):
        names = [rule.name for rule in rules if rule.measure is measure and rule.severity is not Severity.INFO]
        across = [duplicates.rows[name] for name in names if name in duplicates.rows]
        scores[measure] = 1 - findings.count_failing(names, across) / products
    return tuple(Score(measure, scores[measure], SCORE_DEFINITIONS[measure]) for measure in Measure)


def _charts(findings: Findings) -> Charts:
    products = max(1, findings.products)
    by_count = sorted(findings.languages.items(), key=lambda item: (-item[1], item[0]))
    return Charts(
        filled={name: findings.filled[name] / products for name in COMPLETENESS_FIELDS},
        ages={label: findings.ages[label] for label in (*AGES, NO_DATE)},
        prices={
            currency: tuple(
                PriceBin(10 ** (place / PRICE_STEPS), 10 ** ((place + 1) / PRICE_STEPS), count)
                for place, count in sorted(bins.items())
            )
            for currency, bins in sorted(findings.prices.items())
        },
        languages=dict(by_count),
    )
