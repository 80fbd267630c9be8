"""Seeded randomness: one independent stream for each named purpose, fast enough to be asked value by value."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_BLOCK = 4096
_NORMAL = NormalDist()


def named_rng(seed: int, name: str) -> np.random.Generator:
    """A generator that depends on the seed and the name alone, so that adding a purpose changes no other."""
    digest = hashlib.sha256(name.encode()).digest()
    words = [int.from_bytes(digest[at : at + 4], "little") for at in range(0, 16, 4)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))


class Dice:
    """Draws single values from a named stream; numpy makes them in blocks, because one at a time is slow."""

    def __init__(self, seed: int, name: str) -> None:
        self._rng = named_rng(seed, name)
        self._block: list[float] = []

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(_BLOCK).tolist()
        return self._block.pop()

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        return int(self.unit() * bound)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self.unit() * len(options))]

    def some(self, options: Sequence[T], count: int) -> tuple[T, ...]:
        """`count` different options (all of them if there are fewer), in their own order."""
        keys = sorted(range(len(options)), key=[self.unit() for _ in options].__getitem__)
        return tuple(options[at] for at in sorted(keys[:count]))

    def normal(self) -> float:
        """Standard normal."""
        return _NORMAL.inv_cdf(max(self.unit(), 1e-12))

    def lognormal(self, median: float, sigma: float) -> float:
        """Log-normal with this median and this standard deviation of the logarithm."""
        return median * math.exp(sigma * self.normal())
