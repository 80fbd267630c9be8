"""The studies that stay: soak and planted defects."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shelfwise.benchmarks.studies.defects import DEFECT_KINDS, NOW, DefectFeed, defects, planted
from shelfwise.benchmarks.studies.soak import SLICES, Ledger, Rates, show_soak, soak, write_edition
from shelfwise.indexer.build import RebuildOptions
from shelfwise.indexer.pipeline import FeedOptions, check_feeds
from shelfwise.indexer.quality.report import QualityReport
from shelfwise.service.demo.catalog import make_catalog
from tests.conftest import ENCODER


def page(version: str, *editions: int) -> dict[str, object]:
    hits = [{"product": {"images": [f"https://example.com/edition-{edition}"]}} for edition in editions]
    return {"version": version, "hits": [*hits, {"product": {}}]}


@pytest.mark.slow
def test_all_kinds_of_requests_during_a_version_change(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": f"p{number}", "title": f"cordless drill {number}", "price": 5.0} for number in range(60)]
    seconds: list[int] = []
    report = soak(
        rows,
        tmp_path,
        lambda path: RebuildOptions((str(path),), cache, encoder=ENCODER),
        ["cordless drill", "drill 7"],
        minutes=0.1,
        swap_minutes=0.05,
        rates=Rates(changes=10.0),
        advance=seconds.append,
    )
    assert report.is_sound
    assert len(report.slices) == SLICES
    assert report.slices[-1].p50 <= report.slices[-1].p99
    assert report.swaps
    assert report.changes
    assert report.events
    assert seconds
    show_soak(report)
    assert "0 changes were lost; 0 events were lost" in capsys.readouterr().out


def test_page_with_products_of_another_edition_is_mixed() -> None:
    ledger = Ledger()
    for each in (page("v1", 1, 1), page("v1", 1), page("v2", 2), page("v2")):
        ledger.look_at_page(each)
    assert ledger.mixed == 0
    for number, each in enumerate((page("v2", 1), page("v3", 2, 3)), 1):
        ledger.look_at_page(each)
        assert ledger.mixed == number


@pytest.mark.parametrize(
    ("price", "status", "shown", "is_stale"),
    [
        (5.0, 200, 5.0, False),
        (5.0, 200, 4.0, True),
        (5.0, 404, None, True),
        (None, 404, None, False),
        (None, 200, 5.0, True),
        (5.0, 503, None, False),
    ],
)
def test_product_without_acknowledged_change_is_stale(
    price: float | None, status: int, shown: float | None, is_stale: bool
) -> None:
    ledger = Ledger()
    ledger.take_change("p", price)
    read = msgspec.json.encode({"product": {"price": shown}})
    ledger.look_at_product("p", status, read)
    assert ledger.stale == is_stale
    ledger.unsure.add("p")
    ledger.look_at_product("p", status, read)
    assert ledger.stale == is_stale


def test_an_edition_of_a_feed_marks_every_row(tmp_path: Path) -> None:
    written = write_edition(tmp_path, [{"id": "a", "images": ["own"]}, {"id": "b"}], 3).read_bytes().splitlines()
    assert [msgspec.json.decode(line)["images"] for line in written] == [["https://example.com/edition-3"]] * 2


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
