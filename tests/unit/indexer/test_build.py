"""Rebuilds with a real encoder on small catalogs: published versions, reused results, and errors that stop them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

import shelfwise.indexer.build
import shelfwise.indexer.embedding
from shelfwise.indexer.embedding_cache import key_array, text_key
from shelfwise.indexer.feeds.base import RejectedRow
from shelfwise.indexer.rejects import REJECTED_FILE
from shelfwise.indexer.targets import check_publish
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.registry import load_encoder, open_encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL
from shelfwise.retrieval.errors import (
    EmptyCatalogError,
    EncoderUnavailableError,
    FeedError,
    PublishRefusedError,
    StoreError,
    StoreLockedError,
    StoreMissingError,
)
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import SEAL_FILE, read_seal
from shelfwise.retrieval.store.manifest import CURRENT, TEXT_KEYS_FILE
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.service.engine.engine import SearchEngine
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.unit.indexer.conftest import Shop, damage, replaced

_TITLE_LIST = (
    "cordless drill 18 V|hammer drill|garden hose 20 m|steel frying pan|running shoes for men|leather wallet|"
    "desk lamp with a clamp|wireless headphones|paper shredder|camping tent for four|rain jacket|toy train of wood"
)
TITLES = _TITLE_LIST.split("|")
CATALOG = tuple(Product(f"p{place:02d}", title, price=10.0 + place) for place, title in enumerate(TITLES))


class TestFirstBuild:
    def test_rows_are_ordered_by_id_in_any_feed_order(self, fresh: Shop) -> None:
        ids = ["é", "a9", "Z", "中", "a10"]
        made = [Product(each, title, language="en") for each, title in zip(ids, TITLES, strict=False)]
        fresh.rebuild(made)
        ordered = sorted(made, key=lambda product: product.id.encode())
        assert fresh.products == ordered
        texts = [encoder_text(product) for product in ordered]
        encoder = load_encoder(fresh.store.encoders / fresh.store.serving()[0].encoder)
        assert np.array_equal(fresh.vectors, encoder.encode_products(texts))
        keys = np.load(fresh.folder / TEXT_KEYS_FILE)
        assert np.array_equal(keys, key_array([text_key(text) for text in texts]))


class TestRebuilding:
    def test_without_changes_nothing_is_published(self, built: Shop) -> None:
        report = built.rebuild(CATALOG[::-1])
        assert (report.version, report.published, report.encoded, report.reused) == ("v000001", False, 0, 12)
        assert built.store.versions() == ["v000001"]
        assert not built.store.staging.exists()

    def test_changed_synonyms_reuse_all_vectors(self, built: Shop, tmp_path: Path) -> None:
        rules = tmp_path / "synonyms.txt"
        rules.write_text("billfold => wallet\n")
        report = built.rebuild(CATALOG, synonyms=rules)
        assert (report.version, report.published, report.encoded, report.reused) == ("v000002", True, 0, 12)
        with SearchEngine.open(built.root) as engine:
            assert engine.search("billfold", stage="bm25").hits[0].product.title == "leather wallet"
        rules.write_text("# a remark changes nothing\nbillfold  =>  wallet\n")
        assert not built.rebuild(CATALOG, synonyms=rules).published
        assert not built.rebuild(CATALOG).published
        rules.write_text("")
        assert built.rebuild(CATALOG, synonyms=rules).version == "v000003"


class TestBadInput:
    def feed(self, folder: Path, *lines: str) -> Path:
        path = folder / "feed.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def test_rejected_rows_are_counted_by_reason_and_stored(self, fresh: Shop, tmp_path: Path) -> None:
        good = '{"id": "1", "title": "hammer drill"}'
        bad = ('{"title": "no id"}', '{"id": "2"}', "{", '{"id": "3"}', good, '{"id": "4", "title": "a", "price": -1}')
        feed = self.feed(tmp_path, good, *bad)
        report = fresh.rebuild(feed, force=True)
        assert (report.products, report.read) == (1, 7)
        assert sum(report.rejected.values()) == 6
        assert {report.rejected[reason] for reason in ("duplicate id", "broken price", "not JSON")} == {1}
        lines = (fresh.folder / REJECTED_FILE).read_bytes().splitlines()
        rows = [msgspec.json.decode(line, type=RejectedRow) for line in lines]
        # Duplicate ids are known only after all rows are sorted.
        assert [(row.file, row.line) for row in rows] == [(str(feed), line) for line in (2, 3, 4, 5, 7, 6)]
        assert {row.reason for row in rows} == set(report.rejected)
        manifest = fresh.store.serving()[0]
        assert (manifest.report["read"], manifest.report["rejected"]) == (7, report.rejected)
        assert REJECTED_FILE in read_seal(fresh.folder)

    def test_feed_without_usable_rows_publishes_nothing(self, built: Shop, tmp_path: Path) -> None:
        feed = self.feed(tmp_path, '{"id": "1"}', '{"id": "2"}', "{")
        message = r"no row can be used \(.* \(2\), not JSON \(1\)\); nothing"
        with pytest.raises(EmptyCatalogError, match=message) as raised:
            built.rebuild(feed)
        path = Path(str(raised.value).rpartition(" ")[2])
        assert len(path.read_bytes().splitlines()) == 3
        with pytest.raises(FeedError, match=r"nowhere\.jsonl: cannot be read"):
            built.rebuild(tmp_path / "nowhere.jsonl")
        assert (built.store.versions(), built.store.serving()[0].version) == (["v000001"], "v000001")

    def test_empty_feed_is_refused(self, fresh: Shop, tmp_path: Path) -> None:
        with pytest.raises(EmptyCatalogError, match=r"feed\.jsonl: no rows in it; nothing was published"):
            fresh.rebuild(self.feed(tmp_path, "", "  "))
        with pytest.raises(StoreMissingError, match="no published version yet"):
            fresh.store.serving()

    def test_unwritable_folder_is_named_and_the_old_version_serves(self, built: Shop) -> None:
        built.store.staging.write_text("no folder")
        with pytest.raises(StoreError, match=r"built cannot be rebuilt .*staging.*nothing was published"):
            built.rebuild(CATALOG)
        assert built.store.serving()[0].version == "v000001"

    def test_concurrent_rebuild_is_refused(self, built: Shop) -> None:
        with built.store.lock(), pytest.raises(StoreLockedError):
            built.rebuild(CATALOG)


class TestRepair:
    def test_unchanged_catalog_is_published_again_after_damage(self, built: Shop) -> None:
        built.rebuild(replaced(CATALOG, 0, title="saw"))
        damage(built.store.version_folder("v000002") / "products.jsonl")
        assert built.store.serving()[1]
        report = built.rebuild(CATALOG)
        assert (report.version, report.published, report.encoded) == ("v000003", True, 0)
        assert built.store.serving()[1] == ()

    def test_unchanged_catalog_gets_the_vector_index_that_suits_it(
        self, built: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shelfwise.retrieval.index.faiss.EXACT_BELOW", len(CATALOG) - 1)
        report = built.rebuild(CATALOG)
        assert (report.published, report.encoded, report.index) == (True, 0, "quantised")
        assert report.index_reason.endswith("; it was exact before")
        assert not built.rebuild(CATALOG).published

    def test_damaged_versions_are_removed(self, built: Shop) -> None:
        for row in (0, 1):
            built.rebuild(replaced(CATALOG, row, title="saw"))
        for name in ("v000002", "v000003"):
            damage(built.store.version_folder(name) / "products.jsonl")
        built.rebuild(CATALOG[1:])
        assert built.store.versions() == ["v000001", "v000004"]

    @pytest.mark.parametrize("name", ["quality.json", "quality.html", "rejected.jsonl"])
    def test_unreadable_quality_report_is_rebuilt(self, built: Shop, name: str) -> None:
        path = built.root / name
        path.unlink()
        path.symlink_to(name)
        built.rebuild(CATALOG[1:])
        assert path.is_file()
        assert not path.is_symlink()

    def test_damaged_pointer_is_repaired(self, built: Shop) -> None:
        (built.root / CURRENT).write_text("garbage")
        assert built.rebuild(CATALOG).published
        assert (built.store.current(), built.store.serving()[1]) == ("v000002", ())

    @pytest.mark.parametrize(("name", "is_removed"), [("model.onnx", False), ("encoder.json", True), (SEAL_FILE, True)])
    def test_damaged_encoder_is_stored_again(self, built: Shop, first: Shop, name: str, is_removed: bool) -> None:
        path = next(built.store.encoders.iterdir()) / name
        if is_removed:
            path.unlink()
        else:
            damage(path)
        assert built.rebuild(CATALOG).published
        assert path.read_bytes() == (next(first.store.encoders.iterdir()) / name).read_bytes()
        with SearchEngine.open(built.root) as engine:
            assert engine.search("frying pan", stage="dense").hits[0].product.title == "steel frying pan"


class TestEncoderChoice:
    @pytest.mark.parametrize(
        ("chinese", "asked", "chosen"),
        [
            (0, "", DEFAULT_MODEL),
            (1, "", DEFAULT_MODEL),
            (2, "", DEFAULT_CHINESE_MODEL),
            (200, "", DEFAULT_CHINESE_MODEL),
            (200, ENCODER, ENCODER),
            (0, "a/model", "a/model"),
        ],
    )
    def test_one_percent_chinese_titles_select_the_multilingual_encoder(
        self, fresh: Shop, monkeypatch: pytest.MonkeyPatch, chinese: int, asked: str, chosen: str
    ) -> None:
        opened: list[str] = []

        def refuse(name: str, *_: object, **__: object) -> None:
            opened.append(name)
            raise EncoderUnavailableError("the choice is all that is asked for")

        monkeypatch.setattr(shelfwise.indexer.build, "open_encoder", refuse)
        made = [Product(f"p{place:03d}", "无线电钻" if place < chinese else "drill") for place in range(200)]
        with pytest.raises(EncoderUnavailableError):
            fresh.rebuild(made, encoder=asked)
        assert opened == [chosen]

    def test_report_gives_the_reason_for_the_encoder(self, fresh: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        def usual(_name: str, _runtime: str, cache: Path, **_: object) -> Encoder:
            return open_encoder(ENCODER, "onnx-int8", cache)

        monkeypatch.setattr(shelfwise.indexer.build, "open_encoder", usual)
        made = [Product("1", "无线电钻"), Product("2", "drill")]
        report = fresh.rebuild(made, encoder="")
        assert report.encoder == DEFAULT_CHINESE_MODEL
        assert report.encoder_reason == "50% of the titles are Chinese, so the encoder is multilingual"
        again = fresh.rebuild(made[1:], encoder="", force=True)
        assert (again.encoder, again.encoder_reason) == (DEFAULT_CHINESE_MODEL, "as for the previous version")


@pytest.mark.parametrize(
    ("read", "rejected", "products", "served", "message"),
    [
        (100, 6, 94, None, r"6 of 100 rows \(6\.0%\) were rejected, more than 5%"),
        (79, 0, 79, 100, r"has 79 products, but the serving version has 100: 21\.0% would be lost, more than 20%"),
    ],
)
def test_publish_guard_error_has_both_counts_and_the_remedy(
    read: int, rejected: int, products: int, served: int | None, message: str
) -> None:
    with pytest.raises(PublishRefusedError, match=rf"{message}.*nothing was published.*--force"):
        check_publish(read, rejected, products, served)


def test_publish_guard_allows_a_twentieth_rejected_and_a_fifth_lost() -> None:
    check_publish(100, 5, 80, 100)
    check_publish(100, 5, 1, None)


def test_refused_rebuild_changes_nothing_and_force_publishes(built: Shop) -> None:
    feed = write_feed(built.root.with_name("broken.jsonl"), CATALOG)
    with feed.open("ab") as file:
        file.write(b'{"id": "without a title"}\n')
    with pytest.raises(PublishRefusedError, match=r"1 of 13 rows \(7\.7%\)"):
        built.rebuild(feed)
    with pytest.raises(PublishRefusedError, match="has 9 products, but the serving version has 12"):
        built.rebuild(CATALOG[:9])
    assert built.store.current() == "v000001"
    assert [path.name for path in (built.root / "versions").iterdir()] == ["v000001"]
    with pytest.raises(PublishRefusedError):
        built.rebuild(feed)
    assert b"without a title" in (built.root / REJECTED_FILE).read_bytes()
    report = built.rebuild(feed, force=True)
    assert (report.version, report.products, report.rejected) == ("v000001", 12, {"no title": 1})
    report = built.rebuild(CATALOG[:2], force=True)
    assert (report.version, report.products) == ("v000002", 2)
