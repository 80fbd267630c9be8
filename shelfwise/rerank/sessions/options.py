"""Options of the derived tables: their window, the privacy threshold, and the weights of acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.events.stored import DAY_MS, milliseconds, moment

MAX_WINDOW = 36_500
"""The longest window, in days: a hundred years."""
ACT_WEIGHTS: Mapping[str, float] = {"clicks": 1.0, "consultations": 0.5, "carts": 3.0, "purchases": 5.0}
"""The weights with which acts of several kinds are added up. A consultation counts less than a click, since stores also
log a page view after each click."""


@dataclass(frozen=True, slots=True)
class Window:
    """The time that the tables cover: events from `first` to `last`, inclusive."""

    first: datetime
    """Midnight, UTC."""
    last: datetime

    @property
    def first_day(self) -> int:
        """Days since 1970."""
        return milliseconds(self.first) // DAY_MS

    @property
    def last_day(self) -> int:
        """Days since 1970: the day of `last`, which is usually not over."""
        return milliseconds(self.last) // DAY_MS


@dataclass(frozen=True, slots=True)
class DeriveOptions:
    """Options of the derived tables; days are UTC."""

    until: datetime | None = None
    """The end of the window, with its zone; by default the time of the refresh."""
    days: int = 180
    """The length of the window, including its last day; at most `MAX_WINDOW`."""
    least_shoppers: int = 5
    """Rows with fewer shoppers are left out."""

    def __post_init__(self) -> None:
        if not 0 < self.days <= MAX_WINDOW:
            raise SettingError(f"days is {self.days:,}; it must be 1 to {MAX_WINDOW:,}")

    def window(self, now: datetime) -> Window:
        """The window of a refresh at this time."""
        last = moment(milliseconds(self.until or now))
        first_day = milliseconds(last) // DAY_MS - self.days + 1
        return Window(moment(first_day * DAY_MS), last)
