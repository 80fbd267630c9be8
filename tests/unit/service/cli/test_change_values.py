"""FIELD=VALUE, as it is typed in a terminal, becomes values of the fields' types."""

from __future__ import annotations

import pytest

from retrieval.errors import ChangeError
from retrieval.records import Availability, Product
from retrieval.updates.validation import apply_patch
from service.cli.index import parse_values

DRILL = Product("a1", "Drill", price=99.5, attributes={"colour": "blue"})


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        (["price=9.99"], {"price": 9.99}),
        (["price=9,99"], {"price": "9,99"}),
        (["expires="], {"expires": None}),
        (["title=a = b"], {"title": "a = b"}),
        (["title=18"], {"title": "18"}),
        (["category=Tools > Drills"], {"category": ["Tools", "Drills"]}),
        (["images=a.jpg"], {"images": ["a.jpg"]}),
        (["images=a.jpg", "images=b.jpg"], {"images": ["a.jpg", "b.jpg"]}),
        (["identifiers.ean=0012"], {"identifiers.ean": ["0012"]}),
        (["attributes.colour=red"], {"attributes.colour": "red"}),
        (["attributes.volts=18"], {"attributes.volts": 18}),
        (["attributes.new=true"], {"attributes.new": True}),
        (['attributes.size="5"'], {"attributes.size": "5"}),
        (["attributes.code=0012"], {"attributes.code": "0012"}),
        (["attributes.size=S", "attributes.size=M"], {"attributes.size": ["S", "M"]}),
        (['attributes={"size": "M"}'], {"attributes": {"size": "M"}}),
        (["price=5", " brand =B"], {"price": 5.0, "brand": "B"}),
    ],
)
def test_values_by_the_type_of_their_field(typed: list[str], values: dict[str, object]) -> None:
    assert parse_values("a1", typed) == values


@pytest.mark.parametrize("typed", ["price", "=5", ""])
def test_what_is_no_field_and_value_is_refused(typed: str) -> None:
    with pytest.raises(ChangeError, match=r"is no FIELD=VALUE, such as price=9\.99"):
        parse_values("a1", [typed])


def test_a_second_value_where_there_is_one_is_refused() -> None:
    with pytest.raises(ChangeError, match="price is given 2 values"):
        parse_values("a1", ["price=5", "price=6"])


def test_what_is_typed_can_be_taken() -> None:
    typed = ["price=5", "availability=out_of_stock", "attributes.colour=", "attributes.volts=18", "rating_count=3"]
    assert apply_patch(DRILL, parse_values("a1", typed)) == Product(
        "a1",
        "Drill",
        price=5.0,
        availability=Availability.OUT_OF_STOCK,
        attributes={"volts": 18.0},
        rating_count=3,
    )


@pytest.mark.parametrize("typed", ["price=abc", "price=nan", "attributes=x", "variants=[1]", "availability=gone"])
def test_what_is_typed_wrong_is_refused_by_its_field(typed: str) -> None:
    with pytest.raises(ChangeError, match="it must be"):
        apply_patch(DRILL, parse_values("a1", [typed]))
