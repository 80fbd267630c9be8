"""Targets of a rebuild: a version's indexes among its own files, or in an Elasticsearch cluster; and republishing the
serving version, without its feed, with another encoder or in another backend."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from shelfwise.indexer.embedding import CatalogEncoder, EncodingResult, measure_cutoff, state_columns
from shelfwise.indexer.incremental import prune_journal
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.folder import origin_of
from shelfwise.retrieval.encoders.registry import store_encoder
from shelfwise.retrieval.encoders.weights import resolve_model_name
from shelfwise.retrieval.errors import PublishRefusedError, SettingError, StoreError
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.faiss import EXACT_BELOW, VectorIndexKind, build_index, choose_kind, vector_bytes
from shelfwise.retrieval.index.keyword_documents import LINES_FILE, KeywordBuilder, read_lines
from shelfwise.retrieval.index.tantivy import TantivyBuilder
from shelfwise.retrieval.index.token_states import TokenStatesInfo
from shelfwise.retrieval.index.vectors import VECTORS_FILE, measure_background
from shelfwise.retrieval.memory import usable_memory
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import SEAL_FILE, load_array, load_json, seal_folder
from shelfwise.retrieval.store.manifest import (
    FIELDS_FILE,
    KEYWORD_FOLDER,
    MANIFEST,
    STATES_FOLDER,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
    ClusterLocation,
    Manifest,
    VersionChanges,
)
from shelfwise.retrieval.store.products import RECIPE, ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.value_texts import size_text


class Target:
    """The location of the indexes; this one keeps them among the version's own files.

    All methods except the constructor raise ClusterError if a cluster cannot be used.
    """

    builder: type[KeywordBuilder] = TantivyBuilder
    place: ClusterLocation | None = None

    def check(self) -> None:
        """Raises ClusterError if the target cannot be used; called before long work."""

    def fill(self, manifest: Manifest, folder: Path, progress: Progress) -> None:
        """Makes those indexes of a version that are not among its own files, before it is published."""

    def serve(self, manifest: Manifest) -> None:
        """Makes a version the serving one after it is published."""

    def restore(self, manifest: Manifest, folder: Path, progress: Progress) -> bool:  # noqa: ARG002
        """Makes the indexes again that a published version has lost; returns whether there were any."""
        return False

    def prune(self) -> list[str]:
        """Removes the indexes of versions that are gone; returns their names."""
        return []

    def close(self) -> None:
        """Closes the connections."""


def open_target(cluster: ClusterSettings | None, store: Store) -> Target:
    """The target of the given cluster, or of the version's own files."""
    return Target() if cluster is None else ClusterTarget(cluster, store)


class ClusterTarget(Target):
    """Target in an Elasticsearch cluster; it can be filled again from the version's files."""

    builder = KeywordBuilder

    def __init__(self, settings: ClusterSettings, store: Store) -> None:
        with optional_imports():
            from shelfwise.retrieval.elasticsearch.client import Cluster
            from shelfwise.retrieval.elasticsearch.cluster_versions import ClusterVersions

        self._place = ClusterLocation(settings.alias, store.identity())
        self.place = self._place
        self._store = store
        self._cluster = Cluster(settings)
        self._versions = ClusterVersions(self._cluster, store)
        self._places = self._versions.locations() | {self._place}

    def check(self) -> None:
        """Raises ClusterError unless the cluster can be used, and the alias is unused or this store's."""
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


AcceptVectors = Callable[[Path], bool]
"""Whether a version with the vectors in this folder may replace the serving one."""


class ReencodeReport(msgspec.Struct, frozen=True):
    """Result of a re-encoding. `published` is False if the serving version has these vectors already, or they were not
    accepted."""

    version: str
    published: bool
    products: int
    encoder: str
    encoded: int
    """The number of encoded texts; the others had a vector of this encoder."""
    seconds: float


