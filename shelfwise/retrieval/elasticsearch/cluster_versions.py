"""The versions of an index directory in a cluster: an index for each version, filled in bulk, counted, and later
checked by its metadata, and an alias for the serving version.

An engine searches the index of its opened version by name, since row numbers belong to a version. The directory's
pointer decides which version serves; the alias follows it, and shows people which index that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path

from shelfwise.retrieval.elasticsearch.client import Cluster, Document, IndexState
from shelfwise.retrieval.elasticsearch.cluster_index import MAPPINGS, SETTINGS, ElasticsearchIndex, document_of
from shelfwise.retrieval.errors import ClusterError, ClusterRefusedError, ClusterUnavailableError, StoreDamagedError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.keyword_documents import decode_line, read_lines
from shelfwise.retrieval.store.manifest import KEYWORD_FOLDER, ClusterLocation, Manifest
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store

WHOLE = "whole"
"""The metadata key that marks an index with all of its documents."""
_ATTEMPTS = 3
_COPIES_SECONDS = 30.0


class ClusterVersions:
    """The versions of a store in a cluster. Every method raises ClusterError if the cluster cannot be used."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self.cluster = cluster
        self._store = store

    def check_usable(self, place: ClusterLocation) -> None:
        """Raises ClusterRefusedError unless an index can be created and the alias is unused or belongs to this store.

        A rebuild checks this before it reads a feed.
        """
        self.cluster.check_server()
        for state in self._states(place, place.alias):
            if state.name == place.alias or state.meta.get("store") != place.store:
                is_named = place.alias in state.aliases
                what = f"the alias {place.alias} names {state.name}" if is_named else f"there is an index {state.name}"
                raise ClusterRefusedError(
                    f"{what}, which does not belong to {self._store.root}; set elasticsearch.alias to an unused name, "
                    f"or remove that index if nothing needs it"
                )
        probe = f"{place.alias}-{self._store.next_version()}"
        self.cluster.create(probe, {"number_of_replicas": 0}, {"_meta": {"store": place.store}})
        self.cluster.delete([probe])

    def fill(self, manifest: Manifest, folder: Path, advance: Callable[[int], None]) -> None:
        """Creates the index of a version from its folder; `advance` receives the number of further products."""
        name, made_of, lines = index_name(manifest), _metadata(manifest), folder / KEYWORD_FOLDER
        load_keyword(self.cluster, name, lines, ProductStore(folder).lines, made_of, advance)

    def serve(self, manifest: Manifest) -> None:
        self.cluster.point_alias(_place(manifest).alias, index_name(manifest))

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether the index of a version is complete in the cluster."""
        try:
            self.check(manifest)
        except StoreDamagedError:
            return False
        return True

    def check(self, manifest: Manifest) -> None:
        """Raises StoreDamagedError for a missing or incomplete index."""
        self.cluster.check_index(index_name(manifest), {**_metadata(manifest), WHOLE: True})

    def sync_alias(self, manifest: Manifest) -> str:
        """Moves the alias to the serving version; returns the reason if that failed, else ""."""
        place, name = _place(manifest), index_name(manifest)
        named = [state.name for state in self.cluster.states(place.alias)]
        if named == [name]:
            return ""
        difference = f"the alias {place.alias} names {', '.join(named) or 'nothing'}, {name} serves"
        try:
            self.serve(manifest)
        except ClusterRefusedError as error:
            return f"{difference}; it cannot be corrected: {error}"
        return ""

    def open(self, manifest: Manifest, catalog: FieldCatalog) -> ElasticsearchIndex:
        """The keyword index of a version; sends no request yet."""
        made_of = {**_metadata(manifest), WHOLE: True}
        return ElasticsearchIndex(self.cluster, index_name(manifest), catalog, manifest.products, made_of)

    def locations(self) -> set[ClusterLocation]:
        """The locations of the store's versions."""
        return {manifest.cluster for manifest in self._store.manifests() if manifest.cluster}

    def prune(self, places: Iterable[ClusterLocation]) -> list[str]:
        """Removes the indexes of versions that are no longer in the store; returns their names."""
        manifests = list(self._store.manifests())
        if len(manifests) < len(self._store.versions()):
            return []  # the owners of the indexes are not known
        kept = {index_name(manifest) for manifest in manifests if manifest.cluster}
        gone: list[str] = []
        for place in places:
            ours = (state.name for state in self._states(place) if state.meta.get("store") == place.store)
            gone += [name for name in ours if name not in kept]
        self.cluster.delete(gone)
        return gone

    def _states(self, place: ClusterLocation, *names: str) -> list[IndexState]:
        """The indexes of all versions of an alias, and those of other names or aliases."""
        version = re.compile(rf"{re.escape(place.alias)}-v\d{{6,}}")
        states = self.cluster.states(",".join((*names, f"{place.alias}-v*")))
        return [each for each in states if version.match(each.name) or each.name in names or each.aliases & set(names)]


def index_name(manifest: Manifest) -> str:
    """The name of the index of a version."""
    return f"{_place(manifest).alias}-{manifest.version}"


def _metadata(manifest: Manifest) -> dict[str, object]:
    """The metadata of the index of a version."""
    made_of: dict[str, object] = {"schema": SCHEMA, "store": _place(manifest).store, "products": manifest.products}
    return made_of | {each: getattr(manifest, each) for each in ("version", "catalog", "analyzer")}


def _place(manifest: Manifest) -> ClusterLocation:
    if manifest.cluster is None:
        raise ValueError(f"{manifest.version} is not in a cluster")
    return manifest.cluster


SCHEMA = 2
"""The schema of the mapping. An index of another schema is refused; a rebuild recreates it."""


def load_keyword(
    cluster: Cluster,
    name: str,
    lines: Path,
    products: Callable[[], Iterable[tuple[bytes, bytes]]],
    made_of: Mapping[str, object],
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Recreates the index `name` from the lines of a version and its products, as ids and JSON, counts it, and adds
    replicas.

    There are no replicas before that, so a lost node loses documents; then everything is loaded again, and `products`
    is called again. Raises ClusterError if the index cannot be filled.
    """

    def documents() -> Iterator[Document]:
        for row, line, (_, product) in zip(count(), read_lines(lines), products(), strict=False):
            yield str(row), 0, document_of(row, decode_line(line), product)

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fill(cluster, name, documents(), made_of, advance)
        except ClusterUnavailableError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _fill(
    cluster: Cluster,
    name: str,
    documents: Iterable[Document],
    made_of: Mapping[str, object],
    advance: Callable[[int], None],
) -> None:
    loading = {
        "number_of_shards": cluster.settings.shards,
        "number_of_replicas": 0,
        "refresh_interval": "-1",
        "translog.durability": "async",
    }
    cluster.create(name, {**SETTINGS, **loading}, {**MAPPINGS, "_meta": {**made_of, WHOLE: False}})
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
