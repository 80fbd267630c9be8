"""The sections of the report on events: traffic, funnel, positions, products, queries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from itertools import pairwise

import numpy as np
import polars as pl

from rerank.click_models.base import FitOptions
from rerank.click_models.click_log import ClickLog, Floats, click_log, query_texts
from rerank.click_models.models import PositionBased, UserBrowsing
from rerank.evaluation.statistics import Estimate, Z, wilson
from rerank.sessions.query_tables import ANSWER_PARTIAL
from retrieval.errors import ShelfwiseError
from retrieval.records import EventKind
from retrieval.store.products import ProductStore
from retrieval.store.versions import Store
from service.reports.event_inputs import ReportInputs

# How much was done: events by kind and by day, sessions and shoppers.


@dataclass(frozen=True, slots=True)
class KindCount:
    """Events of one kind: those that are learned from, those of flagged sessions, those that cleaning rejected."""

    kind: str
    honest: int
    flagged: int
    rejected: int


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
    sessions: int
    """Flagged ones among them."""
    flagged_sessions: int
    shoppers: int
    """Different ones who are known by a pseudonym, in sessions that are not flagged."""
    anonymous_sessions: int
    """Not flagged, and of nobody known."""

    @property
    def events(self) -> int:
        """All of the window, those that were rejected among them."""
        return sum(kind.honest + kind.flagged + kind.rejected for kind in self.kinds)

    @property
    def rejected(self) -> int:
        """Those that cleaning rejected."""
        return sum(kind.rejected for kind in self.kinds)


def traffic(inputs: ReportInputs) -> Traffic:
    """Counts the events of the window."""
    sessions = inputs.sessions
    honest = sessions.filter(~pl.col("is_fraud"))
    times = pl.concat([inputs.honest["time"], inputs.flagged["time"]])
    named = inputs.honest.filter(pl.col("shopper") != "")
    return Traffic(
        first=times.min(),  # type: ignore[arg-type]
        last=times.max(),  # type: ignore[arg-type]
        kinds=_kinds(inputs),
        days=_days(inputs),
        sessions=sessions.height,
        flagged_sessions=sessions.height - honest.height,
        shoppers=named["shopper"].n_unique(),
        anonymous_sessions=honest.height - named["session_number"].n_unique(),
    )


def _kinds(inputs: ReportInputs) -> tuple[KindCount, ...]:
    counts = [_by_kind(frame) for frame in (inputs.honest, inputs.flagged, inputs.rejected)]
    found = (KindCount(kind.value, *(count.get(kind.value, 0) for count in counts)) for kind in EventKind)
    return tuple(each for each in found if each.honest or each.flagged or each.rejected)


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


# The funnel: how far searches, browsed pages and the sessions with them come, from an answer to a purchase.

_BROWSED = "\x00"
"""Stands in for the words of an answer that was browsed: no query that was taken has it."""
_CLICKED = ("clicks", "carts", "purchases")


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """How many answers, and sessions with such an answer, came at least so far."""

    name: str
    answers: int
    sessions: int
    answer_share: float | None
    """Of the answers of the first step; None where that has none."""
    session_share: float | None
    answer_rate: float | None
    """Of the answers of the step before; None at the first step."""
    session_rate: float | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """Without flagged sessions. Who buys has come through all steps, also where the log lacks one of them."""

    searches: tuple[FunnelStep, ...]
    """Answers to searches."""
    pages: tuple[FunnelStep, ...]
    """Answers without a query: pages that were browsed."""
    carts_elsewhere: int
    """Carts of no answer: nothing was clicked before from a search or a page."""
    purchases_elsewhere: int


def funnel(events: pl.DataFrame) -> Funnel:
    """The funnel of events of honest sessions, with `who` and `day`; docs/event-report.md says how acts find their
    answers."""
    answers = _answers(_marked(events))
    shown = answers.filter("searched")
    is_browsed = pl.col("query") == _BROWSED
    return Funnel(
        searches=_steps(shown.filter(~is_browsed), ("searches", "with results", "clicked", "cart", "purchase")),
        pages=_steps(shown.filter(is_browsed), ("pages", "clicked", "cart", "purchase")),
        carts_elsewhere=_elsewhere("cart", events, shown["carts"]),
        purchases_elsewhere=_elsewhere("purchase", events, shown["purchases"]),
    )


def _marked(events: pl.DataFrame) -> pl.DataFrame:
    """The events, those of answers without words with what stands in for them."""
    searched = query_texts(events)["query_id"].implode()
    browsed = (pl.col("query_id") != "") & ~pl.col("query_id").is_in(searched)
    return events.with_columns(query=pl.when(browsed).then(pl.lit(_BROWSED)).otherwise("query"))


def _answers(events: pl.DataFrame) -> pl.DataFrame:
    """Made day by day, as the tables are: whether a log tells what was shown is a matter of each day."""
    days = events.partition_by("day", maintain_order=True)
    return pl.concat([ANSWER_PARTIAL.make(day) for day in [events.clear(), *days]])


def _elsewhere(kind: str, events: pl.DataFrame, of_answers: pl.Series) -> int:
    return int((events["kind"] == kind).sum()) - int(of_answers.sum())


def _steps(answers: pl.DataFrame, names: tuple[str, ...]) -> tuple[FunnelStep, ...]:
    reached = {
        "with results": ~pl.col("empty") | _did(0),
        "clicked": _did(0),
        "cart": _did(1),
        "purchase": _did(2),
    }
    counts = []
    for name in names:
        there = answers.filter(reached.get(name, pl.lit(value=True)))
        counts.append((name, there.height, there["session_number"].n_unique()))
    _, first, first_sessions = counts[0]
    steps = [FunnelStep(*counts[0], _share(first, first), _share(first_sessions, first_sessions), None, None)]
    for (_, before, sessions_before), (name, answer_count, sessions) in pairwise(counts):
        shares = _share(answer_count, first), _share(sessions, first_sessions)
        rates = _share(answer_count, before), _share(sessions, sessions_before)
        steps.append(FunnelStep(name, answer_count, sessions, *shares, *rates))
    return tuple(steps)


def _did(least: int) -> pl.Expr:
    """Whether an answer led to one of the acts from this one on."""
    return pl.any_horizontal(pl.col(act) > 0 for act in _CLICKED[least:])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


# Click rates by position: as they are, how often each position is looked at, and what is left without that.
#
# A click needs a look (Craswell et al. 2008, An Experimental Comparison of Click Position-Bias Models), and the
# position-based model tells the two apart. A click rate divided by the examination of its position is that of products
# that were looked at: where it falls, worse products stand lower; that fewer people look is no longer in it.

_ROUGHLY = FitOptions(iterations=200, tolerance=1e-4)
"""For resamples, of which only the spread counts."""


@dataclass(frozen=True, slots=True)
class PositionOptions:
    """What is told of positions, and from how much."""

    depth: int = 20
    """The last position."""
    least_impressions: int = 100
    """Positions that were shown less often are left out."""
    most_answers: int = 25_000
    """The latest answers to searches that models are fitted to."""
    resamples: int = 30
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One position, from 1."""

    position: int
    impressions: int
    clicks: int
    """Impressions that were clicked."""
    ctr: Estimate
    """Clicks by impressions, with the Wilson interval."""
    examination: Estimate
    """How often it is looked at, by the position-based model; the first position always is, which sets the scale."""
    debiased: Estimate
    """The click rate of what is looked at: `ctr` by `examination`."""
    browsing_examination: float
    """How often it is looked at by the user browsing model, to compare."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Of answers to searches, without flagged sessions.

    The intervals of what models tell are normal on the logarithm, from the spread over Poisson bootstrap resamples of
    the answers (Chamandy et al. 2012, Estimating Uncertainty for Massive Data Streams).
    """

    answers: int
    """The latest ones, that all of this is about."""
    least_impressions: int
    rows: tuple[PositionRow, ...]


