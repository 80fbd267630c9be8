"""What a publish may lose: exactly the limits are taken, one more is refused with both numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.build import RebuildOptions, RebuildReport, check_publish, rebuild
from indexer.rejects import REJECTED_FILE
from retrieval.errors import PublishRefusedError
from retrieval.records import Product
from retrieval.store.versions import Store
from tests.catalogs import numbered, write_feed
from tests.conftest import ENCODER


class TestRejectedRows:
    @pytest.mark.parametrize(("read", "rejected"), [(1, 0), (20, 1), (100, 5), (1_000_000, 50_000), (19, 0)])
    def test_up_to_five_in_a_hundred_are_taken(self, read: int, rejected: int) -> None:
        check_publish(read, rejected, read - rejected, None)

    @pytest.mark.parametrize(
        ("read", "rejected", "said"),
        [
            (100, 6, r"6 of 100 rows \(6\.0%\) were rejected, more than 5%"),
            (19, 1, r"1 of 19 rows \(5\.3%\) were rejected, more than 5%"),
            (1_000_000, 50_001, r"50,001 of 1,000,000 rows \(5\.0%\) were rejected, more than 5%"),
            (4, 4, r"4 of 4 rows \(100\.0%\) were rejected"),
        ],
    )
    def test_more_are_refused_with_both_numbers_and_what_to_do(self, read: int, rejected: int, said: str) -> None:
        with pytest.raises(PublishRefusedError, match=rf"{said}.*nothing was published.*rejected\.jsonl.*--force"):
            check_publish(read, rejected, read - rejected, None)


class TestLostProducts:
    @pytest.mark.parametrize(
        ("products", "served"), [(80, 100), (8, 10), (4, 5), (240_000, 300_000), (100, 100), (500, 100), (1, 1)]
    )
    def test_four_fifths_and_more_are_taken(self, products: int, served: int) -> None:
        check_publish(products, 0, products, served)

    @pytest.mark.parametrize(
        ("products", "served", "said"),
        [
            (79, 100, r"has 79 products, the version that serves has 100: 21\.0% would go"),
            (3, 4, r"has 3 products, the version that serves has 4: 25\.0% would go"),
            (239_999, 300_000, r"has 239,999 products, the version that serves has 300,000: 20\.0% would go"),
        ],
    )
    def test_fewer_are_refused_with_both_numbers_and_what_to_do(self, products: int, served: int, said: str) -> None:
        with pytest.raises(PublishRefusedError, match=rf"{said}, more than 20%; nothing was published.*--force"):
            check_publish(products, 0, products, served)

    def test_the_first_version_has_nothing_to_lose(self) -> None:
        check_publish(1, 0, 1, None)


def test_a_catalog_of_any_size_may_lose_its_fifth_and_no_product_more() -> None:
    for count in range(1, 5_000):
        check_publish(count, count // 20, count - count // 5, count)
        with pytest.raises(PublishRefusedError, match="products"):
            check_publish(count, 0, count - count // 5 - 1, count)
        with pytest.raises(PublishRefusedError, match="rows"):
            check_publish(count, count // 20 + 1, count, None)


class TestARebuild:
    @pytest.fixture
    def root(self, tmp_path: Path, cache: Path) -> Path:
        self.rebuild(tmp_path / "index", numbered(10), cache)
        return tmp_path / "index"

    def rebuild(
        self, root: Path, products: list[Product], cache: Path, broken: int = 0, *, force: bool = False
    ) -> RebuildReport:
        feed = write_feed(root.with_name("feed.jsonl"), products)
        with feed.open("ab") as file:
            file.write(b'{"id": "without a title"}\n' * broken)
        options = RebuildOptions((str(feed),), cache, encoder=ENCODER, runtime="onnx-int8", force=force)
        return rebuild(root, options)

    def test_losing_a_fifth_is_published_and_one_more_is_not(self, root: Path, cache: Path) -> None:
        with pytest.raises(PublishRefusedError, match="has 7 products, the version that serves has 10"):
            self.rebuild(root, numbered(7), cache)
        assert self.rebuild(root, numbered(8), cache).published

    def test_what_was_refused_changes_nothing_and_its_rows_can_be_repaired(self, root: Path, cache: Path) -> None:
        with pytest.raises(PublishRefusedError, match=r"1 of 11 rows \(9\.1%\)"):
            self.rebuild(root, numbered(10), cache, broken=1)
        assert Store(root).current() == "v000001"
        assert [path.name for path in (root / "versions").iterdir()] == ["v000001"]
        assert b"without a title" in (root / REJECTED_FILE).read_bytes()

    def test_force_publishes_all_the_same(self, root: Path, cache: Path) -> None:
        report = self.rebuild(root, numbered(2), cache, broken=9, force=True)
        assert (report.version, report.products, report.rejected) == ("v000002", 2, {"no title": 9})
