"""Going back to an earlier version: the one asked for, or the newest that can serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from retrieval.errors import SettingError, StoreDamagedError, StoreForeignError, UnknownVersionError
from retrieval.manifest import Manifest
from retrieval.published import Store
from service.snapshot import stored_analyzer
from service.version_list import current_name, versions_before

if TYPE_CHECKING:
    from retrieval.cluster_versions import ClusterVersions


class RolledBack(msgspec.Struct, frozen=True):
    """What a rollback did."""

    before: str
    """The version that served; empty where none was named."""
    version: str
    """The one that serves now."""
    products: int
    created: str
    passed_over: tuple[str, ...] = ()
    """Versions that cannot serve, with the reason."""


def roll_back(store: Store, name: str = "", cluster: ClusterVersions | None = None) -> RolledBack:
    """Lets a version serve: the one of this name, or the newest before the current one that is whole.

    One that is in the `cluster` is filled into it again where it is not there any more, and the alias follows. The
    caller holds the lock. Raises UnknownVersionError where there is no such version, StoreDamagedError where the
    one asked for is not whole, StoreForeignError where this program cannot serve it; the pointer then stays.
    """
    before = current_name(store)
    if name:
        return _rolled_back(before, _serve(store, name, cluster), ())
    passed_over: list[str] = []
    for older in reversed(versions_before(store, before)):
        try:
            return _rolled_back(before, _serve(store, older, cluster), tuple(passed_over))
        except (StoreDamagedError, StoreForeignError) as error:
            passed_over.append(str(error))
    there = "; ".join(passed_over) or f"it holds {', '.join(store.versions()) or 'none'}"
    raise UnknownVersionError(f"{store.root} has no whole version before {before or 'the current one'}: {there}")


def _serve(store: Store, name: str, cluster: ClusterVersions | None) -> Manifest:
    store.check_known(name)
    _check_analysis(store, name)
    manifest = store.verified(name)
    if cluster and manifest.cluster and not cluster.is_whole(manifest):
        cluster.fill(manifest, store.version_folder(name), lambda _: None)
    store.rollback(name)
    if cluster and manifest.cluster:
        cluster.serve(manifest)
    return manifest


def _check_analysis(store: Store, name: str) -> None:
    """An engine refuses a version that another text analysis made, so it must not become the current one."""
    wanted = store.manifest(name).analyzer
    try:
        here = stored_analyzer(store.version_folder(name)).identity
    except SettingError as error:
        raise StoreDamagedError(f"version {name} is damaged: {error}") from error
    if here != wanted:
        message = (
            f"version {name} was made with the text analysis {wanted}, this program has {here}: it cannot serve it"
        )
        raise StoreForeignError(message)


def _rolled_back(before: str, manifest: Manifest, passed_over: tuple[str, ...]) -> RolledBack:
    return RolledBack(before, manifest.version, manifest.products, manifest.created, passed_over)
