"""Columns of feeds: their mapping, proposals and records of Parquet files."""

from __future__ import annotations

import gzip
import io
import json
import math
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.feeds.base import Row
from shelfwise.indexer.feeds.io import MAX_LINE
from shelfwise.indexer.feeds.mapping import (
    DEFAULT_RULES,
    FeedMapping,
    FieldSource,
    MappingRule,
    load_mapping,
    parse_map_flags,
)
from shelfwise.indexer.feeds.reader import propose_columns
from shelfwise.retrieval.errors import FeedError
from tests.unit.indexer.feeds.feed_outcome import FEEDS, read, read_bytes

HEAD = b"id,title,price\n"


def test_known_names_in_another_spelling_and_columns_that_become_attributes() -> None:
    outcome = read(FEEDS / "plain.csv")
    drill, saw = outcome.products.values()
    assert (drill.id, drill.title, drill.price, drill.currency, drill.brand) == ("1", "Drill", 99.9, "EUR", "Bosch")
    assert drill.attributes == {"Voltage": "18"}
    assert (saw.title, saw.brand, saw.attributes) == ("Saw, fine", "", {})


def test_columns_of_any_name_are_mapped() -> None:
    flags = ["id=Artikel", "title=Product Name", "price=Preis", "brand=Marke", "availability=Lager"]
    outcome = read(FEEDS / "maschinen.csv", flags=flags)
    assert outcome.products["1"].price == 1299.0
    assert [product.title for product in outcome.products.values()] == ['Bohrmaschine "Profi"', "Säge; fein", "Hammer"]
    assert outcome.reasons == [(4, "wrong number of cells"), (5, "wrong number of cells")]
    assert outcome.rejected[0].detail == "6 cells, but the header has 5"
    assert not outcome.noted


def test_table_without_an_id_column_suggests_a_mapping() -> None:
    assert read(FEEDS / "maschinen.csv", flags=["title=Product Name"]).error == (
        f"{FEEDS / 'maschinen.csv'}: no column is the id (known: id, product_id, sku, asin); its columns are Artikel, "
        "Product Name, Preis, Marke, Lager; name it with --map id=Artikel --map price=Preis"
    )
    assert read(FEEDS / "maschinen.csv", flags=["id=Artikel", "title=Product_Name"]).error.endswith(
        "name it with --map 'title=Product Name' --map price=Preis"
    )


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_delimiter_is_detected_from_the_header(tmp_path: Path, mark: str) -> None:
    content = f'id{mark}title{mark}"a, b; c|d"\n1{mark}"x{mark}y"{mark}z\n'
    (row,) = read_bytes(tmp_path, content.encode()).rows
    assert (row.product.id, row.product.title) == ("1", f"x{mark}y")


def test_excel_sep_line_is_not_the_header(tmp_path: Path) -> None:
    (row,) = read_bytes(tmp_path, b"sep=;\r\nid;title\r\n1;Drill, 18 V\r\n").rows
    assert (row.line, row.product.title) == (3, "Drill, 18 V")


def test_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    content = b'\r\nid,title,price\r\n1,"two\r\nlines",5\r\n\r\n2,one,x\r\n,,\r\n3,"a ""b""\n\n",6'
    outcome = read_bytes(tmp_path, content)
    assert [(row.line, row.product.title) for row in outcome.rows] == [(3, "two\r\nlines"), (8, 'a "b"')]
    assert outcome.reasons == [(6, "broken price")]


@pytest.mark.parametrize(
    ("row", "line", "reason"),
    [
        (b"2,b", 3, "wrong number of cells"),
        (b"2,b,3,4", 3, "wrong number of cells"),
        (b"2,\xff,3", 3, "not UTF-8"),
        (b"2,b\rc,3", 3, "not a row"),
        (b"2," + b"x" * (MAX_LINE + 10) + b",3", 3, "over 1 MB"),
        (b"2," + b"x," * 600_000 + b",3", 3, "over 1 MB"),
        (b",b,3", 3, "no id"),
        (b'2,"b\n\n,3', 3, "wrong number of cells"),
    ],
)
def test_only_the_bad_row_is_rejected(tmp_path: Path, row: bytes, line: int, reason: str) -> None:
    good = "".join(f"good {n},Öl,5\n" for n in range(3)).encode()
    outcome = read_bytes(tmp_path, HEAD + b"first,a,5\n" + row + b"\n" + good)
    assert outcome.ids == ["first", "good 0", "good 1", "good 2"]
    assert outcome.reasons == [(line, reason)]


