"""What a store could choose without us: popularity, neighbours, matrix factorisation, SASRec, over its own
purchases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from benchmarks.studies.purchases import Case, Chosen, Fit, Floats, Ints, Judge, Material, Scorer, Way, best_of
from retrieval.errors import SettingError
from retrieval.events.stored import DAY_MS

if TYPE_CHECKING:
    from cornac.models.sasrec.sasrec import SASRecModel


GROUPS = (32, 128)
"""How many categories are made of the products' texts where a catalog has none."""
_LAST = 50
"""Purchases that are looked back at."""
_FADING = 0.9
_NEIGHBOURS = tuple(
    (shrinkage, fading, last)
    for shrinkage in (0.0, 10.0)
    for fading, last in ((0.6, _LAST), (0.9, _LAST), (1.0, _LAST), (1.0, None))
)
"""Shrinkage, how much an older purchase counts beside the next newer one, how many are looked back at."""
_REGRESSIONS = tuple((ridge, half_life) for ridge in (6.0, 25.0) for half_life in (60.0, np.inf))
"""Ridge, as a multiple of the mean number of shoppers; days after which a purchase counts half."""
_MOST_REGRESSED = 10_000
"""Products: their matrix has so many rows and columns."""
_FACTORS = ((0.05, False), (0.01, False), (0.05, True), (0.01, True))
"""The learning rate; whether a shopper is the factors of the history, instead of factors of the shopper's own."""


def baselines(*, timed: bool, hide_seen: bool) -> list[Way]:
    """All of them, with the options that each is given to choose from."""
    lives = (7.0, 30.0, np.inf) if timed else (np.inf,)
    ways = [
        Way("popularity", best_of({_life(days): partial(popularity, half_life=days) for days in lives})),
        Way(
            "in-categories",
            best_of({f"{groups} groups of texts": partial(in_categories, groups=groups) for groups in GROUPS}),
        ),
        Way("item-kNN", best_of(_neighbour_trials())),
        Way("EASE", best_of(_regression_trials(timed))),
        Way("BPR", best_of(_factor_trials())),
    ]
    return ways if hide_seen else [Way("bought-before", best_of({"": bought_before})), *ways]


def _neighbour_trials() -> dict[str, Fit]:
    return {
        f"shrunk by {shrinkage:.0f}, fading {fading}, {f'last {last}' if last else 'whole history'}": partial(
            item_neighbours, shrinkage=shrinkage, fading=fading, last=last
        )
        for shrinkage, fading, last in _NEIGHBOURS
    }


def _regression_trials(timed: bool) -> dict[str, Fit]:
    return {
        f"ridge {ridge:.0f}, {_life(life)}": partial(regressed, ridge=ridge, half_life=life)
        for ridge, life in _REGRESSIONS
        if timed or np.isinf(life)
    }


def _factor_trials() -> dict[str, Fit]:
    return {
        f"rate {rate}, factors of {'the history' if folded else 'the shopper'}": partial(
            factorised, rate=rate, folded=folded
        )
        for rate, folded in _FACTORS
    }


def _life(days: float) -> str:
    return "all purchases alike" if np.isinf(days) else f"half-life {days:.0f} days"


def popularity(material: Material, half_life: float) -> Scorer:
    """How often each product was bought, each time counting half after `half_life` days."""
    bought = material.purchases
    age = (bought.times.max() - bought.times) / DAY_MS
    weights = 0.5 ** (age / half_life)
    scores = np.bincount(bought.products, weights, minlength=material.products)
    return lambda cases: np.tile(scores, (len(cases), 1))


def bought_before(material: Material) -> Scorer:
    """What the shopper bought most often before."""
    return lambda cases: profiles(cases, material.products, fading=1.0, last=None).toarray()


def in_categories(material: Material, groups: int) -> Scorer:
    """Popularity within the categories that the shopper bought from, each by its share of the history.

    In a catalog without categories groups of texts stand for them (k-means over the products' vectors).
    """
    category = _grouped(material, groups) if material.categories is None else material.categories
    known = np.flatnonzero(category >= 0)
    shape = (material.products, int(category.max()) + 1)
    member = csr_matrix((np.ones(len(known)), (known, category[known])), shape=shape)
    counts = material.counts + 1e-6  # what nobody bought still comes before other categories

    def scores(cases: Sequence[Case]) -> Floats:
        shares = profiles(cases, material.products, fading=1.0) @ member
        return np.asarray((shares @ member.T).toarray() * counts)

    return scores


def _grouped(material: Material, groups: int) -> Ints:
    from sklearn.cluster import KMeans

    groups = min(groups, material.products)
    found = KMeans(groups, random_state=material.seed, n_init=1, max_iter=50).fit_predict(material.vectors)
    return np.asarray(found, np.int64)


