"""Signals derived from events, by which the engine ranks and recommends: popularity, relations and query memory.

INDEX/popularity.json contains the decayed scores of the derived table `popularity`; INDEX/relations.bin the first rows
of each product in the derived tables `neighbours`, of the kind "view", and `relations`; INDEX/query_memory.bin the
derived table `query_memory`. Each refresh of the tables replaces them, under a checksum. They refer to products by id,
so they stay valid after a new version or a live change, and omit products and pairs of too few shoppers.
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

from shelfwise.rerank.ranker.memory import NO_MEMORY, RATIOS, QueryMemory
from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.index.keyword import Rows
from shelfwise.retrieval.records import Relation, RelationEvidence, RelationKind
from shelfwise.retrieval.store.files import SealedArrays, SealedFile
from shelfwise.retrieval.store.manifest import MEMORY_FILE, POPULARITY_FILE, RELATIONS_FILE

CURE = "shelfwise events refresh creates it again"
SCHEMA = 1
"""Incremented when the file changes so that an older program cannot read it."""
MAX_POPULARITY_BYTES = 256 << 20
"""Maximum size of the file: several million products."""
_POPULARITY_FILE = SealedFile(SCHEMA, CURE, "scores", msgspec.json.Decoder(dict[str, float]))


@dataclass(frozen=True, slots=True)
class Popularity:
    """The recently chosen products, by id: each one's score as a share of the highest in the store."""

    shares: Mapping[str, float]

    @classmethod
    def of_scores(cls, scores: Mapping[str, float]) -> Popularity:
        """Builds it from decayed scores, none of them negative."""
        highest = max(scores.values(), default=0.0)
        return cls({name: score / highest for name, score in scores.items() if score > 0})

    def of(self, ids: Iterable[str]) -> NDArray[np.float32]:
        """The shares (c,) of products; 0 for one that nobody, or hardly anybody, has chosen."""
        return np.array([self.shares.get(name, 0.0) for name in ids], np.float32)

    def of_rows(self, rows: Rows, id_of: Callable[[int], str]) -> NDArray[np.float32]:
        """The shares of products by row (c,); ids are only looked up if any popularity is known."""
        if not self.shares:
            return np.zeros(len(rows), np.float32)
        return self.of(map(id_of, rows.tolist()))


NO_POPULARITY = Popularity({})
"""Popularity without any choices, or if it is not available."""
PopularBefore = Callable[[datetime], Popularity]
"""Popularity at a time, from earlier events only."""


