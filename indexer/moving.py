"""Moving a served index from one backend to another without its feed: same products, vectors and live changes."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import msgspec

from indexer.observing import Observer
from indexer.successor import publish, shared_entries, successor, take_over
from indexer.target import Target, open_target
from retrieval.cluster_settings import ClusterSettings
from retrieval.keyword_lines import LINES_FILE, read_lines
from retrieval.layout import FIELDS_FILE, KEYWORD_FOLDER, read_fields
from retrieval.manifest import Manifest
from retrieval.published import Store


class MoveReport(msgspec.Struct, frozen=True):
    """What a move did. `published` is False where the version that serves was in the asked backend already."""

    version: str
    published: bool
    restored: bool
    """Whether the cluster had lost something of it, which is there again."""
    products: int
    backend: str
    seconds: float


def move(
    root: Path, cluster: ClusterSettings | None, observer: Observer, *, vectors: bool = False, keep: int = 3
) -> MoveReport:
    """Publishes the version that serves once more, its indexes in a cluster, or, without one, among its own files.

    Nothing is read, cleaned or encoded. A version that is there already is only restored. Raises StoreMissingError
    where nothing is published, ClusterError where the cluster cannot be used; the version before serves on.
    """
    store = Store(root)
    store.check_ours()
    started = time.perf_counter()
    with store.locked("move"), closing(open_target(cluster, store, vectors=vectors)) as target:
        target.check()
        manifest, published, restored = _moved(store, target, observer, keep)
    backend = "elasticsearch" if cluster else "embedded"
    seconds = round(time.perf_counter() - started, 3)
    return MoveReport(manifest.version, published, restored, manifest.products, backend, seconds)


def _moved(store: Store, target: Target, observer: Observer, keep: int) -> tuple[Manifest, bool, bool]:
    before = store.find_serving().manifest
    folder = store.version_folder(before.version)
    if before.cluster == target.place:
        return before, False, target.restore(before, folder, observer)
    building = store.building()
    _copy(folder, building, target, observer)
    manifest = msgspec.structs.replace(
        successor(store, before, building, shared_entries(store, before)), cluster=target.place
    )
    target.fill(manifest, building, observer)
    publish(store, target, manifest, building, keep)
    return manifest, True, False


def _copy(folder: Path, building: Path, target: Target, observer: Observer) -> None:
    """Everything but the keyword index, which is made anew from its lines."""
    observer.begin("copy", None, "")
    take_over(folder, building, {KEYWORD_FOLDER})
    builder = target.builder(building / KEYWORD_FOLDER, read_fields(folder / FIELDS_FILE))
    for row, line in enumerate(read_lines(folder / KEYWORD_FOLDER)):
        builder.add_line(row, line)
    builder.finish()
    observer.end(f"from {folder.name}, {LINES_FILE} and all")
