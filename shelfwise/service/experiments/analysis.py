"""Analysis of experiments: outcomes, intervals, decisions, and the report with its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from scipy import stats

from shelfwise.rerank.evaluation.statistics import (
    ALPHA,
    Interval,
    RatioSums,
    SequentialDifference,
    above_half,
    ratio_difference,
    sequence_margin,
)
from shelfwise.rerank.sessions.query_tables import attribute_to_answers, normalise_queries
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.curation.document_store import plain_document
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.report_inputs import ReportInputs, read_inputs
from shelfwise.service.experiments.assignment import ExplorationMark, SplitMark, read_marks
from shelfwise.service.experiments.experiment import Experiment, ExperimentStore, Goal, Mode, Unit


def report_document(report: ExperimentReport) -> dict[str, Any]:
    """The JSON document of a report, with the experiment as it was added."""
    return {**msgspec.to_builtins(report), "experiment": plain_document(report.experiment)}


OVER = {
    Goal.CLICK_THROUGH: ("clicked", "searches"),
    Goal.EMPTY: ("empty", "searches"),
    Goal.ABANDONED: ("abandoned", "searches"),
    Goal.CARTS: ("carts", "shoppers"),
    Goal.PURCHASES: ("purchases", "shoppers"),
}
"""The numerator and denominator of each measure."""
BETTER_LESS = frozenset({Goal.EMPTY, Goal.ABANDONED})
_IDS = {"query_id": pl.String, "variant": pl.String, "first": pl.Int32, "teams": pl.String}
_MADE_ON = ("click", "cart", "purchase")
_TELLING = ("query", "impression")


@dataclass(frozen=True, slots=True, eq=False)
class SplitOutcomes:
    """Outcomes of a split."""

    shoppers: pl.DataFrame
    """One row per shopper (`who`) and variant: searches, clicked, empty, abandoned, carts, purchases, shoppers (1)."""
    units: dict[str, int]
    """Number of units assigned to each variant."""


def split_outcomes(events: pl.DataFrame, sessions: pl.DataFrame, experiment: Experiment, key: bytes) -> SplitOutcomes:
    """The outcomes of each variant, from events without bots; `sessions` has session_number and session.

    A search is everything that a session requested with one text, including further pages and reloads. It is abandoned
    if nothing on it was clicked, put into the cart or bought, and the shopper did not search again in other words.
    """
    named = pl.col("variant").is_in([variant.name for variant in experiment.variants])
    answers = _answers(events, _ids(events, experiment.id, key).filter(named))
    done = _done(events, answers)
    searches = _searches(events, answers.join(done, on="query_id", how="left"))
    by = ("who", "variant")
    requested = searches.group_by(by).agg(
        pl.len().alias("searches"), pl.col("clicked").sum(), pl.col("empty").sum(), pl.col("abandoned").sum()
    )
    acts = answers.join(done, on="query_id", how="left").group_by(by).agg(pl.col("cart", "purchase").sum())
    shoppers = acts.join(requested, on=by, how="left").rename({"cart": "carts", "purchase": "purchases"})
    counted = [pl.col(name).fill_null(0).cast(pl.Float64) for name, _ in OVER.values()]
    searched = pl.col("searches").fill_null(0).cast(pl.Float64)
    table = shoppers.select(*by, searched, *counted, shoppers=pl.lit(1.0)).sort(by)
    return SplitOutcomes(table, _units(answers, sessions, experiment))


def draft_outcomes(events: pl.DataFrame, experiment: Experiment, key: bytes) -> pl.DataFrame:
    """The outcomes of interleaved lists, one row per shopper (`who`): searches, wins of the second list, losses, ties.
    A search with clicks is won by the list whose products were clicked more."""
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
    requested = answers.join(by_answer, on="query_id", how="left").with_columns(pl.col("a", "b").fill_null(0))
    searches = requested.group_by("who", "session_number", "text").agg(pl.col("a", "b").sum())
    a, b = pl.col("a"), pl.col("b")
    counted = searches.group_by("who").agg(
        pl.len().cast(pl.Int64).alias("searches"),
        wins=(b > a).sum().cast(pl.Int64),
        losses=(a > b).sum().cast(pl.Int64),
        ties=((a == b) & (a > 0)).sum().cast(pl.Int64),
    )
    return counted.sort("who")


def _ids(events: pl.DataFrame, experiment: str, key: bytes) -> pl.DataFrame:
    """The signed query ids whose search took part, with their marks."""
    marked = events.filter(pl.col("query_id").str.contains(f"~{experiment}", literal=True))
    rows = [
        (query_id, part.variant, None, "") if isinstance(part, SplitMark) else (query_id, "", part.first, part.teams)
        for query_id in marked["query_id"].unique()
        for part in read_marks(query_id, key)
        if not isinstance(part, ExplorationMark) and part.experiment == experiment
    ]
    return pl.DataFrame(rows, schema=_IDS, orient="row").unique("query_id", keep="first")


def _answers(events: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
    """One row per query id that was requested or shown: who, session, need, text (normalised; empty for browsing),
    asked (when, last), results, impressions, and the marks of the id."""
    reported = events.filter(pl.col("kind").is_in(_TELLING)).join(ids, on="query_id", how="semi", maintain_order="left")
    reported = reported.sort("time", maintain_order=True)
    is_query = pl.col("kind") == "query"
    answers = reported.group_by("query_id", maintain_order=True).agg(
        pl.col("who", "session_number", "need").first(),
        pl.col("query").filter(pl.col("query") != "").first().fill_null("").alias("spelled"),
        pl.col("time").filter(is_query).max().alias("query_time"),
        pl.col("results").max(),
        (~is_query).sum().alias("impressions"),
    )
    spelled = answers["spelled"].unique().to_list()
    texts = pl.DataFrame(
        {"spelled": spelled, "text": normalise_queries(spelled)}, schema=dict.fromkeys(("spelled", "text"), pl.String)
    )
    return answers.join(texts, on="spelled", how="left").join(ids, on="query_id")


def _done(events: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """The numbers of clicks, carts and purchases of answers, by query id."""
    acts = attribute_to_answers(events).filter(pl.col("kind").is_in(_MADE_ON))
    acts = acts.join(answers, on="query_id", how="semi")
    counts = [(pl.col("kind") == kind).sum().cast(pl.Int64).alias(kind) for kind in _MADE_ON]
    return acts.group_by("query_id").agg(*counts)


def _searches(events: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    requested = answers.filter(pl.col("text") != "").with_columns(pl.col(*_MADE_ON).fill_null(0))
    searches = requested.group_by("who", "variant", "session_number", "text").agg(
        pl.col("need").last(),
        pl.col("query_time", "results").max(),
        pl.col("impressions").sum(),
        pl.col(*_MADE_ON).sum(),
    )
    last = events.filter(pl.col("kind") == "query").group_by("session_number", "need").agg(_last=pl.col("time").max())
    searches = searches.join(last, on=["session_number", "need"], how="left")
    found = pl.coalesce("results", "impressions")
    nothing_done = pl.sum_horizontal(*_MADE_ON) == 0
    is_last = (pl.col("query_time") >= pl.col("_last")).fill_null(value=True)
    return searches.with_columns(clicked=pl.col("click") > 0, empty=found == 0, abandoned=nothing_done & is_last)


def _units(answers: pl.DataFrame, sessions: pl.DataFrame, experiment: Experiment) -> dict[str, int]:
    reported = answers.join(sessions, on="session_number", how="left")
    columns = {Unit.SHOPPER: ["who"], Unit.SESSION: ["session"], Unit.QUERY: ["who", "text"]}[experiment.unit]
    drawn = reported.select("variant", *columns).unique()
    counts = dict(drawn.group_by("variant").len().iter_rows())
    return {variant.name: int(counts.get(variant.name, 0)) for variant in experiment.variants}


MIN_SHOPPERS = 100
"""Minimum shoppers who saw each variant: anytime-valid intervals need a first look that is not too early."""
_NOTHING = "there is nothing to compare yet"
LONGEST = timedelta(days=365)
"""Assumed maximum duration of an experiment without an end."""


class Outcome(StrEnum):
    """State of an experiment's evidence."""

    DECIDED = "decided"
    NOT_YET = "not yet"
    NEVER = "never with this traffic"


