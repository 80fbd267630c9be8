"""Faithfulness of reasons: whether a hit falls where its product really lacks what a reason names.

Every named reason of some hits is taken out of the product, of the query memory or of the popularity, the whole search
runs again, and the rank of the hit is compared (comprehensiveness in the sense of DeYoung et al. 2020, ERASER, section
4.2). Words, values and ratings are removed by live changes of a copy of the index, so that text, vector and token
states change; a type by a rule. Nothing of `service.engine.reasons` takes part in the removal.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.studies import run_study
from benchmarks.tables import figure_table
from rerank.ranker.memory import QueryMemory, product_hashes
from rerank.text_towers.dataset import is_judging_query
from retrieval.index.keyword import Rows
from retrieval.index.vectors import NearestRows, VectorIndex, Vectors
from retrieval.judgments import read_judgments
from retrieval.progress import Progress
from retrieval.records import Hit, Product, Reason, ReasonKind
from retrieval.text.highlight import Matcher
from service.cli.options import Index, command
from service.cli.output import TerminalProgress, emit, say, show_table
from service.curation.rules import Classify, Rule
from service.engine import reasons
from service.engine.candidates import Stages
from service.engine.engine import SearchEngine
from service.engine.models import ServedRanker
from service.engine.request import SearchRequest
from service.engine.reranking import Reranking
from service.engine.search import Search
from service.engine.snapshot import Snapshot
from service.events.signals import Popularity

LEAST = (0, 1, 2, 3)
"""Thresholds: see `service.engine.reasons.LEAST_RANKS`; 0 names all that there is to name."""
_DEPTH = 100
_TYPE = "sample"


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """The named reasons of one kind at one threshold."""

    kind: str
    least: int
    """Ranks that the score says the hit would lose."""
    named: int
    fell: int
    """Those without which the hit fell."""
    hits: int
    """Hits that were looked at, with or without reasons."""


@dataclass(frozen=True, slots=True)
class _RemovedReason:
    kind: ReasonKind
    fell: bool
    ranks: int
    """Those that its score says it would lose."""


@command("reasons homedepot judgments.tsv --queries 100")
def faithfulness(
    index: Index,
    judgments: Annotated[Path, typer.Argument(help="A file of judgments, for its queries.")],
    queries: Annotated[int, typer.Option(help="Queries of each part.", min=1)] = 100,
    hits: Annotated[int, typer.Option(help="Hits of the first ten of each query.", min=1, max=10)] = 3,
    part: Annotated[str, typer.Option(help="dev, to choose the threshold by, or test.")] = "test",
) -> None:
    """Take each named reason out of its product and see whether the hit falls; time searches with reasons."""
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
    emit(found, _show, spent, document={"reasons": [*map(asdict, found)], "milliseconds": spent})


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
        size: int = _DEPTH,
        change: Callable[[Snapshot], Snapshot] = lambda each: each,
        last: Callable[[Reranking], Reranking] = lambda each: each,
    ) -> tuple[Hit, ...]:
        if rules:
            return self.engine.search(self.query, size=_DEPTH, rules=rules, correct=False).hits
        snapshot = change(self.engine.snapshot)
        self.ranker.reload_if_changed(snapshot)
        stage = self.ranker.stage(snapshot)
        stages = Stages(snapshot, self.executor, last(stage) if stage else None)
        return Search(snapshot, stages, SearchRequest(self.query, size=size, reasons=reasons)).page().hits

    @staticmethod
    def rank_of(ids: Sequence[str], product_id: str) -> int:
        """From 1; the one behind the last where it is no longer there."""
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
    """A product without the words that match, in any text."""

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
    """The median time of a search of 20 hits, without and with reasons, each query in turn."""
    spent: dict[str, list[float]] = {"without reasons": [], "with reasons": []}
    for _ in range(5):
        for query in queries:
            for name, language in zip(spent, ("", "en"), strict=True):
                started = time.perf_counter()
                engine.search(query, size=20, reasons=language)
                spent[name].append((time.perf_counter() - started) * 1_000)
    return {name: statistics.median(each) for name, each in spent.items()}


def _show(found: Sequence[Faithfulness], spent: Mapping[str, float]) -> None:
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


if __name__ == "__main__":
    run_study(faithfulness)
