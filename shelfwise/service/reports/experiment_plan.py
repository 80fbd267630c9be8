"""Planning of experiments: off-policy estimates of the variants, and the required number of shoppers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from shelfwise.rerank.click_models.click_log import sums
from shelfwise.rerank.evaluation.off_policy import (
    FIRST,
    LoggedSearches,
    OffPolicyEstimate,
    evaluate_rankings,
    logged_searches,
)
from shelfwise.rerank.evaluation.statistics import ALPHA, RatioSums
from shelfwise.rerank.model_store import DEFAULT_MODEL, OFF
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import StoredRanker, ranker_store
from shelfwise.rerank.sessions.tables import DerivedTables, open_derived
from shelfwise.rerank.training.click_dataset import split_by_time
from shelfwise.retrieval.errors import ExperimentError
from shelfwise.retrieval.index.fusion import DEFAULT, METHODS
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.engine.reranking import Reranker, Reranking
from shelfwise.service.engine.served_models import encoding_of
from shelfwise.service.engine.snapshot import Snapshot, serving_snapshot
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.signals import Popularity
from shelfwise.service.experiments.analysis import shoppers_needed
from shelfwise.service.experiments.experiment import (
    Experiment,
    Goal,
    Mode,
    VariantOptions,
    check_rankers,
    stored_problem,
)
from shelfwise.service.settings import Settings
from shelfwise.service.training.derived_tables import catalog, memory_of, popularity_scores
from shelfwise.service.training.ranker_dataset import best_products

_QUERIES = 1_000


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """Estimates for a variant, compared with the first variant."""

    variant: str
    estimate: OffPolicyEstimate
    text: str
    """The estimate as a sentence."""
    shoppers: int | None = None
    """Shoppers that an A/B test needs to detect the estimated difference; None if refused or too small to matter."""


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """Plan of an experiment that has not started: estimates by variant and required shoppers."""

    experiment: Experiment
    control: str
    begins: datetime
    until: datetime
    """Time range of the evaluated lists."""
    queries: int
    """Number of evaluated queries: the most frequent ones."""
    share: float
    """Share of the lists since `begins` that belong to the evaluated queries."""
    variants: tuple[VariantPlan, ...]
    shoppers: int | None
    """Shoppers that an A/B test needs to detect the smallest effect that matters; None if the log has no data on it."""
    shoppers_a_day: float
    """Shoppers of the evaluated lists a day, times the experiment's share."""


def plan_experiment(root: Path, settings: Settings, experiment: Experiment, progress: Progress) -> ExperimentPlan:
    """Evaluates the variants of an experiment on the derived tables of an index directory.

    The rankings are those of complete searches without merchandising rules. If a ranker was trained on clicks, only the
    last fifth of the lists is evaluated, which no training has seen, with popularity and query memory from before it.
    Raises ExperimentError for a variant that the log cannot evaluate, StoreMissingError if there are no tables, and
    TrainingError for too few lists.
    """
    check_rankers(experiment, stored_problem(root))
    if "rules" in experiment.touches:
        message = f"experiment {experiment.id!r}: rules: the log is evaluated without merchandising rules; leave it out"
        raise ExperimentError(message, field="rules")
    derived = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER)
    with serving_snapshot(root, settings) as snapshot:
        rankers = [_ranker_of(root, snapshot, variant.options) for variant in experiment.variants]
        lists = _Lists.of(derived, any(each is not None and _learned(each) for each in rankers))
        progress.begin("rankings", len(lists.queries) * len(rankers), "queries")
        rankings = []
        with ExitStack() as stack:
            for variant, ranker in zip(experiment.variants, rankers, strict=True):
                last = _last_stage(root, snapshot, ranker, derived, lists, stack)
                merge, stage = METHODS[variant.options.merge or DEFAULT], "ranked" if last else "merged"
                rankings.append(
                    best_products(snapshot, lists.queries, stage, FIRST, progress.advance, last, merge=merge)
                )
        progress.end(f"the first {FIRST} hits of {len(lists.queries):,} queries by {len(rankers)} variants")
    progress.begin("estimates", None, "")
    searches, (control, *others) = logged_searches(lists.events, rankings, lists.begins)
    found = evaluate_rankings(searches, others, base=control)
    progress.end(f"by {found[0].searches:,} searches of {found[0].shoppers:,} shoppers")
    return _plan(experiment, lists, searches, found)


def _learned(ranker: StoredRanker) -> bool:
    """Whether the ranker was trained on clicks of this store."""
    return ranker.name != DEFAULT_MODEL


