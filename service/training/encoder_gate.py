"""The gate for trained towers: what a catalog encoded by them answers to queries that neither trained nor chose.

They serve where the merged order, words and vectors, is better with them for sure, and no worse than what serves now
with its ranker: that one reads the vectors of its own encoder, and stands aside until another is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from rerank.clicks.arrays import Floats
from rerank.gate.bootstrap import Difference, paired_bootstrap
from rerank.gate.measures import ranked_ndcg
from rerank.towers.material import JudgedQuery, Sources, normalised, validates
from retrieval.encoder import Encoder
from retrieval.errors import TrainingError
from service.served_ranker import ServedRanker
from service.settings import Settings
from service.snapshot import Snapshot, serving_snapshot
from service.training.from_catalog import Progress
from service.training.held_out_ranking import best_products

JUDGING_SHARE = 0.2
"""Of the queries."""
LEAST_JUDGED = 50
_SEED = -1
"""Divides by other digits than the seeds, from 0 on, of what chooses."""
DENSE, MERGED, SERVED = "vectors alone", "merged", "as it serves, with its ranker"


class Order(msgspec.Struct, frozen=True):
    """What one order of the catalog reaches on the queries that judge."""

    name: str
    before: float
    """nDCG@10 by the encoder that serves."""
    after: float | None
    """By the trained one; None where it has no such order yet."""


class EncoderReport(msgspec.Struct, frozen=True):
    """What the gate found."""

    queries: int
    orders: Sequence[Order]
    difference: Difference
    """nDCG@10 of the merged order with the trained towers, less that without."""
    against_served: Difference | None
    """Less that of what serves with its ranker; None where none serves."""
    aside: Sequence[str]
    """Why the towers do not serve; nothing where they may."""


def judging(judged: Sequence[JudgedQuery]) -> list[JudgedQuery]:
    """The queries that judge: a fifth, by the SHA-1 of their normalised text."""
    return [each for each in judged if _judges(each.query)]


def without_judges(sources: Sources, judges: Sequence[JudgedQuery]) -> Sources:
    """What is left to train on and to choose by where these queries judge.

    A query that would judge had it any clicks, as its text says, learns nothing by a paraphrase either: it may judge
    the towers that come next, which begin with these.
    """
    names = {each.query for each in judges}
    training = [each for each in sources.training if each.query not in names]
    paraphrases = sources.paraphrases
    if paraphrases is not None:
        paraphrases = [each for each in paraphrases if not _judges(each.query)]
    return replace(sources, training=training, held_out=(*sources.held_out, *names), paraphrases=paraphrases)


def check_judges(snapshot: Snapshot, judges: Sequence[JudgedQuery]) -> None:
    """Raises TrainingError where too few of these queries could judge: before hours of training and encoding."""
    if (known := len(judged_gains(snapshot, judges))) < LEAST_JUDGED:
        raise TrainingError(
            f"{_too_few(known)} to tell whether what is trained is better, so nothing was trained; judge more queries, "
            "or write a folder alone: shelfwise train towers --aside"
        )


def _too_few(known: int) -> str:
    return f"{known:,} queries can judge; {LEAST_JUDGED} are needed"


def _judges(query: str) -> bool:
    return validates(query, JUDGING_SHARE, _SEED)


def judge_encoder(
    root: Path,
    settings: Settings,
    judged: Sequence[JudgedQuery],
    encoder: Encoder,
    vectors: Path,
    progress: Progress,
) -> EncoderReport:
    """Compares the version that serves with the same one encoded by `encoder`, whose vectors are in a folder.

    `judged` are queries that the towers have not seen. Raises what `serving_snapshot` does.
    """
    with serving_snapshot(root, settings) as before:
        return _Gate(root, before, judged, progress).report(before.encoded_by(encoder, vectors))


class _Gate:
    def __init__(self, root: Path, before: Snapshot, judged: Sequence[JudgedQuery], progress: Progress) -> None:
        self._root, self._before, self._progress = root, before, progress
        self._gains = judged_gains(before, judged)

    def report(self, after: Snapshot) -> EncoderReport:
        self._progress.begin("judge", None, "")
        if len(self._gains) < LEAST_JUDGED:
            nothing = Difference(0.0, 0.0, 0.0, 0.0, len(self._gains))
            return self._told(EncoderReport(len(self._gains), (), nothing, None, (_too_few(len(self._gains)),)))
        found = {
            DENSE: (self._ndcg(self._before, "dense"), self._ndcg(after, "dense")),
            MERGED: (self._ndcg(self._before, "merged"), self._ndcg(after, "merged")),
        }
        orders = [Order(name, float(old.mean()), float(new.mean())) for name, (old, new) in found.items()]
        old, new = found[MERGED]
        difference = paired_bootstrap(new, old, seed=7)
        served = self._served()
        against = None if served is None else paired_bootstrap(new, served, seed=7)
        if served is not None:
            orders.append(Order(SERVED, float(served.mean()), None))
        aside = reasons_against(difference, against)
        return self._told(EncoderReport(len(self._gains), orders, difference, against, aside))

    def _told(self, report: EncoderReport) -> EncoderReport:
        self._progress.end("; ".join(report.aside) or f"they may serve: {_interval(report.difference)}")
        return report

    def _served(self) -> Floats | None:
        """By query, what searches get now; None where no ranker serves."""
        ranker = ServedRanker(self._root)
        try:
            ranker.look(self._before)
            stage = ranker.stage(self._before)
            return (
                None
                if stage is None
                else self._measured(best_products(self._before, list(self._gains), "ranked", 10, last=stage))
            )
        finally:
            ranker.close()

    def _ndcg(self, snapshot: Snapshot, stage: str) -> Floats:
        return self._measured(best_products(snapshot, list(self._gains), stage, 10))

    def _measured(self, run: Mapping[str, Sequence[str]]) -> Floats:
        return np.array(
            [
                ranked_ndcg([gains.get(product, 0.0) for product in run[query]], gains.values())
                for query, gains in self._gains.items()
            ]
        )


def judged_gains(snapshot: Snapshot, judged: Sequence[JudgedQuery]) -> dict[str, dict[str, float]]:
    """Of each query what the products that are there gain; queries that none answers are left out, and what is equal
    after normalising is one, each product with the highest gain that it was given."""
    known: dict[str, tuple[str, dict[str, float]]] = {}
    for each in judged:
        _, gains = known.setdefault(normalised(each.query), (each.query, {}))
        for product, opinion in each.opinions.items():
            if snapshot.products.row_of(product) is not None:
                gains[product] = max(opinion.gain, gains.get(product, 0.0))
    return {query: gains for query, gains in known.values() if max(gains.values(), default=0.0) > 0}


def reasons_against(difference: Difference, against: Difference | None) -> tuple[str, ...]:
    """Why towers may not serve, by what they gain on the merged order and on what serves with its ranker, if any."""
    reasons = []
    if difference.low <= 0:
        reasons.append(f"not surely better: {_interval(difference)}")
    if against is not None and against.mean < 0:
        reasons.append(
            f"what serves now with its ranker is better than they are without one ({_interval(against)}); a ranker can "
            "be trained on them once they serve"
        )
    return tuple(reasons)


def _interval(found: Difference) -> str:
    return f"nDCG@10 {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}) over {found.queries:,} queries"
