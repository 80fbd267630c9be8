"""Orders of the same candidates of judged queries: merged, a teacher's, both mixed, and a ranker's; and with query
expansion."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from shelfwise.benchmarks.quality import ndcg
from shelfwise.benchmarks.studies import run_study
from shelfwise.benchmarks.tables import difference_cells, figure_table
from shelfwise.rerank.evaluation.metrics import ranked_ndcg
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.rerank.expansions import learn_expansions
from shelfwise.rerank.model_store import ServingModel
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import RANKERS, ranker_store
from shelfwise.rerank.teacher.teacher import Teacher, open_teacher
from shelfwise.rerank.text_towers.dataset import from_judgments, from_labels, judged_gains
from shelfwise.rerank.training.datasets import CandidateLists, ListData, merged_scores
from shelfwise.rerank.training.distillation import TeacherScores, mix_targets
from shelfwise.rerank.training.evaluation import ranker_scores
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.judgments import Judgments, read_judgments
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.text.analysis import Expansions
from shelfwise.service.cli.options import Index, JudgmentsFile, SettingsFile, command
from shelfwise.service.cli.output import TerminalProgress, emit, show_notices, show_table
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.models import ServedRanker, encoding_of
from shelfwise.service.engine.snapshot import Snapshot, serving_snapshot
from shelfwise.service.events.signals import read_memory, read_popularity
from shelfwise.service.settings import Settings, cache_folder, load_settings
from shelfwise.service.training.expansions import Gains, corrected_queries, relevant_pairs
from shelfwise.service.training.ranker_dataset import best_products, candidate_lists, list_data, pairs_of
from shelfwise.service.training.training_session import TEACHER_SCORES, TRAINING_FOLDER, fresh_tables

MERGED = "merged"
MERGED_MIXES = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Weights of the merged score beside the teacher's."""
PARTS = {"train": (0, 743), "validation": (743, 801), "test": (801, 1_000), "all": (0, 1_000)}
"""The thousandths of queries of each part, by the SHA-1 of each query's text."""


@dataclass(frozen=True, slots=True)
class OrderQuality:
    """The quality of one system."""

    ndcg: float
    """The mean nDCG@10 over queries."""
    against_merged: Difference
    """The difference from the merged order, paired by query."""


def part_of(queries: Sequence[str], part: str) -> list[str]:
    """The queries of a part of PARTS."""
    first, end = PARTS[part]
    return [query for query in queries if first <= _thousandth(query) < end]


def _thousandth(query: str) -> int:
    return int(hashlib.sha1(query.encode(), usedforsecurity=False).hexdigest(), 16) % 1_000


def compare_orders(
    snapshot: Snapshot, judgments: Judgments, lists: CandidateLists, systems: Mapping[str, NDArray[np.floating]]
) -> dict[str, OrderQuality]:
    """The quality of systems, given as the scores (m,) of the lists' candidates; MERGED must be among them."""
    graded = GradedOrders(snapshot, judgments, lists)
    found = {name: graded.ndcg(scores) for name, scores in systems.items()}
    merged = found[MERGED]
    return {name: OrderQuality(float(each.mean()), paired_bootstrap(each, merged)) for name, each in found.items()}


class GradedOrders:
    """The candidates of judged queries, to be ordered by any scores."""

    def __init__(self, snapshot: Snapshot, judgments: Judgments, lists: CandidateLists) -> None:
        self._judgments, self._lists = judgments, lists
        self.product_ids = [snapshot.products.id_of(row) for row in lists.rows.tolist()]
        """The ids of the candidates, concatenated (m,)."""

    def ndcg(self, scores: NDArray[np.floating], *, judged_only: bool = False) -> NDArray[np.float64]:
        """nDCG@10 of each query (n,) by the scores of its candidates, concatenated (m,).

        `judged_only` skips unjudged products (Sakai 2007, Alternatives to Bpref, section 3), so that a system loses
        nothing by finding products that the judges were not shown.
        """
        reached = []
        for number, query in enumerate(self._lists.queries):
            grades = self._judgments.grades[query]
            order = self._best_first(scores, number)
            shown = [each for each in order if each in grades] if judged_only else order
            reached.append(ndcg(shown, grades, self._judgments))
        return np.array(reached)

    def gains(self) -> NDArray[np.float32]:
        """The gain of each candidate (m,); 0 for unjudged ones."""
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
    """The scores of each given system; `advance` receives the number of candidates that the teacher scored."""
    yield MERGED, merged_scores(lists)
    if teacher is not None:
        scores = TeacherScores(teacher, kept).score(*pairs_of(snapshot, lists), advance)
        yield "teacher", scores
        for mix in MERGED_MIXES:
            yield f"teacher + {mix:g} merged", mix_targets(lists, scores, mix)
    if ranker is not None:
        data = list_data(snapshot, lists, np.zeros(len(lists.rows), np.float32))
        yield f"ranked by {ranker.name}", ranker_scores(ranker, data, range(len(lists)))


