"""The rounds in which negatives are mined: at first from what the index finds, then by the weights of the moment.

A round's ranking is kept, since a run that goes on later has other weights than the round began with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rerank.towers.material import Material, Rows
from rerank.towers.model import Tower
from rerank.towers.negatives import Pools, nearest, pools, window
from rerank.towers.options import Found, Products, TowerOptions, Watching
from retrieval.errors import TrainingError
from retrieval.manifest import open_scratch, scratch_path
from retrieval.product_text import encoder_text


class Mining:
    """Gives what to draw negatives from; the last round's is at hand."""

    def __init__(
        self,
        tower: Tower,
        made: Material,
        found: Found,
        products: Products,
        options: TowerOptions,
        folder: Path,
        watching: Watching,
    ) -> None:
        self._tower, self._made, self._products = tower, made, products
        self._options, self._folder, self._watching = options, folder, watching
        first, last = options.negatives.first, options.negatives.last
        numbers = made.training.tolist()
        self._words = [window(found.words[number], first, last) for number in numbers]
        self._vectors = [window(found.vectors[number], first, last) for number in numbers]
        self._last: tuple[int, Pools] | None = None

    def pools(self, part: int, parts: int) -> Pools:
        """Of the round that a part belongs to; raises TrainingError where what was kept of it is damaged."""
        number = part * min(self._options.rounds, parts) // parts
        if self._last is None or self._last[0] != number:
            vectors = self._ranked(number) if number else self._vectors
            self._last = number, pools(self._made, [self._words, vectors])
        return self._last[1]

    def _ranked(self, number: int) -> list[Rows]:
        path = self._folder / f"negatives-{number}.npy"
        if path.exists():
            return list(_read(path, len(self._made.training)))
        ranked = np.stack(self._ranked_now(number))
        with open_scratch(scratch_path(path)) as file:
            np.save(file, ranked)
        scratch_path(path).replace(path)
        return list(ranked)

    def _ranked_now(self, number: int) -> list[Rows]:
        """As many ranks of every query, over a sample of the catalog, by the present weights."""
        size, options = len(self._products), self._options.negatives
        rng = np.random.default_rng([self._options.seed, 4, number])
        rows = np.sort(rng.choice(size, min(size, options.pool), replace=False))
        share = len(rows) / size
        self._watching.begin("mining", len(rows), "products")
        vectors = self._tower.encode_products(
            [encoder_text(self._products[row]) for row in rows.tolist()], self._watching.advance
        )
        queries = self._tower.encode_queries([self._made.queries[at] for at in self._made.training.tolist()])
        first, last = max(1, round(options.first * share)), max(1, round(options.last * share))
        ranked = [window(each, first, last) for each in nearest(queries, vectors, rows, last)]
        self._watching.end(f"ranks {first} to {last} of {len(rows):,} products, by the present weights")
        return ranked


def _read(path: Path, queries: int) -> Rows:
    try:
        ranked = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        ranked = np.empty((0, 0), np.int64)
    if ranked.dtype != np.int64 or ranked.ndim != 2 or len(ranked) != queries:
        raise TrainingError(f"{path} is damaged, so this training cannot go on: remove {path.parent} to begin it anew")
    return np.asarray(ranked)
