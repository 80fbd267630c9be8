"""What a run has encoded so far, chunk by chunk: where it is interrupted, the next one goes on from there."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.index.token_states import StatesWriter, TokenRuns, run_indices
from retrieval.index.vectors import Rows, Vectors
from retrieval.store.files import atomic_file

# Tokens of encoded texts in one file that outlives an interrupted run: chunk after chunk, read memory-mapped.


@dataclass(frozen=True, slots=True)
class TokenSegment:
    """The tokens of one chunk: the number of the first, how many they are, and their XXH3 checksum (16 bytes)."""

    start: int
    count: int
    digest: bytes


class TokenFile:
    """The file. Only what a chunk names is in use: what a killed run wrote besides is passed over."""

    def __init__(self, path: Path, dimension: int) -> None:
        self.dimension = dimension
        self._path = path
        self._kind = np.dtype([("id", np.int32), ("state", np.int8, (dimension,))])

    def append(self, tokens: TokenRuns) -> TokenSegment:
        """Adds tokens that lie end to end, as `retrieval.index.token_states.quantised` gives them."""
        records = np.empty(len(tokens.ids), self._kind)
        records["id"], records["state"] = tokens.ids, tokens.states
        content = records.tobytes()
        with self._path.open("ab") as file:
            # A killed run may have left a part of a record.
            file.write(bytes(-file.tell() % self._kind.itemsize))
            start = file.tell() // self._kind.itemsize
            file.write(content)
        return TokenSegment(start, len(records), xxhash.xxh3_128_digest(content))

    def is_whole(self, segment: TokenSegment) -> bool:
        """Whether the file has the tokens of this segment as they were written."""
        size = self._kind.itemsize
        # A chunk that is damaged may ask for anything.
        if not 0 <= segment.start <= segment.start + segment.count <= self._size() // size:
            return False
        if not segment.count:
            return True
        with self._path.open("rb") as file:
            content = os.pread(file.fileno(), segment.count * size, segment.start * size)
        return xxhash.xxh3_128_digest(content) == segment.digest

    def runs(self, starts: NDArray[np.int64], lengths: NDArray[np.int32]) -> TokenRuns:
        """The tokens of m texts by where in the file they begin (m,) and how many they are (m,)."""
        count = self._size() // self._kind.itemsize
        if count:
            records = np.asarray(np.memmap(self._path, self._kind, "r", shape=(count,)))
        else:
            records = np.empty(0, self._kind)
        return TokenRuns(records["id"], records["state"], starts, lengths)

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


class EncodingCheckpoints:
    """Where chunks of finished work wait for the version that they belong to."""

    def __init__(self, folder: Path, dimension: int, state_dimension: int = 0) -> None:
        """`dimension` is that of the vectors, `state_dimension` that of the tokens' states, 0 where none are kept."""
        self._folder = folder
        self._dimension = dimension
        self.state_dimension = state_dimension
        self._spool = TokenFile(folder / f"tokens-{state_dimension}.bin", state_dimension) if state_dimension else None
        self._saved: list[tuple[Keys, _ChunkTokens]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, known: VectorCache) -> int:
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
        arrays: dict[str, NDArray[Any]] = {"keys": keys, "vectors": vectors}
        if self._spool is not None and tokens is not None:
            located = _ChunkTokens(self._spool.append(tokens), tokens.lengths)
            self._saved.append((keys, located))
            arrays |= located.arrays()
        with atomic_file(self._folder / name, durable=False) as file:
            np.savez(file, allow_pickle=False, **arrays)

    def add_saved_tokens(self, known: VectorCache) -> None:
        """Adds the tokens of the chunks that this run has saved."""
        if known.tokens is None or not self._saved:
            return
        keys, located = zip(*self._saved, strict=True)
        if runs := self._runs(list(located)):
            known.tokens.add(KeyTable(np.concatenate(keys)), runs)

    def _runs(self, located: list[_ChunkTokens]) -> TokenRuns | None:
        if self._spool is None:
            return None
        starts = np.concatenate([each.starts for each in located])
        return self._spool.runs(starts, np.concatenate([each.lengths for each in located]))

    def _chunk(self, path: Path) -> tuple[Keys, Vectors, _ChunkTokens | None] | None:
        try:
            with np.load(path, allow_pickle=False) as chunk:
                keys, vectors = chunk["keys"], chunk["vectors"]
                located = _ChunkTokens.read(chunk) if self._spool else None
            shapes = (len(keys), KEY_BYTES), (len(keys), self._dimension)
            is_whole = (keys.shape, vectors.shape) == shapes and (keys.dtype, vectors.dtype) == (np.uint8, np.float32)
            if is_whole and (self._spool is None or (located and located.fits(self._spool, len(keys)))):
                return keys, vectors, located
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            pass  # RuntimeError: a flipped bit makes an archive look encrypted, or packed by an unknown method
        path.unlink()
        return None


@dataclass(frozen=True, slots=True)
class _ChunkTokens:
    """Where in the spool the tokens of a chunk's texts are, and how many each text has (m,)."""

    segment: TokenSegment
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
    def read(cls, chunk: Mapping[str, NDArray[Any]]) -> _ChunkTokens:
        """What `arrays` gave; raises KeyError or ValueError for a chunk without it."""
        start, count = chunk["segment"].tolist()
        return cls(TokenSegment(int(start), int(count), chunk["digest"].tobytes()), chunk["lengths"])

    def fits(self, spool: TokenFile, texts: int) -> bool:
        """Whether these are the tokens of so many texts, and the spool has them."""
        lengths = self.lengths
        if lengths.shape != (texts,) or lengths.dtype != np.int32 or lengths.min(initial=0) < 0:
            return False
        return int(lengths.sum(dtype=np.int64)) == self.segment.count and spool.is_whole(self.segment)


