"""A version made of the one that serves, without its feed: what is taken over, and how it is published."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from indexer.pending import forget_folded
from indexer.target import Target
from retrieval.encoder import Encoder
from retrieval.encoders import store_encoder
from retrieval.manifest import MANIFEST, SEAL, FileEntry, Manifest, VersionChanges
from retrieval.published import Store


def take_over(folder: Path, building: Path, without: Collection[str]) -> None:
    """Copies the files of a version, but for the files and folders named in `without`, which are made anew.

    Copies and no links: a version that is damaged later leaves the other one whole.
    """
    left = {*without, MANIFEST, SEAL}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and inside.parts[0] not in left:
            (building / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, building / inside)


def shared_entries(store: Store, version: Manifest) -> dict[str, FileEntry]:
    """The files of a version that stand outside its folder: its encoder's."""
    prefix = store.version_folder(version.version).relative_to(store.root).as_posix()
    return {path: entry for path, entry in version.files.items() if not path.startswith(f"{prefix}/")}


def successor(store: Store, before: Manifest, building: Path, shared: Mapping[str, FileEntry]) -> Manifest:
    """The manifest of what stands in `building`, and of the `shared` files outside: of the same products, by a name,
    time and checksums of its own."""
    name = store.next_version()
    return msgspec.structs.replace(
        before,
        version=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files=store.entries(building, store.version_folder(name).relative_to(store.root)) | dict(shared),
        changes=VersionChanges(before.version),
    )


def encoder_entries(store: Store, encoder: Encoder) -> dict[str, FileEntry]:
    """Stores an encoder beside the versions that it makes, unless it is there and whole; the checksums of its files."""
    store.drop_doubtful_encoder(encoder.identity)
    model = store_encoder(encoder, store.encoders / encoder.identity)
    return store.entries(model, model.relative_to(store.root))


def publish(store: Store, target: Target, manifest: Manifest, building: Path, keep: int) -> None:
    """Lets a filled version serve, and removes what is of no more use."""
    store.publish(building, manifest)
    target.serve(manifest)
    store.prune(keep)
    target.clear_up()
    forget_folded(store.root, store.folded())
