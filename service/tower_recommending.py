"""What to show next to a shopper, by a trained tower: products proposed by text and by what was learned of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.inputs import ACT_KINDS, MOST_ACTS
from rerank.shoppers.histories import ONE_CHOICE, Histories
from retrieval.conditions import Condition
from retrieval.fields import CATEGORY_SEPARATOR
from retrieval.keyword import Rows, Selection
from retrieval.records import PastAct
from service.past_acts import by_time
from service.searching import nearest_to
from service.served_tower import OpenedTower
from service.snapshot import Snapshot

_LEAST_PROPOSED = 200
"""Products that each of the two ways proposes; all of them are then scored by both."""
_WIDER, _MOST_LOOKED_AT = 8, 10_000
"""Where a condition lets few of the best through, so many times as many are looked at, up to about so many."""


class ShopperVectors:
    """A shopper as a tower sees them: the newest acts whose products the catalog has, in two vectors."""

    def __init__(self, snapshot: Snapshot, tower: OpenedTower, acts: Sequence[PastAct], now: float) -> None:
        """`now` is in seconds since 1970."""
        self._snapshot, self._tower = snapshot, tower
        rows, kinds, times, vectors = _known(snapshot, acts, now)
        self.is_known = bool(len(rows))
        if self.is_known:
            places = [tower.place_of(snapshot.products.id_of(row)) for row in rows.tolist()]
            self._beside = tower.beside(places)
            history = Histories.of([rows.tolist()], [kinds.tolist()], [times.tolist()])
            self._near, self._own = tower.encode(history, now, vectors, tower.own_of(places))

    def best(
        self, size: int, hidden: Collection[int], where: Condition | None, *, is_lost: bool
    ) -> list[tuple[int, float]]:
        """The rows of at most `size` products with their scores, the best first; none of `hidden`, only what a
        condition lets through."""
        count = max(_LEAST_PROPOSED, 2 * size) + len(hidden)
        length = float(np.linalg.norm(self._near)) or 1.0
        direction = self._near / np.float32(length)
        near = nearest_to(self._snapshot, direction, count, where, is_lost=is_lost).rows
        rows = np.union1d(near, self._learned(count, where))
        rows = rows[~np.isin(rows, list(hidden))]
        scores = self._scores(rows, length * self._snapshot.vectors.similarity(direction, rows))
        order = np.lexsort((rows, -scores))[:size]
        return list(zip(rows[order].tolist(), scores[order].tolist(), strict=True))

    def _learned(self, count: int, where: Condition | None) -> Rows:
        """The rows of the best `count` by what was learned of them alone; of more of them where a condition lets fewer
        than `_LEAST_PROPOSED` of these through."""
        table = self._tower.table
        scores = table.own @ self._own + table.bias + self._beside
        while True:
            places = np.argpartition(-scores, count)[:count] if count < len(scores) else np.arange(len(scores))
            found = self._shown(places, where)
            if where is None or len(found) >= _LEAST_PROPOSED or count >= min(len(scores), _MOST_LOOKED_AT):
                return found
            count *= _WIDER

    def _shown(self, places: NDArray[np.int64], where: Condition | None) -> Rows:
        """The rows of products at these places that the catalog has, and a condition lets through."""
        snapshot, ids = self._snapshot, self._tower.table.ids
        found = (snapshot.products.row_of(ids[place]) for place in places.tolist())
        rows = np.sort(np.array([row for row in found if row is not None], np.int64))
        return rows if where is None else snapshot.keyword.select(Selection(rows=rows, where=where))

    def _scores(self, rows: Rows, alike: NDArray[np.floating]) -> NDArray[np.float64]:
        products, tower = self._snapshot.products, self._tower
        places = [tower.place_of(products.id_of(row)) for row in rows.tolist()]
        categories = [
            CATEGORY_SEPARATOR.join(products[row].category) if place is None and tower.spec.category_bias else ""
            for row, place in zip(rows.tolist(), places, strict=True)
        ]
        learned = tower.own_of(places) @ self._own + tower.biases_of(places, categories)
        learned += tower.told_of(places, self._beside)
        return np.asarray(alike, np.float64) + learned


def _known(
    snapshot: Snapshot, acts: Sequence[PastAct], now: float
) -> tuple[Rows, NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    """Rows, kinds, times and vectors of the newest acts, oldest first. Several acts of one product in a row are one
    choice, of the last kind, as in training (`ONE_CHOICE`); products without a vector, which came while the encoder was
    lost, are passed over."""
    kept: list[tuple[int, int, float]] = []
    after = now
    for time, act in reversed(by_time(acts, now)):
        row = snapshot.products.row_of(act.product_id)
        if row is None:
            continue
        is_same = bool(kept) and kept[-1][0] == row and after - time <= ONE_CHOICE
        after = time
        if is_same:
            continue
        kept.append((row, ACT_KINDS.index(act.kind), time))
        if len(kept) == MOST_ACTS:
            break
    kept.reverse()
    rows = np.array([row for row, _, _ in kept], np.int64)
    vectors = snapshot.vectors.gather(rows)
    has_vector = vectors.any(axis=1)
    kinds = np.array([kind for _, kind, _ in kept], np.int64)
    moments = np.array([moment for _, _, moment in kept], np.float64)
    return rows[has_vector], kinds[has_vector], moments[has_vector], vectors[has_vector]
