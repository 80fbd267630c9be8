"""The rounds in which negatives are mined: at first from what the index finds, then by the weights of the moment.

A round's ranking is kept, since a run that goes on later has other weights than the round began with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rerank.towers.material import Rows
from rerank.towers.negatives import Pools, nearest, pools, window
from rerank.towers.options import Task
from retrieval.manifest import open_scratch, scratch_path
from retrieval.product_text import encoder_text


class Mining:
    """Gives what to draw negatives from; the last round's is at hand."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._made, self._options, found = task.made, task.options, task.found
        first, last = self._options.negatives.first, self._options.negatives.last
        numbers = self._made.training.tolist()
        self._words = [window(found.words[number], first, last) for number in numbers]
        self._vectors = [window(found.vectors[number], first, last) for number in numbers]
        self._last: tuple[int, Pools] | None = None

    def pools(self, part: int, parts: int) -> Pools:
        """Of the round that a part belongs to; raises TrainingError where what was kept of it is damaged."""
        number = part * min(self._options.rounds, parts) // parts
        if self._last is None or self._last[0] != number:
            vectors = self._ranked(number) if number else self._vectors
            self._last = number, pools(self._made, [self._words, vectors], self._task.found.near_misses)
        return self._last[1]

    def _ranked(self, number: int) -> list[Rows]:
        path = self._task.folder / f"negatives-{number}.npy"
        if path.exists():
            return list(self._read(path))
        ranked = np.stack(self._ranked_now(number))
        with open_scratch(scratch_path(path)) as file:
            np.save(file, ranked)
        scratch_path(path).replace(path)
        return list(ranked)

    def _ranked_now(self, number: int) -> list[Rows]:
        """As many ranks of every query, over a sample of the catalog, by the present weights."""
        tower, products, watching = self._task.tower, self._task.products, self._task.watching
        size, options = len(products), self._options.negatives
        rng = np.random.default_rng([self._options.seed, 4, number])
        rows = np.sort(rng.choice(size, min(size, options.pool), replace=False))
        share = len(rows) / size
        watching.begin("mining", len(rows), "products")
        vectors = tower.encode_products([encoder_text(products[row]) for row in rows.tolist()], watching.advance)
        queries = tower.encode_queries([self._made.queries[at] for at in self._made.training.tolist()])
        first, last = max(1, round(options.first * share)), max(1, round(options.last * share))
        ranked = [window(each, first, last) for each in nearest(queries, vectors, rows, last)]
        watching.end(f"ranks {first} to {last} of {len(rows):,} products, by the present weights")
        return ranked

    def _read(self, path: Path) -> Rows:
        try:
            ranked = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            ranked = np.empty((0, 0), np.int64)
        if ranked.dtype != np.int64 or ranked.ndim != 2 or len(ranked) != len(self._made.training):
            raise self._task.damaged(path)
        return np.asarray(ranked)
