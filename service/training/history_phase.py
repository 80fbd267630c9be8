"""The second phase of learning from clicks: attention over shoppers' histories, kept where it surely helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from rerank.gate.bootstrap import Difference
from rerank.gate.verdict import MRR
from rerank.ranker.network import EVENTS, HistoryAttention
from rerank.training.batches import ListData, merged_scores, whole
from rerank.training.evaluation import outputs_of
from rerank.training.history_batches import HistoryData
from rerank.training.history_judges import LEAST_SHOPPERS, Judges, halves
from rerank.training.history_training import LEAST_DISPLAYS, HistoryTraining, train_history
from rerank.training.propensity import propensities
from rerank.training.shopper_displays import ShopperDisplays
from rerank.training.starting import new_attention
from rerank.training.tensorboard import charted
from service.served_ranker import encoding_of
from service.training.click_material import Material, Taught, TaughtHistory
from service.training.from_catalog import Progress
from service.training.shopper_histories import Shoppers, Shown, displays_of

HISTORIES = "histories"


def taught_history(
    made: Material,
    chosen: Taught,
    acts: pl.DataFrame | None,
    start: HistoryAttention | None,
    run: Path,
    progress: Progress,
) -> TaughtHistory:
    """Trains attention over histories beside the chosen network, which stays as it is.

    `acts` are those of `rerank.behaviour.derived.Derived.acts`, None where nobody is known; `start` is the attention of
    the ranker that serves, None where that has none. `run` keeps an interrupted training.
    """
    progress.begin("shoppers", None, "")
    training = _training(made, chosen, acts)
    if isinstance(training, str):
        progress.end(training)
        return TaughtHistory(training)
    found = f"{len(training.data.displays):,} displays with a history"
    progress.end(f"{found} to learn from, {training.judges.shoppers:,} later shoppers choose and judge")
    progress.begin(HISTORIES, training.steps * training.options.loop.epochs, "steps")
    start = start or new_attention(encoding_of(made.snapshot).vector_dimension, training.seed)
    folder = run / f"{HISTORIES}-{_digest(training)}"
    with charted(run.parent, run.name, HISTORIES) as judged:
        attention, curve = train_history(
            start, training, folder, lambda done, _loss: progress.advance(done), judged=judged
        )
    gain = training.judges.gain(attention)
    is_better = gain.low > 0
    told = f"{found}; {MRR} {_interval(gain)}: {'kept' if is_better else 'no sure gain, left out'}"
    progress.end(told)
    return TaughtHistory(told, attention if is_better else None, gain, curve)


def _training(made: Material, chosen: Taught, acts: pl.DataFrame | None) -> HistoryTraining | str:
    """What is learned from and judged by, or why there is nothing of it."""
    if acts is None or "shopper" not in made.periods.training.columns:
        return "no shopper is known: left out"
    row_of, options = made.snapshot.products.row_of, made.options
    shoppers = Shoppers.of(acts, row_of)
    shown = Shown.learned(made.periods.training, made.evidence)
    learned = displays_of(shown, shoppers, made.clicks.lists, row_of).telling(options.histories.most)
    after = Shown.of(made.periods.validation, made.evidence.log.depth)
    judged = displays_of(after, shoppers, made.validating.data.lists, row_of).telling(outputs=1)
    if len(learned) < LEAST_DISPLAYS:
        return f"{len(learned):,} displays with a history, {LEAST_DISPLAYS} are needed: left out"
    known = len(np.unique(judged.shopper))
    if known < 2 * LEAST_SHOPPERS:
        few = f"{known:,} shoppers to choose and judge by, {2 * LEAST_SHOPPERS} are needed"
        return f"{len(learned):,} displays with a history, {few}: left out"

    chances = propensities(made.evidence.examination, options.training.least_propensity)
    later = _data(made, judged, made.validating.data, shoppers, chosen)
    choosing, judging = (replace(later, displays=half) for half in halves(judged))
    return HistoryTraining(
        _data(made, learned, made.data.data, shoppers, chosen),
        Judges(choosing, judging, chances, chosen.mixing.event_weights),
        options.training.tasks,
        options.histories,
        options.training.seed,
    )


def _data(
    made: Material, displays: ShopperDisplays, lists: ListData, shoppers: Shoppers, chosen: Taught
) -> HistoryData:
    base = _base(lists, displays, chosen)
    return HistoryData(displays, shoppers.past, lists.lists.rows, base, made.snapshot.vectors.gather)


def _base(data: ListData, displays: ShopperDisplays, chosen: Taught) -> NDArray[np.float32]:
    """(m, 3): what the chosen network scores the candidates that stood on displays, the merged score mixed in as in
    serving; anything for the others, whose scores nobody reads."""
    shown = np.unique(displays.places[displays.places >= 0])
    lists = data.lists.taken(shown)
    asked = replace(data, lists=lists, targets=data.targets[shown])
    base = np.zeros((len(data.lists.rows), len(EVENTS)), np.float32)
    base[shown] = outputs_of(chosen.network, whole(asked, np.flatnonzero(lists.lengths)))
    # The weights of the three add up to 1, so a score made of them has the merged one once.
    return np.asarray(base + chosen.mixing.mix * merged_scores(data.lists)[:, None])


def _digest(training: HistoryTraining) -> str:
    """Another one where it would learn from anything else."""
    found = xxhash.xxh3_64(repr(training.judges.event_weights).encode())
    for each in (training.data, training.judges.choosing):
        told = each.displays
        for array in (told.times, told.places, told.acts, told.first, told.behind, each.base, each.past.rows):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _interval(gain: Difference) -> str:
    return f"{gain.mean:+z.4f} ({gain.low:+z.4f} to {gain.high:+z.4f}, {gain.queries:,} shoppers)"