def positions(events: pl.DataFrame, options: PositionOptions = PositionOptions()) -> Positions:
    """Fits the models to the answers in a table of cleaned events; without any position that was shown often enough,
    there are no rows."""
    log, _ = click_log(_latest_searches(events, options.most_answers), options.depth)
    impressions, clicks = log.shown.sum(axis=0), log.clicks.sum(axis=0)
    told = [at for at in range(log.depth) if impressions[at] >= max(1, options.least_impressions)]
    if not told:
        return Positions(log.size, options.least_impressions, ())
    counts = pl.DataFrame({"clicks": clicks, "impressions": impressions})
    lower, upper = wilson(pl.col("clicks"), pl.col("impressions"))
    bounds = counts.select(lower=lower, upper=upper).rows()
    position_based, browsing = PositionBased.fit(log).examination, UserBrowsing.fit(log).examination
    spread_examination, spread_rate = _spreads(log, options)
    rows = []
    for at in told:
        rate = float(clicks[at] / impressions[at])
        looked = _estimate(float(position_based[at]), spread_examination[at])
        debiased = _estimate(rate / float(position_based[at]), spread_rate[at])
        counted = (at + 1, int(impressions[at]), int(clicks[at]))
        rows.append(PositionRow(*counted, Estimate(rate, *bounds[at]), looked, debiased, float(browsing[at])))
    return Positions(log.size, options.least_impressions, tuple(rows))


