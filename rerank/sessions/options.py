"""Options of the derived tables: window, weights of acts, half-lives and thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rerank.sessions.bots import BotOptions
from rerank.sessions.cleaning import CleaningOptions
from retrieval.errors import SettingError
from retrieval.events.stored import DAY_MS, milliseconds, moment

LONGEST_WINDOW = 36_500
"""Days: a hundred years."""


@dataclass(frozen=True, slots=True)
class ActWeights:
    """The weight of an act where acts of several kinds are added up."""

    click: float = 1.0
    consultation: float = 0.5
    """Less than a click, as stores log a page view after each click, too."""
    cart: float = 3.0
    purchase: float = 5.0


@dataclass(frozen=True, slots=True)
class Window:
    """The time that the tables cover: events from `first` to `last`, both included."""

    first: datetime
    """A midnight, UTC."""
    last: datetime

    @property
    def first_day(self) -> int:
        """Days since 1970."""
        return milliseconds(self.first) // DAY_MS

    @property
    def last_day(self) -> int:
        """Days since 1970: the day of `last`, which is most often not over."""
        return milliseconds(self.last) // DAY_MS


@dataclass(frozen=True, slots=True)
class DeriveOptions:
    """How tables are derived. Half-lives and days are in days, UTC."""

    until: datetime | None = None
    """The last time of the window; the time of the refresh by default."""
    days: int = 180
    """The length of the window, the day of its end included; at most `LONGEST_WINDOW`."""
    least_shoppers: int = 5
    """Rows of fewer shoppers are left out."""
    half_life: float = 14.0
    """After which an act counts half as much for popularity and neighbours."""
    memory_half_life: float = 30.0
    """After which a list counts half as much for what products were chosen for a query."""
    trend_half_life: float = 3.5
    """Of the recent rate, which a trend compares with the one under `half_life`."""
    trend_prior: float = 5.0
    """Acts that a trend's prior weighs."""
    weights: ActWeights = field(default_factory=ActWeights)
    neighbours: int = 50
    """The most neighbours, or next products, that a product has."""
    shrinkage: float = 10.0
    """Shoppers in common at which a similarity counts half."""
    category_prior: float = 10.0
    """Acts that the prior shares of categories weigh in a query's."""
    next_view_half_life: timedelta = timedelta(hours=1)
    """Of the pause between two views: after so long the second counts half as the successor of the first."""
    next_purchase_half_life: timedelta = timedelta(days=30)
    sequence: int = 50
    """The most acts of a shopper's sequence."""
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
            "sequence",
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
        """The window of a refresh at a time."""
        last = moment(milliseconds(self.until or now))
        first_day = milliseconds(last) // DAY_MS - self.days + 1
        return Window(moment(first_day * DAY_MS), last)
