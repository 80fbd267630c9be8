"""How well candidates are ordered for judged queries: by merging, by a teacher, by both mixed, by rankers.

All order the same candidates, so that what differs is the order alone.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import ndcg
from benchmarks.tables import difference_cells, plain_table
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape, RankerNetwork
from rerank.ranker.onnx import OnnxRanker
from rerank.teacher.fine_tuning import FineTuningOptions, GradedList, fine_tune, fingerprint
from rerank.teacher.teacher import Teacher, open_teacher
from rerank.training.click_training import MIXES
from rerank.training.datasets import CandidateLists, ListData, joined, merged_scores, whole
from rerank.training.distillation import DistilOptions, Split, Taught, TeacherScores, agreement, distil, split, targets
from rerank.training.evaluation import ranker_scores, scores_of
from rerank.training.grade_training import GradesOptions, graded_ndcg, tune_on_grades
from retrieval.encoders.base import Tokens, unit_rows
from retrieval.errors import SettingError
from retrieval.index.token_states import SCALE, ProductTokens, Rows, TokenStates
from retrieval.judgments import Judgments
from retrieval.progress import Progress
from service.cli.output import out
from service.engine.hot_reload import UNKNOWN, Popularity
from service.engine.snapshot import Snapshot
from service.training.ranker_dataset import CatalogOptions, candidate_lists, list_data, pairs_of, taught_lists

MERGED = "merged"
MERGED_MIXES = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Weights of the merged score beside the teacher's."""
PARTS = {"train": (0, 743), "validation": (743, 801), "test": (801, 1_000), "all": (0, 1_000)}
"""Part to the thousandths of queries that it has, by the SHA-1 of each query's text."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What one system reaches."""

    ndcg: float
    """nDCG@10, the mean over queries."""
    against_merged: Difference
    """Its difference from the merged order, paired by query."""


def part_of(queries: Sequence[str], part: str) -> list[str]:
    """The queries of a part of PARTS."""
    first, end = PARTS[part]
    return [query for query in queries if first <= _thousandth(query) < end]


def _thousandth(query: str) -> int:
    return int(hashlib.sha1(query.encode(), usedforsecurity=False).hexdigest(), 16) % 1_000


def compare_orders(
    snapshot: Snapshot, judgments: Judgments, lists: CandidateLists, systems: Mapping[str, NDArray[np.floating]]
) -> dict[str, Ordered]:
    """The measures of systems, given as the scores (m,) of the lists' candidates; MERGED has to be among them."""
    graded = GradedOrders(snapshot, judgments, lists)
    found = {name: graded.ndcg(scores) for name, scores in systems.items()}
    merged = found[MERGED]
    return {name: Ordered(float(each.mean()), paired_bootstrap(each, merged)) for name, each in found.items()}


class GradedOrders:
    """Judged queries' candidates, which any scores put into an order."""

    def __init__(self, snapshot: Snapshot, judgments: Judgments, lists: CandidateLists) -> None:
        self._judgments, self._lists = judgments, lists
        self.product_ids = [snapshot.products.id_of(row) for row in lists.rows.tolist()]
        """Of the candidates, end to end (m,)."""

    def ndcg(self, scores: NDArray[np.floating], *, judged_only: bool = False) -> NDArray[np.float64]:
        """nDCG@10 of each query (n,) by the scores of its candidates, end to end (m,).

        `judged_only` passes over what nobody judged (Sakai 2007, Alternatives to Bpref, section 3): a system that finds
        what the judges were not shown loses nothing there.
        """
        reached = []
        for number, query in enumerate(self._lists.queries):
            grades = self._judgments.grades[query]
            order = self._best_first(scores, number)
            shown = [each for each in order if each in grades] if judged_only else order
            reached.append(ndcg(shown, grades, self._judgments))
        return np.array(reached)

    def gains(self) -> NDArray[np.float32]:
        """What each candidate is worth (m,); what was not judged is worth nothing."""
        names = (self._lists.queries[number] for number in self._lists.query_of.tolist())
        grades = (self._judgments.grades[query].get(each) for query, each in zip(names, self.product_ids, strict=True))
        return np.array([0.0 if grade is None else self._judgments.gain(grade) for grade in grades], np.float32)

    def _best_first(self, scores: NDArray[np.floating], number: int) -> list[str]:
        place = self._lists.place(number)
        order = np.argsort(-scores[place], kind="stable") + place.start
        return [self.product_ids[at] for at in order.tolist()]


def score_systems(
    snapshot: Snapshot,
    lists: CandidateLists,
    teacher: Teacher | None,
    ranker: OnnxRanker | None,
    kept: Path,
    advance: Callable[[int], None],
) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """The scores of each system that is there; `advance` is told of candidates that the teacher has scored."""
    yield MERGED, merged_scores(lists)
    if teacher is not None:
        taught = TeacherScores(teacher, kept).score(*pairs_of(snapshot, lists), advance)
        yield "teacher", taught
        for mix in MERGED_MIXES:
            yield f"teacher + {mix:g} merged", targets(lists, taught, mix)
    if ranker is not None:
        data = list_data(snapshot, lists, np.zeros(len(lists.rows), np.float32))
        yield f"ranked by {ranker.name}", ranker_scores(ranker, data, range(len(lists)))


