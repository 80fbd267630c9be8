"""What the derived tables are made with: their window, the weights of acts, half-lives and thresholds."""

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
    """What an act counts for where acts of several kinds are added up."""

    click: float = 1.0
    consultation: float = 0.5
    """Less than a click: stores log a page view after each click, too."""
    cart: float = 3.0
    purchase: float = 5.0


@dataclass(frozen=True, slots=True)
class Window:
    """The time that tables are about: events from `first` to `last`, both included."""

    first: datetime
    """A midnight, UTC."""
    last: datetime

    @property
    def first_day(self) -> int:
        """Days since 1970."""
        return milliseconds(self.first) // DAY_MS

    @property
    def last_day(self) -> int:
        """Days since 1970: the day that holds `last`, and is most often not over."""
        return milliseconds(self.last) // DAY_MS


@dataclass(frozen=True, slots=True)
class DeriveOptions:
    """How tables are derived. Half-lives and days are in days, UTC."""

    until: datetime | None = None
    """No event after it is seen; by default the time of the refresh."""
    days: int = 180
    """How far back the window goes, the day of its end included; at most `LONGEST_WINDOW`."""
    least_shoppers: int = 5
    """Rows that fewer have brought about are left out."""
    half_life: float = 14.0
    """After which an act counts half as much for popularity and neighbours."""
    trend_half_life: float = 3.5
    """Of the recent rate, which a trend compares with the one under `half_life`."""
    trend_prior: float = 5.0
    """How many acts a trend's numbers are shrunk by."""
    weights: ActWeights = field(default_factory=ActWeights)
    neighbours: int = 50
    """The most neighbours, or next products, that a product has."""
    shrinkage: float = 10.0
    """Shoppers in common at which a similarity counts half."""
    category_prior: float = 10.0
    """Acts that the general shares of categories count for beside a query's own."""
    next_view_half_life: timedelta = timedelta(hours=1)
    """Of the pause between two views, after which the one counts half as the other's successor."""
    next_purchase_half_life: timedelta = timedelta(days=30)
    sequence: int = 50
    """The most acts of a shopper's sequence."""
    cleaning: CleaningOptions = field(default_factory=CleaningOptions)
    bots: BotOptions = field(default_factory=BotOptions)
    sessions_per_batch: int = 5_000
    """About how many sessions are scored together: more tell better what is usual, but are scored again more often."""

    def __post_init__(self) -> None:
        names = (
            "days",
            "least_shoppers",
            "half_life",
            "trend_half_life",
            "neighbours",
            "sequence",
            "sessions_per_batch",
        )
        for name in names:
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
