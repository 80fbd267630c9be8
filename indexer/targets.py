"""Where a rebuild puts the indexes of a version: among its own files, or in an Elasticsearch cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from retrieval.elasticsearch.settings import ClusterSettings
from retrieval.index.keyword_documents import KeywordBuilder
from retrieval.index.tantivy import TantivyBuilder
from retrieval.progress import Progress
from retrieval.store.manifest import ClusterLocation, Manifest
from retrieval.store.versions import Store


class Target(Protocol):
    """Where the indexes go. Every method but the first raises ClusterError where a cluster cannot be used."""

    builder: type[KeywordBuilder]
    place: ClusterLocation | None

    def check(self) -> None:
        """Raises for what would stand in the way, before long work is begun."""
        ...

    def fill(self, manifest: Manifest, folder: Path, progress: Progress) -> None:
        """Makes whatever of a version is not among its own files, before it is published."""
        ...

    def serve(self, manifest: Manifest) -> None:
        """Does what is left to do once a version is published."""
        ...

    def restore(self, manifest: Manifest, folder: Path, progress: Progress) -> bool:
        """Makes again what a published version has lost; returns whether there was anything."""
        ...

    def prune(self) -> list[str]:
        """Removes what belongs to versions that are gone; returns its names."""
        ...

    def close(self) -> None:
        """Ends connections."""
        ...


class EmbeddedTarget:
    """Everything is among the version's own files."""

    builder: type[KeywordBuilder] = TantivyBuilder
    place: ClusterLocation | None = None

    def check(self) -> None:
        """Nothing can stand in the way."""

    def fill(self, _manifest: Manifest, _folder: Path, _progress: Progress, /) -> None:
        """Nothing is anywhere else."""

    def serve(self, _manifest: Manifest, /) -> None:
        """Nothing is left to do."""

    def restore(self, _manifest: Manifest, _folder: Path, _progress: Progress, /) -> bool:
        """Nothing can be lost without the version being damaged."""
        return False

    def prune(self) -> list[str]:
        """Nothing is anywhere else."""
        return []

    def close(self) -> None:
        """There are no connections."""


def open_target(cluster: ClusterSettings | None, store: Store, *, vectors: bool) -> Target:
    """The cluster that is named, or the version's own files."""
    if cluster is None:
        return EmbeddedTarget()
    # A client that most rebuilds do without.
    return ClusterTarget(cluster, store, vectors=vectors)


# A rebuild whose indexes go to an Elasticsearch cluster.


class ClusterTarget:
    """Words are searched in a cluster, vectors too where asked for; the version's own files can fill it again."""

    builder: type[KeywordBuilder] = KeywordBuilder

    def __init__(self, settings: ClusterSettings, store: Store, *, vectors: bool = False) -> None:
        from retrieval.elasticsearch.client import Cluster
        from retrieval.elasticsearch.versions import ClusterVersions

        self._place = ClusterLocation(settings.alias, store.identity(), vectors)
        self.place: ClusterLocation | None = self._place
        self._store = store
        self._cluster = Cluster(settings)
        self._versions = ClusterVersions(self._cluster, store)
        self._places = self._versions.locations() | {self._place}

    def check(self) -> None:
        """Raises ClusterError unless the cluster can be used, and the alias is ours or nobody's."""
        self._versions.check_usable(self._place)

    def fill(self, manifest: Manifest, folder: Path, progress: Progress) -> None:
        """Makes the indexes of a version."""
        progress.begin("load", manifest.products, "products")
        self._versions.fill(manifest, folder, progress.advance)
        progress.end(f"{manifest.products:,} products in Elasticsearch, counted")

    def serve(self, manifest: Manifest) -> None:
        """Lets the alias name the version."""
        self._versions.serve(manifest)

    def restore(self, manifest: Manifest, folder: Path, progress: Progress) -> bool:
        """Fills the cluster again where the version's index is not there, whole."""
        is_lost = not self._versions.is_whole(manifest)
        if is_lost:
            self.fill(manifest, folder, progress)
            self._store.reopen()  # engines lay the live changes over it that it had
        self.serve(manifest)
        return is_lost

    def prune(self) -> list[str]:
        """Removes the indexes of versions that are gone."""
        return self._versions.prune(self._places)

    def close(self) -> None:
        """Ends connections."""
        self._cluster.close()
