"""Sponsored campaigns: their definition, JSON form and validation, and their store with a log of every change."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Annotated

import msgspec
from msgspec import Meta

from shelfwise.retrieval.errors import CampaignError
from shelfwise.service.curation.document_store import (
    KEY_TABLE,
    DocumentCodec,
    DocumentStore,
    check_period,
    check_text,
    plain_document,
)

MICROS = 1_000_000
"""Millionths in one unit of the store's currency: amounts are whole numbers of these, so that sums are exact."""
LOWEST_FLOOR = -10.0
"""A relevance floor that every product passes."""
_DAY = timedelta(days=1)
_PLAIN = r"^[a-z0-9][a-z0-9-]{0,31}\Z"
_Floor = Annotated[float, Meta(ge=LOWEST_FLOOR, le=20)]
_Budget = Annotated[float, Meta(gt=0, le=1e9)]
_Text = Annotated[str, Meta(min_length=1, max_length=256)]


class Pacing(StrEnum):
    """Pacing of a daily budget."""

    EVEN = "even"
    """Spends it in proportion to the elapsed part of the day (UTC)."""
    FAST = "fast"
    """Spends it as fast as clicks come."""


class Campaign(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Products of one advertiser, the searches in which they may be shown, and the value of a click.

    Amounts are in the store's currency. Without queries and types, a campaign takes part in every search for which its
    products are relevant.
    """

    id: Annotated[str, Meta(pattern=rf"^\Z|{_PLAIN}")]
    """Empty for one derived from the name, the queries or the types when the campaign is stored."""
    advertiser: Annotated[str, Meta(pattern=_PLAIN)]
    products: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=1_000)]
    """Ids of the products."""
    bid: Annotated[float, Meta(gt=0, le=10_000)]
    """Maximum price of a click."""
    name: Annotated[str, Meta(max_length=200)] = ""
    queries: Annotated[tuple[_Text, ...], Meta(max_length=1_000)] = ()
    """Target texts; they match a query that has all words of one, in any order and form."""
    types: Annotated[tuple[_Text, ...], Meta(max_length=200)] = ()
    """Target product types, such as "cordless drill"; they match a query that names one."""
    budget: _Budget | None = None
    """Total budget; None for no limit."""
    daily_budget: _Budget | None = None
    """Daily budget (UTC days); None for no limit."""
    starts: datetime | None = None
    ends: datetime | None = None
    """End time (exclusive)."""
    pacing: Pacing = Pacing.EVEN
    floor: _Floor = LOWEST_FLOOR
    """Relevance floor of the advertiser; the highest one of its campaigns applies to all of them."""
    product_floors: Annotated[dict[str, _Floor], Meta(max_length=1_000)] = {}
    """Relevance floors by product id; the highest one of all campaigns applies to the product."""
    enabled: bool = True

    def runs(self, now: datetime) -> bool:
        """Whether it takes part at a time, regardless of its budget."""
        return self.enabled and (self.starts is None or self.starts <= now) and (self.ends is None or now < self.ends)

    def room(self, spent: int, spent_today: int, now: datetime, *, paced: bool = True) -> int:
        """The amount that may be charged at a time, in millionths: what is left of the budget and of the day's budget;
        with `paced` and even pacing, limited to the elapsed part of the day.

        An even campaign with a budget and an end divides the remaining budget by the remaining days.
        """
        left = [(to_micros(self.budget) - spent) if self.budget else to_micros(1e9)]
        begin = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        today = [to_micros(self.daily_budget)] if self.daily_budget else []
        is_even = paced and self.pacing is Pacing.EVEN
        if is_even and self.budget and self.ends:
            today.append((left[0] + spent_today) // max(1, ceil((self.ends - begin) / _DAY)))
        if today and is_even:
            first = max(begin, self.starts) if self.starts else begin
            over = (now - first) / (begin + _DAY - first)
            # The day starts with the budget of one click.
            today = [min(each, max(int(each * over), to_micros(self.bid))) for each in today]
        return min([*left, *(each - spent_today for each in today)])


def to_micros(amount: float) -> int:
    """An amount in millionths."""
    return round(amount * MICROS)


_ALLOWED: Mapping[str, str] = {
    "id": "at most 32 of a-z, 0-9 and -, not beginning with -",
    "advertiser": "1 to 32 of a-z, 0-9 and -, not beginning with -",
    "products": "a list of 1 to 1,000 product ids",
    "bid": "a number above 0, at most 10,000",
    "name": "a text of at most 200 characters",
    "queries": "a list of at most 1,000 texts",
    "types": "a list of at most 200 product types",
    "budget": "a number above 0",
    "daily_budget": "a number above 0",
    "starts": "a time such as 2026-11-27T00:00:00+01:00",
    "ends": "a time such as 2026-11-27T00:00:00+01:00",
    "pacing": f"one of {', '.join(Pacing)}",
    "floor": f"a number from {LOWEST_FLOOR:g} to 20",
    "product_floors": f"numbers from {LOWEST_FLOOR:g} to 20 by product id",
    "enabled": "true or false",
}


def _check(campaign: Campaign, place: str) -> Campaign:
    def wrong(field: str, problem: str) -> CampaignError:
        return CampaignError(f"{place}: {field}: {problem}", campaign.id, field)

    check_text(f"{place}: name", campaign.name, 200, CampaignError)
    for field in ("products", "queries", "types"):
        values: Sequence[str] = getattr(campaign, field)
        for number, each in enumerate(values):
            check_text(f"{place}: {field}[{number}]", each, 256, CampaignError, must=True, field=field)
        if len(set(values)) < len(values):
            twice = next(each for each in values if values.count(each) > 1)
            raise wrong(field, f"{twice[:100]!r} is listed twice; list it once")
    check_period(f"{place}: ", campaign.starts, campaign.ends, CampaignError)
    if campaign.budget and campaign.daily_budget and campaign.daily_budget > campaign.budget:
        raise wrong("daily_budget", f"is {campaign.daily_budget:g}, more than the budget of {campaign.budget:g}")
    smallest = min(filter(None, (campaign.budget, campaign.daily_budget)), default=campaign.bid)
    if campaign.bid > smallest:
        raise wrong("bid", f"is {campaign.bid:g}, more than the smallest budget of {smallest:g}")
    for each in campaign.product_floors:
        if each not in campaign.products:
            raise wrong("product_floors", f"{each[:100]!r} is not one of products; name one of these")
    return campaign


class CampaignStore(DocumentStore[Campaign]):
    """The campaigns of an index directory and their changes (INDEX/campaigns.sqlite); its errors are CampaignError. A
    product has only one advertiser. The file also contains the key that seals the offers in query ids, so only its
    owner can read it."""

    kind = DocumentCodec(
        one="campaign",
        many="campaigns",
        entry=Campaign,
        application=0x53574341,
        error=CampaignError,
        check=_check,
        allowed=_ALLOWED,
        to_plain=plain_document,
        label=lambda each: each.name or next(iter((*each.queries, *each.types, each.advertiser))),
        more_tables=KEY_TABLE,
        private=True,
    )

    def _check_together(self, cursor: sqlite3.Cursor) -> None:
        super()._check_together(cursor)
        owners: dict[str, Campaign] = {}
        for campaign in self._all(cursor):
            for product in campaign.products:
                other = owners.setdefault(product, campaign)
                if other.advertiser != campaign.advertiser:
                    message = f"{product!r} is advertised by {other.advertiser} (campaign {other.id!r})"
                    right = "a product can have only one advertiser: remove it from one of the two"
                    place = f"campaign {campaign.id!r}: products"
                    raise CampaignError(f"{place}: {message}; {right}", campaign.id, "products")
