"""Which products the same shoppers looked at, as `similar` reads it: one file beside the index, made with the tables of
events.

STORE/coviews.bin holds the first rows of each product in the derived table `neighbours`, those of the kind "view",
under a checksum. It is replaced whole, and engines take it up by themselves. Products go by their ids, so a new version
or a live change leaves what is known of a product. Nobody is told apart by it: pairs of too few shoppers are not in
that table.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import StoreDamagedError
from retrieval.store_files import COVIEWS_FILE
from service.sealed_arrays import SealedArrays
from service.sealed_files import CURE
from service.served_file import ServedFile

SCHEMA = 1
"""Counts up when the file changes so that an older program could not read it."""
MOST = 20
"""Products that are kept beside each one."""
MOST_BYTES = 1 << 30
"""Of the file: several million products."""
_FILE = SealedArrays(SCHEMA, {"ids": "|u1", "ends": "<i8", "starts": "<i8", "others": "<u4", "strengths": "<f4"})


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
        """From pairs (p,) of products, in any order; of each product the `MOST` strongest are kept."""
        names = sorted({*products, *others})
        place_of = {name: place for place, name in enumerate(names)}
        owner, other = (np.array([place_of[name] for name in each], np.int64) for each in (products, others))
        order = np.lexsort((other, -strengths, owner))
        owner, other, kept = owner[order], other[order], strengths[order]
        first = np.searchsorted(owner, owner)
        is_kept = np.arange(len(owner)) - first < MOST
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
    arrays: dict[str, NDArray[Any]] = {each.name: getattr(coviews, each.name) for each in fields(coviews)}
    _FILE.write(root / COVIEWS_FILE, arrays, made)


def read_coviews(root: Path) -> CoViews:
    """What the file of an index directory says; NO_COVIEWS where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    path = root / COVIEWS_FILE
    arrays = _FILE.read(path, MOST_BYTES)
    if arrays is None:
        return NO_COVIEWS
    coviews = CoViews(**arrays)
    if problem := coviews.problem():
        raise StoreDamagedError(f"{path} {problem}; {CURE}")
    return coviews


class ServedCoViews(ServedFile[CoViews]):
    """The co-views that an engine mixes in."""

    def __init__(self, root: Path) -> None:
        super().__init__(
            root / COVIEWS_FILE,
            lambda: read_coviews(root),
            NO_COVIEWS,
            "similar products are found by their texts alone",
        )
