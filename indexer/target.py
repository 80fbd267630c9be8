"""Where a rebuild puts the indexes of a version: among its own files, or in an Elasticsearch cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from indexer.observing import Observer
from retrieval.cluster_settings import ClusterSettings
from retrieval.keyword_lines import KeywordBuilder
from retrieval.keyword_tantivy import TantivyBuilder
from retrieval.manifest import ClusterPlace, Manifest
from retrieval.published import Store


class Target(Protocol):
    """Where the indexes go. Every method but the first raises ClusterError where a cluster cannot be used."""

    builder: type[KeywordBuilder]
    place: ClusterPlace | None

    def check(self) -> None:
        """Raises for what would stand in the way, before long work is begun."""
        ...

    def fill(self, manifest: Manifest, folder: Path, observer: Observer) -> None:
        """Makes whatever of a version is not among its own files, before it is published."""
        ...

    def serve(self, manifest: Manifest) -> None:
        """Does what is left to do once a version is published."""
        ...

    def restore(self, manifest: Manifest, folder: Path, observer: Observer) -> bool:
        """Makes again what a published version has lost; returns whether there was anything."""
        ...

    def clear_up(self) -> list[str]:
        """Removes what belongs to versions that are gone; returns its names."""
        ...

    def close(self) -> None:
        """Ends connections."""
        ...


class Embedded:
    """Everything is among the version's own files."""

    builder: type[KeywordBuilder] = TantivyBuilder
    place: ClusterPlace | None = None

    def check(self) -> None:
        """Nothing can stand in the way."""

    def fill(self, _manifest: Manifest, _folder: Path, _observer: Observer, /) -> None:
        """Nothing is anywhere else."""

    def serve(self, _manifest: Manifest, /) -> None:
        """Nothing is left to do."""

    def restore(self, _manifest: Manifest, _folder: Path, _observer: Observer, /) -> bool:
        """Nothing can be lost without the version being damaged."""
        return False

    def clear_up(self) -> list[str]:
        """Nothing is anywhere else."""
        return []

    def close(self) -> None:
        """There are no connections."""


def open_target(cluster: ClusterSettings | None, store: Store, *, vectors: bool) -> Target:
    """The cluster that is named, or the version's own files."""
    if cluster is None:
        return Embedded()
    # A client that most rebuilds do without.
    from indexer.clustered import InCluster

    return InCluster(cluster, store, vectors=vectors)
