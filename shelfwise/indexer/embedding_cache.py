"""Cache of vectors and tokens by the fingerprint of their text, and checkpoints of what a run has encoded so far."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from shelfwise.retrieval.index.token_states import StatesWriter, TokenRuns, run_indices
from shelfwise.retrieval.index.vectors import Rows, Vectors
from shelfwise.retrieval.store.files import atomic_file

KEY_BYTES = 16
Keys = NDArray[np.uint8]


def text_key(text: str) -> bytes:
    """The fingerprint of a text (16 bytes): equal texts have equal vectors."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def key_array(keys: Sequence[bytes] | bytes | bytearray) -> Keys:
    """Fingerprints, separate or concatenated, as an array (n, 16)."""
    flat = keys if isinstance(keys, bytes | bytearray) else b"".join(keys)
    return np.frombuffer(flat, dtype=np.uint8).reshape(-1, KEY_BYTES)


class KeyTable:
    """An index of the keys in an array."""

    def __init__(self, keys: Keys) -> None:
        self._whole = whole_keys(keys)
        halves = _first_halves(keys)
        self._order = np.argsort(halves, kind="stable")
        self._sorted = halves[self._order]

    def find(self, keys: Keys) -> Rows:
        """The row of each key (n, 16), the first of equal ones, or -1 (n,).

        If keys agree only in their first half, about once in 10^19 pairs, the first of them is found.
        """
        # Lookup by number is ten times as fast as by whole key.
        at = np.searchsorted(self._sorted, _first_halves(keys)).clip(max=len(self._sorted) - 1)
        rows = self._order[at]
        return np.where(self._whole[rows] == whole_keys(keys), rows, -1)


def whole_keys(keys: Keys) -> NDArray[np.void]:
    """Each key as one value that compares by its bytes (n,)."""
    return np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").reshape(-1)


def _first_halves(keys: Keys) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys[:, : KEY_BYTES // 2]).view(np.uint64).reshape(-1)


_COPIED_ROWS = 16_384
_BLOCK_ROWS = 4_096
"""The number of products whose tokens are in memory at once: some ten megabytes."""


_NO_IDS = np.empty(0, np.int32)


class TokenCache:
    """Tokens of texts. If several sources have the same text, the first source counts."""

    def __init__(self) -> None:
        self._sources: list[tuple[KeyTable, TokenRuns]] = []

    def add(self, table: KeyTable, tokens: TokenRuns) -> None:
        """Adds tokens (of m texts) with the table of their keys."""
        self._sources.append((table, tokens))

    def write(self, keys: Keys, writer: StatesWriter) -> None:
        """Writes the tokens of the texts with these keys (n, 16), in order; raises KeyError for one without."""
        for start in range(0, len(keys), _BLOCK_ROWS):
            writer.add(*self._block(keys[start : start + _BLOCK_ROWS]))

    def ids(self, keys: Keys) -> list[NDArray[np.int32]]:
        """The token ids of the texts with these keys (n, 16); raises KeyError for a text without tokens."""
        ids_by_key = [_NO_IDS] * len(keys)
        for tokens, rows, positions in self._locate(keys):
            ids, starts, lengths = np.asarray(tokens.ids), tokens.starts[positions], tokens.lengths[positions]
            for row, start, length in zip(rows.tolist(), starts.tolist(), lengths.tolist(), strict=True):
                ids_by_key[row] = ids[start : start + length]
        return ids_by_key

    def _block(self, keys: Keys) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int32]]:
        """Ids and states of the tokens of b texts, concatenated, and the number of tokens of each text."""
        lengths = np.zeros(len(keys), np.int32)
        matches = self._locate(keys)
        for tokens, rows, positions in matches:
            lengths[rows] = tokens.lengths[positions]
        begins = np.cumsum(lengths, dtype=np.int64) - lengths
        total = int(lengths.sum())
        dimension = self._sources[0][1].states.shape[1]
        ids = np.empty(total, np.int32)
        states = np.empty((total, dimension), np.int8)
        for tokens, rows, positions in matches:
            into = run_indices(begins[rows], lengths[rows])
            at = run_indices(tokens.starts[positions], lengths[rows])
            ids[into], states[into] = tokens.ids[at], tokens.states[at]
        return ids, states, lengths

    def _locate(self, keys: Keys) -> list[tuple[TokenRuns, NDArray[np.int64], NDArray[np.int64]]]:
        """Each needed source, with rows of `keys` and their positions in it."""
        matches = []
        rows = np.arange(len(keys))
        for table, tokens in self._sources:
            positions = table.find(keys[rows])
            is_here = positions >= 0
            if is_here.any():
                matches.append((tokens, rows[is_here], positions[is_here]))
            rows = rows[~is_here]
        if len(rows):
            raise KeyError(f"{len(rows)} texts have no tokens")
        return matches


