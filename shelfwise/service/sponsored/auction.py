"""The auction of the sponsored places of one answer: calibrated click probabilities, allocation and prices.

Bids are ranked by expected value: the value of a click to the advertiser times its probability. The price of a click is
the lowest bid that would have kept the place: with one place a second price (Vickrey 1961), with several the payments
of Vickrey, Clarke and Groves for places that are examined with different frequency (Edelman, Ostrovsky & Schwarz 2007,
Internet Advertising and the Generalized Second-Price Auction; Myerson 1981, Optimal Auction Design, lemma 2, for the
reserve). A price does not depend on the bidder's own bid, so the best bid is the true value of a click.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from shelfwise.service.sponsored.campaign import MICROS

MAX_PLACES = 4
EXAMINATION = tuple(1 / math.log2(place + 1) for place in range(1, MAX_PLACES + 1))
"""Examination of each place, relative to the first: the discount of DCG (Järvelin & Kekäläinen 2002)."""
_ROUNDING = 1e-6
"""Tolerance for rounding, in millionths."""


@dataclass(frozen=True, slots=True)
class Bid:
    """The offer of a campaign for a place."""

    campaign: str
    advertiser: str
    amount: float
    """Amount for a click, in the store's currency."""
    probability: float
    """Probability of a click on the product when it is examined, 0 to 1."""

    @property
    def value(self) -> float:
        """The expected value of an examination."""
        return self.amount * self.probability


@dataclass(frozen=True, slots=True)
class Award:
    """A place won by a bid."""

    bid: int
    """Number of the bid."""
    place: int
    """Position, from 1."""
    price: int
    """Price of a click in millionths of the currency: at least the reserve, at most the bid."""


def award_places(bids: Sequence[Bid], places: int, reserve: float, seed: str = "") -> list[Award]:
    """The winners of up to `MAX_PLACES` places, in order. Bids below the `reserve` for a click do not take part.

    An advertiser gets at most one place, for its bid with the highest expected value, so it does not bid against
    itself. Equal expected values are ordered by a hash of `seed` and the campaign, so that no name is always first.
    """
    taking_part = [number for number, bid in enumerate(bids) if bid.amount >= reserve and bid.value > 0]

    def order(number: int) -> tuple[float, bytes]:
        name = f"{seed}\0{bids[number].campaign}".encode("utf-8", "surrogatepass")
        return -bids[number].value, blake2b(name, digest_size=8).digest()

    ranked: dict[str, int] = {}
    for number in sorted(taking_part, key=order):
        ranked.setdefault(bids[number].advertiser, number)
    winners = list(ranked.values())
    values = [bids[number].value for number in winners[: places + 1]] + [0.0] * (places + 1)
    looks = [*EXAMINATION[:places], 0.0]
    return [
        Award(number, place, _price(bids[number], values, looks, place, reserve))
        for place, number in enumerate(winners[:places], 1)
    ]


def _price(bid: Bid, values: Sequence[float], looks: Sequence[float], place: int, reserve: float) -> int:
    """The price of a click at a place: the mean of the lowest bids that get this place and each one below it, weighted
    by the additional examinations relative to the next one."""
    total = sum(
        (looks[at] - looks[at + 1]) * max(reserve, values[at + 1] / bid.probability)
        for at in range(place - 1, len(looks) - 1)
    )
    price = math.floor(total / looks[place - 1] * MICROS + _ROUNDING)
    return min(price, math.floor(bid.amount * MICROS + _ROUNDING))


BUCKETS = 13
"""Buckets of ratios, each half an octave wide: up to 2^-3, the seventh around 1, from 2^3 on the last."""
_PRIOR_RATE = 0.05
_PRIOR_LOOKS = 200.0
"""Weight, in examinations, of the prior of all buckets, and of the prior of each."""
_RATES = (1e-4, 0.95)


def bucket_of(ratio: float) -> int:
    """The bucket of a ratio, 0 to `BUCKETS` - 1."""
    return int(np.clip(round(2 * math.log2(max(ratio, 1e-9))) + BUCKETS // 2, 0, BUCKETS - 1))


_MIDDLES = 2.0 ** ((np.arange(BUCKETS) - BUCKETS // 2) / 2)


class ClickRates:
    """Calibrated click probabilities of sponsored products by their ratio: how often shoppers choose the product for
    such queries, relative to other products, in the query memory.

    The rate of each bucket is that of the clicks on sponsored products so far, smoothed towards the ratio times the
    overall rate; isotonic regression (pool adjacent violators, Ayer et al. 1955) makes it rise with the ratio, and it
    is interpolated between the middles of buckets.
    """

    def __init__(self, looks: NDArray[np.float64], clicks: NDArray[np.float64]) -> None:
        """`looks` (BUCKETS,): number of times that products were shown, weighted by the examination of places; `clicks`
        (BUCKETS,) on them."""
        expected = looks @ _MIDDLES
        level = (clicks.sum() + _PRIOR_RATE * _PRIOR_LOOKS) / (expected + _PRIOR_LOOKS)
        weights = looks + _PRIOR_LOOKS
        rates = (clicks + _PRIOR_LOOKS * level * _MIDDLES) / weights
        if looks.any():
            from scipy.optimize import isotonic_regression  # not needed by a store without sponsored hits

            rates = isotonic_regression(rates, weights=weights).x
        self.rates = np.clip(rates, *_RATES)

    def probabilities(self, ratios: NDArray[np.float64]) -> NDArray[np.float64]:
        """The click probabilities (n,) of products with these ratios, which are 0 or more."""
        places = np.log2(np.maximum(ratios, 1e-9))
        return np.asarray(np.interp(places, np.log2(_MIDDLES), self.rates))


NO_CLICKS = ClickRates(np.zeros(BUCKETS), np.zeros(BUCKETS))
"""Click rates of a store without sponsored impressions."""
