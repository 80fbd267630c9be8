"""The order that rules give to a search's candidates: some lifted by their scores, some pinned at places.

Rules never change which products are hits here: pinned ones joined the candidates before, hidden ones never were any.
So pages share nothing and skip nothing, whatever the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retrieval.keyword import NO_ROWS, KeywordIndex, Rows, Selection
from service.merchandising.effect import Effect, Lift
from service.overlay import Products
from service.ranking import Ranking

HEAD = 100
"""Of the best hits, whose scores' standard deviation is the unit of a lift."""


@dataclass(frozen=True, slots=True)
class Arranged:
    """The first rows of an order, and what rules had to do with it."""

    rows: Rows
    scores: Mapping[int, float] = field(default_factory=dict)
    """Of the rows whose score is another one than their stage gave."""
    rules: Mapping[int, str] = field(default_factory=dict)
    """Which rule moved a row."""


@dataclass(frozen=True, slots=True)
class PinnedRow:
    """A row and the place that it is to have, from 1."""

    row: int
    position: int
    rule: str


class Arranging:
    """The order of one search of one snapshot."""

    def __init__(self, effect: Effect, products: Products, keyword: KeywordIndex) -> None:
        self._lifts = effect.lifts
        self._keyword = keyword
        rows = [(products.row_of(pin.product), pin) for pin in effect.pins]
        self._pins = [PinnedRow(row, pin.position, pin.rule) for row, pin in rows if row is not None]

    @property
    def pinned(self) -> Rows:
        """The rows that are pinned, if the filter lets them through."""
        return np.array([pin.row for pin in self._pins], np.int64) if self._pins else NO_ROWS

    def ranked(self, ranking: Ranking, further: Callable[[int], Rows], end: int) -> Arranged:
        """The rows up to place `end`. `further` gives those of the ranking up to a place, the ranked part first. Exact
        identifiers stay before everything."""
        pins = [pin for pin in self._pins if pin.row not in ranking.identified and (ranking.rows == pin.row).any()]
        if not pins and not self._lifts:
            return Arranged(further(end))
        ranked = len(ranking.rows)
        rows = further(max(end + len(pins), ranked))
        shift, moved = _shift(self._lifts, ranking, self._keyword)
        scores = ranking.scores + shift
        order = np.lexsort((-scores, ~np.isin(ranking.rows, list(ranking.identified))))
        changed = {int(ranking.rows[at]): float(scores[at]) for at in np.flatnonzero(shift)}
        if changed:
            behind = min(0.0, float(scores.min(initial=0.0)))
            changed |= dict.fromkeys(rows[ranked:].tolist(), behind)
        woven = weave(np.concatenate([ranking.rows[order], rows[ranked:]]), pins, len(ranking.identified))
        return Arranged(woven[:end], changed, moved | {pin.row: pin.rule for pin in pins})

    def browsed(self, selection: Selection, rows: Rows, end: int) -> Arranged:
        """The rows up to place `end`: the pinned of `selection` at theirs, `rows` in their order between them, of which
        as many more are given as there are pinned ones."""
        if not self._pins:
            return Arranged(rows[:end])
        allowed = self._keyword.select(Selection(rows=np.sort(self.pinned), where=selection.where))
        inside = set(allowed.tolist())
        pins = [pin for pin in self._pins if pin.row in inside]
        woven = weave(rows, pins, 0)
        return Arranged(woven[:end], rules={pin.row: pin.rule for pin in pins})


def weave(rows: Rows, pins: Sequence[PinnedRow], leading: int) -> Rows:
    """`rows` (n,) with each pinned one at its place; the first `leading` places are taken. Of two that want one place,
    the later takes the next free one; where there are too few rows to reach a place, the pinned come last."""
    taken = set(range(1, leading + 1))
    places: list[tuple[int, int]] = []
    for pin in pins:
        place = pin.position
        while place in taken:
            place += 1
        taken.add(place)
        places.append((place, pin.row))
    places.sort()
    others = rows[~np.isin(rows, [row for _, row in places])]
    before = [min(place - 1 - number, len(others)) for number, (place, _) in enumerate(places)]
    return np.insert(others, before, [row for _, row in places])


def _shift(
    lifts: Sequence[Lift], ranking: Ranking, keyword: KeywordIndex
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """What is added to the ranked part's scores (n,), and by which rule."""
    shift, moved = np.zeros(len(ranking.rows)), dict[int, str]()
    if not lifts or not len(ranking.rows):
        return shift, moved
    ordinary = ranking.scores[~np.isin(ranking.rows, list(ranking.identified))]
    unit = float(np.std(ordinary[:HEAD])) if len(ordinary) else 0.0
    for lift in lifts:
        passing = keyword.select(Selection(rows=np.sort(ranking.rows), where=lift.condition))
        shift[np.isin(ranking.rows, passing)] += lift.strength * (unit or 1.0)
        for row in passing.tolist():
            moved.setdefault(row, lift.rule)
    return shift, moved
