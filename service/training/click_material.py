"""What learning from clicks works with: lists of three periods, their candidates, and what was done on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import xxhash

from rerank.gate.bootstrap import Difference
from rerank.ranker.network import HistoryAttention, RankerNetwork
from rerank.ranker.registry import Added, Published
from rerank.training.checkpoint import Epoch
from rerank.training.click_batches import ClickData
from rerank.training.click_evidence import LABELS, ClickEvidence, learned, queries_with_clicks
from rerank.training.click_lists import ClickLists, click_lists
from rerank.training.click_periods import Periods, by_time
from rerank.training.click_training import ClickOptions, Validation, Way
from rerank.training.foretelling import Foretold, foretold
from rerank.training.history_training import HistoryOptions
from rerank.training.mixing import Mixing
from rerank.training.propensity import propensities
from service.popularity import UNKNOWN, PopularBefore
from service.snapshot import Snapshot
from service.training.candidate_lists import candidate_lists
from service.training.click_trials import Trial, TrialOptions, trial
from service.training.from_catalog import Progress, list_data


@dataclass(frozen=True, slots=True)
class FromClicks:
    """What to learn from, and how."""

    way: Way = "debiased"
    training: ClickOptions = field(default_factory=ClickOptions)
    queries: int = 20_000
    """The most frequent ones with a click."""
    candidates: int = 28
    """Of each of them."""
    depth: int = 100
    """Of the merged order: what serving reranks."""
    validating: int = 500
    """Queries that choose, the most frequent ones."""
    histories: HistoryOptions = field(default_factory=HistoryOptions)


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A network that was trained, with what becomes its score."""

    way: Way
    network: RankerNetwork
    """Without a history."""
    curve: Sequence[Epoch]
    mixing: Mixing


@dataclass(frozen=True, slots=True, eq=False)
class TaughtHistory:
    """What came of training on shoppers' histories."""

    told: str
    """What was done, and why there is no attention where there is none."""
    attention: HistoryAttention | None = None
    gain: Difference | None = None
    """Of the mean reciprocal rank of what was clicked, with a history over without; by shopper."""
    curve: Sequence[Epoch] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a training works with."""

    snapshot: Snapshot
    periods: Periods
    evidence: ClickEvidence
    """Of the first period."""
    foretold: tuple[Foretold, ...]
    """How well its click model foretells the clicks of the second one."""
    clicks: ClickLists
    data: ClickData
    validating: Trial
    held_out: Trial
    served: Published | None
    options: FromClicks

    @property
    def validation(self) -> Validation:
        """The lists that choose."""
        return Validation(self.validating.data, self.validating.numbers)


@dataclass(frozen=True, slots=True, eq=False)
class ClickTraining:
    """A training that ran to its end."""

    material: Material
    taught: Mapping[Way, Taught]
    """By the way that was asked for, and the naive one."""
    history: TaughtHistory
    added: Added


def material(
    snapshot: Snapshot,
    events: pl.DataFrame,
    served: Published | None,
    options: FromClicks,
    now: float,
    progress: Progress,
    popular: PopularBefore = lambda _end: UNKNOWN,
) -> Material:
    """Joins the events of `rerank.behaviour.derived.Derived.lists` with the candidates that their queries have now.

    In all three periods products are as popular as they were at the end of the first: what later lists choose and judge
    is not in what it is chosen and judged by.

    Raises TrainingError where there is too little to learn from, EncoderError where queries cannot be encoded.
    """
    progress.begin("click model", None, "")
    periods = by_time(events)
    evidence = learned(periods.training)
    told = foretold(periods.training, periods.validation, LABELS)
    progress.end(f"of {evidence.log.size:,} lists; perplexity on later ones: {', '.join(map(str, told))}")
    progress.begin("labels", None, "")
    queries = queries_with_clicks(evidence, options.queries)
    progress.end(f"{evidence.log.count:,} pairs of query and product, {len(queries):,} queries with clicks")
    progress.begin("candidates", len(queries), "queries")
    popularity = popular(periods.choosing)
    found = candidate_lists(
        snapshot, queries, now, depth=options.depth, popularity=popularity, progress=progress.advance
    )
    clicks = click_lists(evidence, found, snapshot.products.row_of, options.candidates, options.training.seed)
    left = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in clicks.left_out.counts().items() if count)
    progress.end(f"{len(clicks.usable):,} queries to learn from" + (f"; left out: {left}" if left else ""))
    data = ClickData(clicks, list_data(snapshot, clicks.lists, clicks.gains[:, 0]))
    progress.begin("trials", None, "")
    chances = propensities(evidence.examination, options.training.least_propensity)
    choosing = TrialOptions(now, options.depth, queries=options.validating, popularity=popularity)
    validating = trial(snapshot, periods.validation, chances, choosing)
    judging = TrialOptions(now, options.depth, popularity=popularity)
    held_out = trial(snapshot, periods.held_out, chances, judging)
    progress.end(f"{len(validating.numbers):,} later queries choose, {len(held_out.numbers):,} still later ones judge")
    return Material(snapshot, periods, evidence, told, clicks, data, validating, held_out, served, options)


def digest(made: Material, parent: str) -> str:
    """Another one where a run would train on anything else, or otherwise; `parent` names what it begins with."""
    manifest = made.snapshot.manifest
    found = xxhash.xxh3_64(f"{manifest.version} {manifest.encoder} {parent} {made.options}".encode())
    lists, told = made.clicks.lists, made.clicks.displays
    validating = made.validating.data
    for array in (lists.rows, lists.features, made.clicks.gains, told.places, told.acts, validating.targets):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
