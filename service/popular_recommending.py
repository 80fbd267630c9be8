"""What to show a shopper of whom nothing is known that counts: what most choose of late, of their categories first."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np

from rerank.shoppers.histories import Ints
from retrieval.conditions import Condition
from retrieval.keyword import Selection
from retrieval.records import Hit, Page, PastAct
from service.merchandising.compiled import CompiledRules
from service.merchandising.effect import NOTHING
from service.popularity import Popularity, ServedPopularity
from service.searching import condition_of
from service.snapshot import Snapshot

_BLOCK, _MOST_TRIED = 1_000, 5_000
"""Products, the most popular ones, that are looked through for those that fit; so many at a time, up to so many."""


class PopularProducts:
    """The products of an index directory that are chosen most, as the tables of events have it. Thread-safe."""

    def __init__(self, popularity: ServedPopularity) -> None:
        self._served = popularity
        self._ordered: tuple[Popularity, tuple[str, ...]] = (self._served.now, ())

    def page(
        self,
        snapshot: Snapshot,
        acts: Sequence[PastAct],
        size: int,
        filters: str,
        rules: CompiledRules | None = None,
        *,
        include_seen: bool = False,
    ) -> Page:
        """At most `size` products that a filter lets through and `rules` do not keep out: those of the categories of
        what the shopper did something with, then all others. No hits where nothing is known to be popular."""
        self._served.look()
        asked = condition_of(snapshot, filters)
        effect = rules.effect(("",), asked, time.time()) if rules else NOTHING
        where = effect.condition(asked)
        past = {row for act in acts if (row := snapshot.products.row_of(act.product_id)) is not None}
        chosen = self._chosen(snapshot, past, size, where, frozenset() if include_seen else past)
        shares = self._served.now.of_rows(chosen, snapshot.products.id_of)
        pairs = zip(chosen.tolist(), shares.tolist(), strict=True)
        hits = tuple(Hit(snapshot.products[row], share, {}) for row, share in pairs)
        return Page(hits, len(hits), 1, size, version=snapshot.manifest.version, rules=effect.kept_out_by)

    def _chosen(
        self, snapshot: Snapshot, past: Collection[int], size: int, where: Condition | None, hidden: Collection[int]
    ) -> Ints:
        """At most `size` rows, those of the categories of the past before others; it is gone on until enough fit."""
        categories = {category for row in past if (category := snapshot.products[row].category)}
        there: list[int] = []
        others: list[int] = []
        ids = self._ids()
        for start in range(0, len(ids), _BLOCK):
            found = (snapshot.products.row_of(name) for name in ids[start : start + _BLOCK])
            rows = np.array([row for row in found if row is not None and row not in hidden], np.int64)
            if where is not None and len(rows):
                rows = rows[np.isin(rows, snapshot.keyword.select(Selection(rows=np.sort(rows), where=where)))]
            for row in rows.tolist():
                (there if categories and snapshot.products[row].category in categories else others).append(row)
            if len(there if categories else others) >= size:
                break
        return np.array((there + others)[:size], np.int64)

    def _ids(self) -> tuple[str, ...]:
        """The most popular ones, in their order; made once for each file."""
        now, (known, ids) = self._served.now, self._ordered
        if now is not known:
            ordered = sorted(now.shares.items(), key=lambda each: (-each[1], each[0]))[:_MOST_TRIED]
            ids = tuple(name for name, _ in ordered)
            self._ordered = now, ids
        return ids
