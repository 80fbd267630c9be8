"""The complaint suite on Shelfwise: every case passes. `shelfwise bench complaints` also runs it on other engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import pytest

from shelfwise.benchmarks.peers.complaints.catalog import catalog
from shelfwise.benchmarks.peers.complaints.engine import ComplaintError, Listing, NotOfferedError, Shop
from shelfwise.benchmarks.peers.complaints.shelfwise_engine import ShelfwiseEngine, build_index
from shelfwise.benchmarks.peers.complaints.suite import (
    FAIL,
    NOT_OFFERED,
    PASS,
    Complaint,
    complaints,
    run_case,
    shared_encoder,
)
from tests.machine import build_once


@pytest.fixture(scope="module")
def shop(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    listings = catalog()

    def build(folder: Path) -> None:
        build_index(folder, listings, cache)

    built = build_once(tmp_path_factory, "complaints", build)
    index = Path(shutil.copytree(built / "index", tmp_path_factory.mktemp("complaints") / "index"))
    with closing(ShelfwiseEngine(cache)) as engine:
        engine.open(index)
        yield Shop(engine, {each.id: each for each in listings}, shared_encoder(cache))


@pytest.mark.parametrize("complaint", complaints(), ids=lambda each: each.name)
def test_shelfwise_passes(shop: Shop, complaint: Complaint) -> None:
    complaint.case(shop)


def test_every_case_names_another_request_and_a_public_thread() -> None:
    cases = complaints()
    assert len({each.name for each in cases}) == len({each.request for each in cases}) == len(cases) >= 25
    assert len({each.thread for each in cases}) == len(cases)


def test_an_error_of_an_engine_is_a_failure_and_a_missing_feature_is_none(shop: Shop) -> None:
    def fails(_: Shop) -> None:
        raise ComplaintError("seen")

    def lacks(_: Shop) -> None:
        raise NotOfferedError("missing")

    def breaks(_: Shop) -> None:
        raise ZeroDivisionError("by zero\nmore")

    found = [run_case(case, shop) for case in (fails, lacks, breaks, lambda _: None)]
    assert [(each.result, each.observed) for each in found] == [
        (FAIL, "seen"),
        (NOT_OFFERED, "missing"),
        (FAIL, "ZeroDivisionError: by zero"),
        (PASS, ""),
    ]


def test_a_feature_that_an_engine_lacks_is_required(shop: Shop) -> None:
    class Plain(ShelfwiseEngine):
        lacks = MappingProxyType({"sort": "there is no order"})

    lacking = Shop(Plain.__new__(Plain), shop.listings, shop.encode)
    with pytest.raises(NotOfferedError, match="there is no order"):
        lacking.search("lamp", sort="price")
    lacking.require("facets")


def test_the_catalog_is_always_the_same_and_has_distinct_ids() -> None:
    made = catalog()
    assert made == catalog()
    assert len({each.id for each in made}) == len({each.sku for each in made}) == len(made) == 1_011
    assert all(isinstance(each, Listing) and each.price > 0 for each in made)
