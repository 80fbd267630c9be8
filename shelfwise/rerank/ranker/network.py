"""The ranker's network, in torch: trained here, and exported to ONNX for serving.

A query's tokens are matched with each candidate's cached token states in three ways. *MaxSim* (Khattab & Zaharia
2020, ColBERT, section 3.2) takes the best match of each query token among the product's, with learned token weights.
*Coverage* does the same for equal tokens. One layer of *cross-attention* uses the product's states unchanged as keys
and values, so that only dot products are computed at query time. A small head with a linear path combines these with
the first-stage scores and the store's signals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shelfwise.rerank.ranker.features import ACT_KINDS
from shelfwise.retrieval.errors import ModelDamagedError, ModelMismatchError

EVENTS = ("click", "cart", "purchase")
"""The head's outputs, in order."""
_FAR = -1e4
"""The logit of masked positions; finite in half precision."""
_SIMILARITIES = 6
_MIN_SPREAD = 1e-3
"""A feature that varies by less counts as constant, since a single outlier would dominate it."""
_CONSTANT_SPREAD = 1e6
"""The divisor of constant features, which makes them negligible."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The sizes of a ranker's network."""

    state_dimension: int
    """Columns of token states."""
    vector_dimension: int
    """Columns of product vectors, which represent a history."""
    features: int
    layers: int = 1
    """Cross-attention layers: 1, or 0 for the features head only."""
    attention_heads: int = 4
    """The number of heads among which the columns of token states are divided."""
    feed_forward: int = 256
    """Feed-forward units after the attention; 0 for none."""
    hidden: int = 64
    history: int = 32
    """Columns of the attention over a shopper's history; 0 for none."""
    kept_heads: tuple[int, ...] = ()
    """The attention heads that `shelfwise.rerank.ranker.pruning` kept, ascending; empty for all."""

    def __post_init__(self) -> None:
        """Raises ValueError for heads that do not exist."""
        if self.attention_heads < 1 or not self.state_dimension >= self.attention_heads:
            raise ValueError(f"{self.state_dimension} columns cannot be divided between {self.attention_heads} heads")
        if list(self.kept_heads) != sorted({*range(self.attention_heads)}.intersection(self.kept_heads)):
            raise ValueError(f"kept_heads {self.kept_heads} must be some of {self.attention_heads} heads, ascending")

    @property
    def heads(self) -> tuple[int, ...]:
        """The attention heads, as indices."""
        return self.kept_heads or tuple(range(self.attention_heads))

    @property
    def head_columns(self) -> int:
        return self.state_dimension // self.attention_heads


class Inputs(NamedTuple):
    """B queries with c candidates each; q query tokens, t product tokens, h products in the history, all padded.

    A candidate without states has only padding among its tokens; padding is -1 in ids and kinds.
    """

    query_ids: Tensor
    """(B, q) int64: word pieces of the queries."""
    query_states: Tensor
    """(B, q, d) float32, rows of length 1."""
    query_idf: Tensor
    """(B, q) float32: inverse document frequencies in this catalog."""
    product_ids: Tensor
    """(B, c, t) int64: word pieces of the products."""
    product_states: Tensor
    """(B, c, t, d) int8, rows of length about 127."""
    features: Tensor
    """(B, c, F) float32, as `shelfwise.rerank.ranker.features` makes them."""
    candidate_vectors: Tensor
    """(B, c, v) float32: the candidates' product vectors."""
    history_vectors: Tensor
    """(B, h, v) float32: the product vectors of the history."""
    history_kinds: Tensor
    """(B, h) int64: indices in `shelfwise.rerank.ranker.features.ACT_KINDS`."""
    history_gaps: Tensor
    """(B, h) float32: days between the event and the query."""


class Matching(NamedTuple):
    """The matches of each query token with each candidate."""

    similarity: Tensor
    """(B, c, q, t): cosines."""
    is_equal: Tensor
    """(B, c, q, t) float: 1 if both tokens are the same word piece."""
    is_product_token: Tensor
    """(B, c, t) bool: whether there is a token, not padding."""
    best: Tensor
    """(B, c, q): MaxSim of each query token, 0 for a candidate without states."""
    covered: Tensor
    """(B, c, q): 1 if the product has the same token."""


