"""How much was done: events by kind and by day, visits and shoppers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from retrieval.events.event import EventKind
from service.event_report.inputs import ReportInputs


@dataclass(frozen=True, slots=True)
class KindCount:
    """Events of one kind: those that are learned from, those of flagged visits, those that cleaning set aside."""

    kind: str
    honest: int
    flagged: int
    aside: int


@dataclass(frozen=True, slots=True)
class DayCount:
    """Events of one day, UTC, after cleaning."""

    day: date
    honest: int
    flagged: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What there is in the window."""

    first: datetime | None
    """The time of the first event after cleaning."""
    last: datetime | None
    kinds: tuple[KindCount, ...]
    """In the order of `EventKind`; kinds without events are left out."""
    days: tuple[DayCount, ...]
    """Every day from the first event to the last."""
    visits: int
    """Flagged ones among them."""
    flagged_visits: int
    shoppers: int
    """Different ones who are known by a pseudonym, in visits that are not flagged."""
    anonymous_visits: int
    """Not flagged, and of nobody known."""

    @property
    def events(self) -> int:
        """All of the window, those that were set aside among them."""
        return sum(kind.honest + kind.flagged + kind.aside for kind in self.kinds)

    @property
    def aside(self) -> int:
        """Those that cleaning set aside."""
        return sum(kind.aside for kind in self.kinds)


def traffic(inputs: ReportInputs) -> Traffic:
    """Counts the events of the window."""
    visits = inputs.visits
    honest = visits.filter(~pl.col("is_fraud"))
    times = pl.concat([inputs.honest["time"], inputs.flagged["time"]])
    named = inputs.honest.filter(pl.col("shopper") != "")
    return Traffic(
        first=times.min(),  # type: ignore[arg-type]
        last=times.max(),  # type: ignore[arg-type]
        kinds=_kinds(inputs),
        days=_days(inputs),
        visits=visits.height,
        flagged_visits=visits.height - honest.height,
        shoppers=named["shopper"].n_unique(),
        anonymous_visits=honest.height - named["visit"].n_unique(),
    )


def _kinds(inputs: ReportInputs) -> tuple[KindCount, ...]:
    counts = [_by_kind(frame) for frame in (inputs.honest, inputs.flagged, inputs.aside)]
    found = (KindCount(kind.value, *(count.get(kind.value, 0) for count in counts)) for kind in EventKind)
    return tuple(each for each in found if each.honest or each.flagged or each.aside)


def _by_kind(events: pl.DataFrame) -> dict[str, int]:
    return dict(events.group_by("kind").len().iter_rows())


def _days(inputs: ReportInputs) -> tuple[DayCount, ...]:
    told = {"honest": inputs.honest, "flagged": inputs.flagged}
    times = [events.select(pl.col("time").dt.date().alias("day"), _of=pl.lit(name)) for name, events in told.items()]
    each = pl.concat(times)
    if each.is_empty():
        return ()
    counts = ((pl.col("_of") == name).sum().alias(name) for name in told)
    counted = each.group_by("day").agg(*counts)
    every = pl.select(day=pl.date_range(pl.lit(counted["day"].min()), pl.lit(counted["day"].max())))
    filled = every.join(counted, on="day", how="left", maintain_order="left").fill_null(0)
    return tuple(DayCount(*row) for row in filled.select("day", *told).iter_rows())
