"""Studies of trust: whether the reasons of hits are faithful, the cost of the exposure of some products, and the gain
of stores that train together without moving events.

python -m shelfwise.benchmarks.studies.trust faithfulness INDEX JUDGMENTS.tsv
python -m shelfwise.benchmarks.studies.trust exposure INDEX JUDGMENTS.tsv FILTER
python -m shelfwise.benchmarks.studies.trust federated INDEX INDEX...

Faithfulness of reasons: whether a hit falls when its product really lacks what a reason names.

Every named reason of some hits is removed from the product, from the query memory or from the popularity, the whole
search runs again, and the rank of the hit is compared (comprehensiveness in the sense of DeYoung et al. 2020, ERASER,
section 4.2). Words, values and ratings are removed by live changes of a copy of the index, so that text, vector and
token states change; a type by a rule. Nothing of `shelfwise.service.engine.reasons` takes part in the removal.

The cost of exposure: the loss in nDCG@10 when some products are raised, by strength and under control.

The curve boosts the hits that match a filter, at several strengths, and compares their share of attention with the
nDCG@10 of judged queries. Days of searches run under the control of the exposure goals of merchandising rules,
`shelfwise.service.curation.exposure`. Boosts reorder candidates, which passed the cutoff; they make no product a
candidate.

Federated learning: the ranker that several stores train together, as in `shelfwise train ranker --federated`, compared
with that of each store alone and with one of all lists.
"""

from __future__ import annotations

import copy
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from shelfwise.benchmarks.studies import run_study
from shelfwise.benchmarks.studies.query_memory import (
    BY_GRADES,
    GradedQueries,
    Measures,
    click_training_set,
    graded_queries,
    measure_order,
)
from shelfwise.benchmarks.tables import difference_cells, figure_table
from shelfwise.rerank.click_models.click_log import Floats
from shelfwise.rerank.evaluation.metrics import ranked_ndcg
from shelfwise.rerank.evaluation.promotion import NDCG
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.rerank.ranker.memory import QueryMemory, product_hashes
from shelfwise.rerank.ranker.network import RankerNetwork
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.rerank.text_towers.dataset import is_judging_query, judged_gains
from shelfwise.rerank.training.click_dataset import ClickBatch
from shelfwise.rerank.training.click_training import choose_mixing, score_loss, train_federated
from shelfwise.rerank.training.datasets import merged_scores
from shelfwise.rerank.training.trainer import Federation, Training, train
from shelfwise.retrieval.index.keyword import Rows
from shelfwise.retrieval.index.vectors import NearestRows, VectorIndex, Vectors
from shelfwise.retrieval.judgments import read_judgments
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.records import ExposureGoal, Hit, Product, Reason, ReasonKind
from shelfwise.retrieval.text.highlight import Matcher
from shelfwise.service.cli.options import Index, command
from shelfwise.service.cli.output import TerminalProgress, emit, say, show_table
from shelfwise.service.curation.exposure import DEPTH, NOT_COUNTED
from shelfwise.service.curation.rules import Boost, Bury, Classify, Rule
from shelfwise.service.engine import reasons
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.models import ServedRanker, encoding_of
from shelfwise.service.engine.request import SearchRequest
from shelfwise.service.engine.reranking import Reranking
from shelfwise.service.engine.search import Search, ordered_ids
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.signals import Popularity
from shelfwise.service.settings import load_settings
from shelfwise.service.training.click_dataset import ClickTrainingSet
from shelfwise.service.training.ranker_from_clicks import new_start
from shelfwise.service.training.ranker_promotion import network_scores, served_scores
from shelfwise.service.training.text_towers import judged_queries
from shelfwise.service.training.training_session import fresh_tables, run_federation

LEAST = (0, 1, 2, 3)
"""Thresholds: see `shelfwise.service.engine.reasons.LEAST_RANKS`; 0 names all possible reasons."""
_SEARCHED = 100
_TYPE = "sample"


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """The named reasons of one kind at one threshold."""

    kind: str
    least: int
    """The number of ranks that the hit would lose by its score."""
    named: int
    fell: int
    """The number of reasons without which the hit fell."""
    hits: int
    """The number of examined hits, with or without reasons."""


