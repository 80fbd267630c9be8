"""Recommenders of the libraries implicit and cornac on the purchases of `benchmarks.studies.recommend`. Options are
chosen on the choosing part; then training uses everything before the measuring part.

cornac requires packages that Shelfwise does not, so this runs in a separate environment:

    uv run --no-project --with implicit==0.7.3 --with cornac==3.0.1 --with torch \
        python -m benchmarks.peers.recommenders cases.npz als als.npz

Methods: als (Hu et al. 2008, weighted matrix factorisation) and neighbours (item-kNN, weighted by BM25) of implicit;
vaecf (Liang et al. 2018, Mult-VAE) and gru4rec (Hidasi et al. 2015) of cornac.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
_CASES = 512
"""The number of cases scored at a time."""


class Purchases:
    """Histories, concatenated: products (n,) and the start of each shopper's (shoppers + 1,)."""

    def __init__(self, products: Ints, starts: Ints) -> None:
        self.products, self.starts = products, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def matrix(self, items: int) -> csr_matrix:
        """(shoppers, items): how often each product was bought."""
        found = csr_matrix((np.ones(len(self.products), np.float32), self.products, self.starts), (len(self), items))
        found.sum_duplicates()
        return found

    def parts(self) -> Iterator[Purchases]:
        """The shoppers in blocks."""
        for first in range(0, len(self), _CASES):
            bounds = self.starts[first : first + _CASES + 1]
            yield Purchases(self.products[bounds[0] : bounds[-1]], bounds - bounds[0])


Score = Callable[[Purchases], Floats]
"""Returns scores (shoppers, items) for histories."""


def als(learned: Purchases, items: int, factors: int, alpha: float) -> Score:
    """Weighted matrix factorisation; the factors of a history are computed for it."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(factors=factors, alpha=alpha, random_state=0, num_threads=2)
    model.fit(learned.matrix(items), show_progress=False)

    def score(histories: Purchases) -> Floats:
        own = model.recalculate_user(np.arange(len(histories)), histories.matrix(items))
        return np.asarray(own @ model.item_factors.T, np.float32)

    return score


def neighbours(learned: Purchases, items: int, most: int, saturation: float) -> Score:
    """Products bought by the same shoppers."""
    from implicit.nearest_neighbours import BM25Recommender

    model = BM25Recommender(K=most, K1=saturation, B=0.2)
    model.fit(learned.matrix(items), show_progress=False)
    return lambda histories: np.asarray((histories.matrix(items) @ model.similarity).todense(), np.float32)


def vaecf(learned: Purchases, items: int, width: int, epochs: int) -> Score:
    """A variational autoencoder of a shopper's purchases."""
    import torch
    from cornac.models import VAECF

    matrix = learned.matrix(items)
    model = VAECF(k=width, autoencoder_structure=[4 * width], n_epochs=epochs, learning_rate=1e-3, seed=0)
    known = _known(matrix)
    model.fit(known)
    columns = np.array([int(each) for each in known.item_ids])

    @torch.inference_mode()
    def score(histories: Purchases) -> Floats:
        bought = (histories.matrix(items)[:, columns] > 0).astype(np.float32).toarray()
        mean, _ = model.vae.encode(torch.from_numpy(bought))
        return _spread(model.vae.decode(mean).numpy(), columns, items)

    return score


def gru4rec(learned: Purchases, items: int, width: int, epochs: int) -> Score:
    """A recurrent network over a shopper's purchases in order."""
    from cornac.data import SequentialDataset
    from cornac.models import GRU4Rec

    owner = np.repeat(np.arange(len(learned)), np.diff(learned.starts))
    rows = zip(owner.tolist(), learned.products.tolist(), range(len(owner)), strict=True)
    dataset = SequentialDataset.from_sit([(str(shopper), str(item), at) for shopper, item, at in rows], seed=0)
    model = GRU4Rec(layers=[width], n_epochs=epochs, seed=0)
    model.fit(dataset)
    columns = np.array([int(each) for each in dataset.item_ids])
    place = np.full(items, -1)
    place[columns] = np.arange(len(columns))

    def score(histories: Purchases) -> Floats:
        made = np.zeros((len(histories), len(columns)), np.float32)
        for number, (start, end) in enumerate(zip(histories.starts[:-1], histories.starts[1:], strict=True)):
            bought = place[histories.products[start:end]]
            made[number] = model.score(None, [*bought[bought >= 0].tolist()])
        return _spread(made, columns, items)

    return score


METHODS: Mapping[str, tuple[Callable[..., Score], tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "als": (als, ((64, 128, 256), (1.0, 5.0, 20.0))),
    "neighbours": (neighbours, ((50, 200, 1000), (0.1, 1.2, 100.0))),
    "vaecf": (vaecf, ((64,), (50, 150))),
    "gru4rec": (gru4rec, ((64, 128), (10, 30))),
}
"""Methods by name, with the values of both options."""


def _known(matrix: csr_matrix) -> Any:  # noqa: ANN401 - of cornac
    from cornac.data import Dataset

    rows = matrix.tocoo()
    pairs = zip(rows.row.tolist(), rows.col.tolist(), strict=True)
    return Dataset.from_uir([(str(shopper), str(item), 1.0) for shopper, item in pairs], seed=0)


def _spread(scores: Floats, columns: Ints, items: int) -> Floats:
    """Scores of some items, expanded to all; minus infinity for others."""
    made = np.full((len(scores), items), -np.inf, np.float32)
    made[:, columns] = scores[:, : len(columns)]
    return made


Part = Mapping[str, Any]
"""The arrays of a part, by name."""


def read_cases(path: str) -> tuple[int, bool, Part, Part]:
    """The number of products, whether bought ones are left out, and the choosing and measuring parts."""
    data = np.load(path)
    choosing, measuring = (
        {key[len(name) :]: data[key] for key in data if key.startswith(name)} for name in ("choosing_", "measuring_")
    )
    return int(data["count"]), bool(data["hide_seen"]), choosing, measuring


def ndcg(scores: Floats, part: Part, *, hide_seen: bool) -> float:
    """The mean nDCG@10 of a part's targets, each as the only one, by scores (n, items); ties rank the target last."""
    owner = np.repeat(np.arange(len(scores)), np.diff(part["case_starts"]))
    if hide_seen:
        scores[owner, part["case_products"]] = -np.inf
    at = scores[part["visits"], part["targets"]]
    found = (scores[part["visits"]] >= at[:, None]).sum(axis=1)
    return float(np.where(np.isfinite(at) & (found <= 10), 1 / np.log2(found + 1.0), 0.0).mean())


def main(cases: str, method: str, out: str) -> None:
    """Chooses the options, trains, and writes the scores of the measured cases (n, items)."""
    items, hide_seen, choosing, measuring = read_cases(cases)

    def scores(part: Part, options: tuple[float, ...]) -> Floats:
        score = METHODS[method][0](Purchases(part["products"], part["starts"]), items, *options)
        given = Purchases(part["case_products"], part["case_starts"])
        return np.concatenate([score(each) for each in given.parts()])

    reached = {}
    for options in product(*METHODS[method][1]):
        reached[options] = ndcg(scores(choosing, options), choosing, hide_seen=hide_seen)
        sys.stderr.write(f"{method} {options}: {reached[options]:.4f}\n")
    best = max(reached, key=lambda options: reached[options])
    np.savez_compressed(out, scores=scores(measuring, best))


if __name__ == "__main__":
    main(*sys.argv[1:])
