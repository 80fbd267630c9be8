"""Training on clicks: a listwise softmax on rates that a click model corrected for position. Private training instead
weights each click by the inverse propensity of its position (Joachims, Swaminathan & Schnabel 2017, Unbiased
learning-to-rank with biased feedback, section 4; as a listwise loss: Ai et al. 2018, Unbiased learning to rank with
unbiased propensity estimation, section 4.1).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import log_softmax

from shelfwise.rerank.click_models.click_log import Floats
from shelfwise.rerank.ranker.network import HistoryAttention, NetworkShape, RankerNetwork
from shelfwise.rerank.training.click_dataset import ClickData
from shelfwise.rerank.training.datasets import ListBatch, ListData, full_batches, merged_scores, shuffled_batches
from shelfwise.rerank.training.list_scores import CLICKS_ALONE, ndcg, outputs_of, scores_of
from shelfwise.rerank.training.losses import MIN_PROPENSITY, propensities
from shelfwise.rerank.training.trainer import (
    Epoch,
    Federation,
    LoopOptions,
    Run,
    Training,
    average_validation,
    average_weights,
    best_of,
    train,
)
from shelfwise.retrieval.errors import SettingError, TrainingError

# Differentially private training: DP-SGD (Abadi et al. 2016, Deep learning with differential privacy, algorithm 1),
# with one record per shopper (McMahan et al. 2018, Learning differentially private recurrent language models).


@dataclass(frozen=True, slots=True)
class PrivacyOptions:
    """Options of differentially private training. A record contains everything that one shopper did."""

    epsilon: float
    shoppers: int = 64
    """The expected number of shoppers in a step; each shopper is drawn at random."""
    displays: int = 8
    """The most displays of a shopper in a step, drawn anew each time."""
    epochs: int = 12
    learning_rate: float = 3e-3
    clip: float = 0.5
    """The longest gradient of a shopper."""

    def steps(self, shoppers: int) -> int:
        """The steps of an epoch over so many shoppers."""
        return max(1, round(shoppers / self.shoppers))

    def guarantee(self, shoppers: int) -> PrivacyGuarantee:
        """The guarantee of a training on so many shoppers. Raises SettingError if there are too few shoppers for this
        epsilon."""
        from opacus.accountants.utils import get_noise_multiplier

        delta, rate = 1 / (10 * shoppers), min(1.0, self.shoppers / shoppers)
        try:
            noise = get_noise_multiplier(
                target_epsilon=self.epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=self.steps(shoppers) * self.epochs,
            )
        except ValueError as error:
            raise SettingError(
                f"--private {self.epsilon:g} cannot be met with {shoppers:,} shoppers ({error}); set a larger epsilon"
            ) from error
        return PrivacyGuarantee(self.epsilon, delta, noise, shoppers)


@dataclass(frozen=True, slots=True)
class PrivacyGuarantee:
    """The weights are (epsilon, delta)-differentially private: they hardly depend on any single shopper."""

    epsilon: float
    delta: float
    noise: float
    """The deviation of the noise, as a multiple of `PrivacyOptions.clip`."""
    shoppers: int
    """The number of shoppers trained on."""

    @property
    def facts(self) -> dict[str, str | int | float]:
        """The guarantee as entries of a spec's `trained_on`."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "noise": round(self.noise, 4),
            "private shoppers": self.shoppers,
        }


