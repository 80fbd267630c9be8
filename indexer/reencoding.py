"""The version that serves with the vectors of another encoder: the same products, words and live changes, no feed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from indexer.encoding import CatalogEncoder, Encoded, state_columns
from indexer.observing import Observer
from indexer.successor import encoder_entries, publish, successor, take_over
from indexer.target import Target, open_target
from retrieval.arrays import load_array
from retrieval.cluster_settings import ClusterSettings
from retrieval.encoder import Encoder
from retrieval.errors import StoreError
from retrieval.layout import STATES_FOLDER, TEXT_KEYS_FILE, VECTORS_FOLDER
from retrieval.manifest import Manifest
from retrieval.product_text import RECIPE
from retrieval.published import Store
from retrieval.stored_vectors import VECTORS_FILE
from retrieval.token_states import DIMENSION
from retrieval.vectors import measure_background
from retrieval.vectors_faiss import build_index
from retrieval.weights import lasting_name

Judge = Callable[[Path], bool]
"""Whether a version with the vectors in this folder may serve in the place of the one that does."""


class ReencodeReport(msgspec.Struct, frozen=True):
    """What came of it. `published` is False where the version that serves has these vectors already, or the judge
    would not have them."""

    version: str
    """The one that serves now."""
    published: bool
    products: int
    encoder: str
    encoded: int
    """Texts; the others have had a vector by this encoder."""
    seconds: float


def reencode(
    root: Path,
    encoder: Encoder,
    name: str,
    observer: Observer,
    *,
    cluster: ClusterSettings | None = None,
    judge: Judge = lambda _: True,
    keep: int = 3,
) -> ReencodeReport:
    """Encodes the products of the version that serves by another encoder, of this name, and publishes them as the next
    version where the judge agrees; it is asked while nobody else can publish.

    `cluster` is the one that the version is in, if it is in one. What an interrupted run has encoded is not encoded
    again. Raises StoreMissingError where nothing is published, StoreError for a version of a program that made other
    texts, EncoderError or ClusterError as their names say; whatever is raised, the version before serves on.
    """
    store = Store(root)
    store.check_ours()
    started = time.perf_counter()
    with store.locked("re-encoding"):
        before = store.find_serving().manifest
        place = before.cluster
        if before.recipe != RECIPE:
            cure = f"rebuild it: shelfwise rebuild FEED --index {root} --encoder {name}"
            raise StoreError(f"{before.version} was built by a program that made other texts of products; {cure}")
        in_cluster = cluster if place else None
        with closing(open_target(in_cluster, store, vectors=place is not None and place.vectors)) as target:
            target.check()
            manifest, texts = before, 0
            if before.encoder != encoder.identity:
                manifest, texts = _reencoded(store, target, before, encoder, name, observer, judge, keep)
    seconds = round(time.perf_counter() - started, 3)
    return ReencodeReport(manifest.version, manifest is not before, before.products, name, texts, seconds)


def _reencoded(
    store: Store,
    target: Target,
    before: Manifest,
    encoder: Encoder,
    name: str,
    observer: Observer,
    judge: Judge,
    keep: int,
) -> tuple[Manifest, int]:
    """The manifest of the version that serves in the end, and how many texts were encoded."""
    store.staging.mkdir(exist_ok=True)
    building, folder = store.building(), store.version_folder(before.version)
    observer.begin("copy", None, "")
    take_over(folder, building, {VECTORS_FOLDER, STATES_FOLDER, TEXT_KEYS_FILE})
    observer.end(f"what does not depend on the encoder, from {before.version}")
    columns = state_columns(encoder, before.states.dimension if before.states else DIMENSION)
    keys = load_array(folder / TEXT_KEYS_FILE)
    made: Encoded = CatalogEncoder(store, encoder, columns, observer).run(building, keys, before.version)
    kind = build_index(building / VECTORS_FOLDER).value
    if not judge(building / VECTORS_FOLDER):
        shutil.rmtree(building)
        return before, made.texts
    observer.begin("publish", None, "")
    manifest = msgspec.structs.replace(
        successor(store, before, building, encoder_entries(store, encoder)),
        encoder=encoder.identity,
        encoder_name=lasting_name(name),
        dimension=encoder.dimension,
        vectors=kind,
        background=measure_background(load_array(building / VECTORS_FOLDER / VECTORS_FILE, mapped=True)),
        states=made.states,
    )
    if manifest.cluster:
        target.fill(manifest, building, observer)
    publish(store, target, manifest, building, keep)
    shutil.rmtree(store.staging)
    observer.end(f"{manifest.version} serves")
    return manifest, made.texts
