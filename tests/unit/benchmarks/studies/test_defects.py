"""The checker reports every planted kind of defect at its rows, and nothing in the clean half."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shelfwise.benchmarks.studies.defects import DEFECT_KINDS, NOW, DefectFeed, defects, planted, score
from shelfwise.indexer.pipeline import FeedOptions, check_feeds
from shelfwise.indexer.quality.report import QualityReport
from shelfwise.service.demo.catalog import make_catalog


@pytest.fixture(scope="module")
def feed() -> DefectFeed:
    return planted([item.product for item in make_catalog(7, 1_000).products], 7)


@pytest.fixture(scope="module")
def report(feed: DefectFeed, tmp_path_factory: pytest.TempPathFactory) -> QualityReport:
    path = tmp_path_factory.mktemp("defects") / "feed.jsonl"
    path.write_bytes(b"\n".join(feed.lines))
    return check_feeds(FeedOptions((str(path),)), now=NOW)


def test_every_kind_is_found_without_false_findings(tmp_path: Path) -> None:
    result = defects(tmp_path, seed=7, products=1_000)
    assert (result.missed, result.false_findings) == ((), ())
    assert result.found == result.kinds == len(DEFECT_KINDS) >= 30


def test_missed_kind_is_reported(report: QualityReport, feed: DefectFeed) -> None:
    blind = tuple(finding for finding in report.findings if finding.rule != "price_zero")
    assert score(msgspec.structs.replace(report, findings=blind), feed).missed == ("price_zero",)


def test_a_finding_in_the_clean_half_is_false(report: QualityReport, feed: DefectFeed) -> None:
    last = report.findings[0]
    elsewhere = msgspec.structs.replace(last.examples[0], line=feed.clean_from)
    wrong = msgspec.structs.replace(last, examples=(*last.examples, elsewhere), count=last.count + 1)
    changed = msgspec.structs.replace(report, findings=(wrong, *report.findings[1:]))
    assert score(changed, feed).false_findings == (f"{last.rule}: 3 rows, line {feed.clean_from}",)
