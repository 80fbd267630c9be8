"""Training examples of text towers: columns of texts and the tensors that the loss looks up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from datasets import Dataset
from numpy.typing import NDArray

from shelfwise.rerank.text_towers.dataset import Augmentation, Floats, Rows, TowerDataset
from shelfwise.rerank.text_towers.model import TextTower
from shelfwise.rerank.text_towers.task import CatalogProducts, NegativeOptions, TextTowerTask
from shelfwise.rerank.text_towers.tower_loss import Examples
from shelfwise.retrieval.store.files import atomic_file
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.retrieval.text.analysis import fold

LABEL = "label"


@dataclass(frozen=True, slots=True, eq=False)
class ExamplePart:
    """Examples of some steps, in training order."""

    texts: Dataset
    examples: Examples


def positives(made: TowerDataset, size: int) -> torch.Tensor:
    """All positives as query * `size` + row, (m,), ascending."""
    keys = made.query_of * size + made.rows
    return torch.from_numpy(np.sort(keys[made.is_positive]))


def build_part(
    made: TowerDataset,
    pairs: Rows,
    negatives: Rows,
    products: CatalogProducts,
    tower: TextTower,
    augmentation: Augmentation,
) -> ExamplePart:
    """Builds the examples of `pairs` (n,) with their `negatives` (n, k)."""
    rows = np.column_stack([made.rows[pairs], negatives])
    known, place = np.unique(rows, return_inverse=True)
    place = place.reshape(rows.shape)
    read = [products[row] for row in known.tolist()]
    texts = [encoder_text(product) for product in read]
    queries = [made.queries[number] for number in made.query_of[pairs].tolist()]
    folded = (fold(product.title).encode("utf-8", "replace") for product in read)
    titles = np.array([xxhash.xxh3_64_intdigest(each) >> 1 for each in folded], np.int64)[place]
    often = np.bincount(place.reshape(-1), minlength=len(known))
    examples = Examples(
        torch.from_numpy(made.query_of[pairs]),
        torch.from_numpy(rows),
        torch.from_numpy(titles),
        torch.from_numpy(made.weights[pairs]),
        torch.from_numpy(np.log(often / often.sum()).astype(np.float32)[place]),
    )
    ready = [tower.ready_product(text) for text in texts]
    answers = list(zip(queries, place[:, 0].tolist(), strict=True))
    columns: dict[str, list[str] | list[int]] = {
        "query": [tower.ready_query(augmentation.query(query, read[at])) for query, at in answers],
        "positive": [
            ready[at]
            if (seen := augmentation.positive(query, read[at])) is read[at]
            else tower.ready_product(encoder_text(seen))
            for query, at in answers
        ],
    }
    for column in range(1, rows.shape[1]):
        columns[f"negative_{column}"] = [ready[at] for at in place[:, column].tolist()]
    columns[LABEL] = list(range(len(pairs)))
    return ExamplePart(Dataset.from_dict(columns), examples)


# Hard negatives: products that a retriever ranks high for a query and that are not known positives.

_BLOCK = 256
"""Queries per block of cosines."""
_JUDGED_SHARE = 0.5
"""Probability that the first negative is a judged one, if there is one."""
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class NegativePools:
    """Negative pools of each training query, without its positives."""

    retrieved: Sequence[Rows]
    judged: Sequence[Rows]
    """Judged products below the gain of a positive."""


def window(ranked: Rows, first: int, last: int) -> Rows:
    """Ranks `first` to `last`, from 1, of rows best first; the lower half if there are fewer."""
    return ranked[min(first - 1, len(ranked) // 2) : last]


def build_pools(made: TowerDataset, rankings: Sequence[Sequence[Rows]]) -> NegativePools:
    """Builds pools; `rankings` has each retriever's results for each query of `made.training`."""
    retrieved, judged = [], []
    for place, (positive, unfit) in enumerate(_known(made)):
        found = [_NOTHING, *(ranking[place] for ranking in rankings)]
        retrieved.append(np.setdiff1d(np.concatenate(found), positive))
        judged.append(unfit)
    return NegativePools(retrieved, judged)


