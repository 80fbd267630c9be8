"""An engine's way to its cluster: connected when a version first needs it, by settings that are read then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from retrieval.errors import SettingError
from retrieval.published import Store

if TYPE_CHECKING:
    from retrieval.cluster import Cluster
    from retrieval.cluster_versions import ClusterVersions
    from service.settings import Settings


class Connection:
    """The cluster of a store's versions. Without `settings` they are read from the file and the environment."""

    def __init__(self, store: Store, settings: Settings | None = None) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None

    def versions(self) -> ClusterVersions:
        """The store's versions in the cluster; raises SettingError where no cluster is named."""
        # A client that an index on this machine does without.
        from retrieval.cluster import Cluster
        from retrieval.cluster_versions import ClusterVersions
        from service.settings import load_settings

        with self._lock:
            if self._cluster is None:
                settings = self._settings or load_settings()
                try:
                    self._cluster = Cluster(settings.cluster)
                except SettingError as error:
                    raise SettingError(f"{self._store.root} is searched in Elasticsearch: {error}") from error
            return ClusterVersions(self._cluster, self._store)

    @property
    def round_trips(self) -> int:
        """How often searches have asked the cluster."""
        return self._cluster.round_trips if self._cluster else 0

    def close(self) -> None:
        """Ends its connections."""
        with self._lock:
            if self._cluster is not None:
                self._cluster.close()
                self._cluster = None


@contextmanager
def cluster_versions(store: Store, *, must: bool = True) -> Iterator[ClusterVersions | None]:
    """The versions of a store in its cluster; None where none of them is in one.

    Raises SettingError where the cluster is not named, unless it need not be.
    """
    with closing(Connection(store)) as connection:
        if not any(manifest.cluster for manifest in store.manifests()):
            yield None
            return
        try:
            versions = connection.versions()
        except SettingError:
            if must:
                raise
            yield None
        else:
            yield versions
