"""The network of the user tower, in torch: a causal transformer over a shopper's last acts. The input of each act is
the product's text vector, its own vector if it was chosen often enough (rerank/user_tower/item_neighbours.py), the kind
of act, the pause until the next, and the distance (Kang & McAuley 2018, SASRec, with relative positions: Shaw et al.
2018). The output has two parts, for dot products with text vectors, which also find products without history, and with
own vectors. A weighted mean of the last products is added to the transformer's output. The output maps start at zero,
so an untrained tower recommends products near to the newest acts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shelfwise.rerank.ranker.features import ACT_KINDS, MAX_ACTS
from shelfwise.rerank.ranker.onnx_export import export_module
from shelfwise.rerank.user_tower.histories import GAPS, Histories, Ints, Windows
from shelfwise.rerank.user_tower.item_neighbours import Factors
from shelfwise.rerank.user_tower.tower import INPUTS, OUTPUTS, ProductParameters, smooth_means
from shelfwise.retrieval.errors import USER_TOWER

_FAR = -1e4
"""Attention mask value."""
_ENOUGH = 20_000
"""Minimum sample of products from which the whitening of a larger catalog is estimated."""
_FASTER = 10.0
"""Factor of the learning rate of the scalars shared by all shoppers."""


@dataclass(frozen=True, slots=True)
class UserTowerShape:
    """Sizes of a tower's network."""

    dimension: int
    width: int = 64
    """Columns of the transformer and of own vectors."""
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Raises ValueError for incompatible sizes."""
        if min(self.dimension, self.width, self.heads) < 1 or self.layers < 0 or self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be divided between {self.heads} heads")


class UserTowerNetwork(nn.Module):
    """Maps n windows of w acts to query vectors for the next product."""

    def __init__(self, shape: UserTowerShape) -> None:
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
        self.recent = nn.Parameter(-0.1 * torch.arange(MAX_ACTS).float() / _FASTER)
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
        """Fits the whitening of text vectors (N, d) (Hou et al. 2022, UniSRec, section 2.2.1), with shrinkage for small
        catalogs."""
        vectors = vectors[:: max(1, len(vectors) // _ENOUGH)]
        centred = vectors - vectors.mean(dim=0)
        spread, directions = torch.linalg.eigh(centred.T @ centred / max(len(vectors), 1))
        scale = (spread.clamp(min=0) + 0.1 * spread.mean().clamp(min=1e-6)).rsqrt() / math.sqrt(vectors.shape[1])
        self.centre.copy_(vectors.mean(dim=0))
        self.whitening.copy_((directions * scale) @ directions.T)

    def read_white(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """The product (..., k) of whitened text vectors (..., d) and weights (d, k), which are multiplied first because
        they have few columns."""
        read: Tensor = (vectors - self.centre) @ (self.whitening @ weights)
        return read

    def forward(self, vectors: Tensor, own: Tensor, kinds: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """The state of every act (n, w, width), and the weights (n, w, w) of the mean of recent acts. `vectors` (n, w,
        d) and `own` (n, w, width) are of the products, 0 for padding; `kinds` (n, w) are PADDING before the first act;
        `gaps` (n, w) as in `shelfwise.rerank.user_tower.histories`."""
        width = kinds.shape[1]
        known = kinds.clamp(min=0)
        ago = torch.arange(width)[:, None] - torch.arange(width)[None, :]
        allowed = (ago >= 0)[None] & (kinds >= 0)[:, None, :]
        ago = ago.clamp(min=0)
        act_features = (
            self.norm_in(self.read_white(vectors, self.text_in.weight.T) + self.own_in(own))
            + self.kind(known)
            + self.gap(gaps)
        )
        states = self.dropout(act_features)
        for block in self.blocks:
            states = block(states, ago, allowed)
        weights = _FASTER * (self.recent[ago][None] + self.recent_kind[known][:, None, :])
        return self.norm_out(states), weights.masked_fill(~allowed, _FAR).softmax(dim=-1)

    def newest(self, vectors: Tensor, own: Tensor, kinds: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """The query vectors after the last act of each window, (n, d) for text vectors and (n, width) for own vectors;
        takes the arguments of `forward`."""
        states, weights = self(vectors, own, kinds, gaps)
        state, recent = states[:, -1], weights[:, -1:]
        # q (W p) = (W q) p: the map is applied to the shopper's side, and the index is unchanged.
        text_scale, own_scale = self.scales()
        near = self.text_out(state) @ self.whitening + text_scale * (recent @ vectors)[:, 0]
        return near, self.own_out(state) + own_scale * (recent @ own)[:, 0]

    def scales(self) -> tuple[Tensor, Tensor]:
        """Weights of the similarity in text and in own vectors to the recent acts."""
        text, own = (_FASTER * self.log_scales).exp()
        return text, own


class _Block(nn.Module):
    def __init__(self, shape: UserTowerShape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.columns = shape.heads, width // shape.heads
        self.norm, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read = nn.Linear(width, 3 * width)
        self.write = nn.Linear(width, width)
        self.distance = nn.Parameter(torch.zeros(shape.heads, MAX_ACTS))
        self.forward_in, self.forward_out = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor, ago: Tensor, allowed: Tensor) -> Tensor:
        """States (n, w, width); `ago` (w, w) are distances of acts, `allowed` (n, w, w) is the attention mask."""
        n, w, _ = states.shape
        queries, keys, values = (
            each.reshape(n, w, self.heads, self.columns).transpose(1, 2)
            for each in self.read(self.norm(states)).chunk(3, dim=-1)
        )
        logits = queries @ keys.transpose(2, 3) / math.sqrt(self.columns) + self.distance[:, ago][None]
        attention = self.dropout(logits.masked_fill(~allowed[:, None], _FAR).softmax(dim=-1))
        states = states + self.dropout(self.write((attention @ values).transpose(1, 2).reshape(n, w, -1)))
        fed = self.forward_out(self.dropout(nn.functional.gelu(self.forward_in(self.norm_forward(states)))))
        made: Tensor = states + self.dropout(fed)
        return made


_SHRINKS = 2.0
"""Number of choices at which a product has half of its own bias; it is 0 without choices."""


class UserTowerModel(nn.Module):
    """The network with the tables of own vectors and biases."""

    def __init__(self, shape: UserTowerShape, vectors: NDArray[np.float32], counts: Ints, chosen: Factors) -> None:
        """`vectors` (N, d) are all products', `counts` (N,) their numbers of choices; `chosen` have own parameters."""
        super().__init__()
        self.network = UserTowerNetwork(shape)
        self._vectors = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
        self.network.fit_space(self._vectors)
        self.rows = chosen.rows
        # Position 0 is for all other products and padding.
        self._places = np.zeros(len(counts) + 1, np.int64)
        self._places[self.rows] = 1 + np.arange(len(self.rows))
        often = counts[self.rows].astype(np.float32)
        self._share = torch.from_numpy(np.concatenate([[0.0], often / (often + _SHRINKS)]).astype(np.float32))
        self._own = torch.from_numpy(np.concatenate([np.zeros((1, shape.width), np.float32), chosen.vectors]))
        self._reach = torch.from_numpy(np.concatenate([np.zeros(1, np.float32), chosen.reach]))
        self._shoppers, self._loudness = torch.from_numpy(chosen.shoppers), torch.from_numpy(chosen.loudness)
        self.bias = nn.Parameter(torch.zeros(len(self.rows) + 1))
        if len(often):
            with torch.no_grad():
                self.bias[1:] = torch.from_numpy(np.log(often / often.mean())) / self._share[1:]

    def look_up(self, rows: Ints, kept: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors (..., d), own vectors (..., width) and biases (...) of product rows, PADDING for none. Where `kept`
        (...) is 0, only the text vector is used, as for a new product."""
        places = torch.from_numpy(self._places[rows])
        share = self._share[places] if kept is None else self._share[places] * kept
        usual = (self.bias * self._share)[1:].mean() if len(self.rows) else torch.tensor(0.0)
        vectors = self._vectors[torch.from_numpy(rows)] * torch.from_numpy((rows >= 0).astype(np.float32))[..., None]
        biases = self.bias[places] * share + torch.where(share > 0, 0.0, usual.detach())
        own = self._own[places] if kept is None else self._own[places] * kept[..., None]
        return vectors, own, biases

    def logits(self, batch: HistoryWindowBatch) -> Tensor:
        """Logits (p, c) of the candidates after each act; the contribution of the window's owner to own vectors is
        subtracted."""
        network, windows, rows = self.network, batch.windows, batch.sample.rows
        kept, kept_candidates = torch.from_numpy(batch.kept_acts), torch.from_numpy(batch.kept_candidates)
        vectors, own, _ = self.look_up(windows.products, kept)
        candidates, own_candidates, biases = self.look_up(rows, kept_candidates)
        owners = torch.from_numpy(batch.owners)
        shoppers, loudness = self._shoppers[owners], self._loudness[owners]
        reach = self._reach[torch.from_numpy(self._places[windows.products])] * kept * loudness[:, None]
        own = own - reach[..., None] * shoppers[:, None]
        states, weights = network(vectors, own, torch.from_numpy(windows.kinds), torch.from_numpy(windows.gaps))
        # Select the acts first, to avoid a backward pass through the largest product.
        text_scale, own_scale = network.scales()
        alike = text_scale * (vectors @ candidates.T) + own_scale * (own @ own_candidates.T)
        read = network.read_white(candidates, network.text_out.weight) + own_candidates @ network.own_out.weight
        put_in = torch.zeros(len(owners), len(rows))
        put_in[torch.from_numpy(batch.chosen[0]), torch.from_numpy(batch.chosen[1])] = 1.0
        put_in *= self._reach[torch.from_numpy(self._places[rows])] * kept_candidates * loudness[:, None]
        put_in_scores = ((network.own_out(states) + own_scale * (weights @ own)) * shoppers[:, None]).sum(dim=-1)
        scores = states @ read.T + weights @ alike + biases - put_in_scores[..., None] * put_in[:, None]
        made: Tensor = scores[torch.from_numpy(batch.places[0]), torch.from_numpy(batch.places[1])]
        return made

    @torch.inference_mode()
    def encode(
        self, vectors: NDArray[np.float32], own: NDArray[np.float32], kinds: Ints, gaps: Ints
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `shelfwise.rerank.user_tower.tower.Encode`."""
        given = (torch.from_numpy(np.ascontiguousarray(each)) for each in (vectors, own, kinds, gaps))
        near, mine = self.network.newest(*given)
        return near.numpy(), mine.numpy()

    @torch.inference_mode()
    def product_parameters(self, categories: Ints | None = None) -> ProductParameters:
        """Parameters of the products; `categories` (N,) number them, -1 if unknown."""
        share = self._share[1:]
        biases = (self.bias[1:] * share).numpy()
        groups = np.full(len(self._places) - 1, -1) if categories is None else categories
        means, usual = smooth_means(biases, groups[self.rows])
        return ProductParameters(self.rows, self._own[1:].numpy(), biases, means, usual)


def export_tower(network: UserTowerNetwork, path: Path) -> None:
    """Exports the graph to `path`; raises ModelError if PyTorch's exporter fails. `shelfwise.rerank.model_store` lists
    the allowed operators."""
    shape = network.shape
    count = torch.export.Dim("shoppers", min=1, max=4_096)
    examples = (
        torch.ones(2, MAX_ACTS, shape.dimension),
        torch.ones(2, MAX_ACTS, shape.width),
        torch.ones(2, MAX_ACTS, dtype=torch.int64),
        torch.ones(2, MAX_ACTS, dtype=torch.int64),
    )
    axes = tuple({0: count} for _ in INPUTS)
    onnx.save(export_module(_Newest(network), examples, INPUTS, OUTPUTS, axes, path, USER_TOWER), path)


class _Newest(nn.Module):
    def __init__(self, network: UserTowerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, vectors: Tensor, own: Tensor, kinds: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.newest(vectors, own, kinds, gaps)


# Candidates of the training softmax: a sample of the products that were ever chosen. Products without a choice are not
# negatives, so that the tower does not learn to rank new products last.

_MIN_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class CandidateSample:
    """c candidates of one step."""

    rows: Ints
    """(c,): distinct, ascending; includes all targets."""
    log_q: NDArray[np.float32]
    """(c,): log probability of being sampled, subtracted from the score (Yi et al. 2019, Sampling-bias-corrected neural
    modeling, section 3)."""


class NegativeSampler:
    """Samples half of the candidates uniformly and half by popularity, in addition to the targets."""

    def __init__(self, counts: Ints, most: int) -> None:
        """`counts` (N,) are the numbers of choices; up to `most` products are drawn. If there are not more, all are
        candidates without correction."""
        self._rows = np.flatnonzero(counts)
        self._shares = counts[self._rows] / max(1, counts.sum())
        self._total = np.cumsum(self._shares)
        self._most = most

    def draw(self, targets: Ints, random: np.random.Generator) -> CandidateSample:
        if len(self._rows) <= self._most:
            return CandidateSample(self._rows, np.zeros(len(self._rows), np.float32))
        evenly = random.integers(len(self._rows), size=self._most // 2)
        popular = np.searchsorted(self._total, random.random(self._most - len(evenly)) * self._total[-1])
        drawn = np.concatenate([evenly, popular, np.searchsorted(self._rows, targets)])
        numbers = np.unique(np.minimum(drawn, len(self._rows) - 1))
        expected = len(evenly) / len(self._rows) + (len(popular) + len(targets)) * self._shares[numbers]
        # 1 - (1 - q)^k, stable for small probabilities.
        log_q = np.log(np.maximum(-np.expm1(-expected), _MIN_PROBABILITY))
        return CandidateSample(self._rows[numbers], log_q.astype(np.float32))


_SORTED_TOGETHER = 50
"""Batches of windows that are sorted by length together, to reduce padding."""


@dataclass(frozen=True, slots=True, eq=False)
class HistoryWindowBatch:
    """n windows of w acts with p targets."""

    windows: Windows
    places: tuple[Ints, Ints]
    """(p,) each: window and act."""
    wanted: Ints
    """(p,): candidate index of the target."""
    sample: CandidateSample
    hidden: tuple[Ints, Ints]
    """Pairs of a target and a candidate that was seen before it."""
    owners: Ints
    """(n,): shopper of each window."""
    chosen: tuple[Ints, Ints]
    """Pairs of a window and a candidate that its owner ever chose."""
    kept_acts: NDArray[np.float32]
    """(n, w): 0 for products reduced to their text vector in this step."""
    kept_candidates: NDArray[np.float32]
    """(c,): the same for candidates."""


class HistoryWindowBatches:
    """Batches of a training. An epoch's batches depend only on the seed and its number."""

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
        self._negatives = NegativeSampler(counts, negatives)
        self._count = len(counts)
        self._size, self._unknown, self._hide_seen, self._seed = size, unknown, hide_seen, seed
        self._owners, self._ends = _window_ends(histories)
        self.epoch = 0
        """Cache of the last epoch."""

    @property
    def steps(self) -> int:
        return -(-len(self._owners) // self._size)

    def of_epoch(self, epoch: int) -> Iterator[HistoryWindowBatch]:
        self.epoch = epoch
        random = np.random.default_rng([self._seed, epoch])
        # Dropout is then reproducible in a resumed run.
        torch.manual_seed(self._seed * 1_000_003 + epoch)
        histories = self._histories.shuffled(random)
        for numbers in self._order(random):
            ends = self._ends[numbers]
            nothing = np.full(len(numbers), np.nan)
            lengths = np.minimum(ends - histories.starts[self._owners[numbers]], MAX_ACTS + 1)
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

    def _batch(self, owners: Ints, windows: Windows, random: np.random.Generator) -> HistoryWindowBatch:
        given, following = windows.products[:, :-1], windows.products[:, 1:]
        is_wanted = given >= 0
        if self._hide_seen:
            # The next act's product must not have occurred before in the window.
            is_wanted &= ~np.tril(following[:, :, None] == given[:, None, :]).any(axis=2)
        places = _places(is_wanted)
        targets = following[places]
        sample = self._negatives.draw(targets, random)
        column = np.full(self._count + 1, -1)
        column[sample.rows] = np.arange(len(sample.rows))
        hidden = _hidden(column[given], places) if self._hide_seen else (np.empty(0, np.int64), np.empty(0, np.int64))
        acts = Windows(given, windows.kinds[:, :-1], windows.gaps[:, :-1])
        kept = (random.random(given.shape) >= self._unknown).astype(np.float32)
        candidates = (random.random(len(sample.rows)) >= self._unknown).astype(np.float32)
        whole = self._histories.some(owners)
        owner, found = np.repeat(np.arange(len(whole)), whole.lengths), column[whole.products]
        chosen = owner[found >= 0], found[found >= 0]
        return HistoryWindowBatch(acts, places, column[targets], sample, hidden, owners, chosen, kept, candidates)


def _window_ends(histories: Histories) -> tuple[Ints, Ints]:
    """Owner and end of each window, so that each act but the first is the target of one window."""
    lengths = histories.lengths
    windows = np.where(lengths > 1, -(-(lengths - 1) // MAX_ACTS), 0)
    owners = np.repeat(np.arange(len(histories)), windows)
    number = np.arange(len(owners)) - np.repeat(np.cumsum(windows) - windows, windows)
    return owners, histories.starts[1:][owners] - number * MAX_ACTS


def _places(chosen: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    rows, columns = np.nonzero(chosen)
    return rows.astype(np.int64), columns.astype(np.int64)


def _hidden(columns: Ints, places: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Pairs of a position and a candidate seen up to it; columns (n, w) are -1 for none."""
    windows, acts = places
    before = columns[windows]
    before = np.where(np.arange(columns.shape[1])[None, :] <= acts[:, None], before, -1)
    which, act = _places(before >= 0)
    return which, before[which, act]
