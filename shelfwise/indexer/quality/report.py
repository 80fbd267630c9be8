"""Quality report: what was read, the problems found, and the four scores. Its JSON is its schema; its HTML page has no
scripts or external resources. Everything from a feed is escaped there, and characters that could be harmful in a page
are replaced."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from markupsafe import Markup

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
from shelfwise.retrieval.value_texts import share_text

if TYPE_CHECKING:
    from jinja2 import Template

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
    prices: Mapping[str, Sequence[PriceBin]]
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
    summary = msgspec.structs.asdict(intake)
    summary |= {name: _by_count(summary[name], attrgetter("count")) for name in ("rejected", "noted")}
    return QualityReport(
        **summary | {"cleaned": _by_count(intake.cleaned)},
        schema=SCHEMA,
        products=findings.products,
        scores=_scores(findings, duplicates, rules),
        findings=_findings(findings, duplicates, rules),
        charts=_charts(findings),
        pairs_compared=duplicates.pairs,
        pairs_unchecked=duplicates.unchecked,
    )


def _by_count(counted: Mapping[str, Any], count: Callable[[Any], int] = int) -> dict[str, Any]:
    return dict(sorted(counted.items(), key=lambda each: (-count(each[1]), each[0])))


def _findings(findings: Findings, duplicates: DuplicateFindings, rules: Sequence[QualityRule]) -> tuple[Finding, ...]:
    failures = {**findings.failures, **duplicates.failures}
    result = [
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
    return tuple(sorted(result, key=lambda finding: (_ORDER.index(finding.severity), -finding.count, finding.rule)))


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
    prices: dict[str, list[PriceBin]] = {}
    for (currency, step), count in sorted(findings.prices.items()):
        price_bin = PriceBin(10 ** (step / PRICE_STEPS), 10 ** ((step + 1) / PRICE_STEPS), count)
        prices.setdefault(currency, []).append(price_bin)
    return Charts(
        filled={name: findings.filled[name] / products for name in COMPLETENESS_FIELDS},
        ages={label: findings.ages[label] for label in (*AGES, NO_DATE)},
        prices=prices,
        languages=_by_count(findings.languages),
    )


_PAGE = Path(__file__).with_name("page.html.j2")
_MAX_LANGUAGES = 8
_MAX_CURRENCIES = 3
# Control characters, signs that change the direction of text, which could make a row appear to say something else, and
# lone surrogates.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FILTERS: Mapping[str, Callable[..., Any]] = {
    "file_name": lambda path: Path(path).name or path,
    "capitalize_first": lambda text: text[:1].upper() + text[1:],
    "count": "{:,}".format,
    "share": share_text,
}


def html(report: QualityReport) -> str:
    """The page; the same report gives the same bytes."""
    rejected = sum(counted.count for counted in report.rejected.values())
    charts = {title: rows for title, rows in _bar_charts(report) if rows}
    return _template().render(charts=charts, report=report, rejected=rejected)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_PAGE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_replace_harmful,
    )
    environment.filters |= _FILTERS
    return environment.get_template(_PAGE.name)


def _replace_harmful(value: object) -> object:
    """A text without characters that a page cannot contain or that would change its direction."""
    return _HARMFUL.sub("\ufffd", value) if isinstance(value, str) and not isinstance(value, Markup) else value


class Bar(NamedTuple):
    """A row of a bar chart."""

    label: str
    length: float
    """In percent of the longest possible bar."""
    text: str


def _bar_charts(report: QualityReport) -> Iterator[tuple[str, list[Bar]]]:
    """The bar charts by title; those without data have no rows."""
    charts = report.charts
    measures: Counter[str] = Counter(dict.fromkeys((each.value for each in Measure), 0))
    for finding in report.findings:
        measures[finding.measure.value] += finding.count
    yield "Findings by measure", _bars(measures)
    filled = charts.filled if report.products else {}
    yield "Fields that are filled", [Bar(name, 100 * share, share_text(share)) for name, share in filled.items()]
    frequent = sorted(charts.prices.items(), key=lambda item: -sum(one.count for one in item[1]))
    for currency, bins in frequent[:_MAX_CURRENCIES]:
        ranges = {f"{one.low:,.2f} to {one.high:,.2f}": one.count for one in bins}
        yield f"Prices, {currency or 'no currency'}", _bars(ranges)
    yield "Time since the last update, up to", _bars(charts.ages)
    languages = {code or "unknown": count for code, count in charts.languages.items()}
    yield "Languages", _bars(languages)[:_MAX_LANGUAGES]


def _bars(counts: Mapping[str, int]) -> list[Bar]:
    """Counts as bars; none if all are 0."""
    longest = max(counts.values(), default=0)
    return [Bar(name, 100 * count / longest, f"{count:,}") for name, count in counts.items()] if longest else []