def reencode(
    root: Path,
    encoder: Encoder,
    name: str,
    progress: Progress,
    *,
    cluster: ClusterSettings | None = None,
    accepts: AcceptVectors = lambda _: True,
    keep: int = 3,
) -> ReencodeReport:
    """Encodes the products of the serving version with another encoder, of this name, and publishes them as the next
    version if `accepts` agrees; it is called while no other process can publish.

    `cluster` is the version's cluster, if any. Texts that an interrupted run has encoded are not encoded again. Raises
    StoreMissingError if nothing is published, StoreError for a version of a program that made other texts,
    EncoderError or ClusterError. After an error the previous version still serves.
    """
    store = Store(root)
    store.check_ours()
    started = time.perf_counter()
    with store.lock("re-encoding"):
        previous = store.find_serving().manifest
        if previous.recipe != RECIPE:
            cure = f"rebuild it: shelfwise rebuild {root} FEED --encoder {name}"
            raise StoreError(f"{previous.version} was built by a program that made other product texts; {cure}")
        with closing(open_target(cluster if previous.cluster else None, store)) as target:
            target.check()
            manifest, texts = previous, 0
            if previous.encoder != encoder.identity:
                manifest, texts = _publish_reencoded(store, target, previous, encoder, name, progress, accepts, keep)
    seconds = round(time.perf_counter() - started, 3)
    return ReencodeReport(manifest.version, manifest is not previous, previous.products, name, texts, seconds)


def _publish_reencoded(
    store: Store,
    target: Target,
    previous: Manifest,
    encoder: Encoder,
    name: str,
    progress: Progress,
    accepts: AcceptVectors,
    keep: int,
) -> tuple[Manifest, int]:
    """The manifest of the version that serves in the end, and the number of encoded texts."""
    store.staging.mkdir(exist_ok=True)
    building = store.create_build_folder()
    folder = store.version_folder(previous.version)
    progress.begin("copy", None, "")
    copy_files(folder, building, {VECTORS_FOLDER, STATES_FOLDER, TEXT_KEYS_FILE})
    progress.end(f"files that do not depend on the encoder, from {previous.version}")
    columns = state_columns(encoder)
    keys = load_array(folder / TEXT_KEYS_FILE)
    result: EncodingResult = CatalogEncoder(store, encoder, columns, progress).run(building, keys, previous.version)
    form, _ = choose_index(previous.products, encoder.dimension, None, previous.vectors)
    kind = build_index(building / VECTORS_FOLDER, form).value
    if not accepts(building / VECTORS_FOLDER):
        shutil.rmtree(building)
        return previous, result.texts
    progress.begin("publish", None, "")
    add_encoder(store, encoder)
    changes = encoding_fields(encoder, resolve_model_name(name), building, kind, result.states)
    manifest = _publish_again(store, target, previous, building, progress, keep, **changes)
    shutil.rmtree(store.staging)
    progress.end(f"{manifest.version} serves")
    return manifest, result.texts


