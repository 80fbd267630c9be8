"""Cleaning of events: clocks corrected, events cut into sessions and needs, invalid events rejected with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import polars as pl

from shelfwise.rerank.sessions.sessionize import ORDER, add_needs, sessionize
from shelfwise.retrieval.events.store import EVENT_SCHEMA
from shelfwise.retrieval.events.stored import SPONSORED_MARK

_EVENTS = 3
"""The number of different times at which events must have been received."""


_TOLERANCE = timedelta(minutes=2)
"""An event that was received within this time of its own time stays as it is."""
_AGREEMENT = timedelta(seconds=10)
"""The largest difference between the offsets of one client's events whose clock is wrong."""
_MIN_TIME = timedelta(seconds=30)
"""The shortest time in which events must have been received: events imported at once have equal offsets, too."""
_CLOCK_GAP = timedelta(minutes=30)
"""A longer pause between two received events begins a new group, since a clock can be set meanwhile."""


def correct_clocks(events: pl.DataFrame) -> pl.DataFrame:
    """The events with the times of wrong clocks corrected, in their order.

    Normally an event is received a moment after it happens. If several events of one client, over some time, have the
    same large offset, its clock is wrong. The smallest offset is the clock's, since a message can only be late (the
    clock filter of NTP: Mills 1991, Internet Time Synchronization). Events that are imported or sent at once have
    different offsets, and keep their times.
    """
    rows = events.with_row_index("_row")
    off = rows.filter((pl.col("received") - pl.col("time")).abs() > _TOLERANCE)
    if off.is_empty():
        return events
    shifts = _shifts(off)
    moved = rows.join(shifts, on="_row", how="left", maintain_order="left")
    right = pl.col("time") + pl.coalesce("_shift", pl.duration(milliseconds=0, time_unit="ms"))
    return moved.with_columns(time=right).select(events.columns)


def _shifts(off: pl.DataFrame) -> pl.DataFrame:
    """Corrections of the rows with a wrong clock: `_row` and `_shift` (Duration)."""
    ids = ("session", "shopper", "query_id")
    client = pl.coalesce(
        *(pl.when(pl.col(name) != "").then(pl.lit(f"{name}:") + pl.col(name)) for name in ids), pl.lit("")
    )
    late = off.select("_row", "received", _late=pl.col("received") - pl.col("time"), _client=client)
    late = late.sort("_client", "received")
    begins = (pl.col("_client") != pl.col("_client").shift(1)) | (pl.col("received").diff() > _CLOCK_GAP)
    late = late.with_columns(_group=begins.fill_null(True).cum_sum())
    groups = late.group_by("_group").agg(
        _shift=pl.col("_late").min(),
        _spread=pl.col("_late").max() - pl.col("_late").min(),
        _lasted=pl.col("received").max() - pl.col("received").min(),
        _moments=pl.col("received").n_unique(),
    )
    agreed = (pl.col("_spread") <= _AGREEMENT) & (pl.col("_lasted") >= _MIN_TIME)
    wrong = groups.filter(agreed & (pl.col("_moments") >= _EVENTS))
    return late.join(wrong, on="_group").select("_row", "_shift")


class RejectReason(StrEnum):
    """The reason for which an event is rejected: the first that applies."""

    IMPOSSIBLE = "impossible"
    """A position or quantity below one, or a larger quantity than anybody orders."""
    DUPLICATE = "duplicate"
    """An immediate repetition, or an answer that is shown again, as after a reload; the first event is kept."""
    UNKNOWN_PRODUCT = "unknown product"
    BEFORE_PRODUCT = "before the product"
    """The product was not created yet."""
    UNKNOWN_QUERY = "unknown query"
    """An act on an answer without a query or impression."""
    NEVER_SHOWN = "never shown"
    """An act on a product that the answer did not show."""
    OUT_OF_ORDER = "out of order"
    """An act before its answer."""
    SURPLUS = "above the allowance of its address"
    """One address brought more in a day than a household does; see `find_surplus`."""