def _latest_searches(events: pl.DataFrame, most: int) -> pl.DataFrame:
    """The events of the latest answers to queries."""
    impressions = events.filter(pl.col("kind") == "impression")
    searched = impressions.join(query_texts(events), on="query_id", how="semi")
    starts = searched.group_by("query_id").agg(start=pl.col("time").min()).sort("start", "query_id")
    return events.join(starts.tail(most), on="query_id", how="semi")


def _spreads(log: ClickLog, options: PositionOptions) -> tuple[Floats, Floats]:
    """(depth,) each: standard deviations of the logarithm of examination, and of the click rate by it; not finite
    where a resample has no click."""
    draw = np.random.default_rng(options.seed)
    found = np.empty((options.resamples, 2, log.depth))
    for resample in found:
        weights = draw.poisson(1.0, log.size).astype(np.float32)
        examination = PositionBased.fit(ClickLog(log.pairs, log.clicks, log.count, weights), _ROUGHLY).examination
        rate = (weights @ log.clicks) / np.maximum(weights @ log.shown, 1.0)
        resample[:] = examination, rate / examination
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log(found).std(axis=0, ddof=1)
    return spread[0], spread[1]


def _estimate(share: float, spread: float) -> Estimate:
    share = min(share, 1.0)
    if not math.isfinite(spread):
        return Estimate(share)
    factor = math.exp(Z * float(spread))
    return Estimate(share, share / factor, min(share * factor, 1.0))


# Products: what is popular, and what becomes it.

Titles = Callable[[Iterable[str]], Mapping[str, str]]
"""Gives the titles of products by their ids; what is not known is left out."""

_MOST = 20


@dataclass(frozen=True, slots=True)
class ProductRow:
    """What was done with a product."""

    product_id: str
    title: str
    """Empty where it is not known."""
    category: str
    """The whole path; empty where it is not known."""
    shoppers: int
    impressions: int
    clicks: int
    carts: int
    purchases: int
    score: float
    """Clicks, carts and purchases by their weights, decayed by age."""
    times: float
    """The recent rate by the usual one, shrunk towards 1 where there is little."""


@dataclass(frozen=True, slots=True)
class Products:
    """At most twenty of each; products of too few shoppers are not told of."""

    count: int
    """Products of enough shoppers."""
    top: tuple[ProductRow, ...]
    """By decayed popularity."""
    rising: tuple[ProductRow, ...]


def no_titles(ids: Iterable[str]) -> Mapping[str, str]:  # noqa: ARG001
    """Titles where no catalog is known."""
    return {}


def catalog_titles(store: Store) -> Titles:
    """Titles of the version that serves; none where nothing is published, or it cannot be read."""

    def titles(ids: Iterable[str]) -> Mapping[str, str]:
        try:
            products = ProductStore(store.version_folder(store.current()))
        except ShelfwiseError:
            return {}
        rows = {product_id: products.row_of(product_id) for product_id in ids}
        return {product_id: products[row].title for product_id, row in rows.items() if row is not None}

    return titles


def products(popularity: pl.DataFrame, titles: Titles = no_titles) -> Products:
    """From the derived table of popularity."""
    table = popularity.with_columns(times=pl.lit(2.0) ** pl.col("trend"))
    top = table.sort("score", "product_id", descending=[True, False]).head(_MOST)
    rising = risen(popularity).sort("times", "product_id", descending=[True, False]).head(_MOST)
    named = titles({*top["product_id"], *rising["product_id"]})
    return Products(popularity.height, _rows(top, named), _rows(rising, named))


def _rows(table: pl.DataFrame, titles: Mapping[str, str]) -> tuple[ProductRow, ...]:
    counts = "category", "shoppers", "impressions", "clicks", "carts", "purchases", "score", "times"
    return tuple(
        ProductRow(product_id, titles.get(product_id, ""), *row)
        for product_id, *row in table.select("product_id", *counts).iter_rows()
    )


# Queries: what is searched most, what fails, what rises, and what shoppers search instead.
#
# Queries of too few shoppers are in no table that this is made from.

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
    overall: float
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
    overall = pl.lit(0.0) if problem is Problem.EMPTY else failed.sum() / judged.sum()
    told = table.with_columns(failed=failed, _judged=judged, overall=overall).filter(pl.col("_judged") > 0)
    lower = wilson(pl.col("failed"), pl.col("_judged"))[0]
    told = told.with_columns(lower=pl.when(pl.col("failed") > 0).then(lower).otherwise(0.0))
    return told.select(
        "query",
        "spelling",
        "searches",
        "shoppers",
        "failed",
        "lower",
        "overall",
        problem=pl.lit(problem.value),
        share=pl.col("failed") / pl.col("_judged"),
        lost=(pl.col("lower") - pl.col("overall")) * pl.col("_judged"),
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
