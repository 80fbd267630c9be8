"""How popular products are, as the ranker reads it: one small file beside the index, made with the tables of events.

STORE/popularity.json holds the decayed scores of the derived table `popularity` by product id, under a checksum. It is
replaced whole, and engines take it up by themselves. Products go by their ids, so a new version or a live change leaves
a product as popular as it was. Nobody is told apart by it: products of too few shoppers are not in that table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrieval.keyword import Rows
from retrieval.store_files import POPULARITY_FILE
from service.sealed_json import SealedJson
from service.served_file import ServedFile

SCHEMA = 1
"""Counts up when the file changes so that an older program could not read it."""
MOST_BYTES = 256 << 20
"""Of the file: several million products."""
_FILE = SealedJson("scores", SCHEMA, msgspec.json.Decoder(dict[str, float]))


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


UNKNOWN = Popularity({})
"""Where nobody has chosen anything yet, or nothing of it is told."""
PopularBefore = Callable[[datetime], Popularity]
"""Tells what was popular at a time, by nothing that came later."""


def write_popularity(root: Path, scores: Mapping[str, float], made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError where it cannot be written."""
    _FILE.write(root / POPULARITY_FILE, dict(sorted(scores.items())), made)


def read_popularity(root: Path) -> Popularity:
    """What the file of an index directory says; UNKNOWN where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    scores = _FILE.read(root / POPULARITY_FILE, MOST_BYTES, _problem)
    return UNKNOWN if scores is None else Popularity.of_scores(scores)


def _problem(scores: Mapping[str, float]) -> str:
    is_right = all(0 <= score < math.inf for score in scores.values())
    return "" if is_right else "holds scores that are negative or not finite"


class ServedPopularity(ServedFile[Popularity]):
    """The popularity that an engine ranks by."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / POPULARITY_FILE, lambda: read_popularity(root), UNKNOWN, "no product counts as popular")
