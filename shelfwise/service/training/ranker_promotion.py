"""The promotion of a ranker that learned from clicks: measures on held-out lists, compared with the serving ranker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.click_models.evaluation import ClickLikelihood
from shelfwise.rerank.evaluation.metrics import ndcg, query_means, reciprocal_rank
from shelfwise.rerank.evaluation.off_policy import FIRST, OffPolicyEstimate, evaluate_rankings, logged_searches
from shelfwise.rerank.evaluation.promotion import (
    LIKELIHOOD,
    MRR,
    NDCG,
    Decision,
    QueryMeasures,
    decide,
    language_slices,
    new_product_slice,
    new_query_slice,
    traffic_slices,
)
from shelfwise.rerank.model_card import ModelReport, option_values
from shelfwise.rerank.model_store import MODEL_FILE, WEIGHTS_FILE, Build
from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.rerank.ranker.memory import QueryMemory
from shelfwise.rerank.ranker.network import RankerNetwork, save_network
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.onnx_export import export_network
from shelfwise.rerank.ranker.spec import ERASURES, Precision, RankerSpec, StoredRanker
from shelfwise.rerank.training.click_training import Validation
from shelfwise.rerank.training.datasets import merged_scores, query_of_fold
from shelfwise.rerank.training.list_scores import fit_calibration, padded, ranker_scores
from shelfwise.rerank.training.trainer import CURVE_FILE, Epoch
from shelfwise.retrieval.progress import Progress
from shelfwise.service.engine.reranking import Reranker, Reranking
from shelfwise.service.engine.served_models import encoding_of
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.popular_queries import PopularQueries, query_key
from shelfwise.service.events.signals import Popularity
from shelfwise.service.training.click_dataset import (
    ClickTrainingSet,
    ClickTrial,
    EventFacts,
    FirstHits,
    HistoryResult,
    TrainedNetwork,
)
from shelfwise.service.training.ranker_dataset import best_products

Scorer = Callable[[ClickTrial], NDArray[np.float64]]
"""Scores all candidates of a trial, concatenated (m,)."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickGate:
    """The data on which a challenger is measured."""

    snapshot: Snapshot
    earlier: ClickTrial
    """Lists of an earlier period, to whose clicks scores are calibrated."""
    held_out: ClickTrial
    likelihood: ClickLikelihood
    """Click likelihood, fitted to the training lists."""
    known: Collection[str]
    """Ids of the products shown in the training data; all others are new."""
    known_queries: Collection[str]
    """Queries of the training data."""

    def measures(self, scorer: Scorer) -> QueryMeasures:
        """Measures of scores on the held-out queries (n,)."""
        trial = self.held_out
        scores = scorer(trial)
        lengths = trial.data.lists.lengths
        gains, is_candidate = padded(trial.data.targets, lengths), padded(np.ones(len(scores)), lengths) > 0
        likelihood = self._likelihood(trial.shown_scores(scores), self.earlier.shown_scores(scorer(self.earlier)))
        by_query, _ = query_means(likelihood, trial.query_of_list, len(trial.traffic))
        in_rows = padded(scores, lengths)
        ranks = reciprocal_rank(padded(trial.is_chosen, lengths), in_rows, is_candidate)
        return {NDCG: ndcg(gains, in_rows, is_candidate), MRR: ranks, LIKELIHOOD: by_query}

    def _likelihood(self, scores: NDArray[np.float64], earlier: NDArray[np.float64]) -> NDArray[np.float64]:
        """Likelihood of the held-out lists (lists,), by the scores (lists, depth) of the hits on them and earlier ones.

        Each language is calibrated separately: a ranker orders the products of one query, so the scale of its scores
        may differ between languages.
        """
        trial, before = self.held_out, self.earlier
        found = np.zeros(trial.log.size)
        languages, others = (each.languages[each.query_of_list] for each in (trial, before))
        for language in np.unique(languages):
            held_out, fitted = languages == language, others == language
            calibration = self.likelihood.calibration(before.log.rows(fitted), earlier[fitted])
            found[held_out] = self.likelihood.of(trial.log.rows(held_out), scores[held_out], calibration)
        return found

    def decide(self, challenger: QueryMeasures, served: QueryMeasures) -> Decision:
        """The decision by the rule in `shelfwise.rerank.evaluation.promotion`, with queries weighted by traffic."""
        trial = self.held_out
        ids = (self.snapshot.products.id_of(row) for row in trial.data.lists.rows.tolist())
        is_new = np.array([name not in self.known for name in ids], np.float64)
        lengths = trial.data.lists.lengths
        slices = (
            *traffic_slices(trial.traffic),
            new_product_slice(padded(trial.is_chosen, lengths), padded(is_new, lengths) > 0),
            new_query_slice(trial.data.lists.queries, self.known_queries),
            *language_slices(trial.languages.tolist()),
        )
        return decide(challenger, served, trial.traffic, slices)