@dataclass(frozen=True, slots=True)
class _RemovedReason:
    kind: ReasonKind
    fell: bool
    ranks: int
    """The number of ranks that the hit would lose by its score."""


@command("trust faithfulness homedepot judgments.tsv --queries 100")
def faithfulness(
    index: Index,
    judgments: Annotated[Path, typer.Argument(help="A judgments file, for its queries.")],
    queries: Annotated[int, typer.Option(help="Queries of each part.", min=1)] = 100,
    hits: Annotated[int, typer.Option(help="Number of the first ten hits of each query.", min=1, max=10)] = 3,
    part: Annotated[str, typer.Option(help="dev, to choose the threshold, or test.")] = "test",
) -> None:
    """Remove each named reason from its product and check whether the hit falls; time searches with reasons."""
    texts = [each for each in read_judgments(judgments).grades if is_judging_query(each) == (part == "test")]
    drawn = np.random.default_rng(7).permutation(sorted(texts))[:queries].tolist()
    with tempfile.TemporaryDirectory() as folder, TerminalProgress() as progress:
        copy = Path(shutil.copytree(index, Path(folder) / "index"))
        with SearchEngine.open(copy) as engine, closing(ServedRanker(copy)) as ranker:
            removed, examined = _removed(engine, ranker, drawn, hits, progress)
            spent = _milliseconds(engine, drawn[:50])
    found = [
        Faithfulness(kind, least, len(own), sum(each.fell for each in own), examined)
        for least in LEAST
        for kind in ("all", *ReasonKind)
        if (own := [each for each in removed if each.ranks >= least and kind in ("all", each.kind)])
    ]
    emit(found, show_reasons, spent, document={"reasons": [*map(asdict, found)], "milliseconds": spent})


def _removed(
    engine: SearchEngine, ranker: ServedRanker, queries: Sequence[str], count: int, progress: Progress
) -> tuple[list[_RemovedReason], int]:
    progress.begin("queries", len(queries), "queries")
    chance, found, examined = np.random.default_rng(7), list[_RemovedReason](), 0
    with ThreadPoolExecutor(2) as executor:
        for query in queries:
            study = _QueryStudy(engine, ranker, executor, query)
            for hit in (study.hits[at] for at in chance.permutation(len(study.hits))[:count]):
                examined += 1
                for reason in hit.reasons:
                    if (rank := study.rank_without(hit, reason)) is not None:
                        before = study.rank_of(study.ids, hit.product.id)
                        found.append(_RemovedReason(reason.kind, rank > before, reason.ranks))
            progress.advance(1)
    progress.end(f"{len(found):,} reasons of {examined:,} hits")
    return found, examined


