"""What pruning costs and saves: smaller networks of one ranker, on the candidates of judged queries.

All are exported from the same weights, and each query is scored by all of them before the next one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.judged_lists import judged_lists
from benchmarks.ranker_quality import GradedOrders
from benchmarks.tables import plain_table
from rerank.gate.bootstrap import Difference, paired_bootstrap
from rerank.ranker.export import export_network
from rerank.ranker.network import NetworkShape, RankerNetwork
from rerank.ranker.network_file import load_network
from rerank.ranker.onnx_ranker import OnnxRanker
from rerank.ranker.pruning import Left, filled
from rerank.ranker.registry import Published, RankerRegistry
from rerank.ranker.spec import MODEL_FILE, WEIGHTS_FILE, misfit
from retrieval.errors import UnknownRankerError
from retrieval.judgments import Judgments
from service.popularity import read_popularity
from service.served_ranker import encoding_of
from service.snapshot import Snapshot
from service.terminal import out
from service.training.from_catalog import Progress
from service.training.likeness import sample_data, timed_scores
from service.training.shrinking import MEASURING, Precision, shrunk

WHOLE = "whole"
_KINDS: tuple[tuple[str, Left, Precision], ...] = (
    ("whole, int8", Left(), "int8"),
    ("2 heads", Left(heads=2), "fp32"),
    ("1 head", Left(heads=1), "fp32"),
    ("128 units", Left(feed_forward=128), "fp32"),
    ("64 units", Left(feed_forward=64), "fp32"),
    ("no units", Left(feed_forward=0), "fp32"),
    ("1 head, 64 units", Left(heads=1, feed_forward=64), "fp32"),
    ("1 head, 64 units, int8", Left(heads=1, feed_forward=64), "int8"),
    ("no layer", Left(layers=0), "fp32"),
)


@dataclass(frozen=True, slots=True)
class PrunedRanker:
    """What one network reaches and takes."""

    name: str
    ndcg: float
    """nDCG@10 over the judged queries."""
    against_whole: Difference
    """Its difference from the whole network's, paired by query."""
    milliseconds: float
    """Of 100 candidates on one thread, the median."""
    megabytes: float
    """Of its graph."""


@dataclass(frozen=True, slots=True)
class PruningReport:
    """All networks of one ranker, the whole one first."""

    ranker: str
    queries: int
    rows: tuple[PrunedRanker, ...]


def with_layer(root: Path, snapshot: Snapshot, name: str = "") -> Published:
    """The ranker of this name; else the one that serves, where it has a cross-attention layer, or the newest that has
    one and fits the index, also of those kept aside. Raises UnknownRankerError where there is none."""
    registry, encoding = RankerRegistry(root), encoding_of(snapshot)
    serving = registry.serving(encoding).ranker
    names = [name] if name else [*([serving.name] if serving else []), *reversed(registry.names())]
    for each in names:
        found = registry.open(each, encoding)
        if found.spec.layers and not misfit(found.spec, encoding):
            return found
    which = f"{name} has none, or is for another index" if name else "none of its rankers has one"
    raise UnknownRankerError(
        f"{root} has no cross-attention layer to prune: {which}; train one: shelfwise train ranker --index {root}"
    )


def measure_pruning(
    root: Path, snapshot: Snapshot, judgments: Judgments, ranker: Published, progress: Progress
) -> PruningReport:
    """Prunes by what matters on synthetic queries, and measures on the judged ones."""
    network, popularity = load_network(ranker.folder / WEIGHTS_FILE), read_popularity(root)
    sample = sample_data(snapshot, MEASURING, popularity, 0, progress)
    measuring = np.flatnonzero(sample.lists.lengths > 1)
    with tempfile.TemporaryDirectory() as scratch:
        kinds = list(_sensible(network.shape))
        progress.begin("export", len(kinds), "networks")
        made: dict[str, Published] = {}
        for place, (name, left, precision) in enumerate(kinds):
            folder = Path(scratch) / str(place)
            folder.mkdir()
            smaller = shrunk(network, sample, measuring, ranker.spec.event_weights, left)
            made[name] = _exported(ranker, smaller, precision, folder)
            progress.advance(1)
        progress.end(f"{len(kinds)} networks of {ranker.name}")
        progress.begin("candidates", len(judgments.grades), "queries")
        judged = judged_lists(snapshot, judgments, progress.advance, popularity)
        progress.end(f"{len(judged.lists.rows):,} of {len(judged.lists):,} judged queries")
        progress.begin("scores", None, "")
        rankers = {name: OnnxRanker(each) for name, each in made.items()}
        timed = timed_scores(rankers, judged.data, range(len(judged.lists)))
        progress.end(f"{len(rankers)} orders of the same candidates")
        graded = GradedOrders(snapshot, judgments, judged.lists)
        found = {name: graded.ndcg(each.scores) for name, each in timed.items()}
        rows = [
            PrunedRanker(
                name,
                float(each.mean()),
                paired_bootstrap(each, found[WHOLE]),
                timed[name].milliseconds,
                (made[name].folder / MODEL_FILE).stat().st_size / 1e6,
            )
            for name, each in found.items()
        ]
    return PruningReport(ranker.name, len(judged.lists), tuple(rows))


def _sensible(shape: NetworkShape) -> Iterator[tuple[str, Left, Precision]]:
    """The whole network, and those that are smaller than it."""
    yield WHOLE, Left(), "fp32"
    for name, left, precision in _KINDS:
        fits = (left.heads or 0) < len(shape.heads) and (left.feed_forward or 0) < max(shape.feed_forward, 1)
        if fits and (precision == "int8" or filled(left, shape) != filled(Left(), shape)):
            yield name, left, precision


def _exported(ranker: Published, network: RankerNetwork, precision: Precision, folder: Path) -> Published:
    export_network(network, folder / MODEL_FILE, precision)
    return replace(ranker, folder=folder)


def show_pruning(report: PruningReport) -> None:
    """Networks by what they reach and take."""
    columns = ["network", "nDCG@10", "against the whole", "p50 ms", "graph MB"]
    table = plain_table(columns, f"{report.ranker}, {report.queries:,} judged queries")
    for row in report.rows:
        found = row.against_whole
        interval = "" if row.name == WHOLE else f"{found.mean:+z.4f} ({found.low:+z.4f} to {found.high:+z.4f})"
        table.add_row(row.name, f"{row.ndcg:.4f}", interval, f"{row.milliseconds:.2f}", f"{row.megabytes:.2f}")
    out.print(table)
