"""Highlights of a search over HTTP, as HTML that is safe in a page."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import Analyzer
from shelfwise.retrieval.text.highlight import MAX_FIELDS, MAX_HITS, HighlightedFields, Matcher

PRODUCTS = (
    {
        "id": "drill",
        "title": "Cordless drills & bits < 5 mm",
        "brand": "Bosch",
        "category": ["Tools", "Drills"],
        "attributes": {"note": 'a "quoted" drill'},
    },
    {"id": "couch", "title": "Red couch"},
)


@pytest.fixture(scope="module")
def calling(client: TestClient) -> TestClient:
    """A client of the demo store, which also has the products."""
    operations = [{"put": each} for each in PRODUCTS]
    assert client.post("/v1/products/changes", json={"operations": operations}).json()["products"] == len(PRODUCTS)
    return client


def marked(calling: TestClient, product: str, **params: Any) -> dict[str, str]:  # noqa: ANN401 - as a query has them
    answer = calling.get("/v1/search", params={"highlight": "title", "filters": f"id = {product}", **params})
    assert answer.status_code == 200, answer.text
    (hit,) = answer.json()["hits"]
    return dict(hit["highlights"])


def test_matches_are_marked_and_text_is_escaped(calling: TestClient) -> None:
    params = {"q": "drill bits", "highlight": ["title", "brand", "category", "note"]}
    assert marked(calling, "drill", **params) == {
        "title": "Cordless <mark>drills</mark> &amp; <mark>bits</mark> &lt; 5 mm",
        "brand": "Bosch",
        "category": "Tools &gt; <mark>Drills</mark>",
        "note": "a &quot;quoted&quot; <mark>drill</mark>",
    }


def test_highlights_follow_the_corrected_query(calling: TestClient) -> None:
    rest = "<mark>drills</mark> &amp; bits &lt; 5 mm"
    assert marked(calling, "drill", q="cordles drill") == {"title": f"<mark>Cordless</mark> {rest}"}
    assert marked(calling, "drill", q="cordles drill", correct=False) == {"title": f"Cordless {rest}"}


def test_post_and_multi_search_highlight(calling: TestClient) -> None:
    body = {"q": "couch", "filters": "id = couch", "highlight": ["title"]}
    assert calling.post("/v1/search", json=body).json()["hits"][0]["highlights"] == {"title": "Red <mark>couch</mark>"}
    first, second = calling.post(
        "/v1/multi-search", json={"searches": [body, {"q": "couch", "filters": "id = couch"}]}
    ).json()["results"]
    assert first["hits"][0]["highlights"] == {"title": "Red <mark>couch</mark>"}
    assert second["hits"][0]["highlights"] == {}


@pytest.mark.parametrize(
    ("params", "field", "result"),
    [
        ({"highlight": "titel"}, "titel", "did you mean title?"),
        ({"highlight": "price"}, "price", "products have no text field 'price'"),
        ({"highlight": ["title"] * (MAX_FIELDS + 1)}, "highlight", f"at most {MAX_FIELDS}"),
        ({"highlight": "title", "highlight_words": 0}, "highlight_words", "greater than or equal to 1"),
        ({"highlight": "title", "size": MAX_HITS + 1}, "highlight", f"at most {MAX_HITS} hits"),
    ],
)
def test_invalid_highlight_field_is_refused(
    calling: TestClient, params: dict[str, Any], field: str, result: str
) -> None:
    answer = calling.get("/v1/search", params={"q": "drill", **params})
    fault = answer.json()["error"]
    assert (answer.status_code, fault["field"]) == (400, field)
    assert result in fault["message"]


@given(st.text("<>&\"'a drill钻电\n", max_size=60), st.text("<>a drill电钻", max_size=20), st.integers(1, 5))
def test_text_is_never_markup(title: str, query: str, words: int) -> None:
    wanted = HighlightedFields({"title": "title"}, words)
    for value in wanted.marked_of(Product("p", title), Matcher(Analyzer(), query)).values():
        plain = re.sub("</?mark>", "", value)
        assert "<" not in plain and ">" not in plain and '"' not in plain
        assert html.unescape(plain).strip("…") in title
        assert re.sub("<mark>[^<]*</mark>", "", value).count("mark>") == 0
