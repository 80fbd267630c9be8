"""The funnel: how far searches, browsed pages and the visits with them come, from an answer to a purchase."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from rerank.behaviour.answers import ANSWER_PART
from rerank.clicks.answer_words import words_of_answers

_BROWSED = "\x00"
"""Stands in for the words of an answer that was browsed: no query that was taken has it."""
_CLICKED = ("clicks", "carts", "purchases")


@dataclass(frozen=True, slots=True)
class Step:
    """How many answers, and visits with such an answer, came at least so far."""

    name: str
    answers: int
    visits: int
    answer_share: float | None
    """Of the answers of the first step; None where that has none."""
    visit_share: float | None
    answer_rate: float | None
    """Of the answers of the step before; None at the first step."""
    visit_rate: float | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """Without flagged visits. Who buys has come through all steps, also where the log lacks one of them."""

    searches: tuple[Step, ...]
    """Answers to searches."""
    pages: tuple[Step, ...]
    """Answers without a query: pages that were browsed."""
    carts_elsewhere: int
    """Carts of no answer: nothing was clicked before from a search or a page."""
    purchases_elsewhere: int


def funnel(events: pl.DataFrame) -> Funnel:
    """The funnel of events of honest visits, with `who` and `day`; docs/event-report.md says how acts find their
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
    searched = words_of_answers(events)["query_id"].implode()
    browsed = (pl.col("query_id") != "") & ~pl.col("query_id").is_in(searched)
    return events.with_columns(query=pl.when(browsed).then(pl.lit(_BROWSED)).otherwise("query"))


def _answers(events: pl.DataFrame) -> pl.DataFrame:
    """Made day by day, as the tables are: whether a log tells what was shown is a matter of each day."""
    days = events.partition_by("day", maintain_order=True)
    return pl.concat([ANSWER_PART.make(day) for day in [events.clear(), *days]])


def _elsewhere(kind: str, events: pl.DataFrame, of_answers: pl.Series) -> int:
    return int((events["kind"] == kind).sum()) - int(of_answers.sum())


def _steps(answers: pl.DataFrame, names: tuple[str, ...]) -> tuple[Step, ...]:
    reached = {
        "with results": ~pl.col("empty") | _did(0),
        "clicked": _did(0),
        "cart": _did(1),
        "purchase": _did(2),
    }
    counts = []
    for name in names:
        there = answers.filter(reached.get(name, pl.lit(value=True)))
        counts.append((name, there.height, there["visit"].n_unique()))
    _, first, first_visits = counts[0]
    steps = [Step(*counts[0], _share(first, first), _share(first_visits, first_visits), None, None)]
    for (_, before, visits_before), (name, answer_count, visits) in pairwise(counts):
        shares = _share(answer_count, first), _share(visits, first_visits)
        rates = _share(answer_count, before), _share(visits, visits_before)
        steps.append(Step(name, answer_count, visits, *shares, *rates))
    return tuple(steps)


def _did(least: int) -> pl.Expr:
    """Whether an answer led to one of the acts from this one on."""
    return pl.any_horizontal(pl.col(act) > 0 for act in _CLICKED[least:])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
