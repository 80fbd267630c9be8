"""A teacher's scores, kept on disk by the texts of each pair: scoring goes on where it was interrupted, and the next
training asks only about pairs that are new."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from rerank.teacher.teacher import Teacher
from retrieval.manifest import open_scratch, scratch_path

Floats = NDArray[np.float32]
Keys = NDArray[np.uint64]
_PART = 8_192
"""Pairs between two writes: some 20 seconds of a teacher on two cores."""
_SUFFIX = ".npz"


class TeacherScores:
    """The kept scores of one teacher, and the teacher for those that are not kept yet.

    FOLDER/<identity of the teacher>/<any name>.npz hold keys (k,) uint64, ascending, and scores (k,) float32. A file
    that cannot be read is passed over: its pairs are scored again. One process at a time writes to a folder.
    """

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        self._teacher = teacher
        self._folder = folder / teacher.identity
        self._folder.mkdir(parents=True, exist_ok=True)

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] = lambda _count: None
    ) -> Floats:
        """What the teacher says of the pairs (queries[i], texts[i]), (n,); raises what the teacher raises."""
        keys = np.array([_key(*pair) for pair in zip(queries, texts, strict=True)], np.uint64)
        known, scores = self._kept()
        missing = np.flatnonzero(~np.isin(keys, known))
        missing = missing[np.unique(keys[missing], return_index=True)[1]]
        progress(len(keys) - len(missing))
        # Pairs of all lengths in every part, so that each takes as long as the others and progress is even.
        for part in _parts(np.sort(missing)):
            found = self._teacher.score([queries[at] for at in part], [texts[at] for at in part], progress)
            self._keep(keys[part], found)
        known, scores = self._kept()
        return np.asarray(scores[np.searchsorted(known, keys)], np.float32)

    def compact(self) -> None:
        """Puts all files into one."""
        files = sorted(self._folder.glob(f"*{_SUFFIX}"))
        if len(files) > 1:
            kept = self._keep(*self._kept())
            for path in files:
                if path != kept:
                    path.unlink(missing_ok=True)

    def _kept(self) -> tuple[Keys, Floats]:
        parts = [part for path in sorted(self._folder.glob(f"*{_SUFFIX}")) if (part := _read(path)) is not None]
        keys = np.concatenate([np.empty(0, np.uint64), *(part[0] for part in parts)])
        scores = np.concatenate([np.empty(0, np.float32), *(part[1] for part in parts)])
        keys, first = np.unique(keys, return_index=True)
        return keys, scores[first]

    def _keep(self, keys: Keys, scores: Floats) -> Path:
        order = np.argsort(keys)
        name = xxhash.xxh3_64_hexdigest(keys[order].tobytes())
        path = self._folder / f"{name}{_SUFFIX}"
        with open_scratch(scratch_path(path)) as file:
            np.savez(file, keys=keys[order], scores=scores[order])
        scratch_path(path).replace(path)
        return path


def _parts(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.array_split(places, -(-len(places) // _PART)) if len(places) else []


def _key(query: str, text: str) -> int:
    """Of 64 bits: among a hundred million pairs two share one with a chance of 3 in 10,000."""
    return xxhash.xxh3_64_intdigest(f"{len(query)}:{query}{text}".encode("utf-8", "surrogatepass"))


def _read(path: Path) -> tuple[Keys, Floats] | None:
    try:
        with np.load(path, allow_pickle=False) as part:
            keys, scores = part["keys"], part["scores"]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    fits = keys.dtype == np.uint64 and scores.dtype == np.float32 and keys.shape == scores.shape and keys.ndim == 1
    return (keys, scores) if fits else None