class VectorCache:
    """Vectors by the fingerprint of their text."""

    def __init__(self, dimension: int, tokens: TokenCache | None = None) -> None:
        """With `tokens`, a vector without tokens is ignored, since one run of the encoder gives both."""
        self.dimension = dimension
        self.tokens = tokens
        self._sources: list[tuple[KeyTable, Vectors]] = []

    def add(self, keys: Keys, vectors: Vectors, tokens: TokenRuns | None = None) -> None:
        """Adds vectors (n, dimension) and tokens by their keys (n, 16); those of another dimension are ignored."""
        fits = len(keys) == len(vectors) and vectors.ndim == 2 and vectors.shape[1] == self.dimension
        if not (fits and len(keys)):
            return
        table = KeyTable(keys)
        if self.tokens is not None:
            if tokens is None or len(tokens.lengths) != len(keys):
                return
            self.tokens.add(table, tokens)
        self._sources.append((table, vectors))

    def contains(self, keys: Keys) -> NDArray[np.bool_]:
        """Whether each of the keys (n, 16) has a vector here (n,)."""
        is_present = np.zeros(len(keys), dtype=bool)
        for table, _ in self._sources:
            is_present |= table.find(keys) >= 0
        return is_present

    def fill(self, keys: Keys, rows: Rows, into: Vectors) -> None:
        """Copies the vectors of `keys` (n, 16) to the `rows` (n,) of `into`, each from the first source that has it.

        Raises KeyError for a key without a vector.
        """
        for table, vectors in self._sources:
            positions = table.find(keys)
            is_present = positions >= 0
            for start in range(0, int(is_present.sum()), _COPIED_ROWS):
                piece = slice(start, start + _COPIED_ROWS)
                into[rows[is_present][piece]] = vectors[positions[is_present][piece]]
            keys, rows = keys[~is_present], rows[~is_present]
        if len(keys):
            raise KeyError(f"{len(keys)} texts have no vector")


@dataclass(frozen=True, slots=True)
class ChunkTokens:
    """The position of a chunk's tokens in a token file: the number of the first token, the number of tokens of each
    text (m,), and the XXH3 checksum of all (16 bytes)."""

    start: int
    lengths: NDArray[np.int32]
    digest: bytes

    @property
    def starts(self) -> NDArray[np.int64]:
        """The number of each text's first token (m,)."""
        return self.start + np.cumsum(self.lengths, dtype=np.int64) - self.lengths


class TokenFile:
    """The tokens of encoded texts, chunk after chunk, memory-mapped. Tokens that a killed run wrote without a chunk are
    ignored."""

    def __init__(self, path: Path, dimension: int) -> None:
        self._path = path
        self._kind = np.dtype([("id", np.int32), ("state", np.int8, (dimension,))])

    def append(self, tokens: TokenRuns) -> ChunkTokens:
        """Adds concatenated tokens, as returned by `shelfwise.retrieval.index.token_states.quantise_tokens`."""
        records = np.empty(len(tokens.ids), self._kind)
        records["id"], records["state"] = tokens.ids, tokens.states
        content = records.tobytes()
        with self._path.open("ab") as file:
            # A killed run may have left a partial record.
            file.write(bytes(-file.tell() % self._kind.itemsize))
            start = file.tell() // self._kind.itemsize
            file.write(content)
        return ChunkTokens(start, tokens.lengths, xxhash.xxh3_128_digest(content))

    def has(self, chunk: ChunkTokens, texts: int) -> bool:
        """Whether the file has the tokens of a chunk of `texts` texts, as they were written."""
        lengths = chunk.lengths
        size = self._kind.itemsize
        if lengths.shape != (texts,) or lengths.dtype != np.int32 or lengths.min(initial=0) < 0:
            return False
        count = int(lengths.sum(dtype=np.int64))
        if not 0 <= chunk.start <= chunk.start + count <= self._count():
            return False
        with self._path.open("rb") as file:
            content = os.pread(file.fileno(), count * size, chunk.start * size)
        return xxhash.xxh3_128_digest(content) == chunk.digest

    def runs(self, chunks: Sequence[ChunkTokens]) -> TokenRuns:
        """The tokens of all texts of some chunks, in order."""
        if count := self._count():
            records = np.asarray(np.memmap(self._path, self._kind, "r", shape=(count,)))
        else:
            records = np.empty(0, self._kind)
        starts = np.concatenate([chunk.starts for chunk in chunks])
        lengths = np.concatenate([chunk.lengths for chunk in chunks])
        return TokenRuns(records["id"], records["state"], starts, lengths)

    def _count(self) -> int:
        return self._path.stat().st_size // self._kind.itemsize if self._path.exists() else 0