class _QueryStudy:
    """The hits of one query, and their ranks without a reason."""

    def __init__(self, engine: SearchEngine, ranker: ServedRanker, executor: ThreadPoolExecutor, query: str) -> None:
        self.engine, self.ranker, self.executor, self.query = engine, ranker, executor, query
        usual, reasons.LEAST_RANKS = reasons.LEAST_RANKS, min(LEAST)
        self.hits = self._page(reasons="en", size=10)
        reasons.LEAST_RANKS = usual
        self.ids = [hit.product.id for hit in self._page()]

    def _page(
        self,
        *,
        rules: Sequence[Rule] = (),
        reasons: str = "",
        size: int = _SEARCHED,
        change: Callable[[Snapshot], Snapshot] = lambda each: each,
        last: Callable[[Reranking], Reranking] = lambda each: each,
    ) -> tuple[Hit, ...]:
        if rules:
            return self.engine.search(self.query, size=_SEARCHED, rules=rules, correct=False).hits
        snapshot = change(self.engine.snapshot)
        self.ranker.reload_if_changed(snapshot)
        stage = self.ranker.stage(snapshot)
        stages = Stages(snapshot, self.executor, last(stage) if stage else None)
        return Search(snapshot, stages, SearchRequest(self.query, size=size, reasons=reasons)).page().hits

    @staticmethod
    def rank_of(ids: Sequence[str], product_id: str) -> int:
        """The rank, from 1; the rank behind the last one if the product is no longer there."""
        return ids.index(product_id) + 1 if product_id in ids else len(ids) + 1

    def rank_without(self, hit: Hit, reason: Reason) -> int | None:
        """The rank of a hit whose product lacks what a reason names; None for a kind that is not measured."""
        product, name = hit.product, hit.product.id
        row = self.engine.snapshot.products.row_of(name)
        match reason.kind:
            case ReasonKind.TYPE:
                rule = Rule("reasons-study", (Classify(_TYPE, (name,)),))
                found = self._page(rules=(rule,))
            case ReasonKind.MEANING if row is not None:
                mean = self.engine.snapshot.manifest.background.mean
                found = self._page(change=lambda each: replace(each, vectors=_DistantVectors(each.vectors, row, mean)))
            case ReasonKind.LOOKS if row is not None:
                found = self._page(change=partial(_without_picture, row=row))
            case ReasonKind.CHOSEN:
                found = self._page(last=lambda each: replace(each, memory=_without_product(each.memory, name)))
            case ReasonKind.POPULAR:
                found = self._page(last=lambda each: replace(each, popularity=_unpopular(each.popularity, name)))
            case ReasonKind.WORDS:
                found = self._changed(
                    product, _without_words(product, Matcher(self.engine.snapshot.analyzer, self.query))
                )
            case ReasonKind.VALUE:
                found = self._changed(product, self._without_value(product, reason))
            case ReasonKind.RATED:
                found = self._changed(product, replace(product, rating=None))
            case _:
                return None
        return self.rank_of([each.product.id for each in found], name)

    def _changed(self, product: Product, without: Product) -> tuple[Hit, ...]:
        self.engine.upsert([without])
        try:
            return self._page()
        finally:
            self.engine.upsert([product])

    def _without_value(self, product: Product, reason: Reason) -> Product:
        if not reason.values[0].isalnum() and reason.values[0][0] in "≤≥0123456789":
            return replace(product, price=None)
        page = self.engine.search(self.query, size=1, correct=False)
        fields = [each.field for each in page.preferred if each.values]
        attributes = {key: value for key, value in product.attributes.items() if f"attributes.{key}" not in fields}
        return replace(product, attributes=attributes, brand="" if "brand" in fields else product.brand)


@dataclass(frozen=True, slots=True)
class _DistantVectors:
    """Vectors of which one is as far from every query as unrelated products are."""

    vectors: VectorIndex
    row: int
    mean: float

    @property
    def size(self) -> int:
        return self.vectors.size

    @property
    def dimension(self) -> int:
        return self.vectors.dimension

    def search(self, query: Vectors, limit: int, allowed: Rows | None = None) -> NearestRows:
        found = self.vectors.search(query, limit + 1, allowed)
        kept = found.rows != self.row
        return NearestRows(found.rows[kept][:limit], found.scores[kept][:limit])

    def similarity(self, query: Vectors, rows: Rows) -> np.ndarray:
        return np.where(rows == self.row, np.float32(self.mean), self.vectors.similarity(query, rows))

    def vector(self, row: int) -> Vectors:
        return self.vectors.vector(row)

    def gather(self, rows: Rows) -> Vectors:
        return self.vectors.gather(rows)

    @property
    def without_cluster(self) -> VectorIndex:
        return self


def _without_picture(snapshot: Snapshot, row: int) -> Snapshot:
    pictures = snapshot.pictures
    return replace(snapshot, pictures=pictures and replace(pictures, index=pictures.index.without(frozenset({row}))))


def _without_product(memory: QueryMemory, product_id: str) -> QueryMemory:
    kept = memory.members != product_hashes([product_id])[0]
    keys = np.repeat(np.arange(len(memory.keys)), np.diff(memory.starts))[kept]
    present, starts = np.unique(keys, return_index=True)
    arrays = {
        name: getattr(memory, name)[kept]
        for name in ("members", "attraction", "cart", "purchase", "evidence", "strength")
    }
    return replace(memory, keys=memory.keys[present], starts=np.append(starts, len(keys)).astype(np.int64), **arrays)