def test_unnamed_and_duplicate_columns_stay_separate(tmp_path: Path) -> None:
    (row,) = read_bytes(tmp_path, b"id,title,,note,note\n1,a,x,y,z\n").rows
    assert row.product.attributes == {"column 3": "x", "note": "y", "note 5": "z"}


def test_stray_quotes_on_every_line_are_parsed_in_linear_time(tmp_path: Path) -> None:
    outcome = read_bytes(tmp_path, HEAD + b'1,"a,5\n' * 40_000)
    assert len(outcome.rejected) > 0
    assert not outcome.error


@pytest.mark.parametrize("escape", ['\\"', '""'])
def test_quotes_inside_cells_are_doubled_or_escaped(tmp_path: Path, escape: str) -> None:
    rows = "".join(f'"{n}","Screen 7{escape}, flat","5"\n' for n in range(3))
    outcome = read_bytes(tmp_path, HEAD + rows.encode())
    assert [row.product.title for row in outcome.rows] == ['Screen 7", flat'] * 3


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        *((name, "Säge für Bäume") for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        ("cp1252", "Säge für Bäume – größte Auswahl weiße Blüten süß"),
        ("cp1252", "Preis 5 € – „neu“"),
        ("cp1252", "HP® LaserJet"),  # in cp932 a letter of Japanese
        ("cp1252", "Memory card 5 €"),  # in cp1251 a letter of Serbian
        ("cp1250", "Żółta wiertarka udarowa łożysko"),
        ("cp1253", "Ηλεκτρικό τρυπάνι"),
        ("cp949", "무선 드릴 전동 공구"),
        ("cp1251", "Дрель аккумуляторная с двумя батареями в кейсе"),
        ("gb18030", "无线电钻充电式手电钻家用多功能电动螺丝刀"),
        ("shift_jis", "コードレスドリル充電式電動ドライバー"),
    ],
)
def test_encoding_is_detected_and_reported(tmp_path: Path, encoding: str, title: str) -> None:
    text = "id,title\n" + "".join(f"{n},{title} {n}\n" for n in range(50))
    outcome = read_bytes(tmp_path, text.encode(encoding))
    assert [row.product.title for row in outcome.rows] == [f"{title} {n}" for n in range(50)]
    notes = [(noted.line, noted.field, noted.reason) for noted in outcome.noted]
    assert notes == ([] if encoding.startswith("utf-8") else [(0, "encoding", "not UTF-8")])


def test_undecodable_row_is_rejected(tmp_path: Path) -> None:
    content = ("id,title\n" + "1,a\n" * 20 + "2,b\n").encode("utf-16-le").replace(b"b\0", b"\x00\xdc")
    outcome = read_bytes(tmp_path, content)
    assert (outcome.ids, outcome.reasons) == (["1"], [*((n, "duplicate id") for n in range(3, 22)), (22, "not UTF-8")])


def test_json_elements_have_their_start_lines() -> None:
    outcome = read(FEEDS / "products.json")
    assert [(row.line, row.product.title) for row in outcome.rows] == [
        (2, "Hammer [steel], {new}"),
        (3, 'Saw, "fine"'),
        (10, "Screw"),
    ]
    assert outcome.reasons == [(8, "not JSON"), (9, "not an object")]


@pytest.mark.parametrize("indent", [None, 1])
def test_json_array_of_any_size_is_read(tmp_path: Path, indent: int | None) -> None:
    rows = [{"id": str(n), "title": f'"{n}" \\ [{{', "attributes": {"a": ["]", "}"] * (n % 50)}} for n in range(9_000)]
    outcome = read_bytes(tmp_path, json.dumps(rows, indent=indent).encode())
    assert outcome.ids == [str(n) for n in range(9_000)]
    assert outcome.rows[10].product.title == '"10" \\ [{'