def merged_order(trial: ClickTrial) -> NDArray[np.float64]:
    """The scores of the merged order."""
    return merged_scores(trial.data.lists).astype(np.float64)


def ranked_by(ranker: OnnxRanker) -> Scorer:
    """The scores of a ranker as served, with the bonuses."""

    def score(trial: ClickTrial) -> NDArray[np.float64]:
        return ranker_scores(ranker, trial.data, range(len(trial.data.lists))) + trial.data.lists.bonus

    return score


def judged(
    made: ClickTrainingSet, history: HistoryResult, progress: Progress, challenger: StoredRanker
) -> StoredRanker:
    """A challenger with its report, as it would serve, with the gate's decision."""
    progress.begin("evaluation", None, "")
    pairs = made.evidence.pairs
    known, queries = frozenset(pairs["product_id"]), frozenset(map(query_of_fold, pairs["query"].unique()))
    likelihood = ClickLikelihood.fit(made.evidence.log)
    gate = ClickGate(made.snapshot, made.validating, made.held_out, likelihood, known, queries)
    reached, merged = gate.measures(ranked_by(OnnxRanker(challenger))), gate.measures(merged_order)
    against = gate.measures(ranked_by(OnnxRanker(made.served))) if made.served else merged
    by_query = {**reached, f"{NDCG} of the merged order": merged[NDCG]}
    measures = {name: _mean(values, made.held_out.traffic) for name, values in by_query.items()}
    if history.gain is not None:
        # On lists before the held-out ones.
        ends = {"": history.gain.mean, ", at least": history.gain.low, ", at most": history.gain.high}
        measures |= {f"{MRR} gained by histories{name}": value for name, value in ends.items()}
    finite = {name: value for name, value in measures.items() if np.isfinite(value)}
    progress.end("; ".join(f"{name} {value:.4f}" for name, value in finite.items()) or "no gains on held-out lists")
    progress.begin("gate", None, "")
    decision = gate.decide(reached, against)
    progress.end(str(decision))
    tested_on = f"{made.held_out.log.size:,} lists, the last ones, of {len(made.held_out.traffic):,} queries"
    return replace(challenger, report=ranker_report(made.served, tested_on, finite, decision, made.options))


def ranker_report(
    served: StoredRanker | None, tested_on: str, measures: Mapping[str, float], decision: Decision, options: object
) -> ModelReport:
    """The report on a challenger of what serves: a ranker, or the merged order."""
    return ModelReport(
        measured_on=tested_on,
        measures=measures,
        against=served.name if served else "the merged order",
        rejection_reasons=decision.rejection_reasons,
        decision=decision,
        options=option_values(options),
    )


def spec_of(
    made: ClickTrainingSet, chosen: TrainedNetwork, history: HistoryResult, parent: str, events: EventFacts
) -> RankerSpec:
    """The model spec for running the chosen network, besides its weights."""
    shown = np.flatnonzero(made.clicks.is_shown)
    lists = made.data.data
    found = chosen.mixing.scores(chosen.network, Validation(lists, np.arange(len(lists.lists)))).astype(np.float64)
    return ranker_spec(
        made.snapshot,
        chosen.network,
        mix=chosen.mixing.mix,
        event_weights=chosen.mixing.event_weights,
        calibration=fit_calibration(found[shown], made.clicks.gains[shown, 0].astype(np.float64)),
        trained_on={
            "lists": made.evidence.log.size,
            "queries": made.clicks.query_count,
            "method": chosen.method,
            "histories": history.summary,
            "seed": made.options.training.seed,
            **events,
            ERASURES: made.options.erasures,
            **(chosen.guarantee.facts if chosen.guarantee else {}),
        },
        parent=parent,
    )


