"""The intake: the same products and report, whatever the workers and the batches."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import shelfwise.indexer.external_sort
import shelfwise.indexer.pipeline
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.pipeline import FeedOptions, FeedPipeline, check_feeds
from shelfwise.indexer.quality.report import QualityReport
from shelfwise.indexer.rejects import RejectLog
from shelfwise.indexer.workers import Workers
from shelfwise.retrieval.errors import EmptyCatalogError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import QUALITY_FILE
from shelfwise.retrieval.store.products import ProductWriter, product_from_json, product_to_json
from tests.conftest import ENCODER
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
            for product_id, line in zip(settled.ids, settled.lines, strict=True):
                writer.add(product_id, line)
            lines += settled.lines
        writer.finish()
        report = intake.report([product_from_json(line) for line in lines].__getitem__)
        reject_log.flush()
        return IntakeRun(lines, reject_log.path.read_bytes(), report, intake.published_fields(found), intake.rows)


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


def test_first_of_equal_ids_is_kept_across_feeds(tmp_path: Path) -> None:
    made = [Product("1", "from the first"), Product("1", "from the second")]
    paths = [tmp_path / "b.jsonl", tmp_path / "a.jsonl"]
    for path, product in zip(paths, made, strict=True):
        path.write_bytes(product_to_json(product))
    taken = take_in(paths, tmp_path / "work")
    assert [product_from_json(line).title for line in taken.products] == ["from the first"]
    (row,) = map(msgspec.json.decode, taken.rejected.splitlines())
    assert (row["file"], row["line"], row["reason"], row["detail"]) == (str(paths[1]), 1, "duplicate id", "'1'")


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
