"""What rankers reach that were trained here and now: distilled from a teacher, then tuned on grades, with several
seeds, measured on judged queries that nothing was trained on or chosen by.

They are distilled on the judged queries of the training part, whose grades are hidden then, or on queries made from the
catalog. All systems order the same candidates.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.fine_tuned import FineTunedTeacher
from benchmarks.narrow_states import NarrowStates
from benchmarks.ranker_quality import MERGED, GradedOrders, part_of
from benchmarks.ranker_shapes import LAYERS, seed_spread, shape_without_history
from benchmarks.tables import difference_cells, plain_table
from rerank.gate.bootstrap import Difference, paired_bootstrap
from rerank.ranker.network import RankerNetwork
from rerank.teacher.teacher import Teacher
from rerank.training.batches import ListData, merged_scores, whole
from rerank.training.distillation import DistilOptions, Split, Taught, agreement, distil, split, targets
from rerank.training.evaluation import scores_of
from rerank.training.grades import GradesOptions, graded_ndcg, tune_on_grades
from rerank.training.lists import CandidateLists, joined
from rerank.training.mixing import MIXES
from rerank.training.teacher_scores import TeacherScores
from retrieval.judgments import Judgments
from service.snapshot import Snapshot
from service.terminal import out
from service.training.candidate_lists import candidate_lists
from service.training.from_catalog import CatalogOptions, Progress, list_data, pairs_of, taught_lists

TEACHER, MIXTURE = "teacher", "teacher mixed with merged"
TEACHER_MIXES = (0.5, 1.0, 1.5, 2.0, 3.0)
Floats = NDArray[np.float32]
Quality = Callable[[ListData, NDArray[np.int64], Floats], NDArray[np.float64]]
"""Of lists (n,) by the scores of their candidates."""


@dataclass(frozen=True, slots=True)
class LearningOptions:
    """What to train on, and how."""

    depth: int = 50
    """Of the merged order: what is put into order."""
    candidates: int = 28
    """Of each training query."""
    seeds: int = 3
    dimension: int | None = None
    """Columns of token states; None for all that the index has."""
    catalog: CatalogOptions | None = None
    """To distil on queries made from the catalog; there is no tuning then."""
    fine_tuned: FineTunedTeacher | None = None
    """To fine-tune the teacher on the grades of the training part first."""
    distilling: DistilOptions = field(default_factory=DistilOptions)
    tuning: GradesOptions = field(default_factory=GradesOptions)
    kept: Path = Path("teacher-scores")
    """Where the teacher's scores are kept."""


@dataclass(frozen=True, slots=True)
class LearnedFigures:
    """What one system reaches, the mean over test queries and seeds."""

    ndcg: float
    """nDCG@10; what nobody judged counts 0."""
    spread: float
    """Standard deviation over the seeds; 0 for what has none."""
    judged_only: float
    """nDCG@10 of what was judged alone."""
    against_merged: Difference
    share: float
    """Of the gain over the merged order that the teacher reaches mixed with it; NaN where it has none."""


@dataclass(frozen=True, slots=True)
class LearningReport:
    """All systems over the same candidates of the same queries."""

    trained_on: str
    test_queries: int
    depth: int
    dimension: int
    """Columns of token states."""
    systems: Mapping[str, LearnedFigures]


@dataclass(frozen=True, slots=True, eq=False)
class _Material:
    """Lists to train on and to choose by, with the teacher's word, and the test's."""

    data: ListData
    """Its targets are the teacher's mixed with the first stage's."""
    parts: Split
    graded: ListData | None
    """The same with the grades' gains for targets; None where the queries are made."""
    test: ListData
    test_taught: Floats


def measure_learning(
    snapshot: Snapshot, judgments: Judgments, teacher: Teacher, options: LearningOptions, progress: Progress
) -> LearningReport:
    """Trains every shape with every seed, and measures it beside what it learned from."""
    if options.dimension is not None and snapshot.states is not None:
        snapshot = replace(snapshot, states=NarrowStates(snapshot.states, options.dimension))
    material, graded = _material(snapshot, judgments, teacher, options, progress)
    reached: dict[str, list[NDArray[np.float64]]] = {}
    alone: dict[str, list[NDArray[np.float64]]] = {}
    progress.begin("training", len(LAYERS) * options.seeds * (1 if material.graded is None else 2), "networks")
    for name, scores in _systems(material, options, progress):
        reached.setdefault(name, []).append(graded.ndcg(scores))
        alone.setdefault(name, []).append(graded.ndcg(scores, judged_only=True))
    progress.end(f"{options.seeds} seeds")
    merged = reached[MERGED][0]
    gain = float(reached[MIXTURE][0].mean() - merged.mean())
    figures = {name: _figures(values, alone[name], merged, gain) for name, values in reached.items()}
    on = "synthetic" if options.catalog else "judged"
    told = f"{len(material.parts.training):,} {on} queries"
    if options.fine_tuned is not None:
        told += f", by a teacher fine-tuned on their grades ({options.fine_tuned.epochs} epochs)"
    return LearningReport(told, len(material.test.lists), options.depth, material.data.states.dimension, figures)


