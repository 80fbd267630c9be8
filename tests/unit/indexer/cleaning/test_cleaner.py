"""A batch cleaned: same length and order, counted, the same on any split, unchanged a second time."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from indexer.cleaning.cleaner import Cleaner
from retrieval.records import Product, Variant
from retrieval.store.products import product_to_json

_DIRTY = st.sampled_from(
    (
        "drill",
        "<b>drill</b>",
        "a &amp; b",
        " two  words ",
        "N/A",
        "-",
        "Bo\u200bsch",
        "CafÃ©",
        "A > B",
        "1,5 kg",
        "16GB",
        "<3",
        "A &gt; B",
        "电钻",
        "cordless drill with case",
        "Root",
        "Tools",
        "tools",
        "one\n\ntwo",
        "<br>",
        "4.0E+12",
        "'4006381333931",
    )
)
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
        currency=st.sampled_from(("", "eur", "USD")),
        language=st.sampled_from(("", "en", "DE-at")),
        variants=st.lists(_VARIANT, max_size=2).map(tuple),
    ),
    max_size=4,
)


def cleaned(product: Product) -> Product:
    return Cleaner().clean([product]).products[0]


@given(made=dirty_products)
def test_cleaning_twice_is_cleaning_once(made: list[Product]) -> None:
    once = Cleaner().clean(made)
    twice = Cleaner().clean(once.products)
    assert twice.products == once.products
    assert twice.counts == {}
    assert all(after is before for before, after in zip(once.products, twice.products, strict=True))


@given(made=dirty_products, cut=st.integers(0, 4))
def test_any_split_gives_the_same_products_and_counts(made: list[Product], cut: int) -> None:
    whole, first, rest = (Cleaner().clean(part) for part in (made, made[:cut], made[cut:]))
    assert first.products + rest.products == whole.products
    assert Counter(first.counts) + Counter(rest.counts) == Counter(whole.counts)


@given(made=dirty_products)
def test_a_cleaned_product_has_a_title_and_can_be_stored(made: list[Product]) -> None:
    for product in Cleaner().clean(made).products:
        assert product.title
        product_to_json(product)


def test_a_product_that_needs_nothing_comes_back_itself() -> None:
    product = Product(
        "1",
        "Black & Decker drill",
        description="One line\nand another",
        brand="Black & Decker",
        category=("Tools", "Drills"),
        identifiers={"ean": ("4006381333931",), "sku": ("AB-12",)},
        attributes={"colour": "red", "volts": 18.0, "new": True, "sizes": ("S", "M")},
        images=("https://a.example/1.jpg",),
        language="en",
        currency="EUR",
        variants=(Variant("v", {"Size": "S"}, image="https://a.example/2.jpg"),),
    )
    done = Cleaner().clean([product])
    assert done.products[0] is product
    assert done.counts == {}


def test_a_title_that_nothing_would_be_left_of_stays_and_is_not_counted() -> None:
    done = Cleaner().clean([Product("1", "<br><br>", language="en")])
    assert done.products[0].title == "<br><br>"
    assert done.counts == {}


def test_values_left_empty_go_with_their_names() -> None:
    product = Product(
        "1", "drill", attributes={"a": "<b></b>", "b": ("<i></i>", "x")}, identifiers={"ean": ("-",)}, language="en"
    )
    after = cleaned(product)
    assert after.attributes == {"b": ("x",)}
    assert after.identifiers == {}


def test_each_value_counts_once_for_each_rule_that_changed_it() -> None:
    product = Product("1", "<b>a</b>  <i>b</i>", description="<p>x</p>", language="en")
    assert Cleaner().clean([product]).counts == {"markup": 2, "spaces": 2}


def test_ids_and_names_are_never_changed() -> None:
    product = Product(" <b>1</b> ", "drill", attributes={"  a&amp;b ": "x  y"}, language="en")
    after = cleaned(product)
    assert after.id == product.id
    assert after.attributes == {"  a&amp;b ": "x y"}


def test_the_text_of_a_quantity_stays_and_a_number_of_the_feed_wins() -> None:
    after = cleaned(Product("1", "x", attributes={"weight": "1,5 kg", "size": "3 cm", "size_mm": 31.0}, language="en"))
    assert after.attributes == {"weight": "1,5 kg", "weight_g": 1500.0, "size": "3 cm", "size_mm": 31.0}


def test_variants_are_cleaned_as_their_product_is() -> None:
    variant = Variant("v", {"Size": " <b>XL</b>"}, identifiers={"ean": ("4 006381 333931",)}, image="//a.example/1.jpg")
    after = cleaned(Product("1", "x", variants=(variant,), language="en")).variants[0]
    assert after == dataclasses.replace(
        variant, options={"Size": "XL"}, identifiers={"ean": ("4006381333931",)}, image="https://a.example/1.jpg"
    )


def test_the_language_is_the_feed_s_then_the_title_s_then_the_description_s() -> None:
    german = "Bezug mit Reißverschluss für das Kissen"
    assert cleaned(Product("1", german, language="fr")).language == "fr"
    assert cleaned(Product("1", german, description="with the best for you")).language == "de"
    assert cleaned(Product("1", "GSR 12V", description=german)).language == "de"
    assert cleaned(Product("1", "GSR 12V", description="12V")).language == ""


def test_what_it_returns_can_travel_between_processes() -> None:
    done = Cleaner().clean([Product("1", "<b>drill</b>")])
    assert pickle.loads(pickle.dumps(done)) == done
    assert pickle.loads(pickle.dumps(Cleaner())).clean([Product("1", "<b>drill</b>")]) == done
