"""The quality report in a terminal of 80 columns."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from shelfwise.indexer.quality.findings import DuplicateFindings, Example, Failures, Findings
from shelfwise.indexer.quality.report import FeedSummary, QualityReport, ReasonCount, make_report
from shelfwise.indexer.quality.rules import built_in_rules
from shelfwise.service.cli import output
from shelfwise.service.cli.rebuild import show_quality

NOW = datetime(2025, 1, 6, tzinfo=UTC)


def shown(report: QualityReport, width: int = 80) -> list[str]:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "out", Console(file=file, width=width))
        show_quality(report)
    return file.getvalue().splitlines()


def report_with(failures: dict[str, Failures], products: int = 1_000) -> QualityReport:
    intake = FeedSummary(
        NOW,
        ("f.jsonl",),
        products,
        {"no id": ReasonCount(1_234)},
        {"rating: outside 0 to 5": ReasonCount(2)},
        {"markup": 3},
    )
    return make_report(intake, Findings(products, failures), DuplicateFindings(), built_in_rules())


def test_findings_are_grouped_by_measure_with_an_example() -> None:
    example = Example("p1", "A very [red]long[/] title " * 9, "feeds/shop.jsonl", 42, "")
    failures = {rule.name: Failures(7, [example]) for rule in built_in_rules()}
    lines = shown(report_with(failures))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert all(measure in text for measure in ("completeness", "consistency", "accuracy", "timeliness"))
    assert text.count("shop.jsonl:42 p1: A very [red]long[/]") == len(failures)
    severities = [line.split()[0] for line in lines if line.startswith(("error ", "warning ", "info "))]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert "rejected: 1,234 rows: no id" in text
    assert "dropped: rating: outside 0 to 5 2" in text
    assert "cleaned: markup 3" in text


def test_control_characters_of_a_feed_do_not_reach_the_terminal() -> None:
    example = Example("p\x1b[2J", "t\x07", "f\x1b.jsonl", 1, "")
    text = "\n".join(shown(report_with({"no_price": Failures(1, [example])})))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_clean_catalog_is_reported_and_fully_rejected_feed_is_not_clean() -> None:
    clean = "No rule found a problem."
    assert clean in shown(report_with({}))
    lines = shown(report_with({}, products=0))
    assert "There is no product to check." in lines
    assert clean not in lines