class EncodingCheckpoints:
    """A folder of encoded chunks, from which an interrupted run continues."""

    def __init__(self, folder: Path, dimension: int, state_dimension: int = 0) -> None:
        """`dimension` is that of the vectors; `state_dimension` is that of the token states, 0 if none are kept."""
        self._folder = folder
        self._dimension = dimension
        self._tokens = TokenFile(folder / f"tokens-{state_dimension}.bin", state_dimension) if state_dimension else None
        self._saved: list[tuple[Keys, ChunkTokens]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, cache: VectorCache) -> int:
        """Adds each intact chunk to `cache` and returns the number of vectors; a damaged chunk is removed."""
        chunks = [chunk for path in sorted(self._folder.glob("chunk-*.npz")) if (chunk := self._chunk(path))]
        if not chunks:
            return 0
        keys = np.concatenate([each[0] for each in chunks])
        tokens = self._tokens.runs([each[2] for each in chunks if each[2]]) if self._tokens else None
        cache.add(keys, np.concatenate([each[1] for each in chunks]), tokens)
        return len(keys)

    def save(self, keys: Keys, vectors: Vectors, tokens: TokenRuns | None = None) -> None:
        """Saves a chunk atomically: a kill during the write leaves no part of it."""
        name = f"chunk-{xxhash.xxh3_64_hexdigest(keys.tobytes())}.npz"
        arrays: dict[str, NDArray[Any]] = {"keys": keys, "vectors": vectors}
        if self._tokens is not None and tokens is not None:
            chunk = self._tokens.append(tokens)
            self._saved.append((keys, chunk))
            digest = np.frombuffer(chunk.digest, np.uint8)
            arrays |= {"start": np.array([chunk.start], np.int64), "lengths": chunk.lengths, "digest": digest}
        with atomic_file(self._folder / name, durable=False) as file:
            np.savez(file, allow_pickle=False, **arrays)

    def add_saved_tokens(self, cache: VectorCache) -> None:
        """Adds the tokens of the chunks that this run has saved."""
        if cache.tokens is not None and self._tokens is not None and self._saved:
            keys, chunks = zip(*self._saved, strict=True)
            cache.tokens.add(KeyTable(np.concatenate(keys)), self._tokens.runs(chunks))

    def _chunk(self, path: Path) -> tuple[Keys, Vectors, ChunkTokens | None] | None:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                keys = arrays["keys"]
                vectors = arrays["vectors"]
                tokens = None
                if self._tokens is not None:
                    (start,) = arrays["start"].tolist()
                    tokens = ChunkTokens(int(start), arrays["lengths"], arrays["digest"].tobytes())
            shapes = (len(keys), KEY_BYTES), (len(keys), self._dimension)
            is_whole = (keys.shape, vectors.shape) == shapes and (keys.dtype, vectors.dtype) == (np.uint8, np.float32)
            if is_whole and (self._tokens is None or (tokens and self._tokens.has(tokens, len(keys)))):
                return keys, vectors, tokens
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            pass  # RuntimeError: a flipped bit makes an archive look encrypted or packed by an unknown method
        path.unlink()
        return None
