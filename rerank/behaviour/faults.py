"""Events that cannot be learned from, and why: doubled, impossible, of unknown products or answers, out of order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import polars as pl

from rerank.behaviour.visits import ORDER


class Reason(StrEnum):
    """Why an event is set aside. Where several hold, it is the first of them."""

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


def faults(
    events: pl.DataFrame,
    products: pl.DataFrame | None,
    options: FaultOptions | None = None,
    *,
    told: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The events (with `visit`, ordered by visit and time) with `reason` and `detail`, both null where all is well.

    Acts are judged by their answers only in a log that tells of answers, and a product is called never shown only
    where the answer's impressions are told. `told` are events of `EVENT_SCHEMA` that came before all of these, such as
    those of the day before: answers are looked up among them, too, and they are not judged.
    """
    options = options or FaultOptions()
    rows = _with_answers(_with_catalog(_with_doubles(events, options), products), told)
    verdicts = (*_verdicts(options), *_answer_verdicts(options))
    reason = pl.coalesce(*(pl.when(holds).then(pl.lit(str(reason))) for reason, holds, _ in verdicts))
    detail = pl.coalesce(*(pl.when(holds).then(detail) for _, holds, detail in verdicts))
    return rows.with_columns(reason=reason, detail=detail).select(*events.columns, "reason", "detail").sort(ORDER)


_Verdict = tuple[Reason, pl.Expr, pl.Expr]


def _verdicts(options: FaultOptions) -> tuple[_Verdict, ...]:
    product = pl.col("product_id")
    much = pl.col("quantity") > options.quantity
    below = (pl.col("position") < 1) | (pl.col("quantity") < 1)
    early = pl.col("time") + options.created < pl.col("_created")
    return (
        (Reason.IMPOSSIBLE, below, pl.lit("a position or quantity below 1")),
        (Reason.IMPOSSIBLE, much, pl.format("{} of {}", "quantity", product)),
        (Reason.DUPLICATE, pl.col("_doubled"), pl.format("{} s after the same", pl.col("_since") / 1000)),
        (Reason.UNKNOWN_PRODUCT, pl.col("_unknown"), pl.format("{} is not in the catalog", product)),
        (Reason.BEFORE_PRODUCT, early, pl.format("{} was created {}", product, pl.col("_created").dt.to_string("iso"))),
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
        (Reason.UNKNOWN_QUERY, unseen, pl.format("no query or impression has {}", answer)),
        (Reason.NEVER_SHOWN, not_shown, pl.format("{} did not show {}", answer, product)),
        (Reason.OUT_OF_ORDER, early, pl.format("{} s before it was shown", lead)),
    )


def _with_doubles(events: pl.DataFrame, options: FaultOptions) -> pl.DataFrame:
    """Adds `_doubled`, and `_since`, the milliseconds from the same event before."""
    # Of one order, lines of the same product differ in nothing but the quantity.
    what = ["visit", "query_id", "kind", "product_id", "position", "quantity", "rating"]
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


def telling_of_answers() -> pl.Expr:
    """Whether an event says that an answer was there, or what it showed."""
    return pl.col("kind").is_in(_TELL_OF_ANSWERS) & (pl.col("query_id") != "")


def _with_answers(events: pl.DataFrame, earlier: pl.DataFrame | None) -> pl.DataFrame:
    """Adds whether the answer, and this product on it, is known (null: it is not), since when (null: before all of
    these events), and whether its impressions are told.

    What is told of an answer counts also where it is set aside itself.
    """
    columns = ("query_id", "product_id", "kind", "time")
    tables = [events.select(*columns, _earlier=pl.lit(False))]
    if earlier is not None:
        tables.append(earlier.select(*columns, _earlier=pl.lit(True)))
    told = pl.concat(tables).filter(telling_of_answers())
    is_shown = pl.col("kind") == "impression"
    # Clocks of the events before are as they came: that they were before is all that is taken from them.
    since = pl.when(~pl.col("_earlier").any()).then(pl.col("time").min())
    known = pl.lit(True)
    answers = told.group_by("query_id").agg(_known_answer=known, _answered=since, _shows=is_shown.any())
    shown = told.filter(is_shown).group_by("query_id", "product_id").agg(_known_place=known, _shown=since)
    joined = events.join(answers, on="query_id", how="left").join(shown, on=["query_id", "product_id"], how="left")
    return joined.with_columns(pl.col("_shows").fill_null(False), _log_tells=pl.lit(not told.is_empty()))
