"""Lookups in the query memory, against a plain dictionary."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.ranker.memory import MEMORY, NO_MEMORY, MemoryRows, QueryMemory, Scope, product_hashes

ROWS = [
    ("all", "", "product", "a", 2.0, 1.0, 0.5, 0.8),
    ("all", "", "product", "b", 0.5, 1.0, 1.0, 0.4),
    ("query", "drill red", "product", "a", 4.0, 2.0, 1.0, 0.9),
    ("query", "drill red", "category", "Drills", 1.5, 1.0, 1.0, 0.7),
    ("word", "drill", "product", "a", 3.0, 1.0, 1.0, 0.6),
    ("word", "red", "product", "a", 1.5, 1.0, 1.0, 0.2),
    ("word", "drill", "product", "c", 0.0, 1.0, 1.0, 0.5),
    ("word", "drill", "category", "Drills", 1.25, 1.0, 1.0, 0.3),
    ("query", "drill red", "brand", "Torvane", 0.5, 1.0, 1.0, 0.1),
]
Row = tuple[str, str, str, str, float, float, float, float]
CATALOG = [("new", "category", "Drills"), ("new", "brand", "Torvane"), ("a", "brand", "Other"), ("c", "price", "3")]


def memory_of(rows: list[Row], catalog: Sequence[tuple[str, str, str]] = CATALOG) -> QueryMemory:
    ratios = np.array([(*row[4:], 3.0) for row in rows], np.float64).reshape(-1, 5).T
    scopes, keys, kinds, members = ([str(row[column]) for row in rows] for column in range(4))
    return QueryMemory.of_rows(MemoryRows(scopes, keys, kinds, members, [*ratios]), catalog)


def remembered(memory: QueryMemory, text: str, product: str) -> dict[str, float]:
    return dict(zip(MEMORY, memory.features(text, product_hashes([product]))[0].tolist(), strict=True))


def test_each_scope_has_its_features() -> None:
    found = remembered(memory_of(ROWS), "Red DRILLS", "a")
    words = (0.6 * math.log(3.0) + 0.2 * math.log(1.5)) / (0.6 + 0.2)
    assert found["query_product"] == 0  # of another query: "drills red"
    assert found["words_product"] == pytest.approx(words)
    assert found["query_purchase"] == pytest.approx(math.log(0.5))
    same = remembered(memory_of(ROWS), "drill  red", "a")
    assert same["query_product"] == pytest.approx(math.log(4.0))
    assert same["query_cart"] == pytest.approx(math.log(2.0))


def test_a_new_product_has_the_features_of_its_category_and_brand() -> None:
    found = remembered(memory_of(ROWS), "red drill", "new")
    expected = {
        "query_category": math.log(1.5),
        "query_category_evidence": 0.7,
        "words_category": math.log(1.25),
        "words_category_evidence": 0.3,
        "query_brand": math.log(0.5),
        "query_brand_evidence": 0.1,
    }
    assert {name: value for name, value in found.items() if value} == pytest.approx(expected)


def test_shares_count_products_with_known_ids() -> None:
    memory = memory_of(ROWS)
    assert memory.share_in_catalog() == 1 / 2  # "a", not "b"
    assert memory.share_known(product_hashes(["a", "new", "c", "elsewhere"])) == 3 / 4
    assert (NO_MEMORY.share_in_catalog(), NO_MEMORY.share_known(product_hashes(["a"]))) == (1, 1)


def test_unknown_products_and_queries_are_0() -> None:
    memory = memory_of(ROWS)
    assert not any(remembered(memory, "drill red", "elsewhere").values())
    assert not any(remembered(NO_MEMORY, "drill red", "a").values())
    assert not any(remembered(memory, "", "new").values())
    assert memory.features("drill", product_hashes([])).shape == (0, len(MEMORY))


keys = st.tuples(st.sampled_from([scope.value for scope in Scope]), st.sampled_from("xyz"), st.sampled_from("abcdef"))


@given(st.dictionaries(keys, st.floats(0.25, 4, width=32), max_size=30))
def test_lookup_agrees_with_a_dictionary(held: dict[tuple[str, str, str], float]) -> None:
    memory = memory_of([(*key[:2], "product", key[2], ratio, 1.0, 1.0, 0.5) for key, ratio in held.items()], ())
    assert memory.problem() == ""
    found = memory.features("x", product_hashes([*"abcdef"]))[:, MEMORY.index("query_product")]
    expected = [math.log(held.get(("query", "x", product), 1.0)) for product in "abcdef"]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"starts": np.array([0, 2, 5, 8, 99])}, "bounds that do not match its rows"),
        ({"starts": np.array([0, 0, 5, 8, 9])}, "keys that are not in order"),
        ({"cart": np.ones(3, np.float32)}, "different numbers of members and ratios"),
        ({"brand": np.ones(1, np.uint64)}, "different numbers of products, categories"),
        ({"evidence": np.full(9, np.nan, np.float32)}, "not finite"),
    ],
)
def test_damaged_arrays_are_described(change: dict[str, np.ndarray], message: str) -> None:
    memory = memory_of(ROWS)
    fields = {name: getattr(memory, name) for name in QueryMemory.__dataclass_fields__}
    assert message in QueryMemory(**{**fields, **change}).problem()