def _figures(
    values: list[NDArray[np.float64]], alone: list[NDArray[np.float64]], merged: NDArray[np.float64], gain: float
) -> LearnedFigures:
    mean = np.mean(values, axis=0)
    share = float(mean.mean() - merged.mean()) / gain if gain > 0 else float("nan")
    return LearnedFigures(
        float(mean.mean()),
        seed_spread(values),
        float(np.mean(alone)),
        paired_bootstrap(mean, merged),
        share,
    )


def _material(
    snapshot: Snapshot, judgments: Judgments, teacher: Teacher, options: LearningOptions, progress: Progress
) -> tuple[_Material, GradedOrders]:

    def found(part: str) -> CandidateLists:
        queries = part_of(list(judgments.grades), part)
        progress.begin(f"{part} queries", len(queries), "queries")
        lists = candidate_lists(snapshot, queries, snapshot.built, depth=options.depth, progress=progress.advance)
        progress.end(f"{len(lists.rows):,} candidates")
        return lists

    def taught(lists: CandidateLists, teacher: Teacher) -> Floats:
        progress.begin("teacher", len(lists.rows), "pairs")
        scores = TeacherScores(teacher, options.kept).score(*pairs_of(snapshot, lists), progress.advance)
        progress.end(f"{len(scores):,} pairs")
        return scores

    if options.catalog is not None:
        test = found("all")
        made = taught_lists(snapshot, options.catalog, options.kept, snapshot.built, progress)
        data = list_data(snapshot, made.lists, targets(made.lists, made.teacher_scores))
        parts, graded_data = split(made.lists, seed=options.catalog.seed), None
    else:
        training = found("train").thinned(options.candidates, 0)
        validation, test = found("validation"), found("test")
        if options.fine_tuned is not None:
            gains = GradedOrders(snapshot, judgments, training).gains()
            teacher = options.fine_tuned.open(snapshot, training, gains, progress)
        both = joined([training, validation])
        data = list_data(snapshot, both, targets(both, taught(both, teacher)))
        graded_data = replace(data, targets=GradedOrders(snapshot, judgments, both).gains())
        numbers = np.flatnonzero(both.lengths > 1)
        chosen = numbers[numbers >= len(training)]
        parts = Split(numbers[numbers < len(training)], chosen, chosen)
    graded = GradedOrders(snapshot, judgments, test)
    test_data = list_data(snapshot, test, graded.gains())
    return _Material(data, parts, graded_data, test_data, taught(test, teacher)), graded


def _systems(material: _Material, options: LearningOptions, progress: Progress) -> Iterator[tuple[str, Floats]]:
    """The test candidates' scores by each system, once for each seed that it has."""
    lists = material.test.lists
    yield MERGED, merged_scores(lists)
    yield TEACHER, material.test_taught
    yield MIXTURE, targets(lists, material.test_taught)
    for mix in TEACHER_MIXES:
        yield f"{TEACHER} + {mix:g} merged", targets(lists, material.test_taught, mix)
    for seed in range(options.seeds):
        for name, layers in LAYERS.items():
            distilled = _distilled(material, layers, replace(options.distilling, seed=seed))
            progress.advance(1)
            yield f"{name}, distilled", _mixed(material, distilled, material.data, agreement)
            if material.graded is not None:
                tuned = _tuned(material, material.graded, distilled, replace(options.tuning, seed=seed))
                progress.advance(1)
                yield f"{name}, tuned on grades", _mixed(material, tuned, material.graded, graded_ndcg)


def _distilled(material: _Material, layers: int, options: DistilOptions) -> RankerNetwork:
    shape = shape_without_history(material.data.states.dimension, layers)
    with tempfile.TemporaryDirectory() as folder:
        return distil([Taught(material.data, material.parts)], shape, options, Path(folder))[0].eval()


def _tuned(material: _Material, graded: ListData, start: RankerNetwork, options: GradesOptions) -> RankerNetwork:
    """A network that goes on from a distilled one."""
    teacher, parts = material.data.targets, material.parts
    with tempfile.TemporaryDirectory() as folder:
        return tune_on_grades(start, graded, teacher, parts.training, parts.validation, options, Path(folder))[0]


def _mixed(material: _Material, network: RankerNetwork, data: ListData, quality: Quality) -> Floats:
    """The test candidates' scores, mixed with the merged ones by the weight that is best on the validation lists."""
    numbers = material.parts.validation
    merged = merged_scores(data.lists)[data.lists.places(numbers)]
    found = scores_of(network, whole(data, numbers))
    best = max(MIXES, key=lambda mix: float(quality(data, numbers, found + mix * merged).mean()))
    everything = np.arange(len(material.test.lists))
    return scores_of(network, whole(material.test, everything)) + best * merged_scores(material.test.lists)


def show_learning(report: LearningReport) -> None:
    """nDCG@10 by system."""
    title = (
        f"nDCG@10 over {report.test_queries:,} test queries, top {report.depth}; trained on {report.trained_on}, "
        f"states of {report.dimension} columns"
    )
    columns = ["", "nDCG@10", "± seeds", "judged only", "against merged", "from", "to", "of the mixture's gain"]
    table = plain_table(columns, title)
    for name, each in report.systems.items():
        ends = difference_cells(each.against_merged)
        spread = f"{each.spread:.4f}" if each.spread else ""
        share = "" if math.isnan(each.share) else f"{each.share:.0%}"
        table.add_row(name, f"{each.ndcg:.4f}", spread, f"{each.judged_only:.4f}", *ends, share)
    out.print(table)
