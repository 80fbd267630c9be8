"""How a version's keyword index in a cluster is filled from the version's files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path

from retrieval.cluster import Cluster, Document
from retrieval.cluster_filling import fill
from retrieval.keyword_elasticsearch import MAPPINGS, SETTINGS, document_of
from retrieval.keyword_lines import decode_line, read_lines

SCHEMA = 1
"""Of the mapping. An index of another schema is refused, and a rebuild makes it anew."""


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