def _unpopular(popularity: Popularity, product_id: str) -> Popularity:
    return Popularity({name: share for name, share in popularity.shares.items() if name != product_id})


def _without_words(product: Product, matcher: Matcher) -> Product:
    """A product without the words that match, in all texts."""

    def cut(text: str) -> str:
        done, pieces = 0, []
        for match in matcher.matches(text):
            pieces.append(text[done : match.start])
            done = match.end
        return " ".join("".join([*pieces, text[done:]]).split())

    attributes = {
        name: cut(value) if isinstance(value, str) else tuple(map(cut, value)) if isinstance(value, tuple) else value
        for name, value in product.attributes.items()
    }
    return replace(
        product,
        title=cut(product.title) or _TYPE,
        description=cut(product.description),
        brand=cut(product.brand),
        category=tuple(filter(None, map(cut, product.category))),
        attributes={name: value for name, value in attributes.items() if value not in ("", ())},
    )


def _milliseconds(engine: SearchEngine, queries: Sequence[str]) -> dict[str, float]:
    """The median milliseconds of a search of 20 hits, without and with reasons, each query in turn."""
    spent: dict[str, list[float]] = {"without reasons": [], "with reasons": []}
    for _ in range(5):
        for query in queries:
            for name, language in zip(spent, ("", "en"), strict=True):
                started = time.perf_counter()
                engine.search(query, size=20, reasons=language)
                spent[name].append((time.perf_counter() - started) * 1_000)
    return {name: statistics.median(each) for name, each in spent.items()}


def show_reasons(found: Sequence[Faithfulness], spent: Mapping[str, float]) -> None:
    """A row for each threshold and kind, and the time of searches."""
    table = figure_table(["least ranks", "named", "hit falls", "faithful", "a hit"], "reasons")
    for each in found:
        table.add_row(
            each.kind,
            str(each.least),
            f"{each.named:,}",
            f"{each.fell:,}",
            f"{each.fell / each.named:.1%}",
            f"{each.named / each.hits:.2f}",
        )
    show_table(table)
    say("median ms of a search: " + ", ".join(f"{name} {value:.1f}" for name, value in spent.items()))


STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
"""Strengths of the boost in standard deviations of the best hits' scores; of the burial under a ceiling."""
_ATTENTION = 1 / np.arange(1, DEPTH + 1)
_DAYS = 2
"""Days of the control: the first begins with strength 0, the second with the final strength of the first."""
_ROUNDING = 0.01
"""The rounding of strengths, so that equal searches of a day run once."""


@dataclass(frozen=True, slots=True, eq=False)
class BoostedSearches:
    """The results of n queries at one strength."""

    own: Floats
    """(n,): the attention of the products that match the filter."""
    total: Floats
    """(n,): the attention of all hits."""
    ndcg: Floats
    """(n,): nDCG@10."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The results at one strength."""

    strength: float
    share: float
    """The share of attention."""
    ndcg: float
    change: Difference


@dataclass(frozen=True, slots=True)
class ControlledDay:
    """A day of searches under the control."""

    goal: float
    """The floor or the ceiling."""
    day: int
    """The number of the day, from 1."""
    searches: int
    share: float
    """The share of attention over the day."""
    strength: float
    """The mean strength."""
    deviation: float
    """The standard deviation of the strength over the day."""
    change: float
    """The change in nDCG@10 from the same searches without the control."""
    predicted: float
    """The change by the curve of the same searches at the same share."""
    at_goal: float
    """The change by the curve at the share of the floor or the ceiling."""


