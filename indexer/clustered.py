"""A rebuild whose indexes go to an Elasticsearch cluster."""

from __future__ import annotations

from pathlib import Path

from indexer.observing import Observer
from retrieval.cluster import Cluster
from retrieval.cluster_settings import ClusterSettings
from retrieval.cluster_versions import ClusterVersions
from retrieval.keyword_lines import KeywordBuilder
from retrieval.manifest import ClusterPlace, Manifest
from retrieval.published import Store


class InCluster:
    """Words are searched in a cluster, vectors too where asked for; the version's own files can fill it again."""

    builder: type[KeywordBuilder] = KeywordBuilder

    def __init__(self, settings: ClusterSettings, store: Store, *, vectors: bool = False) -> None:
        self._place = ClusterPlace(settings.alias, store.identity(), vectors)
        self.place: ClusterPlace | None = self._place
        self._store = store
        self._cluster = Cluster(settings)
        self._versions = ClusterVersions(self._cluster, store)
        self._places = self._versions.places() | {self._place}

    def check(self) -> None:
        """Raises ClusterError unless the cluster can be used, and the alias is ours or nobody's."""
        self._versions.check_usable(self._place)

    def fill(self, manifest: Manifest, folder: Path, observer: Observer) -> None:
        """Makes the indexes of a version."""
        observer.begin("load", manifest.products, "products")
        self._versions.fill(manifest, folder, observer.advance)
        observer.end(f"{manifest.products:,} products in Elasticsearch, counted")

    def serve(self, manifest: Manifest) -> None:
        """Lets the alias name the version."""
        self._versions.serve(manifest)

    def restore(self, manifest: Manifest, folder: Path, observer: Observer) -> bool:
        """Fills the cluster again where the version's index is not there, whole."""
        is_lost = not self._versions.is_whole(manifest)
        if is_lost:
            self.fill(manifest, folder, observer)
            self._store.reopen()  # engines lay the live changes over it that it had
        self.serve(manifest)
        return is_lost

    def clear_up(self) -> list[str]:
        """Removes the indexes of versions that are gone."""
        return self._versions.prune(self._places)

    def close(self) -> None:
        """Ends connections."""
        self._cluster.close()
