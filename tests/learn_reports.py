"""A report of `shelfwise learn` for the tests of how it is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from rerank.click_models.evaluation import HeldOutFit
from rerank.evaluation.promotion import LIKELIHOOD, NDCG, Comparison
from rerank.evaluation.statistics import Difference
from rerank.ranker.spec import OrderResult
from rerank.training.trainer import Epoch
from rerank.user_tower.files import MethodResult, UserTowerReport
from service.reports.training import (
    Curve,
    EventCounts,
    Findings,
    Gain,
    LearnReport,
    Position,
    RunDecision,
    Stage,
    StageOutcome,
    Step,
    TextTowers,
    UserTowerResult,
)
from service.training.user_tower import NEAR, TOWER

BETTER, WORSE, UNSURE = (Difference(mean, mean - 0.01, mean + 0.01, 0.5, 400) for mean in (0.03, -0.03, 0.002))


def comparison(difference: Difference | None, measure: str = NDCG, part: str = "all queries") -> Comparison:
    """One of the gate's, of 400 queries."""
    return Comparison(measure, part, 400, 0.53, 0.5, difference)


def findings(**said: object) -> Findings:
    """What a training found; `said` replaces some of it."""
    plain = Findings(
        lists=7_000,
        queries=900,
        judging_lists=2_000,
        left_out={"unclicked_queries": 12, "gone_products": 0},
        borrowed=(),
        models=(HeldOutFit("ubm", 1.2, -2.5), HeldOutFit("position", 1.3, None)),
        positions=(Position(1, 7_000, 2_100, 1.0), Position(2, 6_900, 900, None)),
        curves=tuple(
            Curve(way, (Epoch(0, None, 0.3), Epoch(1, 2.5, 0.5), Epoch(2, 2.25, 0.4)), 0.51)
            for way in ("debiased", "naive")
        ),
        orders=(OrderResult("merged", 0.5, 0.48, 0.52, 400), OrderResult("naive", 0.51, 0.5, 0.53, 400)),
        above_naive=Gain(0.02, 0.01, 0.03),
        comparisons=(comparison(BETTER), comparison(UNSURE, LIKELIHOOD), comparison(None, NDCG, "language zh")),
    )
    return replace(plain, **said)  # type: ignore[arg-type]


def recommends(reason: str = "", **said: object) -> UserTowerResult:
    """A user tower that is rejected for a reason, or serves; `said` replaces some of it."""
    report = UserTowerReport(
        created="2026-10-02T03:12:00+00:00",
        shoppers=400,
        against=NEAR,
        methods=(MethodResult(TOWER, 0.25, 0.125), MethodResult(NEAR, 0.2, 0.1)),
        difference=UNSURE if reason else BETTER,
        curve=((0, 0.1), (1, 0.15), (2, 0.14)),
        rejection_reasons=(reason,) if reason else (),
    )
    return replace(UserTowerResult("tower-0003", not reason, is_new=True, report=report), **said)  # type: ignore[arg-type]


def learn_report(text: str = "nothing was clicked", **said: object) -> LearnReport:
    """A report in which every text that may come from outside is this one; `said` replaces some of it."""
    events = EventCounts(
        first=datetime(2026, 5, 1, tzinfo=UTC),
        last=datetime(2026, 10, 1, tzinfo=UTC),
        events=200_000,
        rejected={text: 3},
        corrected=0,
        sessions=9_000,
        flagged_sessions=40,
        flagged_clicks=700,
    )
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
        events=events,
        findings=findings(comparisons=(comparison(WORSE, NDCG, f"language {text}"),)),
        shoppers=recommends(text),
        towers=TextTowers(312, (text,)),
    )
    return replace(plain, **said)  # type: ignore[arg-type]
