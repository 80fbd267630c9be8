"""An opened version: everything that answers a query, verified, immutable and shared by all searches until replaced."""

from __future__ import annotations

import bisect
import heapq
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

import msgspec
import numpy as np

from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.folder import origin_of
from shelfwise.retrieval.encoders.registry import LazyEncoder, share, shared_encoder
from shelfwise.retrieval.errors import (
    ClusterUnavailableError,
    EncoderMismatchError,
    EncoderUnavailableError,
    MissingExtraError,
    SettingError,
    StoreDamagedError,
    StoreForeignError,
    UnknownProductError,
)
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.filters.conditions import Condition, ProductColumns, matches, reads_terms
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.filters.places import coordinates, distances
from shelfwise.retrieval.filters.schema import FieldCatalog, product_columns
from shelfwise.retrieval.index.grouping import MAX_SIBLINGS, ProductGroups, StoredGroups
from shelfwise.retrieval.index.keyword import (
    NO_MATCHES,
    NO_ROWS,
    DocumentChange,
    KeywordIndex,
    Matches,
    Rows,
    SearchedField,
    Selection,
    Sort,
    SortedRows,
    SortKey,
    make_facet,
    sort_rows,
)
from shelfwise.retrieval.index.token_states import StoredStates
from shelfwise.retrieval.index.vectors import VectorIndex, Vectors, measure_background
from shelfwise.retrieval.records import Facet, Product
from shelfwise.retrieval.store.files import load_array, load_json
from shelfwise.retrieval.store.manifest import (
    FIELDS_FILE,
    KEYWORD_FOLDER,
    PICTURES_FOLDER,
    STATES_FOLDER,
    SYNONYMS_FILE,
    TYPES_FOLDER,
    VECTORS_FOLDER,
    Manifest,
)
from shelfwise.retrieval.store.products import ProductStore, searched_fields
from shelfwise.retrieval.store.signals import COLUMNS, StoredSignals
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.analysis import Analyzer, Expansions, Synonyms, TermGroup
from shelfwise.retrieval.text.named_values import NamedValues
from shelfwise.retrieval.text.product_types import ProductTypes

if TYPE_CHECKING:
    from shelfwise.retrieval.elasticsearch.client import Cluster
    from shelfwise.retrieval.elasticsearch.cluster_versions import ClusterVersions
    from shelfwise.retrieval.encoders.picture_encoder import PictureEncoder
    from shelfwise.retrieval.index.picture_index import PictureIndex
    from shelfwise.service.settings import Settings


class Connection:
    """The cluster of a store's versions, connected when a version first needs it. Without `settings`, they are then
    read from the file and the environment."""

    def __init__(self, store: Store, settings: Settings | None = None) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None

    def versions(self) -> ClusterVersions:
        """The store's versions in the cluster; raises SettingError if no cluster is set."""
        # The client, which an index on this machine does not need.
        with optional_imports():
            from shelfwise.retrieval.elasticsearch.client import Cluster
            from shelfwise.retrieval.elasticsearch.cluster_versions import ClusterVersions
        from shelfwise.service.settings import load_settings

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
        """Number of requests of searches to the cluster."""
        return self._cluster.round_trips if self._cluster else 0

    def close(self) -> None:
        """Closes its connections."""
        with self._lock:
            if self._cluster is not None:
                self._cluster.close()
                self._cluster = None


@contextmanager
def cluster_versions(store: Store, *, must: bool = True) -> Iterator[ClusterVersions | None]:
    """The versions of a store in its cluster; None if none of them is in one.

    Raises SettingError if the cluster is not set, unless that is optional.
    """
    with closing(Connection(store)) as connection:
        versions = None
        if any(manifest.cluster for manifest in store.manifests()):
            try:
                versions = connection.versions()
            except SettingError:
                if must:
                    raise
        yield versions