@pytest.mark.parametrize(
    ("content", "ids", "reasons", "error"),
    [
        ("[]", [], [], ""),
        (" \n[\n]\n ", [], [], ""),
        ('[{"id":"1","title":"a"},]', ["1"], [], ""),
        ('[{"id":"1","title":"a"}', [], [], "cannot be read after line 0: the array is not closed"),
        ('[{"id":"1","title":"a"},\n{"id":', ["1"], [], "cannot be read after line 0: the array is not closed"),
        ('[{"id":"1","title":"a"}]\n x', ["1"], [], "line 2: text after the end of the JSON array"),
        ('[\n{"id":"1","title":"a\n"},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
        ('[\n[1],\n"x",\nnull,\n{"id":"2","title":"b"}]', ["2"], [(n, "not an object") for n in (2, 3, 4)], ""),
        ('[\n{"id":"1","title":"a\\\n"},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
        ('[\n{"id":"1","title":"a\nb, [c"},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
        ('[\n{"id":"1","title":"a, "x":1},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
        ('[\n{"id":"1","title":a", "x":1},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
    ],
)
def test_malformed_json_is_reported_with_its_position(
    tmp_path: Path, content: str, ids: list[str], reasons: list[tuple[int, str]], error: str
) -> None:
    outcome = read_bytes(tmp_path, content.encode())
    assert (outcome.ids, outcome.reasons) == (ids, reasons)
    assert error in outcome.error
    assert bool(error) == bool(outcome.error)


def test_element_over_1_mb_is_rejected_and_over_16_mb_ends_reading(tmp_path: Path) -> None:
    long = '{"id": "2", "title": "' + "x" * MAX_LINE + '"}'
    outcome = read_bytes(tmp_path, f'[{{"id":"1","title":"a"}},\n{long},\n{{"id":"3","title":"c"}}]'.encode())
    assert (outcome.ids, outcome.reasons) == (["1", "3"], [(2, "over 1 MB")])
    outcome = read_bytes(tmp_path, b'[{"id":"1","title":"a"},\n"' + b"x" * (17 * MAX_LINE))
    assert (outcome.ids, "line 1: an element has over 16 MB" in outcome.error) == (["1"], True)


TOML = """
title = "product_name"
brand = "maker.name"
description = ["long_text", "short_text"]
price = {field = "cost", unit = "cents"}
currency = {value = "EUR"}
identifiers.ean = "barcode"
attributes = {field = "specs"}
places = {lat = "breite", lng = "laenge"}
"""
JSON = """
{"title": "product_name", "brand": "maker.name", "description": ["long_text", "short_text"],
 "price": {"field": "cost", "unit": "cents"}, "currency": {"value": "EUR"}, "identifiers": {"ean": "barcode"},
 "attributes": {"field": "specs"}, "places": {"lat": "breite", "lng": "laenge"}}
"""


@pytest.mark.parametrize("content", [TOML, JSON, "\ufeff" + TOML])
def test_a_mapping_file_replaces_the_names_of_the_fields_it_names(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mapping"
    path.write_text(content, encoding="utf-8")
    mapping = load_mapping(path)
    assert mapping.rules["title"] == MappingRule((FieldSource("product_name"),))
    assert mapping.rules["brand"] == MappingRule((FieldSource("maker.name"),))
    assert mapping.rules["description"] == MappingRule((FieldSource("long_text"), FieldSource("short_text")))
    assert mapping.rules["price"] == MappingRule((FieldSource("cost", "cents"),))
    assert mapping.rules["currency"] == MappingRule((), "EUR")
    assert mapping.rules["identifiers.ean"] == MappingRule((FieldSource("barcode"),))
    assert mapping.rules["attributes"] == MappingRule((FieldSource("specs"),))
    assert mapping.rules["places.lat"] == MappingRule((FieldSource("breite"),))
    assert mapping.rules["id"] == DEFAULT_RULES["id"], "what the file does not name stays"
    names = {"product_name", "maker.name", "long_text", "short_text", "cost", "barcode", "specs", "breite", "laenge"}
    assert mapping.user_names == names


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("title", "--map title: expected FIELD=NAME, such as title=product_name"),
        ("title=", "expected FIELD=NAME"),
        ("titel=x", "a product has no field 'titel'; did you mean title?"),
        ("zzz=x", "a product has no field 'zzz'; the fields are id, title, description"),
        ("identifiers.=x", "a product has no field 'identifiers.'"),
        ("price={field = 'cost', unit = 'pence'}", "unit: Invalid enum value 'pence'"),
        ("price={unit = 'cents'}", "expected a field, a value"),
        ("price={from = 'cost'}", "price: no field 'from'; the fields are field, unit, value"),
        ("price={", "is not a TOML value"),
        ("price=[3]", "price: expected a name, a list of names, or a table of field, unit and value"),
        (f"price={{value = {'7' * 400}}}", "has an integer of more than 64 bits"),
    ],
)
def test_invalid_flag_is_refused(flag: str, message: str) -> None:
    with pytest.raises(FeedError) as error:
        parse_map_flags([flag])
    assert message in str(error.value)
    assert str(error.value).startswith(f"--map {flag}")


@pytest.mark.parametrize(
    "content",
    ["title", "{", '{"title": }', "title = 3", "colour = 'x'", "[" * 10_000, "a = 1\na = 2", "a = " + "7" * 5_000],
)
def test_invalid_mapping_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FeedError, match=r"shop\.toml"):
        load_mapping(path)


def test_missing_or_binary_mapping_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, fault in {"missing": "cannot be read", ".": "cannot be read", "binary": "is not valid UTF-8"}.items():
        with pytest.raises(FeedError, match=fault):
            load_mapping(tmp_path / name)


@given(st.lists(st.text() | st.from_regex(r"(title|price|attributes\.x)=[\[{\"']?.*"), max_size=3))
def test_arbitrary_flags_give_a_mapping_or_a_feed_error(flags: list[str]) -> None:
    try:
        mapping = parse_map_flags(flags)
    except FeedError:
        return
    assert mapping.rules.keys() >= DEFAULT_RULES.keys()


GERMAN: list[Row] = [
    {"EAN": ean, "Gewicht": weight, "Kategorie": "Werkzeug > Bohrer", "Artikelnummer": f"A-{at}", "Text": text * 3}
    | {"Stand": f"2026-11-0{at}", "Bezeichnung": text, "Preis": price}
    for at, (ean, weight, text, price) in enumerate(
        [
            ("4006381333931", "1,25", "Akkuschrauber 12V mit Koffer", "89,90 €"),
            ("4006381333948", "2,40", "Schlagbohrmaschine 750W", "1.119,00 €"),
            ("", "0,35", "Gartenschere für Hecken", "19,95 €"),
        ]
    )
]
WHOLE = {"id": "Artikelnummer", "title": "Bezeichnung", "price": "Preis"}


def proposed(rows: list[Row], *flags: str) -> dict[str, str]:
    return dict(propose_columns(rows, parse_map_flags(flags, FeedMapping())))


def test_the_values_decide_whatever_the_names_are() -> None:
    assert proposed(GERMAN) == WHOLE
    letters = dict(zip(GERMAN[0], "abcdefgh", strict=True))
    assert proposed([{letters[name]: value for name, value in row.items()} for row in GERMAN]) == {
        "id": "d",
        "title": "g",
        "price": "h",
    }


@pytest.mark.parametrize(
    ("rows", "flags", "expected"),
    {
        "a similar name before better values": (
            [{"uvp": f"{90 + at}.99", "vk_preis": f"{80 + at}.99", "id": at, "title": "x"} for at in range(9)],
            (),
            {"price": "vk_preis"},
        ),
        "no mapped field or column": (GERMAN, ("price=Gewicht", "id=Artikelnummer"), {"title": "Bezeichnung"}),
        "no field with a value for all": (GERMAN, ("title=Bezeichnung", "price={value = 5}"), {"id": "Artikelnummer"}),
        "a price on request is no title": (
            [*GERMAN, {**GERMAN[0], "Artikelnummer": "A-9", "Preis": "auf Anfrage"}],
            (),
            WHOLE,
        ),
        "numbers and Chinese titles": (
            [{"编号": f"c{at}", "名称": f"无线电钻{at}", "价格": 199 + at / 10} for at in range(9)],
            (),
            {"id": "编号", "title": "名称", "price": "价格"},
        ),
    }.values(),
)
def test_columns_are_proposed(rows: list[Row], flags: tuple[str, ...], expected: dict[str, str]) -> None:
    assert proposed(rows, *flags) == expected


@pytest.mark.parametrize(
    "values",
    [
        ["7", "8", "9"],
        ["1.25 kg", "2.50 kg", "3.75 kg"],
        ["2026-11-01", "2026-11-02", "2026-11-03"],
        ["red", "blue", "12.50"],
        ["", "", ""],
        [math.inf, -math.inf, math.nan],
    ],
)
def test_other_numbers_are_no_prices(values: list[object]) -> None:
    assert proposed([{"id": at, "title": "x", "x": value} for at, value in enumerate(values)]) == {}


def test_proposals_are_noted_once_and_never_change_the_rows(tmp_path: Path) -> None:
    line = '{"id": "%s", "title": "Lamp", "preis": 19.95}\n'
    found = read_bytes(tmp_path, "".join(line % at for at in range(500)).encode())
    assert [(note.field, note.detail) for note in found.noted] == [("price", "preis looks like it: --map price=preis")]
    assert len(found.rows) == 500
    assert found.rows[0].product.attributes == {"preis": 19.95}


ROW = {
    "Product ID": 17,
    "title": "Drill",
    "price": Decimal("12.90"),
    "currency": "EUR",
    "in_stock": True,
    "images": ["a.jpg", "b.jpg"],
    "created": datetime(2024, 1, 2, 3, tzinfo=UTC),
    "expires": date(2024, 12, 31),
    "attributes": {"volt": 18.0, "kind": b"text"},
    "weight": 2,
}


def packed(*rows: dict[str, object]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file, row_group_size=2)
    return file.getvalue()


CONTENT = packed(*({**ROW, "Product ID": number} for number in range(5)))


def test_typed_columns_become_fields(tmp_path: Path) -> None:
    outcome = read_bytes(tmp_path, packed(ROW))
    assert not (outcome.rejected or outcome.noted or outcome.error)
    (row,) = outcome.rows
    product = row.product
    assert (row.line, product.id, product.price, product.currency) == (1, "17", 12.9, "EUR")
    assert (product.images, product.created) == (("a.jpg", "b.jpg"), datetime(2024, 1, 2, 3, tzinfo=UTC))
    assert product.expires == datetime(2024, 12, 31, tzinfo=UTC)
    assert product.attributes == {"volt": 18.0, "kind": "text", "weight": 2.0}


def test_a_row_is_named_by_its_number_and_can_be_written_as_json(tmp_path: Path) -> None:
    outcome = read_bytes(tmp_path, packed(ROW, {**ROW, "title": None}))
    assert outcome.reasons == [(2, "no title")]
    assert b'"12.90"' in outcome.rejected_file


def test_compressed_and_piped_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_bytes(tmp_path, gzip.compress(CONTENT)).ids == ["0", "1", "2", "3", "4"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTENT)))
    assert read("-").ids == ["0", "1", "2", "3", "4"]


def test_truncated_file_raises(tmp_path: Path) -> None:
    for content in (CONTENT[:-1], CONTENT[:50], b"PAR1\x15\x04"):
        assert "cannot be read after line 0" in read_bytes(tmp_path, content).error


@given(st.data())
def test_damaged_file_raises_only_feed_errors(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    outcome = read_bytes(tmp_path, bytes(damaged))
    assert all(rejected.line > 0 for rejected in outcome.rejected)