def ranker_spec(
    snapshot: Snapshot,
    network: RankerNetwork,
    *,
    mix: float,
    event_weights: tuple[float, float, float],
    calibration: tuple[float, float],
    trained_on: Mapping[str, str | int | float],
    parent: str = "",
) -> RankerSpec:
    """The spec of a network that was trained on a version; see `RankerSpec`."""
    encoding = encoding_of(snapshot)
    return RankerSpec(
        encoder=encoding.encoder,
        state_dimension=network.shape.state_dimension,
        vector_dimension=encoding.vector_dimension,
        features=FEATURES,
        layers=network.shape.layers,
        precision="fp32",
        mix=mix,
        event_weights=event_weights,
        calibration=calibration,
        neutral=tuple(network.centre.tolist()),
        trained_on={"catalog": snapshot.manifest.version, **trained_on},
        parent=parent,
    )


def _mean(values: NDArray[np.float64], traffic: NDArray[np.float64]) -> float:
    counts = np.isfinite(values) & (traffic > 0)
    return float(np.average(values[counts], weights=traffic[counts])) if counts.any() else float("nan")


EXAMPLES, _CHECKED = 3, 60


def changed_queries(
    made: ClickTrainingSet,
    challenger: StoredRanker,
    popularity: Popularity,
    memory: QueryMemory,
    popular: PopularQueries,
) -> tuple[FirstHits, ...]:
    """The most frequent held-out queries whose first hits a challenger changes, in whole searches: what served before,
    or the merged order, compared with the challenger. Queries of few shoppers, which could identify them, are left
    out."""
    trial, products = made.held_out, made.snapshot.products
    lists = dict(zip(trial.data.lists.queries, trial.traffic.astype(int).tolist(), strict=True))
    shown = (query for query in lists if query_key(query) in popular.places)
    queries = sorted(shown, key=lambda query: -lists[query])[:_CHECKED]
    known = popularity, memory
    before, after = (_first_hits(made.snapshot, queries, each, *known) for each in (made.served, challenger))

    def titles(ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(products[row].title for row in map(products.row_of, ids) if row is not None)

    changed = (query for query in queries if before[query] != after[query])
    return tuple(
        FirstHits(each, lists[each], titles(before[each]), titles(after[each])) for each in islice(changed, EXAMPLES)
    )


def _first_hits(
    snapshot: Snapshot, queries: Sequence[str], ranker: StoredRanker | None, popularity: Popularity, memory: QueryMemory
) -> dict[str, list[str]]:
    if ranker is None:
        return best_products(snapshot, queries, "merged", EXAMPLES)
    with closing(Reranker(OnnxRanker(ranker))) as reranker:
        last = Reranking(snapshot, reranker, popularity=popularity, memory=memory)
        return best_products(snapshot, queries, "ranked", EXAMPLES, last=last)


_EVALUATED = 1_000


def off_policy(made: ClickTrainingSet, challenger: StoredRanker, progress: Progress) -> OffPolicyEstimate | None:
    """The estimated effect of a challenger on the held-out lists of the most frequent queries, with its hits from whole
    searches and knowledge from before these lists; None if no list has a known query."""
    trial, snapshot = made.held_out, made.snapshot
    frequent = np.argsort(-trial.traffic, kind="stable")[:_EVALUATED]
    queries = [trial.data.lists.queries[number] for number in frequent.tolist()]
    if not queries:
        return None
    progress.begin("off-policy", len(queries), "queries")
    with closing(Reranker(OnnxRanker(challenger))) as reranker:
        known = trial.options.popularity, trial.options.memory
        last = Reranking(snapshot, reranker, popularity=known[0], memory=known[1])
        ranking = best_products(snapshot, queries, "ranked", FIRST, progress.advance, last)
    periods = made.periods
    events = pl.concat([periods.training, periods.validation, periods.held_out])
    searches, rankings = logged_searches(events, [ranking], periods.judging)
    (found,) = evaluate_rankings(searches, rankings)
    progress.end(found.describe("the new ranker"))
    return found


def network_files(network: RankerNetwork, curve: Sequence[Epoch] | None = None, precision: Precision = "fp32") -> Build:
    """Writes a ranker's graph, weights and curve of training."""

    def build(folder: Path) -> None:
        export_network(network, folder / MODEL_FILE, precision)
        save_network(network, folder / WEIGHTS_FILE)
        if curve is not None:
            (folder / CURVE_FILE).write_bytes(msgspec.json.encode(curve))

    return build