@dataclass(frozen=True, slots=True)
class ExperimentDecision:
    """The current conclusion, by the anytime-valid interval, so that it can be read at any time."""

    outcome: Outcome
    winner: str
    """The better variant; empty if there is none."""
    text: str


@dataclass(frozen=True, slots=True)
class Course:
    """The course of an experiment over time."""

    begins: datetime
    until: datetime
    """Time up to which events are included, or the end of the experiment."""
    over: datetime | None
    """The end of the experiment, past or future, if known."""
    planned: int
    alpha: float

    @property
    def is_over(self) -> bool:
        """Whether the experiment has ended."""
        return self.over is not None and self.over <= self.until

    @property
    def lasts(self) -> float:
        """Duration in days from start to end."""
        return max(((self.over or self.begins + LONGEST) - self.begins) / timedelta(days=1), self.days)

    @property
    def days(self) -> float:
        """Duration in days so far, at least an hour."""
        return max((self.until - self.begins) / timedelta(days=1), 1 / 24)


def decide(
    names: tuple[str, str],
    found: SequentialDifference | None,
    fewest: int,
    least: float,
    course: Course,
    *,
    less: bool = False,
) -> ExperimentDecision:
    """The conclusion from a difference. `names` are the control and the challenger, `fewest` is the smaller number of
    shoppers of the two, `least` the smallest relevant difference; `less` if lower values are better."""
    control, challenger = names
    if found is None or fewest < MIN_SHOPPERS:
        few = f"{fewest:,} shoppers saw one of the two; at least {MIN_SHOPPERS} are needed"
        text = few if fewest < MIN_SHOPPERS else _NOTHING
        return ExperimentDecision(Outcome.NEVER if course.is_over else Outcome.NOT_YET, "", text)
    if found.always.excludes_zero:
        winner = challenger if (found.value > 0) != less else control
        loser = control if winner == challenger else challenger
        return ExperimentDecision(Outcome.DECIDED, winner, f"{winner} is better than {loser}")
    if max(-found.always.low, found.always.high) <= least:
        text = f"there is no relevant difference between {control} and {challenger}"
        return ExperimentDecision(Outcome.DECIDED, "", text)
    if course.is_over:
        return ExperimentDecision(
            Outcome.NEVER, "", "the experiment has ended, and the observed difference may be due to chance"
        )
    effect = max(abs(found.value), least)
    if not effect:
        return ExperimentDecision(Outcome.NOT_YET, "", _NOTHING)
    needed = shoppers_needed(found.deviation, effect, course.planned, course.alpha, found.shoppers)
    a_day = found.shoppers / course.days
    days = (needed - found.shoppers) / a_day
    if needed > a_day * course.lasts:
        ends = "it ends" if course.over else f"{LONGEST.days} days are over"
        text = f"an observed or relevant difference needs {needed:,} shoppers, more than will come before {ends}"
        return ExperimentDecision(Outcome.NEVER, "", text)
    text = f"about {needed - found.shoppers:,} more shoppers, {days:,.0f} days, if the difference stays as observed"
    return ExperimentDecision(Outcome.NOT_YET, "", text)


