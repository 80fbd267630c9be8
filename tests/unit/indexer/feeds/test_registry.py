"""Format detection from the content, compressed or not; errors for other files name the file."""

from __future__ import annotations

import gzip
import io
import resource
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.feeds.reader import FORMATS, read_records
from tests.unit.indexer.feeds.feed_outcome import FEEDS, Outcome, read, read_bytes

FORMAT_OF = {
    "google-rss.xml": "google-xml",
    "google-atom.xml": "google-xml",
    "google.tsv": "google-tsv",
    "shopify.csv": "shopify",
    "shopify-new.csv": "shopify",
    "woocommerce.csv": "woocommerce",
    "products.jsonl": "jsonl",
    "products.json": "json",
    "plain.csv": "csv",
}
GOOGLE = "id\ttitle\tdescription\tlink\timage_link\tavailability\tprice\tbrand"


@pytest.mark.parametrize("name", FORMAT_OF)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_format_is_detected_from_content(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "feed"
    path.write_bytes(pack((FEEDS / name).read_bytes()))
    assert {record.format for record in read_records([str(path)])} == {FORMAT_OF[name]}
    outcome, plain = read(path), read(FEEDS / name)
    assert outcome.rows == plain.rows != []
    assert outcome.reasons == plain.reasons


@pytest.mark.parametrize("name", FORMAT_OF)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_standard_input_is_recognised(
    monkeypatch: pytest.MonkeyPatch, name: str, pack: Callable[[bytes], bytes]
) -> None:
    content = pack((FEEDS / name).read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(_Pipe(content))))  # type: ignore[type-var]
    assert read("-").rows == read(FEEDS / name).rows


class _Pipe(io.RawIOBase):
    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._content.read(min(len(buffer), 7))
        buffer[: len(piece)] = piece
        return len(piece)


