"""Columns that are proposed for the id, the title and the price, by their values."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from shelfwise.indexer.feeds.base import Row
from shelfwise.indexer.feeds.mapping import FeedMapping, parse_map_flags
from shelfwise.indexer.feeds.proposals import propose_columns
from tests.unit.indexer.feeds.feed_outcome import read_bytes

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


def proposed(rows: list[Row], *flags: str) -> dict[str, str]:
    return dict(propose_columns(rows, parse_map_flags(flags, FeedMapping())))


def test_the_values_decide_whatever_the_names_are() -> None:
    assert proposed(GERMAN) == {"id": "Artikelnummer", "title": "Bezeichnung", "price": "Preis"}
    letters = dict(zip(GERMAN[0], "abcdefgh", strict=True))
    assert proposed([{letters[name]: value for name, value in row.items()} for row in GERMAN]) == {
        "id": "d",
        "title": "g",
        "price": "h",
    }


def test_a_similar_name_comes_before_better_values() -> None:
    rows: list[Row] = [{"uvp": f"{90 + at}.99", "vk_preis": f"{80 + at}.99", "id": at, "title": "x"} for at in range(9)]
    assert proposed(rows) == {"price": "vk_preis"}


def test_a_mapped_field_or_column_is_not_proposed() -> None:
    assert proposed(GERMAN, "price=Gewicht", "id=Artikelnummer") == {"title": "Bezeichnung"}
    assert proposed(GERMAN, "title=Bezeichnung", "price={value = 5}") == {"id": "Artikelnummer"}


@pytest.mark.parametrize(
    "values",
    [
        ["7", "8", "9"],
        ["4.5", "3.9", "4.1"],
        ["1.25 kg", "2.50 kg", "3.75 kg"],
        ["2026-11-01", "2026-11-02", "2026-11-03"],
        ["red", "blue", "12.50"],
        ["", "", ""],
    ],
)
def test_other_numbers_are_no_prices(values: list[str]) -> None:
    assert proposed([{"id": at, "title": "x", "x": value} for at, value in enumerate(values)]) == {}


def test_a_price_on_request_is_no_title() -> None:
    rows = [*GERMAN, {**GERMAN[0], "Artikelnummer": "A-9", "Preis": "auf Anfrage"}]
    assert proposed(rows) == {"id": "Artikelnummer", "title": "Bezeichnung", "price": "Preis"}


def test_numbers_and_chinese_titles_of_json_are_recognised() -> None:
    rows: list[Row] = [{"编号": f"c{at}", "名称": f"无线电钻{at}", "价格": 199 + at / 10} for at in range(9)]
    assert proposed(rows) == {"id": "编号", "title": "名称", "price": "价格"}


def test_an_infinite_number_is_not_proposed() -> None:
    assert proposed([{"id": 1, "title": "x", "x": number} for number in (math.inf, -math.inf, math.nan)]) == {}


def test_proposals_are_noted_once_and_never_change_the_rows(tmp_path: Path) -> None:
    line = '{"id": "%s", "title": "Lamp", "preis": 19.95}\n'
    found = read_bytes(tmp_path, "".join(line % at for at in range(500)).encode())
    assert [(note.field, note.detail) for note in found.noted] == [("price", "preis looks like it: --map price=preis")]
    assert len(found.rows) == 500
    assert found.rows[0].product.attributes == {"preis": 19.95}
