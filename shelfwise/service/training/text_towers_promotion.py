"""The promotion of trained towers, by the re-encoded catalog's results for queries outside training and validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Decision,
    MeasureComparison,
    rejection_reasons,
    shortage,
)
from shelfwise.rerank.evaluation.statistics import paired_bootstrap
from shelfwise.rerank.text_towers.dataset import JudgedQuery, TowerSources, is_judging_query, judged_gains
from shelfwise.rerank.text_towers.task import PoolEvaluator
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.registry import EXACT_OF, open_encoder, parse_runtime, runtime_of
from shelfwise.retrieval.encoders.weights import find_model
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.progress import Progress
from shelfwise.service.engine.served_models import ServedRanker
from shelfwise.service.engine.snapshot import Snapshot, serving_snapshot
from shelfwise.service.engine.versions import cluster_of
from shelfwise.service.settings import Settings
from shelfwise.service.training.ranker_dataset import ndcg_of_searches

DENSE = "vectors alone"


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
) -> Decision:
    """Compares the serving version with the same version encoded by `encoder`, whose vectors are in a folder.

    `judged` are queries that the towers have not seen. Raises the errors of `serving_snapshot`.
    """
    progress.begin("judge", None, "")
    with serving_snapshot(root, settings) as before:
        decision = _decide(root, before, before.encoded_by(encoder, vectors), judged)
    progress.end(str(decision))
    return decision


def _decide(root: Path, before: Snapshot, after: Snapshot, judged: Sequence[JudgedQuery]) -> Decision:
    gains = judged_gains(judged, before.products.row_of)
    if len(gains) < MIN_JUDGED:
        return Decision(publish=False, reasons=(shortage(len(gains), "queries"),), comparisons=())
    (new_dense, old_dense), (new, old) = (
        (ndcg_of_searches(after, gains, stage), ndcg_of_searches(before, gains, stage)) for stage in ("dense", "merged")
    )
    orders: list[tuple[str, Floats | None, Floats]] = [(DENSE, new_dense, old_dense), (MERGED_GAIN, new, old)]
    differences = {MERGED_GAIN: paired_bootstrap(new, old, seed=7)}
    if (served := _ranked(root, before, gains)) is not None:
        ranked = _ranked(root, after, gains)
        orders.append((SERVED_GAIN, ranked, served))
        differences[SERVED_GAIN] = paired_bootstrap(new if ranked is None else ranked, served, seed=7)
    comparisons = []
    for name, reached, reference in orders:
        mean = None if reached is None else float(reached.mean())
        difference = differences.get(name)
        named = f"{NDCG}, {name}"
        comparisons.append(MeasureComparison(named, ALL_QUERIES, len(gains), mean, float(reference.mean()), difference))
    reasons = rejection_reasons(TEXT_TOWERS_GATE, differences)
    return Decision(not reasons, reasons or (f"better: {comparisons[1]}",), tuple(comparisons))


def _ranked(root: Path, snapshot: Snapshot, gains: Mapping[str, Mapping[str, float]]) -> Floats | None:
    """nDCG@10 of the order of the serving ranker with a snapshot, by query; None if there is none."""
    with closing(ServedRanker(root)) as ranker:
        ranker.reload_if_changed(snapshot)
        stage = ranker.stage(snapshot)
        return None if stage is None else ndcg_of_searches(snapshot, gains, "ranked", stage)


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
    report: Decision | None
    """Decision of the gate; None if the serving version is already theirs."""


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
        progress.begin("int8", None, "")
        runtimes = (EXACT_OF[chosen], chosen)
        exact, int8 = (pool.ndcg(open_encoder(str(towers), each, cache, dimension=dimension)) for each in runtimes)
        rounded = PrecisionComparison(exact, int8)
        kept = "int8 serves" if rounded.is_close else "int8 loses too much, so fp32 is kept"
        progress.end(f"nDCG@10 {rounded.int8:.4f} in int8, {rounded.fp32:.4f} in fp32: {kept}")
        chosen = chosen if rounded.is_close else runtimes[0]
    encoder = open_encoder(str(towers), chosen, cache, dimension=dimension)
    reports: list[Decision] = []

    def judge(vectors: Path) -> bool:
        reports.append(judge_encoder(root, settings, judges, encoder, vectors, progress))
        return reports[0].publish

    done = reencode(root, encoder, str(towers), progress, cluster=cluster_of(root, settings), accepts=judge)
    is_theirs = done.published or not reports
    return PublishedEncoder(done.version, is_theirs, chosen, rounded, reports[0] if reports else None)