@command('trust exposure demo-store/index judgments.dev.tsv "brand = Torvane" --floor 0.05')
def exposure(
    index: Index,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.")],
    filters: Annotated[str, typer.Argument(help="Filter of the products whose exposure is raised.")],
    floors: Annotated[list[float] | None, typer.Option("--floor", help="Share of attention. Repeatable.")] = None,
    ceilings: Annotated[list[float] | None, typer.Option("--ceiling", help="Share of attention. Repeatable.")] = None,
    searches: Annotated[int, typer.Option(help="Searches per day, drawn from the judged queries.", min=100)] = 1_000,
    queries: Annotated[int, typer.Option(help="Number of drawn judged queries.", min=50)] = 200,
) -> None:
    """Print the exposure of some products and the loss in nDCG@10, and the cost of a floor or a ceiling."""
    goals = [ExposureGoal("exposure", filters, at_least=each) for each in floors or ()]
    goals += [ExposureGoal("exposure", filters, at_most=each) for each in ceilings or ()]
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        gains = judged_gains(judged_queries(judgments, progress), engine.snapshot.products.row_of)
        drawn = np.random.default_rng(7).permutation(sorted(gains))[:queries].tolist()
        passing = frozenset(ordered_ids(engine.snapshot, filters).rest)
        trial = _Trial(engine, filters, passing, {query: gains[query] for query in drawn})
        strengths = sorted({*STRENGTHS, *(-each for each in STRENGTHS if ceilings)})
        progress.begin("curve", len(strengths), "strengths")
        curve = {strength: trial.at(strength, progress) for strength in strengths}
        progress.end(f"{len(drawn):,} queries")
        points = [_point(strength, found, curve[0.0]) for strength, found in curve.items()]
        days = [day for goal in goals for day in trial.days(goal, searches, curve, progress)]
    document = {"curve": [*map(asdict, points)], "days": [*map(asdict, days)]}
    emit(points, show_curve, days, document=document)


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    engine: SearchEngine
    filters: str
    passing: frozenset[str]
    """The ids of the products that match the filter."""
    gains: Mapping[str, Mapping[str, float]]

    def search(self, query: str, strength: float) -> tuple[float, float, float]:
        """The attention of the products and of all hits, and nDCG@10."""
        move = Boost(self.filters, strength) if strength > 0 else Bury(self.filters, -strength)
        rules = [Rule("exposure", (move,))] if strength else []
        ids = [hit.product.id for hit in self.engine.search(query, size=DEPTH, rules=rules).hits]
        attention = _ATTENTION[: len(ids)]
        own = float(attention @ np.array([each in self.passing for each in ids])) if ids else 0.0
        of_query = self.gains[query]
        found = ranked_ndcg([of_query.get(each, 0.0) for each in ids[:10]], of_query.values())
        return own, float(attention.sum()), found

    def at(self, strength: float, progress: Progress) -> BoostedSearches:
        """The results of all queries at one strength."""
        found = np.array([self.search(query, strength) for query in self.gains]).T
        progress.advance(1)
        return BoostedSearches(*found)

    def days(
        self, goal: ExposureGoal, searches: int, curve: Mapping[float, BoostedSearches], progress: Progress
    ) -> Iterator[ControlledDay]:
        """Days whose queries are drawn uniformly."""
        names, chance, state, search = list(self.gains), np.random.default_rng(11), NOT_COUNTED, cache(self.search)
        for day in range(1, _DAYS + 1):
            progress.begin(f"{goal.share:.2%}, day {day}", searches, "searches")
            drawn = chance.integers(len(names), size=searches)
            strengths, measured, state = [], [], state.on(day)
            for number in drawn.tolist():
                strengths.append(state.strength)
                own, total, ndcg = search(names[number], round(strengths[-1] / _ROUNDING) * _ROUNDING)
                state = (state + state.step(goal, day, own, total)).within(goal)
                measured.append(ndcg)
                progress.advance(1)
            plain = float(curve[0.0].ndcg[drawn].mean())
            shares = [float(each.own[drawn].sum() / each.total[drawn].sum()) for each in curve.values()]
            changes = [float(each.ndcg[drawn].mean()) - plain for each in curve.values()]
            predicted, at_goal = np.interp((state.share, goal.share), np.maximum.accumulate(shares), changes).tolist()
            change, spread = float(np.mean(measured)) - plain, (float(np.mean(strengths)), float(np.std(strengths)))
            progress.end(f"share {state.share:.4f}")
            yield ControlledDay(goal.share, day, searches, state.share, *spread, change, predicted, at_goal)


