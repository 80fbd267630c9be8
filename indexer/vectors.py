"""Vectors for a catalog's texts: kept from the version before, or from an interrupted run; the rest is encoded.

What is encoded is saved chunk by chunk as it comes, so a run that is killed loses less than one chunk of work.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.encoder import Encoder
from retrieval.vectors import Vectors

CHUNK = 1_024
Keys = NDArray[np.uint8]


def text_key(text: str) -> bytes:
    """The fingerprint of a text (16 bytes): equal texts have equal vectors."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def key_array(keys: Sequence[bytes]) -> Keys:
    """Fingerprints as an array (n, 16)."""
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 16)


class KnownVectors:
    """The vectors at hand, by the fingerprint of the text that they were made from."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._sources: list[Vectors] = []
        self._places: dict[bytes, tuple[int, int]] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def add(self, keys: Keys, vectors: Vectors) -> None:
        """Takes vectors (n, dimension) with their keys (n, 16); those of another dimension are of no use."""
        if len(keys) != len(vectors) or vectors.ndim != 2 or vectors.shape[1] != self._dimension:
            return
        source = len(self._sources)
        self._sources.append(vectors)
        flat = keys.tobytes()
        for row in range(len(keys)):
            self._places.setdefault(flat[16 * row : 16 * row + 16], (source, row))

    def fill(self, keys: Sequence[bytes], into: Vectors) -> None:
        """Copies the vectors of `keys` into `into` (len(keys), dimension), row by row."""
        for row, key in enumerate(keys):
            source, place = self._places[key]
            into[row] = self._sources[source][place]


class ChunkFolder:
    """Where chunks of finished work wait for the version that they belong to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, known: KnownVectors) -> int:
        """Adds every whole chunk to `known` and returns how many vectors that were; a damaged one is encoded again."""
        loaded = 0
        for path in sorted(self._folder.glob("chunk-*.npz")):
            try:
                with np.load(path, allow_pickle=False) as chunk:
                    known.add(chunk["keys"], chunk["vectors"])
                    loaded += len(chunk["keys"])
            except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
                # RuntimeError: a flipped bit makes an archive look encrypted, or packed by an unknown method.
                path.unlink()
        return loaded

    def save(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Keeps a chunk; a kill while it is written leaves no part of it."""
        name = f"chunk-{xxhash.xxh3_64_hexdigest(b''.join(keys))}.npz"
        scratch = self._folder / f".{name}"
        with scratch.open("wb") as file:
            np.savez(file, keys=key_array(keys), vectors=vectors)
        scratch.replace(self._folder / name)


def encode_missing(
    texts: dict[bytes, str], known: KnownVectors, chunks: ChunkFolder, encoder: Encoder, advance: Callable[[int], None]
) -> int:
    """Encodes the texts whose keys are not known yet, and returns how many that were."""
    missing = [(key, text) for key, text in texts.items() if key not in known]
    # Texts of one length together: a batch costs what its longest text costs.
    missing.sort(key=lambda pair: len(pair[1]))
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        keys = [key for key, _ in chunk]
        vectors = encoder.encode_products([text for _, text in chunk], advance)
        chunks.save(keys, vectors)
        known.add(key_array(keys), vectors)
    return len(missing)
