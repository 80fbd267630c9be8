"""The promotion of trained towers, by the re-encoded catalog's results for queries outside training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec

from shelfwise.indexer.targets import reencode
from shelfwise.rerank.click_models.click_log import Floats
from shelfwise.rerank.evaluation.promotion import (
    ALL_QUERIES,
    MERGED_GAIN,
    MIN_JUDGED,
    NDCG,
    SERVED_GAIN,
    TEXT_TOWERS_GATE,
    MeasureComparison,
    rejection_reasons,
    shortage,
)
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.rerank.text_towers.dataset import JudgedQuery, TowerSources, is_judging_query, judged_gains
from shelfwise.rerank.text_towers.task import PoolEvaluator
from shelfwise.retrieval.encoders.base import Encoder, Runtime
from shelfwise.retrieval.encoders.registry import EXACT_OF, open_encoder, parse_runtime, runtime_of
from shelfwise.retrieval.encoders.weights import find_model
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.progress import Progress
from shelfwise.service.engine.ranking import LastStage
from shelfwise.service.engine.served_models import ServedRanker
from shelfwise.service.engine.snapshot import Snapshot, serving_snapshot
from shelfwise.service.engine.versions import cluster_of
from shelfwise.service.settings import Settings
from shelfwise.service.training.ranker_dataset import ndcg_of_searches

DENSE, MERGED, SERVED = "vectors alone", "merged", "as it serves, with its ranker"


class Order(msgspec.Struct, frozen=True):
    """The quality of one order on the test queries."""

    name: str
    before: float
    """nDCG@10 with the serving encoder."""
    after: float | None
    """nDCG@10 with the trained encoder; None if no ranker can serve with it yet."""


class EncoderReport(msgspec.Struct, frozen=True):
    """The result of the promotion gate."""

    queries: int
    orders: Sequence[Order]
    difference: Difference
    """nDCG@10 of the merged order with the trained towers, minus that without."""
    against_served: Difference | None
    """nDCG@10 of the order that would serve with them, by the ranker that fits them or merged, minus that of the
    serving order with its ranker; None if none serves."""
    rejection_reasons: Sequence[str]
    """Reasons why the towers do not serve; empty if they may."""

    @property
    def comparisons(self) -> list[MeasureComparison]:
        """Each order before and after, with the intervals of those that decide."""
        known = {MERGED: self.difference, SERVED: self.against_served}
        return [
            MeasureComparison(
                f"{NDCG}, {each.name}", ALL_QUERIES, self.queries, each.after, each.before, known.get(each.name)
            )
            for each in self.orders
        ]


def judging(judged: Sequence[JudgedQuery]) -> list[JudgedQuery]:
    """The test queries: a fifth, by the SHA-1 of their normalised text."""
    return [each for each in judged if is_judging_query(each.query)]


def without_judges(sources: TowerSources, judges: Sequence[JudgedQuery]) -> TowerSources:
    """The sources without the test queries."""
    names = {each.query for each in judges}
    training = [each for each in sources.training if each.query not in names]
    return replace(sources, training=training, held_out=(*sources.held_out, *names))


def check_judges(snapshot: Snapshot, judges: Sequence[JudgedQuery]) -> None:
    """Raises TrainingError if there are too few test queries, before hours of training and encoding."""
    if (known := len(judged_gains(judges, snapshot.products.row_of))) < MIN_JUDGED:
        raise TrainingError(
            f"{shortage(known, 'queries')} to decide whether trained towers are better, so nothing was trained; judge "
            "more queries, or only write a folder: shelfwise train towers --no-publish"
        )


def judge_encoder(
    root: Path, settings: Settings, judged: Sequence[JudgedQuery], encoder: Encoder, vectors: Path, progress: Progress
) -> EncoderReport:
    """Compares the serving version with the same version encoded by `encoder`, whose vectors are in a folder.

    `judged` are queries that the towers have not seen. Raises the errors of `serving_snapshot`.
    """
    with serving_snapshot(root, settings) as before:
        return _Gate(root, before, judged, progress).report(before.encoded_by(encoder, vectors))


class _Gate:
    def __init__(self, root: Path, before: Snapshot, judged: Sequence[JudgedQuery], progress: Progress) -> None:
        self._root, self._before, self._progress = root, before, progress
        self._gains = judged_gains(judged, before.products.row_of)

    def report(self, after: Snapshot) -> EncoderReport:
        self._progress.begin("judge", None, "")
        report = self._report(after)
        self._progress.end("; ".join(report.rejection_reasons) or f"they may serve: {NDCG} {report.difference}")
        return report

    def _report(self, after: Snapshot) -> EncoderReport:
        queries = len(self._gains)
        if queries < MIN_JUDGED:
            nothing = Difference(0.0, 0.0, 0.0, 0.0, queries)
            return EncoderReport(queries, (), nothing, None, (shortage(queries, "queries"),))
        found = {
            name: (self._ndcg(self._before, stage), self._ndcg(after, stage))
            for name, stage in ((DENSE, "dense"), (MERGED, "merged"))
        }
        orders = [Order(name, float(old.mean()), float(new.mean())) for name, (old, new) in found.items()]
        old, new = found[MERGED]
        difference = paired_bootstrap(new, old, seed=7)
        differences = {MERGED_GAIN: difference}
        served = self._ranked(self._before)
        if served is not None:
            ranked = self._ranked(after)
            differences[SERVED_GAIN] = paired_bootstrap(new if ranked is None else ranked, served, seed=7)
            orders.append(Order(SERVED, float(served.mean()), None if ranked is None else float(ranked.mean())))
        reasons = rejection_reasons(TEXT_TOWERS_GATE, differences)
        return EncoderReport(queries, orders, difference, differences.get(SERVED_GAIN), reasons)

    def _ranked(self, snapshot: Snapshot) -> Floats | None:
        """The order of the serving ranker with a snapshot, by query; None if there is none."""
        with closing(ServedRanker(self._root)) as ranker:
            ranker.reload_if_changed(snapshot)
            stage = ranker.stage(snapshot)
            return None if stage is None else self._ndcg(snapshot, "ranked", stage)

    def _ndcg(self, snapshot: Snapshot, stage: str, last: LastStage | None = None) -> Floats:
        return ndcg_of_searches(snapshot, self._gains, stage, last)


MAX_LOST = 0.003
"""Maximum loss in nDCG@10 of int8 against fp32."""


class PrecisionComparison(msgspec.Struct, frozen=True):
    """nDCG@10 of the validation queries, over their pool, in both precisions."""

    fp32: float
    int8: float

    @property
    def is_close(self) -> bool:
        """Whether int8 may serve."""
        return self.fp32 - self.int8 < MAX_LOST


class PublishedEncoder(msgspec.Struct, frozen=True):
    """The result of publishing trained towers."""

    version: str
    """The version that serves now."""
    serves: bool
    """Whether it is encoded by the towers."""
    runtime: str
    """The runtime in which they would serve, or serve."""
    rounded: PrecisionComparison | None
    """Quality in int8 and fp32; None if int8 was not requested."""
    report: EncoderReport | None
    """Result of the gate; None if the serving version is already theirs."""


def publish_encoder(
    root: Path,
    settings: Settings,
    towers: Path,
    judges: Sequence[JudgedQuery],
    pool: PoolEvaluator,
    runtime: str,
    cache: Path,
    progress: Progress,
    *,
    dimension: int | None = None,
) -> PublishedEncoder:
    """Encodes the catalog of an index with the towers in a folder, and publishes it if it is significantly better on
    `judges`, queries that they have not seen. `dimension` cuts its vectors to that number of columns.

    The runtime "auto" is fp32 instead of int8 if int8 would cost 0.003 nDCG@10 of `pool` or more. Raises the errors of
    `open_encoder` and `reencode`; after any error, the previous version keeps serving.
    """
    chosen, rounded = runtime_of(find_model(str(towers), cache), parse_runtime(runtime)), None
    if runtime == "auto" and chosen in EXACT_OF:
        exact = EXACT_OF[chosen]
        rounded = _rounded(towers, pool, cache, progress, dimension, (exact, chosen))
        chosen = chosen if rounded.is_close else exact
    encoder = open_encoder(str(towers), chosen, cache, dimension=dimension)
    reports: list[EncoderReport] = []

    def judge(vectors: Path) -> bool:
        reports.append(judge_encoder(root, settings, judges, encoder, vectors, progress))
        return not reports[0].rejection_reasons

    done = reencode(root, encoder, str(towers), progress, cluster=cluster_of(root, settings), accepts=judge)
    is_theirs = done.published or not reports
    return PublishedEncoder(done.version, is_theirs, chosen, rounded, reports[0] if reports else None)


def _rounded(
    towers: Path,
    pool: PoolEvaluator,
    cache: Path,
    progress: Progress,
    dimension: int | None,
    runtimes: tuple[Runtime, Runtime],
) -> PrecisionComparison:
    progress.begin("int8", None, "")
    exact, int8 = (pool.ndcg(open_encoder(str(towers), each, cache, dimension=dimension)) for each in runtimes)
    rounded = PrecisionComparison(exact, int8)
    kept = "int8 serves" if rounded.is_close else "int8 loses too much, so fp32 is kept"
    progress.end(f"nDCG@10 {rounded.int8:.4f} in int8, {rounded.fp32:.4f} in fp32: {kept}")
    return rounded
