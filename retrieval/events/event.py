"""The record of one thing that a shopper did, after the schema of User Behavior Insights (UBI)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """What happened, roughly from the least telling to the most."""

    QUERY = "query"
    """A search was answered."""
    IMPRESSION = "impression"
    """A product was shown in a list, at a position."""
    CLICK = "click"
    """It was chosen from that list."""
    CONSULTATION = "consultation"
    """Its page was looked at, however it was reached."""
    CART = "cart"
    """It was put into the cart."""
    REMOVAL = "removal"
    """It was taken out of the cart, or sent back."""
    PURCHASE = "purchase"
    RATING = "rating"
    """It was given stars."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as a store tells it; never changed afterwards.

    Needed are its kind, a product (of a query: its text and its id), and something that tells whose it is: a shopper,
    a session or a query id. `shopper` and `session` are what the store calls them; they are replaced by pseudonyms
    before anything is written.
    """

    kind: EventKind
    product_id: str = ""
    query_id: str = ""
    """Which answer to a search it was done on; the same for its query, impressions, clicks and what comes of them."""
    query: str = ""
    """What was searched; empty on a page that was browsed."""
    shopper: str = ""
    session: str = ""
    position: int | None = None
    """Where the product stood, from 1, over all pages of the answer."""
    time: datetime | None = None
    """When it happened, with its zone; by default now."""
    event_id: str = ""
    """The client's own id: an event that is sent again with it is counted once. By default made of all else."""
    quantity: int | None = None
    """Of a cart, removal or purchase: how many; by default 1."""
    rating: float | None = None
    """Of a rating: stars, 0 to 5."""
    results: int | None = None
    """Of a query: how many products it found."""
