"""The last acts of each shopper."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from rerank.sessions.options import DeriveOptions
from rerank.sessions.product_tables import SEQUENCES
from tests.unit.rerank.sessions.derived_log import NOW, derived, search, stored


def test_the_last_acts_are_kept_over_sessions_by_age(tmp_path: Path) -> None:
    events = search("u1", NOW - timedelta(days=9), "lamp", ["a", "b"], ("click", "b"), ("cart", "b"))
    events += [stored("consultation", NOW - timedelta(days=2), product_id="c", shopper="u1")]
    table = derived(tmp_path, SEQUENCES, events, DeriveOptions(sequence=2))
    assert table.select("shopper", "age", "product_id", "kind").rows() == [
        ("u1", 2, "b", "cart"),
        ("u1", 1, "c", "consultation"),
    ]


def test_who_is_not_known_has_none(tmp_path: Path) -> None:
    events = [stored("consultation", NOW - timedelta(hours=1), product_id="a", session="s1")]
    assert derived(tmp_path, SEQUENCES, events).is_empty()
