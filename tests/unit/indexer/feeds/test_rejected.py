"""Rejected rows as a feed: they come back with the same fault, and are products once they are repaired."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.unit.indexer.feeds.feed_outcome import FEEDS, read, read_bytes

MAPPED = ["id=Artikel", "title=Product Name", "price=Preis", "brand=Marke", "availability=Lager"]


@pytest.mark.parametrize(
    "name", ["google-rss.xml", "shopify.csv", "woocommerce.csv", "products.jsonl", "products.json", "maschinen.csv"]
)
def test_rows_that_nobody_repaired_are_rejected_again_with_their_new_place(tmp_path: Path, name: str) -> None:
    flags = MAPPED if name == "maschinen.csv" else []
    first = read(FEEDS / name, flags=flags)
    second = read_bytes(tmp_path, first.rejected_file, flags)
    assert [rejected.reason for rejected in second.rejected] == [rejected.reason for rejected in first.rejected] != []
    assert [(rejected.file, rejected.line) for rejected in second.rejected] == [
        (str(tmp_path / "feed"), line) for line in range(1, len(first.rejected) + 1)
    ]
    assert [(r.format, r.row) for r in second.rejected] == [(r.format, r.row) for r in first.rejected]
    assert not (second.rows or second.error)


@pytest.mark.parametrize(
    ("name", "wrong", "right", "ids"),
    [
        ("google-rss.xml", b"call us", b"9 EUR", ["TV-3"]),
        ("shopify.csv", b'"call"', b'"9.00"', ["broken"]),
        ("products.jsonl", b'"each"', b"0.5", ["3"]),
        ("products.json", b'Nail\\" \\"price', b'Nail\\", \\"price', ["3"]),
        ("maschinen.csv", b',"":[]', b',"Preis":"5"', ["4"]),
    ],
)
def test_repaired_rows_are_products(tmp_path: Path, name: str, wrong: bytes, right: bytes, ids: list[str]) -> None:
    flags = MAPPED if name == "maschinen.csv" else []
    content = read(FEEDS / name, flags=flags).rejected_file
    assert wrong in content
    assert read_bytes(tmp_path, content.replace(wrong, right), flags).ids == ids


def test_a_row_of_too_many_cells_is_good_once_the_rest_is_taken_out(tmp_path: Path) -> None:
    row = msgspec.json.decode(read(FEEDS / "maschinen.csv", flags=MAPPED).rejected_file.split(b"\n")[0])
    assert row["row"].pop("") == ["da"]
    row["row"]["Preis"] = "5"
    row["row"]["Lager"] = "ja"
    (repaired,) = read_bytes(tmp_path, msgspec.json.encode(row), MAPPED).rows
    assert (repaired.product.id, repaired.product.price) == ("3", 5.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "nothing"}, "not a rejected row"),
        ({"format": "rejected"}, "not a rejected row"),
        ({"row": 5}, "not an object"),
        ({"row": "{"}, "not JSON"),
        ({"row": None}, "not an object"),
        ({"row": [1]}, "not an object"),
        ({"line": "x"}, "not a rejected row"),
    ],
)
def test_a_line_that_was_repaired_badly_is_rejected_with_its_line(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    first, *_ = read(FEEDS / "products.jsonl").rejected_file.split(b"\n")
    changed = msgspec.json.encode({**msgspec.json.decode(first), **change})
    assert read_bytes(tmp_path, first + b"\n" + changed).reasons == [(1, "broken price"), (2, reason)]


@pytest.mark.parametrize("name", ["csv", "shopify", "woocommerce", "google-xml", "google-tsv", "parquet", "json"])
@pytest.mark.parametrize("row", [5, None, "x", [], [[]], [{}], {}, {"Handle": 5}, [{"ID": 1}, {"ID": [1]}]])
def test_any_row_in_any_format_is_rejected_or_read(tmp_path: Path, name: str, row: object) -> None:
    line = {"file": "f", "line": 1, "reason": "r", "detail": "", "format": name, "row": row}
    outcome = read_bytes(tmp_path, msgspec.json.encode(line))
    assert [rejected.line for rejected in outcome.rejected] == [1]
