"""The event report's section on bots and click fraud."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from shelfwise.rerank.click_models.click_log import query_texts
from shelfwise.rerank.sessions.query_tables import normalise_queries
from shelfwise.service.events.report_inputs import ReportInputs

_MOST = 20
_MOST_SUBJECTS = 3
_SHOWN = 8
"""Number of shown digest characters of a pseudonym; enough to find it in the table of sessions."""


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """Counts of flagged sessions with one reason; a session can have several."""

    reason: str
    sessions: int
    clicks: int
    shoppers: int
    """Distinct shoppers; for sessions without one, distinct session ids."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A query or product in a suspect's flagged clicks."""

    name: str
    """Text of the query, or id of the product."""
    clicks: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """A shopper with flagged sessions, or a flagged session without a shopper."""

    who: str
    """Start of the shopper's or session's pseudonym; empty if there is neither."""
    score: float
    """Highest score of the flagged sessions."""
    sessions: int
    """Number of flagged sessions; the fields below cover only these."""
    clicks: int
    first: datetime
    last: datetime
    """Start times of the first and of the last flagged session."""
    reasons: tuple[str, ...]
    """Reasons, most frequent first; among equals, strongest first."""
    queries: tuple[Subject, ...]
    """At most three queries, most clicked first, without queries of too few unflagged shoppers."""
    products: tuple[Subject, ...]
    """At most three products, likewise."""


@dataclass(frozen=True, slots=True)
class FraudReport:
    """Bots and click fraud in the window: counts, reasons and suspects of flagged sessions."""

    sessions: int
    clicks: int
    click_share: float | None
    """Share of all clicks; None if there are no clicks."""
    shoppers: int
    threshold: float
    """Minimum score of a flagged session."""
    reasons: tuple[ReasonCount, ...]
    """Reasons, most frequent first."""
    suspects: tuple[Suspect, ...]
    """At most twenty suspects, highest score first."""


def fraud_found(inputs: ReportInputs) -> FraudReport:
    """Computes the section from the sessions' scores."""
    sessions = inputs.sessions.with_columns(_who=_who())
    flagged = sessions.filter("is_fraud")
    clicks, all_clicks = int(flagged["clicks"].sum()), int(sessions["clicks"].sum())
    return FraudReport(
        sessions=flagged.height,
        clicks=clicks,
        click_share=clicks / all_clicks if all_clicks else None,
        shoppers=flagged["_who"].n_unique(),
        threshold=inputs.threshold,
        reasons=_reasons(flagged),
        suspects=tuple(_suspects(flagged, inputs)),
    )


def _who() -> pl.Expr:
    shopper, session = pl.col("shopper"), pl.col("session")
    nobody = pl.format("#{}", "session_number")
    return pl.when(shopper != "").then(shopper).when(session != "").then(session).otherwise(nobody)


def _reasons(flagged: pl.DataFrame) -> tuple[ReasonCount, ...]:
    each = flagged.explode("reasons").drop_nulls("reasons").group_by("reasons")
    counts = each.agg(sessions=pl.len(), clicks=pl.col("clicks").sum(), shoppers=pl.col("_who").n_unique())
    ordered = counts.sort("sessions", "reasons", descending=[True, False])
    return tuple(ReasonCount(*row) for row in ordered.iter_rows())


def _suspects(flagged: pl.DataFrame, inputs: ReportInputs) -> Iterator[Suspect]:
    grouped = flagged.group_by("_who").agg(
        score=pl.col("score").max(),
        sessions=pl.len(),
        clicks=pl.col("clicks").sum(),
        first=pl.col("first").min(),
        last=pl.col("first").max(),
    )
    shown = pl.col("score").round(2)
    worst = grouped.sort(shown, "clicks", "sessions", "_who", descending=[True, True, True, False]).head(_MOST)
    theirs = flagged.join(worst, on="_who", how="semi")
    acts = _clicks_of(theirs, inputs.flagged)
    products = _subjects(acts, "product_id", {name: name for name in inputs.popularity["product_id"]})
    queries, reasons = _queries(acts, inputs.queries), _reasons_of(theirs)
    for who, score, sessions, clicks, first, last in worst.iter_rows():
        yield Suspect(
            who=_shortened(who),
            score=score,
            sessions=sessions,
            clicks=clicks,
            first=first,
            last=last,
            reasons=tuple(reasons.get(who, ())),
            queries=tuple(queries[who]),
            products=tuple(products[who]),
        )


def _reasons_of(flagged: pl.DataFrame) -> dict[str, list[str]]:
    """Reasons by suspect, most frequent first; `reasons` of a session are ordered by strength."""
    place = pl.int_ranges(pl.col("reasons").list.len())
    each = flagged.select("_who", "reasons", _place=place).explode("reasons", "_place").drop_nulls("reasons")
    counts = each.group_by("_who", "reasons").agg(pl.len(), pl.col("_place").mean())
    ordered = counts.sort("len", "_place", "reasons", descending=[True, False, False])
    return dict(ordered.group_by("_who").agg("reasons").iter_rows())


def _clicks_of(sessions: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Clicks of the sessions with `_who` and the query text of their answer, else of the click; null if unknown."""
    theirs = events.join(sessions.select("session_number", "_who"), on="session_number")
    words = query_texts(theirs).select("query_id", _words="query")
    joined = theirs.filter(pl.col("kind") == "click").join(words, on="query_id", how="left")
    own = pl.when(pl.col("query") != "").then("query")
    return joined.select("_who", "product_id", query=pl.coalesce("_words", own))


def _queries(acts: pl.DataFrame, known: pl.DataFrame) -> defaultdict[str, list[Subject]]:
    texts = acts["query"].drop_nulls().unique().to_list()
    schema = {"query": pl.String, "plain": pl.String}
    plain = pl.DataFrame({"query": texts, "plain": normalise_queries(texts)}, schema=schema)
    return _subjects(acts.join(plain, on="query"), "plain", dict(known.select("query", "spelling").iter_rows()))


def _subjects(acts: pl.DataFrame, column: str, names: Mapping[str, str]) -> defaultdict[str, list[Subject]]:
    """The most clicked values of a column by suspect, without those that have no name in `names`."""
    found: defaultdict[str, list[Subject]] = defaultdict(list)
    counts = acts.group_by("_who", column).len().sort("len", column, descending=[True, False])
    for who, subject, clicks in counts.iter_rows():
        if subject in names and len(found[who]) < _MOST_SUBJECTS:
            found[who].append(Subject(names[subject], clicks))
    return found


def _shortened(who: str) -> str:
    if who.startswith("#"):
        return ""
    key, mark, digest = who.rpartition("~")
    return f"{key}{mark}{digest[:_SHOWN]}"
