"""Rows of a feed on their way to a version, and those that are rejected."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import shelfwise.indexer.external_sort
import shelfwise.indexer.pipeline
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.feeds.base import RejectedRow
from shelfwise.indexer.pipeline import FeedOptions, FeedPipeline, check_feeds
from shelfwise.indexer.quality.report import QualityReport
from shelfwise.indexer.rejects import EXAMPLES, REJECTED_FILE, RejectExample, RejectLog, mask_text, remove_unfinished
from shelfwise.indexer.workers import Workers
from shelfwise.retrieval.errors import EmptyCatalogError, FeedError, StoreError
from shelfwise.retrieval.events.privacy import Masker
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import QUALITY_FILE
from shelfwise.retrieval.store.products import ProductWriter, product_from_json, product_to_json
from tests.conftest import ENCODER
from tests.unit.indexer.conftest import Shop
from tests.unit.indexer.feeds.feed_outcome import FEEDS

NOW = datetime(2025, 6, 1, tzinfo=UTC)
BRANDS = ("Bosch", "BOSCH", "Bosch GmbH", "Makita", "", "N/A")
PATHS = ((), ("Tools", "Drills"), ("tools", "drills"), ("Garden",))
BROKEN = (b"{", b'{"id": "x"}', b'{"title": "no id"}', b'{"id": "y", "title": "a", "price": "call us"}')


def write_catalog(path: Path, rows: int, seed: int) -> None:
    draw = random.Random(seed)
    lines = []
    for row in range(rows):
        product = Product(
            f"p{draw.randrange(rows)}" if draw.random() < 0.1 else f"p{row}",
            draw.choice(("cordless drill", "garden hose 20 m", "oak table", "无线电钻")) + f" {draw.randrange(rows)}",
            draw.choice(("", "A good thing for home and garden, with a case of steel.")),
            brand=draw.choice(BRANDS),
            category=draw.choice(PATHS),
            price=draw.choice((9.99, 10.0, 12.5, 0.0, 100_000.0)),
            currency="EUR",
            rating=draw.choice((4.0, 9.0)),
            attributes={"weight": draw.choice(("1,5 kg", "heavy")), f"a{draw.randrange(5)}": draw.random() < 0.5},
        )
        lines.append(product_to_json(product))
        if draw.random() < 0.05:
            lines.append(draw.choice(BROKEN))
    path.write_bytes(b"\n".join(lines))


@dataclass(frozen=True)
class IntakeRun:
    products: list[bytes]
    rejected: bytes
    report: QualityReport
    fields: FieldCatalog
    rows: int


def take_in(feeds: list[Path], folder: Path, workers: int = 1) -> IntakeRun:
    folder.mkdir()
    options = FeedOptions(tuple(map(str, feeds)))
    with Workers(workers) as pool, RejectLog(folder / "rejected.jsonl") as reject_log:
        intake = FeedPipeline(options, folder, reject_log, pool, NullProgress(), NOW)
        intake.read()
        found = intake.possible_fields()
        writer = ProductWriter(folder)
        lines = []
        for settled in intake.publishable_batches():
            for each in settled.products:
                writer.add(each.id, each.line)
                lines.append(each.line)
        writer.finish()
        report = intake.report([product_from_json(line) for line in lines].__getitem__)
        reject_log.flush()
        fields = FieldCatalog(intake.counts.fields.catalog(found).fields, found.category_roots)
        return IntakeRun(lines, reject_log.path.read_bytes(), report, fields, intake.rows)


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("feeds")
    paths = [folder / "a.jsonl", folder / "b.jsonl"]
    for seed, path in enumerate(paths):
        write_catalog(path, 400, seed)
    return paths


@pytest.fixture(scope="module")
def usual(feeds: list[Path], tmp_path_factory: pytest.TempPathFactory) -> IntakeRun:
    return take_in(feeds, tmp_path_factory.mktemp("usual") / "work")


def test_every_row_is_a_product_or_rejected_and_counted(usual: IntakeRun) -> None:
    rejected_rows = usual.rejected.splitlines()
    assert usual.rows == len(usual.products) + len(rejected_rows)
    assert usual.report.read == usual.rows
    assert usual.report.products == len(usual.products)
    assert sum(each.count for each in usual.report.rejected.values()) == len(rejected_rows)
    assert "rating: outside 0 to 5" in usual.report.noted
    assert {"duplicate id", "not JSON", "no id", "no title", "broken price"} == set(usual.report.rejected)
    ids = [product_from_json(line).id.encode() for line in usual.products]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    ("rows", "products", "run_bytes", "workers"),
    [(3, 29, 900, 1), (97, 64, 20_000, 1), (5_000, 9_999, 1 << 30, 1), (100, 200, 1 << 30, 3)],
)
def test_batch_size_and_workers_do_not_change_the_result(
    feeds: list[Path],
    usual: IntakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    products: int,
    run_bytes: int,
    workers: int,
) -> None:
    monkeypatch.setattr(shelfwise.indexer.pipeline, "ROWS", rows)
    monkeypatch.setattr(shelfwise.indexer.pipeline, "PRODUCTS", products)
    monkeypatch.setattr(
        shelfwise.indexer.external_sort.ExternalSorter.__init__, "__kwdefaults__", {"run_bytes": run_bytes}
    )
    assert take_in(feeds, tmp_path / "work", workers) == usual


CHECKED = datetime(2024, 6, 15, tzinfo=UTC)


def feed(folder: Path, *lines: str) -> FeedOptions:
    path = folder / "feed.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return FeedOptions((str(path),))


@pytest.mark.parametrize("name", ["products.jsonl", "woocommerce.csv"])
def test_check_reports_the_same_as_rebuild(tmp_path: Path, cache: Path, name: str) -> None:
    path, root = str(FEEDS / name), tmp_path / "index"
    rebuild(root, RebuildOptions((path,), cache, encoder=ENCODER, runtime="onnx-int8", workers=1, force=True))
    built = msgspec.json.decode((root / QUALITY_FILE).read_bytes(), type=QualityReport)
    checked = check_feeds(FeedOptions((path,)), now=built.created)
    assert msgspec.json.decode(checked.to_json(), type=QualityReport) == built


def test_a_feed_without_usable_rows_has_a_report_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = check_feeds(feed(tmp_path, "{", '{"id": "1"}'), now=CHECKED)
    assert (report.read, report.products, sum(each.count for each in report.rejected.values())) == (2, 0, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["feed.jsonl"]
    with pytest.raises(EmptyCatalogError, match=r"feed\.jsonl: no rows in it"):
        check_feeds(feed(tmp_path), now=CHECKED)


def rejected(line: int, reason: str = "no title", row: object = None, file: str = "feed.csv") -> RejectedRow:
    return RejectedRow(file, line, reason, f"detail {line}", "csv", row)


class TestFile:
    def test_a_line_has_file_line_reason_detail_format_and_row(self, tmp_path: Path) -> None:
        name = b"f\xff.csv".decode("utf-8", "surrogateescape")
        with RejectLog(tmp_path / REJECTED_FILE) as reject_log:
            reject_log.reject([rejected(3, row={"id": "1", "title": ""}, file=name)])
        result = {"file": r"f\udcff.csv", "line": 3, "reason": "no title", "detail": "detail 3", "format": "csv"}
        line = (tmp_path / REJECTED_FILE).read_bytes()
        assert msgspec.json.decode(line) == {**result, "row": {"id": "1", "title": ""}}

    def test_every_row_is_written_and_counted_with_examples(self, tmp_path: Path) -> None:
        with RejectLog(tmp_path / REJECTED_FILE) as reject_log:
            reject_log.reject(rejected(line, "no id" if line % 3 else "no title") for line in range(1, 101))
            reject_log.flush()
            assert len((tmp_path / REJECTED_FILE).read_bytes().splitlines()) == 100
            counted = reject_log.reasons
        assert counted.counts == {"no id": 67, "no title": 33}
        assert [each.line for each in counted.examples["no title"]] == [3 * place for place in range(1, EXAMPLES + 1)]

    def test_old_file_is_kept_until_the_new_one_is_complete(self, tmp_path: Path) -> None:
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

    def test_old_file_is_kept_after_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / REJECTED_FILE
        path.write_text("repaired by hand")
        with pytest.raises(FeedError), RejectLog(path) as reject_log:
            reject_log.reject([rejected(1)])
            raise FeedError("another feed is missing")
        assert path.read_text() == "repaired by hand"
        assert [each.name for each in tmp_path.iterdir()] == [REJECTED_FILE]

    def test_symlink_is_kept_and_device_is_written_directly(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "target")
        for path in (tmp_path / "link", Path("/dev/null")):
            with RejectLog(path) as reject_log:
                reject_log.reject([rejected(1)])
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes()
        assert Path("/dev/null").is_char_device()


class TestRepairing:
    def test_duplicate_row_can_be_repaired_with_another_id(self, tmp_path: Path, fresh: Shop) -> None:
        path, repaired = tmp_path / "feed.jsonl", tmp_path / "repaired.jsonl"
        path.write_text('{"id": "1", "title": "drill", "price": 5}\n{"id": "1", "title": "saw", "colour": "red"}\n')
        fresh.rebuild(path, force=True)
        repaired.write_text((fresh.root / REJECTED_FILE).read_text().replace('"id":"1"', '"id":"2"'))
        fresh.rebuild(path, repaired, force=True)
        drill, saw = fresh.products
        assert (drill.title, saw.title, saw.attributes) == ("drill", "saw", {"colour": "red"})


KILLED = """
import os, signal, sys
from pathlib import Path
from shelfwise.indexer.rejects import RejectExample, RejectLog
log = RejectLog(Path(sys.argv[1]) / "rejected" / "a.jsonl", is_partial=True)
log.write("bad time", RejectExample("log", 1, ""), {"line": 1})
os.kill(os.getpid(), signal.SIGKILL)
"""


def open_rejects(folder: Path) -> RejectLog:
    return RejectLog(folder / "rejected" / "a.jsonl", is_partial=True)


def add(log: RejectLog, line: int) -> None:
    log.write("bad time", RejectExample("log", line, "'soon'"), {"line": line})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "rejected").iterdir())


def line_of(folder: Path) -> int:
    line: int = json.loads((folder / "rejected" / "a.jsonl").read_bytes())["line"]
    return line


def test_failed_import_keeps_rejected_rows_and_no_empty_file(tmp_path: Path) -> None:
    with open_rejects(tmp_path):
        pass
    with pytest.raises(FeedError), open_rejects(tmp_path):
        raise FeedError("log: breaks off")
    assert names(tmp_path) == []
    with pytest.raises(FeedError), open_rejects(tmp_path) as log:
        add(log, 7)
        raise FeedError("log: breaks off")
    assert line_of(tmp_path) == 7


def test_a_killed_import_leaves_no_rows(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[4], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert names(tmp_path) == []


def test_only_unfinished_files_are_removed(tmp_path: Path) -> None:
    with open_rejects(tmp_path) as log:
        add(log, 1)
        (tmp_path / "rejected" / ".earlier.jsonl.new").touch()
        remove_unfinished(tmp_path / "rejected")
        add(log, 2)
    assert names(tmp_path) == ["a.jsonl"]
    assert len((tmp_path / "rejected" / "a.jsonl").read_bytes().splitlines()) == 2
    remove_unfinished(tmp_path / "never made")
    assert not (tmp_path / "never made").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_unremovable_file_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "rejected"
    folder.mkdir()
    (folder / ".a.jsonl.new").touch()
    folder.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        remove_unfinished(folder)
    folder.chmod(0o700)


@pytest.mark.parametrize("blanks", range(970, 1_001, 3))
def test_truncation_leaves_no_partial_address(blanks: int) -> None:
    text = "x" * 20 + " " * blanks + "john.doe@example.com" + " y" * 100
    assert "john" not in mask_text(text, Masker(), 10_000)


def test_a_text_is_masked_before_it_is_cut() -> None:
    assert mask_text("x" * 50 + " john.doe@example.com", Masker(), 60) == "x" * 50 + " [email]"
    assert mask_text("x" * 61, Masker(), 60) == "x" * 60 + "..."
    assert mask_text("x" * 900_000, Masker(), 60) == "x" * 60 + "..."
