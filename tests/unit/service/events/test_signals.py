"""Popularity and co-views, and one suite for all files that a refresh writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.ranker.memory import NO_MEMORY, MemoryRows, QueryMemory
from shelfwise.retrieval.errors import StoreDamagedError, StoreError, StoreForeignError, StoreMissingError
from shelfwise.retrieval.records import Relation, RelationEvidence, RelationKind
from shelfwise.retrieval.store.files import scratch_path
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.events.hot_reload import (
    follow_memory,
    follow_popular_queries,
    follow_popularity,
    follow_relations,
)
from shelfwise.service.events.popular_queries import (
    NO_QUERIES,
    PopularQuery,
    read_popular_queries,
    write_popular_queries,
)
from shelfwise.service.events.signals import (
    MOST_RELATED,
    NO_POPULARITY,
    NO_RELATIONS,
    Popularity,
    Relations,
    read_memory,
    read_popularity,
    read_relations,
    type_node,
    write_memory,
    write_popularity,
    write_relations,
)

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)
MEMORY = QueryMemory.of_rows(MemoryRows(["query"], ["drill"], ["product"], ["a"], [np.array([1.5])] * 5))
COVIEWS = Relations.of_pairs([("a", "b", 0.25, None), ("a", "c", 0.75, None)])
FILES = {
    "popularity.json": (partial(write_popularity, scores={"a": 2.5}), read_popularity, NO_POPULARITY),
    "popular_queries.json": (
        partial(write_popular_queries, queries=[PopularQuery("drill", 9)]),
        read_popular_queries,
        NO_QUERIES,
    ),
    "query_memory.bin": (partial(write_memory, memory=MEMORY), read_memory, NO_MEMORY),
    "relations.bin": (partial(write_relations, relations=COVIEWS), read_relations, NO_RELATIONS),
}
"""Functions by file name: a writer with content, a reader, and the value read if the file is missing."""


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda content: content[:-3], StoreDamagedError, "cannot be read"),
        (lambda content: content[:-4] + bytes([content[-4] ^ 1]) + content[-3:], StoreDamagedError, ""),
        (lambda _: b"", StoreDamagedError, "cannot be read"),
        (lambda _: b"\xff\xfe", StoreDamagedError, "cannot be read"),
        (lambda _: b"[1, 2]", StoreDamagedError, "cannot be read"),
        (lambda content: content.replace(b"schema", b"schemb"), StoreDamagedError, "cannot be read"),
        (None, StoreForeignError, "has schema 2, but this program reads 1"),
    ],
    ids=["cut off", "changed", "empty", "no text", "no object", "no schema", "newer"],
)
def test_invalid_file_is_refused(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes] | None, error: type[Exception], message: str
) -> None:
    write, read, default = FILES[name]
    assert read(tmp_path) == default
    write(tmp_path, made=MADE)
    assert read(tmp_path) != default
    path, codec = tmp_path / name, msgspec.json if name.endswith(".json") else msgspec.msgpack
    path.write_bytes(damage(path.read_bytes()) if damage else codec.encode({"schema": 2, "what": "else"}))
    with pytest.raises(error, match=f"{name} .*{message}.*; shelfwise events refresh creates it again"):
        read(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_unwritable_directory_raises(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        FILES[name][0](tmp_path / "nowhere", made=MADE)


@pytest.mark.parametrize("name", FILES)
def test_directory_with_only_popularity_is_an_event_directory(tmp_path: Path, name: str) -> None:
    FILES[name][0](tmp_path, made=MADE)
    scratch_path(tmp_path / name).write_bytes(b"left by a kill")
    with pytest.raises(StoreMissingError, match="has events but no index yet"):
        Store(tmp_path).check_ours()


@pytest.mark.parametrize(
    ("follow", "name", "notice"),
    [
        (follow_popularity, "popularity.json", "product popularity is not used: "),
        (follow_popular_queries, "popular_queries.json", "popular queries are not suggested: "),
        (follow_memory, "query_memory.bin", "the query memory is not used: "),
        (follow_relations, "relations.bin", "similar products are found by their texts alone: "),
    ],
)
def test_replaced_file_is_reloaded(tmp_path: Path, follow: Callable[[Path], Any], name: str, notice: str) -> None:
    (write, _, default), followed = FILES[name], follow(tmp_path)
    followed.reload_if_changed()
    assert followed.value == default
    write(tmp_path, made=MADE)
    followed.reload_if_changed()
    loaded = followed.value
    followed.reload_if_changed()
    assert default != loaded is followed.value
    (tmp_path / name).write_bytes(b"")
    followed.reload_if_changed()
    assert (followed.value, followed.notices[0][: len(notice)]) == (default, notice)
    (tmp_path / name).unlink()
    followed.reload_if_changed()
    assert (followed.value, followed.notices) == (default, ())


def of_pairs(*pairs: tuple[str, str, float]) -> Relations:
    return Relations.of_pairs((*pair, None) for pair in pairs)


SOME = of_pairs(("a", "b", 0.25), ("无线/耳机", "a", 0.5), ("a", "c", 0.75))

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)
strengths = st.integers(0, 16).map(lambda share: share / 16)


class TestPairs:
    @given(st.dictionaries(st.tuples(names, names), strengths, max_size=40))
    def test_strongest_pairs_equal_a_full_sort(self, pairs: dict[tuple[str, str], float]) -> None:
        made = of_pairs(*((*pair, strength) for pair, strength in pairs.items()))
        assert made.problem() == ""
        for name in {each for pair in pairs for each in pair}:
            mine = [(other, strength) for (one, other), strength in pairs.items() if one == name]
            assert made.of(name) == sorted(mine, key=lambda each: (-each[1], each[0]))[:MOST_RELATED]


class TestRelated:
    def test_relations_are_seen_from_both_sides(self, tmp_path: Path) -> None:
        fits = Relation(RelationKind.FITS, RelationEvidence.ATTRIBUTES, 1.0)
        complement = Relation(RelationKind.COMPLEMENT, RelationEvidence.SHOPPERS, 0.25, 7)
        pairs = [
            ("toner", "printer", 1.0, fits),
            ("printer", "paper", 0.25, complement),
            ("printer", "lamp", 0.5, None),
        ]
        write_relations(tmp_path, Relations.of_pairs(pairs), MADE)
        found = read_relations(tmp_path)
        assert found.related("toner") == [("printer", fits)]
        assert found.related("printer") == [("paper", complement), ("toner", replace(fits, reverse=True))]
        assert found.related("paper") == [("printer", complement)]
        assert (found.of("printer"), found.related("lamp")) == ([("lamp", 0.5)], [])

    def test_a_substitute_takes_the_place_of_one_product(self) -> None:
        instead = Relation(RelationKind.SUBSTITUTE, RelationEvidence.SHOPPERS, 0.5, 9)
        found = Relations.of_pairs([("a", "b", 0.5, instead)])
        assert (found.related("a"), found.related("b")) == ([("b", instead)], [])

    def test_types_are_no_products(self) -> None:
        case = Relation(RelationKind.ACCESSORY, RelationEvidence.TEXTS, 1.0)
        found = Relations.of_pairs([(type_node("phone case"), type_node("phone"), 1.0, case)])
        assert found.related_types("phone") == [("phone case", replace(case, reverse=True))]
        assert found.related("phone") == []


class TestCoViews:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (replace(SOME, ends=SOME.ends[:-1]), "ids that do not fit its neighbours"),
            (replace(SOME, ends=SOME.ends[::-1]), "invalid bounds"),
            (replace(SOME, others=SOME.others + 9), "neighbours that it does not contain"),
            (replace(SOME, shoppers=SOME.shoppers[1:]), "neighbours that it does not contain"),
            (replace(SOME, kinds=SOME.kinds + np.uint8(99)), "unknown kinds of relations"),
            (replace(SOME, strengths=-SOME.strengths), "strengths that are not within 0 and 1"),
            (replace(SOME, strengths=SOME.strengths * np.float32(np.nan)), "strengths that are not within 0 and 1"),
        ],
    )
    def test_impossible_values_are_damage(self, tmp_path: Path, wrong: Relations, message: str) -> None:
        write_relations(tmp_path, wrong, MADE)
        with pytest.raises(StoreDamagedError, match=message):
            read_relations(tmp_path)


class TestPopularity:
    def test_scores_are_shares_of_the_highest(self, tmp_path: Path) -> None:
        write_popularity(tmp_path, {"a": 2.5, "无线/耳机": 10.0, "none": 0.0}, MADE)
        found = read_popularity(tmp_path)
        assert found == Popularity({"a": 0.25, "无线/耳机": 1.0})
        result = found.of(["无线/耳机", "b", "a", "none"])
        assert result.dtype == np.float32
        assert result.tolist() == [1, 0, 0.25, 0]

    def test_impossible_scores_are_damage(self, tmp_path: Path) -> None:
        write_popularity(tmp_path, {"a": -1.0}, MADE)
        with pytest.raises(StoreDamagedError, match="negative or not finite"):
            read_popularity(tmp_path)
