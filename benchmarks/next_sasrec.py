"""SASRec as a store could choose it today: cornac's network, trained to tell the next product from all others.

Kang & McAuley 2018, Self-Attentive Sequential Recommendation. Trained with the cross-entropy over the whole catalog at
every place of a sequence, which does better than the one sampled negative of the paper (Klenitskiy & Vasilev 2023,
Turning Dross Into Gold Loss). cornac's own loop reads every beginning of a sequence apart, many times the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.next_ways import Chosen, Judge, Material, Scorer
from benchmarks.purchases import Case, Ints
from retrieval.errors import SettingError

if TYPE_CHECKING:
    from cornac.models.sasrec.sasrec import SASRecModel

SASREC = "SASRec"
LONGEST = 50
"""Purchases that it reads at most; fewer where 19 of 20 histories are shorter, which saves time."""
_BATCH = 64


@dataclass(frozen=True, slots=True)
class SasrecOptions:
    """How it is trained."""

    dropout: float
    epochs: int = 60
    """The most that are tried."""
    dimension: int = 64
    layers: int = 2
    heads: int = 2
    rate: float = 1e-3

    def told(self) -> str:
        """In words."""
        return f"dropout {self.dropout}, {self.epochs} epochs"


TRIALS = (SasrecOptions(0.2), SasrecOptions(0.5))
_EVERY = 4
"""Epochs between looks at the part that tunes."""
_PATIENCE = 2
"""Looks without a better one after which training ends."""


def check_installed() -> None:
    """Raises SettingError where the network is not there."""
    try:
        import cornac.models.sasrec.sasrec  # noqa: F401
    except ImportError:
        raise SettingError("SASRec needs the package cornac; run: pip install 'shelfwise[bench]'") from None


def choose_sasrec(material: Material, judge: Judge, trials: Sequence[SasrecOptions] = TRIALS) -> Chosen:
    """The options and the number of epochs that did best on the part that tunes."""
    reached = [_stopped_early(material, judge, options) for options in trials]
    best = max(reached, key=lambda each: each[0])[1]
    return Chosen(best.told(), lambda anew: fit_sasrec(anew, best))


def fit_sasrec(material: Material, options: SasrecOptions) -> Scorer:
    """Trained for so many epochs."""
    run = _Run(material, options)
    for _ in range(options.epochs):
        run.epoch()
    return run.scores


def _stopped_early(material: Material, judge: Judge, options: SasrecOptions) -> tuple[float, SasrecOptions]:
    run, best, found = _Run(material, options), -1.0, 0
    for number in range(1, options.epochs + 1):
        run.epoch()
        if number % _EVERY == 0 or number == options.epochs:
            reached = judge(run.scores)
            if reached > best:
                best, found = reached, number
            elif number - found >= _PATIENCE * _EVERY:
                break
    return best, replace(options, epochs=found)


class _Run:
    """One network in training."""

    def __init__(self, material: Material, options: SasrecOptions) -> None:
        torch.manual_seed(material.seed)
        self._random = np.random.default_rng(material.seed)
        self._products = material.products
        histories = material.purchases.histories
        typical = np.quantile([len(history) for history in histories], 0.95)
        self._length = min(max(int(typical), 2), LONGEST)
        self._windows = _windows(histories, self._length, material.products)
        self._model = _network(material.products, self._length, options)
        self._states: list[torch.Tensor] = []
        # Its own forward gives the last place alone; training reads all of them.
        self._model.last_layernorm.register_forward_hook(lambda _layer, _given, made: self._states.append(made))
        self._steps = torch.optim.Adam(self._model.parameters(), lr=options.rate, betas=(0.9, 0.98))

    def epoch(self) -> None:
        """Reads all sequences once."""
        self._model.train()
        order = self._random.permutation(len(self._windows))
        for start in range(0, len(order), _BATCH):
            windows = torch.from_numpy(self._windows[order[start : start + _BATCH]])
            read, wanted = windows[:, :-1], windows[:, 1:]
            is_known = (read < self._products) & (wanted < self._products)
            states = self._encoded(read)[is_known]
            logits = states @ self._model.item_emb.weight[: self._products].T
            loss = torch.nn.functional.cross_entropy(logits, wanted[is_known])
            self._steps.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._steps.step()

    def scores(self, cases: Sequence[Case]) -> NDArray[np.float32]:
        """See `Scorer`; a case without a history scores nothing."""
        self._model.eval()
        read = np.full((len(cases), self._length), self._products, np.int64)
        for row, case in enumerate(cases):
            if len(newest := case.history[-self._length :]):
                read[row, -len(newest) :] = newest
        with torch.no_grad():
            states = self._encoded(torch.from_numpy(read))[:, -1]
            found = (states @ self._model.item_emb.weight[: self._products].T).numpy()
        found[read[:, -1] == self._products] = 0.0
        return np.asarray(found, np.float32)

    def _encoded(self, read: torch.Tensor) -> torch.Tensor:
        self._states.clear()
        self._model._encode(read)
        return self._states.pop()


def _network(products: int, length: int, options: SasrecOptions) -> SASRecModel:
    check_installed()
    from cornac.models.sasrec.sasrec import SASRecModel

    return SASRecModel(
        products,
        embedding_dim=options.dimension,
        maxlen=length,
        n_layers=options.layers,
        n_heads=options.heads,
        use_biases=False,
        dropout=options.dropout,
    )


def _windows(histories: Sequence[Ints], length: int, products: int) -> Ints:
    """(w, length + 1): histories in pieces that each begin with the last of the one before, padded at their front."""
    pieces = []
    for history in histories:
        for end in range(len(history), 1, -length):
            piece = history[max(end - length - 1, 0) : end]
            pieces.append(np.concatenate((np.full(length + 1 - len(piece), products), piece)))
    return np.array(pieces, np.int64).reshape(-1, length + 1)
