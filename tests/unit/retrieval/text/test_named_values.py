"""Values that queries name, preferences, compatible products and matching words."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.records import AttributeValue, Product, RelationEvidence, RelationKind
from shelfwise.retrieval.text.analysis import Analyzer, Synonyms, fold
from shelfwise.retrieval.text.compatibility import model_keys, named_models, named_things
from shelfwise.retrieval.text.highlight import Marks, Matcher, excerpt, marked
from shelfwise.retrieval.text.named_values import VALUES_FILE, NamedValues, derive_values
from shelfwise.retrieval.text.preferences import price_bounds


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


@pytest.mark.parametrize(
    ("query", "low", "high", "text"),
    [
        ("drill under 100", None, 100, "drill"),
        ("Drill Under $1,200.50 with case", None, 1200.5, "Drill with case"),
        ("cordless drill for less than 99 dollars", None, 99, "cordless drill"),
        ("backpack over 50€", 50, None, "backpack"),
        ("between 50 and 20 dollars backpack", 20, 50, "backpack"),
        ("100元以下的背包", None, 100, "背包"),
        ("背包 200元以上", 200, None, "背包"),
        ("iphone 12 up to 500", None, 500, "iphone 12"),
    ],
)
def test_price_bounds_are_removed_from_the_query(query: str, low: float | None, high: float | None, text: str) -> None:
    bounds = price_bounds(query)
    assert bounds is not None
    assert (bounds.low, bounds.high, bounds.text) == (low, high, text)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "drill",
        "under 100",
        "under cabinet light",
        "tv over 50 inch",
        'tv over 50"',
        "up to 5% off",
        "under 12v drill",
    ],
)
def test_other_numbers_are_not_prices(query: str) -> None:
    assert price_bounds(query) is None


def named_by(product: Product, other: Product) -> list[tuple[str, str]]:
    """Fields and texts of a product that name the other one, by the longest name."""
    keys = model_keys(other)
    return [(each.field, each.text) for each in named_models(product) if keys.intersection(each.keys)]


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ("DCP-130C, LaserJet P1505n, MFC-5", "HP LaserJet P1505n Printer 600 x 600 DPI A4"),
        ("Designjet 500 series", "HP Designjet 500 large format printer"),
        ("LaserJet Pro 400 color M 451 dn", "HP LaserJet Pro 400 color M451dn"),
        ("- FS10 Flash Memory Camcorder\\n- FS100", "Canon FS100 camcorder"),
        ("iPhone 12/iPhone 13", "Apple iPhone 13 128 GB"),
    ],
)
def test_an_attribute_names_a_model(value: str, title: str) -> None:
    cartridge = Product("c", "Toner", attributes={"compatibility": value})
    assert [field for field, _ in named_by(cartridge, Product("p", title))] == ["compatibility"]


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ("LaserJet Pro 400 M401a", "HP LaserJet Pro 400 color M451dn"),
        ("EF 70-300mm", "Canon EF 70-200mm lens"),
        ("Windows 7, 4 GB", "Memory 4 GB"),
        ("P1505", "Toner for LaserJet P1505"),
        ("T644", "Lexmark T640, T642, T644 Print Cartridge"),
    ],
    ids=["another model", "quantities", "another quantity", "what is for it", "a list of models"],
)
def test_another_model_is_not_named(value: str, title: str) -> None:
    assert named_by(Product("c", "Toner", attributes={"compatibility": value}), Product("p", title)) == []


@pytest.mark.parametrize(
    "text",
    [
        "Case for Galaxy S21 black",
        "compatible with Galaxy S21, S22",
        "手机壳 适用于Galaxy S21",
        "fits: Galaxy S21 (2021)",
    ],
)
def test_a_title_names_a_model(text: str) -> None:
    phone = Product("p", "Samsung Galaxy S21 128GB")
    (found,) = (each for each in named_models(Product("c", text)) if model_keys(phone).intersection(each.keys))
    assert (found.kind, found.evidence, found.field) == (RelationKind.FITS, RelationEvidence.TEXTS, "title")


def test_contents_and_wholes_are_named_by_id_and_code() -> None:
    drill = Product("d000042", "Cordless Drill", identifiers={"mpn": ("KH-4827",)})
    kit = Product("k", "Tool Kit", attributes={"contains": ("d000042", "Hammer"), "part_of": "KH4827"})
    found = [(each.kind, each.field, each.reverse) for each in named_models(kit) if model_keys(drill) & {*each.keys}]
    assert found == [(RelationKind.PART_OF, "contains", True), (RelationKind.PART_OF, "part_of", False)]


def test_other_attributes_name_nothing() -> None:
    texts = {"colour": "KH-4827", "fitness": "KH-4827"}
    values = texts | {"compatible": True, "compatibility_year": 2021.0}
    assert list(named_models(Product("k", "Tool Kit", attributes=values))) == []


def test_titles_name_the_compatible_things() -> None:
    assert named_things("Silicone Case for Wireless Earbuds (Red)") == ["wireless earbuds"]
    assert named_things("保护壳 适用于 无线耳机") == ["无线耳机"]
    assert named_things("Forest Green Jacket") == []


@pytest.mark.parametrize(
    "title",
    [
        "HP 3y Nbd LaserJet M3027MFP HW Supp",
        "HP 3yNbdClrLsrJt CP6015 HW Supp",
        "Lexmark T642 4-Years Total (1+3) Onsite Service Guarantee",
        "LaserJet M3027 MFP Care Pack",
    ],
)
def test_a_service_for_a_device_is_not_named_by_its_model(title: str) -> None:
    assert not {"t642", "m3027mfp", "m3027", "cp6015"} & model_keys(Product("s", title))


def test_a_device_with_a_warranty_keeps_its_model() -> None:
    assert "gsr18v" in model_keys(Product("d", "Bosch GSR18V drill, 2 year warranty"))


MARKS = Marks("[", "]")
SYNONYMS = ("sofa, couch, love seat", "cell phone, handset", "电钻, 钻机, drill", "无线电钻 => 充电钻", "tv => 电视")


@pytest.mark.parametrize(
    ("text", "query", "value"),
    [
        ("WiFi router", "wi fi", "[WiFi] router"),
        ("Wi-Fi router", "wifi", "[Wi-Fi] router"),
        ("DCD771C2 kit", "dcd 771 c2", "[DCD771C2] kit"),
        ("Drill c 5", "c2", "Drill c 5"),
        ("18V battery", "18 volt", "[18V] battery"),
        ("无线电钻", "电钻", "无线[电钻]"),
        ("电视", "电钻", "电视"),
        ("Red couch", "sofa", "Red [couch]"),
        ("A love seat", "sofa", "A [love] [seat]"),
        ("A child seat", "sofa", "A child seat"),
        ("A child seat", "love seat", "A child [seat]"),
        ("A sofa", "red love seats", "A [sofa]"),
        ("A couch", "seat", "A couch"),
        ("Handsets", "cell phone case", "[Handsets]"),
        ("Phone of a cell", "handset", "[Phone] of a [cell]"),
        ("家用钻机 18V", "电钻", "家用[钻机] 18V"),
        ("家用钻机", "drill", "家用[钻机]"),
        ("Drills", "电钻", "[Drills]"),
        ("充电钻", "无线电钻", "[充电][钻]"),
        ("TV 电视机 电视", "tv", "[TV] [电视]机 [电视]"),
    ],
)
def test_typed_words_and_complete_synonyms_match(text: str, query: str, value: str) -> None:
    matcher = Matcher(Analyzer(Synonyms.parse(SYNONYMS)), query)
    assert marked(text, ((each.start, each.end) for each in matcher.matches(text)), MARKS) == value


def test_synonym_match_names_the_query_words() -> None:
    matcher = Matcher(Analyzer(Synonyms.parse(SYNONYMS)), "red love seat")
    (match,) = matcher.matches("Grey sofa")
    assert match.words == {"love", "seat"}
    assert matcher.words == ("red", "love", "seat")


@pytest.mark.parametrize(
    ("words", "first", "value"), [(0, 0, "…"), (2, 0, "a b…"), (3, 12, "…e f g…"), (9, 0, "a b c d e f g h")]
)
def test_excerpt_marks_truncation(words: int, first: int, value: str) -> None:
    text = "a b c d e f g h"
    assert marked(text, (), MARKS, bounds=excerpt(text, words, first)) == value


def test_spans_outside_the_bounds_are_left_out() -> None:
    assert marked("a<b<c", ((0, 1), (2, 3), (4, 5)), MARKS, lambda text: text.replace("<", "&lt;"), (1, 4)) == (
        "…&lt;[b]&lt;…"
    )
