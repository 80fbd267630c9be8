"""Checking a feed: the report of a rebuild without one, whatever the feed, and nothing is changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from indexer.build import RebuildOptions, rebuild
from indexer.pipeline import FeedOptions, check_feeds
from indexer.quality.report import QualityReport
from retrieval.errors import EmptyCatalogError, FeedError
from retrieval.store.manifest import QUALITY_FILE
from tests.conftest import ENCODER
from tests.unit.indexer.feeds.feed_outcome import FEEDS

NOW = datetime(2024, 6, 15, tzinfo=UTC)


def feed(folder: Path, *lines: str) -> FeedOptions:
    path = folder / "feed.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return FeedOptions((str(path),))


@pytest.mark.parametrize("name", ["products.jsonl", "woocommerce.csv"])
def test_it_reports_what_a_rebuild_reports(tmp_path: Path, cache: Path, name: str) -> None:
    path, root = str(FEEDS / name), tmp_path / "index"
    rebuild(root, RebuildOptions((path,), cache, encoder=ENCODER, runtime="onnx-int8", workers=1, force=True))
    built = msgspec.json.decode((root / QUALITY_FILE).read_bytes(), type=QualityReport)
    checked = check_feeds(FeedOptions((path,)), now=built.created)
    assert msgspec.json.decode(checked.to_json(), type=QualityReport) == built


def test_rejected_rows_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    options = feed(tmp_path, '{"id": "1", "title": "drill"}', "{", '{"id": "2"}', '{"id": "1", "title": "saw"}')
    report = check_feeds(options, tmp_path / "rejected.jsonl", now=NOW)
    rows = [msgspec.json.decode(line) for line in (tmp_path / "rejected.jsonl").read_bytes().splitlines()]
    assert [(row["line"], row["reason"]) for row in rows] == [(2, "not JSON"), (3, "no title"), (4, "duplicate id")]
    assert {reason: each.count for reason, each in report.rejected.items()} == {row["reason"]: 1 for row in rows}
    assert (report.read, report.products) == (4, 1)


def test_the_rejected_rows_of_one_run_may_be_the_feed_of_the_next_and_its_file(tmp_path: Path) -> None:
    rows = tmp_path / "rejected.jsonl"
    check_feeds(feed(tmp_path, '{"id": "2"}', '{"id": "1", "title": "drill"}'), rows, now=NOW)
    rows.write_text(rows.read_text().replace('"id":"2"', '"id":"2","title":"saw"'))
    report = check_feeds(FeedOptions((str(rows),)), rows, now=NOW)
    assert (report.read, report.products, rows.read_bytes()) == (1, 1, b"")


def test_a_feed_without_usable_rows_has_a_report_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = check_feeds(feed(tmp_path, "{", '{"id": "1"}'), now=NOW)
    assert (report.read, report.products, sum(each.count for each in report.rejected.values())) == (2, 0, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["feed.jsonl"]
    with pytest.raises(EmptyCatalogError, match=r"feed\.jsonl: no rows in it"):
        check_feeds(feed(tmp_path), now=NOW)


def test_a_feed_that_is_missing_is_told_before_another_is_read(tmp_path: Path) -> None:
    options = feed(tmp_path, '{"id": "1", "title": "drill"}')
    rows = tmp_path / "rejected.jsonl"
    rows.write_text("repaired by hand")
    with pytest.raises(FeedError, match=r"nowhere\.csv: cannot be read"):
        check_feeds(FeedOptions((*options.feeds, str(tmp_path / "nowhere.csv"))), rows, now=NOW)
    assert rows.read_text() == "repaired by hand"
