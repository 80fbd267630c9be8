"""Cleaning: clocks corrected, events told apart into sessions and needs, and what cannot be learned from rejected.

Nothing is dropped: every event is in the one table or in the other, where it has the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

import polars as pl

from rerank.sessions.sessionize import ORDER, NeedOptions, SessionOptions, add_needs, sessionize
from retrieval.events.stored import EVENT_SCHEMA

# Clocks that are wrong: the times of a live client whose events all come in late, or early, by the same amount.
#
# An event that comes in as it happens is received a moment later. Where several events of one client, over some time,
# are all off by the same large amount, its clock is; the smallest difference is the clock's, since a message can only
# be late (as NTP's clock filter takes it: Mills 1991, Internet Time Synchronization). A log that is imported, or
# sent in one go by a client that was offline, is received all at once, so its differences are not the same, and its
# times stay.

_EVENTS = 3
"""At how many moments an event must have come in."""


@dataclass(frozen=True, slots=True)
class ClockOptions:
    """When a clock is called wrong, and when the events of one client agree on it."""

    tolerance: timedelta = timedelta(minutes=2)
    """What is received within this much of its time is left as it is."""
    agreement: timedelta = timedelta(seconds=10)
    """How far the differences of one client's events may lie apart."""
    least: timedelta = timedelta(seconds=30)
    """Over how long its events must have come in: within less, a log read in one go could look alike."""
    gap: timedelta = timedelta(minutes=30)
    """A longer pause between two events that come in begins a new look: clocks are set."""


def correct_clocks(events: pl.DataFrame, options: ClockOptions | None = None) -> pl.DataFrame:
    """The events with the times of wrong clocks corrected, in their order."""
    options = options or ClockOptions()
    rows = events.with_row_index("_row")
    off = rows.filter((pl.col("received") - pl.col("time")).abs() > options.tolerance)
    if off.is_empty():
        return events
    shifts = _shifts(off, options)
    moved = rows.join(shifts, on="_row", how="left", maintain_order="left")
    right = pl.col("time") + pl.coalesce("_shift", pl.duration(milliseconds=0, time_unit="ms"))
    return moved.with_columns(time=right).select(events.columns)


def _shifts(off: pl.DataFrame, options: ClockOptions) -> pl.DataFrame:
    """For each row whose clock is wrong, `_row` and `_shift` (Duration)."""
    ids = ("session", "shopper", "query_id")
    client = pl.coalesce(
        *(pl.when(pl.col(name) != "").then(pl.lit(f"{name}:") + pl.col(name)) for name in ids), pl.lit("")
    )
    late = off.select("_row", "received", _late=pl.col("received") - pl.col("time"), _client=client)
    late = late.sort("_client", "received")
    begins = (pl.col("_client") != pl.col("_client").shift(1)) | (pl.col("received").diff() > options.gap)
    late = late.with_columns(_look=begins.fill_null(True).cum_sum())
    looks = late.group_by("_look").agg(
        _shift=pl.col("_late").min(),
        _spread=pl.col("_late").max() - pl.col("_late").min(),
        _lasted=pl.col("received").max() - pl.col("received").min(),
        _moments=pl.col("received").n_unique(),
    )
    agreed = (pl.col("_spread") <= options.agreement) & (pl.col("_lasted") >= options.least)
    wrong = looks.filter(agreed & (pl.col("_moments") >= _EVENTS))
    return late.join(wrong, on="_look").select("_row", "_shift")


# Events that cannot be learned from, and why: doubled, impossible, of unknown products or answers, out of order.


class RejectReason(StrEnum):
    """Why an event is rejected. Where several hold, it is the first of them."""

    IMPOSSIBLE = "impossible"
    """A position or quantity below one, or more of a product than anybody orders."""
    DUPLICATE = "duplicate"
    """The same again at once, or the same answer shown again, as a reload does; the first one stays."""
    UNKNOWN_PRODUCT = "unknown product"
    BEFORE_PRODUCT = "before the product"
    """The product was not created yet."""
    UNKNOWN_QUERY = "unknown query"
    """Done on an answer that nothing else tells of."""
    NEVER_SHOWN = "never shown"
    """Done on a product that the answer did not show."""
    OUT_OF_ORDER = "out of order"
    """Done before the answer was there."""


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """How much is let pass."""

    double: timedelta = timedelta(seconds=1)
    """The same again within this is a double click or submit."""
    order: timedelta = timedelta(seconds=10)
    """How much earlier than its answer an act may seem, since a server's and a client's clock differ a little."""
    created: timedelta = timedelta(minutes=5)
    """How much earlier than its product an event may seem."""
    quantity: int = 10_000
    """The most of a product that one event may be about."""


