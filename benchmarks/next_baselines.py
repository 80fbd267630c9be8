"""What a store could choose without us: popularity, neighbours and matrix factorisation over its own purchases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.sparse import csr_matrix, diags

from benchmarks.next_ways import Fit, Floats, Material, Scorer, Way, best_of
from benchmarks.purchases import Case, Ints
from retrieval.events.stored import DAY_MS

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
    `rerank.behaviour.neighbours`, over all neighbours)."""
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