@dataclass(frozen=True, slots=True, eq=False)
class JudgedLists:
    """Judged queries with their candidates, whose targets are the gains of their grades."""

    data: ListData
    orders: GradedOrders


def judged_lists(
    snapshot: Snapshot,
    judgments: Judgments,
    queries: Sequence[str],
    depth: int,
    sample: int | None = None,
    progress: Callable[[int], None] = lambda _count: None,
) -> JudgedLists:
    """The best candidates of judged queries in the merged order, or `sample` of them, half of which are the best."""
    lists = candidate_lists(snapshot, queries, snapshot.built, depth=depth, progress=progress)
    lists = lists if sample is None else lists.sample(sample, 0)
    orders = GradedOrders(snapshot, judgments, lists)
    return JudgedLists(list_data(snapshot, lists, orders.gains()), orders)


@command("rankers orders store judgments.tsv --teacher cross-encoder/ms-marco-MiniLM-L-12-v2")
def orders(
    index: Index,
    judgments: JudgmentsFile,
    teacher: Annotated[str, typer.Option(help="Name or folder of a cross-encoder to measure; by default none.")] = "",
    part: Annotated[str, typer.Option(help="The part of the queries: train, validation, test or all.")] = "all",
    depth: Annotated[int, typer.Option(help="Candidates of each query.", min=10, max=1_000)] = 50,
    folder: Annotated[
        Path | None, typer.Option("--ranker", help="Folder of a ranker to use instead of the serving one.")
    ] = None,
) -> None:
    """Compare orders of the same candidates: merged, a teacher's, both mixed, and the serving ranker's."""
    if part not in PARTS:
        raise SettingError(f"--part: {part!r} is not a part; it can be {', '.join(PARTS)}")
    judged = read_judgments(judgments)
    queries = part_of(list(judged.grades), part)
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        snapshot = engine.snapshot
        progress.begin("candidates", len(queries), "queries")
        popularity, memory, advance = read_popularity(index), read_memory(index), progress.advance
        lists = candidate_lists(
            snapshot, queries, 0.0, depth=depth, popularity=popularity, memory=memory, progress=advance
        )
        progress.end(f"{len(lists.rows):,} of {len(queries):,} queries")
        serving = ServingModel(RANKERS.open(folder)) if folder else ranker_store(index).serving(encoding_of(snapshot))
        served = OnnxRanker(serving.model) if serving.model else None
        opened = open_teacher(teacher, cache=cache_folder()) if teacher else None
        kept = index / TRAINING_FOLDER / TEACHER_SCORES
        progress.begin("scores", len(lists.rows), "candidates")
        systems = dict(score_systems(snapshot, lists, opened, served, kept, progress.advance))
        progress.end(f"{len(systems)} orders of the same candidates")
        measured = compare_orders(snapshot, judged, lists, systems)
    result = {
        "queries": len(queries),
        "depth": depth,
        "orders": {name: asdict(each) for name, each in measured.items()},
    }
    show_notices(serving.notices)
    emit(measured, show_orders, len(queries), document=result)


def show_orders(measured: Mapping[str, OrderQuality], queries: int) -> None:
    """nDCG@10 by system, and its difference from the merged order with the interval."""
    title = f"{queries:,} queries; differences from the merged order, paired by query, 95% by bootstrap"
    table = figure_table(["order", "nDCG@10", "difference", "from", "to"], title)
    for name, each in measured.items():
        table.add_row(name, f"{each.ndcg:.4f}", *difference_cells(each.against_merged))
    show_table(table)


_EXPANDED_DEPTH = 100
STAGES = "bm25", "merged", "ranked"


@dataclass(frozen=True, slots=True)
class StageGain:
    """One order of the test queries, without expansions and with them."""

    source: str
    """The data that the expansions were trained on."""
    stage: str
    without: float
    """The mean nDCG@10 over queries."""
    ndcg: Difference
    recall: Difference
    """The difference in R@100, the share of the products of the highest gain that are among the first hundred."""


