"""The demo store's log: pages shown, what was done on them, and the rows that a store would have written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from retrieval.events.event import EventKind
from service.demo.catalog import Catalog
from service.demo.lines import CATALOG_DAY


@dataclass(frozen=True, slots=True)
class DemoEvent:
    """One row of the log: what `shelfwise events import` reads without a mapping."""

    event_id: str
    kind: EventKind
    query_id: str
    query: str
    """What was searched; empty on a category page that was browsed."""
    shopper: str
    session: str
    product_id: str
    position: int
    """From 1, over all pages of the answer."""
    time: str
    """ISO 8601, UTC, milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One answer that was shown: products (as positions in the catalog) of its pages so far."""

    query: str
    shopper: str
    session: str
    products: Sequence[int]


@dataclass(frozen=True, slots=True)
class Action:
    """Something done with the product at a position of an answer, `ms` after the log begins."""

    ms: int
    kind: EventKind
    shown: Shown
    position: int


def opaque_id(prefix: str, seed: int, number: int) -> str:
    """An id that tells nothing of how its owner came to be."""
    return prefix + hashlib.sha256(f"{seed}/{prefix}/{number}".encode()).hexdigest()[:12]


def impressions(shown: Shown, first: int, last: int, ms: int) -> Iterator[Action]:
    """One page of the answer comes up: its products at positions `first` to `last`."""
    return (Action(ms, EventKind.IMPRESSION, shown, at) for at in range(first, min(last, len(shown.products)) + 1))


def to_events(actions: list[Action], catalog: Catalog) -> Iterator[DemoEvent]:
    """The log in order of time. Answers are numbered as they first appear in it."""
    ids = [item.product.id for item in catalog.products]
    queries: dict[Shown, str] = {}
    for number, action in enumerate(sorted(actions, key=lambda action: action.ms), start=1):
        shown = action.shown
        yield DemoEvent(
            event_id=f"e{number:09d}",
            kind=action.kind,
            query_id=queries.setdefault(shown, f"q{len(queries) + 1:08d}"),
            query=shown.query,
            shopper=shown.shopper,
            session=shown.session,
            product_id=ids[shown.products[action.position - 1]],
            position=action.position,
            time=_timestamp(action.ms),
        )


def _timestamp(ms: int) -> str:
    moment = CATALOG_DAY + timedelta(days=1, milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