class Products(Protocol):
    """The products of a snapshot, by row."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int) -> Product: ...

    def id_of(self, row: int) -> str:
        """The id of a row, without reading the product."""

    def row_of(self, product_id: str) -> int | None:
        """The row of a product id; None if there is no such product."""


class NullKeywordIndex(KeywordIndex):
    """A keyword index whose cluster does not respond: it finds no words, and filters the products that vectors find by
    their stored records. A selection contains only the rows that it names."""

    def __init__(
        self, products: Products, catalog: FieldCatalog, searched: Callable[[Product], Sequence[SearchedField]]
    ) -> None:
        """`searched` returns the searched fields of a product."""
        self._products = products
        self._catalog = catalog
        self._searched = searched

    @property
    def field_capacity(self) -> int:
        return 0

    @property
    def size(self) -> int:
        return len(self._products)

    def apply_changes(self, _changes: Sequence[DocumentChange], _catalog: FieldCatalog, /) -> NoReturn:
        self.check_changeable()

    def check_changeable(self) -> NoReturn:
        raise ClusterUnavailableError("the cluster does not respond; changes are not possible now")

    def search(self, _groups: tuple[TermGroup, ...], _limit: int, _where: Condition | None = None, /) -> Matches:
        return NO_MATCHES

    def score(self, rows: Rows, _groups: tuple[TermGroup, ...], where: Condition | None = None) -> Matches:
        found = self._through(np.sort(rows), where)
        return Matches(found, np.zeros(len(found), dtype=np.float32), len(found))

    def find_identifier(self, _key: str, /) -> Rows:
        return NO_ROWS

    def select(self, selection: Selection) -> Rows:
        return self._through(np.sort(selection.rows), selection.where)

    def facets(self, selection: Selection, fields: Sequence[str], size: int) -> dict[str, Facet]:
        selected = [self._columns(row) for row in self.select(selection).tolist()]
        facets = {}
        for name in fields:
            texts = Counter(text for each in selected for text in each.display.get(name, ()))
            numbers = Counter(number for each in selected for number in each.numbers.get(name, ()))
            span = (min(numbers), max(numbers)) if numbers else (None, None)
            facets[name] = make_facet(self._catalog.fields[name], texts.items(), numbers.items(), size, span)
        return facets

    def sort(self, selection: Selection, by: Sort) -> SortedRows:
        rows = self.select(selection)
        columns = [self._columns(row) for row in rows.tolist()]

        def value(key: SortKey, of: ProductColumns) -> float:
            if key.place:
                return float(distances(key.place, *coordinates(of.places)).min()) if of.places else math.nan
            return min(of.numbers.get(key.field, [math.nan]))

        return sort_rows(rows, by, lambda key: np.array([value(key, each) for each in columns]))

    def _through(self, rows: Rows, where: Condition | None) -> Rows:
        if where is None:
            return rows
        columns = partial(self._columns, with_terms=reads_terms(where))
        return np.array([row for row in rows.tolist() if matches(where, columns(row))], dtype=np.int64)

    def _columns(self, row: int, *, with_terms: bool = False) -> ProductColumns:
        product = self._products[row]
        columns = product_columns(product, self._catalog.category_roots)
        terms = {each.name: each.terms for each in self._searched(product)} if with_terms else {}
        return replace(columns, terms=terms)


PICTURES = "pictures"
"""Name of the picture stage in a page's stages and failed stages."""


