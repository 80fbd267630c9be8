"""What is said of a ranker that learned from clicks: what running it takes, what it reaches, and whether it may
serve."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from rerank.gate.bootstrap import paired_bootstrap
from rerank.gate.likelihood import ClickLikelihood
from rerank.gate.verdict import LIKELIHOOD, MRR, NDCG, QueryMeasures, Verdict
from rerank.ranker.features import FEATURES
from rerank.ranker.onnx_ranker import OnnxRanker
from rerank.ranker.registry import Published
from rerank.ranker.spec import MERGED, NAIVE, NEW, SERVED, RankerReport, RankerSpec, Reached
from rerank.training.calibration import fit_calibration
from rerank.training.click_training import Validation
from service.served_ranker import encoding_of
from service.training.click_gate import ClickGate, merged_order, ranked_by, scored_by
from service.training.click_material import Material, Taught, TaughtHistory
from service.training.from_catalog import Progress
from service.training.publishing import gated


def judged(
    made: Material, naive: Taught, history: TaughtHistory, progress: Progress, challenger: Published
) -> tuple[RankerReport, Verdict]:
    """The report and the verdict on a challenger, as it would serve."""
    progress.begin("evaluation", None, "")
    known = frozenset(made.evidence.pairs["product_id"])
    likelihood = ClickLikelihood.fit(made.evidence.log)
    gate = ClickGate(made.snapshot, made.validating, made.held_out, likelihood, known)
    reached, merged = gate.measures(ranked_by(OnnxRanker(challenger))), gate.measures(merged_order)
    against = gate.measures(ranked_by(OnnxRanker(made.served))) if made.served else merged
    measures = {name: _mean(values, made.held_out.traffic) for name, values in _named(reached)}
    measures |= {f"{NDCG} of the merged order": _mean(merged.ndcg, made.held_out.traffic)}
    by_naive = gate.measures(scored_by(naive.network, naive.mixing))
    measures |= _beside_naive(reached, by_naive, made.held_out.traffic) | _by_histories(history)
    before = {MERGED: merged, SERVED: against} if made.served else {MERGED: merged}
    told = _orders({**before, NAIVE: by_naive, NEW: reached}, made.held_out.traffic)
    progress.end(f"{NDCG} on held-out lists: " + (", ".join(map(str, told)) or "nothing was gained on them"))
    progress.begin("gate", None, "")
    verdict = gate.verdict(reached, against)
    progress.end(gated(verdict))
    report = RankerReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measured_on=f"{made.held_out.log.size:,} lists, the last ones, of {len(made.held_out.traffic):,} queries",
        measures={name: value for name, value in measures.items() if np.isfinite(value)},
        against=made.served.name if made.served else "the merged order",
        verdict=verdict,
        orders=told,
    )
    return report, verdict


def spec_of(made: Material, chosen: Taught, history: TaughtHistory, parent: str) -> RankerSpec:
    """All that running the chosen network takes besides its weights."""
    encoding, options = encoding_of(made.snapshot), made.options
    shown = np.flatnonzero(made.clicks.is_shown)
    everything = Validation(made.data.data, np.arange(len(made.clicks.lists)))
    found = chosen.mixing.scores(chosen.network, everything).astype(np.float64)
    return RankerSpec(
        encoder=encoding.encoder,
        state_dimension=made.data.data.states.dimension,
        vector_dimension=encoding.vector_dimension,
        features=FEATURES,
        layers=chosen.network.shape.layers,
        precision="fp32",
        mix=chosen.mixing.mix,
        event_weights=chosen.mixing.event_weights,
        calibration=fit_calibration(found[shown], made.clicks.gains[shown, 0].astype(np.float64)),
        neutral=tuple(chosen.network.centre.tolist()),
        trained_on={
            "catalog": made.snapshot.manifest.version,
            "lists": made.evidence.log.size,
            "queries": len(made.clicks.usable),
            "way": chosen.way,
            "histories": history.told,
            "seed": options.training.seed,
        },
        parent=parent,
    )


def _orders(orders: Mapping[str, QueryMeasures], traffic: NDArray[np.float64]) -> tuple[Reached, ...]:
    """What each order reaches, those that any query measures."""
    nothing = np.zeros(len(traffic))
    known = {name: found.ndcg for name, found in orders.items() if np.isfinite(found.ndcg).any()}
    means = {name: paired_bootstrap(found, nothing, traffic) for name, found in known.items()}
    return tuple(Reached(name, each.mean, each.low, each.high, each.queries) for name, each in means.items())


def _beside_naive(reached: QueryMeasures, naive: QueryMeasures, traffic: NDArray[np.float64]) -> dict[str, float]:
    """What training on clicks as they are would have reached, and the interval of what is gained over it."""
    if np.isnan(reached.ndcg).all():
        return {}
    gain = paired_bootstrap(reached.ndcg, naive.ndcg, traffic)
    return {
        f"{NDCG} of naive training": _mean(naive.ndcg, traffic),
        "above naive": gain.mean,
        "above naive, at least": gain.low,
        "above naive, at most": gain.high,
    }


def _by_histories(history: TaughtHistory) -> dict[str, float]:
    """What reading a shopper's history gains where there is one, on lists before those that are held out."""
    if history.gain is None:
        return {}
    named = {"": history.gain.mean, ", at least": history.gain.low, ", at most": history.gain.high}
    return {f"{MRR} gained by histories{name}": value for name, value in named.items()}


def _named(measures: QueryMeasures) -> tuple[tuple[str, NDArray[np.float64]], ...]:
    return (NDCG, measures.ndcg), (MRR, measures.reciprocal_rank), (LIKELIHOOD, measures.click_likelihood)


def _mean(values: NDArray[np.float64], traffic: NDArray[np.float64]) -> float:
    counts = np.isfinite(values) & (traffic > 0)
    return float(np.average(values[counts], weights=traffic[counts])) if counts.any() else float("nan")