def shoppers_needed(deviation: float, effect: float, planned: int, alpha: float, least: int = MIN_SHOPPERS) -> int:
    """Number of shoppers that distinguish a difference of this size from zero, from `least` to a billion; `deviation`
    is the standard deviation per shopper."""
    low, high = least, least

    def reported(shoppers: int) -> bool:
        return sequence_margin(deviation, shoppers, planned, alpha) < effect

    while not reported(high) and high < 1_000_000_000:
        low, high = high, high * 2
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if reported(middle) else (middle, high)
    return high


MISMATCH = 0.001
"""The p-value below which the assignment does not match the weights (Fabijan et al. 2019, Diagnosing Sample Ratio
Mismatch in Online Controlled Experiments)."""


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """Measures of one variant."""

    name: str
    units: int
    """Number of units assigned to it."""
    shoppers: int
    searches: int
    figures: Mapping[str, float | None]
    """Measures by goal; None if the denominator is zero."""


@dataclass(frozen=True, slots=True)
class VariantComparison:
    """One variant compared with the first, by one goal."""

    variant: str
    goal: Goal
    decides: bool
    """Whether it is the goal of the experiment."""
    difference: float
    relative: float | None
    """Difference as a share of the first variant's measure."""
    fixed: Interval
    """Fixed-sample interval: for one look, at the planned end."""
    always: Interval
    """Anytime-valid interval: for any number of looks."""