@dataclass(frozen=True, slots=True)
class SearchedPictures:
    """The pictures of a version, and the encoder of pictures and texts that computed their vectors."""

    index: PictureIndex
    encoder: PictureEncoder

    def encode(self, content: bytes) -> Vectors:
        """The unit vector of a picture file (dimension,); raises PictureError, or EncoderError."""
        # Pillow, which text searches do not need.
        from shelfwise.retrieval.pictures import CATALOG_WIDTH, decode, on_white

        vector: Vectors = self.encoder.encode_pictures([on_white(decode(content, CATALOG_WIDTH))])[0]
        return vector


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """An opened version. `notices` names the versions that were skipped to find an intact one."""

    manifest: Manifest
    products: Products
    catalog: FieldCatalog
    analyzer: Analyzer
    keyword: KeywordIndex
    vectors: VectorIndex
    encoder: Encoder
    states: StoredStates | None
    """Token states of the products; None if the encoder computes none."""
    signals: StoredSignals
    types: ProductTypes
    values: NamedValues
    groups: ProductGroups
    pictures: SearchedPictures | None = None
    """Pictures of the products; None if there are none, or if their encoder cannot be used."""
    notices: tuple[str, ...] = ()
    cluster_problem: str = ""
    """The reason why its cluster did not respond when it was opened, or empty; a later search may reach it."""

    @property
    def built(self) -> float:
        """Build time in seconds since 1970, from which training and evaluation compute products' ages, so that they are
        reproducible."""
        return datetime.fromisoformat(self.manifest.created).timestamp()

    @property
    def without_cluster(self) -> Snapshot:
        """The same version, without anything that is in a cluster."""
        searched = partial(searched_fields, analyzer=self.analyzer, weights=self.manifest.weights)
        keyword = NullKeywordIndex(self.products, self.catalog, searched)
        return replace(self, keyword=keyword)

    def expanded_by(self, expansions: Expansions) -> Snapshot:
        """The same version, whose queries are also expanded by learned terms."""
        return self.analyzed_by(Analyzer(self.analyzer.synonyms, expansions))

    def analyzed_by(self, analyzer: Analyzer) -> Snapshot:
        """The same version with another analysis of queries."""
        return replace(self, analyzer=analyzer)

    def encoded_by(self, encoder: Encoder, vectors: Path) -> Snapshot:
        """The same version with the vectors of another encoder in this folder, and the token states next to it, if
        any."""
        from shelfwise.indexer.embedding import measure_cutoff
        from shelfwise.retrieval.index.faiss import FaissIndex
        from shelfwise.retrieval.index.vectors import VECTORS_FILE

        stored, folder = load_array(vectors / VECTORS_FILE, mapped=True), vectors.with_name(STATES_FOLDER)
        states = StoredStates(folder) if folder.is_dir() else None
        manifest = msgspec.structs.replace(
            self.manifest,
            encoder=encoder.identity,
            encoder_origin=origin_of(encoder),
            dimension=encoder.dimension,
            background=measure_background(stored),
            cutoff=measure_cutoff(encoder, lambda row: self.products[row].title, stored),
            states=states.info if states else None,
        )
        return replace(self, encoder=encoder, vectors=FaissIndex(vectors), manifest=manifest, states=states)


_TRIES = 3


def open_snapshot(
    store: Store,
    connection: Connection,
    *,
    encoder: Encoder | None = None,
    load: Callable[[Path], Encoder] = shared_encoder,
) -> Snapshot:
    """Opens the serving version. `encoder` is reused if it made the version's vectors; otherwise `load` opens the right
    one.

    If the cluster does not respond, a notice says so. Raises StoreMissingError, StoreForeignError or StoreDamagedError
    for a directory that cannot serve, or whose cluster lacks the version, EncoderError if the model cannot be loaded or
    computes other vectors, ClusterRefusedError if the cluster refuses.
    """
    for _ in range(_TRIES - 1):
        versions = store.versions()
        try:
            return _opened(store, connection, encoder, load)
        except (StoreDamagedError, EncoderUnavailableError):
            # A version that a rebuild just removed is not damage: the newer one is there.
            if store.versions() == versions:
                raise
    return _opened(store, connection, encoder, load)


@contextmanager
def serving_snapshot(root: Path, settings: Settings | None = None) -> Iterator[Snapshot]:
    """The serving version of an index directory as it was published, for the duration of the context; its cluster is
    named by `settings`, or those of the file and the environment. Raises like `open_snapshot`."""
    store = Store(root)
    with closing(Connection(store, settings)) as connection:
        yield open_snapshot(store, connection)


