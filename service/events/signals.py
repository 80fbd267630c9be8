"""Signals derived from events that the engine ranks and recommends by: popularity, co-views and query memory.

STORE/popularity.json holds the decayed scores of the derived table `popularity`, STORE/coviews.bin the first rows of
each product in the derived table `neighbours` of the kind "view", STORE/query_memory.bin the derived table
`query_memory`. Each refresh of the tables replaces them, under a checksum. They name products by id, so that a new
version or a live change leaves them valid, and have no product or pair of too few shoppers.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from rerank.ranker.memory import NO_MEMORY, RATIOS, QueryMemory
from retrieval.errors import StoreDamagedError
from retrieval.index.keyword import Rows
from retrieval.store.files import SealedArrays, SealedFile
from retrieval.store.manifest import COVIEWS_FILE, MEMORY_FILE, POPULARITY_FILE

CURE = "shelfwise events refresh creates it again"
SCHEMA = 1
"""Counts up when the file changes so that an older program could not read it."""
MOST_POPULARITY_BYTES = 256 << 20
"""Of the file: several million products."""
_POPULARITY_FILE = SealedFile(SCHEMA, CURE, "scores", msgspec.json.Decoder(dict[str, float]))


@dataclass(frozen=True, slots=True)
class Popularity:
    """The products that were chosen of late, by id: each one's score as a share of the highest in the store."""

    shares: Mapping[str, float]

    @classmethod
    def of_scores(cls, scores: Mapping[str, float]) -> Popularity:
        """From decayed scores, none of them negative."""
        highest = max(scores.values(), default=0.0)
        return cls({name: score / highest for name, score in scores.items() if score > 0})

    def of(self, ids: Iterable[str]) -> NDArray[np.float32]:
        """The shares (c,) of products; 0 for one that nobody, or hardly anybody, has chosen."""
        return np.array([self.shares.get(name, 0.0) for name in ids], np.float32)

    def of_rows(self, rows: Rows, id_of: Callable[[int], str]) -> NDArray[np.float32]:
        """The same of products by their rows (c,), whose ids are looked up only where anything is known."""
        if not self.shares:
            return np.zeros(len(rows), np.float32)
        return self.of(map(id_of, rows.tolist()))


NO_POPULARITY = Popularity({})
"""Where nobody has chosen anything yet, or nothing of it is told."""
PopularBefore = Callable[[datetime], Popularity]
"""Tells what was popular at a time, by nothing that came later."""


