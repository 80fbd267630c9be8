"""Pictures of a catalog in a rebuild: fetched, encoded if they are new, and indexed in addition to the texts."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash
from PIL import Image

from shelfwise.indexer.embedding import fill_vectors, missing_rows
from shelfwise.indexer.embedding_cache import EncodingCheckpoints, Keys, KeyTable, VectorCache, key_array
from shelfwise.indexer.incremental import PreviousVersion
from shelfwise.retrieval.encoders.weights import resolve_model_name
from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.index.faiss import PreviousVectors, build_index
from shelfwise.retrieval.index.picture_index import KEYS_FILE, ROWS_FILE
from shelfwise.retrieval.index.vectors import DEFAULT_BACKGROUND, VECTORS_FILE, Background, Rows, StoredArray, Vectors
from shelfwise.retrieval.pictures import (
    CATALOG_FOLDER,
    CatalogPictures,
    PictureCache,
    PictureFetcher,
    catalog_name,
    on_white,
)
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.records import images_of
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.store.manifest import PICTURES_FOLDER, Manifest, PictureInfo
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store

if TYPE_CHECKING:
    from shelfwise.retrieval.encoders.picture_encoder import PictureEncoder

NONE = "none"
"""The model name that leaves pictures out."""
_TOGETHER = 256
"""The number of pictures that are in memory at once."""
_BACKGROUND_SAMPLE = 300


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """The model of pictures, and how they are fetched."""

    model: str = ""
    """A model's name or folder; empty keeps that of the previous version, and `NONE` leaves pictures out."""
    folder: Path | None = None
    """The folder from which pictures that are named by a file may be read; None for none."""
    make_fetcher: Callable[[int, int], PictureFetcher] = PictureFetcher


NO_CHANGE = PictureOptions()
CACHE_BYTES = 2_000_000_000
"""The total size of the small pictures in the index directory."""
PARALLEL = 16
"""The number of pictures that are fetched at once."""
PER_HOST = 4
"""The number of pictures that are fetched at once from one host."""


@dataclass(frozen=True, slots=True)
class CollectedPictures:
    """The pictures of a catalog: small, and in the cache."""

    rows: Rows
    """The products with a picture, ascending (m,)."""
    keys: Keys
    """The fingerprint of each picture (m, 16)."""
    addresses: Sequence[str]
    failed: Mapping[str, int] = field(default_factory=dict)
    """The number of pictures that cannot be used, by reason."""
    old: int = 0
    """The number of pictures whose server does not respond; their copy of an earlier rebuild is used."""

    @property
    def fingerprint(self) -> str:
        """Equal for catalogs with the same pictures."""
        return xxhash.xxh3_64_hexdigest(self.rows.tobytes() + self.keys.tobytes())

    def are_those_of(self, version: Path) -> bool:
        """Whether a published version has the same pictures."""
        try:
            rows, keys = (load_array(version / PICTURES_FOLDER / name) for name in (ROWS_FILE, KEYS_FILE))
            return np.array_equal(rows, self.rows) and np.array_equal(keys, self.keys)
        except StoreDamagedError:
            return False


