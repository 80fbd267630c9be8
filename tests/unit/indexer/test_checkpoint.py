"""A stopped rebuild resumes after its last finished phase, with the same result as an uninterrupted one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import shelfwise.indexer.checkpoint
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import SEAL_FILE
from shelfwise.retrieval.store.manifest import MANIFEST
from shelfwise.retrieval.text.analysis import Synonyms
from shelfwise.retrieval.updates.changes import Patch
from shelfwise.service.engine.engine import SearchEngine
from tests.catalogs import write_feed
from tests.progress import StoppedProgress
from tests.unit.indexer.conftest import Shop, damage, replaced

TITLES = ("cordless drill", "hammer drill", "garden hose", "frying pan", "running shoes", "wallet", "lamp", "jacket")
CATALOG = tuple(Product(f"p{place}", title, price=10.0 + place) for place, title in enumerate(TITLES))
BAD = '{"title": "no id"}\n'
RULE = "billfold => wallet\n"


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfwise.indexer.checkpoint, "MIN_SECONDS", 0.0)


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    path = write_feed(tmp_path / "feed.jsonl", CATALOG)
    path.write_text(path.read_text() + BAD)
    return path


def stop(shop: Shop, feed: Path, phase: str, **options: object) -> None:
    with pytest.raises(KeyboardInterrupt):
        shop.rebuild(feed, progress=StoppedProgress(0, of=phase), force=True, **options)


def resume(shop: Shop, feed: Path, **options: object) -> tuple[list[str], list[str]]:
    """The phases that were resumed, and the phases that ran."""
    progress = StoppedProgress()
    report = shop.rebuild(feed, progress=progress, force=True, **options)
    return report.resumed, [phase for phase in progress.phases if phase not in ("load encoder", "resume")]


def content(shop: Shop) -> dict[str, bytes]:
    """All files of the version except those with the build time."""
    dated = {MANIFEST, SEAL_FILE, "quality.json", "quality.html", "facts.json"}
    paths = (path for path in shop.folder.rglob("*") if path.is_file() and path.name not in dated)
    # Keyword segments and their files have random names.
    return {name: path.read_bytes() for path in paths if "keyword" not in (name := str(path.relative_to(shop.folder)))}


@pytest.mark.parametrize(
    ("phase", "resumed", "left"),
    [
        ("index", [], ["read", "index", "report", "encode", "types", "publish"]),
        ("report", [], ["read", "index", "report", "encode", "types", "publish"]),
        ("encode", ["index"], ["encode", "types", "publish"]),
        ("types", ["index", "encode", "vectors"], ["types", "publish"]),
        ("publish", ["index", "encode", "vectors", "types"], ["publish"]),
    ],
)
def test_finished_phases_are_reused(
    fresh: Shop, feed: Path, tmp_path: Path, phase: str, resumed: list[str], left: list[str]
) -> None:
    stop(fresh, feed, phase)
    assert resume(fresh, feed) == (resumed, left)
    whole = Shop(tmp_path / "whole", fresh.cache)
    whole.rebuild(feed, force=True)
    assert content(fresh) == content(whole)
    for name in ("rejected.jsonl", "quality.json"):
        assert (fresh.root / name).read_bytes() == (fresh.folder / name).read_bytes()
    ours, theirs = (shop.store.serving()[0] for shop in (fresh, whole))
    assert (ours.report, ours.catalog, ours.cutoff) == (theirs.report, theirs.catalog, theirs.cutoff)
    assert not fresh.store.staging.exists()


def test_refusal_is_repeated_without_force(fresh: Shop, feed: Path) -> None:
    stop(fresh, feed, "types")
    with pytest.raises(Exception, match=r"1 of 9 rows .* were rejected"):
        fresh.rebuild(feed)
    assert resume(fresh, feed)[0] == []


@pytest.mark.parametrize("changed", ["feed", "synonyms", "encoder", "mapping", "version"])
def test_other_feeds_and_settings_begin_anew(fresh: Shop, feed: Path, tmp_path: Path, changed: str) -> None:
    fresh.rebuild(write_feed(tmp_path / "other.jsonl", CATALOG[1:]))
    stop(fresh, feed, "publish")
    options: dict[str, object] = {}
    rules = tmp_path / "synonyms.txt"
    rules.write_text(RULE)
    if changed == "feed":
        write_feed(feed, replaced(CATALOG, 0, title="saw"))
    elif changed == "synonyms":
        options["synonyms"] = rules
    elif changed == "encoder":
        options["dimension"] = 64  # as in the tests of encoders, which share the export
    elif changed == "mapping":
        options["format"] = "jsonl"
    else:
        fresh.store.staging.rename(tmp_path / "staging")
        fresh.rebuild(tmp_path / "other.jsonl", synonyms=rules)
        (tmp_path / "staging").rename(fresh.store.staging)
    resumed, left = resume(fresh, feed, **options)
    assert (resumed, left[0]) == ([], "read")
    text = RULE if changed in ("synonyms", "version") else ""
    assert Synonyms.stored(fresh.folder / "synonyms.txt").text == text


def test_standard_input_and_old_checkpoints_are_of_no_use(
    fresh: Shop, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shelfwise.indexer.checkpoint.feeds_key([str(feed), "-"]) == ""
    stop(fresh, feed, "publish")
    monkeypatch.setattr(shelfwise.indexer.checkpoint, "LONGEST", timedelta(0))
    assert resume(fresh, feed)[0] == []


def test_short_rebuilds_store_no_checkpoint(fresh: Shop, feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfwise.indexer.checkpoint, "MIN_SECONDS", 60.0)
    stop(fresh, feed, "publish")
    assert resume(fresh, feed)[0] == []


@pytest.mark.parametrize(
    ("name", "resumed"),
    [
        ("products.jsonl", []),
        ("vectors/vectors.npy", ["index"]),
        ("types/titles.npy", ["index", "encode", "vectors"]),
        ("rows/keys.npy", []),
        ("checkpoint.json", []),
    ],
)
def test_damaged_files_are_made_again(fresh: Shop, feed: Path, name: str, resumed: list[str]) -> None:
    stop(fresh, feed, "publish")
    (building,) = (fresh.root / "versions").iterdir()
    path = building / name if (building / name).exists() else fresh.store.staging / name
    damage(path)
    progress = StoppedProgress()
    report = fresh.rebuild(feed, progress=progress, force=True)
    assert report.resumed == resumed
    if name != "checkpoint.json":
        assert any(f"{path.name} has another checksum" in each for each in progress.summaries)
    assert fresh.store.verify(report.version).products == 8


def test_files_of_an_unfinished_phase_are_not_published(fresh: Shop, feed: Path) -> None:
    stop(fresh, feed, "types")
    (building,) = (fresh.root / "versions").iterdir()
    (building / "types").mkdir()
    (building / "types" / "half").write_text("half a file")
    assert resume(fresh, feed)[0] == ["index", "encode", "vectors"]
    assert not (fresh.folder / "types" / "half").exists()


def test_live_changes_of_the_meantime_stay_live(fresh: Shop, feed: Path) -> None:
    fresh.rebuild(feed, force=True)
    write_feed(feed, replaced(CATALOG, 1, title="saw"))
    stop(fresh, feed, "publish")
    fresh.change(Patch("p0", {"price": 5.0}))
    assert resume(fresh, feed)[0] == ["index", "encode", "vectors", "types"]
    assert fresh.store.serving()[0].last_merged_change == 0
    assert fresh.products[0].price == 10.0
    with SearchEngine.open(fresh.root) as engine:
        assert engine.search("cordless drill").hits[0].product.price == 5.0
