"""From pairs and negatives to what a step reads: texts in columns, and the tensors that the loss looks up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xxhash
from datasets import Dataset
from numpy.typing import NDArray

from rerank.towers.augmentation import Augmentation
from rerank.towers.losses import Examples
from rerank.towers.material import Floats, Material, Rows
from rerank.towers.model import Tower
from rerank.towers.options import Products, Score
from retrieval.product_text import encoder_text
from retrieval.records import Product
from retrieval.textfold import fold

LABEL = "label"
"""The column with the number of each example."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some steps' worth of examples, in the order in which they are trained on."""

    texts: Dataset
    examples: Examples


def positives(made: Material, size: int) -> torch.Tensor:
    """All that answers a query, (m,) query * `size` + row, ascending."""
    keys = made.query_of * size + made.rows
    return torch.from_numpy(np.sort(keys[made.is_positive]))


def part_of(
    made: Material,
    pairs: Rows,
    negatives: Rows,
    products: Products,
    tower: Tower,
    augmentation: Augmentation,
    score: Score | None,
) -> Part:
    """The examples of `pairs` (n,) with their `negatives` (n, k); a teacher reads them as they are."""
    rows = np.column_stack([made.rows[pairs], negatives])
    known, place = np.unique(rows, return_inverse=True)
    place = place.reshape(rows.shape)
    read = [products[row] for row in known.tolist()]
    texts = [encoder_text(product) for product in read]
    queries = [made.queries[number] for number in made.query_of[pairs].tolist()]
    titles = np.array([_key(fold(product.title)) for product in read], np.int64)[place]
    examples = Examples(
        torch.from_numpy(made.query_of[pairs]),
        torch.from_numpy(rows),
        torch.from_numpy(titles),
        torch.from_numpy(made.weights[pairs]),
        torch.from_numpy(_log_q(place, len(known))),
        None if score is None else torch.from_numpy(_taught(queries, texts, place, score)),
    )
    ready = [tower.ready_product(text) for text in texts]
    answers = list(zip(queries, place[:, 0].tolist(), strict=True))
    columns: dict[str, list[str] | list[int]] = {
        "query": [tower.ready_query(augmentation.query(query, read[at])) for query, at in answers],
        "positive": [
            ready[at] if (seen := augmentation.positive(query, read[at])) is read[at] else _ready(tower, seen)
            for query, at in answers
        ],
    }
    for column in range(1, rows.shape[1]):
        columns[f"negative_{column}"] = [ready[at] for at in place[:, column].tolist()]
    columns[LABEL] = list(range(len(pairs)))
    return Part(Dataset.from_dict(columns), examples)


def _ready(tower: Tower, product: Product) -> str:
    return tower.ready_product(encoder_text(product))


def _log_q(place: NDArray[np.int64], count: int) -> Floats:
    """How likely each product is to be among a batch, by how often it is in this part."""
    often = np.bincount(place.reshape(-1), minlength=count)
    return np.asarray(np.log(often / often.sum()), np.float32)[place]


def _taught(queries: Sequence[str], texts: Sequence[str], place: NDArray[np.int64], score: Score) -> Floats:
    asked = [query for query, row in zip(queries, place, strict=True) for _ in row]
    scores = score(asked, [texts[at] for at in place.reshape(-1).tolist()])
    return np.asarray(scores, np.float32).reshape(place.shape)


def _key(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "replace")) >> 1
