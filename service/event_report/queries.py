"""Queries: what is searched most, what fails, what rises, and what shoppers search instead.

Queries of too few shoppers are in no table that this is made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from service.event_report.intervals import wilson

_MOST = 20
LEAST_RISE = 1.25
"""How many times its usual rate something must come to be called rising."""


class Problem(StrEnum):
    """How a search fails."""

    EMPTY = "finds nothing"
    UNCLICKED = "not clicked"
    """Among the searches with results."""
    REFORMULATED = "searched again"
    """In other words."""


@dataclass(frozen=True, slots=True)
class TopQuery:
    """A query, most searched first."""

    query: str
    searches: int
    shoppers: int
    ctr: float | None
    """Clicks by impressions."""
    clicked_share: float | None
    """Of its searches."""
    first_click: float | None
    """Mean position."""
    carts: int
    purchases: int


@dataclass(frozen=True, slots=True)
class FailingQuery:
    """A query that fails more often than others, by the problem that costs it most."""

    query: str
    searches: int
    shoppers: int
    problem: Problem
    failed: int
    """Searches with the problem."""
    share: float
    lower: float
    """Of the 95% interval of the share."""
    usual: float
    """The share over all queries; 0 for finding nothing, which no query should."""
    lost: float
    """How many searches failed beyond the usual, at least: (lower - usual) times searches. By it they are ordered, so
    that what is searched often and fails surely comes first."""


@dataclass(frozen=True, slots=True)
class RisingQuery:
    """A query that is searched more of late."""

    query: str
    searches: int
    shoppers: int
    times: float
    """The recent rate by the usual one, shrunk towards 1 where there are few searches."""


@dataclass(frozen=True, slots=True)
class Reformulation:
    """A query that was given up for another one, which led to something: they may be synonyms."""

    query: str
    to_query: str
    count: int
    shoppers: int
    clicked: int
    """How many ended with a click; each is counted by the furthest that was done."""
    carted: int
    purchased: int
    share: float
    """Of these chains ended with a click, a cart or a purchase."""
    lower: float
    """Of its 95% interval; times the count, they are ordered by it."""
    clicked_share: float | None
    """How often searches of the first query are clicked; None where too few searched it alone."""
    to_clicked_share: float | None


@dataclass(frozen=True, slots=True)
class Queries:
    """At most twenty of each."""

    count: int
    """Queries of enough shoppers."""
    searches: int
    """Of these."""
    top: tuple[TopQuery, ...]
    failing: tuple[FailingQuery, ...]
    rising: tuple[RisingQuery, ...]
    reformulations: tuple[Reformulation, ...]


def queries(table: pl.DataFrame, reformulations: pl.DataFrame) -> Queries:
    """From the derived tables of queries and of reformulations."""
    return Queries(
        count=table.height,
        searches=int(table["searches"].sum()),
        top=_top(table),
        failing=_failing(table),
        rising=_rising(table),
        reformulations=_reformulations(reformulations, table),
    )


def _top(table: pl.DataFrame) -> tuple[TopQuery, ...]:
    columns = "spelling", "searches", "shoppers", "ctr", "clicked_share", "mean_first_click", "carts", "purchases"
    ordered = table.sort("searches", "query", descending=[True, False]).head(_MOST)
    return tuple(TopQuery(*row) for row in ordered.select(columns).iter_rows())


def _failing(table: pl.DataFrame) -> tuple[FailingQuery, ...]:
    if table.is_empty():
        return ()
    found = pl.concat([_with_problem(table, problem) for problem in Problem])
    worst = found.filter(pl.col("lost") > 0).sort("lost", "query", "problem", descending=[True, False, False])
    worst = worst.unique("query", keep="first", maintain_order=True).head(_MOST)
    rows = worst.drop("query").iter_rows(named=True)
    return tuple(FailingQuery(query=row.pop("spelling"), problem=Problem(row.pop("problem")), **row) for row in rows)


def _with_problem(table: pl.DataFrame, problem: Problem) -> pl.DataFrame:
    """All queries with how often each has the problem."""
    searches, empty = pl.col("searches").cast(pl.Int64), pl.col("empty").cast(pl.Int64)
    unclicked = searches - empty - (pl.col("clicked_share") * searches).round().cast(pl.Int64)
    reformulated = (pl.col("reformulated_share") * searches).round().cast(pl.Int64)
    failed, judged = {
        Problem.EMPTY: (empty, searches),
        Problem.UNCLICKED: (unclicked.clip(0), searches - empty),
        Problem.REFORMULATED: (reformulated, searches),
    }[problem]
    usual = pl.lit(0.0) if problem is Problem.EMPTY else failed.sum() / judged.sum()
    told = table.with_columns(failed=failed, _judged=judged, usual=usual).filter(pl.col("_judged") > 0)
    lower = wilson(pl.col("failed"), pl.col("_judged"))[0]
    told = told.with_columns(lower=pl.when(pl.col("failed") > 0).then(lower).otherwise(0.0))
    return told.select(
        "query",
        "spelling",
        "searches",
        "shoppers",
        "failed",
        "lower",
        "usual",
        problem=pl.lit(problem.value),
        share=pl.col("failed") / pl.col("_judged"),
        lost=(pl.col("lower") - pl.col("usual")) * pl.col("_judged"),
    )


def _rising(table: pl.DataFrame) -> tuple[RisingQuery, ...]:
    rising = risen(table).sort("times", "query", descending=[True, False]).head(_MOST)
    return tuple(RisingQuery(*row) for row in rising.select("spelling", "searches", "shoppers", "times").iter_rows())


def risen(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of a table with `trend` that rise, with `times`."""
    return table.with_columns(times=pl.lit(2.0) ** pl.col("trend")).filter(pl.col("times") >= LEAST_RISE)


def _reformulations(table: pl.DataFrame, known: pl.DataFrame) -> tuple[Reformulation, ...]:
    ended = pl.col("clicked") + pl.col("carted") + pl.col("purchased")
    lower = wilson(pl.col("_ended"), pl.col("count"))[0]
    told = table.with_columns(_ended=ended).filter(pl.col("_ended") > 0)
    told = told.with_columns(share=pl.col("_ended") / pl.col("count"), lower=lower)
    first = known.select("query", "spelling", "clicked_share")
    second = known.select(to_query="query", to_spelling="spelling", to_clicked_share="clicked_share")
    told = told.join(first, on="query", how="left").join(second, on="to_query", how="left")
    told = told.with_columns(_sure=pl.col("lower") * pl.col("count"))
    ordered = told.sort("_sure", "query", "to_query", descending=[True, False, False]).head(_MOST)
    columns = ordered.select(
        pl.coalesce("spelling", "query"),
        pl.coalesce("to_spelling", "to_query"),
        *("count", "shoppers", "clicked", "carted", "purchased", "share", "lower", "clicked_share", "to_clicked_share"),
    )
    return tuple(Reformulation(*row) for row in columns.iter_rows())