def _point(strength: float, found: BoostedSearches, plain: BoostedSearches) -> CurvePoint:
    share = float(found.own.sum() / found.total.sum())
    return CurvePoint(strength, share, float(found.ndcg.mean()), paired_bootstrap(found.ndcg, plain.ndcg, seed=7))


def show_curve(points: Sequence[CurvePoint], days: Sequence[ControlledDay]) -> None:
    """A row for each strength, and one for each day."""
    table = figure_table(["share of attention", "nDCG@10", "change", "low", "high"], "strength")
    for each in points:
        table.add_row(f"{each.strength:g}", f"{each.share:.2%}", f"{each.ndcg:.4f}", *difference_cells(each.change))
    show_table(table)
    for day in days:
        strength = f"strength {day.strength:.2f} (deviation {day.deviation:.2f})"
        reached = f"share {day.share:.2%}, {strength}, nDCG@10 {day.change:+.4f}"
        gap = f"by the curve {day.predicted:+.4f}, gap {abs(day.change - day.predicted):.4f}"
        at_goal = f"{day.at_goal:+.4f} at {day.goal:.2%}, gap {abs(day.change - day.at_goal):.4f}"
        say(f"{day.goal:.2%}, day {day.day} of {day.searches:,} searches: {reached}; {gap}; {at_goal}")


MERGED, SHIPPED = "merged order", "shipped ranker"
ALONE, POOLED, FEDERATED = "each store alone", "pooled", "federated"


@dataclass(frozen=True, slots=True, eq=False)
class StoreData:
    """The data of one store."""

    made: ClickTrainingSet
    graded: GradedQueries

    @property
    def lists(self) -> int:
        return len(self.made.clicks.usable)

    def measures(self, network: RankerNetwork) -> Measures:
        """The measures of a network, mixed as fits the store's validation lists best."""
        mixing = choose_mixing(network, self.made.validation)
        return measure_order(self.made, partial(network_scores, network, mixing), self.graded)


@dataclass(frozen=True, slots=True)
class WayQuality:
    """One way of training on one measure, over the held-out queries of all stores, each store with the same weight."""

    way: str
    measure: str
    value: float
    against_alone: Difference
    against_pooled: Difference


def federated_network(stores: Sequence[StoreData], rounds: int, progress: Progress) -> RankerNetwork:
    """The result of `shelfwise.rerank.training.click_training.train_federated`, with a process for each store; with 0
    rounds, the start that the stores have in common."""
    tasks = [partial(_train_member, store) for store in stores]
    names = [f"store {number}" for number in range(1, len(stores) + 1)]
    state = run_federation(tasks, rounds, progress, names, is_forked=True)[0]
    network = new_start(stores[0].made).network
    network.load_state_dict({name: network.state_dict()[name].new_tensor(each) for name, each in state.items()})
    return network.eval()


def _train_member(store: StoreData, federation: Federation) -> Mapping[str, NDArray[np.float32]]:
    """The weights by name; as arrays, because torch would share its tensors with a process that has ended."""
    made = store.made
    start = new_start(made).network
    trained, _ = train_federated(start, made.data, made.validation, "debiased", made.options.training, federation)
    return {name: value.numpy() for name, value in trained.state_dict().items()}


