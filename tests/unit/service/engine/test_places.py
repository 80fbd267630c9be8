"""Searches by place with live changes: filters, orders and distances agree with the places of products."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.errors import ChangeError, FilterError, QueryError, UnknownProductError
from shelfwise.retrieval.records import Place, Product
from shelfwise.retrieval.updates.changes import Patch
from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KeyFile, Scope
from shelfwise.service.instantsearch.search_batch import SearchBatch
from shelfwise.service.settings import ServiceSettings
from tests.catalogs import BERLIN, ids
from tests.oracle import metres_between
from tests.services import add_key, narrowed
from tests.unit.service.instantsearch.test_search_batch import HookRecorder

NEAR = "distance(52.52, 13.405) < 20 km"
AROUND = {"aroundLatLng": "52.52, 13.405", "aroundRadius": 20_000}


@pytest.fixture(scope="module")
def placed(store: SearchEngine) -> Iterator[dict[str, Product]]:
    """Every third product is in a shop within about 50 km of Berlin, and one of them also in a distant one."""
    draw = random.Random(7)
    found = ids(store.search("", size=600))[::3]
    somewhere = [[Place(52.52 + draw.uniform(-0.4, 0.4), 13.405 + draw.uniform(-0.4, 0.4))] for _ in found]
    somewhere[0].append(Place(-33.9, 18.4))
    store.change([Patch(each, {"places": places}) for each, places in zip(found, somewhere, strict=True)])
    yield {each: store.product(each) for each in ids(store.search("", size=600))}
    store.change([Patch(each, {"places": None}) for each in found])


def metres(product: Product) -> float:
    return min((metres_between(BERLIN, each) for each in product.places), default=float("inf"))


def near(products: dict[str, Product], shown: Sequence[str]) -> list[str]:
    return [each for each in shown if metres(products[each]) <= 20_000]


@pytest.mark.parametrize("query", ["drill", ""])
@pytest.mark.parametrize("group", ["", "variants"])
def test_filter_keeps_the_products_with_a_place_in_the_area(
    store: SearchEngine, placed: dict[str, Product], query: str, group: str
) -> None:
    everything = near(placed, ids(store.search(query, size=600)))
    page = store.search(query, size=600, filters=NEAR, group=group, facets=["brand"], ranges=["price:0"])
    assert 0 < len(everything) < 100
    if not group:
        assert ids(page) == everything
        assert page.ranges["price"][0].count == len(everything)
    assert page.total == len(page.hits)
    best = page.facets["brand"].counts[0]
    chosen = store.search(query, filters=f'{NEAR} AND brand = "{best.value}"', group=group)
    assert chosen.total == best.count
    assert [hit.distance for hit in page.hits] == pytest.approx([metres(hit.product) for hit in page.hits])
    outside = store.search(query, filters=f"places EXISTS AND NOT {NEAR}").total
    assert outside + len(everything) == store.search(query, filters="places EXISTS").total


@pytest.mark.parametrize("query", ["drill", ""])
def test_nearest_products_come_first_and_those_without_a_place_last(
    store: SearchEngine, placed: dict[str, Product], query: str
) -> None:
    page = store.search(query, size=600, sort="distance(52.52, 13.405),-price")
    far = [metres(hit.product) for hit in page.hits]
    assert far == sorted(far)
    assert [hit.distance for hit in page.hits if hit.distance] == pytest.approx([each for each in far if each < 1e9])
    priced = [hit.product.price or 0.0 for hit in page.hits if not hit.product.places]
    assert priced == sorted(priced, reverse=True)
    assert page.hits[-1].distance is None
    assert ids(store.search(query, size=5, page=2, sort="distance(52.52, 13.405),-price")) == ids(page)[5:10]


def test_similar_products_and_single_ones_are_within_the_area(store: SearchEngine, placed: dict[str, Product]) -> None:
    here = near(placed, list(placed))
    assert set(ids(store.similar(here[0], size=100, filters=NEAR))) == set(here[1:])
    assert store.product(here[0], filters=NEAR).places
    elsewhere = next(each for each, product in placed.items() if product.places and each not in here)
    with pytest.raises(UnknownProductError):
        store.product(elsewhere, filters=NEAR)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sort": "distance(52.52)"}, QueryError, r"write distance\(52.5, 13.4\) to sort nearest first"),
        ({"sort": "distance(x, 1)"}, QueryError, "finite numbers"),
        ({"sort": "distance(13.4, 152.5), distance(152.5, 13.4)"}, QueryError, "these may be swapped"),
        ({"filters": "places = Berlin"}, FilterError, "column 1: places is a list of places; use a condition such as"),
    ],
)
def test_invalid_places_are_refused(
    store: SearchEngine, options: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        store.search("", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [{"lat": 91, "lng": 0}, {"lat": float("nan"), "lng": 0}, {"lat": 1}, "52.5,13.4", 3])
def test_a_change_with_an_invalid_place_is_refused(store: SearchEngine, place: object) -> None:
    with pytest.raises(ChangeError, match=r"places is .*latitudes -90 to 90, longitudes"):
        store.patch(ids(store.search("drill"))[0], places=place)


def test_narrowed_key_sees_products_in_its_area_over_http(
    store: SearchEngine, placed: dict[str, Product], keys: KeyFile
) -> None:
    key = narrowed(add_key(keys, Scope.SEARCH), filters=NEAR)
    with TestClient(create_app(store, ServiceSettings(keys=keys.path)), headers={"X-API-Key": key}) as calling:
        parameters = {"sort": "distance(52.52, 13.405)", "size": "100", "fields": "places"}
        found = calling.get("/v1/search", params=parameters).json()
        nearest = sorted(near(placed, list(placed)), key=lambda each: metres(placed[each]))
        assert [hit["product"]["id"] for hit in found["hits"]] == nearest
        assert set(found["hits"][0]["product"]) == {"id", "places"}
        refused = calling.get("/v1/search", params={"filters": "distance(99, 1) < 1 km"}).json()["error"]
        assert (refused["field"], "a latitude is -90 to 90" in refused["message"]) == ("filters", True)


def test_protocol_searches_by_place(store: SearchEngine, placed: dict[str, Product]) -> None:
    batch = SearchBatch(store, HookRecorder().hooks)
    nearest = sorted(near(placed, list(placed)), key=lambda each: metres(placed[each]))
    found = batch.search({**AROUND, "hitsPerPage": 100, "getRankingInfo": True, "minimumAroundRadius": 5}, "a")
    assert [hit["objectID"] for hit in found.hits] == nearest
    assert (found.nb_hits, found.ignored_parameters) == (len(nearest), ["minimumAroundRadius"])
    info, product = found.hits[0]["_rankingInfo"], placed[nearest[0]]
    assert info["geoDistance"] == metres(product) // 10
    assert info["matchedGeoLocation"]["distance"] == round(metres(product))
    assert found.hits[0]["_geoloc"] == {"lat": product.places[0].lat, "lng": product.places[0].lng}
    everything = batch.search({**AROUND, "aroundRadius": "all", "hitsPerPage": 100}, "a")
    assert everything.nb_hits == 600
    assert [hit["objectID"] for hit in everything.hits[: len(nearest)]] == nearest


@pytest.mark.parametrize(
    ("parameters", "areas"),
    [
        ({"insideBoundingBox": [[52.6, 13.6, 52.4, 13.2]]}, "box(52.4, 13.2, 52.6, 13.6)"),
        ({"insideBoundingBox": "52.6,13.6,52.4,13.2,1,2,3,4"}, "box(52.4, 13.2, 52.6, 13.6) OR box(1, 2, 3, 4)"),
        ({"insidePolygon": [52, 13, 52, 14, 53, 13.5], **AROUND}, "polygon(52, 13, 52, 14, 53, 13.5)"),
    ],
)
def test_protocol_searches_in_areas(
    store: SearchEngine, placed: dict[str, Product], parameters: dict[str, object], areas: str
) -> None:
    found = SearchBatch(store, HookRecorder().hooks).search({"hitsPerPage": 100, **parameters}, "a")
    assert [hit["objectID"] for hit in found.hits] == ids(store.search("", size=100, filters=areas))
    assert 0 < found.nb_hits < sum(bool(each.places) for each in placed.values())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"aroundLatLng": "52.5"}, "aroundLatLng is '52.5', it must be like '52.5, 13.4': it must have two numbers"),
        ({"aroundLatLng": "1, 2", "aroundRadius": -1}, "aroundRadius is -1, it can be 1 to"),
        ({"insideBoundingBox": [1, 2, 3]}, "insideBoundingBox must have 4 numbers for each box"),
        ({"insideBoundingBox": [[1, 2, 3, {}]]}, "finite numbers"),
        ({"insidePolygon": [1, 2, 3]}, "insidePolygon must have an even number of coordinates"),
        ({"insidePolygon": [0, 0, 1, 1, 0, 1, 1, 0]}, "the sides of a polygon may not cross"),
    ],
)
def test_protocol_names_a_parameter_that_is_no_place(
    store: SearchEngine, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        SearchBatch(store, HookRecorder().hooks).search(parameters, "a")