@command("rankers expansions homedepot-index homedepot/judgments.tsv")
def expansions(
    index: Index,
    judgments: JudgmentsFile,
    test: Annotated[
        Path | None, typer.Option(help="Judged queries to measure; by default the test part of the training ones.")
    ] = None,
    clicks: Annotated[
        bool, typer.Option("--clicks", help="Also train on clicks: of all queries, and of all except the test queries.")
    ] = False,
    corrected: Annotated[bool, typer.Option(help="Correct queries as searches do.")] = True,
    settings: SettingsFile = None,
) -> None:
    """Measure query expansion trained on judged queries, or on clicks, on other judged queries."""
    loaded = load_settings(settings)
    with TerminalProgress() as progress, serving_snapshot(index, loaded) as snapshot:
        row_of = snapshot.products.row_of
        judged = from_judgments(read_judgments(judgments))
        measured = from_judgments(read_judgments(test)) if test else judged
        known, tested = judged_gains(judged, row_of), judged_gains(measured, row_of)
        if test is None:
            chosen = {*part_of(list(tested), "test")}
            tested = {query: gains for query, gains in tested.items() if query in chosen}
        sources: dict[str, Gains] = {
            "judgments": {query: gains for query, gains in known.items() if query not in tested}
        }
        if clicks:
            clicked = _clicked(index, loaded, snapshot, progress)
            sources["clicks of other queries"] = {q: gains for q, gains in clicked.items() if q not in tested}
            sources["clicks of all queries"] = clicked
        texts = {query: query for gains in (tested, *sources.values()) for query in gains}
        if corrected:
            texts = corrected_queries(index, snapshot, texts)
        tables = {name: learn_expansions(relevant_pairs(snapshot, gains, texts)) for name, gains in sources.items()}
        progress.begin("search", None, "")
        with closing(ServedRanker(index, loaded)) as ranker:
            ranker.reload_if_changed(snapshot)
            found = list(_measured(snapshot, ranker, tables, tested, texts))
        progress.end(f"{len(tested):,} queries")
    document = {"queries": len(tested), "orders": [asdict(each) for each in found]}
    emit(found, show_expansions, len(tested), document=document)


def _clicked(index: Path, settings: Settings, snapshot: Snapshot, progress: Progress) -> Gains:
    with fresh_tables(index, settings, progress) as tables:
        shared = tables.derived.labels.join(tables.derived.queries, on="query", how="semi")
        return judged_gains(from_labels(shared), snapshot.products.row_of)


def _measured(
    snapshot: Snapshot, ranker: ServedRanker, tables: Mapping[str, Expansions], tested: Gains, texts: Mapping[str, str]
) -> Iterator[StageGain]:
    for stage in STAGES if ranker.stage(snapshot) else STAGES[:-1]:
        ndcg, recall = _reached(snapshot, ranker, stage, tested, texts)
        for name, table in tables.items():
            expanded, more = _reached(snapshot.expanded_by(table), ranker, stage, tested, texts)
            gained = paired_bootstrap(expanded, ndcg), paired_bootstrap(more, recall)
            yield StageGain(name, stage, float(ndcg.mean()), *gained)


def _reached(
    snapshot: Snapshot, ranker: ServedRanker, stage: str, tested: Gains, texts: Mapping[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """nDCG@10 and R@100 by query."""
    last = ranker.stage(snapshot) if stage == "ranked" else None
    best = best_products(snapshot, [texts[query] for query in tested], stage, _EXPANDED_DEPTH, last=last)
    ndcg, recall = [], []
    for query, gains in tested.items():
        found, highest = best[texts[query]], max(gains.values())
        ndcg.append(ranked_ndcg([gains.get(each, 0.0) for each in found[:10]], gains.values()))
        recall.append(np.mean([product in found for product, gain in gains.items() if gain == highest]))
    return np.array(ndcg), np.array(recall)


def show_expansions(found: Sequence[StageGain], queries: int) -> None:
    """nDCG@10 by stage, and the gain from expansions in it and in R@100, with intervals."""
    title = f"{queries:,} queries; differences paired by query, 95% by bootstrap"
    columns = ["trained on", "order", "nDCG@10", "difference", "from", "to", "R@100", "from", "to"]
    table = figure_table(columns, title)
    for each in found:
        cells = *difference_cells(each.ndcg), *difference_cells(each.recall)
        table.add_row(each.source, each.stage, f"{each.without:.4f}", *cells)
    show_table(table)


if __name__ == "__main__":
    run_study(orders, expansions)
