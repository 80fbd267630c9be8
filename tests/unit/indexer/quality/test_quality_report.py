"""The quality report: the same for any split of the rows, scores computed by hand, JSON and a safe page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from shelfwise.indexer.quality.findings import Example
from shelfwise.indexer.quality.report import FeedSummary, QualityReport, ReasonCount, html, make_report
from shelfwise.indexer.quality.rules import Measure, QualityCheck, QualityRule, Severity, built_in_rules
from shelfwise.retrieval.records import Product
from tests.quality_rows import NOW, judged, rule

HOSTILE = '<script>alert(1)</script>"onmouseover="x" &amp; \x07\u202egnp.exe {{ 7*7 }} $x^2$'


def report_of(
    products: Sequence[Product], rules: Sequence[QualityRule], folder: Path, batch: int = 1_000
) -> QualityReport:
    findings, duplicates = judged(products, rules, folder, batch=batch)
    return make_report(FeedSummary(NOW, ("feed.jsonl",), len(products)), findings, duplicates, rules)


def test_scores_match_manual_calculation(tmp_path: Path) -> None:
    rules = [
        rule("price", QualityCheck.COMPARE, op=">", values=(1.0,), name="cheap", measure=Measure.ACCURACY),
        rule("price", QualityCheck.COMPARE, op="<", values=(9.0,), name="dear", measure=Measure.ACCURACY),
        rule("brand", QualityCheck.NOT_NULL, name="bare", measure=Measure.ACCURACY, severity=Severity.INFO),
        rule("title", QualityCheck.UNIQUE),
        rule("product", QualityCheck.NO_COPIES),
    ]
    prices = (1.0, 5.0, 9.0, 5.0)
    products = [Product(str(at), "Same" if at < 2 else f"T{at}", price=price) for at, price in enumerate(prices)]
    scores = {score.measure: score.score for score in report_of(products, rules, tmp_path).scores}
    assert scores[Measure.ACCURACY] == 1 - 2 / 4
    assert scores[Measure.CONSISTENCY] == 1 - 2 / 4
    assert scores[Measure.TIMELINESS] == 1
    assert scores[Measure.COMPLETENESS] == pytest.approx((4 / 4 + 4 / 4) / 12)  # title and price, of twelve fields


def test_product_with_several_failures_counts_once(tmp_path: Path) -> None:
    rules = [rule("price", QualityCheck.NOT_NULL), rule("title", QualityCheck.UNIQUE)]
    products = [Product("a", "T"), Product("b", "T", price=1.0), Product("c", "U"), Product("d", "V", price=1.0)]
    for batch in (1, 3, 4):
        scores = report_of(products, rules, tmp_path / str(batch), batch).scores
        assert scores[1].score == 1 - 3 / 4


def test_a_catalog_without_products_has_no_scores(tmp_path: Path) -> None:
    report = report_of([], built_in_rules(), tmp_path)
    assert [score.score for score in report.scores] == [None] * 4
    assert report.findings == ()
    assert "No rule found a problem" in html(report)
    assert msgspec.json.decode(report.to_json(), type=QualityReport) == report


def test_findings_are_sorted_by_severity_and_count(tmp_path: Path) -> None:
    rules = [
        rule("brand", QualityCheck.NOT_NULL, name="info", severity=Severity.INFO),
        rule("price", QualityCheck.NOT_NULL, name="few"),
        rule("image", QualityCheck.NOT_NULL, name="many"),
        rule("description", QualityCheck.NOT_NULL, name="error", severity=Severity.ERROR),
    ]
    products = [Product("a", "T", price=1.0), Product("b", "U")]
    report = report_of(products, rules, tmp_path)
    assert [finding.rule for finding in report.findings] == ["error", "many", "few", "info"]
    assert [finding.share for finding in report.findings] == [1.0, 1.0, 0.5, 1.0]


def test_charts_count_ages_prices_and_languages(tmp_path: Path) -> None:
    ages = (None, -1, 3, 100, 400, 4_000)
    updated = [None if days is None else NOW - timedelta(days=days) for days in ages]
    products = [Product(str(at), "T", price=1.1 * 10.0 ** (at / 2), updated=each) for at, each in enumerate(updated)]
    charts = report_of(products, built_in_rules(), tmp_path).charts
    expected = {"a week": 2, "6 months": 1, "2 years": 1, "older": 1, "no date": 1}
    assert {label: count for label, count in charts.ages.items() if count} == expected
    assert list(charts.ages)[:2] == ["a week", "a month"]
    assert [one.low for one in charts.prices[""]] == pytest.approx([10 ** (n / 2) for n in range(6)])
    assert [one.count for one in charts.prices[""]] == [1] * 6
    assert charts.languages == {"": 6}
    assert charts.filled["price"] == 1.0
    assert charts.filled["updated"] == 5 / 6


@pytest.fixture
def hostile(tmp_path: Path) -> QualityReport:
    product = Product(HOSTILE, HOSTILE, category=(HOSTILE,), price=1.0, currency="USD")
    findings, duplicates = judged([product], built_in_rules(), tmp_path)
    example = Example("", HOSTILE, HOSTILE, 3, HOSTILE)
    counted = {HOSTILE: ReasonCount(1, (example,))}
    intake = FeedSummary(NOW, (HOSTILE,), 1, rejected=counted, noted=counted, cleaned={HOSTILE: 1})
    return make_report(intake, findings, duplicates, built_in_rules())


def attributes_of(page: str) -> set[str]:
    found: set[str] = set()

    class Names(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.update(name for name, _ in attrs)

    Names().feed(page)
    return found


def test_feed_text_is_escaped(hostile: QualityReport) -> None:
    page = html(hostile)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert not [name for name in attributes_of(page) if name.startswith("on")]
    assert "\x07" not in page
    assert "\u202e" not in page
    assert "{{ 7*7 }}" in page


def test_page_loads_no_external_resources(hostile: QualityReport) -> None:
    page = html(hostile)
    assert not re.search(r"<(link|img|iframe|object|embed|base)\b", page)
    assert not re.search(
        r"""(src|href|action)\s*=\s*["']?(?!#)""", page.replace('xlink:href="#', "").replace('href="#', "")
    )
    assert "@import" not in page
    assert "default-src 'none'" in page
