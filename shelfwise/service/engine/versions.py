"""Versions of an index: list, status and rollback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shelfwise.retrieval.encoders.folder import read_spec
from shelfwise.retrieval.encoders.registry import TABLE_RUNTIMES
from shelfwise.retrieval.errors import (
    EncoderUnavailableError,
    SettingError,
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    UnknownVersionError,
)
from shelfwise.retrieval.store.manifest import Manifest, VersionChanges
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.snapshot import check_analyzer

if TYPE_CHECKING:
    from shelfwise.rerank.model_store import Encoding
    from shelfwise.retrieval.elasticsearch.cluster_versions import ClusterVersions
    from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
    from shelfwise.service.settings import Settings


class VersionInfo(msgspec.Struct, frozen=True):
    """One version; only name and size if its manifest cannot be read."""

    version: str
    serves: bool
    bytes: int
    """Size of its own files; encoders are shared between versions."""
    created: str = ""
    products: int = 0
    changes: VersionChanges | None = None
    encoder: str = ""
    encoder_name: str = ""
    problem: str = ""
    """Missing or truncated files; checksums are verified by `shelfwise index verify`, which reads every byte."""


def list_versions(store: Store) -> list[VersionInfo]:
    """All versions, oldest first, without reading the contents of their files.

    Raises StoreMissingError or StoreForeignError for a directory that is not an index.
    """
    store.check_ours()
    names = store.versions()
    problems = {name: _problem(store, name) for name in names}
    whole = [name for name in names if not problems[name]]
    # An engine opens the current one, or the newest one if that cannot be opened.
    serving = named if (named := current_name(store)) in whole else next(reversed(whole), "")
    return [_info(store, name, problems[name], serves=name == serving) for name in names]


def current_name(store: Store) -> str:
    """The version that the pointer names, or empty."""
    try:
        return store.current()
    except StoreError:
        return ""


def current_manifest(store: Store) -> Manifest | None:
    """The manifest of the version that the pointer names; None if it cannot be read."""
    try:
        return store.manifest(store.current())
    except StoreError:
        return None


def has_static_encoder(root: Path) -> bool:
    """Whether the serving version uses a static encoder, which trains and encodes within minutes."""
    store = Store(root)
    manifest = current_manifest(store)
    try:
        return manifest is not None and read_spec(store.encoders / manifest.encoder).runtime in TABLE_RUNTIMES
    except EncoderUnavailableError:
        return False


def cluster_of(root: Path, settings: Settings) -> ClusterSettings | None:
    """Connection settings for the cluster of the serving version; None if it is in none. Raises SettingError if they
    are not set."""
    manifest = current_manifest(Store(root))
    return settings.cluster if manifest and manifest.cluster else None


def stored_encoding(index: Path) -> Encoding | None:
    """The data of the serving version that rankers read; None if it cannot be read."""
    from shelfwise.rerank.model_store import Encoding

    manifest = current_manifest(Store(index))
    if manifest is None:
        return None
    dimension = manifest.states.dimension if manifest.states else None
    return Encoding(manifest.encoder, manifest.dimension, dimension, manifest.encoder_origin)


def _problem(store: Store, name: str) -> str:
    try:
        folders = store.folders(store.manifest(name))
    except StoreDamagedError as error:
        return str(error).removeprefix(f"version {name} is damaged: ")
    return next(filter(None, (store.damage(folder, reads=False) for folder in folders)), "")


def _info(store: Store, name: str, problem: str, *, serves: bool) -> VersionInfo:
    size = store.size(name)
    try:
        manifest = store.manifest(name)
    except StoreDamagedError:
        return VersionInfo(name, serves, size, problem=problem)
    copied = {each: getattr(manifest, each) for each in ("created", "products", "changes", "encoder", "encoder_name")}
    return VersionInfo(name, serves, size, **copied, problem=problem)


class Rollback(msgspec.Struct, frozen=True):
    """Result of a rollback."""

    previous_version: str
    """The version that served before; empty if none was named."""
    version: str
    """The version that serves now."""
    products: int
    created: str
    passed_over: tuple[str, ...] = ()
    """Versions that cannot serve, with the reasons."""


def roll_back(store: Store, name: str = "", cluster: ClusterVersions | None = None) -> Rollback:
    """Makes a version serve: the named one, or the newest intact one before the current.

    A version of the `cluster` is loaded into it again if it is missing, and the alias follows. The caller holds the
    lock. Raises UnknownVersionError if there is no such version, StoreDamagedError if the named one is damaged,
    StoreForeignError if this program cannot serve it; the pointer then stays.
    """
    before = current_name(store)
    if name:
        return _rolled_back(before, _serve(store, name, cluster), ())
    passed_over: list[str] = []
    store.check_ours()
    names = store.versions()
    for older in reversed(names[: names.index(before)] if before in names else names):
        try:
            return _rolled_back(before, _serve(store, older, cluster), tuple(passed_over))
        except (StoreDamagedError, StoreForeignError) as error:
            passed_over.append(str(error))
    there = "; ".join(passed_over) or f"it holds {', '.join(names) or 'none'}"
    raise UnknownVersionError(f"{store.root} has no intact version before {before or 'the current one'}: {there}")


def _serve(store: Store, name: str, cluster: ClusterVersions | None) -> Manifest:
    store.check_known(name)
    try:
        # An engine would reject it.
        check_analyzer(store.version_folder(name), store.manifest(name))
    except SettingError as error:
        raise StoreDamagedError(f"version {name} is damaged: {error}") from error
    manifest = store.verify(name)
    if cluster and manifest.cluster and not cluster.is_whole(manifest):
        cluster.fill(manifest, store.version_folder(name), lambda _: None)
    store.rollback(name)
    if cluster and manifest.cluster:
        cluster.serve(manifest)
    return manifest


def _rolled_back(before: str, manifest: Manifest, passed_over: tuple[str, ...]) -> Rollback:
    return Rollback(before, manifest.version, manifest.products, manifest.created, passed_over)
