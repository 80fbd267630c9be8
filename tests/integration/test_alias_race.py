"""Processes that move one alias at the same time, as a rebuild and the engines that take its version up do."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval.elasticsearch.client import Cluster

pytestmark = pytest.mark.elasticsearch


def test_an_alias_that_many_move_at_once_names_one_index_and_nobody_fails(cluster: Cluster) -> None:
    """One was told that the alias was missing on the index that it wanted to take it from."""
    alias = f"{cluster.settings.alias}-raced"
    names = [f"{alias}-{number}" for number in range(4)]
    for name in names:
        cluster.create(name, {"number_of_replicas": 0}, {})
    try:
        with ThreadPoolExecutor(4) as executor:
            for _ in range(10):
                list(executor.map(cluster.point_alias, [alias] * 4, names))
                assert len(cluster.states(alias)) >= 1
        cluster.point_alias(alias, names[0])
        assert [state.name for state in cluster.states(alias)] == [names[0]]
    finally:
        cluster.delete(names)


def test_an_alias_leaves_an_index_that_is_being_removed(cluster: Cluster) -> None:
    alias = f"{cluster.settings.alias}-left"
    names = [f"{alias}-{number}" for number in range(12)]
    for name in names:
        cluster.create(name, {"number_of_replicas": 0}, {})
    try:
        with ThreadPoolExecutor(2) as executor:
            for before, after in itertools.pairwise(names):
                cluster.point_alias(alias, before)
                removing = executor.submit(cluster.delete, [before])
                cluster.point_alias(alias, after)
                removing.result()
                assert [state.name for state in cluster.states(alias)] == [after]
    finally:
        cluster.delete(names)
