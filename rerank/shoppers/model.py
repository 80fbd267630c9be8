"""A tower in training, in torch: its network, and what it learns of single products."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rerank.shoppers.batches import Batch
from rerank.shoppers.factors import Factors
from rerank.shoppers.histories import Ints
from rerank.shoppers.network import ShopperNetwork, TowerShape
from rerank.shoppers.tower import Learned, shrunk_means

_SHRINKS = 2.0
"""A product that was chosen so often has half of its own bias; one that was not has none."""


class ShopperModel(nn.Module):
    """The network beside tables of own vectors and biases of the products that were chosen before."""

    def __init__(self, shape: TowerShape, vectors: NDArray[np.float32], counts: Ints, chosen: Factors) -> None:
        """`vectors` (N, d) are all products', `counts` (N,) how often each was chosen; `chosen` have something own."""
        super().__init__()
        self.network = ShopperNetwork(shape)
        self._vectors = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
        self.network.fit_space(self._vectors)
        self.rows = chosen.rows
        # Place 0 is for all others, and padding.
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

    def known_of(self, rows: Ints, kept: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors (..., d), own vectors (..., width) and biases (...) of products by their rows, PADDING for none.

        Where `kept` (...) is 0 a product is as one that is new: nothing is known of it but its text.
        """
        places = torch.from_numpy(self._places[rows])
        share = self._share[places] if kept is None else self._share[places] * kept
        usual = (self.bias * self._share)[1:].mean() if len(self.rows) else torch.tensor(0.0)
        vectors = self._vectors[torch.from_numpy(rows)] * torch.from_numpy((rows >= 0).astype(np.float32))[..., None]
        biases = self.bias[places] * share + torch.where(share > 0, 0.0, usual.detach())
        own = self._own[places] if kept is None else self._own[places] * kept[..., None]
        return vectors, own, biases

    def logits(self, batch: Batch) -> Tensor:
        """(p, c): what the candidates of a batch score after its acts; what the owners of its windows put into own
        vectors is taken out of them."""
        network, windows, rows = self.network, batch.windows, batch.sample.rows
        kept, kept_candidates = torch.from_numpy(batch.kept_acts), torch.from_numpy(batch.kept_candidates)
        vectors, own, _ = self.known_of(windows.products, kept)
        candidates, own_candidates, biases = self.known_of(rows, kept_candidates)
        owners = torch.from_numpy(batch.owners)
        shoppers, loudness = self._shoppers[owners], self._loudness[owners]
        reach = self._reach[torch.from_numpy(self._places[windows.products])] * kept * loudness[:, None]
        own = own - reach[..., None] * shoppers[:, None]
        states, weights = network(vectors, own, torch.from_numpy(windows.kinds), torch.from_numpy(windows.gaps))
        # Of each act first: then nothing is to be learned through the largest product of matrices.
        text_scale, own_scale = network.scales()
        alike = text_scale * (vectors @ candidates.T) + own_scale * (own @ own_candidates.T)
        read = network.white(candidates) @ network.text_out.weight + own_candidates @ network.own_out.weight
        put_in = torch.zeros(len(owners), len(rows))
        put_in[torch.from_numpy(batch.chosen[0]), torch.from_numpy(batch.chosen[1])] = 1.0
        put_in *= self._reach[torch.from_numpy(self._places[rows])] * kept_candidates * loudness[:, None]
        told = ((network.own_out(states) + own_scale * (weights @ own)) * shoppers[:, None]).sum(dim=-1)
        scores = states @ read.T + weights @ alike + biases - told[..., None] * put_in[:, None]
        made: Tensor = scores[torch.from_numpy(batch.places[0]), torch.from_numpy(batch.places[1])]
        return made

    @torch.inference_mode()
    def encode(
        self, vectors: NDArray[np.float32], own: NDArray[np.float32], kinds: Ints, gaps: Ints
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `rerank.shoppers.tower.Encode`."""
        given = (torch.from_numpy(np.ascontiguousarray(each)) for each in (vectors, own, kinds, gaps))
        near, mine = self.network.newest(*given)
        return near.numpy(), mine.numpy()

    @torch.inference_mode()
    def learned(self, categories: Ints | None = None) -> Learned:
        """What it knows of single products now; `categories` (N,) number them, -1 where not known."""
        share = self._share[1:]
        biases = (self.bias[1:] * share).numpy()
        groups = np.full(len(self._places) - 1, -1) if categories is None else categories
        means, usual = shrunk_means(biases, groups[self.rows])
        return Learned(self.rows, self._own[1:].numpy(), biases, means, usual)
