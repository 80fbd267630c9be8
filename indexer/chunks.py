"""What a run has encoded so far, chunk by chunk: where it is interrupted, the next one goes on from there."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from indexer.known import KnownVectors
from indexer.text_keys import KEY_BYTES, Keys, KeyTable
from indexer.token_spool import Segment, TokenSpool
from retrieval.manifest import open_scratch
from retrieval.token_states import TokenRuns
from retrieval.vectors import Vectors


class ChunkFolder:
    """Where chunks of finished work wait for the version that they belong to."""

    def __init__(self, folder: Path, dimension: int, state_dimension: int = 0) -> None:
        """`dimension` is that of the vectors, `state_dimension` that of the tokens' states, 0 where none are kept."""
        self._folder = folder
        self._dimension = dimension
        self.state_dimension = state_dimension
        self._spool = TokenSpool(folder / f"tokens-{state_dimension}.bin", state_dimension) if state_dimension else None
        self._saved: list[tuple[Keys, _Located]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, known: KnownVectors) -> int:
        """Adds every whole chunk to `known` and returns how many vectors that were; a damaged one is encoded again."""
        chunks = [chunk for path in sorted(self._folder.glob("chunk-*.npz")) if (chunk := self._chunk(path))]
        if not chunks:
            return 0
        keys, vectors, located = zip(*chunks, strict=True)
        all_keys = np.concatenate(keys)
        known.add(all_keys, np.concatenate(vectors), self._runs([each for each in located if each]))
        return len(all_keys)

    def save(self, keys: Keys, vectors: Vectors, tokens: TokenRuns | None = None) -> None:
        """Keeps a chunk; a kill while it is written leaves no part of it."""
        name = f"chunk-{xxhash.xxh3_64_hexdigest(keys.tobytes())}.npz"
        scratch = self._folder / f".{name}"
        arrays: dict[str, NDArray[Any]] = {"keys": keys, "vectors": vectors}
        if self._spool is not None and tokens is not None:
            located = _Located(self._spool.append(tokens), tokens.lengths)
            self._saved.append((keys, located))
            arrays |= located.arrays()
        with open_scratch(scratch) as file:
            np.savez(file, allow_pickle=False, **arrays)
        scratch.replace(self._folder / name)

    def add_saved_tokens(self, known: KnownVectors) -> None:
        """Adds the tokens of the chunks that this run has saved."""
        if known.tokens is None or not self._saved:
            return
        keys, located = zip(*self._saved, strict=True)
        if runs := self._runs(list(located)):
            known.tokens.add(KeyTable(np.concatenate(keys)), runs)

    def _runs(self, located: list[_Located]) -> TokenRuns | None:
        if self._spool is None:
            return None
        starts = np.concatenate([each.starts for each in located])
        return self._spool.runs(starts, np.concatenate([each.lengths for each in located]))

    def _chunk(self, path: Path) -> tuple[Keys, Vectors, _Located | None] | None:
        try:
            with np.load(path, allow_pickle=False) as chunk:
                keys, vectors = chunk["keys"], chunk["vectors"]
                located = _Located.read(chunk) if self._spool else None
            shapes = (len(keys), KEY_BYTES), (len(keys), self._dimension)
            is_whole = (keys.shape, vectors.shape) == shapes and (keys.dtype, vectors.dtype) == (np.uint8, np.float32)
            if is_whole and (self._spool is None or (located and located.fits(self._spool, len(keys)))):
                return keys, vectors, located
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            pass  # RuntimeError: a flipped bit makes an archive look encrypted, or packed by an unknown method
        path.unlink()
        return None


@dataclass(frozen=True, slots=True)
class _Located:
    """Where in the spool the tokens of a chunk's texts are, and how many each text has (m,)."""

    segment: Segment
    lengths: NDArray[np.int32]

    @property
    def starts(self) -> NDArray[np.int64]:
        """(m,)"""
        return self.segment.start + np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As a chunk's file has it."""
        segment = np.array([self.segment.start, self.segment.count], np.int64)
        return {"segment": segment, "digest": np.frombuffer(self.segment.digest, np.uint8), "lengths": self.lengths}

    @classmethod
    def read(cls, chunk: Mapping[str, NDArray[Any]]) -> _Located:
        """What `arrays` gave; raises KeyError or ValueError for a chunk without it."""
        start, count = chunk["segment"].tolist()
        return cls(Segment(int(start), int(count), chunk["digest"].tobytes()), chunk["lengths"])

    def fits(self, spool: TokenSpool, texts: int) -> bool:
        """Whether these are the tokens of so many texts, and the spool has them."""
        lengths = self.lengths
        if lengths.shape != (texts,) or lengths.dtype != np.int32 or lengths.min(initial=0) < 0:
            return False
        return int(lengths.sum(dtype=np.int64)) == self.segment.count and spool.is_whole(self.segment)
