"""Values from Python callers: valid ones are converted, errors for others name product and field."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import ChangeError
from shelfwise.retrieval.records import Availability, Product, Variant
from shelfwise.retrieval.store.products import product_from_json, product_to_json
from shelfwise.retrieval.updates.validation import (
    MAX_ID_BYTES,
    apply_patch,
    validate_id,
    validate_patch,
    validate_product,
)
from tests.catalogs import products

DRILL = Product(
    "a1",
    "Drill",
    description="Cordless",
    brand="Bosch",
    price=99.5,
    currency="EUR",
    availability=Availability.IN_STOCK,
    rating=4.5,
    identifiers={"ean": ("0095205603217",), "sku": ("A1",)},
    attributes={"colour": "blue", "voltage": 18.0},
    expires=datetime(2030, 1, 1, tzinfo=UTC),
)
FIELDS = [field.name for field in dataclasses.fields(Product)]


class TestWholeProducts:
    @given(products())
    def test_valid_product_is_unchanged(self, each: list[Product]) -> None:
        for product in each:
            assert validate_product(product) == product

    def test_every_field_is_validated(self) -> None:
        for name in FIELDS:
            wrong: Any = {name: object()}
            with pytest.raises(ChangeError) as caught:
                validate_product(dataclasses.replace(DRILL, **wrong))
            assert caught.value.field == name

    def test_python_values_are_normalised(self) -> None:
        loose: dict[str, Any] = {
            "category": ["Tools", "Drills"],
            "price": Decimal("9.99"),
            "availability": "in stock",
            "rating": np.float32(4),
            "rating_count": 7.0,
            "identifiers": MappingProxyType({"ean": ["1"], "sku": ()}),
            "attributes": {"volts": 18, "sizes": ["S", "M"], "none": None, "blank": " ", "serial": 2**60, "new": True},
            "updated": datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
            "expires": "2030-01-31",
            "variants": [Variant("a1-m", {"Size": "M"}, 5)],
        }
        product = validate_product(Product("a1", "Drill", **loose))
        assert product == Product(
            "a1",
            "Drill",
            category=("Tools", "Drills"),
            price=9.99,
            availability=Availability.IN_STOCK,
            rating=4.0,
            rating_count=7,
            identifiers={"ean": ("1",)},
            attributes={"volts": 18.0, "sizes": ("S", "M"), "serial": str(2**60), "new": True},
            updated=datetime(2026, 1, 1, 10, tzinfo=UTC),
            expires=datetime(2030, 1, 31, tzinfo=UTC),
            variants=(Variant("a1-m", {"Size": "M"}, 5.0),),
        )
        assert isinstance(product.attributes["volts"], float)
        assert product_from_json(product_to_json(product)) == product


class TestIds:
    @pytest.mark.parametrize("spelled", ["a", "00123", "gid://shop/1", "商品 1", "x" * MAX_ID_BYTES])
    def test_ids_of_feeds_are_accepted(self, spelled: str) -> None:
        assert validate_id(spelled) == spelled

    @pytest.mark.parametrize(
        ("spelled", "problem"),
        [
            ("", "is empty"),
            (" ", "is empty"),
            (" a", "blanks around"),
            ("a\n", "blanks around"),
            ("a\x00b", "control characters"),
            ("a\x85b", "control characters"),
            ("a\ud800", "UTF-8"),
            ("ä" * 257, "longer than 512 bytes"),
            (None, "must be a text, not"),
            (5, "must be a text, not"),
        ],
    )
    def test_invalid_ids_are_refused(self, spelled: object, problem: str) -> None:
        with pytest.raises(ChangeError, match=problem):
            validate_id(spelled)


class TestPatches:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("title", "Hammer drill", "Hammer drill"),
            ("price", -0.0, 0.0),
            ("price", None, None),
            ("availability", "out_of_stock", Availability.OUT_OF_STOCK),
            ("availability", Availability.PREORDER, Availability.PREORDER),
            ("category", None, ()),
            ("category", ["Tools"], ("Tools",)),
            ("rating_count", 0, 0),
            ("expires", None, None),
            ("expires", "2031-02-03T04:05:06+02:00", datetime(2031, 2, 3, 2, 5, 6, tzinfo=UTC)),
            ("currency", "", ""),
            ("attributes", None, {}),
            ("variants", [{"id": "v", "price": 5}], (Variant("v", price=5.0),)),
        ],
    )
    def test_patch_accepts_values_of_each_field(self, name: str, value: object, expected: object) -> None:
        found = apply_patch(DRILL, {name: value})
        assert getattr(found, name) == expected
        assert dataclasses.replace(found, **{name: getattr(DRILL, name)}) == DRILL

    @pytest.mark.parametrize(
        ("values", "attributes", "identifiers"),
        [
            ({"attributes.colour": "red"}, {"colour": "red", "voltage": 18.0}, DRILL.identifiers),
            ({"attributes.colour": None}, {"voltage": 18.0}, DRILL.identifiers),
            ({"attributes.colour": ""}, {"voltage": 18.0}, DRILL.identifiers),
            ({"attributes.unknown": None}, DRILL.attributes, DRILL.identifiers),
            ({"attributes.a.b": True}, {**DRILL.attributes, "a.b": True}, DRILL.identifiers),
            ({"attributes.x": 1, "attributes": {"y": "z"}}, {"y": "z", "x": 1.0}, DRILL.identifiers),
            ({"identifiers.ean": ["5"]}, DRILL.attributes, {"ean": ("5",), "sku": ("A1",)}),
            ({"identifiers.ean": ()}, DRILL.attributes, {"sku": ("A1",)}),
        ],
    )
    def test_patch_changes_one_attribute_or_identifier(
        self, values: dict[str, object], attributes: dict[str, object], identifiers: dict[str, object]
    ) -> None:
        found = apply_patch(DRILL, values)
        assert (found.attributes, found.identifiers) == (attributes, identifiers)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("title", None),
            ("title", "  "),
            ("title", "\ud800"),
            ("price", "9.99"),
            ("price", True),
            ("price", math.nan),
            ("price", math.inf),
            ("price", 10**400),
            ("price", Decimal("NaN")),
            ("rating", 5.1),
            ("rating_count", 1.5),
            ("availability", "sold out"),
            ("currency", "euro"),
            ("language", "english"),
            ("category", "Tools"),
            ("category", ["Tools", ""]),
            ("images", [5]),
            ("identifiers", {"ean": "5"}),
            ("identifiers.ean", "5"),
            ("attributes", ["colour"]),
            ("attributes", {"": "x"}),
            ("attributes", {"x": {"y": 1}}),
            ("attributes.colour", {"y": 1}),
            ("created", datetime(2026, 1, 1)),
            ("created", "yesterday"),
            ("created", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
            ("variants", [{"id": "v", "cost": 5}]),
            ("variants", [{"id": "v", "price": -5}]),
        ],
    )
    def test_invalid_value_error_names_the_field(self, name: str, value: object) -> None:
        with pytest.raises(ChangeError, match=rf"^product 'a1': {name} is .*; it must be ") as caught:
            apply_patch(DRILL, {name: value})
        assert (caught.value.product, caught.value.field) == ("a1", name)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("pric", "similar ones are price"),
            ("Price", "similar ones are price"),
            ("colour", "free ones are attributes.NAME"),
            ("attributes.", "no field 'attributes.'"),
            ("variants.x", "no field"),
            ("id", "the id cannot change"),
            ("\ud800", "no field"),
        ],
    )
    def test_unknown_field_error_suggests_similar_names(self, name: str, message: str) -> None:
        with pytest.raises(ChangeError, match=message) as caught:
            apply_patch(DRILL, {name: "x"})
        assert caught.value.field == name

    @given(
        st.dictionaries(
            st.sampled_from([*FIELDS, "attributes.x", "identifiers.y"]),
            st.from_type(type).flatmap(
                lambda kind: st.sampled_from([kind, None, 1, "x", (), [], {}, 1e300, -1, b"", float("nan"), "\udfff"])
            ),
            max_size=3,
        )
    )
    def test_arbitrary_input_raises_only_change_errors(self, values: dict[str, object]) -> None:
        try:
            once = validate_patch("a1", values)
        except ChangeError:
            return
        assert validate_patch("a1", once) == once, "checking twice is checking once"
        assert validate_product(apply_patch(DRILL, values)) == apply_patch(DRILL, values)


SCRIPTS = (
    "javascript:alert(1)",
    " JavaScript:alert(1)",
    "java\tscript:alert(1)",
    "\x01javascript:alert(1)",
    "data:text/html,<script>",
    "data:image/png;base64,AAAA",
    "vbscript:x",
    "file:///etc/passwd",
    "file:../passwd",
    "ftp://shop.example/1.jpg",
)


@pytest.mark.parametrize("address", SCRIPTS)
@pytest.mark.parametrize("field", ["images", "variants", "link", "size_chart_url"])
def test_address_with_another_scheme_is_refused(field: str, address: str) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "images": {"images": ("https://shop.example/1.jpg", address)},
        "variants": {"variants": (Variant("v", image=address),)},
        "link": {"attributes": {"link": address}},
        "size_chart_url": {"attributes": {"size_chart_url": ("https://shop.example/1.jpg", address)}},
    }
    values = wrong[field]
    with pytest.raises(ChangeError, match="http"):
        validate_product(dataclasses.replace(DRILL, **values))
    attributes = values.pop("attributes", {})
    with pytest.raises(ChangeError, match="http"):
        validate_patch("a1", values | {f"attributes.{name}": each for name, each in attributes.items()})


@pytest.mark.parametrize(
    "address", ["https://a.example/x:1", "HTTP://a.example", "//a.example/1", "/p/1", "1.jpg", "?q=a:b"]
)
def test_web_address_and_relative_address_are_accepted(address: str) -> None:
    product = dataclasses.replace(DRILL, images=(address,), attributes={"link": address, "note": "data: 5 GB"})
    assert validate_product(product) == product


def test_picture_may_be_a_file_and_a_link_may_not() -> None:
    product = dataclasses.replace(
        DRILL, images=("file:pictures/7.webp",), variants=(Variant("v", image="file:8.webp"),)
    )
    assert validate_product(product) == product
    with pytest.raises(ChangeError, match="http"):
        validate_product(dataclasses.replace(DRILL, attributes={"link": "file:pictures/7.webp"}))