class CatalogPictureEncoder:
    """Collects and encodes the pictures of one rebuild. A product's picture is the first one that it names."""

    def __init__(self, store: Store, encoder: PictureEncoder, name: str, options: PictureOptions) -> None:
        self._store = store
        self.encoder = encoder
        self._name = name
        self._options = options
        self._cache = PictureCache(store.root / CATALOG_FOLDER, CACHE_BYTES, keeps_used=True)
        self._collected = CollectedPictures(np.empty(0, np.int64), key_array(b""), ())

    @classmethod
    def open(
        cls, store: Store, options: PictureOptions, previous: PreviousVersion | None, cache: Path
    ) -> CatalogPictureEncoder | None:
        """The encoder of the named model or of the previous version; None if there is none. Raises EncoderError."""
        before = previous.manifest.pictures if previous else None
        if options.model == NONE or not (options.model or before):
            return None
        # Imports torch, which a rebuild without pictures does not need.
        with optional_imports():
            from shelfwise.retrieval.encoders.picture_encoder import load_picture_encoder, open_picture_encoder

        if options.model:
            encoder, name = open_picture_encoder(options.model, cache), resolve_model_name(options.model)
        elif before:
            encoder, name = load_picture_encoder(store.encoders / before.encoder), before.encoder_name
        return cls(store, encoder, name, options)

    def is_as_before(self, manifest: Manifest, version: Path) -> bool:
        """Whether a version has the pictures that were collected, by this encoder."""
        info = manifest.pictures
        return info is not None and info.encoder == self.encoder.identity and self._collected.are_those_of(version)

    @property
    def identity(self) -> str:
        """The identity of the encoder and of the collected pictures."""
        return f"{self.encoder.identity} {self._collected.fingerprint}"

    def collect(self, products: ProductStore, progress: Progress) -> CollectedPictures:
        """Fetches the pictures that are not in the cache."""
        named = [(row, images[0]) for row in range(len(products)) if (images := images_of(products[row]))]
        distinct = [*dict.fromkeys(address for _, address in named)]
        progress.begin("pictures", len(distinct), "pictures")
        chosen = self._options
        make_fetcher = partial(chosen.make_fetcher, PARALLEL, PER_HOST)
        pictures = CatalogPictures(self._cache, chosen.folder, make_fetcher, PARALLEL)
        result = pictures.keys(distinct, progress.advance)
        usable = [(row, address) for row, address in named if address in result.keys]
        summary = f"{len(result.keys):,} pictures of {len(usable):,} products, {result.failed.total():,} cannot be used"
        progress.end(summary + (f", {result.old:,} are old: their servers do not respond" if result.old else ""))
        rows = np.array([row for row, _ in usable], np.int64)
        addresses = [address for _, address in usable]
        keys = key_array([result.keys[each] for each in addresses])
        failed = dict(sorted(result.failed.items(), key=lambda each: (-each[1], each[0])))
        self._collected = CollectedPictures(rows, keys, addresses, failed, result.old)
        return self._collected

    def encode(self, building: Path, previous: str, progress: Progress) -> PictureInfo:
        """Writes the vectors of the collected pictures, and their index, into the version in `building`; `previous`
        names the version whose vectors are used first."""
        collected = self._collected
        folder = building / PICTURES_FOLDER
        dimension = self.encoder.dimension
        keys = collected.keys
        cache = VectorCache(dimension)
        checkpoints = EncodingCheckpoints(self._store.staging / f"pictures-{self.encoder.identity}", dimension)
        checkpoints.load(cache)
        before = self._add_versions(cache, previous, keys)
        rows = missing_rows(keys, cache)
        progress.begin("encode pictures", len(rows), "pictures")

        def encode(rows: Rows) -> Iterator[tuple[Rows, Vectors]]:
            for chunk in np.split(rows, range(_TOGETHER, len(rows), _TOGETHER)):
                chunk_vectors = self.encoder.encode_pictures([*self._pictures(collected, chunk)])
                checkpoints.save(keys[chunk], chunk_vectors)
                progress.advance(len(chunk))
                yield chunk, chunk_vectors

        vectors = fill_vectors(folder, keys, cache, rows, encode)
        np.save(folder / ROWS_FILE, collected.rows)
        np.save(folder / KEYS_FILE, keys)
        kind = build_index(folder, before=before)
        progress.end(f"{len(rows):,} pictures encoded, {len(keys) - len(rows):,} vectors reused")
        return PictureInfo(
            self.encoder.identity,
            self._name,
            dimension,
            len(keys),
            kind.value,
            self._background(ProductStore(building), collected.rows, vectors),
            collected.failed,
            collected.old,
        )

    def _add_versions(self, cache: VectorCache, first: str, keys: Keys) -> PreviousVectors | None:
        """Adds the vectors of every version with this encoder, as `shelfwise.indexer.incremental` does for texts.
        Returns those of the first version that has any, for an index of the pictures with these fingerprints (n,
        16)."""
        before = None
        names = sorted(self._store.versions(), key=lambda name: (name == first, name), reverse=True)
        for name in names:
            try:
                info = self._store.manifest(name).pictures
                if info and info.encoder == self.encoder.identity:
                    folder = self._store.version_folder(name) / PICTURES_FOLDER
                    others = load_array(folder / KEYS_FILE)
                    vectors = load_array(folder / VECTORS_FILE, mapped=True)
                    cache.add(others, vectors)
                    if before is None and len(others):
                        before = PreviousVectors(folder, KeyTable(others).find(keys))
            except StoreDamagedError:
                continue
        return before

    def _pictures(self, collected: CollectedPictures, indices: Rows) -> Iterator[Image.Image]:
        """The small pictures at some indices."""
        folder = self._store.root / CATALOG_FOLDER
        for index in indices.tolist():
            path = folder / catalog_name(collected.addresses[index])
            content = path.read_bytes() if path.is_file() else b""
            if xxhash.xxh3_128_digest(content) != collected.keys[index].tobytes():
                raise StoreDamagedError(f"{path} changed while it was encoded; run the rebuild again")
            with Image.open(io.BytesIO(content)) as picture:
                yield on_white(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))

    def _background(self, products: ProductStore, rows: Rows, vectors: StoredArray) -> Background:
        """The cosine of titles with pictures of other products."""
        if len(rows) < 2:
            return DEFAULT_BACKGROUND
        chosen = sorted(random.Random(0).sample(range(len(rows)), min(len(rows), _BACKGROUND_SAMPLE)))  # noqa: S311
        titles = self.encoder.encode_queries([products[row].title for row in rows[chosen].tolist()])
        cosines = titles @ np.asarray(vectors[chosen], np.float32).T
        others = cosines[~np.eye(len(chosen), dtype=bool)]
        return Background(float(others.mean()), max(float(others.std()), 1e-3))
