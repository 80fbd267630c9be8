"""Values of a catalog that are named in queries."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.records import AttributeValue, Product
from shelfwise.retrieval.text.analysis import fold
from shelfwise.retrieval.text.named_values import VALUES_FILE, NamedValues, derive_values


def product(title: str, brand: str = "", **attributes: AttributeValue) -> Product:
    return Product(id=title, title=title, brand=brand, attributes=attributes)


CATALOG = [
    product("HP Notebook 15", "HP", product_colour="Forest Green", size="Large"),
    product("Black & Decker drill", "Black & Decker", product_colour="Black,Red", size=8),
    product("Office desk", "Office", product_colour="Black", size="XL"),
    product("Office chair", "Sitwell", product_colour="red"),
    product("Office lamp", "Lumen", product_colour=("Blue", "Red"), is_size=True),
    product("极屿 耳机", "极屿", 颜色="红色", size="8.5"),
]
VALUES = derive_values(lambda work: [work(CATALOG)])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("hp laptop", [("hp", {"brand": ["HP"]})]),
        ("laptop from HP", [("hp", {"brand": ["HP"]})]),
        ("black and decker drill", [("black and decker", {"brand": ["Black & Decker"]})]),
        ("black+decker drill", [("black+decker", {"brand": ["Black & Decker"]})]),
        ("green bag", [("green", {"attributes.product_colour": ["Forest Green"]})]),
        ("forest green bag", [("forest green", {"attributes.product_colour": ["Forest Green"]})]),
        ("red shoes size 8", [("red", {"attributes.product_colour": ["red", "Red", "Black,Red"]}), ("size 8", None)]),
        ("8 shoes", []),
        ("size 8.5 shoes", [("size 8.5", {"attributes.size": ["8.5"]})]),
        ("xl shirt", [("xl", {"attributes.size": ["XL"]})]),
        ("极屿红色耳机", [("极屿", {"brand": ["极屿"]}), ("红色", {"attributes.颜色": ["红色"]})]),
        ("chippy", []),
        ("hp hp hp " * 1_000, [("hp", {"brand": ["HP"]})]),
        ("", []),
    ],
)
def test_queries_name_brands_colours_and_sizes(
    query: str, expected: list[tuple[str, dict[str, list[str]] | None]]
) -> None:
    folded = fold(query)
    found = [(folded[each.start : each.end], each.values) for each in VALUES.find(folded)]
    assert [text for text, _ in found] == [text for text, _ in expected]
    for (_, values), (_, wanted) in zip(found, expected, strict=True):
        if wanted is not None:
            assert {name: sorted(each) for name, each in values.items()} == {
                name: sorted(each) for name, each in wanted.items()
            }


@pytest.mark.parametrize(("text", "expected"), [("black+decker", True), ("xl", True), ("hp drill", False), ("", False)])
def test_text_that_is_one_value_is_recognised(text: str, expected: bool) -> None:
    assert VALUES.is_value(text) is expected


def test_brand_name_that_is_a_common_title_word_is_not_recognised() -> None:
    assert VALUES.find("office chair") == []


def test_field_of_few_products_gives_no_values() -> None:
    rare = [product(f"Lamp {number}", "Lumen", cord_colour="Teal" if number == 0 else ()) for number in range(150)]
    assert set(derive_values(lambda work: [work(rare)]).by_phrase) == {"lumen"}


def test_values_round_trip_and_damage_is_reported(tmp_path: Path) -> None:
    VALUES.write(tmp_path)
    assert NamedValues.open(tmp_path) == VALUES
    (tmp_path / VALUES_FILE).write_text("[1]")
    with pytest.raises(StoreDamagedError, match="rebuild the index"):
        NamedValues.open(tmp_path)
