"""Vectors for a catalog's texts: kept from earlier versions, or from an interrupted run; the rest is encoded.

What is encoded is saved chunk by chunk as it comes, so a run that is killed loses less than one chunk of work. Memory
holds fingerprints, never all texts.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.encoder import Encoder
from retrieval.manifest import open_scratch
from retrieval.vectors import Rows, Vectors

CHUNK = 1_024
KEY_BYTES = 16
_COPIED_ROWS = 16_384
Keys = NDArray[np.uint8]


def text_key(text: str) -> bytes:
    """The fingerprint of a text (16 bytes): equal texts have equal vectors."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def key_array(keys: Sequence[bytes] | bytes | bytearray) -> Keys:
    """Fingerprints, one by one or end to end, as an array (n, 16)."""
    flat = keys if isinstance(keys, bytes | bytearray) else b"".join(keys)
    return np.frombuffer(flat, dtype=np.uint8).reshape(-1, KEY_BYTES)


class KnownVectors:
    """The vectors at hand, by the fingerprint of the text that they were made from."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._sources: list[tuple[_Table, Vectors]] = []

    def add(self, keys: Keys, vectors: Vectors) -> None:
        """Takes vectors (n, dimension) with their keys (n, 16); those of another dimension are of no use."""
        if len(keys) == len(vectors) and vectors.ndim == 2 and vectors.shape[1] == self._dimension and len(keys):
            self._sources.append((_Table(keys), vectors))

    def known(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the keys (n, 16) have a vector here (n,)."""
        found = np.zeros(len(keys), dtype=bool)
        for table, _ in self._sources:
            found |= table.places(keys) >= 0
        return found

    def fill(self, keys: Keys, rows: Rows, into: Vectors) -> None:
        """Copies the vectors of `keys` (n, 16) to the `rows` (n,) of `into`; the source that came first counts.

        Raises KeyError for a key without a vector.
        """
        for table, vectors in self._sources:
            places = table.places(keys)
            found = places >= 0
            for start in range(0, int(found.sum()), _COPIED_ROWS):
                piece = slice(start, start + _COPIED_ROWS)
                into[rows[found][piece]] = vectors[places[found][piece]]
            keys, rows = keys[~found], rows[~found]
        if len(keys):
            raise KeyError(f"{len(keys)} texts have no vector")


class _Table:
    """Where keys stand in an array of them."""

    def __init__(self, keys: Keys) -> None:
        whole = _whole(keys)
        self._order = np.argsort(whole, kind="stable")
        self._sorted = whole[self._order]

    def places(self, keys: Keys) -> Rows:
        """For each key (n, 16) its place, the first of equal ones, or -1 (n,)."""
        wanted = _whole(keys)
        at = np.searchsorted(self._sorted, wanted).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], -1)


def _whole(keys: Keys) -> NDArray[np.void]:
    """Each key as one value, which compares by its bytes (n,)."""
    return np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").reshape(-1)


class ChunkFolder:
    """Where chunks of finished work wait for the version that they belong to."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self._folder = folder
        self._dimension = dimension
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, known: KnownVectors) -> int:
        """Adds every whole chunk to `known` and returns how many vectors that were; a damaged one is encoded again."""
        chunks = [chunk for path in sorted(self._folder.glob("chunk-*.npz")) if (chunk := self._chunk(path))]
        if not chunks:
            return 0
        keys, vectors = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        known.add(keys, vectors)
        return len(keys)

    def _chunk(self, path: Path) -> tuple[Keys, Vectors] | None:
        try:
            with np.load(path, allow_pickle=False) as chunk:
                keys, vectors = chunk["keys"], chunk["vectors"]
            shapes = (len(keys), KEY_BYTES), (len(keys), self._dimension)
            if (keys.shape, vectors.shape) == shapes and (keys.dtype, vectors.dtype) == (np.uint8, np.float32):
                return keys, vectors
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            pass  # RuntimeError: a flipped bit makes an archive look encrypted, or packed by an unknown method
        path.unlink()
        return None

    def save(self, keys: Keys, vectors: Vectors) -> None:
        """Keeps a chunk; a kill while it is written leaves no part of it."""
        name = f"chunk-{xxhash.xxh3_64_hexdigest(keys.tobytes())}.npz"
        scratch = self._folder / f".{name}"
        with open_scratch(scratch) as file:
            np.savez(file, keys=keys, vectors=vectors)
        scratch.replace(self._folder / name)


class TextSource(Protocol):
    """The texts of a catalog, by row."""

    def __call__(self, row: int, /) -> str:
        """The text that becomes the vector of this row."""
        ...


def missing_rows(keys: Keys, known: KnownVectors) -> Rows:
    """Rows of `keys` (n, 16) whose texts have to be encoded: the first of each text without a vector, ascending."""
    unknown = np.flatnonzero(~known.known(keys))
    _, first = np.unique(_whole(keys[unknown]), return_index=True)
    return np.asarray(unknown[np.sort(first)], dtype=np.int64)


def encode_rows(
    rows: Rows, keys: Keys, text_of: TextSource, encoder: Encoder, chunks: ChunkFolder, advance: Callable[[int], None]
) -> Iterator[tuple[Rows, Vectors]]:
    """Encodes the texts of `rows` (m,) of `keys` (n, 16): each chunk's rows with their vectors, when they are safe."""
    # Texts of one length together: a batch costs what its longest text costs.
    lengths = np.fromiter((len(text_of(row)) for row in rows.tolist()), dtype=np.int64, count=len(rows))
    ordered = rows[np.argsort(lengths, kind="stable")]
    for start in range(0, len(ordered), CHUNK):
        chunk = ordered[start : start + CHUNK]
        vectors = encoder.encode_products([text_of(row) for row in chunk.tolist()], advance)
        chunks.save(keys[chunk], vectors)
        yield chunk, vectors


def spread(keys: Keys, rows: Rows, into: Vectors) -> None:
    """Copies the vectors at `rows` (m,), which have distinct keys, to the other rows of `into` with the same keys."""
    if not len(rows):
        return
    table = _Table(keys[rows])
    for start in range(0, len(keys), _COPIED_ROWS):
        places = table.places(keys[start : start + _COPIED_ROWS])
        others = np.flatnonzero(places >= 0)
        into[start + others] = into[rows[places[others]]]
