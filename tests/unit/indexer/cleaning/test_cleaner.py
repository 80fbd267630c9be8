"""Cleaning of a batch: same length and order, counted, the same for any split, unchanged by a second cleaning."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.cleaning import cleaner
from shelfwise.indexer.cleaning.cleaner import clean_identifier, clean_image, clean_products, digits_only, is_broken
from shelfwise.indexer.cleaning.text import is_placeholder, parse_quantity
from shelfwise.retrieval.records import Product, Variant
from shelfwise.retrieval.store.products import product_to_json

_DIRTY_LIST = (
    "drill|<b>drill</b>|a &amp; b| two  words |N/A|-|Bo\u200bsch|CafÃ©|A > B|1,5 kg|16GB|<3|A &gt; B|电钻|"
    "cordless drill with case|Root|Tools|tools|one\n\ntwo|<br>|4.0E+12|'4006381333931"
)
_DIRTY = st.sampled_from(_DIRTY_LIST.split("|"))
_CODES = st.dictionaries(
    st.sampled_from(("ean", "sku", "mpn")), st.lists(_DIRTY, min_size=1, max_size=2).map(tuple), max_size=2
)
_IMAGES = st.lists(
    st.sampled_from(("https://a.example/1.jpg", "//a.example/1.jpg", "a.jpg", " https://a.example/b c.jpg")), max_size=3
)
_VARIANT = st.builds(
    Variant,
    id=st.just("v"),
    options=st.dictionaries(st.just("Size"), _DIRTY),
    identifiers=_CODES,
    image=st.sampled_from(("", "//a.example/1.jpg", "x")),
)
dirty_products = st.lists(
    st.builds(
        Product,
        id=st.just("1"),
        title=st.lists(_DIRTY, min_size=1, max_size=3).map(" ".join),
        description=_DIRTY,
        brand=_DIRTY,
        category=st.lists(_DIRTY, max_size=3).map(tuple),
        identifiers=_CODES,
        images=_IMAGES.map(tuple),
        attributes=st.dictionaries(
            st.sampled_from(("weight", "weight_g", "size")),
            st.one_of(_DIRTY, st.just(5.0), st.booleans(), st.lists(_DIRTY, min_size=1, max_size=2).map(tuple)),
        ),
        language=st.sampled_from(("", "en")),
        variants=st.lists(_VARIANT, max_size=2).map(tuple),
    ),
    max_size=4,
)


def cleaned(product: Product) -> Product:
    return clean_products([product]).products[0]


@given(made=dirty_products)
def test_cleaning_is_idempotent(made: list[Product]) -> None:
    once = clean_products(made)
    twice = clean_products(once.products)
    assert twice.products == once.products
    assert twice.counts == {}
    assert all(after is before for before, after in zip(once.products, twice.products, strict=True))
    for product in once.products:
        assert product.title
        product_to_json(product)


def test_attributes_that_become_empty_are_removed() -> None:
    codes = {"ean": ("-",)}
    product = Product("1", "x", attributes={"a": "<b></b>", "b": ("<i></i>", "x")}, identifiers=codes, language="en")
    after = cleaned(product)
    assert after.attributes == {"b": ("x",)}
    assert after.identifiers == {}


def test_each_value_counts_once_for_each_rule_that_changed_it() -> None:
    product = Product("1", "<b>a</b>  <i>b</i>", description="<p>x</p>", language="en")
    assert clean_products([product]).counts == {"markup": 2, "spaces": 2}


def test_ids_and_names_are_never_changed() -> None:
    product = Product(" <b>1</b> ", "drill", attributes={"  a&amp;b ": "x  y"}, language="en")
    after = cleaned(product)
    assert after.id == product.id
    assert after.attributes == {"  a&amp;b ": "x y"}


def test_quantity_text_is_kept_and_numeric_value_of_the_feed_wins() -> None:
    after = cleaned(Product("1", "x", attributes={"weight": "1,5 kg", "size": "3 cm", "size_mm": 31.0}, language="en"))
    assert after.attributes == {"weight": "1,5 kg", "weight_g": 1500.0, "size": "3 cm", "size_mm": 31.0}


def test_variants_are_cleaned_like_products() -> None:
    variant = Variant("v", {"Size": " <b>XL</b>"}, identifiers={"ean": ("4 006381 333931",)}, image="//a.example/1.jpg")
    after = cleaned(Product("1", "x", variants=(variant,), language="en")).variants[0]
    assert after == dataclasses.replace(
        variant, options={"Size": "XL"}, identifiers={"ean": ("4006381333931",)}, image="https://a.example/1.jpg"
    )


def test_language_is_from_feed_then_title_then_description() -> None:
    german = "Bezug mit Reißverschluss für das Kissen"
    assert cleaned(Product("1", german, language="fr")).language == "fr"
    assert cleaned(Product("1", german, description="with the best for you")).language == "de"
    assert cleaned(Product("1", "GSR 12V", description=german)).language == "de"
    assert cleaned(Product("1", "GSR 12V", description="12V")).language == ""


@pytest.mark.parametrize(
    "text", ["N/A", "n/a", "-", "--", "?", "Unknown", "DOES NOT APPLY", "null", "Ｎ／Ａ", "无", "unbekannt"]
)
def test_placeholder_values_are_recognised(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("text", ["NA-KD", "Bosch", "3M", "No Name", "Unknown Worlds", "无印良品", "C", "0"])
def test_real_brands_are_not_placeholders(text: str) -> None:
    assert not is_placeholder(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("Tools > Drills", "Cordless"), ("Tools", "Drills", "Cordless")),
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
        ("4006381333930", "4006381333930"),  # the check digit is wrong, which a quality rule reports
    ],
)
def test_numeric_codes_are_normalised(text: str, expected: str) -> None:
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


def test_placeholder_identifiers_are_dropped_and_skus_unchanged() -> None:
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
        ("512 MB", ("gb", 512 / 1000)),
        ("2 TB", ("gb", 2 * 1000)),
        ("1,5 kW", ("w", 1.5 * 1000)),
        ("2 Ah", ("mah", 2 * 1000)),
        ("750 ml", ("ml", 750)),
        ("3 千克", ("g", 3 * 1000)),
        ("0.500 kg", ("g", 500)),
        ("1 gal", ("ml", 231 * 25.4**3 / 1000)),  # US gallon
        ("8 fl oz", ("ml", 231 * 25.4**3 / 1000 / 16)),
    ],
)
def test_text_with_one_quantity_gets_its_number(text: str, expected: tuple[str, float]) -> None:
    found = parse_quantity(text)
    assert found is not None
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1])


NO_QUANTITIES = (
    "12|10-20 cm|10 x 20 cm|1.500 kg|1,500 g|5G|5g|5 M|100 Mb|6 pcs|2 hp|about 5 kg|5 kg net|kg|1440 x 900|16:10|"
    "802.11ac|3-in-1|2 kg 300 g|"
)


@pytest.mark.parametrize("text", NO_QUANTITIES.split("|"))
def test_ambiguous_or_other_text_gets_no_number(text: str) -> None:
    assert parse_quantity(text) is None