def copy_files(folder: Path, building: Path, without: Collection[str]) -> None:
    """Copies the files of a version, except the files and folders in `without`, which are created again.

    Copies, not links: damage to one version then leaves the other intact.
    """
    for path in folder.iterdir():
        if path.name in {*without, MANIFEST, SEAL_FILE}:
            continue
        if path.is_dir():
            shutil.copytree(path, building / path.name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(path, building / path.name)


def encoding_fields(
    encoder: Encoder, name: str, building: Path, kind: str, states: TokenStatesInfo | None
) -> dict[str, Any]:
    """The fields of a manifest that describe the encoder of this name, its vectors (of a `kind`) and its states."""
    vectors = load_array(building / VECTORS_FOLDER / VECTORS_FILE, mapped=True)
    products = ProductStore(building)
    return {
        "encoder": encoder.identity,
        "encoder_name": name,
        "encoder_origin": origin_of(encoder),
        "dimension": encoder.dimension,
        "vectors": kind,
        "background": measure_background(vectors),
        "cutoff": measure_cutoff(encoder, lambda row: products[row].title, vectors),
        "states": states,
    }


def add_encoder(store: Store, encoder: Encoder) -> None:
    """Stores an encoder with the versions, unless an intact copy is there."""
    folder = store.encoders / encoder.identity
    if store.damage(folder):
        shutil.rmtree(folder, ignore_errors=True)
        seal_folder(store_encoder(encoder, folder), {})


def _publish_again(
    store: Store, target: Target, previous: Manifest, building: Path, progress: Progress, keep: int, **changes: object
) -> Manifest:
    """Publishes the same products as the next version, whose manifest has these changes, and removes what is no longer
    needed."""
    manifest = msgspec.structs.replace(
        previous,
        version=store.next_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        changes=VersionChanges(previous.version),
        **changes,
    )
    target.fill(manifest, building, progress)
    store.publish(building, manifest)
    target.serve(manifest)
    prune(store, target, keep)
    return manifest


def prune(store: Store, target: Target, keep: int, damaged: Collection[str] = ()) -> list[str]:
    """Removes what is no longer needed except `keep` versions, and returns the removed versions."""
    pruned = store.prune(keep, damaged=damaged)
    target.prune()
    prune_journal(store.root, store.last_merged_changes())
    return pruned


class MoveReport(msgspec.Struct, frozen=True):
    """Result of a move. `published` is False if the serving version was already in the backend."""

    version: str
    published: bool
    restored: bool
    """Whether the cluster had lost some of its indexes, which were made again."""
    products: int
    backend: str
    seconds: float


def move(root: Path, cluster: ClusterSettings | None, progress: Progress, *, keep: int = 3) -> MoveReport:
    """Publishes the serving version again, with its indexes in a cluster, or, without one, among its own files.

    Nothing is read, cleaned or encoded. A version that is there already is only restored. Raises StoreMissingError if
    nothing is published, ClusterError if the cluster cannot be used; the previous version still serves.
    """
    store = Store(root)
    store.check_ours()
    started = time.perf_counter()
    with store.lock("move"), closing(open_target(cluster, store)) as target:
        target.check()
        manifest, published, restored = _publish_moved(store, target, progress, keep)
    backend = "elasticsearch" if cluster else "embedded"
    seconds = round(time.perf_counter() - started, 3)
    return MoveReport(manifest.version, published, restored, manifest.products, backend, seconds)


def _publish_moved(store: Store, target: Target, progress: Progress, keep: int) -> tuple[Manifest, bool, bool]:
    previous = store.find_serving().manifest
    folder = store.version_folder(previous.version)
    if previous.cluster == target.place:
        return previous, False, target.restore(previous, folder, progress)
    building = store.create_build_folder()
    progress.begin("copy", None, "")
    copy_files(folder, building, {KEYWORD_FOLDER})
    # The keyword index is made again from its lines.
    builder = target.builder(building / KEYWORD_FOLDER, load_json(folder / FIELDS_FILE, FieldCatalog))
    for row, line in enumerate(read_lines(folder / KEYWORD_FOLDER)):
        builder.add_line(row, line)
    builder.finish()
    progress.end(f"from {folder.name}, {LINES_FILE} and all")
    manifest = _publish_again(store, target, previous, building, progress, keep, cluster=target.place)
    return manifest, True, False


def choose_index(count: int, dimension: int, memory: int | None, before: str = "") -> tuple[VectorIndexKind, str]:
    """The kind of index for `count` vectors and the reason, by `memory` or else the machine's; the reason mentions a
    different kind `before`.

    Raises SettingError for memory that is too small for any kind, with the memory that would suffice.
    """
    there = usable_memory() if memory is None else memory
    kind = choose_kind(count, dimension, there)
    size = count * vector_bytes(kind, dimension)
    if kind is VectorIndexKind.EXACT:
        reason = f"{size_text(size)}; a full scan is fast up to {EXACT_BELOW:,} products"
    else:
        reason = f"{size_text(size)}, of {size_text(there)} of memory"
    if memory is not None and 2 * size > memory:
        raise SettingError(
            f"--memory {size_text(memory)} cannot be met: {count:,} vectors of {dimension} columns need "
            f"{size_text(2 * size)}, half of it for their index; allow that much, or cut the vectors with --dimension"
        )
    return kind, f"{reason}; it was {before} before" if before not in ("", kind) else reason


MAX_REJECTED = 0.05
"""The largest share of the rows read that may be rejected: a broken feed must not replace a good catalog."""
MAX_LOST = 0.20
"""The largest share by which the number of products may fall below that of the serving version."""


def check_publish(read: int, rejected: int, products: int, served: int | None) -> None:
    """Raises PublishRefusedError, with both numbers, if a publish would lose more than it may.

    `read` and `rejected` count rows; `products` and `served` count products of the new and of the serving version.
    """
    if rejected > MAX_REJECTED * read:
        share = rejected / read
        raise PublishRefusedError(
            f"{rejected:,} of {read:,} rows ({share:.1%}) were rejected, more than {MAX_REJECTED:.0%}; nothing was "
            "published: repair the feed, or publish anyway (--force)"
        )
    if served is not None and products < (1 - MAX_LOST) * served:
        share = 1 - products / served
        raise PublishRefusedError(
            f"the feed has {products:,} products, but the serving version has {served:,}: {share:.1%} would be lost, "
            f"more than {MAX_LOST:.0%}; nothing was published: check the feed, or publish anyway (--force)"
        )
