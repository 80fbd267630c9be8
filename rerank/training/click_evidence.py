"""What the lists of one period say of their products: debiased rates of clicks, carts and purchases, and the acts
themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rerank.clicks.arrays import Flags, Floats, Ints
from rerank.clicks.click_log import ClickLog
from rerank.clicks.labels import LabelOptions, fit_twice, shares_of_clicks
from rerank.clicks.outcomes import Outcomes, outcomes

LEAST_ACTS = 50
"""Carts, or purchases, that it takes to learn from them; with fewer, their outputs learn from clicks."""
LABELS = LabelOptions()
KINDS = ("clicks", "carts", "purchases")
"""The last axis of acts and gains, as `rerank.ranker.network.EVENTS`."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickEvidence:
    """A period's lists, and what a click model makes of them."""

    pairs: pl.DataFrame
    """pair, query, product_id: in the order of the pairs."""
    log: ClickLog
    acts: Flags
    """(n, depth, 3): whether what stood there was clicked, put into the cart, bought."""
    gains: Floats
    """(pairs, 3): the rates of these for a product that is looked at."""
    weights: Floats
    """(pairs,): 0 to 1, how much of the first comes from clicks, and not from what was supposed before them."""
    examination: Floats
    """(depth,): how often each position is looked at."""
    borrowed: tuple[str, ...] = ()
    """Of which kinds there was too little, so that their columns say what clicks do."""

    @property
    def query(self) -> Ints:
        """(pairs,): the number of each pair's query, in the order in which the pairs have them."""
        return self.pairs["query"].rle_id().to_numpy().astype(np.int32)

    @property
    def asked(self) -> npt.NDArray[np.int64]:
        """(n,): the query's number of each list; -1 for one that shows nothing."""
        pair = self.log.pairs.max(axis=1, initial=-1)
        asked: npt.NDArray[np.int64] = np.append(self.query, -1)[pair].astype(np.int64)
        return asked


def learned(events: pl.DataFrame, options: LabelOptions = LABELS) -> ClickEvidence:
    """Fits a click model to a period's events (see `rerank.clicks.click_log.click_log` for their columns)."""
    happened = outcomes(events, options.depth)
    model = fit_twice(happened.log, happened, options)
    made, end = model.estimates, happened.log.size
    counted = happened.carts(0, end), happened.purchases(0, end)
    led = (made.attractiveness * shares_of_clicks(each, made.clicks) for each in counted)
    gains = np.column_stack([made.attractiveness, *led])
    weights = made.effective / (made.effective + made.strength)
    acts = acts_of(happened)
    borrowed = tuple(name for at, name in enumerate(KINDS) if at and acts[..., at].sum() < LEAST_ACTS)
    for at in map(KINDS.index, borrowed):
        gains[:, at], acts[..., at] = gains[:, 0], acts[..., 0]
    return ClickEvidence(happened.pairs, happened.log, acts, gains, weights, model.examination, borrowed)


def acts_of(happened: Outcomes) -> Flags:
    """(n, depth, 3): what was done at each place; a cart or purchase counts at its product's highest place."""
    pairs = happened.log.pairs
    acts = np.zeros((*pairs.shape, len(KINDS)), np.bool_)
    acts[..., 0] = happened.log.clicks
    led = (happened.cart_rows, happened.cart_pairs), (happened.purchase_rows, happened.purchase_pairs)
    for output, (rows, of) in enumerate(led, 1):
        acts[rows, (pairs[rows] == of[:, None]).argmax(axis=1), output] = True
    return acts


def queries_with_clicks(evidence: ClickEvidence, most: int) -> tuple[str, ...]:
    """The queries on whose lists anything was done, the most frequent first, at most so many."""
    asked = evidence.asked
    names = evidence.pairs["query"].unique(maintain_order=True).to_list()
    traffic = np.bincount(asked[asked >= 0], minlength=len(names))
    acted = np.isin(np.arange(len(names)), asked[np.asarray(evidence.acts.any(axis=(1, 2)))])
    numbers = np.flatnonzero(acted & np.array([bool(name) for name in names], np.bool_))
    order = numbers[np.argsort(-traffic[numbers], kind="stable")]
    return tuple(names[number] for number in order[:most].tolist())
