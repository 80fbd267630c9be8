"""Displays of shoppers who are known, and what each of them did before: what attention over histories learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.inputs import MOST_ACTS

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Acts:
    """a acts of shoppers on products that the catalog has: by shopper, each one's by time."""

    shopper: Numbers
    """(a,): the number of each one's shopper; ascending."""
    rows: Numbers
    """(a,): products."""
    kinds: Numbers
    """(a,): places in `rerank.ranker.inputs.ACT_KINDS`."""
    times: Numbers
    """(a,): milliseconds since 1970."""

    def before(self, shopper: Numbers, times: Numbers) -> tuple[Numbers, Numbers]:
        """Which acts k shoppers had done, each before a time of its own, the newest `MOST_ACTS`: from those at the
        first (k,) to before those at the second (k,)."""
        start = int(self.times.min(initial=0))
        span = int(self.times.max(initial=0)) - start + 2
        keys = self.shopper * span + (self.times - start)
        behind = np.searchsorted(keys, shopper * span + np.clip(times - start, 0, span - 1))
        return np.maximum(np.searchsorted(self.shopper, shopper), behind - MOST_ACTS), behind


@dataclass(frozen=True, slots=True, eq=False)
class ShopperDisplays:
    """k lists as they were shown to one shopper each, the earliest first."""

    shopper: Numbers
    """(k,)."""
    times: Numbers
    """(k,): when it was shown, in milliseconds since 1970."""
    places: Numbers
    """(k, depth): which of the candidates of all queries, end to end, stood at each position; -1 for none."""
    acts: NDArray[np.bool_]
    """(k, depth, 3): whether it was clicked, put into the cart, bought; never where there is none."""
    first: Numbers
    """(k,): where its shopper's history begins in `Acts`."""
    behind: Numbers
    """(k,): before which act it ends. All of it is earlier than the list."""

    def __len__(self) -> int:
        return len(self.shopper)

    def taken(self, chosen: Numbers | NDArray[np.bool_]) -> ShopperDisplays:
        """Some of them."""
        return ShopperDisplays(
            self.shopper[chosen],
            self.times[chosen],
            self.places[chosen],
            self.acts[chosen],
            self.first[chosen],
            self.behind[chosen],
        )

    def telling(self, most: int | None = None, *, outputs: int | None = None) -> ShopperDisplays:
        """Those that tell something of a history, the newest `most` of them: there is one, at least two candidates
        stood there, and something was done on one. `outputs` is how many kinds of acts matter, from the first."""
        is_candidate = self.places >= 0
        acted = self.acts[..., :outputs].any(axis=(1, 2))
        found = np.flatnonzero((self.behind > self.first) & (is_candidate.sum(axis=1) > 1) & acted)
        return self.taken(found[-most:] if most else found)