def _opened(store: Store, connection: Connection, encoder: Encoder | None, load: Callable[[Path], Encoder]) -> Snapshot:
    # Loaded when the first index is opened, so that importing the engine stays fast.
    from shelfwise.retrieval.index.faiss import FaissIndex

    serving = store.find_serving()
    manifest = serving.manifest
    folder = store.version_folder(manifest.version)
    if encoder is None or encoder.identity != manifest.encoder or isinstance(encoder, NullEncoder):
        if serving.encoder_problem:
            encoder = NullEncoder(manifest.encoder, manifest.dimension, serving.encoder_problem)
        else:
            encoder = load(store.encoders / manifest.encoder)
    analyzer = check_analyzer(folder, manifest)
    catalog = load_json(folder / FIELDS_FILE, FieldCatalog)
    keyword, notices, unanswered = _keyword(store, manifest, catalog, connection)
    signals = StoredSignals(folder, manifest.products)
    reads_pictures = load is not LazyEncoder and not serving.pictures_problem
    pictures, trouble = _pictures(store, manifest) if reads_pictures else (None, "")
    snapshot = Snapshot(
        manifest,
        ProductStore(folder),
        catalog,
        analyzer,
        keyword,
        FaissIndex(folder / VECTORS_FOLDER),
        encoder,
        _states(folder, manifest),
        signals,
        ProductTypes.open(folder / TYPES_FOLDER, signals.table[:, COLUMNS.index("rating_count")]),
        NamedValues.open(folder / TYPES_FOLDER),
        ProductGroups(StoredGroups(folder, manifest.products)),
        pictures,
        (*serving.notices, *notices, *([trouble] if trouble else ())),
        unanswered,
    )
    _check_agreement(snapshot)
    return snapshot


def _keyword(
    store: Store, manifest: Manifest, catalog: FieldCatalog, connection: Connection
) -> tuple[KeywordIndex, tuple[str, ...], str]:
    """The keyword index, its notices if it is usable, and the reason if its cluster did not respond."""
    if manifest.cluster is None:
        from shelfwise.retrieval.index.tantivy import TantivyIndex

        return TantivyIndex(store.version_folder(manifest.version) / KEYWORD_FOLDER, catalog), (), ""
    versions = connection.versions()
    index = versions.open(manifest, catalog)
    try:
        versions.check(manifest)
        trouble = versions.sync_alias(manifest)
    except ClusterUnavailableError as error:
        return index, (), f"searches use vectors alone until the cluster responds: {error}"
    except StoreDamagedError as error:
        cure = f"fill it from the version: shelfwise rebuild {store.root} --backend elasticsearch"
        raise StoreDamagedError(f"{error}; {cure}") from error
    return index, (trouble,) if trouble else (), ""


def _pictures(store: Store, manifest: Manifest) -> tuple[SearchedPictures | None, str]:
    """The pictures of a version, if it has some, or the reason why they cannot be searched."""
    if (info := manifest.pictures) is None:
        return None, ""
    try:
        # torch, which an index without pictures need not have.
        with optional_imports():
            from shelfwise.retrieval.encoders.picture_encoder import load_picture_encoder
        from shelfwise.retrieval.index.picture_index import PictureIndex

        encoder = share(store.encoders / info.encoder, load_picture_encoder)
    except (MissingExtraError, EncoderUnavailableError) as error:
        return None, f"pictures are not searched: {error}"
    index = PictureIndex.open(store.version_folder(manifest.version) / PICTURES_FOLDER, info)
    return SearchedPictures(index, encoder), ""


def _states(folder: Path, manifest: Manifest) -> StoredStates | None:
    if manifest.states is None:
        return None
    states = StoredStates(folder / STATES_FOLDER)
    if states.info != manifest.states or (states.encoder, states.size) != (manifest.encoder, manifest.products):
        message = (
            f"version {manifest.version} is inconsistent: its token states are of {states.size} products by "
            f"{states.encoder}, its manifest is of {manifest.products} by {manifest.encoder}; rebuild the index"
        )
        raise StoreDamagedError(message)
    return states


def stored_analyzer(folder: Path) -> Analyzer:
    """The text analysis of this program with the synonyms of a version; raises SettingError if those are damaged."""
    return Analyzer(Synonyms.stored(folder / SYNONYMS_FILE))


def check_analyzer(folder: Path, manifest: Manifest) -> Analyzer:
    """Like `stored_analyzer`; raises StoreForeignError if another text analysis built the version."""
    analyzer = stored_analyzer(folder)
    if analyzer.identity != manifest.analyzer:
        message = (
            f"version {manifest.version} was made with the text analysis {manifest.analyzer}, this program has "
            f"{analyzer.identity}: queries would miss its contents; rebuild the index"
        )
        raise StoreForeignError(message)
    return analyzer


