"""Options and tasks of training text towers, and their validation: nDCG@10 of held-out queries over a fixed pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.evaluation.metrics import ndcg
from shelfwise.rerank.text_towers.dataset import AugmentOptions, Floats, Rows, TowerDataset
from shelfwise.rerank.text_towers.model import TextTower, WeightMixture
from shelfwise.rerank.text_towers.tower_loss import LossOptions
from shelfwise.rerank.training.trainer import Epoch, best_of
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import encoder_text

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class NegativeOptions:
    """Options of negative sampling."""

    count: int = 1
    """Negatives of each pair, in addition to the other pairs of its batch."""
    first: int = 101
    last: int = 500
    """Ranks of both retrievers; products above are too often relevant though unjudged."""
    pool: int = 50_000
    """Maximum products that are encoded to mine again; ranks are scaled by their share of the catalog."""


@dataclass(frozen=True, slots=True)
class TextTowerOptions:
    """Training options; the defaults are for a model of 6 layers, or a table, and about ten thousand judged pairs."""

    epochs: int = 0
    """0 means 3, or 5 if the model is a table."""
    batch: int = 0
    """Pairs per step; 0 means 128, or, if the model is a table, a twentieth of the pairs, within 128 to 512."""
    learning_rate: float = 0.0
    """The highest learning rate; 0 means 1e-4, or 2e-3 if the model is a table."""
    weight_decay: float = 0.01
    warm_up: float = 0.1
    """Share of the steps with a rising learning rate; it then falls linearly to 0."""
    clip: float = 1.0
    """Maximum norm of the gradient."""
    parts: int = 2
    """Parts of an epoch; each ends with a validation and a checkpoint."""
    patience: int = 3
    """Parts without a better validation after which training stops."""
    rounds: int = 2
    """Rounds of mining negatives, the first before any step; at most one for each part."""
    max_length: int = 64
    """Maximum tokens of a text in training."""
    precision: Precision = "auto"
    """bf16 keeps weights in fp32; auto is bf16 on a GPU that has it."""
    mix: bool = True
    """Whether trained weights may be mixed with the initial ones."""
    average: bool = False
    """Whether to keep the mean weights of several parts if it validates better than each."""
    lora: int | None = None
    """Rank of the adapters trained instead of the model's weights; None without adapters."""
    pool: int = 4_000
    """Products that validation queries are ranked over."""
    fgm: float = 0.0
    """Length of the adversarial step of the embeddings in a second pass over each batch (FGM: Miyato et al. 2017,
    Adversarial Training Methods for Semi-Supervised Text Classification, section 3); 0 for no second pass."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    negatives: NegativeOptions = field(default_factory=NegativeOptions)
    seed: int = 0


def suited(options: TextTowerOptions, pairs: int, *, is_table: bool) -> TextTowerOptions:
    """The options with this kind of model's epochs, batch and learning rate for so many training pairs, for those that
    are not set."""
    epochs, batch, rate = (5, min(max(128, pairs // 20), 512), 2e-3) if is_table else (3, 128, 1e-4)
    return replace(
        options,
        epochs=options.epochs or epochs,
        batch=options.batch or batch,
        learning_rate=options.learning_rate or rate,
    )


class CatalogProducts(Protocol):
    """A catalog's products by row."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Product: ...


@dataclass(frozen=True, slots=True, eq=False)
class RetrievedProducts:
    """Results of the published index for each query of a dataset, rows best first, by query number."""

    words: Sequence[Rows]
    """Results by BM25."""
    vectors: Sequence[Rows]
    """Results by the serving vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class TextTowerTask:
    """A training task: the model, its data and its options."""

    tower: TextTower
    made: TowerDataset
    found: RetrievedProducts
    """Source of the first negatives."""
    products: CatalogProducts
    options: TextTowerOptions
    folder: Path
    """Stores checkpoints."""
    progress: Progress = NullProgress()  # noqa: RUF009  # it has no state
    judged: Callable[[Epoch], None] = lambda _epoch: None
    """Receives every epoch of the curve, those of an interrupted run first."""

    def damaged(self, path: Path) -> TrainingError:
        return TrainingError(f"{path} is damaged, so this training cannot resume: remove {self.folder} to start again")


@dataclass(frozen=True, slots=True)
class TrainedTowers:
    """The outcome of a training."""

    curve: tuple[Epoch, ...]
    """Measures by part; number 0 is the initial model. Validation is nDCG@10 over a fixed pool."""
    steps: int
    """The total steps of a training that does not stop early."""
    mixed: WeightMixture
    """The mixture of the initial weights and those of the best part, which the model now has."""
    averaged: int = 1
    """Number of parts in the mean that replaced the best one; 1 if none did."""
    stopped: str = ""
    """The reason why a failure ended it early."""
    notices: tuple[str, ...] = ()

    @property
    def best(self) -> Epoch:
        return best_of(self.curve)

    @property
    def improved(self) -> bool:
        """Whether a part or a mean of parts was better than the initial model."""
        return self.best.number > 0 or self.averaged > 1


_QUERIES = 500
"""Maximum number of validation queries."""
_NEAR = 5
"""Top results of each retriever that are in the pool of each query."""
_BLOCK = 100


class TowerEncoder(Protocol):
    """A tower in training or a serving encoder."""

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        """(n, d) unit vectors."""
        ...

    def encode_products(self, texts: Sequence[str], /) -> Floats:
        """Unit vectors of product texts."""
        ...


class PoolEvaluator:
    """Ranks a fixed pool for fixed queries."""

    def __init__(
        self, made: TowerDataset, found: RetrievedProducts, products: CatalogProducts, size: int, seed: int
    ) -> None:
        """`size` is the minimum number of products of the pool."""
        rng = np.random.default_rng([seed, 1])
        numbers = made.validation
        if len(numbers) > _QUERIES:
            numbers = np.sort(rng.choice(numbers, _QUERIES, replace=False))
        pairs = made.pairs_of(numbers)
        near = [ranked[:_NEAR] for ranking in (found.words, found.vectors) for ranked in (ranking[n] for n in numbers)]
        rows = np.unique(np.concatenate([made.rows[pairs], *near]))
        others = np.setdiff1d(np.arange(len(products)), rows)
        missing = min(max(0, size - len(rows)), len(others))
        self.rows = np.sort(np.concatenate([rows, rng.choice(others, missing, replace=False)]))
        self._queries = [made.queries[number] for number in numbers.tolist()]
        self._texts = [encoder_text(products[row]) for row in self.rows.tolist()]
        self._gains = np.zeros((len(numbers), len(self.rows)), np.float32)
        places = np.searchsorted(numbers, made.query_of[pairs]), np.searchsorted(self.rows, made.rows[pairs])
        self._gains[places] = made.gains[pairs]

    def ndcg(self, tower: TowerEncoder) -> float:
        """Mean nDCG@10 over the pool; unjudged products count 0."""
        products, queries = tower.encode_products(self._texts), tower.encode_queries(self._queries)
        reached: list[NDArray[np.float64]] = []
        for start in range(0, len(queries), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores = (queries[block] @ products.T).astype(np.float64)
            reached.append(ndcg(self._gains[block].astype(np.float64), scores, np.ones(scores.shape, bool)))
        return float(np.concatenate(reached).mean())