def train_on(stores: Sequence[StoreData], start: RankerNetwork, epochs: int) -> RankerNetwork:
    """A copy of a network, trained on the lists of stores, each batch of one of them, in random order. The mean of the
    stores' validations chooses the epoch."""
    network, options = copy.deepcopy(start), stores[0].made.options.training
    losses = [score_loss("debiased", store.made.clicks.examination, options) for store in stores]
    counts = [-(-store.lists // options.draw.lists) for store in stores]

    def batches(epoch: int) -> Iterator[tuple[int, ClickBatch]]:
        seed = options.seed * 1_000 + epoch
        rest = [store.made.data.shuffled(options.draw, seed) for store in stores]
        for number in np.random.default_rng(seed).permutation(np.repeat(np.arange(len(stores)), counts)).tolist():
            yield number, next(rest[number])

    def validate(trained: RankerNetwork) -> float:
        return float(np.mean([store.made.validation.of(trained) for store in stores]))

    training: Training[RankerNetwork, tuple[int, ClickBatch]] = Training(
        batches, sum(counts), lambda trained, batch: losses[batch[0]](trained(*batch[1].inputs), batch[1]), validate
    )
    loop = replace(options.loop, epochs=epochs, warm_up=min(options.loop.warm_up, sum(counts) // 4))
    with tempfile.TemporaryDirectory() as folder:
        train(network, training, loop, Path(folder))
    return network.eval()


def way_qualities(ways: Mapping[str, Sequence[Measures]]) -> Iterator[WayQuality]:
    """The qualities by way, from the measures of each store."""
    for measure in (BY_GRADES, NDCG):
        values = {way: np.concatenate([each[measure].values[0] for each in found]) for way, found in ways.items()}
        weights = np.concatenate([each[measure].traffic / each[measure].traffic.sum() for each in ways[ALONE]])
        yield from compare_ways(measure, values, weights)


def compare_ways(measure: str, values: Mapping[str, Floats], weights: Floats) -> Iterator[WayQuality]:
    """The qualities by way, from values by query, without queries that some way lacks."""
    known = np.isfinite(list(values.values())).all(axis=0)
    for way, each in values.items():
        gains = (paired_bootstrap(each[known], values[base][known], weights[known]) for base in (ALONE, POOLED))
        yield WayQuality(way, measure, float(np.average(each[known], weights=weights[known])), *gains)


@command("trust federated store1/index store2/index")
def federated(
    indexes: Annotated[list[Path], typer.Argument(help="Index directories in folders of demo stores.")],
    epochs: Annotated[int, typer.Option(help="Maximum number of epochs.", min=2)] = 4,
    rounds: Annotated[int, typer.Option(help="Rounds of averaging.", min=1)] = 20,
) -> None:
    """Train rankers of several stores, each alone, on all lists together, and averaged; and measure each store."""
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))  # each store has a process
        progress = stack.enter_context(TerminalProgress())
        stores, shipped = [], []
        for index in indexes:
            tables = stack.enter_context(fresh_tables(index, load_settings(), progress))
            made = click_training_set(tables, epochs, progress)
            stores.append(StoreData(made, graded_queries(tables, made, read_judgments(index.parent / "judgments.tsv"))))
            serving = ranker_store(index).serving(encoding_of(tables.snapshot)).model
            if serving is not None:
                scorer = partial(served_scores, OnnxRanker(serving))
                shipped.append(measure_order(made, scorer, stores[-1].graded))
        average = federated_network(stores, rounds, progress)
        progress.begin("alone and pooled", len(stores) + 1, "trainings")
        alone = []
        for store in stores:
            alone.append(train_on([store], new_start(store.made).network, epochs))
            progress.advance(1)
        pooled = train_on(stores, federated_network(stores, 0, NullProgress()), epochs)
        progress.end(f"{sum(store.lists for store in stores):,} lists")
        ways = {
            MERGED: [measure_order(each.made, lambda data: merged_scores(data.lists), each.graded) for each in stores]
        }
        ways |= {SHIPPED: shipped} if len(shipped) == len(stores) else {}
        ways[ALONE] = [store.measures(own) for store, own in zip(stores, alone, strict=True)]
        ways |= {
            name: [store.measures(network) for store in stores]
            for name, network in ((POOLED, pooled), (FEDERATED, average))
        }
    emit(list(way_qualities(ways)), show_ways)


def show_ways(found: Sequence[WayQuality]) -> None:
    """Shows each way on each measure, with its differences from each store alone and from all lists together."""
    columns = ["way", "measure", "value", "over alone", "from", "to", "over pooled", "from", "to"]
    table = figure_table(
        columns, "queries of all stores, each store with the same weight; 95% by bootstrap over queries"
    )
    for each in found:
        cells = *difference_cells(each.against_alone), *difference_cells(each.against_pooled)
        table.add_row(each.way, each.measure, f"{each.value:.4f}", *cells)
    show_table(table)


if __name__ == "__main__":
    run_study(faithfulness, exposure, federated)
