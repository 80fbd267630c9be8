"""A version's keyword index in a cluster: its name, what is written of it, and how it is filled from the version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from retrieval.cluster import Cluster, ClusterSettings, Document
from retrieval.errors import ClusterError, ClusterUnavailableError
from retrieval.keyword_elasticsearch import MAPPINGS, SETTINGS, document_of
from retrieval.keyword_lines import decode_line, read_lines

SCHEMA = 1
"""Of the mapping. An index of another schema is refused, and a rebuild makes it anew."""
WHOLE = "whole"
_ATTEMPTS = 3
_COPIES_SECONDS = 30.0


def load_keyword(
    cluster: Cluster,
    name: str,
    lines: Path,
    products: Iterable[bytes],
    made_of: Mapping[str, object],
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Makes the index `name` anew from the lines of a version and its products, as JSON.

    It is counted, and only then said to be whole. Raises ClusterError where it cannot be filled; `products` is gone
    through again where a node was lost under way.
    """

    def documents() -> Iterator[Document]:
        for row, line, product in zip(count(), read_lines(lines), products, strict=False):
            yield str(row), 0, document_of(row, decode_line(line), product)

    fill(cluster, name, (SETTINGS, MAPPINGS), documents, made_of, advance)


def fill(
    cluster: Cluster,
    name: str,
    kind: tuple[Mapping[str, Any], Mapping[str, Any]],
    documents: Callable[[], Iterable[Document]],
    made_of: Mapping[str, object],
    advance: Callable[[int], None],
) -> None:
    """Makes an index of some settings and mappings, writes all documents, counts them, and lets it be copied.

    A node that is lost takes what was written to it along, since there are no copies yet: then all is begun anew.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _filled(cluster, name, kind, documents(), made_of, advance)
        except ClusterUnavailableError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _filled(
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
    taken = 0
    for one in cluster.load(name, documents):
        taken += one
        advance(one)
    cluster.refresh(name)
    if (there := cluster.count(name)) != taken:
        raise ClusterError(f"{name}: {taken:,} products were written and {there:,} are there; rebuild the index")
    cluster.configure(name, {"refresh_interval": None, "translog.durability": None, **_copies(cluster.settings)})
    cluster.wait_for_copies(name, _COPIES_SECONDS)
    cluster.describe(name, {**made_of, WHOLE: True})


def _copies(settings: ClusterSettings) -> dict[str, Any]:
    if settings.replicas is None:
        return {"auto_expand_replicas": "0-1"}
    return {"number_of_replicas": settings.replicas}
