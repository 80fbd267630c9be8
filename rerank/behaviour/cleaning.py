"""Cleaning: clocks corrected, events told apart into visits and needs, and what cannot be learned from set aside.

Nothing is dropped: every event is in the one table or in the other, where it has the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from rerank.behaviour.clocks import ClockOptions, with_right_times
from rerank.behaviour.faults import FaultOptions, faults
from rerank.behaviour.reformulation import NeedOptions, with_needs
from rerank.behaviour.visits import VisitOptions, with_visits
from retrieval.events.stored import EVENT_SCHEMA

CLEAN_SCHEMA = pl.Schema([*EVENT_SCHEMA.items(), ("visit", pl.UInt32()), ("need", pl.UInt32())])
"""Events as learning takes them: which visit each belongs to, and which of its needs."""
_TOLD = ("key", "time", "kind", "product_id", "query_id")
ASIDE_SCHEMA = pl.Schema(
    [*((name, EVENT_SCHEMA[name]) for name in _TOLD), ("reason", pl.String()), ("detail", pl.String())]
)
"""Events that were set aside, each with one of `faults.Reason` and a short sentence about this event."""


@dataclass(frozen=True, slots=True)
class CleaningOptions:
    """The rules of each step."""

    clocks: ClockOptions = field(default_factory=ClockOptions)
    visits: VisitOptions = field(default_factory=VisitOptions)
    faults: FaultOptions = field(default_factory=FaultOptions)
    needs: NeedOptions = field(default_factory=NeedOptions)


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """What came of a table of events; both tables together have all of them."""

    events: pl.DataFrame
    """Of `CLEAN_SCHEMA`, ordered by visit and time. Visits and needs are unique over the table; numbers can lack."""
    aside: pl.DataFrame
    """Of `ASIDE_SCHEMA`, ordered by time."""


def clean(
    events: pl.DataFrame,
    products: pl.DataFrame | None,
    options: CleaningOptions | None = None,
    *,
    told: pl.DataFrame | None = None,
) -> Cleaned:
    """Cleans a table of `EVENT_SCHEMA`; the order of its rows does not matter.

    `products` is the catalog: product_id (String) and created (Datetime, null where not known). Without one, no event
    is judged by it. `told` are events that came before all of these, of which answers are known: see `faults`.
    """
    options = options or CleaningOptions()
    timed = with_right_times(events.select(EVENT_SCHEMA.names()), options.clocks)
    visits = with_visits(timed, options.visits)
    judged = faults(visits, products, options.faults, told=told)
    sound = judged.filter(pl.col("reason").is_null()).select(visits.columns)
    aside = judged.filter(pl.col("reason").is_not_null()).sort("time", "key")
    cleaned = with_needs(sound, options.needs).select(pl.col(name).cast(kind) for name, kind in CLEAN_SCHEMA.items())
    return Cleaned(cleaned, aside.select(pl.col(name).cast(kind) for name, kind in ASIDE_SCHEMA.items()))
