"""Measures beside quantities: what a live patch makes of them, and that cleaning would have it so."""

from __future__ import annotations

import pytest

from indexer.cleaning.cleaner import Cleaner
from retrieval.records import AttributeValue, Product
from retrieval.updates.changes import Patch, apply_change
from service.engine.live import add_measures


def patched(attributes: dict[str, AttributeValue], **values: object) -> dict[str, AttributeValue]:
    """What the attributes of a cleaned product are after a patch of them, None for those that are cleared."""
    (product,) = Cleaner().clean([Product("1", "hammer drill", language="en", attributes=attributes)]).products
    change = Patch("1", add_measures(product, {f"attributes.{name}": value for name, value in values.items()}))
    made = apply_change(product, change)
    assert made is not None
    return dict(made.attributes)


def test_another_quantity_has_another_measure() -> None:
    assert patched({"weight": "1,5 kg"}, weight="2 kg") == {"weight": "2 kg", "weight_g": 2_000.0}


def test_in_another_dimension_the_old_measure_goes() -> None:
    assert patched({"size": "16 GB"}, size="3 m") == {"size": "3 m", "size_mm": 3_000.0}


@pytest.mark.parametrize("value", ["heavy", 2.0, None, "1.500 kg"])
def test_what_is_no_quantity_has_no_measure(value: object) -> None:
    left = patched({"weight": "1,5 kg", "colour": "red"}, weight=value)
    assert left == ({"weight": value} if value is not None else {}) | {"colour": "red"}


def test_the_first_quantity_gets_a_measure() -> None:
    assert patched({}, weight="2 kg") == {"weight": "2 kg", "weight_g": 2_000.0}


def test_a_number_of_the_feed_itself_stays() -> None:
    assert patched({"weight": "1,5 kg", "weight_g": 1_480.0}, weight="2 kg")["weight_g"] == 1_480.0


def test_what_the_patch_says_of_the_measure_counts() -> None:
    assert patched({"weight": "1,5 kg"}, weight="2 kg", weight_g=1_990.0)["weight_g"] == 1_990.0
    assert patched({"weight": "1,5 kg"}, weight="2 kg", weight_g=None) == {"weight": "2 kg"}
