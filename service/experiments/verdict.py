"""What the figures of an experiment come to, in words: decided, not yet, or never with this traffic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from service.experiments.intervals import Difference, margin

LEAST_SHOPPERS = 100
"""That each variant must have been seen by: what is said of all later looks holds when the first is not too early."""
_NOTHING = "nothing has happened yet that could be compared"
LONGEST = timedelta(days=365)
"""How long an experiment without an end is thought to run at most."""


class Standing(StrEnum):
    """How far an experiment has come."""

    DECIDED = "decided"
    NOT_YET = "not yet"
    NEVER = "never with this traffic"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said now. It may be looked at as often as one likes: it goes by the interval that allows it."""

    standing: Standing
    winner: str
    """The variant that is better; empty where none is."""
    text: str


@dataclass(frozen=True, slots=True)
class Course:
    """An experiment's way through time."""

    begins: datetime
    until: datetime
    """Up to when events are looked at, or when it was over."""
    over: datetime | None
    """When it is or was over, where that is known."""
    planned: int
    alpha: float

    @property
    def is_over(self) -> bool:
        """Whether nobody comes any more."""
        return self.over is not None and self.over <= self.until

    @property
    def lasts(self) -> float:
        """Its days from beginning to end."""
        return max(((self.over or self.begins + LONGEST) - self.begins) / timedelta(days=1), self.days)

    @property
    def days(self) -> float:
        """Its days up to now; an hour at least."""
        return max((self.until - self.begins) / timedelta(days=1), 1 / 24)


def verdict(
    names: tuple[str, str], found: Difference | None, fewest: int, least: float, course: Course, *, less: bool = False
) -> Verdict:
    """What a difference says. `names` are the control and the challenger, `fewest` how many shoppers saw the one that
    fewer saw, `least` is the smallest difference that matters; `less` where less is better."""
    control, challenger = names
    if found is None or fewest < LEAST_SHOPPERS:
        few = f"{fewest:,} shoppers saw one of the two; nothing is said of fewer than {LEAST_SHOPPERS}"
        text = few if fewest < LEAST_SHOPPERS else _NOTHING
        return Verdict(Standing.NEVER if course.is_over else Standing.NOT_YET, "", text)
    if found.always.excludes_zero:
        winner = challenger if (found.value > 0) != less else control
        loser = control if winner == challenger else challenger
        return Verdict(Standing.DECIDED, winner, f"{winner} is better than {loser}")
    if max(-found.always.low, found.always.high) <= least:
        text = f"between {control} and {challenger} there is no difference that matters"
        return Verdict(Standing.DECIDED, "", text)
    return _undecided(found, least, course)


def _undecided(found: Difference, least: float, course: Course) -> Verdict:
    if course.is_over:
        return Verdict(Standing.NEVER, "", "it is over, and what was seen can be chance")
    effect = max(abs(found.value), least)
    if not effect:
        return Verdict(Standing.NOT_YET, "", _NOTHING)
    needed = _needed(found, effect, course)
    a_day = found.shoppers / course.days
    days = (needed - found.shoppers) / a_day
    if needed > a_day * course.lasts:
        ends = "it ends" if course.over else f"{LONGEST.days} days are over"
        text = f"a difference of what is seen, or matters, needs {needed:,} shoppers, more than come before {ends}"
        return Verdict(Standing.NEVER, "", text)
    text = f"about {needed - found.shoppers:,} more shoppers, {days:,.0f} days, if it stays as it is seen now"
    return Verdict(Standing.NOT_YET, "", text)


def _needed(found: Difference, effect: float, course: Course) -> int:
    """How many shoppers tell a difference of this size from nothing; at most a billion."""
    low, high = found.shoppers, found.shoppers

    def told(shoppers: int) -> bool:
        return margin(found.deviation, shoppers, course.planned, course.alpha) < effect

    while not told(high) and high < 1_000_000_000:
        low, high = high, high * 2
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if told(middle) else (middle, high)
    return high
