"""Answers: one row for each answer to a search, with what was shown and done on it; by day.

Carts and purchases that name no answer belong to the last one of their visit on which their product was clicked.
What names an answer of another visit of the day, without its words, belongs to that visit's answer.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from rerank.behaviour.acts import counted
from rerank.behaviour.parts import WHO, Part

_LATER = ("cart", "purchase")


def normalised(queries: Iterable[str]) -> list[str]:
    """Queries as they are counted together: in the same case, with single blanks."""
    return [" ".join(query.casefold().split()) for query in queries]


def _answers(events: pl.DataFrame) -> pl.DataFrame:
    shows_lists = bool((events["kind"] == "impression").any())
    answered = _where_asked(with_answer(events).filter(pl.col("query_id") != ""))
    answers = answered.group_by("visit", "query_id").agg(*_facts())
    answers = answers.filter(pl.col("spelling") != "")
    found_nothing = pl.col("results").fill_null(0 if shows_lists else -1) == 0
    empty = pl.col("asked") & found_nothing & (pl.col("results").is_not_null() | (pl.col("impressions") == 0))
    answers = _with_normalised(answers).with_columns(empty=empty)
    following = pl.col("query").shift(-1).over("visit", "need", order_by=["start", "query_id"])
    answers = answers.with_columns(following=pl.when(following != pl.col("query")).then(following))
    return answers.drop("asked", "results").sort("visit", "start", "query_id")


def _facts() -> tuple[pl.Expr, ...]:
    kind, query = pl.col("kind"), pl.col("query")
    clicked = kind == "click"
    return (
        pl.col(WHO).first(),
        pl.col("need").first(),
        query.filter(query != "").first().fill_null("").alias("spelling"),
        pl.col("time").first().alias("start"),
        kind.is_in(("query", "impression")).any().alias("searched"),
        (kind == "query").any().alias("asked"),
        pl.col("results").max(),
        counted("impression").alias("impressions"),
        counted("click").alias("clicks"),
        pl.col("position").filter(clicked).first().alias("first_click"),
        counted("cart").alias("carts"),
        counted("purchase").alias("purchases"),
    )


def _with_normalised(answers: pl.DataFrame) -> pl.DataFrame:
    spellings = answers["spelling"].unique().to_list()
    known = {"spelling": spellings, "query": normalised(spellings)}
    schema = {"spelling": pl.String, "query": pl.String}
    return answers.join(pl.DataFrame(known, schema=schema), on="spelling", how="left")


def with_answer(events: pl.DataFrame) -> pl.DataFrame:
    """The events, in their order, carts and purchases with the answer that they came of."""
    lacking = pl.col("kind").is_in(_LATER) & (pl.col("query_id") == "")
    rows = events.with_row_index("_row")
    clicks = rows.filter((pl.col("kind") == "click") & (pl.col("query_id") != "")).sort("time", "_row")
    of_click = clicks.select("visit", "product_id", "time", _answer="query_id")
    by = ["visit", "product_id"]
    found = rows.filter(lacking).sort("time").join_asof(of_click, on="time", by=by, check_sortedness=False)
    answer = pl.coalesce("_answer", "query_id")
    joined = rows.join(found.select("_row", "_answer"), on="_row", how="left", maintain_order="left")
    return joined.with_columns(query_id=answer).drop("_row", "_answer")


def _where_asked(answered: pl.DataFrame) -> pl.DataFrame:
    """Events that name an answer, those of visits that do not say its words with the visit that first said them, such
    as a purchase that the server tells of an hour later; by visit, the visit's own before those that join it."""
    said = answered.filter(pl.col("query") != "")
    there = said.select("visit", "query_id", _asked="visit").unique()
    first = said.group_by("query_id").agg(_elsewhere=pl.col("visit").min())
    joined = answered.join(there, on=["visit", "query_id"], how="left", maintain_order="left")
    joined = joined.join(first, on="query_id", how="left", maintain_order="left")
    visit = pl.coalesce("_asked", "_elsewhere", "visit")
    moved = joined.with_columns(visit=visit, _joins=pl.col("_asked").is_null())
    return moved.sort("visit", "_joins", "time", maintain_order=True).drop("_asked", "_elsewhere", "_joins")


def _query_products(events: pl.DataFrame) -> pl.DataFrame:
    told = _answers(events).select("visit", "query_id", "query")
    acts = _where_asked(with_answer(events)).filter(pl.col("kind").is_in(("click", "consultation", *_LATER)))
    acts = acts.select("visit", "query_id", WHO, "product_id", "kind").join(told, on=["visit", "query_id"])
    counts = acts.group_by("query", "product_id", WHO).agg(
        clicks=counted("click"),
        consultations=counted("consultation"),
        carts=counted("cart"),
        purchases=counted("purchase"),
    )
    return counts.sort("query", "product_id", WHO)


ANSWER_PART = Part("answers", _answers, version=2)
"""visit, query_id, who, need (the day's numbers), query (normalised), spelling, start (time of its first event),
searched (its query or impressions are told), empty (nothing was found), impressions, clicks, first_click (position),
carts, purchases, following (the other query that the same need went on with, or null). Browsed pages are left out."""
QUERY_PRODUCT_PART = Part("query_products", _query_products, version=2)
"""query (normalised), product_id, who, clicks, consultations, carts, purchases: what came of a query."""
