"""Values of requests, and records of responses."""

from __future__ import annotations

from typing import Any

import pytest

from shelfwise.retrieval.errors import QueryError, UnknownFieldError
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo, FieldKind
from shelfwise.retrieval.records import Product, Variant
from shelfwise.retrieval.text.analysis import Analyzer
from shelfwise.retrieval.text.highlight import Marks, Matcher
from shelfwise.service.instantsearch.protocol_request import (
    JsonObject,
    ProtocolSearch,
    RecordView,
    merge_params,
    parse_body,
    parse_search,
    parse_sort,
)
from shelfwise.service.instantsearch.response import highlight, product_record, select_attributes, snippets

CATALOG = FieldCatalog(
    {
        name: FieldInfo(name, frozenset({kind}), 9)
        for name, kind in {
            "price": FieldKind.NUMBER,
            "rating_count": FieldKind.NUMBER,
            "attributes.net weight": FieldKind.NUMBER,
            "brand": FieldKind.TEXT,
        }.items()
    }
)


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"", {}),
        (b'  {"query": "a"}', {"query": "a"}),
        (b"query=a%20b&page=2&query=c", {"query": "c", "page": "2"}),
        ("query=螺丝".encode(), {"query": "螺丝"}),
    ],
)
def test_a_body_is_json_or_a_form(body: bytes, payload: JsonObject) -> None:
    assert parse_body(body) == payload


@pytest.mark.parametrize(
    ("text", "name"),
    [(b"page=1&query=%ff", "query"), (b"query=\xff", "query"), (b"q%fe=a", r"q\\xfe"), (b"query=%ed%a0%80", "query")],
)
def test_non_utf_8_text_is_refused_by_name(text: bytes, name: str) -> None:
    with pytest.raises(QueryError, match=f"^{name} is not valid UTF-8"):
        parse_body(text)
    if text.isascii():
        with pytest.raises(QueryError, match=f"^{name} is not valid UTF-8"):
            merge_params({"params": text.decode()})


def test_encoded_params_are_merged_with_the_others() -> None:
    payload = merge_params({"indexName": "i", "params": "query=a+b&facets=%5B%22brand%22%5D", "page": 3})
    assert payload == {"indexName": "i", "query": "a b", "facets": '["brand"]', "page": 3}
    with pytest.raises(QueryError, match="params"):
        merge_params({"params": {"query": "a"}})


@pytest.mark.parametrize(
    "payload",
    [
        {"query": "a", "page": 2, "hitsPerPage": 5, "facets": ["brand", "price"], "clickAnalytics": True},
        {
            "query": "a",
            "page": "2",
            "hitsPerPage": "5",
            "facets": '["brand","price"]',
            "clickAnalytics": "true",
            "getRankingInfo": "0",
            "ruleContexts": "[]",
        },
        {"query": "a", "page": 2.0, "hitsPerPage": 5, "facets": "brand,price", "clickAnalytics": True, "filters": None},
    ],
)
def test_parameter_spellings_are_equivalent(payload: JsonObject) -> None:
    expected = ProtocolSearch("a", 2, 5, facets=("brand", "price"), wants_query_id=True, view=RecordView())
    assert parse_search(payload) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hitsPerPage", 1_001),
        ("page", "1e3"),
        ("page", "9" * 400),
        ("maxValuesPerFacet", 0),
        ("facets", '["brand"'),
        ("facetFilters", [[["a:b"]]]),
        ("numericFilters", 3),
        ("clickAnalytics", "perhaps"),
        ("userToken", "u" * 201),
        ("highlightPreTag", "<" * 101),
        ("distinct", 21),
        ("queryType", "all"),
        ("filters", "x" * 10_001),
    ],
)
def test_invalid_parameter_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(QueryError, match=name):
        parse_search({name: value})


def test_sort_by_a_text_field_is_refused() -> None:
    for index in ("shop_brand_asc", "shop_nosuch_desc", "shop__asc"):
        with pytest.raises(UnknownFieldError):
            parse_sort(index, CATALOG)


