"""Batches for a tower in training: windows of what shoppers did, with the next product of each act among candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.ranker.inputs import MOST_ACTS
from rerank.shoppers.histories import Histories, Ints, Windows
from rerank.shoppers.negatives import Negatives, Sample

_SORTED_TOGETHER = 50
"""Batches' worth of windows that are sorted by length, so that short ones are not padded to long ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """n windows of w acts, p of which are followed by a product to foretell."""

    windows: Windows
    places: tuple[Ints, Ints]
    """(p,) each: window and act."""
    wanted: Ints
    """(p,): the place among the candidates of what came next."""
    sample: Sample
    hidden: tuple[Ints, Ints]
    """Pairs of one of p and a candidate that was seen before it."""
    owners: Ints
    """(n,): whose windows they are."""
    chosen: tuple[Ints, Ints]
    """Pairs of a window and a candidate that its owner chose at any time."""
    kept_acts: NDArray[np.float32]
    """(n, w): 0 for products of which nothing is known but their text in this step."""
    kept_candidates: NDArray[np.float32]
    """(c,): the same of the candidates."""


class Batches:
    """All batches of a training. Each epoch's come from the seed and its number alone."""

    def __init__(
        self,
        histories: Histories,
        counts: Ints,
        *,
        size: int,
        negatives: int,
        unknown: float,
        hide_seen: bool,
        seed: int,
    ) -> None:
        self._histories = histories
        self._negatives = Negatives(counts, negatives)
        self._count = len(counts)
        self._size, self._unknown, self._hide_seen, self._seed = size, unknown, hide_seen, seed
        self._owners, self._ends = _window_ends(histories)
        self.epoch = 0
        """The one whose batches were asked for last."""

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-len(self._owners) // self._size)

    def of_epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, from 1."""
        self.epoch = epoch
        random = np.random.default_rng([self._seed, epoch])
        # Dropout, too, is then the same in a run that was interrupted.
        torch.manual_seed(self._seed * 1_000_003 + epoch)
        histories = self._histories.shuffled(random)
        for numbers in self._order(random):
            ends = self._ends[numbers]
            nothing = np.full(len(numbers), np.nan)
            lengths = np.minimum(ends - histories.starts[self._owners[numbers]], MOST_ACTS + 1)
            windows = histories.windows(self._owners[numbers], ends, nothing, int(lengths.max()))
            yield self._batch(self._owners[numbers], windows, random)

    def _order(self, random: np.random.Generator) -> list[Ints]:
        order = random.permutation(len(self._owners))
        lengths = self._ends - self._histories.starts[self._owners]
        together = self._size * _SORTED_TOGETHER
        parts = []
        for start in range(0, len(order), together):
            part = order[start : start + together]
            part = part[np.argsort(lengths[part], kind="stable")]
            parts += [part[at : at + self._size] for at in range(0, len(part), self._size)]
        return [parts[number] for number in random.permutation(len(parts))]

    def _batch(self, owners: Ints, windows: Windows, random: np.random.Generator) -> Batch:
        given, following = windows.products[:, :-1], windows.products[:, 1:]
        is_wanted = given >= 0
        if self._hide_seen:
            is_wanted &= ~_seen_before(given, following)
        places = _places(is_wanted)
        targets = following[places]
        sample = self._negatives.draw(targets, random)
        column = np.full(self._count + 1, -1)
        column[sample.rows] = np.arange(len(sample.rows))
        hidden = _hidden(column[given], places) if self._hide_seen else (np.empty(0, np.int64), np.empty(0, np.int64))
        acts = Windows(given, windows.kinds[:, :-1], windows.gaps[:, :-1])
        kept = (random.random(given.shape) >= self._unknown).astype(np.float32)
        candidates = (random.random(len(sample.rows)) >= self._unknown).astype(np.float32)
        chosen = _chosen(self._histories.some(owners), column)
        return Batch(acts, places, column[targets], sample, hidden, owners, chosen, kept, candidates)


def _window_ends(histories: Histories) -> tuple[Ints, Ints]:
    """Owner and end of each window: from the newest act of a shopper back, each act but the first is followed to in
    one of them."""
    lengths = histories.lengths
    windows = np.where(lengths > 1, -(-(lengths - 1) // MOST_ACTS), 0)
    owners = np.repeat(np.arange(len(histories)), windows)
    number = np.arange(len(owners)) - np.repeat(np.cumsum(windows) - windows, windows)
    return owners, histories.starts[1:][owners] - number * MOST_ACTS


def _places(chosen: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    rows, columns = np.nonzero(chosen)
    return rows.astype(np.int64), columns.astype(np.int64)


def _seen_before(given: Ints, following: Ints) -> NDArray[np.bool_]:
    """(n, w): whether what follows an act is of that act, or of one before it in its window."""
    same = following[:, :, None] == given[:, None, :]
    made: NDArray[np.bool_] = np.tril(same).any(axis=2)
    return made


def _chosen(histories: Histories, column: Ints) -> tuple[Ints, Ints]:
    """Pairs of a shopper and what that one chose of the candidates, whose places `column` (N + 1,) has."""
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    found = column[histories.products]
    return owner[found >= 0], found[found >= 0]


def _hidden(columns: Ints, places: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Pairs of a place and the candidate that any act up to it was of; columns (n, w) are -1 for none."""
    windows, acts = places
    before = columns[windows]
    before = np.where(np.arange(columns.shape[1])[None, :] <= acts[:, None], before, -1)
    which, act = _places(before >= 0)
    return which, before[which, act]
