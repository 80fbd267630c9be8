"""Feeds: products, rejected rows with reasons, and broken files, which are never read as shorter ones."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shelfwise.indexer.feeds.base import Record
from shelfwise.indexer.feeds.io import MAX_LINE
from shelfwise.indexer.feeds.mapping import FeedMapping, parse_map_flags
from shelfwise.indexer.feeds.reader import RecordReader, read_records
from shelfwise.retrieval.records import Availability, Place, Product, Variant
from tests.unit.indexer.feeds.feed_outcome import read, read_bytes, read_rows

Pack = Callable[[bytes], bytes]


def mapped(folder: Path, values: dict[str, object], *flags: str) -> Product:
    outcome = read_rows(folder, {"id": "1", "title": "Drill", **values}, flags=flags)
    assert not outcome.rejected
    (row,) = outcome.rows
    return row.product


def product(folder: Path, **values: object) -> Product:
    return mapped(folder, values)


def lines(count: int) -> bytes:
    return b"".join(b'{"id": "%d", "title": "Product %d"}\n' % (number, number) for number in range(count))


class TestFiles:
    @pytest.mark.parametrize(
        "pack",
        [
            bytes,
            gzip.compress,
            lambda content: gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + b"\0" * 600,
            zstandard.compress,
            lambda content: zstandard.compress(content[:1000]) + zstandard.compress(content[1000:]),
            lambda content: b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab" + zstandard.compress(content),
        ],
        ids=["plain", "gzip", "padded gzip members", "zstd", "zstd frames", "skippable zstd frame"],
    )
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_compression_is_detected_from_content(self, tmp_path: Path, pack: Pack, mark: bytes) -> None:
        outcome = read_bytes(tmp_path, pack(mark + lines(5000)))
        assert outcome.ids == [str(number) for number in range(5000)]
        assert [row.line for row in outcome.rows] == list(range(1, 5001))
        assert not (outcome.error or outcome.rejected)

    def test_windows_line_ends_blank_lines_and_a_missing_last_newline(self, tmp_path: Path) -> None:
        outcome = read_bytes(tmp_path, b'\r\n{"id":"1","title":"a"}\r\n\n \t\n{"id":"2","title":"b"}')
        assert [(row.line, row.product.id) for row in outcome.rows] == [(2, "1"), (5, "2")]
        assert not outcome.rejected

    def test_an_empty_file_has_no_rows(self, tmp_path: Path) -> None:
        for content in (b"", b"\xef\xbb\xbf", gzip.compress(b""), zstandard.compress(b"")):
            outcome = read_bytes(tmp_path, content)
            assert not (outcome.rows or outcome.rejected or outcome.error)

    def test_progress_counts_the_bytes_of_all_files(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        one.write_bytes(gzip.compress(lines(2000)))
        other.write_bytes(lines(4000))
        total = one.stat().st_size + other.stat().st_size
        amounts = read(one, other).read_bytes
        assert sum(amounts) == total
        assert min(amounts) > 0
        assert one.stat().st_size in itertools.accumulate(amounts)

    @pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
    @pytest.mark.parametrize("kept", [0.3, 0.9, 1.0])
    def test_truncated_file_gives_its_rows_and_an_error(self, tmp_path: Path, pack: Pack, kept: float) -> None:
        content = "".join(json.dumps({"id": str(n), "title": f"{n * 7919 % 10007}"}) + "\n" for n in range(20_000))
        packed = pack(content.encode())
        outcome = read_bytes(tmp_path, packed[: int(len(packed) * kept) - 1])
        assert 0 < len(outcome.rows) <= 20_000
        assert outcome.ids == [str(number) for number in range(len(outcome.rows))]
        assert not outcome.rejected, "the piece of a line before the break is no row"
        assert f"feed: cannot be read after line {len(outcome.rows):,}: " in outcome.error

    @pytest.mark.parametrize(
        "pack", [gzip.compress, lambda content: zstandard.ZstdCompressor(write_checksum=True).compress(content)]
    )
    def test_damaged_file_raises(self, tmp_path: Path, pack: Pack) -> None:
        packed = bytearray(pack(lines(20_000)))
        packed[len(packed) // 2] ^= 0xFF
        assert "cannot be read after line" in read_bytes(tmp_path, bytes(packed)).error

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (b"BZh91AY&SY", "is compressed by bzip2"),
            (b"\xfd7zXZ\x00\x00", "is compressed by xz"),
            (b"PK\x03\x04\x14\x00", "is a zip archive"),
            (b"\0" * 257 + b"ustar", "is a tar archive"),
            (gzip.compress(b"\0" * 257 + b"ustar", mtime=0), "is a tar archive"),
            (zstandard.compress(b"PK\x03\x04\x14\x00"), "is a zip archive"),
        ],
    )
    def test_unsupported_format_is_refused_by_name(self, tmp_path: Path, content: bytes, fault: str) -> None:
        assert fault in read_bytes(tmp_path, content).error

    def test_a_missing_file_is_refused_before_the_first_row(self, tmp_path: Path) -> None:
        good = tmp_path / "good"
        good.write_bytes(lines(3))
        for bad in (tmp_path / "missing", tmp_path, "nul\0byte"):
            outcome = read(good, bad)
            assert not outcome.rows
            assert outcome.error.startswith(str(bad))

    def test_line_over_1_mb_is_rejected_and_reading_continues(self, tmp_path: Path) -> None:
        long = b'{"id": "9", "title": "' + b"x" * (3 * MAX_LINE) + b'"}\n'
        outcome = read_bytes(tmp_path, lines(1) + long + b'{"id": "b", "title": "b"}\n' + long)
        assert outcome.ids == ["0", "b"]
        assert outcome.reasons == [(2, "over 1 MB"), (4, "over 1 MB")]
        assert all(len(str(rejected.row)) <= 1_003 for rejected in outcome.rejected)

        row = b'{"id": "9", "title": "' + b"x" * (MAX_LINE - 24) + b'"}'
        assert len(row) == MAX_LINE
        assert len(read_bytes(tmp_path, row + b"\n").rows) == 1
        assert read_bytes(tmp_path, b" " + row + b"\n").reasons == [(1, "over 1 MB")]


class TestRejected:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"{", "not JSON"),
            (b'{"id": "1", "title": "\\ud800"}', "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b'{"id": ' + b"1" * 5000 + b', "title": "a"}', "not JSON"),
            (b'{"id": "1", "title": "\xff"}', "not UTF-8"),
            (b"[1]", "not an object"),
            (b'{"id": " ", "title": "a"}', "no id"),
            (b'{"id": "1", "title": "\\t"}', "no title"),
            (b'{"id": "a\\u0000b", "title": "a"}', "bad id"),
            (b'{"id": "' + b"x" * 513 + b'", "title": "a"}', "bad id"),
            ('{"id": "' + "é" * 257 + '", "title": "a"}', "bad id"),
            (b'{"id": {"a": 1}, "title": "a"}', "bad type"),
            (b'{"id": "1", "title": ["a"]}', "bad type"),
            (b'{"id": "1", "title": "a", "category": {"a": 1}}', "bad type"),
            (b'{"id": "1", "title": "a", "images": [[1]]}', "bad type"),
            (b'{"id": "1", "title": "a", "attributes": "red"}', "bad type"),
            (b'{"id": "1", "title": "a", "price": true}', "bad type"),
            (b'{"id": "1", "title": "a", "price": -1}', "broken price"),
            (b'{"id": "1", "title": "a", "price": NaN}', "broken price"),
            (b'{"id": "1", "title": "a", "price": 1e999}', "broken price"),
            (b'{"id": "1", "title": "a", "price": "' + b" 1" * 50_000 + b'"}', "broken price"),
            (b'{"id": "1", "title": "a", "price_cents": "x"}', "broken price"),
        ],
    )
    def test_a_bad_row_is_rejected_with_its_line_and_reason(
        self, tmp_path: Path, line: bytes | str, reason: str
    ) -> None:
        raw = line.encode() if isinstance(line, str) else line
        outcome = read_bytes(tmp_path, lines(1) + raw + b'\n{"id": "last", "title": "b"}\n')
        assert outcome.ids == ["0", "last"]
        assert outcome.reasons == [(2, reason)]

    def test_a_row_without_a_field_of_the_title_is_rejected_with_its_fields(self, tmp_path: Path) -> None:
        outcome = read_bytes(tmp_path, b'{"sku": "1", "product": {"name": "a"}}\n')
        assert [row.detail for row in outcome.rejected] == ["its fields are sku, product; --map title=FIELD names one"]

    def test_first_valid_row_of_a_duplicate_id_is_kept_across_files(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        one.write_text('{"id": "1", "title": "a"}\n{"id": 1, "title": "b"}\n')
        other.write_text('{"id": "2", "title": "c"}\n{"id": " 1 ", "title": "d"}\n')
        outcome = read(one, other)
        assert [row.product.title for row in outcome.rows] == ["a", "c"]
        assert [(r.file, r.line) for r in outcome.rejected] == [(str(one), 2), (str(other), 2)]
        assert outcome.reasons == [(2, "duplicate id")] * 2

        outcome = read_rows(tmp_path, {"id": "1", "title": "a", "price": "x"}, {"id": "1", "title": "b", "price": 1})
        assert [row.product.title for row in outcome.rows] == ["b"]

    def test_rejected_row_is_logged_verbatim_with_detail(self, tmp_path: Path) -> None:
        (rejected,) = read_rows(tmp_path, {"id": "1", "title": "a", "price": "call"}).rejected
        assert rejected.row == {"id": "1", "title": "a", "price": "call"}
        assert rejected.detail == "price is 'call'; a price must be a number from 0"
        (rejected,) = read_bytes(tmp_path, b"\x1b[31m\xff", format="jsonl").rejected
        assert (rejected.format, rejected.row) == ("jsonl", "\x1b[31m\ufffd")
        line = b'{"id": "1", "title": "a", "price": NaN}'
        (rejected,) = read_bytes(tmp_path, line).rejected
        assert rejected.row == line.decode(), "JSON could not hold it, so it stays a text"


class TestFields:
    @pytest.mark.parametrize(
        ("spelled", "amount", "currency"),
        [
            (12.99, 12.99, ""),
            (0, 0.0, ""),
            ("12.99 USD", 12.99, "USD"),
            ("$12.99", 12.99, ""),
            ("US$12.99", 12.99, "USD"),
            ("$12.99 CAD", 12.99, "CAD"),
            ("1.299,00 €", 1299.0, "EUR"),
            ("1,299.50", 1299.5, ""),
            ("1,299", 1299.0, ""),
            ("12,99", 12.99, ""),
            ("1 299 kr", 1299.0, ""),
            ("0,500", 0.5, ""),
            ("1\u00a0299,00 €", 1299.0, "EUR"),
            ("CHF 1'299.-", 1299.0, "CHF"),
            ("CHF 12.–", 12.0, "CHF"),
            ("12,-- €", 12.0, "EUR"),
            ("1.299 €", 1299.0, "EUR"),
            ("1.299", 1.299, ""),
            ("1.299 KWD", 1.299, "KWD"),
            ("1.299.000", 1299000.0, ""),
            ("₹1,29,900", 129900.0, "INR"),
            ("¥1,234,567", 1234567.0, ""),
            ({"value": "15.00", "currency": "USD"}, 15.0, "USD"),
            ({"amount": 15}, 15.0, ""),
        ],
    )
    def test_price_formats(self, tmp_path: Path, spelled: object, amount: float, currency: str) -> None:
        read = product(tmp_path, price=spelled)
        assert (read.price, read.currency) == (amount, currency)

    def test_cents_and_sale_price(self, tmp_path: Path) -> None:
        assert product(tmp_path, price_cents=4995).price == 4995 / 100
        on_sale = product(tmp_path, price=20, sale_price="15 EUR")
        assert (on_sale.price, on_sale.currency, on_sale.attributes) == (15.0, "EUR", {"regular_price": 20.0})
        assert product(tmp_path, price=20, sale_price="0.00") == product(tmp_path, price=20)
        assert product(tmp_path, price=20, price_cents=2000).attributes == {}

    def test_currency_field_takes_precedence(self, tmp_path: Path) -> None:
        assert product(tmp_path, price="12 USD", currency="eur").currency == "EUR"

    @pytest.mark.parametrize(
        ("period", "price"),
        [
            ("2024-06-01T00:00+0100/2024-06-30T23:59+0100", 15.0),
            ("2024-06-15T00:00:00Z/2024-06-16", 15.0),
            ("2024-06-01/2024-06-14", 20.0),
            ("2024-06-01/2024-06-15", 15.0),
            ("2024-06-15T00:01:00Z/2024-06-30", 20.0),
            ("2024-05-01/", 15.0),
            ("/2024-05-01", 20.0),
        ],
    )
    def test_sale_price_applies_only_in_its_period(self, tmp_path: Path, period: str, price: float) -> None:
        read = product(tmp_path, price=20, sale_price=15, sale_price_effective_date=period)
        regular = {"regular_price": 20.0} if price == 15 else {}
        assert (read.price, read.attributes) == (price, regular), "now is the start of 2024-06-15"

    @pytest.mark.parametrize("period", ["soon", "2024-06-30/2024-06-01", "2024/06/01/2024/07/01", "/soon"])
    def test_invalid_sale_period_ignores_the_sale_with_a_note(self, tmp_path: Path, period: str) -> None:
        row = {"id": "1", "title": "a", "price": 20, "sale_price": 15, "sale_price_effective_date": period}
        outcome = read_rows(tmp_path, row)
        assert outcome.rows[0].product.price == 20
        assert [noted.field for noted in outcome.noted] == ["sale_period"]

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("availability", "in_stock", Availability.IN_STOCK),
            ("availability", "In Stock", Availability.IN_STOCK),
            ("availability", "https://schema.org/OutOfStock", Availability.OUT_OF_STOCK),
            ("availability", "backorder", Availability.BACKORDER),
            ("in_stock", True, Availability.IN_STOCK),
            ("in_stock", 0, Availability.OUT_OF_STOCK),
            ("in_stock", "3", Availability.IN_STOCK),
            ("category", ["Tools", " Drills ", None, ""], ("Tools", "Drills")),
            ("category", "Tools > Drills", ("Tools", "Drills")),
            ("product_type", "Tools/Drills", ("Tools", "Drills")),
            ("categories", [["Tools", "Drills"], ["Gifts"]], ("Tools", "Drills")),
            ("google_product_category", "Hardware > Tools / Kits", ("Hardware", "Tools / Kits")),
            ("created_at", "2009-12-10", datetime(2009, 12, 10, tzinfo=UTC)),
            ("created_at", "2009/12/10 12:30", datetime(2009, 12, 10, 12, 30, tzinfo=UTC)),
            ("created_at", "2009-12-10T01:00:00+02:00", datetime(2009, 12, 9, 23, tzinfo=UTC)),
            ("created_at", "Thu, 10 Dec 2009 00:00:00 GMT", datetime(2009, 12, 10, tzinfo=UTC)),
            ("created_at", 20091210, datetime(2009, 12, 10, tzinfo=UTC)),
            ("created_at", 1260403200000, datetime(2009, 12, 10, tzinfo=UTC)),
            ("brand", {"name": "Bosch"}, "Bosch"),
            ("description", ["One.", "Two."], "One.\nTwo."),
            ("language", "en-US", "en"),
            ("review_count", "1,234", 1234),
            ("identifiers", {"ean": "1", "oem": ["2", "3"]}, {"ean": ("1",), "oem": ("2", "3")}),
            ("upc", ["0123", None, "", "0123"], {"upc": ("0123",)}),
            ("ean", 95205603217, {"ean": ("95205603217",)}),
            ("gtin", 95205603217.0, {"gtin": ("95205603217",)}),
            ("name", "DCD771C2", {"model": ("DCD771C2",)}),
            ("_geoloc", {"lat": 52.5, "lng": "13,4"}, (Place(52.5, 13.4),)),
            ("geoloc", "52.5, 13.4", (Place(52.5, 13.4),)),
            (
                "places",
                [{"latitude": 52.5, "lon": 13.4}, {"lat": -18, "lng": 178}],
                (Place(52.5, 13.4), Place(-18, 178)),
            ),
        ],
    )
    def test_field_formats(self, tmp_path: Path, name: str, value: object, expected: object) -> None:
        read = product(tmp_path, **{name: value})
        fields = (read.availability, read.category, read.created, read.brand, read.description, read.language)
        assert expected in (*fields, read.rating_count, read.identifiers, read.places)
        assert not read.attributes

    def test_identifiers_and_images_under_several_names_are_joined(self, tmp_path: Path) -> None:
        read = product(tmp_path, identifiers={"ean": "1"}, ean="4", image="a.jpg", images=["a.jpg", {"url": "b.jpg"}])
        assert (read.identifiers, read.images) == ({"ean": ("1", "4")}, ("a.jpg", "b.jpg"))

    def test_attributes_keep_their_types_and_objects_are_flattened(self, tmp_path: Path) -> None:
        listed = [{"name": "colour", "value": " red "}, {"name": "voltage", "value": 18}]
        assert product(tmp_path, attributes=listed).attributes == {"colour": "red", "voltage": 18.0}
        odd = {"serial": 2**60, "blank": " ", "none": None, "empty": [], "nothing": {}, "brushless": False}
        nested = {"sizes": ["S", 5, 5.5, True, None], "box": {"width": 1.5, "inner": {"depth": "2"}}}
        assert product(tmp_path, attributes={**odd, **nested}, material="steel", weight=2).attributes == {
            "serial": str(2**60),
            "brushless": False,
            "sizes": ("S", "5", "5.5", "true"),
            "box.width": 1.5,
            "box.inner.depth": "2",
            "material": "steel",
            "weight": 2.0,
        }

    def test_nested_variants_are_read(self, tmp_path: Path) -> None:
        small = {"id": "1-S", "options": {"Size": "S", "Fit": None}, "price": "12,50 €", "sku": "S1", "image": "s.jpg"}
        large = {"id": 7, "options": {"Size": "L"}, "price": 11, "availability": "in stock", "identifiers": {"ean": 4}}
        read = product(tmp_path, variants=[small, large], sku="S0", Fit="slim")
        assert read.variants == (
            Variant("1-S", {"Size": "S"}, 12.5, None, {"sku": ("S1",)}, "s.jpg"),
            Variant("7", {"Size": "L"}, 11.0, Availability.IN_STOCK, {"ean": ("4",)}),
        )
        assert (read.price, read.availability) == (11.0, Availability.IN_STOCK)
        assert read.identifiers == {"sku": ("S0", "S1"), "ean": ("4",)}
        assert read.attributes == {"Size": ("S", "L"), "Fit": "slim"}
        assert product(tmp_path, variants=["S", "L"]).attributes == {"variants": ("S", "L")}
        assert product(tmp_path, price=9, variants=[{"price": 5}]).price == 9, "the row's own price goes first"

    @pytest.mark.parametrize(
        ("variant", "reason"),
        [({"price": "x"}, "broken price"), ({"options": "S"}, "bad type"), ({"options": {"a": [1]}}, "bad type")],
    )
    def test_a_bad_variant_rejects_its_product(self, tmp_path: Path, variant: dict[str, object], reason: str) -> None:
        assert read_rows(tmp_path, {"id": "1", "title": "a", "variants": [variant]}).reasons == [(1, reason)]

    @pytest.mark.parametrize(
        ("name", "value", "field", "reason"),
        [
            ("rating", 5.5, "rating", "outside 0 to 5"),
            ("rating", math.nan, "rating", "not a finite number"),
            ("rating", "good", "rating", "not a number"),
            ("review_count", 1.5, "rating_count", "not a count"),
            ("review_count", 2**63, "rating_count", "not a count"),
            ("released", "soon", "created", "not a date"),
            ("updated", 1e300, "updated", "not a date"),
            ("updated", "0001-01-01T00:00:00+23:00", "updated", "not a date"),
            ("availability", "maybe", "availability", "unknown availability"),
            ("currency", "Taler", "currency", "unknown currency"),
            ("language", "English", "language", "no ISO 639-1 code"),
            ("ean", math.nan, "identifiers.ean", "not a finite number"),
            ("attributes", {"weight": math.inf}, "attributes.weight", "not a finite number"),
            ("attributes", {"parts": [{"a": 1}]}, "attributes.parts", "a list of objects"),
            ("_geoloc", {"lat": 152.5, "lng": 13.4}, "places", "latitude and longitude swapped"),
            ("_geoloc", {"lat": math.nan, "lng": 13.4}, "places", "no place on the earth"),
            ("_geoloc", [{"lat": 1, "lng": 2}, "Berlin"], "places", "no place on the earth"),
            ("latitude", 52.5, "places", "no place on the earth"),
            ("geoloc", "0,0", "places", "latitude and longitude are 0"),
        ],
    )
    def test_placeholder_value_is_dropped_with_a_note(
        self, tmp_path: Path, name: str, value: object, field: str, reason: str
    ) -> None:
        outcome = read_rows(tmp_path, {"id": "1", "title": "a"}, {"id": "2", "title": "a", name: value})
        assert outcome.ids == ["1", "2"]
        assert outcome.rows[1].product == Product("2", "a")
        assert [(noted.line, noted.field, noted.reason) for noted in outcome.noted] == [(2, field, reason)]

    def test_objects_nested_too_deep_are_dropped_with_a_note(self, tmp_path: Path) -> None:
        deep: object = "x"
        for _ in range(20):
            deep = {"a": deep}
        outcome = read_rows(tmp_path, {"id": "1", "title": "a", "attributes": deep})
        assert outcome.rows[0].product.attributes == {}
        assert [noted.reason for noted in outcome.noted] == ["nested too deep"]


class TestMapping:
    def test_two_columns_are_a_place(self, tmp_path: Path) -> None:
        rows = [{"id": "1", "title": "a", "latitude": "52.5", "longitude": 13.4, "places": "Berlin"}]
        read_in = read_rows(tmp_path, *rows).products["1"]
        assert (read_in.places, read_in.attributes) == ((Place(52.5, 13.4),), {"places": "Berlin"})

    def test_flags_map_fields(self, tmp_path: Path) -> None:
        flags = ["id=code", "title=text.head", 'price={field = "cost", unit = "cents"}', "attributes.colour=farbe"]
        row = {"code": 1, "text": {"head": "Drill"}, "cost": 250, "farbe": "rot", "title": "other"}
        (one,) = read_rows(tmp_path, row, flags=[*flags, 'currency={value = "EUR"}']).rows
        expected = Product("1", "Drill", price=2.5, currency="EUR", attributes={"colour": "rot", "title": "other"})
        assert one.product == expected

    def test_unused_mapped_name_is_reported_with_similar_names(self, tmp_path: Path) -> None:
        rows = ({"id": "1", "title": "a", "brnd": "x"}, {"id": "2", "title": "b", "cost": None})
        outcome = read_rows(tmp_path, *rows, flags=["brand=brand_", "price=cost", "language=zzz"])
        assert [(n.line, n.field, n.reason, n.detail) for n in outcome.noted] == [
            (0, "brand_", "no row has this field", "did you mean brnd?"),
            (0, "zzz", "no row has this field", "the mapping has no effect there"),
        ]


class TestSeveralReaders:
    def test_name_is_reported_only_if_no_reader_saw_it(self, tmp_path: Path) -> None:
        path = tmp_path / "feed"
        path.write_bytes(b'{"id": "1", "title": "a", "colour": "red"}\n{"id": "2", "title": "b", "size": "XL"}\n')
        mapping = parse_map_flags(["attributes.a=colour", "attributes.b=size", "attributes.c=colur"])
        readers = [RecordReader(mapping), RecordReader(mapping), RecordReader(mapping)]
        for reader, record in zip(readers, read_records([str(path)], mapping=mapping), strict=False):
            assert isinstance(record, Record)
            reader.read_product(record)
        first, second, idle = (reader.fields for reader in readers)
        merged = first.merge(second).merge(idle)
        assert merged == idle.merge(second.merge(first))
        assert [(noted.field, noted.detail) for noted in merged.notes("feed")] == [("colur", "did you mean colour?")]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["12.99 USD", "2024-01-31", "in stock", "A > B", "NaN", "1e999", "-5", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([source.name for rule in FeedMapping().rules.values() for source in rule.sources])
ROWS = st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=8).map(
    lambda row: json.dumps({"id": "1", "title": "a", **row}).encode()
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(ROWS | st.binary(max_size=40), max_size=6))
@example([b'{"id":"1","title":"a","attributes":{"":{"":1}}}'])
def test_arbitrary_lines_become_products_or_rejected_rows(tmp_path: Path, rows: list[bytes]) -> None:
    content = b"{}\n" + b"\n".join(rows)
    outcome = read_bytes(tmp_path, content)
    if not outcome.error:
        written = [line for line in content.split(b"\n") if line and not line.isspace()]
        assert len(outcome.rows) + len(outcome.rejected) == len(written)
    for row in outcome.rows:
        assert row.product.id.strip() == row.product.id != ""
        assert row.product.title
        numbers = [row.product.price, row.product.rating, *row.product.attributes.values()]
        assert all(math.isfinite(number) for number in numbers if isinstance(number, float))
