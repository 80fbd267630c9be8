"""The gate for a ranker that learned from clicks: measures on held-out lists, against what serves now."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.gate.likelihood import ClickLikelihood
from rerank.gate.measures import ndcg, query_means, reciprocal_rank
from rerank.gate.slices import Slice, language_slices, new_product_slice, traffic_slices
from rerank.gate.verdict import QueryMeasures, Verdict, judge
from rerank.ranker.network import RankerNetwork
from rerank.ranker.onnx_ranker import OnnxRanker
from rerank.training.batches import merged_scores
from rerank.training.click_training import Validation
from rerank.training.evaluation import ranker_scores
from rerank.training.mixing import Mixing
from service.snapshot import Snapshot
from service.training.click_trials import Trial

Scorer = Callable[[Trial], NDArray[np.float64]]
"""Scores all candidates of a trial, end to end (m,)."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickGate:
    """What a challenger is measured on."""

    snapshot: Snapshot
    earlier: Trial
    """Scores are calibrated to its clicks."""
    held_out: Trial
    likelihood: ClickLikelihood
    """Fitted to the lists that were trained on."""
    known: Collection[str]
    """The ids of the products that were shown in what was trained on: all others are new."""

    def measures(self, scorer: Scorer) -> QueryMeasures:
        """What scores reach on the held-out queries (n,)."""
        trial = self.held_out
        scores, earlier = scorer(trial), scorer(self.earlier)
        gains, is_candidate = padded(trial, trial.data.targets), padded(trial, np.ones(len(scores))) > 0
        calibration = self.likelihood.calibration(self.earlier.log, self.earlier.shown_scores(earlier))
        told = self.likelihood.of(trial.log, trial.shown_scores(scores), calibration)
        by_query, _ = query_means(told, trial.asked, len(trial.traffic))
        in_rows = padded(trial, scores)
        return QueryMeasures(
            ndcg(gains, in_rows, is_candidate), reciprocal_rank(gains, in_rows, is_candidate), by_query
        )

    def verdict(self, challenger: QueryMeasures, served: QueryMeasures) -> Verdict:
        """By the rule in `rerank.gate.verdict`, queries weighed by their traffic."""
        return judge(challenger, served, self.held_out.traffic, self._slices())

    def _slices(self) -> tuple[Slice, ...]:
        trial = self.held_out
        ids = (self.snapshot.products.id_of(row) for row in trial.data.lists.rows.tolist())
        is_new = np.array([name not in self.known for name in ids], np.float64)
        return (
            *traffic_slices(trial.traffic),
            new_product_slice(padded(trial, trial.data.targets), padded(trial, is_new) > 0),
            *language_slices(trial.languages(self.snapshot)),
        )


def padded(trial: Trial, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, c): values (m,) by query, 0 behind a query's last candidate."""
    lists = trial.data.lists
    lengths = lists.lengths
    made = np.zeros((len(lists), int(lengths.max(initial=1))))
    made[np.arange(made.shape[1]) < lengths[:, None]] = values
    return made


def merged_order(trial: Trial) -> NDArray[np.float64]:
    """The scores of the merged order."""
    return merged_scores(trial.data.lists).astype(np.float64)


def scored_by(network: RankerNetwork, mixing: Mixing) -> Scorer:
    """The scores of a network that is not published."""

    def scores(trial: Trial) -> NDArray[np.float64]:
        everything = Validation(trial.data, np.arange(len(trial.data.lists)))
        return mixing.scores(network, everything).astype(np.float64)

    return scores


def ranked_by(ranker: OnnxRanker) -> Scorer:
    """The scores of a ranker as it is served."""

    def scores(trial: Trial) -> NDArray[np.float64]:
        return ranker_scores(ranker, trial.data, range(len(trial.data.lists)))

    return scores