def test_named_format_skips_detection(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    shutil.copy(FEEDS / "google.tsv", path)
    assert {record.format for record in read_records([str(path)], format="csv")} == {"csv"}
    assert read(path, format="jsonl").reasons == [(1, "not JSON"), (2, "not JSON"), (3, "not JSON")]


def test_unknown_format_is_refused_with_similar_names(tmp_path: Path) -> None:
    message = "--format shopfy: there is no such format; did you mean shopify?"
    assert read_bytes(tmp_path, b"", format="shopfy").error == message
    assert ", ".join(FORMATS) in read_bytes(tmp_path, b"", format="zzz").error


@pytest.mark.parametrize(
    "content", [b"hello", b"\x00\x01\x02", b"just a line\nand another\n", b"a" * 300 + b",b\n", b"\xff,\xff\x01\n"]
)
def test_invalid_feed_is_refused_with_its_line(tmp_path: Path, content: bytes) -> None:
    error = read_bytes(tmp_path, content).error
    assert "feed: line 1: cannot be recognised: " in error
    assert "--format" in error


@pytest.mark.parametrize("column", GOOGLE.split("\t")[:7])
def test_a_google_feed_without_a_required_column_is_refused_by_its_name(tmp_path: Path, column: str) -> None:
    names = [name for name in GOOGLE.split("\t") if name != column]
    content = "\t".join([*names, "gtin"]) + "\n"
    error = read_bytes(tmp_path, content.encode()).error
    assert f"looks like a Google Merchant feed but has no column {column!r}; " in error


@pytest.mark.parametrize("name", ["shopify.csv", "woocommerce.csv", "shopify-new.csv"])
def test_a_shop_export_without_a_required_column_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    header, rest = (FEEDS / name).read_text().split("\n", 1)
    required = {"shopify.csv": "Handle", "woocommerce.csv": "Name", "shopify-new.csv": "Title"}[name]
    content = header.replace(f"{required},", "Other,", 1) + "\n" + rest
    error = read_bytes(tmp_path, content.encode()).error
    title = {"shopify": "Shopify", "woocommerce": "WooCommerce"}[FORMAT_OF[name]]
    assert f"looks like a {title} feed but has no column {required!r}; " in error


def test_google_like_table_without_urls_is_a_plain_table(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_bytes(b"id,title,description,availability,price,gtin\n1,Drill,Good,in stock,5,123\n")
    assert {record.format for record in read_records([str(path)])} == {"csv"}


MEGABYTE = 1 << 20


@cache
def packed_zeros(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(b"0" * (300 * MEGABYTE))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("start", [b"", b'{"id": "', b"[", b"<rss>", b"id,title\n1,"])
def test_decompression_bomb_is_refused_in_little_memory(
    tmp_path: Path, pack: Callable[[bytes], bytes], start: bytes
) -> None:
    bomb = pack(start) + packed_zeros(pack)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = read_bytes(tmp_path, bomb)
    assert "line " in outcome.error or "cannot be recognised" in outcome.error
    assert not outcome.rows
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 300 * MEGABYTE


def test_small_feed_of_equal_rows_is_not_a_bomb(tmp_path: Path) -> None:
    content = b'{"id": "1", "title": "a"}\n' * 100_000
    outcome = read_bytes(tmp_path, zstandard.compress(content))
    assert (len(outcome.rows), len(outcome.rejected), outcome.error) == (1, 99_999, "")


MAPPED = ["id=Artikel", "title=Product Name", "price=Preis", "brand=Marke", "availability=Lager"]


@pytest.mark.parametrize(
    "name", ["google-rss.xml", "shopify.csv", "woocommerce.csv", "products.jsonl", "products.json", "maschinen.csv"]
)
def test_unrepaired_rows_are_rejected_again_with_new_line_numbers(tmp_path: Path, name: str) -> None:
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
def test_repaired_rows_become_products(tmp_path: Path, name: str, wrong: bytes, right: bytes, ids: list[str]) -> None:
    flags = MAPPED if name == "maschinen.csv" else []
    content = read(FEEDS / name, flags=flags).rejected_file
    assert wrong in content
    assert read_bytes(tmp_path, content.replace(wrong, right), flags).ids == ids


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "nothing"}, "not a rejected row"),
        ({"format": "rejected"}, "not a rejected row"),
        ({"row": 5}, "not an object"),
        ({"row": "{"}, "not JSON"),
        ({"line": "x"}, "not a rejected row"),
    ],
)
def test_a_badly_repaired_line_is_rejected_with_its_line(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    first, *_ = read(FEEDS / "products.jsonl").rejected_file.split(b"\n")
    changed = msgspec.json.encode({**msgspec.json.decode(first), **change})
    assert read_bytes(tmp_path, first + b"\n" + changed).reasons == [(1, "broken price"), (2, reason)]


@pytest.mark.parametrize("name", ["csv", "shopify", "woocommerce", "google-xml", "google-tsv", "parquet", "json"])
@pytest.mark.parametrize("row", [5, None, "x", [], [[]], [{}], {}, {"Handle": 5}, [{"ID": 1}, {"ID": [1]}]])
def test_arbitrary_rows_are_rejected_or_read(tmp_path: Path, name: str, row: object) -> None:
    line = {"file": "f", "line": 1, "reason": "r", "detail": "", "format": name, "row": row}
    outcome = read_bytes(tmp_path, msgspec.json.encode(line))
    assert [rejected.line for rejected in outcome.rejected] == [1]


NAMES = sorted(path.name for path in FEEDS.iterdir())
_FRAGMENT_LIST = (
    b"\"|'|\n|\r|,|\t|<|>|</item>|&|&x;|]]>|<![CDATA[|[|}|\\|\0|\xff|\xc3|\xef\xbb\xbf|id:100|1e999|NaN|;|"
    b"<!DOCTYPE x [|<!--"
)
FRAGMENTS = _FRAGMENT_LIST.split(b"|")


def check(outcome: Outcome) -> None:
    assert all(rejected.line > 0 and rejected.reason for rejected in outcome.rejected)
    whole = ("line ", "no column", "items have no", "feed: is ", "--format")
    assert not outcome.error or any(part in outcome.error for part in whole)
    for line in outcome.rejected_file.splitlines():
        assert msgspec.json.decode(line)["line"] > 0


def parquet() -> bytes:
    ids, titles = ["1", "2", "3", "4"], ["drill", None, "saw", "hose"]
    offers = [{"amount": 1.5}, None, {"amount": 2.5}, {"amount": -1.0}]
    table = pyarrow.table({"id": ids, "title": titles, "price": offers, "tags": [["a"], [], None, ["b", "c"]]})
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, row_group_size=2)
    return file.getvalue()


WHOLE = {name: (FEEDS / name).read_bytes() for name in NAMES} | {"products.parquet": parquet()}


@pytest.mark.parametrize("name", WHOLE)
@given(st.data())
def test_corrupted_feed_is_read_or_refused(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 5, 50]))
        content[start : start + length] = data.draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=6))
    first = read_bytes(tmp_path, bytes(content))
    check(first)
    check(read_bytes(tmp_path, first.rejected_file))


@pytest.mark.parametrize("name", WHOLE)
def test_truncated_feed_is_read_or_refused(tmp_path: Path, name: str) -> None:
    content = WHOLE[name]
    for length in range(0, len(content), max(1, len(content) // 60)):
        check(read_bytes(tmp_path, content[:length]))


@given(st.binary(max_size=200), st.sampled_from(["", *FORMATS]))
def test_arbitrary_bytes_are_read_or_refused(tmp_path: Path, content: bytes, name: str) -> None:
    check(read_bytes(tmp_path, content, format=name))
