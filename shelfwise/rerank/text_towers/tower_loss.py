"""Losses of the text towers over in-batch negatives, with cached gradients of sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from torch import Tensor, nn
from torch.nn import functional

LossName = Literal["softmax", "pointwise"]


_CHUNK_CPU, _CHUNK_GPU = 32, 64


@dataclass(frozen=True, slots=True)
class LossOptions:
    """Loss options."""

    name: LossName = "softmax"
    temperature: float = 0.05
    """Divisor of cosines."""
    margin: float = 0.0
    """Margin of the positive's cosine (additive margin softmax: Yang et al. 2019, Improving Multilingual Sentence
    Embedding using Bi-directional Dual Encoder with Additive Margin Softmax, section 2)."""
    correct: bool = True
    """Whether to correct for the sampling probability of products (logQ), which else pushes frequent ones down."""
    dimensions: tuple[int, ...] = ()
    """Numbers of first columns that are trained to suffice alone, each with the weight of all columns (Kusupati et al.
    2022, Matryoshka Representation Learning, section 3)."""
    cached: bool = True
    """Whether to keep the activations of `chunk` texts only, not of the batch; takes a third more time."""
    chunk: int | None = None
    """Texts of a run; None for 64 on a GPU and 32 elsewhere, where padding costs more than another run."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Data of some steps; the labels of a batch index these arrays."""

    queries: Tensor
    """(n,) int64: query numbers."""
    products: Tensor
    """(n, c) int64: rows; the positive first, then its negatives."""
    titles: Tensor
    """(n, c) int64: equal for equal titles."""
    weights: Tensor
    """(n,) float32: weights."""
    log_q: Tensor
    """(n, c) float32: log probability that the product is sampled."""


class TowerLoss(CachedLossMixin, nn.Module):
    """Loss of batches whose columns are a query, a positive, and negatives. Softmax is InfoNCE over all products of the
    batch (Yi et al. 2019, Sampling-Bias-Corrected Neural Modeling, section 3). Pointwise is the cross-entropy of
    sigmoid(cosine * scale + bias) with learned scale and bias (Zhai et al. 2023, Sigmoid Loss, section 3.2). Other
    positives of the query and products with the positive's title are masked."""

    def __init__(self, model: SentenceTransformer, options: LossOptions, positives: Tensor, size: int) -> None:
        """`positives` (m,) are query * `size` + row of all positives, ascending."""
        super().__init__()
        self.model = model
        self.options = options
        self.examples: Examples | None = None
        self.mini_batch_size = options.chunk or (_CHUNK_GPU if model.device.type == "cuda" else _CHUNK_CPU)
        self.cached = options.cached
        self._positives, self._size = positives, size
        self._orders: list[Tensor] = []
        if options.name == "pointwise":
            self.scale = nn.Parameter(torch.tensor(1.0 / options.temperature))
            self.bias = nn.Parameter(torch.tensor(-0.5 / options.temperature))

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of a batch; `labels` (B,) are example numbers."""
        features = list(sentence_features)
        if any("attention_mask" not in each for each in features):
            # A table's texts lie end to end: nothing is padded, and no activations are worth a second run.
            whole = [[self.model(each)["sentence_embedding"]] for each in features]
            self._orders = [torch.arange(len(column)) for (column,) in whole]
            return self.calculate_loss(whole, labels)
        # Chunks hold texts of similar length to reduce padding.
        orders = [each["attention_mask"].sum(dim=1).argsort(stable=True) for each in features]
        ordered = [
            {name: value[order] if isinstance(value, Tensor) else value for name, value in each.items()}
            for each, order in zip(features, orders, strict=True)
        ]
        self._orders = [order.argsort() for order in orders]
        if self.cached or not torch.is_grad_enabled():
            return self.forward_cached(ordered, labels)
        whole = [[rep for rep, _ in self.embed_minibatch_iter(each, True, False)] for each in ordered]
        return self.calculate_loss(whole, labels)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """See `CachedLossMixin`."""
        if labels is None or self.examples is None:
            raise ValueError("the loss needs the numbers of its examples")
        columns = [torch.cat(column)[order] for column, order in zip(reps, self._orders, strict=True)]
        numbers = labels.long().cpu()
        losses = [
            self._loss(_cosines(columns, end), numbers, self.examples) for end in (None, *self.options.dimensions)
        ]
        loss = torch.stack(losses).mean()
        if with_backward:
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        return loss

    def _loss(self, cosines: Tensor, numbers: Tensor, examples: Examples) -> Tensor:
        """Loss of cosines (B, c * B): the batch's positives, then its first negatives, ..."""
        place = cosines.device
        masked = self._masked(examples, numbers).to(place)
        weights = examples.weights[numbers].to(place)
        if self.options.name == "softmax":
            log_q = examples.log_q[numbers].T.reshape(-1).to(place)
            each = self._softmax(cosines, masked, log_q)
        else:
            each = self._pointwise(cosines, masked)
        return (each * weights).sum() / weights.sum().clamp_min(1e-12)

    def _masked(self, examples: Examples, numbers: Tensor) -> Tensor:
        """(B, c * B): products that are not negatives of the row; its own positive is not masked."""
        products, titles = examples.products[numbers].T.reshape(-1), examples.titles[numbers].T.reshape(-1)
        keys = examples.queries[numbers][:, None] * self._size + products[None, :]
        at = torch.searchsorted(self._positives, keys).clamp_max(len(self._positives) - 1)
        masked = self._positives[at] == keys
        masked |= examples.titles[numbers][:, :1] == titles[None, :]
        own = torch.arange(len(numbers))
        masked[own, own] = False
        return masked

    def _softmax(self, cosines: Tensor, masked: Tensor, log_q: Tensor) -> Tensor:
        own = torch.arange(len(cosines), device=cosines.device)
        above = torch.zeros_like(cosines)
        above[own, own] = self.options.margin
        logits = (cosines - above) / self.options.temperature
        if self.options.correct:
            logits = logits - log_q
        return functional.cross_entropy(logits.masked_fill(masked, -math.inf), own, reduction="none")

    def _pointwise(self, cosines: Tensor, masked: Tensor) -> Tensor:
        logits = cosines * self.scale + self.bias
        own = torch.arange(len(cosines), device=cosines.device)
        targets = torch.zeros_like(logits)
        targets[own, own] = 1.0
        each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return each.masked_fill(masked, 0.0).sum(dim=1)


def _cosines(columns: list[Tensor], end: int | None) -> Tensor:
    """Cosines (B, c * B) of queries with all products, over the first columns."""
    queries, *products = [functional.normalize(column[:, :end].float(), dim=-1) for column in columns]
    return queries @ torch.cat(products).T