def _check_agreement(snapshot: Snapshot) -> None:
    manifest, encoder = snapshot.manifest, snapshot.encoder
    sizes = {
        "manifest": manifest.products,
        "products": len(snapshot.products),
        "keyword index": snapshot.keyword.size,
        "vector index": snapshot.vectors.size,
    }
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{size} in the {part}" for part, size in sizes.items())
        raise StoreDamagedError(f"version {manifest.version} is inconsistent: {listed}; rebuild the index")
    if encoder.dimension != snapshot.vectors.dimension or encoder.identity != manifest.encoder:
        message = (
            f"dimension {snapshot.vectors.dimension} in the index ({manifest.encoder_name}), "
            f"{encoder.dimension} in the encoder: rebuild the index with the encoder that is to serve it"
        )
        raise EncoderMismatchError(message)


@dataclass(frozen=True, slots=True)
class NullEncoder:
    """An encoder whose files are damaged: it encodes nothing, so products are found by words alone."""

    identity: str
    dimension: int
    reason: str

    def encode_queries(self, _texts: Sequence[str], /) -> NoReturn:
        raise self._error()

    def encode_products(self, _texts: Sequence[str], _progress: Callable[[int], None] | None = None, /) -> NoReturn:
        raise self._error()

    def _error(self) -> EncoderUnavailableError:
        return EncoderUnavailableError(f"{self.reason}; a rebuild stores the encoder again")


def condition_of(snapshot: Snapshot, filters: str) -> Condition | None:
    """A filter expression as the backends use it; None for a blank one."""
    tree = parse_filter(filters)
    return None if tree is None else snapshot.catalog.compile(tree)


@dataclass(frozen=True, slots=True)
class MatchingIds:
    """The ids of the products that pass a filter."""

    total: int
    rest: Iterator[str]
    """The ids after a given one, in order."""


def ordered_ids(snapshot: Snapshot, filters: str = "", after: str = "") -> MatchingIds:
    """The ids of the products that pass a filter; `rest` are those after `after`."""
    rows = np.sort(snapshot.keyword.select(Selection(where=condition_of(snapshot, filters), everything=True)))
    # Rows of a version are ordered by id; products added since then follow.
    built, added = np.split(rows, [np.searchsorted(rows, snapshot.manifest.products)])
    id_of, rest = snapshot.products.id_of, built.tolist()
    start = bisect.bisect_right(rest, after, key=id_of)
    later = sorted(each for each in map(id_of, added.tolist()) if each > after)
    return MatchingIds(len(rows), heapq.merge(map(id_of, rest[start:]), later))


def row_of(snapshot: Snapshot, product_id: str, filters: str = "") -> int:
    """The row of a product; raises UnknownProductError if none with this id passes the filter."""
    row = snapshot.products.row_of(product_id)
    where = condition_of(snapshot, filters)
    if row is not None and where is not None:
        passed = snapshot.keyword.select(Selection(rows=np.array([row], np.int64), where=where))
        row = row if len(passed) else None
    if row is None:
        raise unknown_product(snapshot, product_id)
    return row


def siblings_of(snapshot: Snapshot, product_id: str, filters: str = "") -> tuple[str, ...]:
    """The ids of a product's siblings that pass the filter, at most `MAX_SIBLINGS`; raises UnknownProductError for an
    unknown product."""
    rows = snapshot.groups.stored.siblings(row_of(snapshot, product_id, filters))[:MAX_SIBLINGS]
    where = condition_of(snapshot, filters)
    if where is not None and len(rows):
        rows = snapshot.keyword.select(Selection(rows=rows, where=where))
    ids = (id_at(snapshot, row) for row in rows.tolist())
    return tuple(filter(None, ids))


def id_at(snapshot: Snapshot, row: int) -> str:
    """The id of a row; empty if a live change deleted the product."""
    try:
        return snapshot.products.id_of(row)
    except IndexError:
        return ""


def unknown_product(snapshot: Snapshot, product_id: str) -> UnknownProductError:
    """The error for an id that does not exist in a version, or that a filter hides."""
    return UnknownProductError(f"there is no product with the id {product_id!r} in {snapshot.manifest.version}")


FILTERED_DEPTH = 1_000
"""Number of nearest products to which a filter is applied one by one, if no keyword index applies it to all."""
