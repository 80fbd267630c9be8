"""Trained towers' way into service: in int8 where that costs little, the catalog encoded beside, judged, swapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from indexer.reencoding import reencode
from rerank.towers.material import JudgedQuery
from rerank.towers.validation import Judge
from retrieval.encoders import automatic_runtime, named_runtime, open_encoder
from service.settings import Settings
from service.training.encoder_gate import EncoderReport, judge_encoder
from service.training.from_catalog import Progress
from service.version_list import cluster_of

MOST_LOST = 0.003
"""nDCG@10 that int8 may cost against fp32."""


class Rounded(msgspec.Struct, frozen=True):
    """nDCG@10 of the queries that chose, over their pool, in both precisions."""

    fp32: float
    int8: float

    @property
    def is_close(self) -> bool:
        """Whether int8 may serve."""
        return self.fp32 - self.int8 < MOST_LOST


class PublishedEncoder(msgspec.Struct, frozen=True):
    """What became of trained towers."""

    version: str
    """The one that serves now."""
    serves: bool
    """Whether it is theirs."""
    runtime: str
    """What they would serve, or do serve, in."""
    rounded: Rounded | None
    """None where int8 was not asked of them."""
    report: EncoderReport | None
    """None where the version that serves is theirs already."""


def publish_encoder(
    root: Path,
    settings: Settings,
    towers: Path,
    judges: Sequence[JudgedQuery],
    pool: Judge,
    runtime: str,
    cache: Path,
    progress: Progress,
    *,
    dimension: int | None = None,
) -> PublishedEncoder:
    """Encodes the catalog of an index by the towers in a folder, and lets that serve where `judges`, queries that they
    have not seen, find more for sure. `dimension` cuts its vectors to the first so many columns.

    The runtime "auto" is fp32 in place of int8 where that would cost 0.003 nDCG@10 of `pool` or more. Raises what
    `open_encoder` and `reencode` do; whatever is raised, the version before serves on.
    """
    chosen, rounded = named_runtime(runtime) or automatic_runtime(), None
    if runtime == "auto" and chosen == "onnx-int8":
        rounded = _rounded(towers, pool, cache, progress, dimension)
        chosen = "onnx-int8" if rounded.is_close else "onnx-fp32"
    encoder = open_encoder(str(towers), chosen, cache, dimension=dimension)
    reports: list[EncoderReport] = []

    def judge(vectors: Path) -> bool:
        reports.append(judge_encoder(root, settings, judges, encoder, vectors, progress))
        return not reports[0].aside

    done = reencode(root, encoder, str(towers), progress, cluster=cluster_of(root, settings), judge=judge)
    is_theirs = done.published or not reports
    return PublishedEncoder(done.version, is_theirs, chosen, rounded, reports[0] if reports else None)


def _rounded(towers: Path, pool: Judge, cache: Path, progress: Progress, dimension: int | None) -> Rounded:
    progress.begin("int8", None, "")
    of = {
        runtime: pool.ndcg(open_encoder(str(towers), runtime, cache, dimension=dimension))
        for runtime in ("onnx-fp32", "onnx-int8")
    }
    rounded = Rounded(of["onnx-fp32"], of["onnx-int8"])
    kept = "int8 serves" if rounded.is_close else "int8 loses too much, so fp32 is kept"
    progress.end(f"nDCG@10 {rounded.int8:.4f} in int8, {rounded.fp32:.4f} in fp32: {kept}")
    return rounded