@dataclass(frozen=True, slots=True)
class DraftFigures:
    """Measures of interleaving: whose products were clicked more."""

    variant: str
    """The second variant, to which the wins refer."""
    shoppers: int
    searches: int
    wins: int
    losses: int
    ties: int
    win_share: float | None
    """Share of searches won, plus half of the ties; one half if both are equally preferred."""
    fixed: Interval | None
    always: Interval | None
    sign_p: float | None
    """P-value of the sign test over shoppers, for one look: the probability of such uneven preferences by chance."""


@dataclass(frozen=True, slots=True)
class ExperimentAnalysis:
    """Everything that the events show about an experiment."""

    variants: tuple[VariantFigures, ...] = ()
    comparisons: tuple[VariantComparison, ...] = ()
    draft: DraftFigures | None = None
    decisions: tuple[ExperimentDecision, ...] = ()
    """One for each variant except the first."""
    mismatch_p: float | None = None
    """Probability of an assignment as uneven as this by chance."""
    warnings: tuple[str, ...] = ()


def split_analysis(experiment: Experiment, found: SplitOutcomes, course: Course) -> ExperimentAnalysis:
    """The measures of a split. The error is divided among the variants other than the first."""
    control, *challengers = (variant.name for variant in experiment.variants)
    alpha = ALPHA / len(challengers)
    comparisons: list[VariantComparison] = []
    decisions: list[ExperimentDecision] = []
    figures = {variant.name: _figures(found, variant.name) for variant in experiment.variants}
    for name in challengers:
        difference: SequentialDifference | None = None
        least = 0.0
        for goal in Goal:
            sums = _sums(found.shoppers, control, name, goal)
            between = ratio_difference(*sums, planned=experiment.planned, alpha=alpha)
            if between is None:
                continue
            base, decides = sums[0].figure, goal == experiment.goal
            relative = between.value / base if base else None
            intervals = between.fixed, between.always
            comparisons.append(VariantComparison(name, goal, decides, between.value, relative, *intervals))
            if decides:
                difference, least = between, experiment.least_effect * abs(base)
        fewest = min(figures[control].shoppers, figures[name].shoppers)
        less = experiment.goal in BETTER_LESS
        decisions.append(decide((control, name), difference, fewest, least, course, less=less))
    p = sample_ratio_mismatch(list(found.units.values()), [variant.weight for variant in experiment.variants])
    warnings: tuple[str, ...] = ()
    if p is not None and p < MISMATCH:
        uneven = f"the assignment does not match the weights (p = {p:.1g}): searches or events are lost of one"
        warnings = (f"{uneven} variant; do not trust differences before the cause is known",)
    return ExperimentAnalysis(tuple(figures.values()), tuple(comparisons), None, tuple(decisions), p, warnings)


def draft_analysis(experiment: Experiment, shoppers: pl.DataFrame, course: Course) -> ExperimentAnalysis:
    """The measures of interleaving. In the share of wins, a tie counts as half a win (Chapelle, Joachims, Radlinski &
    Yue 2012, Large-scale Validation and Analysis of Interleaved Search Evaluation)."""
    control, challenger = (variant.name for variant in experiment.variants)
    wins, losses, ties = (shoppers[name].to_numpy().astype(np.float64) for name in ("wins", "losses", "ties"))
    reported = (wins + losses + ties) > 0
    sums = RatioSums((wins + ties / 2)[reported], (wins + losses + ties)[reported])
    found = above_half(sums, planned=experiment.planned)
    ahead, behind = int((wins > losses).sum()), int((wins < losses).sum())
    figures = DraftFigures(
        challenger,
        shoppers.height,
        int(shoppers["searches"].sum()),
        int(wins.sum()),
        int(losses.sum()),
        int(ties.sum()),
        0.5 + found.value if found else None,
        _moved(found.fixed) if found else None,
        _moved(found.always) if found else None,
        float(stats.binomtest(ahead, ahead + behind).pvalue) if ahead + behind else None,
    )
    decision = decide((control, challenger), found, int(reported.sum()), experiment.least_effect, course)
    return ExperimentAnalysis(draft=figures, decisions=(decision,))


