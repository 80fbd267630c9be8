"""Mapping files and flags: replaced defaults, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.feeds.mapping import DEFAULT_RULES, FieldSource, MappingRule, load_mapping, parse_map_flags
from shelfwise.retrieval.errors import FeedError

TOML = """
title = "product_name"
brand = "maker.name"
description = ["long_text", "short_text"]
price = {field = "cost", unit = "cents"}
currency = {value = "EUR"}
identifiers.ean = "barcode"
attributes = {field = "specs"}
places = {lat = "breite", lng = "laenge"}
"""
JSON = """
{"title": "product_name", "brand": "maker.name", "description": ["long_text", "short_text"],
 "price": {"field": "cost", "unit": "cents"}, "currency": {"value": "EUR"}, "identifiers": {"ean": "barcode"},
 "attributes": {"field": "specs"}, "places": {"lat": "breite", "lng": "laenge"}}
"""


@pytest.mark.parametrize("content", [TOML, JSON, "\ufeff" + TOML])
def test_a_mapping_file_replaces_the_names_of_the_fields_it_names(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mapping"
    path.write_text(content, encoding="utf-8")
    mapping = load_mapping(path)
    assert mapping.rules["title"] == MappingRule((FieldSource("product_name"),))
    assert mapping.rules["brand"] == MappingRule((FieldSource("maker.name"),))
    assert mapping.rules["description"] == MappingRule((FieldSource("long_text"), FieldSource("short_text")))
    assert mapping.rules["price"] == MappingRule((FieldSource("cost", "cents"),))
    assert mapping.rules["currency"] == MappingRule((), "EUR")
    assert mapping.rules["identifiers.ean"] == MappingRule((FieldSource("barcode"),))
    assert mapping.rules["attributes"] == MappingRule((FieldSource("specs"),))
    assert mapping.rules["places.lat"] == MappingRule((FieldSource("breite"),))
    assert mapping.rules["id"] == DEFAULT_RULES["id"], "what the file does not name stays"
    names = {"product_name", "maker.name", "long_text", "short_text", "cost", "barcode", "specs", "breite", "laenge"}
    assert mapping.user_names == names


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("title", "--map title: expected FIELD=NAME, such as title=product_name"),
        ("=x", "expected FIELD=NAME"),
        ("title=", "expected FIELD=NAME"),
        ("titel=x", "a product has no field 'titel'; did you mean title?"),
        ("zzz=x", "a product has no field 'zzz'; the fields are id, title, description"),
        ("identifiers.=x", "a product has no field 'identifiers.'"),
        ("price={field = 3}", "price: field: Expected `str"),
        ("price={field = 'cost', unit = 'pence'}", "unit: Invalid enum value 'pence'"),
        ("price={unit = 'cents'}", "expected a field, a value"),
        ("price={value = 2024-01-31}", "price: value: Expected `bool | int | float | str"),
        ("price={from = 'cost'}", "price: no field 'from'; the fields are field, unit, value"),
        ("price={", "is not a TOML value"),
        ("price=[3]", "price: expected a name, a list of names, or a table of field, unit and value"),
        (f"price={{value = {'7' * 400}}}", "has an integer of more than 64 bits"),
    ],
)
def test_invalid_flag_is_refused(flag: str, message: str) -> None:
    with pytest.raises(FeedError) as error:
        parse_map_flags([flag])
    assert message in str(error.value)
    assert str(error.value).startswith(f"--map {flag}")


@pytest.mark.parametrize(
    "content",
    ["title", "{", '{"title": }', "title = 3", "colour = 'x'", "[" * 10_000, "a = 1\na = 2", "a = " + "7" * 5_000],
)
def test_invalid_mapping_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FeedError, match=r"shop\.toml"):
        load_mapping(path)


def test_missing_or_binary_mapping_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, fault in {"missing": "cannot be read", ".": "cannot be read", "binary": "is not valid UTF-8"}.items():
        with pytest.raises(FeedError, match=fault):
            load_mapping(tmp_path / name)


@given(st.lists(st.text() | st.from_regex(r"(title|price|attributes\.x)=[\[{\"']?.*"), max_size=3))
def test_arbitrary_flags_give_a_mapping_or_a_feed_error(flags: list[str]) -> None:
    try:
        mapping = parse_map_flags(flags)
    except FeedError:
        return
    assert mapping.rules.keys() >= DEFAULT_RULES.keys()
