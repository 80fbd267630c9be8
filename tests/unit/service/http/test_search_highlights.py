"""Highlights of a search over HTTP, as HTML that is safe in a page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import Analyzer
from shelfwise.retrieval.text.highlight import MOST_FIELDS, MOST_HITS, HighlightedFields, Matcher
from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.services import local_client

LONG = "Made for wood. " * 20 + "With a spare battery and a case. " + "Made for steel. " * 20
CATALOG = (
    Product(
        "drill",
        "Cordless drills & bits < 5 mm",
        description=LONG,
        brand="Bosch",
        category=("Tools", "Drills"),
        price=9.5,
        identifiers={"mpn": ("DCD771", "DCD772")},
        attributes={"colour": ("dark blue", "red"), "note": 'a "quoted" drill', "watts": 500.0},
    ),
    Product("sofa", "Red couch", description="A love seat for two.", attributes={"colour": "red"}),
    Product("seat", "Bicycle seat"),
    Product("cn", "无线电钻 18V", brand="牧田"),
    *(Product(f"more{n}", f"Cordless drill {n}", brand="Bosch") for n in range(25)),
)


@pytest.fixture(scope="module")
def shop(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    folder = tmp_path_factory.mktemp("highlights")
    feed = write_feed(folder / "products.jsonl", CATALOG)
    (folder / "synonyms.txt").write_text("sofa, couch, love seat\n")
    options = RebuildOptions((str(feed),), cache, encoder=ENCODER, synonyms=folder / "synonyms.txt")
    rebuild(folder / "index", options)
    with SearchEngine.open(folder / "index") as engine:
        yield engine


@pytest.fixture(scope="module")
def calling(shop: SearchEngine) -> Iterator[TestClient]:
    with local_client(create_app(shop, ServiceSettings())) as client:
        yield client


def marked(calling: TestClient, product: str, **params: Any) -> dict[str, str]:  # noqa: ANN401 - as a query has them
    answer = calling.get("/v1/search", params={"highlight": "title", "size": 50, **params})
    assert answer.status_code == 200, answer.text
    (found,) = (hit["highlights"] for hit in answer.json()["hits"] if hit["product"]["id"] == product)
    return dict(found)


def test_matches_are_marked_and_text_is_escaped(calling: TestClient) -> None:
    params = {"q": "drill bits", "highlight": ["title", "brand", "category", "note"]}
    assert marked(calling, "drill", **params) == {
        "title": "Cordless <mark>drills</mark> &amp; <mark>bits</mark> &lt; 5 mm",
        "brand": "Bosch",
        "category": "Tools &gt; <mark>Drills</mark>",
        "note": "a &quot;quoted&quot; <mark>drill</mark>",
    }


def test_highlights_follow_the_corrected_query(calling: TestClient) -> None:
    assert marked(calling, "more1", q="cordles drill") == {"title": "<mark>Cordless</mark> <mark>drill</mark> 1"}
    assert marked(calling, "more1", q="cordles drill", correct=False) == {"title": "Cordless <mark>drill</mark> 1"}


def test_post_and_multi_search_highlight(calling: TestClient) -> None:
    body = {"q": "couch", "highlight": ["title"], "size": 1}
    assert calling.post("/v1/search", json=body).json()["hits"][0]["highlights"] == {"title": "Red <mark>couch</mark>"}
    first, second = calling.post("/v1/multi-search", json={"searches": [body, {"q": "couch"}]}).json()["results"]
    assert first["hits"][0]["highlights"] == {"title": "Red <mark>couch</mark>"}
    assert second["hits"][0]["highlights"] == {}


@pytest.mark.parametrize(
    ("params", "field", "result"),
    [
        ({"highlight": "titel"}, "titel", "did you mean title?"),
        ({"highlight": "price"}, "price", "products have no text field 'price'"),
        ({"highlight": ["title"] * (MOST_FIELDS + 1)}, "highlight", f"at most {MOST_FIELDS}"),
        ({"highlight": "title", "highlight_words": 0}, "highlight_words", "greater than or equal to 1"),
        ({"highlight": "title", "size": MOST_HITS + 1}, "highlight", f"at most {MOST_HITS} hits"),
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
