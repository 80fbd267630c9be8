"""One opened version: everything that answers a query, verified, immutable, shared by all requests until it is
swapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from retrieval.analysis import Analyzer
from retrieval.arrays import load_array
from retrieval.encoder import Encoder
from retrieval.encoders import load_encoder
from retrieval.errors import (
    ClusterUnavailableError,
    EncoderMismatchError,
    EncoderUnavailableError,
    StoreDamagedError,
    StoreForeignError,
)
from retrieval.fields import FieldCatalog
from retrieval.keyword import KeywordIndex
from retrieval.layout import FIELDS_FILE, KEYWORD_FOLDER, STATES_FOLDER, SYNONYMS_FILE, VECTORS_FOLDER, read_fields
from retrieval.manifest import Manifest
from retrieval.product_signals import ProductSignals, StoredSignals
from retrieval.product_store import ProductStore
from retrieval.published import Serving, Store
from retrieval.synonyms import Synonyms
from retrieval.token_states import StoredStates, TokenStates
from retrieval.vectors import VectorIndex, measure_background
from service.connection import Connection
from service.lost_encoder import LostEncoder
from service.lost_keyword import LostKeyword
from service.overlay import Products

if TYPE_CHECKING:
    from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version, opened. `notices` says what was passed over to find a whole one."""

    manifest: Manifest
    products: Products
    catalog: FieldCatalog
    analyzer: Analyzer
    keyword: KeywordIndex
    vectors: VectorIndex
    encoder: Encoder
    states: TokenStates | None
    """None in a version whose encoder gives no states of tokens."""
    signals: ProductSignals
    notices: tuple[str, ...] = ()
    unanswered: str = ""
    """Why its cluster could not be asked when it was opened, if it could not; a later search may find it there."""

    @property
    def built(self) -> float:
        """When it was built, in seconds since 1970: what training and measuring tell products' ages from, so that they
        are the same tomorrow."""
        return datetime.fromisoformat(self.manifest.created).timestamp()

    @property
    def without_cluster(self) -> Snapshot:
        """The same version with whatever is in a cluster lost."""
        return replace(self, keyword=LostKeyword(self.products, self.catalog), vectors=self.vectors.without_cluster)

    def encoded_by(self, encoder: Encoder, vectors: Path) -> Snapshot:
        """The same version with the vectors of another encoder, which are in this folder, and without token states."""
        from retrieval.stored_vectors import VECTORS_FILE
        from retrieval.vectors_faiss import FaissIndex

        background = measure_background(load_array(vectors / VECTORS_FILE, mapped=True))
        manifest = msgspec.structs.replace(
            self.manifest,
            encoder=encoder.identity,
            dimension=encoder.dimension,
            background=background,
            states=None,
        )
        return replace(self, encoder=encoder, vectors=FaissIndex(vectors), manifest=manifest, states=None)


_TRIES = 3


def open_snapshot(store: Store, connection: Connection, *, encoder: Encoder | None = None) -> Snapshot:
    """Opens the version that serves; `encoder` is used again where it is the one that made its vectors.

    A cluster that does not answer is no reason not to open: a notice says so. Raises StoreMissingError,
    StoreForeignError or StoreDamagedError for a directory that cannot serve, or whose cluster lacks the version,
    EncoderError where the model cannot be loaded or makes other vectors, ClusterRefusedError where the cluster refuses.
    """
    for _ in range(_TRIES - 1):
        versions = store.versions()
        try:
            return _opened(store, connection, encoder)
        except (StoreDamagedError, EncoderUnavailableError):
            # A version that was removed under our hands by a rebuild is no damage: the newer one is there.
            if store.versions() == versions:
                raise
    return _opened(store, connection, encoder)


@contextmanager
def serving_snapshot(root: Path, settings: Settings | None = None) -> Iterator[Snapshot]:
    """The version of an index directory that serves, as it was published, while the context lasts; its cluster is named
    by `settings`, or those of the file and the environment. Raises what `open_snapshot` does."""
    store = Store(root)
    with closing(Connection(store, settings)) as connection:
        yield open_snapshot(store, connection)