MARKS = Marks("[", "]")
DRILL = Product(
    "p1",
    "Cordless drills with case",
    description="Two cordless drills of 18 V. Bits are in the case, with a charger and a spare battery.",
    brand="Bosch",
    category=("Tools", "Drills"),
    price=99.0,
    images=("https://a.example/1.jpg",),
    attributes={"colour": "dark blue", "tags": ("new", "sale"), "url": "/p/p1", "wired": False, "name": "other"},
    variants=(Variant("v1", {"Size": "L"}, 9.5),),
)


def matcher(query: str) -> Matcher:
    return Matcher(Analyzer(), query)


def marked(text: str, query: str) -> str:
    leaf: Any = highlight({"name": text}, ("*",), matcher(query), MARKS)["name"]
    return str(leaf["value"])


def test_record_has_the_fields_of_the_widgets() -> None:
    record = product_record(DRILL)
    assert (record["objectID"], record["name"], record["title"]) == ("p1", DRILL.title, DRILL.title)
    assert record["categories"] == ["Tools", "Drills"]
    assert record["hierarchicalCategories"] == {"lvl0": "Tools", "lvl1": "Tools > Drills"}
    assert (record["image"], record["url"]) == ("https://a.example/1.jpg", "/p/p1")
    assert (record["colour"], record["wired"], record["_tags"]) == ("dark blue", False, ["new", "sale"])
    assert record["variants"] == [{"objectID": "v1", "options": {"Size": "L"}, "price": 9.5}]
    assert "rating" not in record


@pytest.mark.parametrize("address", ["javascript:alert(1)", " javascript:alert(1)", "JAVASCRIPT:x", "data:text/html,x"])
def test_script_url_is_not_a_link(address: str) -> None:
    record = product_record(Product("p", "P", attributes={"url": address, "link": address}))
    assert "url" not in record


def test_attributes_do_not_replace_record_fields() -> None:
    occupied = {"objectID": "x", "_highlightResult": "x", "_tags": "x", "price": "x", "title": "x", "image": "x"}
    record = product_record(Product("p", "P", price=2.0, attributes=occupied))
    assert record == {"objectID": "p", "name": "P", "title": "P", "price": 2.0}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [(("*",), {"objectID", "name", "brand"}), (("*", "-brand"), {"objectID", "name"}), ((), {"objectID"})],
)
def test_attributes_to_retrieve_are_selected(wanted: tuple[str, ...], names: set[str]) -> None:
    assert set(select_attributes({"objectID": "p", "name": "P", "brand": "B"}, wanted)) == names


@pytest.mark.parametrize(
    ("text", "query", "value"),
    [
        ("Cordless drills", "drill", "Cordless [drills]"),
        ("Cordless drills", "DRILLING cordless", "[Cordless] [drills]"),
        ("Crème brûlée", "creme", "[Crème] brûlée"),
        ("电池和电钻", "电钻", "电池和[电钻]"),
        ("DCD771C2 kit", "dcd771", "DCD771C2 kit"),
        ("<b>drill</b>", "drill b", "<[b]>[drill]</[b]>"),
        ("drill", "", "drill"),
    ],
)
def test_highlighted_words_are_the_matched_ones(text: str, query: str, value: str) -> None:
    assert marked(text, query) == value


@pytest.mark.parametrize(
    ("query", "wanted", "value"),
    [
        ("cordless drill", "description:5", "Two [cordless] [drills] of 18…"),
        ("cordless drill", "description:100", DRILL.description.replace("cordless drills", "[cordless] [drills]")),
        ("charger", "description:5", "…case, with a [charger] and…"),
    ],
)
def test_snippets_are_cut_around_the_matches(query: str, wanted: str, value: str) -> None:
    found: Any = snippets(product_record(DRILL), (wanted,), matcher(query), MARKS)
    assert found[wanted.partition(":")[0]]["value"] == value