def item_neighbours(material: Material, shrinkage: float, fading: float, last: int | None = _LAST) -> Scorer:
    """Item-based kNN: cosines between products over shoppers, added up over the history (as in
    `rerank.sessions.product_tables`, over all neighbours)."""
    bought = material.purchases
    once = np.unique(np.stack((bought.shoppers, bought.products)), axis=1)
    shape = (int(bought.shoppers.max()) + 1, material.products)
    matrix = csr_matrix((np.ones(once.shape[1]), (once[0], once[1])), shape=shape)
    common = (matrix.T @ matrix).tocsr()
    norms = diags(1.0 / np.sqrt(np.maximum(common.diagonal(), 1.0)))
    similar = (norms @ common @ norms).tocsr()
    similar.data *= common.data / (common.data + shrinkage)
    return lambda cases: (profiles(cases, material.products, fading, last) @ similar).toarray()


def regressed(material: Material, ridge: float, half_life: float) -> Scorer:
    """EASE (Steck 2019, section 3): each product by a ridge regression on all others, the last time that a shopper
    bought it counting half after `half_life` days. Of large catalogs those that were bought most have a part in it."""
    bought = material.purchases
    counts = material.counts
    solved = np.sort(np.argsort(-counts, kind="stable")[: min(_MOST_REGRESSED, int((counts > 0).sum()))])
    newest_first = np.argsort(-bought.times, kind="stable")
    keys = bought.shoppers[newest_first] * material.products + bought.products[newest_first]
    pairs, newest = np.unique(keys, return_index=True)
    age = (bought.times.max() - bought.times[newest_first][newest]) / DAY_MS
    shape = (int(bought.shoppers.max()) + 1, material.products)
    cells = 0.5 ** (age / half_life / 2), (pairs // material.products, pairs % material.products)
    common = csr_matrix(cells, shape)[:, solved].astype(np.float32)
    system = (common.T @ common).toarray()
    diagonal = np.diag_indices(len(system))
    system[diagonal] += ridge * system[diagonal].mean()
    inverse = np.linalg.inv(system)
    inverse /= -inverse[diagonal]
    inverse[diagonal] = 0.0

    def scores(cases: Sequence[Case]) -> Floats:
        made = np.zeros((len(cases), material.products))
        made[:, solved] = profiles(cases, material.products, 1.0)[:, solved] @ inverse
        return made

    return scores


def factorised(material: Material, rate: float, *, folded: bool, factors: int = 64, epochs: int = 300) -> Scorer:
    """Bayesian personalised ranking (Rendle et al. 2009) by `implicit`; a shopper without purchases scores nothing.

    `folded` takes the sum of the factors of what was bought, newer ones above all, for the shopper's own: it knows what
    came since the training, and suits short histories.
    """
    from implicit.bpr import BayesianPersonalizedRanking

    bought = material.purchases
    shape = (int(bought.shoppers.max()) + 1, material.products)
    matrix = csr_matrix((np.ones(len(bought.products), np.float32), (bought.shoppers, bought.products)), shape=shape)
    matrix.data[:] = 1.0
    model = BayesianPersonalizedRanking(
        factors=factors, learning_rate=rate, iterations=epochs, num_threads=1, random_state=material.seed
    )
    model.fit(matrix, show_progress=False)
    shoppers, products = np.asarray(model.user_factors), np.asarray(model.item_factors)
    learned = np.diff(matrix.indptr) > 0
    # The last column is each product's bias.
    own = products[:, :-1]

    def from_history(cases: Sequence[Case]) -> Floats:
        return np.asarray((profiles(cases, material.products, _FADING) @ own) @ own.T)

    def scores(cases: Sequence[Case]) -> Floats:
        who = np.array([case.shopper for case in cases])
        known = (who < len(learned)) & learned[np.minimum(who, len(learned) - 1)]
        found = shoppers[np.where(known, who, 0)] @ products.T
        return np.where(known[:, None], found, 0.0)

    return from_history if folded else scores


def profiles(cases: Sequence[Case], products: int, fading: float, last: int | None = _LAST) -> csr_matrix:
    """(cases, products): the weight of each product in a history, 1 the newest, each older one `fading` of it."""
    histories = [case.history[-last:] if last else case.history for case in cases]
    rows = np.repeat(np.arange(len(cases)), [len(history) for history in histories])
    weights = [fading ** np.arange(len(history))[::-1] for history in histories]
    columns = np.concatenate([np.empty(0, np.int64), *histories])
    return csr_matrix((np.concatenate([np.empty(0), *weights]), (rows, columns)), shape=(len(cases), products))


# SASRec as a store could choose it today: cornac's network, trained to tell the next product from all others.
#
# Kang & McAuley 2018, Self-Attentive Sequential Recommendation. Trained with the cross-entropy over the whole catalog
# at every place of a sequence, which does better than the one sampled negative of the paper (Klenitskiy & Vasilev 2023,
# Turning Dross Into Gold Loss). cornac's own loop reads every beginning of a sequence apart, many times the work.

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