def write_popularity(root: Path, scores: Mapping[str, float], made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError if it cannot be written."""
    _POPULARITY_FILE.write(root / POPULARITY_FILE, dict(sorted(scores.items())), made)


def read_popularity(root: Path) -> Popularity:
    """The popularity in the file of an index directory; NO_POPULARITY if there is none.

    Raises StoreDamagedError for a file that cannot be read or is damaged, StoreForeignError for one of another schema.
    """
    scores = _POPULARITY_FILE.read(root / POPULARITY_FILE, MAX_POPULARITY_BYTES, _problem)
    return NO_POPULARITY if scores is None else Popularity.of_scores(scores)


def _problem(scores: Mapping[str, float]) -> str:
    is_right = all(0 <= score < math.inf for score in scores.values())
    return "" if is_right else "contains scores that are negative or not finite"


MAX_RELATED = 20
"""Number of products stored for each product, kind of relation and direction."""
MAX_RELATIONS_BYTES = 4 << 30
"""Maximum size of the file: several million products."""
_RELATIONS_FILE = SealedArrays(
    SCHEMA,
    CURE,
    {
        "ids": "|u1",
        "ends": "<i8",
        "starts": "<i8",
        "others": "<u4",
        "strengths": "<f4",
        "kinds": "|u1",
        "evidence": "|u1",
        "shoppers": "<u4",
    },
)
CO_VIEW = 0
"""The code of a co-view; a relation has the position of its kind in `RelationKind`, from 1."""
_KINDS, _EVIDENCE = tuple(RelationKind), tuple(RelationEvidence)
_REVERSE = 0x80
"""Offset of the code of a relation seen from its other product."""
_TYPE_MARK = "\x1f"
"""Prefix of the name of a type, which has relations like a product."""


Pair = tuple[str, str, float, Relation | None]
"""Two products, or types as `type_node` names them, with the strength of their relation; None is a co-view."""


def kind_code(kind: RelationKind, *, reverse: bool = False) -> int:
    """The code of a relation in `Relations.kinds`."""
    return 1 + _KINDS.index(kind) + (_REVERSE if reverse else 0)


@dataclass(frozen=True, slots=True, eq=False)
class Relations:
    """Products by their ids, ordered as UTF-8, with products that the same shoppers viewed (co-views) and related
    products; product types with related types. Read-only."""

    ids: NDArray[np.uint8]
    """The concatenated bytes of all ids."""
    ends: NDArray[np.int64]
    """Shape (n + 1,): id i is `ids[ends[i]:ends[i + 1]]`."""
    starts: NDArray[np.int64]
    """Shape (n + 1,): the neighbours of product i are `others[starts[i]:starts[i + 1]]`, co-views first, strongest
    first within each kind."""
    others: NDArray[np.uint32]
    """Shape (p,): positions of products."""
    strengths: NDArray[np.float32]
    """Shape (p,), 0 to 1; for co-views the similarity of `neighbours`: a cosine over shoppers, less if few viewed."""
    kinds: NDArray[np.uint8]
    """Shape (p,): `CO_VIEW` or a `kind_code`."""
    evidence: NDArray[np.uint8]
    """Shape (p,): position of the evidence in `RelationEvidence`; 0 for co-views."""
    shoppers: NDArray[np.uint32]
    """Shape (p,): number of shoppers who support a relation; 0 for co-views."""

    @classmethod
    def of_pairs(cls, pairs: Iterable[Pair]) -> Self:
        """Builds it from pairs in any order, with the `MAX_RELATED` strongest of each product and kind. A relation
        counts from both sides, except a substitute, which only replaces the first product."""
        return cls._of_rows([row for pair in pairs for row in _rows_of(*pair)])

    @classmethod
    def _of_rows(cls, rows: Sequence[_Row]) -> Self:
        names = sorted({row[0] for row in rows} | {row[1] for row in rows})
        place_of = {name: place for place, name in enumerate(names)}
        owner = np.array([place_of[row[0]] for row in rows], np.int64)
        other = np.array([place_of[row[1]] for row in rows], np.int64)
        strengths, kinds = np.array([row[2] for row in rows], np.float32), np.array([row[3] for row in rows], np.uint8)
        evidence, shoppers = (np.array([row[column] for row in rows], np.int64) for column in (4, 5))
        order = np.lexsort((other, -strengths, kinds, owner))
        group = (owner * 256 + kinds)[order]
        order = order[np.arange(len(group)) - np.searchsorted(group, group) < MAX_RELATED]
        encoded = [name.encode() for name in names]
        return cls(
            np.frombuffer(b"".join(encoded), np.uint8),
            np.concatenate([[0], np.cumsum([len(name) for name in encoded])]).astype(np.int64),
            np.searchsorted(owner[order], np.arange(len(names) + 1)).astype(np.int64),
            other[order].astype(np.uint32),
            strengths[order],
            kinds[order],
            evidence[order].astype(np.uint8),
            shoppers[order].astype(np.uint32),
        )

    def __len__(self) -> int:
        """Number of products and types with any relation."""
        return len(self.ends) - 1

    def of(self, product_id: str) -> list[tuple[str, float]]:
        """The co-viewed products, strongest first, each with its strength; empty if too few shoppers viewed it."""
        here = self._pairs_of(product_id)
        here = slice(here.start, here.start + int(np.count_nonzero(self.kinds[here] == CO_VIEW)))
        names = [self._bytes(other).decode() for other in self.others[here].tolist()]
        return list(zip(names, self.strengths[here].tolist(), strict=True))

    def related(self, product_id: str) -> list[tuple[str, Relation]]:
        """The relations of a product with the other products' ids, strongest first within each kind."""
        here = self._pairs_of(product_id)
        columns = (self.others, self.kinds, self.evidence, self.strengths, self.shoppers)
        found = zip(*(column[here].tolist() for column in columns), strict=True)
        return [
            (self._bytes(other).decode(), _relation(kind, evidence, strength, shoppers))
            for other, kind, evidence, strength, shoppers in found
            if kind != CO_VIEW
        ]

    def related_types(self, name: str) -> list[tuple[str, Relation]]:
        """The types that go with a type, by `ProductTypes.name_of`, strongest first within each kind."""
        return [(other.removeprefix(_TYPE_MARK), relation) for other, relation in self.related(_TYPE_MARK + name)]

    def _pairs_of(self, name: str) -> slice:
        wanted = name.encode("utf-8", "surrogatepass")
        place = bisect.bisect_left(range(len(self)), wanted, key=self._bytes)
        if place == len(self) or self._bytes(place) != wanted:
            return slice(0, 0)
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def problem(self) -> str:
        """The problem of the arrays, or empty."""
        if not len(self.ends) == len(self.starts) > 0:
            return "has ids that do not fit its neighbours"
        for bounds, held in ((self.ends, self.ids), (self.starts, self.others)):
            if bounds[0] != 0 or bounds[-1] != len(held) or (np.diff(bounds) < 0).any():
                return "contains invalid bounds"
        columns = (self.strengths, self.kinds, self.evidence, self.shoppers)
        if any(len(each) != len(self.others) for each in columns) or (self.others >= len(self)).any():
            return "refers to neighbours that it does not contain"
        if ((self.kinds % _REVERSE) > len(_KINDS)).any() or (self.evidence >= len(_EVIDENCE)).any():
            return "contains unknown kinds of relations"
        is_right = ((self.strengths >= 0) & (self.strengths <= 1)).all()
        return "" if is_right else "contains strengths that are not within 0 and 1"

    def _bytes(self, place: int) -> bytes:
        return self.ids[self.ends[place] : self.ends[place + 1]].tobytes()


_Row = tuple[str, str, float, int, int, int]
"""A pair: its names, strength, code, the position of its evidence, and shoppers."""


def _rows_of(one: str, other: str, strength: float, relation: Relation | None) -> list[_Row]:
    """A pair as seen from its first product, and from its other one if that is useful."""
    if relation is None:
        return [(one, other, strength, CO_VIEW, 0, 0)]
    values = _EVIDENCE.index(relation.evidence), relation.shoppers
    rows = [(one, other, strength, kind_code(relation.kind), *values)]
    if relation.kind is not RelationKind.SUBSTITUTE:
        is_reverse = relation.kind is not RelationKind.COMPLEMENT
        rows.append((other, one, strength, kind_code(relation.kind, reverse=is_reverse), *values))
    return rows


def _relation(code: int, evidence: int, strength: float, shoppers: int) -> Relation:
    kind = _KINDS[code % _REVERSE - 1]
    return Relation(kind, _EVIDENCE[evidence], strength, shoppers, reverse=code >= _REVERSE)


def type_node(name: str) -> str:
    """The name of a type, by `ProductTypes.name_of`, in pairs."""
    return _TYPE_MARK + name


NO_RELATIONS = Relations.of_pairs(())
"""Relations without any views, or texts that name other products."""


def write_relations(root: Path, relations: Relations, made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError if it cannot be written."""
    _RELATIONS_FILE.write(root / RELATIONS_FILE, _arrays_of(relations), made)


def read_relations(root: Path) -> Relations:
    """The relations in the file of an index directory; NO_RELATIONS if there is none.

    Raises StoreDamagedError for a file that cannot be read or is damaged, StoreForeignError for one of another schema.
    """
    path = root / RELATIONS_FILE
    arrays = _RELATIONS_FILE.read(path, MAX_RELATIONS_BYTES)
    if arrays is None:
        return NO_RELATIONS
    return _whole(Relations(**arrays), path)


MAX_MEMORY_BYTES = 4 << 30
"""Maximum size of the file: a hundred million rows."""
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
    """Replaces the file of an index directory; raises StoreError if it cannot be written."""
    _MEMORY_FILE.write(root / MEMORY_FILE, _arrays_of(memory), made)


def read_memory(root: Path) -> QueryMemory:
    """The memory in the file of an index directory, its rows memory-mapped; NO_MEMORY if there is none.

    Raises StoreDamagedError for a file that cannot be read or is damaged, StoreForeignError for one of another schema.
    """
    path = root / MEMORY_FILE
    arrays = _MEMORY_FILE.read(path, MAX_MEMORY_BYTES, mapped=True)
    if arrays is None:
        return NO_MEMORY
    # Searched as a whole, and not aligned in the file, so numpy would copy them for each search.
    searched = {name: arrays[name].copy() for name in ("keys", "starts", "products")}
    return _whole(QueryMemory(**{**arrays, **searched}), path)


Held = TypeVar("Held", Relations, QueryMemory)


def _arrays_of(held: Relations | QueryMemory) -> dict[str, NDArray[Any]]:
    return {each.name: getattr(held, each.name) for each in fields(held)}


def _whole(held: Held, path: Path) -> Held:
    if problem := held.problem():
        raise StoreDamagedError(f"{path} {problem}; {CURE}")
    return held