class RankerNetwork(nn.Module):
    """Scores candidates for each kind of event; higher is better."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        d = shape.state_dimension
        self.query_map = nn.Linear(d, d, bias=False)
        nn.init.eye_(self.query_map.weight)
        self.weigh_similar = nn.Linear(d + 1, 1)
        self.weigh_covered = nn.Linear(d + 1, 1)
        self.attention = nn.ModuleList(CrossAttention(shape) for _ in range(shape.layers))
        pooled = 2 * d if shape.layers else 0
        self.centre = nn.Parameter(torch.zeros(shape.features), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(shape.features), requires_grad=False)
        inner = shape.features + _SIMILARITIES + pooled
        self.mlp = nn.Sequential(nn.Linear(inner, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, len(EVENTS)))
        self.linear = nn.Linear(shape.features + _SIMILARITIES, len(EVENTS))
        self.history = HistoryAttention(shape) if shape.history else None

    def forward(self, *arrays: Tensor) -> Tensor:
        """Scores (B, c, 3) of `Inputs`, passed one by one."""
        inputs = Inputs(*arrays)
        matching = self.match(inputs)
        scalars = self._scalars(inputs, matching)
        known = [scalars]
        if self.shape.layers:
            known.append(self.attended(inputs, matching))
        scores: Tensor = self.linear(scalars) + self.mlp(torch.cat(known, dim=-1))
        # Training data without shoppers has no vectors. As with an empty history, nothing is added.
        if self.history is not None and inputs.candidate_vectors.shape[-1]:
            past = inputs.history_vectors, inputs.history_kinds, inputs.history_gaps
            scores = scores + self.history(inputs.candidate_vectors, *past)
        return scores

    def scalars(self, inputs: Inputs) -> Tensor:
        """Inputs of the head for each candidate (B, c, F + 6), without attention: features and similarities."""
        return self._scalars(inputs, self.match(inputs))

    def _scalars(self, inputs: Inputs, matching: Matching) -> Tensor:
        return torch.cat([self.scaled(inputs.features), self.similarities(inputs, matching)], dim=-1)

    def scaled(self, features: Tensor) -> Tensor:
        """Features (B, c, F) at the scale of the training data, with outliers bounded."""
        return ((features - self.centre) / self.spread).clamp(-5, 5)

    def fit_scale(self, features: Tensor) -> None:
        """Fits the scale of features (m, F). A constant feature has no effect, since its meaning cannot be learned."""
        spread = features.std(dim=0, correction=0)
        self.centre.copy_(features.mean(dim=0))
        self.spread.copy_(torch.where(spread > _MIN_SPREAD, spread, torch.full_like(spread, _CONSTANT_SPREAD)))

    @property
    def constant_features(self) -> Tensor:
        """(F,) bool: features that were constant in the data of `fit_scale`."""
        return self.spread >= _CONSTANT_SPREAD / 2

    def match(self, inputs: Inputs) -> Matching:
        """Matches the query's tokens with those of each candidate."""
        products = inputs.product_states.float() / 127
        query = torch.nn.functional.normalize(self.query_map(inputs.query_states), dim=-1)
        # One matrix product for all candidates: many small ones take several times as long.
        batch, candidates, tokens, d = products.shape
        flat = products.reshape(batch, candidates * tokens, d) @ query.transpose(1, 2)
        similarity = flat.reshape(batch, candidates, tokens, -1).transpose(2, 3)
        is_product_token = inputs.product_ids >= 0
        is_equal = (inputs.query_ids[:, None, :, None] == inputs.product_ids[:, :, None, :]).float()
        is_equal = is_equal * is_product_token[:, :, None, :]
        masked = similarity.masked_fill(~is_product_token[:, :, None, :], _FAR)
        best = masked.amax(dim=-1).clamp(min=0)
        return Matching(similarity, is_equal, is_product_token, best, is_equal.amax(dim=-1))

    def token_weights(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The weight of each query token for similarity and for coverage: each (B, q), adding up to 1."""
        known = torch.cat([inputs.query_states, inputs.query_idf[..., None] / 10], dim=-1)
        is_token = (inputs.query_ids >= 0).float()
        weights = (
            nn.functional.softplus(layer(known)[..., 0]) * is_token
            for layer in (self.weigh_similar, self.weigh_covered)
        )
        similar, covered = (weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-6) for weight in weights)
        return similar, covered

    def similarities(self, inputs: Inputs, matching: Matching) -> Tensor:
        """Scalars (B, c, 6): weighted and plain MaxSim and coverage, the worst token's match, the share of the
        product's tokens that the query names."""
        similar, covered = self.token_weights(inputs)
        is_token = (inputs.query_ids >= 0).float()
        count = is_token.sum(dim=-1, keepdim=True).clamp(min=1)
        # A query without tokens matches nothing, not everything.
        worst = (matching.best + (1 - is_token)[:, None]).amin(dim=-1).clamp(max=1) * _any(is_token)
        length = matching.is_product_token.float().sum(dim=-1).clamp(min=1)
        named = (matching.is_equal * is_token[:, None, :, None]).amax(dim=2).sum(dim=-1) / length
        return torch.stack(
            [
                (matching.best @ similar[..., None])[..., 0],
                (matching.covered @ covered[..., None])[..., 0],
                (matching.best @ (is_token / count)[..., None])[..., 0],
                (matching.covered @ (is_token / count)[..., None])[..., 0],
                worst,
                named,
            ],
            dim=-1,
        )

    def attended(self, inputs: Inputs, matching: Matching) -> Tensor:
        """The attention's output per candidate (B, c, 2d): the weighted mean and the maximum over query tokens."""
        products = inputs.product_states.float() / 127
        query = inputs.query_states[:, None].expand(-1, inputs.features.shape[1], -1, -1)
        for layer in self.attention:
            query = layer(query, products, matching)
        weights, _ = self.token_weights(inputs)
        mean = (query * weights[:, None, :, None]).sum(dim=2)
        is_token = inputs.query_ids >= 0
        most = query.masked_fill(~is_token[:, None, :, None], _FAR).amax(dim=2) * _any(is_token.float())[..., None]
        return torch.cat([mean, most], dim=-1)


def _any(is_token: Tensor) -> Tensor:
    """(B, 1): 1 if a row of (B, q) has any token."""
    return is_token.amax(dim=-1, keepdim=True)


class CrossAttention(nn.Module):
    """Attention of each query token over a product's states, which are used unchanged as keys and values."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        d, heads, units = shape.state_dimension, len(shape.heads), shape.feed_forward
        self.shape = shape
        self.match_map = nn.Linear(2, d)
        self.query = nn.Linear(d, heads * shape.head_columns)
        self.equal = nn.Parameter(torch.ones(heads))
        self.output = nn.Linear(heads * shape.head_columns, d)
        self.norm = nn.LayerNorm(d)
        self.feed_forward = nn.Sequential(nn.Linear(d, units), nn.GELU(), nn.Linear(units, d)) if units else Constant(d)
        self.last_norm = nn.LayerNorm(d)
        self.scale = nn.Parameter(torch.full((heads,), 4.0))

    def forward(self, query: Tensor, products: Tensor, matching: Matching) -> Tensor:
        """Attends from query tokens (B, c, q, d) to product tokens (B, c, t, d); the result has the query's shape."""
        batch, candidates, tokens, _ = query.shape
        heads, columns = len(self.shape.heads), self.shape.head_columns
        query = query + self.match_map(torch.stack([matching.best, matching.covered], dim=-1))
        by_head = self.query(query).reshape(batch, candidates, tokens, heads, columns).transpose(2, 3)
        cached = self._divided(products)
        logits = (by_head @ cached.transpose(3, 4)) * self.scale[:, None, None]
        logits = logits + matching.is_equal[:, :, None] * self.equal[:, None, None]
        logits = logits.masked_fill(~matching.is_product_token[:, :, None, None, :], _FAR)
        read = (logits.softmax(dim=-1) @ cached).transpose(2, 3)
        query = self.norm(query + self.output(read.reshape(batch, candidates, tokens, heads * columns)))
        result: Tensor = self.last_norm(query + self.feed_forward(query))
        return result

    def _divided(self, products: Tensor) -> Tensor:
        """The product tokens as each head reads them (B, c, heads, t, columns)."""
        batch, candidates, tokens, _ = products.shape
        every = products.reshape(batch, candidates, tokens, self.shape.attention_heads, self.shape.head_columns)
        if self.shape.kept_heads:
            every = torch.stack([every[:, :, :, head] for head in self.shape.kept_heads], dim=3)
        return every.transpose(2, 3)


class Constant(nn.Module):
    """A feed-forward layer without units: a constant (d,)."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(columns))

    def forward(self, _query: Tensor) -> Tensor:
        """The constant."""
        return self.bias


class HistoryAttention(nn.Module):
    """Target attention (Zhou et al. 2018, Deep Interest Network, section 4.3): each candidate attends to the shopper's
    earlier acts. An additional zero vector lets it attend to none of them (Ai et al. 2019, A Zero Attention Model for
    Personalized Product Search, section 3.3). The last layer starts at zero: untrained, a history has no effect."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        v, n = shape.vector_dimension, shape.history
        self.candidate = nn.Linear(v, n)
        self.event = nn.Linear(v, n)
        self.kind = nn.Embedding(len(ACT_KINDS), n)
        self.gap = nn.Linear(1, n)
        self.nothing = nn.Parameter(torch.zeros(1))
        last = nn.Linear(n, len(EVENTS))
        self.score = nn.Sequential(nn.Linear(n + 1, n), nn.GELU(), last)
        for weight in (self.candidate.bias, self.event.bias, self.gap.bias, last.weight, last.bias):
            nn.init.zeros_(weight)
        # Vectors, not their columns, have length 1, so torch's default weights would give almost no signal. Both maps
        # start equal, so that a candidate attends to similar products, whatever the kind of act and its age.
        nn.init.normal_(self.candidate.weight, std=0.5)
        with torch.no_grad():
            self.event.weight.copy_(self.candidate.weight)
        for part in (self.kind, self.gap):
            nn.init.normal_(part.weight, std=0.1)

    def forward(self, candidates: Tensor, vectors: Tensor, kinds: Tensor, gaps: Tensor) -> Tensor:
        """The score (B, c, 3) that the history adds, 0 for an empty one. The arguments are candidate_vectors and the
        history's vectors, kinds and gaps of `Inputs`."""
        is_event = kinds >= 0
        kind_and_gap = self.kind(kinds.clamp(min=0)) + self.gap(torch.log1p(gaps.clamp(min=0))[..., None])
        events = self.event(vectors) + kind_and_gap
        asking = self.candidate(candidates)
        logits = (asking @ events.transpose(1, 2)) / math.sqrt(events.shape[-1])
        logits = logits.masked_fill(~is_event[:, None], _FAR)
        nothing = self.nothing.expand(logits.shape[0], logits.shape[1], 1)
        attention = torch.cat([nothing, logits], dim=-1).softmax(dim=-1)[..., 1:]
        read = attention @ events
        alike = candidates @ vectors.transpose(1, 2)
        nearest = (attention * alike).sum(dim=-1, keepdim=True)
        any_event = is_event.any(dim=-1).float()[:, None, None]
        result: Tensor = self.score(torch.cat([asking * read, nearest], dim=-1)) * any_event
        return result


_SHAPE = "shape"


def save_network(network: RankerNetwork, path: Path) -> None:
    """Writes the network's shape and weights to a file."""
    shape = msgspec.json.encode(network.shape).decode()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path, {_SHAPE: shape})


def load_network(path: Path) -> RankerNetwork:
    """Reads the file; raises ModelDamagedError if it cannot be read, ModelMismatchError if its weights do not match its
    shape."""
    try:
        with safe_open(path, framework="pt") as file:
            shape = msgspec.json.decode((file.metadata() or {})[_SHAPE], type=NetworkShape)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
    except (OSError, SafetensorError, KeyError, msgspec.MsgspecError) as error:
        raise ModelDamagedError(f"{path} cannot be read ({error}); train the ranker again") from error
    network = RankerNetwork(shape)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        message = f"{path} has weights of a different network than this program's ({str(error)[:300]}); train it again"
        raise ModelMismatchError(message) from error
    return network.eval()