def _ranker_of(root: Path, snapshot: Snapshot, options: VariantOptions) -> StoredRanker | None:
    """Ranker of a variant; None for the merged order."""
    if options.stage == "merged" or options.ranker == OFF:
        return None
    registry, encoding = ranker_store(root), encoding_of(snapshot)
    return registry.servable(options.ranker, encoding) if options.ranker else registry.serving(encoding).model


@dataclass(frozen=True, slots=True, eq=False)
class _Lists:
    """Lists of the derived tables; lists since `begins` are evaluated."""

    events: pl.DataFrame
    begins: datetime
    until: datetime
    queries: list[str]
    share: float

    @classmethod
    def of(cls, derived: DerivedTables, is_split: bool) -> _Lists:
        events = derived.lists()
        periods = split_by_time(events)
        begins = periods.judging if is_split else cast(datetime, events["time"].min())
        shown = events.filter((pl.col("kind").cast(pl.String) == "impression") & (pl.col("time") >= begins))
        by_query = (
            shown.select("query", "query_id")
            .unique()
            .group_by("query")
            .len()
            .sort("len", "query", descending=[True, False])
        )
        frequent = by_query.filter(pl.col("query") != "").head(_QUERIES)
        share = float(frequent["len"].sum()) / max(int(by_query["len"].sum()), 1)
        return cls(events, begins, cast(datetime, events["time"].max()), frequent["query"].to_list(), share)


def _last_stage(
    root: Path, snapshot: Snapshot, ranker: StoredRanker | None, derived: DerivedTables, lists: _Lists, stack: ExitStack
) -> Reranking | None:
    """A variant's ranker, with the popularity and query memory from before the evaluated lists."""
    if ranker is None:
        return None
    reranker = stack.enter_context(closing(Reranker(OnnxRanker(ranker))))
    if not _learned(ranker):
        return Reranking(snapshot, reranker)
    before, products = lists.events.filter(pl.col("time") < lists.begins), catalog(root)
    memory = memory_of(derived.memory_of(before, lists.begins, products), products)
    popularity = Popularity.of_scores(popularity_scores(derived.popularity_before(lists.begins)))
    return Reranking(snapshot, reranker, popularity=popularity, memory=memory)


def _plan(
    experiment: Experiment, lists: _Lists, searches: LoggedSearches, found: Sequence[OffPolicyEstimate]
) -> ExperimentPlan:
    control, *others = (variant.name for variant in experiment.variants)
    needed = _needed(experiment, searches)
    plans = []
    for name, each in zip(others, found, strict=True):
        # The difference in clicks relative to the control; none if the estimate is refused.
        moved = sum(abs(clicks.difference) / clicks.before for clicks in each.outcomes[:1] if clicks.before)
        text = each.describe(f"variant {name}", f"variant {control}")
        plans.append(VariantPlan(name, each, text, needed(moved) if moved >= experiment.least_effect else None))
    days = max((lists.until - lists.begins).total_seconds() / 86_400, 1 / 24)
    return ExperimentPlan(
        experiment,
        control,
        lists.begins,
        lists.until,
        len(lists.queries),
        lists.share,
        tuple(plans),
        needed(experiment.least_effect),
        found[0].shoppers / days * experiment.share,
    )


def _needed(experiment: Experiment, searches: LoggedSearches) -> Callable[[float], int | None]:
    """A function from a relative effect on the goal to the number of shoppers that detect it, with equal variants; the
    function returns None if the log cannot measure the goal (such as searches without hits)."""
    acts = searches.acts[searches.evaluated]
    of_goal = {Goal.CLICK_THROUGH: acts[..., 0].any(axis=1), Goal.CARTS: acts[..., 1].sum(axis=1)}
    of_goal[Goal.PURCHASES] = acts[..., 2].sum(axis=1)
    if experiment.mode != Mode.SPLIT or experiment.goal not in of_goal or not of_goal[experiment.goal].any():
        return lambda _: None
    _, who = np.unique(searches.shopper[searches.evaluated], return_inverse=True)
    count = int(who.max()) + 1
    lists = sums(who, np.ones(len(who)), count) if experiment.goal == Goal.CLICK_THROUGH else np.ones(count)
    figure = RatioSums(sums(who, of_goal[experiment.goal], count), lists)
    variants = len(experiment.variants)
    # Each shopper sees one of the variants, so its influence on that variant's figure is multiplied by their number.
    deviation = float(np.std(figure.influence, ddof=1)) * np.sqrt(2.0 * variants)
    alpha = ALPHA / (variants - 1)

    def needed(relative: float) -> int | None:
        effect = relative * figure.figure
        return shoppers_needed(deviation, effect, experiment.planned, alpha) if effect > 0 else None

    return needed