LAYERS = {"head": 0, "cross-attention": 1}
"""Names to cross-attention layers."""


def shape_without_history(dimension: int, layers: int) -> NetworkShape:
    """Of a network that reads token states of `dimension` columns, and no shopper's history."""
    return NetworkShape(dimension, 0, len(FEATURES), layers=layers, history=0)


def seed_spread(values: Sequence[NDArray[np.float64]]) -> float:
    """The standard deviation of the means of several trainings' values; 0 for a single one."""
    means = [float(each.mean()) for each in values]
    return float(np.std(means, ddof=1)) if len(means) > 1 else 0.0


# A teacher that is fine-tuned on judged queries before rankers learn from it.


@dataclass(frozen=True, slots=True)
class FineTunedTeacher:
    """Which cross-encoder to fine-tune, and where it is kept."""

    name: str
    """Name or folder of the cross-encoder as it was."""
    folder: Path
    """Of fine-tuned ones; what was made of the same lists and epochs is not made again."""
    epochs: int = 1
    cache: Path = Path(".cache")
    options: FineTuningOptions = field(default_factory=FineTuningOptions)

    def open(
        self, snapshot: Snapshot, lists: CandidateLists, gains: NDArray[np.float32], progress: Progress
    ) -> Teacher:
        """Fine-tunes on all of `lists`, by the gains of their candidates (m,); what was interrupted goes on."""
        graded = _graded(snapshot, lists, gains)
        target = self.folder / f"{fingerprint(graded)}-{self.epochs}"
        if not target.exists():
            loop = replace(self.options.loop, epochs=self.epochs)
            options = replace(self.options, loop=loop)
            steps = -(-round(len(graded) * (1 - options.held_out)) // options.lists)
            progress.begin("fine-tuning", steps * self.epochs, "steps")
            tuned = fine_tune(
                self.name,
                graded,
                target,
                options,
                cache=self.cache,
                advance=progress.advance,
            )
            curve = ", ".join(f"{epoch.validation:.4f}" for epoch in tuned.curve)
            progress.end(f"nDCG@10 of the queries held out by epoch: {curve}")
        return open_teacher(str(target), cache=self.cache)


def _graded(snapshot: Snapshot, lists: CandidateLists, gains: NDArray[np.float32]) -> list[GradedList]:
    _, texts = pairs_of(snapshot, lists)
    places = (lists.place(number) for number in range(len(lists)))
    return [
        GradedList(query, texts[place], gains[place].tolist())
        for query, place in zip(lists.queries, places, strict=True)
    ]


# What rankers reach that were trained here and now: distilled from a teacher, then tuned on grades, with several
# seeds, measured on judged queries that nothing was trained on or chosen by.
#
# They are distilled on the judged queries of the training part, whose grades are hidden then, or on queries made from
# the catalog. All systems order the same candidates.

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


DEPTH = 100


@dataclass(frozen=True, slots=True, eq=False)
class JudgedLists:
    """Judged queries with their candidates, and what these are worth by the grades (m,)."""

    data: ListData
    gains: NDArray[np.float32]
    product_ids: Sequence[str]
    """(m,)."""

    @property
    def lists(self) -> CandidateLists:
        """Queries and candidates."""
        return self.data.lists


def judged_lists(
    snapshot: Snapshot,
    judgments: Judgments,
    progress: Callable[[int], None] = lambda _count: None,
    popularity: Popularity = UNKNOWN,
) -> JudgedLists:
    """The best 100 candidates of each judged query in the merged order; what was not judged is worth nothing."""
    queries = list(judgments.grades)
    lists = candidate_lists(snapshot, queries, snapshot.built, depth=DEPTH, popularity=popularity, progress=progress)
    graded = GradedOrders(snapshot, judgments, lists)
    gains = graded.gains()
    return JudgedLists(list_data(snapshot, lists, gains), gains, graded.product_ids)


# An index's token states with fewer columns than are stored: what these are worth.
#
# Columns come in the order of what they keep (`retrieval.encoders.torch`), so the first ones are what an index of as
# many columns would hold, but for the rounding to int8.


@dataclass(frozen=True, slots=True)
class NarrowStates:
    """The first columns of an index's states."""

    stored: TokenStates
    dimension: int

    def __post_init__(self) -> None:
        if not 1 <= self.dimension <= self.stored.dimension:
            raise SettingError(f"the index holds states of {self.stored.dimension} columns, not {self.dimension}")

    @property
    def encoder(self) -> str:
        """See `TokenStates`."""
        return self.stored.encoder

    @property
    def idf(self) -> NDArray[np.float32]:
        """The same."""
        return self.stored.idf

    def cut(self, query: Tokens) -> Tokens:
        """The same."""
        return query.narrowed(self.dimension)

    def gather(self, rows: Rows) -> ProductTokens:
        """The same."""
        found = self.stored.gather(rows)
        narrow = np.zeros((*found.ids.shape, self.dimension), np.int8)
        is_token = found.ids >= 0
        kept = unit_rows(found.states[is_token][:, : self.dimension].astype(np.float32))
        narrow[is_token] = np.rint(kept * SCALE).astype(np.int8)
        return ProductTokens(found.ids, narrow)
