"""What is read of a product: its brand, kind, traits, sizes, codes and purposes."""

from __future__ import annotations

import pytest

from rerank.training.query_attributes import read_brand
from retrieval.records import Product
from tests.unit.rerank.training.tool_shop import BRANDS, CHINESE_PRODUCTS, PRODUCTS, facts_of, words_of


@pytest.mark.parametrize(
    ("brand", "words"),
    [
        ("Acme", ("acme",)),
        ("Acme Tools Inc.", ("acme", "tools")),
        ("", ()),
        ("A B C D", ("a", "b", "c")),
        ("松下", ("松下",)),
    ],
)
def test_the_brand_of_the_record(brand: str, words: tuple[str, ...]) -> None:
    assert read_brand(Product("p", "Drill", brand=brand)) == words


def test_brands_are_found_where_titles_begin_with_them() -> None:
    found = {facts_of(product, PRODUCTS).brand for product in PRODUCTS}
    assert found == {tuple(brand.lower().split()) for brand in BRANDS}


def test_the_kind_ends_before_what_the_product_comes_with_or_in() -> None:
    facts = facts_of(Product("p", "Acme 12 in. Matte Wall Plate in Chrome with Screws"))
    assert facts.kinds == (("matte", "wall", "plate"),)
    assert facts.traits == (("chrome",),)
    assert facts.sizes == ("12 in",)
    assert facts.complements == (("with", "screws"),)


def test_the_kind_is_the_run_that_names_most_products() -> None:
    assert facts_of(Product("p", "Ceiling Fan, Quiet Whisper")).kinds == (("ceiling", "fan"),)


def test_a_code_is_no_kind() -> None:
    assert facts_of(Product("p", "Cordless Drill A4")).kinds == (("cordless", "drill"),)


def test_categories_and_type_attributes_name_the_kind_first() -> None:
    product = Product(
        "p", "Acme Whisper", category=("Home", "Fans & Lights"), attributes={"Product_Type": "Ceiling Fan"}
    )
    assert facts_of(product).kinds[:3] == (("fans",), ("lights",), ("ceiling", "fan"))


def test_attributes_are_traits_when_titles_use_their_words() -> None:
    product = Product("p", "Acme Drill", attributes={"finish": "Chrome, Zirconium", "weight": 2.5, "boxed": True})
    assert facts_of(product).traits == (("chrome",),)


def test_codes_come_from_the_title_and_from_identifiers() -> None:
    product = Product(
        "p", "Acme Drill DCD771C2", identifiers={"mpn": ("GL-100", "dcd771c2"), "ean": ("4006381333931",)}
    )
    assert facts_of(product).models == ("dcd771c2", "gl-100")


def test_a_number_alone_and_one_piece_are_no_sizes() -> None:
    assert facts_of(Product("p", "Toner 7,000 Black 8.3 Matte 1/2 Set 400 Cyan 1 pc(s)")).sizes == ()


def test_a_chinese_title_names_several_kinds() -> None:
    kinds = facts_of(Product("p", "剃须刀防水羽毛球"), CHINESE_PRODUCTS).kinds
    assert {words[-1] for words in kinds} >= {"剃须刀", "羽毛球"}


@pytest.mark.parametrize("word", ["chrome", "bronze", "in", "gallons", "x", "a4"])
def test_finishes_units_letters_and_codes_name_nothing(word: str) -> None:
    assert words_of(PRODUCTS).names_nothing(word) == (word != "in")


def test_names_of_products_name_something() -> None:
    assert not any(map(words_of(PRODUCTS).names_nothing, ("drill", "hammer", "plate", "茶")))
