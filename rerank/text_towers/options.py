"""Options and tasks of training text towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from rerank.text_towers.dataset import AugmentOptions, Floats, Rows, TowerDataset
from rerank.text_towers.losses import LossOptions
from rerank.text_towers.model import TextTower, WeightMixture
from rerank.text_towers.negatives import NegativeOptions
from rerank.training.trainer import Epoch, best_of
from retrieval.errors import TrainingError
from retrieval.progress import NullProgress, Progress
from retrieval.records import Product

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class TextTowerOptions:
    """Training options; the defaults are for a model of 6 layers and about ten thousand judged pairs."""

    epochs: int = 3
    batch: int = 128
    """Pairs a step."""
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warm_up: float = 0.1
    """The share of steps until the learning rate is at its height; from there it falls in a line to nothing."""
    dropout: float | None = None
    """The share of activations that a step leaves out; None for the model's own."""
    clip: float = 1.0
    """The longest gradient."""
    parts: int = 2
    """Parts of an epoch: after each it is validated, and what an interrupted run goes on from is kept."""
    patience: int = 3
    """Parts without a better validation after which training stops."""
    rounds: int = 2
    """How often negatives are mined, the first time before any step; at most once a part."""
    max_length: int = 64
    """Tokens that training reads of a text."""
    precision: Precision = "auto"
    """bf16 computes in half the bits and keeps weights in all; auto is bf16 where the device is faster in it."""
    train_layers: int | None = None
    """How many of the upper layers are trained; None for all, and the embeddings."""
    mix: bool = True
    """Whether what was learned may be mixed with the weights that training began with."""
    average: bool = False
    """Whether the mean of several parts' weights is kept, where it validates better than each of them."""
    layers: int | None = None
    """How many layers what was trained keeps, taught by all of them; None for all."""
    lora: int | None = None
    """The rank of the adapters that are trained in place of the model's own weights; None for those."""
    pool: int = 4_000
    """Products that validation queries are ranked over."""
    fgm: float = 0.0
    """How far embeddings are moved up the loss's gradient, for a second look at each batch (FGM: Miyato et al. 2017,
    Adversarial Training Methods for Semi-Supervised Text Classification, section 3); 0 is one look."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    negatives: NegativeOptions = field(default_factory=NegativeOptions)
    seed: int = 0


class CatalogProducts(Protocol):
    """A catalog's products by row."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Product: ...


@dataclass(frozen=True, slots=True, eq=False)
class RetrievedProducts:
    """What the published index finds for each query of a dataset, rows best first, by query number."""

    words: Sequence[Rows]
    """By BM25."""
    vectors: Sequence[Rows]
    """By the vectors that serve."""
    near_misses: Mapping[int, Rows] = field(default_factory=dict)
    """Of each positive that is trained on, by its row, where they are drawn; see `rerank.text_towers.negatives`."""


Score = Callable[[Sequence[str], Sequence[str]], Floats]
"""A teacher's scores of pairs of query and product's text, (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class TextTowerTask:
    """A training task: the model, its data and its options."""

    tower: TextTower
    made: TowerDataset
    found: RetrievedProducts
    """What the published index finds, which the first negatives are drawn from."""
    products: CatalogProducts
    options: TextTowerOptions
    folder: Path
    """Keeps the state between parts."""
    progress: Progress = NullProgress()  # noqa: RUF009  # it has no state
    judged: Callable[[Epoch], None] = lambda _epoch: None
    """Receives every epoch of the curve, those that an interrupted run has left first."""
    score: Score | None = None
    """A teacher's word, where the loss has one."""

    def damaged(self, path: Path) -> TrainingError:
        return TrainingError(f"{path} is damaged, so this training cannot go on: remove {self.folder} to begin it anew")


@dataclass(frozen=True, slots=True)
class TrainedTowers:
    """The outcome of a training."""

    curve: tuple[Epoch, ...]
    """By part; number 0 is the model as it was. Validation is nDCG@10 over a fixed pool."""
    steps: int
    """Of the whole training, had it not stopped early."""
    mixed: WeightMixture
    """Of the weights that training began with and those of the best part: what is in the model now."""
    averaged: int = 1
    """Parts whose mean stands for the best one; 1 where that is better."""
    stopped: str = ""
    """Why it ended before its time, where that was no success."""
    notices: tuple[str, ...] = ()

    @property
    def best(self) -> Epoch:
        return best_of(self.curve)

    @property
    def improved(self) -> bool:
        """Whether a part or a mean of parts was better than the initial model."""
        return self.best.number > 0 or self.averaged > 1
