"""Options of the derived tables: window, weights of acts, half-lives and thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from shelfwise.rerank.sessions.bots import BotOptions
from shelfwise.rerank.sessions.cleaning import CleaningOptions
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.events.stored import DAY_MS, milliseconds, moment

LONGEST_WINDOW = 36_500
"""The longest window, in days: a hundred years."""


@dataclass(frozen=True, slots=True)
class ActWeights:
    """The weights with which acts of several kinds are added up."""

    click: float = 1.0
    consultation: float = 0.5
    """Less than a click, since stores also log a page view after each click."""
    cart: float = 3.0
    purchase: float = 5.0


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
    """Options of the derived tables. Half-lives are in days unless they say otherwise; days are UTC."""

    until: datetime | None = None
    """The end of the window; by default the time of the refresh."""
    days: int = 180
    """The length of the window, including its last day; at most `LONGEST_WINDOW`."""
    least_shoppers: int = 5
    """Rows with fewer shoppers are left out."""
    half_life: float = 14.0
    """The age at which an act counts half for popularity and neighbours."""
    memory_half_life: float = 30.0
    """The age at which a list counts half for the query memory."""
    trend_half_life: float = 3.5
    """The half-life of the recent rate, which a trend compares with the rate under `half_life`."""
    trend_prior: float = 5.0
    """The weight of a trend's prior, in acts."""
    weights: ActWeights = field(default_factory=ActWeights)
    neighbours: int = 50
    """The largest number of neighbours of a product."""
    shrinkage: float = 10.0
    """The number of common shoppers at which a similarity counts half."""
    category_prior: float = 10.0
    """The weight of the prior shares of categories in a query's shares, in acts."""
    cleaning: CleaningOptions = field(default_factory=CleaningOptions)
    bots: BotOptions = field(default_factory=BotOptions)
    sessions_per_batch: int = 5_000
    """About how many sessions are scored together: more give a better baseline, but are scored again more often."""

    def __post_init__(self) -> None:
        positive = (
            "days",
            "least_shoppers",
            "half_life",
            "memory_half_life",
            "trend_half_life",
            "neighbours",
            "sessions_per_batch",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise SettingError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.days > LONGEST_WINDOW:
            raise SettingError(f"days is {self.days:,}; it must be at most {LONGEST_WINDOW:,}")
        if self.until is not None and self.until.utcoffset() is None:
            raise SettingError(f"until is {self.until.isoformat()}; a time needs a zone, such as +00:00")

    def window(self, now: datetime) -> Window:
        """The window of a refresh at this time."""
        last = moment(milliseconds(self.until or now))
        first_day = milliseconds(last) // DAY_MS - self.days + 1
        return Window(moment(first_day * DAY_MS), last)
