"""Tables with any columns: delimiters, quotes, encodings, line numbers, and rows with missing or extra cells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shelfwise.indexer.feeds.io import MAX_LINE
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
        (b"2," + b"x" * 200_000 + b",3", 3, "over 1 MB"),
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
        ("cp1252", "Taladro eléctrico inalámbrico pequeño"),
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
        ('[{"id":"1","title":"a"}]\n[]', ["1"], [], "line 2: text after the end"),
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