def write_popularity(root: Path, scores: Mapping[str, float], made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError where it cannot be written."""
    _POPULARITY_FILE.write(root / POPULARITY_FILE, dict(sorted(scores.items())), made)


def read_popularity(root: Path) -> Popularity:
    """What the file of an index directory says; NO_POPULARITY where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    scores = _POPULARITY_FILE.read(root / POPULARITY_FILE, MOST_POPULARITY_BYTES, _problem)
    return NO_POPULARITY if scores is None else Popularity.of_scores(scores)


def _problem(scores: Mapping[str, float]) -> str:
    is_right = all(0 <= score < math.inf for score in scores.values())
    return "" if is_right else "holds scores that are negative or not finite"


MAX_COVIEWS = 20
"""Products that are kept beside each one."""
MOST_COVIEW_BYTES = 1 << 30
"""Of the file: several million products."""
_COVIEWS_FILE = SealedArrays(
    SCHEMA, CURE, {"ids": "|u1", "ends": "<i8", "starts": "<i8", "others": "<u4", "strengths": "<f4"}
)


@dataclass(frozen=True, slots=True, eq=False)
class CoViews:
    """Products by their ids, in the order of their UTF-8, with those that the same shoppers looked at. Read-only."""

    ids: NDArray[np.uint8]
    """The bytes of all ids, one after the other."""
    ends: NDArray[np.int64]
    """(n + 1,): id i is `ids[ends[i]:ends[i + 1]]`."""
    starts: NDArray[np.int64]
    """(n + 1,): the neighbours of product i are `others[starts[i]:starts[i + 1]]`, the strongest first."""
    others: NDArray[np.uint32]
    """(p,): products by their places."""
    strengths: NDArray[np.float32]
    """(p,): the similarity of `neighbours`, 0 to 1: a cosine over shoppers, drawn to 0 where few have seen both."""

    @classmethod
    def of_pairs(cls, products: Sequence[str], others: Sequence[str], strengths: NDArray[np.floating]) -> Self:
        """From pairs (p,) of products, in any order; of each product the `MAX_COVIEWS` strongest are kept."""
        names = sorted({*products, *others})
        place_of = {name: place for place, name in enumerate(names)}
        owner, other = (np.array([place_of[name] for name in each], np.int64) for each in (products, others))
        order = np.lexsort((other, -strengths, owner))
        owner, other, kept = owner[order], other[order], strengths[order]
        first = np.searchsorted(owner, owner)
        is_kept = np.arange(len(owner)) - first < MAX_COVIEWS
        encoded = [name.encode() for name in names]
        return cls(
            np.frombuffer(b"".join(encoded), np.uint8),
            np.concatenate([[0], np.cumsum([len(name) for name in encoded])]).astype(np.int64),
            np.searchsorted(owner[is_kept], np.arange(len(names) + 1)).astype(np.int64),
            other[is_kept].astype(np.uint32),
            kept[is_kept].astype(np.float32),
        )

    def __len__(self) -> int:
        """Products that anything is known of."""
        return len(self.ends) - 1

    def of(self, product_id: str) -> list[tuple[str, float]]:
        """What the same shoppers looked at, the strongest first, each with its strength; nothing where too few did."""
        wanted = product_id.encode("utf-8", "surrogatepass")
        place = bisect.bisect_left(range(len(self)), wanted, key=self._bytes)
        if place == len(self) or self._bytes(place) != wanted:
            return []
        here = slice(self.starts[place], self.starts[place + 1])
        names = [self._bytes(other).decode() for other in self.others[here].tolist()]
        return list(zip(names, self.strengths[here].tolist(), strict=True))

    def problem(self) -> str:
        """What is wrong with the arrays, or nothing."""
        if not len(self.ends) == len(self.starts) > 0:
            return "holds other ids than neighbours"
        for bounds, held in ((self.ends, self.ids), (self.starts, self.others)):
            if bounds[0] != 0 or bounds[-1] != len(held) or (np.diff(bounds) < 0).any():
                return "holds bounds that do not fit"
        if len(self.others) != len(self.strengths) or (self.others >= len(self)).any():
            return "names neighbours that it does not hold"
        is_right = ((self.strengths >= 0) & (self.strengths <= 1)).all()
        return "" if is_right else "holds strengths that are not within 0 and 1"

    def _bytes(self, place: int) -> bytes:
        return self.ids[self.ends[place] : self.ends[place + 1]].tobytes()


NO_COVIEWS = CoViews.of_pairs([], [], np.empty(0, np.float32))
"""Where nobody has looked at anything yet, or nothing of it is told."""


def write_coviews(root: Path, coviews: CoViews, made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError where it cannot be written."""
    _COVIEWS_FILE.write(root / COVIEWS_FILE, _arrays_of(coviews), made)


def read_coviews(root: Path) -> CoViews:
    """What the file of an index directory says; NO_COVIEWS where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    path = root / COVIEWS_FILE
    arrays = _COVIEWS_FILE.read(path, MOST_COVIEW_BYTES)
    if arrays is None:
        return NO_COVIEWS
    return _whole(CoViews(**arrays), path)


MOST_MEMORY_BYTES = 4 << 30
"""Of the file: a hundred million rows."""
_MEMORY_FILE = SealedArrays(
    SCHEMA,
    CURE,
    {
        "keys": "<u8",
        "starts": "<i8",
        "members": "<u8",
        **dict.fromkeys(RATIOS, "<f4"),
        **dict.fromkeys(("products", "category", "brand", "price"), "<u8"),
    },
)


def write_memory(root: Path, memory: QueryMemory, made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError where it cannot be written."""
    _MEMORY_FILE.write(root / MEMORY_FILE, _arrays_of(memory), made)


def read_memory(root: Path) -> QueryMemory:
    """What the file of an index directory says, its rows memory-mapped; NO_MEMORY where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    path = root / MEMORY_FILE
    arrays = _MEMORY_FILE.read(path, MOST_MEMORY_BYTES, mapped=True)
    if arrays is None:
        return NO_MEMORY
    # Searched whole, and not aligned in the file: numpy would copy them for each search.
    searched = {name: arrays[name].copy() for name in ("keys", "starts", "products")}
    return _whole(QueryMemory(**{**arrays, **searched}), path)


Held = TypeVar("Held", CoViews, QueryMemory)


def _arrays_of(held: CoViews | QueryMemory) -> dict[str, NDArray[Any]]:
    return {each.name: getattr(held, each.name) for each in fields(held)}


def _whole(held: Held, path: Path) -> Held:
    if problem := held.problem():
        raise StoreDamagedError(f"{path} {problem}; {CURE}")
    return held