_MADE_ON_ANSWERS = ("click", "cart")
_TELL_OF_ANSWERS = ("query", "impression")


def find_faults(
    events: pl.DataFrame,
    products: pl.DataFrame | None,
    options: FaultOptions | None = None,
    *,
    earlier: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The events (with `session_number`, ordered by session and time) with `reason` and `detail`, both null where all
    is well.

    Acts are judged by their answers only in a log that tells of answers, and a product is called never shown only
    where the answer's impressions are told. `told` are events of `EVENT_SCHEMA` that came before all of these, such as
    those of the day before: answers are looked up among them, too, and they are not judged.
    """
    options = options or FaultOptions()
    rows = _with_answers(_with_catalog(_with_doubles(events, options), products), earlier)
    verdicts = (*_verdicts(options), *_answer_verdicts(options))
    reason = pl.coalesce(*(pl.when(holds).then(pl.lit(str(reason))) for reason, holds, _ in verdicts))
    detail = pl.coalesce(*(pl.when(holds).then(detail) for _, holds, detail in verdicts))
    return rows.with_columns(reason=reason, detail=detail).select(*events.columns, "reason", "detail").sort(ORDER)


_Verdict = tuple[RejectReason, pl.Expr, pl.Expr]


def _verdicts(options: FaultOptions) -> tuple[_Verdict, ...]:
    product = pl.col("product_id")
    much = pl.col("quantity") > options.quantity
    below = (pl.col("position") < 1) | (pl.col("quantity") < 1)
    early = pl.col("time") + options.created < pl.col("_created")
    return (
        (RejectReason.IMPOSSIBLE, below, pl.lit("a position or quantity below 1")),
        (RejectReason.IMPOSSIBLE, much, pl.format("{} of {}", "quantity", product)),
        (RejectReason.DUPLICATE, pl.col("_doubled"), pl.format("{} s after the same", pl.col("_since") / 1000)),
        (RejectReason.UNKNOWN_PRODUCT, pl.col("_unknown"), pl.format("{} is not in the catalog", product)),
        (
            RejectReason.BEFORE_PRODUCT,
            early,
            pl.format("{} was created {}", product, pl.col("_created").dt.to_string("iso")),
        ),
    )


def _answer_verdicts(options: FaultOptions) -> tuple[_Verdict, ...]:
    product, answer = pl.col("product_id"), pl.col("query_id")
    on_answer = pl.col("kind").is_in(_MADE_ON_ANSWERS) & (answer != "")
    unseen = on_answer & pl.col("_log_tells") & pl.col("_known_answer").is_null()
    not_shown = on_answer & pl.col("_shows") & pl.col("_known_place").is_null()
    since = pl.coalesce("_shown", "_answered")
    early = on_answer & (pl.col("time") + options.order < since)
    lead = (since - pl.col("time")).dt.total_milliseconds() / 1000
    return (
        (RejectReason.UNKNOWN_QUERY, unseen, pl.format("no query or impression has {}", answer)),
        (RejectReason.NEVER_SHOWN, not_shown, pl.format("{} did not show {}", answer, product)),
        (RejectReason.OUT_OF_ORDER, early, pl.format("{} s before it was shown", lead)),
    )


def _with_doubles(events: pl.DataFrame, options: FaultOptions) -> pl.DataFrame:
    """Adds `_doubled`, and `_since`, the milliseconds from the same event before."""
    # Of one order, lines of the same product differ in nothing but the quantity.
    what = ["session_number", "query_id", "kind", "product_id", "position", "quantity", "rating"]
    ordered = events.sort(*what, "time", "key")
    same = pl.all_horizontal(pl.col(column).eq_missing(pl.col(column).shift(1)) for column in what)
    since = pl.when(same).then(pl.col("time").diff().dt.total_milliseconds())
    ordered = ordered.with_columns(_since=since)
    # An answer is shown, and asked for, once: what comes again is a reload, or the way back to it.
    shown_again = pl.col("kind").is_in(_TELL_OF_ANSWERS) & (pl.col("query_id") != "") & pl.col("_since").is_not_null()
    doubled = (pl.col("_since") <= options.double.total_seconds() * 1000) | shown_again
    return ordered.with_columns(_doubled=doubled.fill_null(False))


def _with_catalog(events: pl.DataFrame, products: pl.DataFrame | None) -> pl.DataFrame:
    if products is None:
        return events.with_columns(_unknown=pl.lit(False), _created=pl.lit(None, events.schema["time"]))
    catalog = products.select("product_id", _created=pl.col("created").cast(events.schema["time"]), _known=pl.lit(True))
    joined = events.join(catalog.unique("product_id", keep="any"), on="product_id", how="left")
    return joined.with_columns(_unknown=(pl.col("product_id") != "") & pl.col("_known").is_null())


def shows_answer() -> pl.Expr:
    """Whether an event says that an answer was there, or what it showed."""
    return pl.col("kind").is_in(_TELL_OF_ANSWERS) & (pl.col("query_id") != "")


def _with_answers(events: pl.DataFrame, earlier: pl.DataFrame | None) -> pl.DataFrame:
    """Adds whether the answer, and this product on it, is known (null: it is not), since when (null: before all of
    these events), and whether its impressions are told.

    What is told of an answer counts also where it is rejected itself.
    """
    columns = ("query_id", "product_id", "kind", "time")
    tables = [events.select(*columns, _earlier=pl.lit(False))]
    if earlier is not None:
        tables.append(earlier.select(*columns, _earlier=pl.lit(True)))
    told = pl.concat(tables).filter(shows_answer())
    is_shown = pl.col("kind") == "impression"
    # Clocks of the events before are as they came: that they were before is all that is taken from them.
    since = pl.when(~pl.col("_earlier").any()).then(pl.col("time").min())
    known = pl.lit(True)
    answers = told.group_by("query_id").agg(_known_answer=known, _answered=since, _shows=is_shown.any())
    shown = told.filter(is_shown).group_by("query_id", "product_id").agg(_known_place=known, _shown=since)
    joined = events.join(answers, on="query_id", how="left").join(shown, on=["query_id", "product_id"], how="left")
    return joined.with_columns(pl.col("_shows").fill_null(False), _log_tells=pl.lit(not told.is_empty()))


CLEAN_SCHEMA = pl.Schema([*EVENT_SCHEMA.items(), ("session_number", pl.UInt32()), ("need", pl.UInt32())])
"""Events as learning takes them: which session each belongs to, and which of its needs."""
_TOLD = ("key", "time", "kind", "product_id", "query_id")
REJECTED_SCHEMA = pl.Schema(
    [*((name, EVENT_SCHEMA[name]) for name in _TOLD), ("reason", pl.String()), ("detail", pl.String())]
)
"""Events that were rejected, each with one of `faults.Reason` and a short sentence about this event."""


@dataclass(frozen=True, slots=True)
class CleaningOptions:
    """The rules of each step."""

    clocks: ClockOptions = field(default_factory=ClockOptions)
    sessions: SessionOptions = field(default_factory=SessionOptions)
    faults: FaultOptions = field(default_factory=FaultOptions)
    needs: NeedOptions = field(default_factory=NeedOptions)


@dataclass(frozen=True, slots=True, eq=False)
class CleaningResult:
    """What came of a table of events; both tables together have all of them."""

    events: pl.DataFrame
    """Of `CLEAN_SCHEMA`, ordered by session and time. Sessions and needs are unique over the table; numbers can
    lack."""
    rejected: pl.DataFrame
    """Of `ASIDE_SCHEMA`, ordered by time."""


def clean(
    events: pl.DataFrame,
    products: pl.DataFrame | None,
    options: CleaningOptions | None = None,
    *,
    earlier: pl.DataFrame | None = None,
) -> CleaningResult:
    """Cleans a table of `EVENT_SCHEMA`; the order of its rows does not matter.

    `products` is the catalog: product_id (String) and created (Datetime, null where not known). Without one, no event
    is judged by it. `told` are events that came before all of these, of which answers are known: see `faults`.
    """
    options = options or CleaningOptions()
    timed = correct_clocks(events.select(EVENT_SCHEMA.names()), options.clocks)
    sessions = sessionize(timed, options.sessions)
    judged = find_faults(sessions, products, options.faults, earlier=earlier)
    sound = judged.filter(pl.col("reason").is_null()).select(sessions.columns)
    rejected = judged.filter(pl.col("reason").is_not_null()).sort("time", "key")
    cleaned = add_needs(sound, options.needs).select(pl.col(name).cast(kind) for name, kind in CLEAN_SCHEMA.items())
    return CleaningResult(cleaned, rejected.select(pl.col(name).cast(kind) for name, kind in REJECTED_SCHEMA.items()))
