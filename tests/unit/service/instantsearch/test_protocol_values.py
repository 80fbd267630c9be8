"""Bodies and parameters in the notations of the libraries; errors name the invalid parameter."""

from __future__ import annotations

import pytest

from shelfwise.retrieval.errors import QueryError, UnknownFieldError
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo, FieldKind
from shelfwise.service.instantsearch.protocol_request import (
    JsonObject,
    ProtocolSearch,
    RecordView,
    merge_params,
    parse_body,
    parse_search,
    parse_sort,
)

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
        ("hitsPerPage", True),
        ("page", "1e3"),
        ("page", "9" * 400),
        ("maxValuesPerFacet", 0),
        ("facets", [1]),
        ("facets", '["brand"'),
        ("facetFilters", [[["a:b"]]]),
        ("numericFilters", 3),
        ("clickAnalytics", "perhaps"),
        ("userToken", "u" * 201),
        ("highlightPreTag", "<" * 101),
        ("query", ["a"]),
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
