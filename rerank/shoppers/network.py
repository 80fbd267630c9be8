"""The network of the shopper tower, in torch: a causal transformer over what somebody did last.

It reads of each act the product's text vector and, for a product that was chosen often enough, an own vector that says
by whom (rerank/shoppers/factors.py); the kind of act, the pause until the next, and how many acts ago it was (Kang &
McAuley 2018, SASRec, with distances in place of positions: Shaw et al. 2018). What it gives has two parts, both dot
products with what is known of a product: one in the space of text vectors, so that products without any history are
found by it, and one in that of own vectors.

Beside the transformer goes a weighted mean of the last products themselves. The maps behind the transformer begin at
zero, so that before training it recommends what is near to the newest acts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rerank.ranker.inputs import ACT_KINDS, MOST_ACTS
from rerank.shoppers.histories import GAPS

_FAR = -1e4
"""What may not be attended to."""
_ENOUGH = 20_000
"""Products, at least half as many, that tell how a larger catalog's vectors are spread."""
_FASTER = 10.0
"""How much faster than others those few numbers are learned that all shoppers share."""


@dataclass(frozen=True, slots=True)
class TowerShape:
    """The sizes of a tower's network."""

    dimension: int
    """Columns of product vectors."""
    width: int = 64
    """Columns of the transformer, and of own vectors."""
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Raises ValueError for sizes that do not go together."""
        if min(self.dimension, self.width, self.heads) < 1 or self.layers < 0 or self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be divided between {self.heads} heads")


class ShopperNetwork(nn.Module):
    """n windows of w acts to what each is followed by."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        d, width = shape.dimension, shape.width
        self.centre = nn.Parameter(torch.zeros(d), requires_grad=False)
        self.whitening = nn.Parameter(torch.eye(d), requires_grad=False)
        self.text_in = nn.Linear(d, width, bias=False)
        self.text_out = nn.Linear(width, d, bias=False)
        self.kind = nn.Embedding(len(ACT_KINDS), width)
        self.gap = nn.Embedding(GAPS, width)
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.dropout = nn.Dropout(shape.dropout)
        self.recent = nn.Parameter(-0.1 * torch.arange(MOST_ACTS).float() / _FASTER)
        self.recent_kind = nn.Parameter(torch.zeros(len(ACT_KINDS)))
        self.own_in = nn.Linear(width, width, bias=False)
        self.own_out = nn.Linear(width, width, bias=False)
        self.log_scales = nn.Parameter(torch.log(torch.tensor([20.0, 10.0])) / _FASTER)
        nn.init.normal_(self.own_in.weight, std=1.0)
        nn.init.zeros_(self.own_out.weight)
        nn.init.normal_(self.text_in.weight, std=1.0)
        nn.init.zeros_(self.text_out.weight)
        for part in (self.kind, self.gap):
            nn.init.normal_(part.weight, std=0.1)

    def fit_space(self, vectors: Tensor) -> None:
        """Sets how text vectors (N, d) are read: their columns without what all of them have in common, each direction
        about as long as the others (Hou et al. 2022, UniSRec, section 2.2.1; shrunk, as small catalogs have few)."""
        vectors = vectors[:: max(1, len(vectors) // _ENOUGH)]
        centred = vectors - vectors.mean(dim=0)
        spread, directions = torch.linalg.eigh(centred.T @ centred / max(len(vectors), 1))
        scale = (spread.clamp(min=0) + 0.1 * spread.mean().clamp(min=1e-6)).rsqrt() / math.sqrt(vectors.shape[1])
        self.centre.copy_(vectors.mean(dim=0))
        self.whitening.copy_((directions * scale) @ directions.T)

    def white(self, vectors: Tensor) -> Tensor:
        """Text vectors (..., d) as the transformer reads them."""
        read: Tensor = (vectors - self.centre) @ self.whitening
        return read

    def forward(self, vectors: Tensor, own: Tensor, kinds: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """For every act, of it and those before it: the state (n, w, width), and what each of them weighs (n, w, w) in
        the mean of what is recent.

        `vectors` (n, w, d) and `own` (n, w, width) are of the products, 0 where there is none; `kinds` (n, w) are
        PADDING before the first act; `gaps` (n, w) as in `rerank.shoppers.histories`.
        """
        width = kinds.shape[1]
        known = kinds.clamp(min=0)
        ago = torch.arange(width)[:, None] - torch.arange(width)[None, :]
        allowed = (ago >= 0)[None] & (kinds >= 0)[:, None, :]
        ago = ago.clamp(min=0)
        told = self.norm_in(self.text_in(self.white(vectors)) + self.own_in(own)) + self.kind(known) + self.gap(gaps)
        states = self.dropout(told)
        for block in self.blocks:
            states = block(states, ago, allowed)
        weights = _FASTER * (self.recent[ago][None] + self.recent_kind[known][:, None, :])
        return self.norm_out(states), weights.masked_fill(~allowed, _FAR).softmax(dim=-1)

    def newest(self, vectors: Tensor, own: Tensor, kinds: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """What products' vectors are multiplied with after the last act of each window, (n, d), and their own vectors,
        (n, width); takes what `forward` does."""
        states, weights = self(vectors, own, kinds, gaps)
        state, recent = states[:, -1], weights[:, -1:]
        # q (W p) = (W q) p: what is learned of the products' space goes to the shopper's side, and the index stays.
        text_scale, own_scale = self.scales()
        near = self.text_out(state) @ self.whitening + text_scale * (recent @ vectors)[:, 0]
        return near, self.own_out(state) + own_scale * (recent @ own)[:, 0]

    def scales(self) -> tuple[Tensor, Tensor]:
        """What likeness in text and likeness in own vectors to what is recent count for."""
        text, own = (_FASTER * self.log_scales).exp()
        return text, own


class _Block(nn.Module):
    """Attention with a learned weight for each distance, then a feed-forward layer."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.columns = shape.heads, width // shape.heads
        self.norm, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read = nn.Linear(width, 3 * width)
        self.write = nn.Linear(width, width)
        self.distance = nn.Parameter(torch.zeros(shape.heads, MOST_ACTS))
        self.forward_in, self.forward_out = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor, ago: Tensor, allowed: Tensor) -> Tensor:
        """States (n, w, width); `ago` and `allowed` (w, w) and (n, w, w) say how far apart acts are, and which are
        read."""
        n, w, _ = states.shape
        asked, keys, values = (
            each.reshape(n, w, self.heads, self.columns).transpose(1, 2)
            for each in self.read(self.norm(states)).chunk(3, dim=-1)
        )
        logits = asked @ keys.transpose(2, 3) / math.sqrt(self.columns) + self.distance[:, ago][None]
        attention = self.dropout(logits.masked_fill(~allowed[:, None], _FAR).softmax(dim=-1))
        states = states + self.dropout(self.write((attention @ values).transpose(1, 2).reshape(n, w, -1)))
        fed = self.forward_out(self.dropout(nn.functional.gelu(self.forward_in(self.norm_forward(states)))))
        made: Tensor = states + self.dropout(fed)
        return made
