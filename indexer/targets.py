"""Targets of a rebuild: the indexes of a version are among its own files, or in an Elasticsearch cluster."""

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
    """Place of the indexes. Every method but the first raises ClusterError where a cluster cannot be used."""

    builder: type[KeywordBuilder]
    place: ClusterLocation | None

    def check(self) -> None:
        """Raises ClusterError where the target cannot be used; called before long work."""

    def fill(self, manifest: Manifest, folder: Path, progress: Progress) -> None:
        """Makes the indexes of a version that are not among its own files, before it is published."""

    def serve(self, manifest: Manifest) -> None:
        """Serves a version once it is published."""

    def restore(self, manifest: Manifest, folder: Path, progress: Progress) -> bool:
        """Makes again the indexes that a published version has lost; returns whether there were any."""

    def prune(self) -> list[str]:
        """Removes the indexes of versions that are gone; returns their names."""

    def close(self) -> None:
        """Closes the connections."""


class EmbeddedTarget:
    """Target whose indexes are all among the version's own files."""

    builder: type[KeywordBuilder] = TantivyBuilder
    place: ClusterLocation | None = None

    def check(self) -> None:
        pass

    def fill(self, _manifest: Manifest, _folder: Path, _progress: Progress, /) -> None:
        pass

    def serve(self, _manifest: Manifest, /) -> None:
        pass

    def restore(self, _manifest: Manifest, _folder: Path, _progress: Progress, /) -> bool:
        return False

    def prune(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


def open_target(cluster: ClusterSettings | None, store: Store, *, vectors: bool) -> Target:
    """The cluster that is named, or the version's own files."""
    if cluster is None:
        return EmbeddedTarget()
    return ClusterTarget(cluster, store, vectors=vectors)


class ClusterTarget:
    """Target in an Elasticsearch cluster, with or without vectors; the version's own files can fill it again."""

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
        progress.begin("load", manifest.products, "products")
        self._versions.fill(manifest, folder, progress.advance)
        progress.end(f"{manifest.products:,} products in Elasticsearch, counted")

    def serve(self, manifest: Manifest) -> None:
        self._versions.serve(manifest)

    def restore(self, manifest: Manifest, folder: Path, progress: Progress) -> bool:
        is_lost = not self._versions.is_whole(manifest)
        if is_lost:
            self.fill(manifest, folder, progress)
            self._store.reopen()  # engines apply its live changes to the new index
        self.serve(manifest)
        return is_lost

    def prune(self) -> list[str]:
        return self._versions.prune(self._places)

    def close(self) -> None:
        self._cluster.close()