@dataclass(frozen=True, slots=True)
class ClickOptions:
    """Options of training on clicks."""

    loop: LoopOptions = field(default_factory=lambda: LoopOptions(epochs=8, learning_rate=3e-4, warm_up=20))
    lists: int = 16
    """The number of lists in a step."""
    dropped: float = 0.05
    """Share of candidates without token states, as of newly added products."""
    tasks: tuple[float, float, float] = (1.0, 0.5, 0.5)
    """Loss weights of clicks, carts and purchases."""
    least_propensity: float = MIN_PROPENSITY
    seed: int = 0
    private: PrivacyOptions | None = None
    """Differential privacy; None trains without noise."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Validation lists of a later period: `data.targets` are their gains; the lists of `numbers` (n,) have some."""

    data: ListData
    numbers: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.numbers):
            raise TrainingError("there are no clicks in the validation period: import more events")

    def __call__(self, network: RankerNetwork) -> float:
        """Mean nDCG@10 of the network's click scores."""
        return float(self.ndcg(scores_of(network, full_batches(self.data, self.numbers))).mean())

    def ndcg(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n,): nDCG@10 of the lists by the scores of their candidates, concatenated."""
        return ndcg(scores, self.data.targets[self.places], self.data.lists.lengths[self.numbers])

    @property
    def places(self) -> NDArray[np.int64]:
        return self.data.lists.places(self.numbers)


def train_on_clicks(
    start: RankerNetwork, data: ClickData, validate: Callable[[RankerNetwork], float], options: ClickOptions, run: Run
) -> tuple[RankerNetwork, tuple[Epoch, ...]]:
    """Trains a copy of `start`; returns it with the weights of the best validation (higher is better), and the curve.
    Raises TrainingError for a non-finite loss."""
    ranker = copy.deepcopy(start)
    usable = data.clicks.usable

    def batches(epoch: int) -> Iterator[ListBatch]:
        seed = options.seed * 1_000 + epoch
        return shuffled_batches(data.data, usable, lists=options.lists, dropped=options.dropped, seed=seed)

    steps = -(-len(usable) // options.lists)
    training: Training[RankerNetwork, ListBatch] = Training(
        batches, steps, lambda network, batch: labelled_loss(network(*batch.inputs), batch, options.tasks), validate
    )
    curve = train(ranker, training, options.loop, run)
    return ranker.eval(), curve


def train_federated(
    start: RankerNetwork,
    data: ClickData,
    validation: Validation,
    options: ClickOptions,
    federation: Federation,
    run: Run,
) -> tuple[RankerNetwork, tuple[Epoch, ...]]:
    """Trains one network on the lists of several stores without moving them: in each round, every store trains the
    average on its own lists for an epoch, and the new average weights each store by its lists (McMahan et al. 2017,
    Communication-efficient learning of deep networks from decentralized data, algorithm 1).

    Returns the average of the round with the best mean validation over the stores, and the curve, one epoch per round;
    each store returns the same. Their `start` may differ only in the scale of features, which is averaged over the
    stores where they vary. Raises TrainingError for a non-finite loss, and if another store has failed.
    """
    lists = len(data.clicks.usable)
    warm_up = min(options.loop.warm_up, -(-lists // options.lists) // 4)
    loop = replace(options.loop, epochs=1, warm_up=warm_up)

    def averaged(network: RankerNetwork) -> RankerNetwork:
        changed = copy.deepcopy(network)
        average_weights(changed, federation, lists)
        return changed.eval()

    def judge(network: RankerNetwork, number: int, loss: float | None) -> Epoch:
        return Epoch(number, loss, average_validation(validation(network), federation))

    # A store's own round keeps its last weights.
    numbers = itertools.count(0.0)
    best = network = averaged(_with_common_scale(start, federation, lists))
    curve = [judge(network, 0, None)]
    for number in range(1, federation.rounds + 1):
        local = replace(options, loop=loop, seed=options.seed * 1_000 + number)
        with TemporaryDirectory() as folder:
            to = Run(Path(folder), run.advance)
            network, (_, epoch) = train_on_clicks(network, data, lambda _: next(numbers), local, to)
        network = averaged(network)
        curve.append(judge(network, number, epoch.loss))
        run.judged(curve[-1])
        best = network if best_of(curve) is curve[-1] else best
    return best, tuple(curve)


def _with_common_scale(network: RankerNetwork, federation: Federation, lists: int) -> RankerNetwork:
    """The network with the stores' common scale of features; a constant feature's scale would hide it everywhere."""
    varies = (~network.constant_features).numpy().astype(np.float32)
    own = {"centre": network.centre.numpy() * varies, "spread": network.spread.numpy() * varies, "varies": varies}
    mean = federation.average(own, lists)
    share = mean["varies"]
    scale = {
        name: np.where(share > 0, mean[name] / np.where(share > 0, share, 1.0), getattr(network, name).numpy())
        for name in ("centre", "spread")
    }
    changed = copy.deepcopy(network)
    changed.load_state_dict({name: changed.centre.new_tensor(each) for name, each in scale.items()}, strict=False)
    return changed.eval()


@dataclass(frozen=True, slots=True, eq=False)
class ShopperRecords:
    """The displays with acts of n shoppers, each of up to p products, as rows of m candidates."""

    inputs: Tensor
    """(m, S): the head's inputs for each candidate."""
    rows: NDArray[np.int64]
    """(k, p): products by position, then some that were shown to nobody, drawn anew for each use; -1 for none."""
    unseen: Sequence[NDArray[np.int64]]
    """The products of each list that were shown to nobody."""
    list_of: NDArray[np.int64]
    """(k,): the list of each display."""
    acts: NDArray[np.float32]
    """(k, p, 3): the acts on each product."""
    displays: Sequence[NDArray[np.int64]]
    """n: each shopper's displays."""

    @classmethod
    def of(cls, network: RankerNetwork, data: ClickData) -> ShopperRecords:
        """The records of the usable lists, as the frozen part of a network encodes them."""
        clicks, found = data.clicks, data.clicks.displays
        if found.shoppers is None:
            raise TrainingError("the lists do not distinguish shoppers: see `fit_evidence`")
        usable = np.flatnonzero(np.isin(found.list_of, clicks.usable))
        usable = usable[np.argsort(found.shoppers[usable], kind="stable")]
        displays = np.split(usable, np.flatnonzero(np.diff(found.shoppers[usable])) + 1)
        batches = full_batches(data.data, np.arange(len(clicks.lists)))
        with torch.no_grad():
            parts = [network.scalars(batch.inputs)[batch.is_candidate] for batch in batches]
        first = clicks.lists.offsets[found.list_of][:, None]
        rows = np.where(found.places >= 0, found.places + first, -1)
        unseen = [
            np.flatnonzero(~clicks.is_shown[clicks.lists.place(number)]) + clicks.lists.offsets[number]
            for number in range(len(clicks.lists))
        ]
        acts = np.pad(found.acts, ((0, 0), (0, _UNSEEN), (0, 0)))
        return cls(torch.cat(parts), rows, unseen, found.list_of, acts, displays)

    def drawn(self, shoppers: NDArray[np.int64], most: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Rows (b, most, p) and acts (b, most, p, 3) of some shoppers, from at most `most` displays each."""
        rows = np.full((max(len(shoppers), 1), most, self.acts.shape[1]), -1)
        acts = np.zeros((*rows.shape, self.acts.shape[2]), np.float32)
        for at, shopper in enumerate(shoppers.tolist()):
            mine = rng.permutation(self.displays[shopper])[:most]
            for place, display in enumerate(mine.tolist()):
                others = rng.permutation(self.unseen[self.list_of[display]])[:_UNSEEN]
                shown = self.rows[display]
                rows[at, place, : len(shown)] = shown
                rows[at, place, len(shown) : len(shown) + len(others)] = others
            acts[at, : len(mine)] = self.acts[mine]
        return torch.from_numpy(rows), torch.from_numpy(acts)


_UNSEEN = 8
"""Products that were shown to nobody, added to each display."""


def train_privately(
    start: RankerNetwork,
    data: ClickData,
    validation: Validation,
    options: ClickOptions,
    private: PrivacyOptions,
    run: Run,
) -> tuple[RankerNetwork, tuple[Epoch, ...], PrivacyGuarantee]:
    """Like `train_on_clicks`, but by inverse propensities, for a network without attention, with noise that hides each
    shopper: each step draws shoppers at random, clips the gradient of each, and adds normal noise to their sum. Only
    the head is trained, since noise grows with the number of weights.

    The guarantee holds for the weights after all epochs, given the features and the candidates; it does not cover the
    choice of an epoch by validation. Raises SettingError like `PrivacyOptions.guarantee`.
    """
    ranker = copy.deepcopy(start)
    records = ShopperRecords.of(ranker, data)
    count = len(records.displays)
    guarantee, steps = private.guarantee(count), private.steps(count)
    weights = {name: weight for name, weight in ranker.named_parameters() if name.startswith(_HEAD)}
    for name, weight in ranker.named_parameters():
        weight.requires_grad = name in weights
    by_shopper = _gradients_by_shopper(ranker, records, data.clicks.examination, options)
    # Seeded by the system's entropy: reproducible noise hides nothing.
    rng = np.random.default_rng()
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))

    def batches(_epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(steps):
            chosen = np.flatnonzero(rng.random(count) < min(1.0, private.shoppers / count))
            # Without shoppers the step is only noise: the gradient of no displays is 0.
            yield records.drawn(chosen, private.displays, rng)

    def backward(_: RankerNetwork, batch: tuple[Tensor, Tensor]) -> float:
        gradients, losses = by_shopper({name: weight.detach() for name, weight in weights.items()}, *batch)
        lengths = torch.stack([each.flatten(1).square().sum(dim=1) for each in gradients.values()]).sum(dim=0).sqrt()
        factors = (private.clip / lengths.clamp(min=1e-9)).clamp(max=1.0)
        for name, weight in weights.items():
            clipped = torch.tensordot(factors, gradients[name], dims=1)
            noise = guarantee.noise * private.clip * torch.randn(clipped.shape, generator=generator)
            weight.grad = (clipped + noise) / private.shoppers
        return float(losses.mean())

    training: Training[RankerNetwork, tuple[Tensor, Tensor]] = Training(
        batches, steps, lambda _, batch: torch.zeros(len(batch)), validation, backward
    )
    whole = replace(options.loop, epochs=private.epochs, patience=private.epochs, learning_rate=private.learning_rate)
    curve = train(ranker, training, whole, run)
    return ranker.eval(), curve, guarantee


_HEAD = ("mlp.", "linear.")


def _gradients_by_shopper(
    ranker: RankerNetwork, records: ShopperRecords, examination: Floats, options: ClickOptions
) -> Callable[[dict[str, Tensor], Tensor, Tensor], tuple[dict[str, Tensor], Tensor]]:
    """A function of the head's weights and the result of `ShopperRecords.drawn` that returns the gradients and the loss
    of each shopper."""
    head = nn.ModuleDict({"linear": ranker.linear, "mlp": ranker.mlp})
    chances = torch.ones(len(examination) + _UNSEEN)
    chances[: len(examination)] = torch.from_numpy(propensities(examination, options.least_propensity)).float()

    def loss(weights: dict[str, Tensor], rows: Tensor, acts: Tensor) -> Tensor:
        inputs = records.inputs[rows.clamp(min=0)]
        parts = []
        for part, module in head.items():
            own = {name.partition(".")[2]: each for name, each in weights.items() if name.startswith(f"{part}.")}
            parts.append(functional_call(module, own, inputs))
        return single_displays_loss(parts[0] + parts[1], rows >= 0, acts, chances, options.tasks)

    return vmap(grad_and_value(loss), in_dims=(None, 0, 0))


# Losses on clicks: a listwise softmax over debiased gains, or over the acts on each display. Each kind of event has its
# own output and weight.

_FAR = -1e4
_MIN_WEIGHT = 1e-9


def labelled_loss(scores: Tensor, batch: ListBatch, tasks: Sequence[float]) -> Tensor:
    """ListNet's top-one cross entropy (Cao et al. 2007, section 4.2) of scores (B, c, 3) with the debiased gains."""
    given = log_softmax(scores.masked_fill(~batch.is_candidate[..., None], _FAR), dim=1)
    entropy = -(batch.targets * given.masked_fill(~batch.is_candidate[..., None], 0.0)).sum(dim=1)
    return _weighted(entropy, batch.targets.sum(dim=1), batch.weights, tasks)


def single_displays_loss(
    scores: Tensor, is_candidate: Tensor, acts: Tensor, chances: Tensor, tasks: Sequence[float]
) -> Tensor:
    """The cross entropy of scores (K, depth, 3) with the acts on each display, over its products: a weighted mean over
    acts by the inverse of `chances` (depth,), since normalising displays with one act would cancel the propensities."""
    given = log_softmax(scores.masked_fill(~is_candidate[..., None], _FAR), dim=1)
    weighted = acts / chances[None, : acts.shape[1], None]
    entropy = -(weighted * given).sum(dim=(0, 1))
    return (entropy / weighted.sum(dim=(0, 1)).clamp(min=_MIN_WEIGHT) * torch.tensor(tasks)).sum()


def _weighted(entropy: Tensor, total: Tensor, weights: Tensor, tasks: Sequence[float]) -> Tensor:
    """Weighted mean over lists of entropy (B, 3) with totals (B, 3); empty lists add nothing."""
    each = entropy / total.clamp(min=_MIN_WEIGHT)
    by_list = (total > 0).float() * weights[:, None]
    means = (each * by_list).sum(dim=0) / by_list.sum(dim=0).clamp(min=_MIN_WEIGHT)
    return (means * torch.tensor(tasks)).sum()


MIXES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Candidate weights of the merged score relative to the network's."""
EVENT_WEIGHTS = (CLICKS_ALONE, (0.5, 0.3, 0.2))
"""Candidate weights of click, cart and purchase."""

Weights = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Mixing:
    """A combination of outputs and merged score into one score."""

    event_weights: Weights
    mix: float
    ndcg: float
    """Mean nDCG@10 on the validation lists."""

    def scores(self, network: RankerNetwork, lists: Validation) -> NDArray[np.float32]:
        """Scores (m,) of the candidates of all lists, concatenated."""
        found = scores_of(network, full_batches(lists.data, lists.numbers), self.event_weights)
        return found + self.mix * merged_scores(lists.data.lists)[lists.places]


def choose_mixing(network: RankerNetwork, validation: Validation) -> Mixing:
    """The mixing with the highest nDCG@10, bonuses of serving included; of equal ones the first, the simplest."""
    merged = merged_scores(validation.data.lists)[validation.places]
    bonus = validation.data.lists.bonus[validation.places]
    made = outputs_of(network, full_batches(validation.data, validation.numbers))
    outputs = {each: made @ np.array(each, np.float32) + bonus for each in EVENT_WEIGHTS}
    tried = [
        Mixing(weights, mix, float(validation.ndcg(outputs[weights] + mix * merged).mean()))
        for weights, mix in itertools.product(EVENT_WEIGHTS, MIXES)
    ]
    return max(tried, key=lambda each: each.ndcg)


_HISTORY = "history."


def new_network(shape: NetworkShape, features: NDArray[np.float32], seed: int) -> RankerNetwork:
    """A randomly initialised network, scaled to features (m, F)."""
    torch.manual_seed(seed)
    network = RankerNetwork(shape)
    network.fit_scale(torch.from_numpy(features))
    return network


def new_attention(dimension: int, seed: int, columns: int = 32) -> HistoryAttention:
    """Randomly initialised attention over histories of vectors of this dimension; it does not change scores yet."""
    torch.manual_seed(seed)
    return HistoryAttention(NetworkShape(1, dimension, 1, attention_heads=1, history=columns))


def replace_attention(network: RankerNetwork, attention: HistoryAttention | None) -> RankerNetwork:
    """A copy of the network with this attention over histories, or with none."""
    columns, dimension = (0, 0) if attention is None else attention.candidate.weight.shape
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith(_HISTORY)}
    if attention is not None:
        weights |= {f"{_HISTORY}{name}": value for name, value in attention.state_dict().items()}
    made = RankerNetwork(replace(network.shape, history=columns, vector_dimension=dimension))
    made.load_state_dict(weights)
    return made.eval()


def adopt_features(network: RankerNetwork, features: NDArray[np.float32]) -> tuple[int, ...]:
    """Enables features that were constant in earlier training and vary in (m, F) now; returns their columns. Their
    scale is fitted and their weights start at 0, so scores do not change. Other features keep their scale."""
    fitted = RankerNetwork(network.shape)
    fitted.fit_scale(torch.from_numpy(features))
    columns = torch.nonzero(network.constant_features & ~fitted.constant_features)[:, 0]
    with torch.no_grad():
        network.centre[columns] = fitted.centre[columns]
        network.spread[columns] = fitted.spread[columns]
        network.linear.weight[:, columns] = 0.0
        next(network.mlp[0].parameters())[:, columns] = 0.0
    return tuple(columns.tolist())
