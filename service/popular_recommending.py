"""What to show a shopper of whom nothing is known that counts: what most choose of late, of their categories first."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from rerank.shoppers.histories import Ints
from retrieval.keyword import Selection
from retrieval.records import Hit, Page, PastAct
from service.merchandising.compiled import CompiledRules
from service.merchandising.effect import NOTHING
from service.popularity import Popularity, ServedPopularity
from service.searching import condition_of
from service.snapshot import Snapshot

_MOST_TRIED = 1_000
"""Products, the most popular ones, that are looked through for those that a filter lets through."""


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
        found = (snapshot.products.row_of(name) for name in self._ids())
        rows = np.array([row for row in found if row is not None and (include_seen or row not in past)], np.int64)
        if where is not None and len(rows):
            rows = rows[np.isin(rows, snapshot.keyword.select(Selection(rows=np.sort(rows), where=where)))]
        chosen = _of_categories_first(snapshot, rows, past, size)
        shares = self._served.now.of_rows(chosen, snapshot.products.id_of)
        pairs = zip(chosen.tolist(), shares.tolist(), strict=True)
        hits = tuple(Hit(snapshot.products[row], share, {}) for row, share in pairs)
        return Page(hits, len(hits), 1, size, version=snapshot.manifest.version, rules=effect.kept_out_by)

    def _ids(self) -> tuple[str, ...]:
        """The most popular ones, in their order; made once for each file."""
        now, (known, ids) = self._served.now, self._ordered
        if now is not known:
            ordered = sorted(now.shares.items(), key=lambda each: (-each[1], each[0]))[:_MOST_TRIED]
            ids = tuple(name for name, _ in ordered)
            self._ordered = now, ids
        return ids


def _of_categories_first(snapshot: Snapshot, rows: Ints, past: set[int], size: int) -> Ints:
    """The first `size` of rows (n,), those before others that are of the category of any of the past."""
    categories = {category for row in past if (category := snapshot.products[row].category)}
    if not categories:
        return rows[:size]
    is_other = np.array([snapshot.products[row].category not in categories for row in rows.tolist()], np.bool_)
    return rows[np.argsort(is_other, kind="stable")][:size]
