"""What came of the searches that took part in an experiment, shopper by shopper, out of cleaned events."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rerank.behaviour.answers import normalised, with_answer
from service.experiments.experiment import Experiment, Goal, Unit
from service.experiments.query_ids import Drafted, Seen, parts_of

OVER = {
    Goal.CLICK_THROUGH: ("clicked", "searches"),
    Goal.EMPTY: ("empty", "searches"),
    Goal.ABANDONED: ("abandoned", "searches"),
    Goal.CARTS: ("carts", "shoppers"),
    Goal.PURCHASES: ("purchases", "shoppers"),
}
"""Which sum over which a figure is."""
BETTER_LESS = frozenset({Goal.EMPTY, Goal.ABANDONED})
_IDS = {"query_id": pl.String, "variant": pl.String, "first": pl.Int32, "teams": pl.String}
_MADE_ON = ("click", "cart", "purchase")
_TELLING = ("query", "impression")


@dataclass(frozen=True, slots=True, eq=False)
class SplitOutcomes:
    """Of a split."""

    shoppers: pl.DataFrame
    """One row a shopper (`who`) and variant: searches, clicked, empty, abandoned, carts, purchases, shoppers (1)."""
    units: dict[str, int]
    """For how many units each variant was drawn."""


def split_outcomes(events: pl.DataFrame, sessions: pl.DataFrame, experiment: Experiment, key: bytes) -> SplitOutcomes:
    """What came of each variant. `events` are those of `event_report.inputs` without robots', `sessions` has visit and
    session.

    One search is what a visit asked with one text: its further pages, and its reloads, are no more searches. It is
    abandoned where nothing was clicked, put into the cart or bought from it, and the shopper did not go on looking for
    the same thing with other words.
    """
    named = pl.col("variant").is_in([variant.name for variant in experiment.variants])
    answers = _answers(events, _ids(events, experiment.id, key).filter(named))
    done = _done(events, answers)
    searches = _searches(events, answers.join(done, on="query_id", how="left"))
    by = ("who", "variant")
    asked = searches.group_by(by).agg(
        pl.len().alias("searches"), pl.col("clicked").sum(), pl.col("empty").sum(), pl.col("abandoned").sum()
    )
    acts = answers.join(done, on="query_id", how="left").group_by(by).agg(pl.col("cart", "purchase").sum())
    shoppers = acts.join(asked, on=by, how="left").rename({"cart": "carts", "purchase": "purchases"})
    counted = [pl.col(name).fill_null(0).cast(pl.Float64) for name, _ in OVER.values()]
    searched = pl.col("searches").fill_null(0).cast(pl.Float64)
    table = shoppers.select(*by, searched, *counted, shoppers=pl.lit(1.0)).sort(by)
    return SplitOutcomes(table, _units(answers, sessions, experiment))


def draft_outcomes(events: pl.DataFrame, experiment: Experiment, key: bytes) -> pl.DataFrame:
    """What came of interleaved lists, one row a shopper (`who`): searches, wins of the second list, losses, ties. A
    search with clicks is won by the list whose products were clicked more; one without clicks says nothing."""
    answers = _answers(events, _ids(events, experiment.id, key).filter(pl.col("teams") != ""))
    shown = events.filter((pl.col("kind") == "impression") & pl.col("position").is_not_null())
    placed = shown.select("query_id", "product_id", "position").unique(["query_id", "product_id"], keep="any")
    placed = placed.join(answers.select("query_id", "first", "teams"), on="query_id")
    team = pl.col("teams").str.slice((pl.col("position") - pl.col("first")).clip(0).cast(pl.Int64), 1)
    placed = placed.filter(pl.col("position") >= pl.col("first")).with_columns(team=team)
    clicks = events.filter(pl.col("kind") == "click").unique(["query_id", "product_id"], keep="any")
    clicked = clicks.select("query_id", "product_id").join(placed, on=["query_id", "product_id"])
    by_answer = clicked.group_by("query_id").agg(
        a=(pl.col("team") == "a").sum().cast(pl.Int64), b=(pl.col("team") == "b").sum().cast(pl.Int64)
    )
    asked = answers.join(by_answer, on="query_id", how="left").with_columns(pl.col("a", "b").fill_null(0))
    searches = asked.group_by("who", "visit", "text").agg(pl.col("a", "b").sum())
    a, b = pl.col("a"), pl.col("b")
    counted = searches.group_by("who").agg(
        pl.len().cast(pl.Int64).alias("searches"),
        wins=(b > a).sum().cast(pl.Int64),
        losses=(a > b).sum().cast(pl.Int64),
        ties=((a == b) & (a > 0)).sum().cast(pl.Int64),
    )
    return counted.sort("who")


def _ids(events: pl.DataFrame, experiment: str, key: bytes) -> pl.DataFrame:
    """The query ids that say, signed, that their search took part, with what they say of it."""
    marked = events.filter(pl.col("query_id").str.contains(f"~{experiment}", literal=True))
    rows = [
        _row(query_id, part)
        for query_id in marked["query_id"].unique()
        for part in parts_of(query_id, key)
        if part.experiment == experiment
    ]
    return pl.DataFrame(rows, schema=_IDS, orient="row").unique("query_id", keep="first")


def _row(query_id: str, part: Seen | Drafted) -> tuple[str, str, int | None, str]:
    if isinstance(part, Seen):
        return query_id, part.variant, None, ""
    return query_id, "", part.first, part.teams


def _answers(events: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
    """One row a query id that was asked or shown: who, visit, need, text (normalised; empty of what was browsed),
    asked (when, last), results, impressions, and what the id says."""
    told = events.filter(pl.col("kind").is_in(_TELLING)).join(ids, on="query_id", how="semi", maintain_order="left")
    told = told.sort("time", maintain_order=True)
    is_query = pl.col("kind") == "query"
    answers = told.group_by("query_id", maintain_order=True).agg(
        pl.col("who", "visit", "need").first(),
        pl.col("query").filter(pl.col("query") != "").first().fill_null("").alias("spelled"),
        pl.col("time").filter(is_query).max().alias("asked"),
        pl.col("results").max(),
        (~is_query).sum().alias("impressions"),
    )
    spelled = answers["spelled"].unique().to_list()
    texts = pl.DataFrame(
        {"spelled": spelled, "text": normalised(spelled)}, schema=dict.fromkeys(("spelled", "text"), pl.String)
    )
    return answers.join(texts, on="spelled", how="left").join(ids, on="query_id")


def _done(events: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """How often answers were clicked, and carted and bought from; by query id."""
    acts = with_answer(events).filter(pl.col("kind").is_in(_MADE_ON))
    acts = acts.join(answers, on="query_id", how="semi")
    counts = [(pl.col("kind") == kind).sum().cast(pl.Int64).alias(kind) for kind in _MADE_ON]
    return acts.group_by("query_id").agg(*counts)


def _searches(events: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    asked = answers.filter(pl.col("text") != "").with_columns(pl.col(*_MADE_ON).fill_null(0))
    searches = asked.group_by("who", "variant", "visit", "text").agg(
        pl.col("need").last(),
        pl.col("asked", "results").max(),
        pl.col("impressions").sum(),
        pl.col(*_MADE_ON).sum(),
    )
    last = events.filter(pl.col("kind") == "query").group_by("visit", "need").agg(_last=pl.col("time").max())
    searches = searches.join(last, on=["visit", "need"], how="left")
    found = pl.coalesce("results", "impressions")
    nothing_done = pl.sum_horizontal(*_MADE_ON) == 0
    is_last = (pl.col("asked") >= pl.col("_last")).fill_null(value=True)
    return searches.with_columns(clicked=pl.col("click") > 0, empty=found == 0, abandoned=nothing_done & is_last)


def _units(answers: pl.DataFrame, sessions: pl.DataFrame, experiment: Experiment) -> dict[str, int]:
    told = answers.join(sessions, on="visit", how="left")
    columns = {Unit.SHOPPER: ["who"], Unit.SESSION: ["session"], Unit.QUERY: ["who", "text"]}[experiment.unit]
    drawn = told.select("variant", *columns).unique()
    counts = dict(drawn.group_by("variant").len().iter_rows())
    return {variant.name: int(counts.get(variant.name, 0)) for variant in experiment.variants}
