"""Rows that are rejected: told with line and reason, kept as a feed, and products once they are repaired."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import msgspec
import pytest

from indexer.build import RebuildOptions, RebuildReport, rebuild
from indexer.feeds.reader import FeedNote, RejectedRow
from indexer.rejects import EXAMPLES, REJECTED_FILE, ReasonCounts, RejectLog, printable
from retrieval.errors import FeedError, PublishRefusedError
from retrieval.records import Product
from retrieval.store.products import ProductStore
from retrieval.store.versions import Store
from tests.conftest import ENCODER
from tests.unit.indexer.feeds.feed_outcome import FEEDS


def rejected(line: int, reason: str = "no title", row: object = None, file: str = "feed.csv") -> RejectedRow:
    return RejectedRow(file, line, reason, f"detail {line}", "csv", row)


class TestTheFile:
    def test_a_line_has_file_line_reason_detail_format_and_row(self, tmp_path: Path) -> None:
        with RejectLog(tmp_path / REJECTED_FILE) as reject_log:
            reject_log.reject([rejected(3, row={"id": "1", "title": ""})])
        assert msgspec.json.decode((tmp_path / REJECTED_FILE).read_bytes()) == {
            "file": "feed.csv",
            "line": 3,
            "reason": "no title",
            "detail": "detail 3",
            "format": "csv",
            "row": {"id": "1", "title": ""},
        }

    def test_every_row_is_there_and_counted_with_the_first_examples(self, tmp_path: Path) -> None:
        with RejectLog(tmp_path / REJECTED_FILE) as reject_log:
            reject_log.reject(rejected(line, "no id" if line % 3 else "no title") for line in range(1, 101))
            reject_log.flush()
            assert len((tmp_path / REJECTED_FILE).read_bytes().splitlines()) == 100
            counted = reject_log.reasons
        assert counted.counts == {"no id": 67, "no title": 33}
        assert [each.line for each in counted.examples["no title"]] == [3 * place for place in range(1, EXAMPLES + 1)]

    def test_a_run_without_a_bad_row_leaves_an_empty_file_where_an_older_run_left_rows(self, tmp_path: Path) -> None:
        for rows in ([rejected(1)], []):
            with RejectLog(tmp_path / REJECTED_FILE) as reject_log:
                reject_log.reject(rows)
        assert (tmp_path / REJECTED_FILE).read_bytes() == b""

    def test_the_file_there_before_stays_until_the_new_one_is_whole(self, tmp_path: Path) -> None:
        path = tmp_path / REJECTED_FILE
        path.write_text("repaired by hand")
        path.chmod(0o400)
        with RejectLog(path) as reject_log:
            reject_log.reject([rejected(1)])
            assert path.read_text() == "repaired by hand"
            reject_log.flush()
            reject_log.reject([rejected(2)])
        assert len(path.read_bytes().splitlines()) == 2
        assert [each.name for each in tmp_path.iterdir()] == [REJECTED_FILE]

    def test_after_an_error_the_file_there_before_is_there_still(self, tmp_path: Path) -> None:
        path = tmp_path / REJECTED_FILE
        path.write_text("repaired by hand")
        with pytest.raises(FeedError), RejectLog(path) as reject_log:
            reject_log.reject([rejected(1)])
            raise FeedError("another feed is missing")
        assert path.read_text() == "repaired by hand"
        assert [each.name for each in tmp_path.iterdir()] == [REJECTED_FILE]

    def test_a_link_stays_one_and_what_is_no_file_is_written_to_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "target")
        for path in (tmp_path / "link", Path("/dev/null")):
            with RejectLog(path) as reject_log:
                reject_log.reject([rejected(1)])
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes()
        assert Path("/dev/null").is_char_device()

    def test_a_file_name_that_is_not_utf_8_is_written_so_that_it_can_be_read(self, tmp_path: Path) -> None:
        name = b"f\xff.csv".decode("utf-8", "surrogateescape")
        with RejectLog(tmp_path / REJECTED_FILE) as reject_log:
            reject_log.reject([rejected(1, file=name)])
        assert msgspec.json.decode((tmp_path / REJECTED_FILE).read_bytes())["file"] == printable(name) == r"f\udcff.csv"


class TestNotes:
    def test_notes_of_parts_add_up_to_those_of_the_whole(self) -> None:
        noted = [FeedNote("f", line, ("price", "rating")[line % 2], "odd", str(line)) for line in range(50)]
        whole, merged = ReasonCounts(), ReasonCounts()
        for each in noted:
            whole.add_note(each)
        for start in range(0, 50, 7):
            part = ReasonCounts()
            for each in noted[start : start + 7]:
                part.add_note(each)
            merged.merge(part)
        assert merged == whole
        assert merged.counts == {"price: odd": 25, "rating: odd": 25}
        assert len(merged.examples["price: odd"]) == EXAMPLES


class TestRepairing:
    def rebuild(self, root: Path, cache: Path, *feeds: Path, force: bool = False) -> RebuildReport:
        options = RebuildOptions(
            tuple(map(str, feeds)), cache, encoder=ENCODER, runtime="onnx-int8", workers=1, force=force
        )
        return rebuild(root, options)

    def products(self, root: Path) -> dict[str, Product]:
        products = ProductStore(Store(root).version_folder(Store(root).current()))
        return {products[row].id: products[row] for row in range(len(products))}

    def test_a_repaired_row_gives_the_product_that_a_whole_feed_would_have_given(
        self, tmp_path: Path, cache: Path
    ) -> None:
        rows = [["1", "oak table", "129,00 €", "Torvald"], ["2", "lamp, brass", "12,50 €", "Lumo"]]
        broken, whole = tmp_path / "broken.csv", tmp_path / "whole.csv"
        for path, price in ((broken, "ask us"), (whole, rows[1][2])):
            with path.open("w", newline="") as file:
                made = [["id", "title", "price", "brand"], rows[0], [*rows[1][:2], price, rows[1][3]]]
                csv.writer(file).writerows(made)
        root = tmp_path / "index"
        first = self.rebuild(root, cache, broken, force=True)
        assert (first.products, first.rejected) == (1, {"broken price": 1})
        repaired = tmp_path / "repaired.jsonl"
        repaired.write_text((root / REJECTED_FILE).read_text().replace("ask us", "12,50 €"))
        second = self.rebuild(root, cache, broken, repaired, force=True)
        assert second.products == 2
        self.rebuild(tmp_path / "other", cache, whole)
        assert self.products(root) == self.products(tmp_path / "other")

    def test_the_rows_of_a_refused_publish_can_be_repaired_too(self, tmp_path: Path, cache: Path) -> None:
        path = tmp_path / "feed.jsonl"
        path.write_text('{"id": "1", "title": "drill"}\n{"id": "2"}\n')
        with pytest.raises(PublishRefusedError, match=r"1 of 2 rows \(50\.0%\) were rejected"):
            self.rebuild(tmp_path / "index", cache, path)
        row = msgspec.json.decode((tmp_path / "index" / REJECTED_FILE).read_bytes())
        row["row"]["title"] = "saw"
        repaired = tmp_path / "repaired.jsonl"
        repaired.write_bytes(msgspec.json.encode(row))
        self.rebuild(tmp_path / "index", cache, path, repaired, force=True)
        assert {each.title for each in self.products(tmp_path / "index").values()} == {"drill", "saw"}

    def test_a_row_whose_id_was_there_before_comes_back_under_another_id(self, tmp_path: Path, cache: Path) -> None:
        path = tmp_path / "feed.jsonl"
        path.write_text('{"id": "1", "title": "drill", "price": 5}\n{"id": "1", "title": "saw", "colour": "red"}\n')
        self.rebuild(tmp_path / "index", cache, path, force=True)
        repaired = tmp_path / "repaired.jsonl"
        repaired.write_text((tmp_path / "index" / REJECTED_FILE).read_text().replace('"id":"1"', '"id":"2"'))
        self.rebuild(tmp_path / "index", cache, path, repaired, force=True)
        made = self.products(tmp_path / "index")
        assert (made["1"].title, made["2"].title, made["2"].attributes) == ("drill", "saw", {"colour": "red"})

    def test_the_file_itself_may_be_the_feed_of_the_next_rebuild(self, tmp_path: Path, cache: Path) -> None:
        """It is written while it is read: what was rejected must not get lost."""
        root, path = tmp_path / "index", tmp_path / "feed.jsonl"
        path.write_text('{"id": "1", "title": "drill"}\n{"id": "2"}\n')
        self.rebuild(root, cache, path, force=True)
        before = (root / REJECTED_FILE).read_bytes()
        report = self.rebuild(root, cache, path, root / REJECTED_FILE, force=True)
        assert (report.products, report.rejected) == (1, {"no title": 2})
        assert before.count(b"\n") == 1


@pytest.mark.parametrize("name", ["shopify.csv", "google-rss.xml", "products.json"])
def test_rows_of_any_format_come_back_from_a_rebuilds_own_file(tmp_path: Path, cache: Path, name: str) -> None:
    options = RebuildOptions((str(FEEDS / name),), cache, encoder=ENCODER, runtime="onnx-int8", workers=1, force=True)
    first = rebuild(tmp_path / "index", options)
    reject_log = tmp_path / "rejected.jsonl"
    reject_log.write_bytes((tmp_path / "index" / REJECTED_FILE).read_bytes())
    second = rebuild(tmp_path / "index", dataclasses.replace(options, feeds=(*options.feeds, str(reject_log))))
    # What nobody repaired is rejected again, for the same reasons, and nothing else is lost or new.
    assert first.rejected
    assert sum(second.rejected.values()) == 2 * sum(first.rejected.values())
    assert (second.products, second.published) == (first.products, False)