def _opened(store: Store, connection: Connection, encoder: Encoder | None) -> Snapshot:
    serving = store.find_serving()
    manifest = serving.manifest
    folder = store.version_folder(manifest.version)
    if encoder is None or encoder.identity != manifest.encoder or isinstance(encoder, LostEncoder):
        encoder = _encoder(store, serving)
    analyzer = _analyzer(folder, manifest)
    catalog = read_fields(folder / FIELDS_FILE)
    keyword, notices, unanswered = _keyword(store, manifest, catalog, connection)
    snapshot = Snapshot(
        manifest,
        ProductStore(folder),
        catalog,
        analyzer,
        keyword,
        _vectors(store, manifest, connection),
        encoder,
        _states(folder, manifest),
        StoredSignals(folder, manifest.products),
        (*serving.notices, *notices),
        unanswered,
    )
    _check_agreement(snapshot)
    return snapshot


def _keyword(
    store: Store, manifest: Manifest, catalog: FieldCatalog, connection: Connection
) -> tuple[KeywordIndex, tuple[str, ...], str]:
    """The keyword index, what is wrong with it although it can be used, and why it could not be asked."""
    if manifest.cluster is None:
        from retrieval.keyword_tantivy import TantivyIndex

        return TantivyIndex(store.version_folder(manifest.version) / KEYWORD_FOLDER, catalog), (), ""
    versions = connection.versions()
    index = versions.open(manifest, catalog)
    try:
        versions.check(manifest)
        trouble = versions.agree(manifest)
    except ClusterUnavailableError as error:
        return index, (), f"searches go by vectors alone until the cluster answers: {error}"
    except StoreDamagedError as error:
        cure = f"fill it from the version: shelfwise rebuild --index {store.root} --backend elasticsearch"
        raise StoreDamagedError(f"{error}; {cure}") from error
    return index, (trouble,) if trouble else (), ""


def _vectors(store: Store, manifest: Manifest, connection: Connection) -> VectorIndex:
    folder = store.version_folder(manifest.version)
    if manifest.cluster and manifest.cluster.vectors:
        return connection.versions().open_vectors(manifest, folder)
    # Loaded when the first index is opened: importing the engine stays fast.
    from retrieval.vectors_faiss import FaissIndex

    return FaissIndex(folder / VECTORS_FOLDER)


def _states(folder: Path, manifest: Manifest) -> StoredStates | None:
    if manifest.states is None:
        return None
    states = StoredStates(folder / STATES_FOLDER)
    if states.facts != manifest.states or (states.encoder, states.size) != (manifest.encoder, manifest.products):
        message = (
            f"version {manifest.version} does not agree with itself: its token states are of {states.size} products by "
            f"{states.encoder}, its manifest is of {manifest.products} by {manifest.encoder}; rebuild the index"
        )
        raise StoreDamagedError(message)
    return states


def _encoder(store: Store, serving: Serving) -> Encoder:
    manifest = serving.manifest
    if serving.lost_encoder:
        return LostEncoder(manifest.encoder, manifest.dimension, serving.lost_encoder)
    return load_encoder(store.encoders / manifest.encoder)


def stored_analyzer(folder: Path) -> Analyzer:
    """The text analysis of this program with the synonyms of a version; raises SettingError where those are damaged."""
    path = folder / SYNONYMS_FILE
    return Analyzer(Synonyms.load(path) if path.exists() else None)


def _analyzer(folder: Path, manifest: Manifest) -> Analyzer:
    analyzer = stored_analyzer(folder)
    if analyzer.identity != manifest.analyzer:
        message = (
            f"version {manifest.version} was made with the text analysis {manifest.analyzer}, this program has "
            f"{analyzer.identity}: a query would miss what it holds; rebuild the index"
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
        raise StoreDamagedError(f"version {manifest.version} does not agree with itself: {listed}; rebuild the index")
    if encoder.dimension != snapshot.vectors.dimension or encoder.identity != manifest.encoder:
        message = (
            f"dimension {snapshot.vectors.dimension} in the index ({manifest.encoder_name}), "
            f"{encoder.dimension} in the encoder at hand: rebuild the index with the encoder that shall serve it"
        )
        raise EncoderMismatchError(message)