# Vectors and tokens at hand, from earlier versions and interrupted runs, by the fingerprint of their text.

_COPIED_ROWS = 16_384
_BLOCK_ROWS = 4_096
"""Products whose tokens are in memory at once: some ten megabytes."""


class TokenCache:
    """The tokens at hand. Of two sources with the same text the one that came first counts."""

    def __init__(self) -> None:
        self._sources: list[tuple[KeyTable, TokenRuns]] = []

    def add(self, table: KeyTable, tokens: TokenRuns) -> None:
        """Takes tokens (m texts) and where their keys stand."""
        self._sources.append((table, tokens))

    def write(self, keys: Keys, writer: StatesWriter) -> None:
        """Writes the tokens of the texts with these keys (n, 16) in their order; raises KeyError for one without."""
        for start in range(0, len(keys), _BLOCK_ROWS):
            writer.add(*self._block(keys[start : start + _BLOCK_ROWS]))

    def _block(self, keys: Keys) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int32]]:
        """Ids and states of the tokens of b texts end to end, and the number of each one's."""
        lengths, found = np.zeros(len(keys), np.int32), self._locate(keys)
        for tokens, rows, places in found:
            lengths[rows] = tokens.lengths[places]
        begins = np.cumsum(lengths, dtype=np.int64) - lengths
        total, dimension = int(lengths.sum()), self._sources[0][1].states.shape[1]
        ids, states = np.empty(total, np.int32), np.empty((total, dimension), np.int8)
        for tokens, rows, places in found:
            into, at = run_indices(begins[rows], lengths[rows]), run_indices(tokens.starts[places], lengths[rows])
            ids[into], states[into] = tokens.ids[at], tokens.states[at]
        return ids, states, lengths

    def _locate(self, keys: Keys) -> list[tuple[TokenRuns, NDArray[np.int64], NDArray[np.int64]]]:
        """Each source that is needed, with rows of `keys` and their places in it."""
        found, rows = [], np.arange(len(keys))
        for table, tokens in self._sources:
            places = table.find(keys[rows])
            is_here = places >= 0
            if is_here.any():
                found.append((tokens, rows[is_here], places[is_here]))
            rows = rows[~is_here]
        if len(rows):
            raise KeyError(f"{len(rows)} texts have no tokens")
        return found


class VectorCache:
    """The vectors at hand, by the fingerprint of the text that they were made from."""

    def __init__(self, dimension: int, tokens: TokenCache | None = None) -> None:
        """Where `tokens` are wanted, a vector without them is of no use: one run of the encoder gives both."""
        self._dimension = dimension
        self.tokens = tokens
        self._sources: list[tuple[KeyTable, Vectors]] = []

    def add(self, keys: Keys, vectors: Vectors, tokens: TokenRuns | None = None) -> None:
        """Takes vectors (n, dimension) and tokens with their keys (n, 16); those of another dimension are of no use."""
        fits = len(keys) == len(vectors) and vectors.ndim == 2 and vectors.shape[1] == self._dimension
        if not (fits and len(keys)):
            return
        table = KeyTable(keys)
        if self.tokens is not None:
            if tokens is None or len(tokens.lengths) != len(keys):
                return
            self.tokens.add(table, tokens)
        self._sources.append((table, vectors))

    def contains(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the keys (n, 16) have a vector here (n,)."""
        found = np.zeros(len(keys), dtype=bool)
        for table, _ in self._sources:
            found |= table.find(keys) >= 0
        return found

    def fill(self, keys: Keys, rows: Rows, into: Vectors) -> None:
        """Copies the vectors of `keys` (n, 16) to the `rows` (n,) of `into`; the source that came first counts.

        Raises KeyError for a key without a vector.
        """
        for table, vectors in self._sources:
            places = table.find(keys)
            found = places >= 0
            for start in range(0, int(found.sum()), _COPIED_ROWS):
                piece = slice(start, start + _COPIED_ROWS)
                into[rows[found][piece]] = vectors[places[found][piece]]
            keys, rows = keys[~found], rows[~found]
        if len(keys):
            raise KeyError(f"{len(keys)} texts have no vector")


# Fingerprints of the texts that products are encoded by, and where they stand in an array of them.

KEY_BYTES = 16
Keys = NDArray[np.uint8]


def text_key(text: str) -> bytes:
    """The fingerprint of a text (16 bytes): equal texts have equal vectors."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def key_array(keys: Sequence[bytes] | bytes | bytearray) -> Keys:
    """Fingerprints, one by one or end to end, as an array (n, 16)."""
    flat = keys if isinstance(keys, bytes | bytearray) else b"".join(keys)
    return np.frombuffer(flat, dtype=np.uint8).reshape(-1, KEY_BYTES)


class KeyTable:
    """Where keys stand in an array of them."""

    def __init__(self, keys: Keys) -> None:
        whole = whole_keys(keys)
        self._order = np.argsort(whole, kind="stable")
        self._sorted = whole[self._order]

    def find(self, keys: Keys) -> Rows:
        """For each key (n, 16) its place, the first of equal ones, or -1 (n,)."""
        wanted = whole_keys(keys)
        at = np.searchsorted(self._sorted, wanted).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], -1)


def whole_keys(keys: Keys) -> NDArray[np.void]:
    """Each key as one value, which compares by its bytes (n,)."""
    return np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").reshape(-1)
