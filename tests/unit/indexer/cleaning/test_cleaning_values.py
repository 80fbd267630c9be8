"""Values of one kind: categories, identifiers, images, quantities, codes, placeholders."""

from __future__ import annotations

import pytest
from pint import UnitRegistry

from indexer.cleaning import cleaner
from indexer.cleaning.cleaner import (
    clean_currency,
    clean_identifier,
    clean_image,
    clean_language,
    digits_only,
    is_broken,
)
from indexer.cleaning.measures import parse_quantity
from indexer.cleaning.text import is_placeholder


def number_of(text: str, unit: str) -> float:
    found = parse_quantity(text)
    assert found is not None
    assert found[0] == unit
    return found[1]


@pytest.mark.parametrize(
    "text", ["N/A", "n/a", "-", "--", "?", "Unknown", "DOES NOT APPLY", "null", "Ｎ／Ａ", "无", "unbekannt"]
)
def test_values_that_say_nothing_are_known(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("text", ["NA-KD", "Bosch", "3M", "No Name", "Unknown Worlds", "无印良品", "C", "0"])
def test_real_brands_are_no_placeholders(text: str) -> None:
    assert not is_placeholder(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("Tools > Drills", "Cordless"), ("Tools", "Drills", "Cordless")),
        (("Tools|Drills",), ("Tools", "Drills")),
        (("Tools › Drills » Cordless",), ("Tools", "Drills", "Cordless")),
        (("Home", "Bed/Bath"), ("Home", "Bed/Bath")),
        (("Root Catalog", "All Products", "Tools"), ("Tools",)),
        (("Tools", "TOOLS", "", "Drills"), ("Tools", "Drills")),
        (("Tools", "N/A"), ("Tools",)),
        (("Tools", "Drills", "Tools"), ("Tools", "Drills", "Tools")),
        (("首页", "工具"), ("工具",)),
        (("All",), ()),
    ],
)
def test_category_paths(path: tuple[str, ...], expected: tuple[str, ...]) -> None:
    cleaned, changed = cleaner.clean_path(path)
    assert cleaned == expected
    assert bool(changed) == (path != expected)
    assert cleaner.clean_path(cleaned) == (cleaned, frozenset())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4 006381 333931", "4006381333931"),
        ("978-3-16-148410-0", "9783161484100"),
        ("0-306-40615-x", "030640615X"),
        ("４００６３８１３３３９３１", "4006381333931"),
        ("95205603217.0", "95205603217"),
        ("'0012345678905", "0012345678905"),
        ("AB-12", "AB-12"),
        ("12-34", "12-34"),
        ("4006381333930", "4006381333930"),  # the check digit is wrong, which the checker says
    ],
)
def test_codes_of_digits(text: str, expected: str) -> None:
    assert digits_only(text) == expected


@pytest.mark.parametrize(
    ("kind", "text", "broken"),
    [
        ("ean", "4.00638E+12", True),
        ("gtin", "4,00638E12", True),
        ("upc", "9e+11", True),
        ("sku", "1.2E+10", True),
        ("sku", "1E10", False),
        ("mpn", "7E3", False),
        ("ean", "4006381333931", False),
    ],
)
def test_codes_that_a_spreadsheet_rounded_are_broken(kind: str, text: str, broken: bool) -> None:
    assert is_broken(text, kind) == broken


def test_identifiers_that_say_nothing_are_dropped_and_skus_stay_as_they_are() -> None:
    changed: list[str] = []
    assert clean_identifier("ean", "0000000000000", changed) == ""
    assert clean_identifier("mpn", "Does not apply", changed) == ""
    assert clean_identifier("sku", "AB 12-3", changed) == "AB 12-3"
    assert changed == ["placeholders", "placeholders"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://shop.example/a.jpg", "https://shop.example/a.jpg"),
        ("HTTP://shop.example/a.jpg", "HTTP://shop.example/a.jpg"),
        ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        (" https://shop.example/a b.jpg\n", "https://shop.example/a%20b.jpg"),
        ("ftp://shop.example/a.jpg", ""),
        ("a.jpg", ""),
        ("javascript:alert(1)", ""),
        ("https://", ""),
    ],
)
def test_image_addresses(address: str, expected: str) -> None:
    changed: list[str] = []
    assert clean_image(address, changed) == expected
    assert bool(changed) == (address != expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5 kg", ("g", 1.5 * 1000)),
        ("1,5 kg", ("g", 1.5 * 1000)),
        ("12 cm", ("mm", 12 * 10)),
        ('17"', ("mm", 17 * 25.4)),
        ("1/2 in", ("mm", 25.4 / 2)),
        ("16GB", ("gb", 16)),
        ("512 MB", ("gb", 512 / 1000)),
        ("2 TB", ("gb", 2 * 1000)),
        ("230 V", ("v", 230)),
        ("1,5 kW", ("w", 1.5 * 1000)),
        ("2 Ah", ("mah", 2 * 1000)),
        ("750 ml", ("ml", 750)),
        ("3 千克", ("g", 3 * 1000)),
        ("1 l", ("ml", 1000)),
        ("0.500 kg", ("g", 500)),
        ("3000 rpm", ("rpm", 3000)),
    ],
)
def test_a_text_that_is_one_quantity_gets_its_number(text: str, expected: tuple[str, float]) -> None:
    assert number_of(text, expected[0]) == pytest.approx(expected[1])


@pytest.mark.parametrize(
    "text",
    [
        "12",
        "10-20 cm",
        "10 x 20 cm",
        "1.500 kg",
        "1,500 g",
        "5G",
        "5g",
        "5 M",
        "100 Mb",
        "6 pcs",
        "2 hp",
        "about 5 kg",
        "5 kg net",
        "kg",
        "1440 x 900",
        "16:10",
        "802.11ac",
        "3-in-1",
        "2 kg 300 g",
        "",
    ],
)
def test_a_text_that_is_no_quantity_or_reads_two_ways_gets_none(text: str) -> None:
    assert parse_quantity(text) is None


def test_gallons_and_ounces_are_those_of_the_united_states() -> None:
    registry: UnitRegistry[float] = UnitRegistry()
    assert number_of("1 gal", "ml") == pytest.approx(registry.Quantity(1, "US_liquid_gallon").to("ml").magnitude)
    assert number_of("8 fl oz", "ml") == pytest.approx(8 * 29.5735, rel=1e-4)


@pytest.mark.parametrize(("text", "expected"), [("eur", "EUR"), (" usd ", "USD"), ("€", "EUR"), ("$", "$"), ("", "")])
def test_currencies(text: str, expected: str) -> None:
    assert clean_currency(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("EN", "en"), ("de_AT", "de"), ("zh-Hans-CN", "zh"), ("deu", "deu")])
def test_languages(text: str, expected: str) -> None:
    assert clean_language(text) == expected
