"""Small tables of events, derived tables and findings, for the tests of the reports on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from shelfwise.rerank.evaluation.off_policy import OffPolicyEstimate, OutcomeEstimate
from shelfwise.rerank.evaluation.promotion import Decision
from shelfwise.rerank.model_card import ModelReport
from shelfwise.rerank.model_store import AddResult
from shelfwise.rerank.ranker.spec import AddedRanker, StoredRanker
from shelfwise.rerank.sessions.cleaning import CLEAN_SCHEMA, REJECTED_SCHEMA
from shelfwise.rerank.sessions.options import Window
from shelfwise.service.events.report_inputs import ReportInputs
from shelfwise.service.reports.training import LearnReport, RunDecision, Stage, StageOutcome, Step
from shelfwise.service.training.click_dataset import FirstHits
from tests.rankers import SPEC

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
WINDOW = Window(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 4, 12, tzinfo=UTC))

Event = Mapping[str, object]

_EVENTS = {**CLEAN_SCHEMA, "who": pl.String(), "day": pl.Date(), "is_fraud": pl.Boolean()}
_SESSIONS: dict[str, pl.DataType | type[pl.DataType]] = {
    "session_number": pl.UInt32,
    "shopper": pl.String,
    "session": pl.String,
    "first": pl.Datetime("ms", "UTC"),
    "events": pl.UInt32,
    "clicks": pl.UInt32,
    "score": pl.Float32,
    "reasons": pl.List(pl.String),
    "is_fraud": pl.Boolean,
    "day": pl.Date,
}

HOSTILE = '<script>alert(1)</script>"onmouseover="x" &amp; \x07\x1b[2J\u202egnp.exe {{ 7*7 }} $x^2$ [red]b[/]'


def event(kind: str, session_number: int, query_id: str = "", at: float = 0, **values: object) -> Event:
    """An event, `at` minutes after the start, of shopper k1~N where N is the session's number."""
    time = START + timedelta(minutes=at)
    named = {"kind": kind, "session_number": session_number, "need": session_number, "query_id": query_id}
    texts = dict.fromkeys(("session", "query", "product_id"), "")
    owner = dict.fromkeys(("shopper", "who"), f"k1~{session_number}")
    times = {"time": time, "received": time, "day": time.date()}
    return {"key": b"", "is_fraud": False, **named, **texts, **owner, **times, **values}


def answer(
    session_number: int, query_id: str, products: Sequence[str], query: str = "drill", at: float = 0, **values: object
) -> list[Event]:
    """The impressions of an answer, from position 1."""
    return [
        event("impression", session_number, query_id, at, query=query, product_id=product, position=position, **values)
        for position, product in enumerate(products, 1)
    ]


def event_frame(events: Sequence[Event] = ()) -> pl.DataFrame:
    return pl.DataFrame(list(events), schema=_EVENTS).sort("session_number", "time", maintain_order=True)


def session_frame(sessions: Sequence[Event] = ()) -> pl.DataFrame:
    """Sessions with their scores; by default those of an honest anonymous session."""
    plain = {"shopper": "", "session": "", "first": START, "events": 1, "clicks": 0, "score": 0.0, "reasons": []}
    return pl.DataFrame(
        [
            {**plain, "is_fraud": False, "day": START.date(), "session_number": at, **session}
            for at, session in enumerate(sessions)
        ],
        schema=_SESSIONS,
    )


def rejected_frame(rows: Sequence[Event] = ()) -> pl.DataFrame:
    plain = {"key": b"", "time": START, "kind": "click", "product_id": "p1", "query_id": "", "detail": ""}
    return pl.DataFrame([{**plain, **row} for row in rows], schema=REJECTED_SCHEMA)


def inputs(events: pl.DataFrame | None = None, **tables: pl.DataFrame) -> ReportInputs:
    """Inputs of a report; `events` have `is_fraud`, and tables are empty by default."""
    each = event_frame() if events is None else events
    empty = {
        "honest": each.filter(~pl.col("is_fraud")),
        "flagged": each.filter("is_fraud"),
        "rejected": rejected_frame(),
        "sessions": session_frame(),
    }
    return ReportInputs(window=WINDOW, made=START, **(empty | tables))


def added_ranker(decision: Decision, *, serves: bool = False) -> AddedRanker:
    """The ranker of a run, compared with ranker-0001."""
    rejected = () if decision.publish else decision.reasons
    report = ModelReport(
        created="2026-10-02T03:12:00+00:00", against="ranker-0001", decision=decision, rejection_reasons=rejected
    )
    return AddResult(StoredRanker("ranker-0002", Path("store/rankers/ranker-0002"), SPEC, report), serves)


def off_policy() -> OffPolicyEstimate:
    """The off-policy estimate of a new ranker."""
    clicks = OutcomeEstimate("clicks", 0.5, 0.52, 0.02, 0.01, 0.03, 345.0)
    return OffPolicyEstimate(2_000, 800, 10, 0.75, (clicks,), "")


def learn_report(text: str = "nothing was clicked", **values: object) -> LearnReport:
    """A report in which every text of external origin is `text`; `values` replace fields of it."""
    plain = LearnReport(
        started=datetime(2026, 10, 2, 3, 12, tzinfo=UTC),
        seconds=75.0,
        decision=RunDecision.REJECTED,
        summary=(text,),
        reasons=(text,),
        ranker="ranker-0002",
        against=text,
        notices=(text,),
        removed=("ranker-0001",),
        stages=(
            Stage("clean", "What is there is cleaned.", StageOutcome.DONE, (Step("events", text, 4.0),)),
            Stage("shoppers", "It recommends.", StageOutcome.NOT_TRAINED, (Step("acts", text, 0.0),)),
            Stage("towers", "They stay.", StageOutcome.LEFT, (Step("towers", text, 0.0),)),
            Stage("ranker", "It is trained.", StageOutcome.STOPPED, (Step("debiased", "", 71.0),)),
        ),
        events=None,
        examples=(FirstHits(text, 5, (text,), ("new", text)),),
    )
    return replace(plain, **values)  # type: ignore[arg-type]