_DOUBLE = timedelta(seconds=1)
"""A repetition within this is a double click or submit."""
_ORDER = timedelta(seconds=10)
"""Longest time by which an act may precede its answer, since the clocks of servers and clients differ."""
_CREATED = timedelta(minutes=5)
"""Longest time by which an event may precede its product."""
MAX_QUANTITY = 10_000
"""The largest quantity of one event."""
_ACTS_ON_ANSWERS = ("click", "cart")
_ANSWER_KINDS = ("query", "impression")


def find_faults(
    events: pl.DataFrame, products: pl.DataFrame | None, *, earlier: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The events (with `session_number`, ordered by session and time) with `reason` and `detail`, both null for valid
    events.

    Acts are checked against their answers only in a log that has answers, and against the products of an answer only if
    the answer has impressions. `earlier` are events of `EVENT_SCHEMA` from before all of these, such as those of the
    previous day. Answers are looked up among them as well, but they are not checked.
    """
    rows = _with_answers(_with_catalog(_with_doubles(events), products), earlier)
    checks = (*_checks(), *_answer_checks())
    reason = pl.coalesce(*(pl.when(holds).then(pl.lit(str(reason))) for reason, holds, _ in checks))
    detail = pl.coalesce(*(pl.when(holds).then(detail) for _, holds, detail in checks))
    return rows.with_columns(reason=reason, detail=detail).select(*events.columns, "reason", "detail").sort(ORDER)


_Check = tuple[RejectReason, pl.Expr, pl.Expr]


def _checks() -> tuple[_Check, ...]:
    product = pl.col("product_id")
    much = pl.col("quantity") > MAX_QUANTITY
    below = (pl.col("position") < 1) | (pl.col("quantity") < 1)
    early = pl.col("time") + _CREATED < pl.col("_created")
    created = pl.col("_created").dt.to_string("iso")
    return (
        (RejectReason.IMPOSSIBLE, below, pl.lit("a position or quantity below 1")),
        (RejectReason.IMPOSSIBLE, much, pl.format("{} of {}", "quantity", product)),
        (RejectReason.DUPLICATE, pl.col("_doubled"), pl.format("{} s after the same", pl.col("_since") / 1000)),
        (RejectReason.UNKNOWN_PRODUCT, pl.col("_unknown"), pl.format("{} is not in the catalog", product)),
        (RejectReason.BEFORE_PRODUCT, early, pl.format("{} was created {}", product, created)),
    )


def _answer_checks() -> tuple[_Check, ...]:
    product, answer = pl.col("product_id"), pl.col("query_id")
    on_answer = pl.col("kind").is_in(_ACTS_ON_ANSWERS) & (answer != "") & ~is_sponsored()
    unseen = on_answer & pl.col("_has_answers") & pl.col("_known_answer").is_null()
    not_shown = on_answer & pl.col("_shows") & pl.col("_known_place").is_null()
    since = pl.coalesce("_shown", "_answered")
    early = on_answer & (pl.col("time") + _ORDER < since)
    lead = (since - pl.col("time")).dt.total_milliseconds() / 1000
    return (
        (RejectReason.UNKNOWN_QUERY, unseen, pl.format("no query or impression has {}", answer)),
        (RejectReason.NEVER_SHOWN, not_shown, pl.format("{} did not show {}", answer, product)),
        (RejectReason.OUT_OF_ORDER, early, pl.format("{} s before it was shown", lead)),
    )


def _with_doubles(events: pl.DataFrame) -> pl.DataFrame:
    """Adds `_doubled`, and `_since`, the milliseconds since the same event."""
    # Lines of one order with the same product differ only in the quantity.
    what = ["session_number", "query_id", "kind", "product_id", "position", "quantity", "rating"]
    ordered = events.sort(*what, "time", "key")
    same = pl.all_horizontal(pl.col(column).eq_missing(pl.col(column).shift(1)) for column in what)
    since = pl.when(same).then(pl.col("time").diff().dt.total_milliseconds())
    ordered = ordered.with_columns(_since=since)
    # An answer is requested and shown once: a repetition is a reload or a return to the page.
    is_reload = pl.col("kind").is_in(_ANSWER_KINDS) & (pl.col("query_id") != "") & pl.col("_since").is_not_null()
    doubled = (pl.col("_since") <= _DOUBLE.total_seconds() * 1000) | is_reload
    return ordered.with_columns(_doubled=doubled.fill_null(False))


def _with_catalog(events: pl.DataFrame, products: pl.DataFrame | None) -> pl.DataFrame:
    if products is None:
        return events.with_columns(_unknown=pl.lit(False), _created=pl.lit(None, events.schema["time"]))
    catalog = products.select("product_id", _created=pl.col("created").cast(events.schema["time"]), _known=pl.lit(True))
    joined = events.join(catalog.unique("product_id", keep="any"), on="product_id", how="left")
    return joined.with_columns(_unknown=(pl.col("product_id") != "") & pl.col("_known").is_null())


def is_sponsored() -> pl.Expr:
    """Whether an event is about a sponsored hit."""
    return pl.col("query_id").str.contains(SPONSORED_MARK, literal=True)


def shows_answer() -> pl.Expr:
    """Whether an event is a query or impression with the id of an answer."""
    return pl.col("kind").is_in(_ANSWER_KINDS) & (pl.col("query_id") != "")


def _with_answers(events: pl.DataFrame, earlier: pl.DataFrame | None) -> pl.DataFrame:
    """Adds whether the answer, and this product on it, is known (null: it is not), since when (null: from before all of
    these events), and whether it has impressions, including rejected ones; and to acts the position of the product on
    the answer, if they have none."""
    columns = ("query_id", "product_id", "kind", "time", "position")
    tables = [events.select(*columns, _earlier=pl.lit(False))]
    if earlier is not None:
        tables.append(earlier.select(*columns, _earlier=pl.lit(True)))
    all_answers = pl.concat(tables).filter(shows_answer())
    is_shown = pl.col("kind") == "impression"
    # The clocks of earlier events are not corrected, so only the fact that they came before is used.
    since = pl.when(~pl.col("_earlier").any()).then(pl.col("time").min())
    known = pl.lit(True)
    answers = all_answers.group_by("query_id").agg(_known_answer=known, _answered=since, _shows=is_shown.any())
    by_product = all_answers.filter(is_shown).group_by("query_id", "product_id")
    shown = by_product.agg(_known_place=known, _shown=since, _position=pl.col("position").min())
    joined = events.join(answers, on="query_id", how="left").join(shown, on=["query_id", "product_id"], how="left")
    # Public senders give no position.
    position = pl.coalesce("position", pl.when(~pl.col("kind").is_in(_ANSWER_KINDS)).then("_position"))
    return joined.with_columns(
        position.alias("position"), pl.col("_shows").fill_null(False), _has_answers=pl.lit(not all_answers.is_empty())
    )


CLEAN_SCHEMA = pl.Schema([*EVENT_SCHEMA.items(), ("session_number", pl.UInt32()), ("need", pl.UInt32())])
"""Events with the numbers of their session and need."""
_KEPT = ("key", "time", "kind", "product_id", "query_id")
REJECTED_SCHEMA = pl.Schema(
    [*((name, EVENT_SCHEMA[name]) for name in _KEPT), ("reason", pl.String()), ("detail", pl.String())]
)
"""Rejected events, each with its `RejectReason` and a short description."""


# What counts of the events of one address and day: acts of one shopper on each product, and answers of one shopper to
# each query.

_ALLOWED_ACTS = 1
"""Acts of one kind on one product."""
_ALLOWED_ANSWERS = 4
"""Answers to one query."""
_ALLOWED_TOTAL = 100
"""Acts and answers: three times as many as the busiest shopper of a day has in the demo stores of seeds 101 and 102."""


def find_surplus(events: pl.DataFrame) -> pl.DataFrame:
    """The events above the allowance of their address, of valid ones with `session_number`: key and detail.

    An address has one allowance for all shoppers and sessions that it names, since names cost nothing. Events without
    an address are those of trusted senders, and have none. The allowance is used by one session after another, in an
    order that no sender knows, so that a flood does not displace those who come after it. A surplus answer loses its
    query and impressions with its acts; other surplus acts are lost one by one.
    """
    limited = events.filter(pl.col("address") != "").sort(ORDER)
    if limited.is_empty():
        return pl.DataFrame(schema={"key": events.schema["key"], "detail": pl.String})
    # Keys are keyed hashes, and so in a random order.
    limited = limited.with_columns(_draw=pl.col("key").first().over("session_number")).sort("_draw", *ORDER)
    limited = limited.with_columns(
        _who=pl.coalesce(pl.when(pl.col(name) != "").then(name) for name in ("shopper", "session", "query_id")),
        _query=pl.col("query").str.to_lowercase(),
        _is_new=shows_answer() & pl.struct("address", "query_id").is_first_distinct(),
    )
    answers = limited.filter("_is_new").filter(pl.col("_query") != "")
    many = answers.filter(_follows("address", "_query", most=_ALLOWED_ANSWERS) | _is_of_other("address", "_query"))
    of_answer = limited.join(many, on=["address", "query_id"], how="semi").filter(pl.col("query_id") != "")
    rest = limited.join(of_answer, on="key", how="anti", maintain_order="left")
    is_act = ~pl.col("kind").is_in(_ANSWER_KINDS)
    product = ("address", "product_id")
    is_repeated = _follows(*product, "kind", "_who", most=_ALLOWED_ACTS) | _is_of_other(*product)
    repeated = rest.filter(is_act).filter(is_repeated)
    rest = rest.join(repeated, on="key", how="anti", maintain_order="left")
    beyond = rest.filter((is_act | pl.col("_is_new")).cum_sum().over("address") > _ALLOWED_TOTAL)
    found = (
        (of_answer, f"another shopper for this query, or more than {_ALLOWED_ANSWERS} answers"),
        (repeated, f"another shopper for this product, or more than {_ALLOWED_ACTS} of this kind"),
        (beyond, f"more than {_ALLOWED_TOTAL} acts and answers"),
    )
    return pl.concat([table.select("key", detail=pl.lit(detail)) for table, detail in found])


def _follows(*columns: str, most: int) -> pl.Expr:
    """Whether a row follows `most` rows with the same values."""
    return pl.int_range(1, pl.len() + 1).over(columns) > most


def _is_of_other(*columns: str) -> pl.Expr:
    """Whether a row is of another shopper than the first one with the same values."""
    return pl.col("_who") != pl.col("_who").first().over(columns)


@dataclass(frozen=True, slots=True, eq=False)
class CleaningResult:
    """The cleaned and the rejected events; together they are all events of the input."""

    events: pl.DataFrame
    """Events of `CLEAN_SCHEMA`, ordered by session and time. Session and need numbers are unique over the table and can
    have gaps."""
    rejected: pl.DataFrame
    """Events of `REJECTED_SCHEMA`, ordered by time."""


def clean(
    events: pl.DataFrame, products: pl.DataFrame | None, *, earlier: pl.DataFrame | None = None
) -> CleaningResult:
    """Cleans a table of `EVENT_SCHEMA`; the order of its rows does not matter.

    `products` is the catalog: product_id (String) and created (Datetime, null if not known); if it is None, events are
    not checked against it. `earlier` are events from before all of these: see `find_faults`.
    """
    sessions = sessionize(correct_clocks(events.select(EVENT_SCHEMA.names())))
    judged = find_faults(sessions, products, earlier=earlier)
    surplus = find_surplus(judged.filter(pl.col("reason").is_null()))
    if not surplus.is_empty():
        above = surplus.select("key", _above="detail")
        judged = judged.join(above, on="key", how="left", maintain_order="left").with_columns(
            reason=pl.when(pl.col("_above").is_null()).then("reason").otherwise(pl.lit(str(RejectReason.SURPLUS))),
            detail=pl.coalesce("_above", "detail"),
        )
    sound = judged.filter(pl.col("reason").is_null()).select(sessions.columns)
    rejected = judged.filter(pl.col("reason").is_not_null()).sort("time", "key")
    cleaned = add_needs(sound).select(pl.col(name).cast(kind) for name, kind in CLEAN_SCHEMA.items())
    return CleaningResult(cleaned, rejected.select(pl.col(name).cast(kind) for name, kind in REJECTED_SCHEMA.items()))
