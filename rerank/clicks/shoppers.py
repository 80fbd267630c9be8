"""Simulated shoppers: what they look at and click, drawn step by step from the hidden events of each click model.

They share no code with the models that are fitted, so that fitting what they clicked tests both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rerank.clicks.arrays import Flags, Floats


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The lists that shoppers are shown; arrays (n, depth), 0 where nothing stands."""

    attractiveness: Floats
    """The probability of a click on what is looked at."""
    satisfaction: Floats
    """The probability that a click ends the search."""


class Shopper(Protocol):
    """A way of going through a list."""

    def visit(self, view: View, random: np.random.Generator) -> tuple[Flags, Flags]:
        """What was clicked and what was looked at, (n, depth) each."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PositionShopper:
    """Looks at each position by its own chance (the PBM)."""

    examination: Floats
    """(depth,)"""

    def visit(self, view: View, random: np.random.Generator) -> tuple[Flags, Flags]:
        """See Shopper."""
        shape = view.attractiveness.shape
        looked = random.random(shape) < self.examination[: shape[1]]
        return looked & (random.random(shape) < view.attractiveness), looked


@dataclass(frozen=True, slots=True, eq=False)
class DependentShopper:
    """Goes down the list, and after a click looks on by a chance that depends on the position (the DCM)."""

    continuation: Floats
    """(depth,)"""

    def visit(self, view: View, random: np.random.Generator) -> tuple[Flags, Flags]:
        """See Shopper."""
        ending = np.broadcast_to(1.0 - self.continuation[: view.attractiveness.shape[1]], view.attractiveness.shape)
        return _down_the_list(view.attractiveness, ending, random)


@dataclass(frozen=True, slots=True)
class SatisfiedShopper:
    """Goes down the list until a product that was clicked satisfies (the simplified DBN)."""

    def visit(self, view: View, random: np.random.Generator) -> tuple[Flags, Flags]:
        """See Shopper."""
        return _down_the_list(view.attractiveness, view.satisfaction, random)


@dataclass(frozen=True, slots=True, eq=False)
class BrowsingShopper:
    """Looks at a position by a chance that depends on where the last click was (the UBM)."""

    gamma: Floats
    """(depth, depth): by position - 1 and the last click's position, 0 for none."""

    def visit(self, view: View, random: np.random.Generator) -> tuple[Flags, Flags]:
        """See Shopper."""
        shape = view.attractiveness.shape
        looked, clicks = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        last = np.zeros(shape[0], np.int64)
        for position in range(shape[1]):
            looked[:, position] = random.random(shape[0]) < self.gamma[position, last]
            attracted = random.random(shape[0]) < view.attractiveness[:, position]
            clicks[:, position] = looked[:, position] & attracted
            last[clicks[:, position]] = position + 1
        return clicks, looked


def _down_the_list(attractiveness: Floats, ending: Floats, random: np.random.Generator) -> tuple[Flags, Flags]:
    shape = attractiveness.shape
    looked, clicks = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    going = np.ones(shape[0], np.bool_)
    for position in range(shape[1]):
        looked[:, position] = going
        clicks[:, position] = going & (random.random(shape[0]) < attractiveness[:, position])
        going = going & ~(clicks[:, position] & (random.random(shape[0]) < ending[:, position]))
    return clicks, looked


def falling_examination(strength: float, depth: int = 10) -> Floats:
    """(depth,): examination 1 / position^strength, the curve by which position bias is usually simulated.

    Joachims, Swaminathan & Schnabel 2017 (Unbiased learning-to-rank with biased feedback, section 6.1). Strength 0 is
    no bias.
    """
    return np.asarray(1.0 / np.arange(1, depth + 1) ** strength)


def falling_gamma(strength: float, depth: int = 10) -> Floats:
    """(depth, depth): examination for a `BrowsingShopper`, 1 / (positions since the last click)^strength, with 0.8 of
    that after a click."""
    position, last = np.arange(1, depth + 1)[:, None], np.arange(depth)[None, :]
    since = np.maximum(position - last, 1)
    gamma = np.where(last == 0, 1.0, 0.8) / since**strength
    return np.asarray(np.where(last < position, gamma, 0.0))
