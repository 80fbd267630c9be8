"""The versions of an index directory in a cluster: an index of terms for each version, an index of vectors for all
versions with the same texts and encoder, and an alias for the serving version.

An engine searches the index of its opened version by name, since row numbers belong to a version. The directory's
pointer decides which version serves; the alias follows it, and shows people which index that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path

import xxhash

from shelfwise.retrieval.elasticsearch.bulk_load import WHOLE, check_index, fill_index
from shelfwise.retrieval.elasticsearch.client import Cluster, Document, IndexState
from shelfwise.retrieval.elasticsearch.keyword import MAPPINGS, SETTINGS, ElasticsearchIndex, document_of
from shelfwise.retrieval.elasticsearch.vectors import ElasticsearchVectors, load_vectors
from shelfwise.retrieval.errors import ClusterRefusedError, StoreDamagedError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.keyword_documents import decode_line, read_lines
from shelfwise.retrieval.store.manifest import KEYWORD_FOLDER, TEXT_KEYS_FILE, VECTORS_FOLDER, ClusterLocation, Manifest
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store


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
        """Creates the indexes of a version from its folder; `advance` receives the number of further products.

        Vectors that an earlier version already has in the cluster are not written again.
        """
        (name, made_of), *vectors = _indexes(manifest)
        load_keyword(self.cluster, name, folder / KEYWORD_FOLDER, ProductStore(folder).lines, made_of, advance)
        for name, made_of in vectors:
            if not self._is_whole(name, made_of):
                load_vectors(self.cluster, name, folder / VECTORS_FOLDER, made_of, advance)

    def serve(self, manifest: Manifest) -> None:
        self.cluster.point_alias(_place(manifest).alias, keyword_name(manifest))

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether the indexes of a version are complete in the cluster."""
        return all(self._is_whole(name, made_of) for name, made_of in _indexes(manifest))

    def _is_whole(self, name: str, made_of: Mapping[str, object]) -> bool:
        try:
            check_index(self.cluster, name, {**made_of, WHOLE: True})
        except StoreDamagedError:
            return False
        return True

    def check(self, manifest: Manifest) -> None:
        """Raises StoreDamagedError for a missing or incomplete index."""
        for name, made_of in _indexes(manifest):
            check_index(self.cluster, name, {**made_of, WHOLE: True})

    def sync_alias(self, manifest: Manifest) -> str:
        """Moves the alias to the serving version; returns the reason if that failed, else ""."""
        place, name = _place(manifest), keyword_name(manifest)
        named = [state.name for state in self.cluster.states(place.alias)]
        if named == [name]:
            return ""
        difference = f"the alias {place.alias} names {', '.join(named) or 'nothing'}, {name} serves"
        try:
            self.serve(manifest)
        except ClusterRefusedError as error:
            return f"{difference}; it cannot be corrected: {error}"
        return ""

    def open_vectors(self, manifest: Manifest, folder: Path) -> ElasticsearchVectors:
        """The vectors of a version; sends no request yet."""
        _, (name, made_of) = _indexes(manifest)
        return ElasticsearchVectors(self.cluster, name, folder / VECTORS_FOLDER, {**made_of, WHOLE: True})

    def open(self, manifest: Manifest, catalog: FieldCatalog) -> ElasticsearchIndex:
        """The keyword index of a version; sends no request yet."""
        name, made_of = _indexes(manifest)[0]
        return ElasticsearchIndex(self.cluster, name, catalog, manifest.products, {**made_of, WHOLE: True})

    def locations(self) -> set[ClusterLocation]:
        """The locations of the store's versions."""
        return {manifest.cluster for manifest in self._store.manifests() if manifest.cluster}

    def prune(self, places: Iterable[ClusterLocation]) -> list[str]:
        """Removes the indexes of versions that are no longer in the store; returns their names."""
        manifests = list(self._store.manifests())
        if len(manifests) < len(self._store.versions()):
            return []  # the owners of the indexes are not known
        kept = {name for manifest in manifests if manifest.cluster for name in index_names(manifest)}
        gone: list[str] = []
        for place in places:
            ours = (state.name for state in self._states(place) if state.meta.get("store") == place.store)
            gone += [name for name in ours if name not in kept]
        self.cluster.delete(gone)
        return gone

    def _states(self, place: ClusterLocation, *names: str) -> list[IndexState]:
        """The indexes of all versions of an alias, and those of other names or aliases."""
        version = re.compile(rf"{re.escape(place.alias)}-v(\d{{6,}}|ectors-[0-9a-f]{{16}}$)")
        states = self.cluster.states(",".join((*names, f"{place.alias}-v*")))
        return [each for each in states if version.match(each.name) or each.name in names or each.aliases & set(names)]


def keyword_name(manifest: Manifest) -> str:
    """The name of the index of a version's terms."""
    return f"{_place(manifest).alias}-{manifest.version}"


def index_names(manifest: Manifest) -> list[str]:
    """The names of all indexes of a version."""
    return [name for name, _ in _indexes(manifest)]


def _indexes(manifest: Manifest) -> list[tuple[str, dict[str, object]]]:
    """The indexes of a version by name and metadata: that of the terms, then that of the vectors if it is there."""
    place, products = _place(manifest), manifest.products
    made_of: dict[str, object] = {"schema": SCHEMA, "store": place.store, "products": products}
    terms = {each: getattr(manifest, each) for each in ("version", "catalog", "analyzer")}
    indexes = [(keyword_name(manifest), made_of | terms)]
    if place.vectors:
        # Equal texts in equal rows have equal vectors, also if prices and stock differ.
        texts = manifest.files[f"versions/{manifest.version}/{TEXT_KEYS_FILE}"].xxh3
        digest = xxhash.xxh3_64_hexdigest(f"{manifest.encoder} {texts}".encode())
        indexes.append((f"{place.alias}-vectors-{digest}", made_of | {"encoder": manifest.encoder, "texts": texts}))
    return indexes


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
    """Recreates the index `name` from the lines of a version and its products, as ids and JSON, and counts it.

    Raises ClusterError if it cannot be filled; `products` is called again after a lost node.
    """

    def documents() -> Iterator[Document]:
        for row, line, (_, product) in zip(count(), read_lines(lines), products(), strict=False):
            yield str(row), 0, document_of(row, decode_line(line), product)

    fill_index(cluster, name, (SETTINGS, MAPPINGS), documents, made_of, advance)