def draw_negatives(
    made: TowerDataset, pairs: Rows, found: NegativePools, options: NegativeOptions, size: int, rng: np.random.Generator
) -> Rows:
    """Draws negatives (n, count) for training pairs (n,); `size` is the catalog's. Random products that are not
    positives fill up short pools."""
    place_of = {number: place for place, number in enumerate(made.training.tolist())}
    positives = [positive for positive, _ in _known(made)]
    result = np.empty((len(pairs), options.count), np.int64)
    for at, query in enumerate(made.query_of[pairs].tolist()):
        place = place_of[query]
        chosen = found.retrieved[place]
        if len(chosen):
            chosen = rng.choice(chosen, min(options.count, len(chosen)), replace=False)
        judged = found.judged[place]
        if options.count and len(judged) and rng.random() < _JUDGED_SHARE:
            chosen = np.concatenate([rng.choice(judged, 1), chosen])[: options.count]
        missing = options.count - len(chosen)
        result[at] = np.concatenate([chosen, _any(positives[place], missing, size, rng)]) if missing else chosen
    return result


def nearest(queries: Floats, products: Floats, rows: Rows, last: int) -> list[Rows]:
    """The `last` products of greatest cosine for each query (q, d), best first; `products` (p, d) are unit vectors with
    their `rows` (p,)."""
    last = min(last, len(rows))
    blocks = (queries[start : start + _BLOCK] for start in range(0, len(queries), _BLOCK))
    return [ranked for block in blocks for ranked in _best(block @ products.T, rows, last)]


def _best(scores: NDArray[np.float32], rows: Rows, last: int) -> Iterator[Rows]:
    places = np.argpartition(-scores, last - 1, axis=1)[:, :last]
    # Ties are ordered by row, whatever the partition returned.
    places = np.sort(places, axis=1)
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    yield from rows[np.take_along_axis(places, order, axis=1)]


def _known(made: TowerDataset) -> Iterator[tuple[Rows, Rows]]:
    """The positives of each training query, and its judged non-positives, ascending."""
    starts = np.searchsorted(made.query_of, made.training)
    ends = np.searchsorted(made.query_of, made.training, side="right")
    is_positive = made.is_positive
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        rows, fits = made.rows[start:end], is_positive[start:end]
        yield rows[fits], rows[~fits]


def _any(positive: Rows, count: int, size: int, rng: np.random.Generator) -> Rows:
    proposed = rng.integers(0, size, count + len(positive) + 8)
    left = proposed[~np.isin(proposed, positive)]
    # A catalog of positives only has no negatives: the loss masks these.
    return np.resize(left if len(left) else proposed, count)


# Negatives are mined in rounds: first from the index, then with the current weights. Each round's ranking is stored,
# because a resumed run has other weights than the round began with.


class Mining:
    """Provides the negative pools; caches the last round."""

    def __init__(self, task: TextTowerTask) -> None:
        self._task = task
        self._made, self._options, found = task.made, task.options, task.found
        first, last = self._options.negatives.first, self._options.negatives.last
        numbers = self._made.training.tolist()
        self._words = [window(found.words[number], first, last) for number in numbers]
        self._vectors = [window(found.vectors[number], first, last) for number in numbers]
        self._last: tuple[int, NegativePools] | None = None

    def pools(self, part: int, parts: int) -> NegativePools:
        """Pools of the round of a part; raises TrainingError if the stored ranking is damaged."""
        number = part * min(self._options.rounds, parts) // parts
        if self._last is None or self._last[0] != number:
            vectors = self._ranked(number) if number else self._vectors
            self._last = number, build_pools(self._made, [self._words, vectors])
        return self._last[1]

    def _ranked(self, number: int) -> list[Rows]:
        path = self._task.folder / f"negatives-{number}.npy"
        if path.exists():
            return list(self._read(path))
        ranked = np.stack(self._ranked_now(number))
        with atomic_file(path, durable=False) as file:
            np.save(file, ranked)
        return list(ranked)

    def _ranked_now(self, number: int) -> list[Rows]:
        tower, products, progress = self._task.tower, self._task.products, self._task.progress
        size, options = len(products), self._options.negatives
        rng = np.random.default_rng([self._options.seed, 4, number])
        rows = np.sort(rng.choice(size, min(size, options.pool), replace=False))
        share = len(rows) / size
        progress.begin("mining", len(rows), "products")
        vectors = tower.encode_products([encoder_text(products[row]) for row in rows.tolist()], progress.advance)
        queries = tower.encode_queries([self._made.queries[at] for at in self._made.training.tolist()])
        first, last = max(1, round(options.first * share)), max(1, round(options.last * share))
        ranked = [window(each, first, last) for each in nearest(queries, vectors, rows, last)]
        progress.end(f"ranks {first} to {last} of {len(rows):,} products, by the present weights")
        return ranked

    def _read(self, path: Path) -> Rows:
        try:
            ranked = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            ranked = np.empty((0, 0), np.int64)
        if ranked.dtype != np.int64 or ranked.ndim != 2 or len(ranked) != len(self._made.training):
            raise self._task.damaged(path)
        return np.asarray(ranked)
