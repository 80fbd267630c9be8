"""Bulk loading of an Elasticsearch index: it is created, filled, counted, and later checked by its metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shelfwise.retrieval.elasticsearch.client import Cluster, Document
from shelfwise.retrieval.errors import ClusterError, ClusterUnavailableError, StoreDamagedError

WHOLE = "whole"
"""The metadata key that marks an index with all of its documents."""
_ATTEMPTS = 3
_COPIES_SECONDS = 30.0


def fill_index(
    cluster: Cluster,
    name: str,
    kind: tuple[Mapping[str, Any], Mapping[str, Any]],
    documents: Callable[[], Iterable[Document]],
    made_of: Mapping[str, object],
    advance: Callable[[int], None],
) -> None:
    """Creates an index, writes all documents, counts them, and adds replicas.

    There are no replicas before that, so a lost node loses documents; then everything is loaded again.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fill_once(cluster, name, kind, documents(), made_of, advance)
        except ClusterUnavailableError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def check_index(cluster: Cluster, name: str, made_of: Mapping[str, object]) -> None:
    """Raises StoreDamagedError unless the cluster has an index of this name with the metadata `made_of`."""
    state = cluster.state(name)
    if state is None:
        raise StoreDamagedError(f"the cluster has no index {name}")
    differing = [key for key, value in made_of.items() if state.meta.get(key) != value]
    if differing:
        differences = ", ".join(f"{key} is {state.meta.get(key)!r}, not {made_of[key]!r}" for key in differing)
        raise StoreDamagedError(f"the cluster's index {name} is a different one: {differences}")


def _fill_once(
    cluster: Cluster,
    name: str,
    kind: tuple[Mapping[str, Any], Mapping[str, Any]],
    documents: Iterable[Document],
    made_of: Mapping[str, object],
    advance: Callable[[int], None],
) -> None:
    settings, mappings = kind
    loading = {
        "number_of_shards": cluster.settings.shards,
        "number_of_replicas": 0,
        "refresh_interval": "-1",
        "translog.durability": "async",
    }
    cluster.create(name, {**settings, **loading}, {**mappings, "_meta": {**made_of, WHOLE: False}})
    written = 0
    try:
        for one in cluster.load(name, documents):
            written += one
            advance(one)
    except ClusterError:
        advance(-written)
        raise
    cluster.settle(name)
    _check_count(cluster, name, written)
    cluster.configure(name, {"refresh_interval": None, "translog.durability": None, **cluster.settings.copies})
    cluster.wait_for_copies(name, _COPIES_SECONDS)
    # Repeated, since the node with the only copy may have been lost before there was another.
    _check_count(cluster, name, written)
    cluster.describe(name, {**made_of, WHOLE: True})


def _check_count(cluster: Cluster, name: str, written: int) -> None:
    if (there := cluster.count(name)) != written:
        raise ClusterError(f"{name}: {written:,} documents were written and {there:,} are there; rebuild the index")
