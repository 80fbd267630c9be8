"""Searches that take part in experiments, over the demo store."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retrieval.errors import QueryError
from service.curation.rules import Pin, Rule
from service.engine.engine import SearchEngine
from service.engine.request import SearchRequest
from service.experiments.assignment import (
    DEEPEST,
    DraftMark,
    MarkedPage,
    ShopperSearch,
    SplitMark,
    answer_search,
    read_marks,
)
from service.experiments.experiment import Experiment, Mode, Unit, Variant, VariantOptions
from service.experiments.store import Running, StoredExperiment
from service.settings import Settings

KEY = b"k" * 32
NOW = datetime(2026, 12, 1, tzinfo=UTC)
MERGING = Experiment("merging", (Variant("now"), Variant("rrf", VariantOptions(merge="rrf"))))
DRAFT = replace(MERGING, id="draft", mode=Mode.INTERLEAVE)
DRILL = ShopperSearch(SearchRequest("cordless drill", size=10), shopper="u1", session="s1")


def varied(search: ShopperSearch, **changes: Any) -> ShopperSearch:  # noqa: ANN401 - fields of two classes
    own = {name: changes.pop(name) for name in ("shopper", "session") if name in changes}
    return replace(search, request=replace(search.request, **changes), **own)


def running(*experiments: Experiment) -> Running:
    return Running(tuple(StoredExperiment(each, each.id.encode() * 16, NOW, "") for each in experiments), KEY)


def ids(found: MarkedPage) -> list[str]:
    return [hit.product.id for hit in found.page.hits]


def test_a_shopper_sees_the_variant_that_the_query_id_tells(engine: SearchEngine) -> None:
    told = set()
    for number in range(12):
        asked = varied(DRILL, shopper=f"u{number}")
        found = answer_search(engine, running(MERGING), asked)
        (part,) = read_marks(found.query_id, KEY)
        assert isinstance(part, SplitMark)
        told.add(part.variant)
        merge = {"now": "per-word", "rrf": "rrf"}[part.variant]
        assert ids(found) == [hit.product.id for hit in engine.search("cordless drill", size=10, merge=merge).hits]
        again = answer_search(engine, running(MERGING), varied(asked, text="saw", session="s2"))
        assert read_marks(again.query_id, KEY) == (part,)
        assert again.query_id != found.query_id
    assert told == {"now", "rrf"}


@pytest.mark.parametrize(
    "change", [{"sort": "price"}, {"explain": True}, {"size": 0}, {"shopper": "", "session": ""}, {"shopper": ""}]
)
def test_who_takes_no_part_has_a_plain_query_id(engine: SearchEngine, change: dict[str, Any]) -> None:
    found = answer_search(engine, running(MERGING, DRAFT), varied(DRILL, **change))
    assert len(found.query_id) == 32
    assert found.query_id.isalnum()


def test_several_experiments_are_seen_together(engine: SearchEngine) -> None:
    rules = Experiment("rules", (Variant("on"), Variant("off", VariantOptions(rules=False))), unit=Unit.SESSION)
    found = answer_search(engine, running(MERGING, rules), DRILL)
    assert {part.experiment for part in read_marks(found.query_id, KEY)} == {"merging", "rules"}
    browsed = answer_search(engine, running(rules, DRAFT), varied(DRILL, text=" "))
    assert [part.experiment for part in read_marks(browsed.query_id, KEY)] == ["rules"]


def test_pages_of_an_interleaved_answer_go_on_from_each_other(engine: SearchEngine) -> None:
    whole = answer_search(engine, running(DRAFT), varied(DRILL, size=60, facets=("brand",)))
    pages = [answer_search(engine, running(DRAFT), varied(DRILL, size=20, page=page)) for page in (1, 2, 3)]
    assert [each for page in pages for each in ids(page)] == ids(whole)
    assert len(set(ids(whole))) == 60
    parts = [read_marks(page.query_id, KEY)[0] for page in pages]
    assert all(isinstance(part, DraftMark) for part in parts)
    assert [part.first for part in parts if isinstance(part, DraftMark)] == [1, 21, 41]
    (all_of_it,) = read_marks(whole.query_id, KEY)
    assert isinstance(all_of_it, DraftMark)
    assert "".join(part.teams for part in parts if isinstance(part, DraftMark)) == all_of_it.teams
    assert (whole.page.page, whole.page.size, pages[2].page.page) == (1, 60, 3)
    assert whole.page.facets["brand"].counts
    assert whole.page.total == pages[0].page.total == engine.search("cordless drill").total


def test_each_hit_is_the_best_of_its_team_that_was_left(engine: SearchEngine) -> None:
    found = answer_search(engine, running(DRAFT), DRILL)
    (part,) = read_marks(found.query_id, KEY)
    assert isinstance(part, DraftMark)
    lists = {
        "a": engine.search("cordless drill", size=10),
        "b": engine.search("cordless drill", size=10, merge="rrf"),
    }
    taken: set[str] = set()
    for hit, team in zip(found.page.hits, part.teams, strict=True):
        left = [each.product.id for each in lists[team].hits if each.product.id not in taken]
        assert hit.product.id == left[0]
        taken.add(hit.product.id)


def test_a_pinned_product_stays_at_its_place(demo_index: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(demo_index, tmp_path / "index"))
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as pinning:
        last = pinning.search("cordless drill", size=30).hits[-1].product.id
        pinning.rules.put([Rule("pin", (Pin((last,), position=3),))])
        found = answer_search(pinning, running(DRAFT), DRILL)
    (part,) = read_marks(found.query_id, KEY)
    assert isinstance(part, DraftMark)
    assert (ids(found)[2], part.teams[2]) == (last, "-")


def test_another_text_or_shopper_has_other_coins(engine: SearchEngine) -> None:
    teams = set()
    for number in range(8):
        found = answer_search(engine, running(DRAFT), varied(DRILL, shopper=f"u{number}"))
        (part,) = read_marks(found.query_id, KEY)
        assert isinstance(part, DraftMark)
        teams.add(part.teams)
    assert len(teams) > 4
    once, again = (answer_search(engine, running(DRAFT), varied(DRILL, text=text)) for text in ("drill", " DRILL "))
    assert ids(once) == ids(again)


def test_pages_past_the_deepest_are_the_first_variants(engine: SearchEngine) -> None:
    deep = varied(DRILL, size=DEEPEST // 2 + 1, page=2)
    found = answer_search(engine, running(DRAFT), deep)
    assert found.query_id.isalnum()
    assert ids(found) == [
        hit.product.id for hit in engine.search("cordless drill", size=deep.request.size, page=2).hits
    ]


def test_a_share_of_traffic_is_all_that_takes_part(engine: SearchEngine) -> None:
    tenth = replace(MERGING, share=0.1)
    told = [answer_search(engine, running(tenth), varied(DRILL, shopper=f"u{number}", size=1)) for number in range(60)]
    assert 1 <= sum(bool(read_marks(each.query_id, KEY)) for each in told) <= 15


def test_what_cannot_be_answered_is_refused_as_without_experiments(engine: SearchEngine) -> None:
    for page in (0, 10_000):
        with pytest.raises(QueryError, match="page"):
            answer_search(engine, running(DRAFT), varied(DRILL, page=page, size=20))