def sample_ratio_mismatch(units: Sequence[int], weights: Sequence[float]) -> float | None:
    """The p-value of Pearson's chi-square test that units were assigned to the variants by their weights."""
    total = sum(units)
    if not total:
        return None
    expected = [total * weight / sum(weights) for weight in weights]
    return float(stats.chisquare(units, expected).pvalue)


def _sums(shoppers: pl.DataFrame, control: str, challenger: str, goal: Goal) -> tuple[RatioSums, RatioSums]:
    """The sums of both variants, with one entry for each shopper of either, ordered by name."""
    above, below = OVER[goal]
    both = shoppers.filter(pl.col("variant").is_in((control, challenger))).group_by("who")
    sums = [
        both.agg(pl.col(above, below).filter(pl.col("variant") == name).sum()).sort("who")
        for name in (control, challenger)
    ]
    first, second = (RatioSums(each[above].to_numpy(), each[below].to_numpy()) for each in sums)
    return first, second


def _figures(found: SplitOutcomes, name: str) -> VariantFigures:
    theirs = found.shoppers.filter(pl.col("variant") == name)
    sums = {column: float(theirs[column].sum()) for pair in OVER.values() for column in pair}
    figures = {str(goal): sums[above] / sums[below] if sums[below] else None for goal, (above, below) in OVER.items()}
    return VariantFigures(name, found.units[name], theirs.height, int(sums["searches"]), figures)


def _moved(interval: Interval) -> Interval:
    return Interval(0.5 + interval.low, 0.5 + interval.high)


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """An experiment with its results."""

    experiment: Experiment
    state: str
    begins: datetime
    over: datetime | None
    made: datetime
    """Time at which the underlying tables were created; the report contains nothing later."""
    first: datetime
    last: datetime
    """Time of the last included event."""
    analysis: ExperimentAnalysis
    notices: tuple[str, ...] = ()


def stored_report(index: Path, experiment_id: str, now: datetime) -> ExperimentReport:
    """The report; raises ExperimentError for an unknown experiment, StoreMissingError if no tables were derived from
    events yet."""
    store = ExperimentStore(index)
    experiment = store.get(experiment_id)
    return experiment_report(experiment, store.read().key, read_inputs(index / EVENTS_FOLDER / DERIVED_FOLDER), now)


def experiment_report(experiment: Experiment, key: bytes, inputs: ReportInputs, now: datetime) -> ExperimentReport:
    """The report of an experiment from cleaned events, without those of bots."""
    window, alpha = inputs.window, ALPHA / (len(experiment.variants) - 1)
    begins = experiment.starts or window.last
    until = max(min(window.last, now), begins)
    course = Course(begins, until, experiment.ends, experiment.planned, alpha)
    if experiment.mode == Mode.INTERLEAVE:
        analysis = draft_analysis(experiment, draft_outcomes(inputs.honest, experiment, key), course)
    else:
        found = split_outcomes(inputs.honest, inputs.sessions.select("session_number", "session"), experiment, key)
        analysis = split_analysis(experiment, found, course)
    notices: tuple[str, ...] = ()
    if begins < window.first:
        notices = (f"it started before {window.first:%Y-%m-%d}, where the tables start: refresh with more --days",)
    return ExperimentReport(
        experiment,
        experiment.state(now),
        begins,
        experiment.ends,
        inputs.made,
        window.first,
        window.last,
        analysis,
        notices,
    )
