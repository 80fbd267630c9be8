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
        ["4.5", "3.9", "4.1"],
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
