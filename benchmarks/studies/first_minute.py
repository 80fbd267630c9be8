"""The first queries of a shopper: unfinished and misspelled words, judged queries with product types and without, and
queries for which the catalog has nothing."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import numpy as np
import typer

from benchmarks.quality import DEPTH, ndcg
from benchmarks.studies import run_study
from benchmarks.studies.suggestions import TypoTrial
from benchmarks.tables import figure_table
from rerank.evaluation.statistics import Difference, paired_bootstrap
from retrieval.index.vectors import NearestRows
from retrieval.judgments import Judgments, read_judgments
from retrieval.store.manifest import WORDS_FOLDER
from retrieval.store.versions import Store
from retrieval.text.analysis import word_term
from retrieval.text.preferences import QueryPreferences
from retrieval.text.product_types import NO_TYPES
from retrieval.text.vocabulary import RAW_WORD, CatalogWords, language_words, words_of
from service.cli.options import Index, command
from service.cli.output import TerminalProgress, emit, say, show_table
from service.curation.relevance import CandidateLimits
from service.engine.candidates import Stages
from service.engine.engine import SearchEngine
from service.engine.request import SearchRequest
from service.engine.search import Search
from service.engine.spelling import Corrector, VisibleCatalog, WordCorrector

_SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""The shifts from the measured cutoff, in deviations."""


@dataclass(frozen=True, slots=True)
class UnfinishedWords:
    """The last words of titles, cut: the shares that find a product with the whole word among the first ten hits."""

    words: int
    prefix: float
    """The share with `prefix=True`."""
    as_typed: float


@dataclass(frozen=True, slots=True)
class CutoffFigures:
    """The shares of queries without a hit at one cutoff."""

    shift: float
    letters: float
    """The share of queries of random letters."""
    foreign: float
    """The share of another catalog's queries."""
    lost: float
    """The share of the judged relevant products whose queries have no hit."""


@dataclass(frozen=True, slots=True)
class TypoCounts:
    """The words that are searched for in place of misspelled ones."""

    kind: str
    right: int
    """The number of words restored as they were before the edit."""
    wrong: int
    """The number of words replaced by a wrong word."""


@dataclass(frozen=True, slots=True)
class CorrectionCounts:
    """Correct words that a search replaces, and misspelled ones that it corrects."""

    dictionary: int
    """The number of dictionary words of the language, each a query."""
    dictionary_changed: int
    catalog: int
    """The number of words of titles, brands and descriptions, each a query."""
    catalog_changed: int
    typos: int
    """The words of titles with one edit."""
    corrected: Sequence[TypoCounts]


@dataclass(frozen=True, slots=True)
class PairedQuality:
    """A measure of one stage with product types, preferences and the candidate margin, and without them."""

    stage: str
    measure: str
    mean: float
    without: float
    difference: Difference


@dataclass(frozen=True, slots=True)
class PairedFigures:
    """The same queries with these and without, in turn."""

    quality: Sequence[PairedQuality]
    p50: Mapping[str, tuple[float, float]]
    """Median milliseconds of a search for 100 hits by stage, with these and without."""


def unfinished_words(engine: SearchEngine, count: int, letters: int, seed: int) -> UnfinishedWords:
    """Searches for the last words of `count` titles, cut after `letters` letters."""
    dice = random.Random(seed)  # noqa: S311 - the same words each time
    products = engine.snapshot.products
    rows = dice.sample(range(len(products)), len(products))
    lasts = (words[-1] for row in rows if (words := words_of(products[row].title)))
    words = [word for word in lasts if word.isascii() and word.isalpha() and len(word) > letters][:count]
    prefix, as_typed = (
        sum(_finds(engine, word[:letters], word_term(word), is_prefix=is_prefix) for word in words) / max(len(words), 1)
        for is_prefix in (True, False)
    )
    return UnfinishedWords(len(words), prefix, as_typed)


def _finds(engine: SearchEngine, cut: str, term: str, *, is_prefix: bool) -> bool:
    hits = engine.search(cut, size=10, prefix=is_prefix).hits
    return any(term in map(word_term, words_of(hit.product.title)) for hit in hits)


def cutoff_curve(
    engine: SearchEngine, letters: Sequence[str], foreign: Sequence[str], relevant: Mapping[str, int]
) -> list[CutoffFigures]:
    """The figures at each cutoff; `relevant` has the number of relevant products of each judged query."""

    def empty(queries: Iterable[str], limits: CandidateLimits) -> list[bool]:
        stages = Stages(engine.snapshot, executor, limits=limits)
        requests = (SearchRequest(query, size=1, stage="merged") for query in queries)
        return [Search(engine.snapshot, stages, request).page().nothing_fits for request in requests]

    curve = []
    with ThreadPoolExecutor() as executor:
        for shift in _SHIFTS:
            limits = CandidateLimits(cutoff=shift)
            gone, none = empty(letters, limits), empty(foreign, limits)
            lost = np.dot(empty(relevant, limits), list(relevant.values())) / sum(relevant.values())
            curve.append(CutoffFigures(shift, float(np.mean(gone)), float(np.mean(none)), float(lost)))
    return curve


def random_letters(count: int, seed: int) -> list[str]:
    """One or two words of 4 to 9 random letters each."""
    dice = random.Random(seed)  # noqa: S311 - the same queries each time

    def word() -> str:
        return "".join(dice.choices(string.ascii_lowercase, k=dice.randint(4, 9)))

    return [" ".join(word() for _ in range(dice.choice((1, 1, 2)))) for _ in range(count)]


def count_corrections(engine: SearchEngine, words: int, typos: int, seed: int) -> CorrectionCounts:
    """Corrects `words` dictionary words and as many of the catalog (or all, if fewer), and searches for `typos`
    misspelled words of titles."""
    dice = random.Random(seed)  # noqa: S311 - the same words each time
    snapshot = engine.snapshot
    known = CatalogWords.open(Store(engine.root).version_folder(engine.manifest.version) / WORDS_FOLDER)
    corrector = Corrector(VisibleCatalog(snapshot), snapshot, known)

    def searched(text: str) -> str:
        """The query that is searched for, without the check."""
        found = corrector.correct_query(text)
        return found.text if found and found.is_sure else text

    products = [snapshot.products[row] for row in range(len(snapshot.products))]
    texts = (f"{each.title} {each.brand} {each.description}" for each in products)
    there = {word.lower() for text in texts for word in RAW_WORD.findall(text)}
    right_words = [dice.sample(sorted(each), min(words, len(each))) for each in (language_words(), there)]
    changed = [sum(searched(word) != word for word in each) for each in right_words]
    trial = TypoTrial(known, WordCorrector(known), [words_of(each.title) for each in products], dice)
    cases = list(islice(trial.typos(1), typos))

    def corrected(text: str) -> str:
        page = engine.search(text, size=1, stage="merged")
        return page.suggestion if page.corrected else text

    def judge(kind: str, search: Callable[[str], str], most: int) -> TypoCounts:
        queries = [[" ".join((each, *others[:most])) for each in (typo, word)] for typo, word, others in cases]
        found = [(search(typed), typed, right) for typed, right in queries]
        count = sum(text == right for text, _, right in found)
        return TypoCounts(kind, count, sum(text not in (typed, right) for text, typed, right in found))

    ways = {"checked": corrected, "not checked": searched}
    kinds = {"alone": 0, "with two words of its title": 2}
    counts = [judge(f"{kind}, {way}", ways[way], kinds[kind]) for kind, way in product(kinds, ways)]
    (one, many), (few, more) = map(len, right_words), changed
    return CorrectionCounts(one, few, many, more, len(cases), counts)


@contextmanager
def without_intent() -> Iterator[None]:
    """Searches without product types, preferences and the candidate margin."""

    def near(_stages: Stages, _request: object, nearest: NearestRows, _wanted: object) -> np.ndarray:
        return np.ones(len(nearest.rows), bool)

    with ExitStack() as off:
        off.enter_context(patch.object(Stages, "_wanted_types", lambda *_: NO_TYPES))
        off.enter_context(patch.object(Stages, "_are_near", near))
        plain = patch("service.engine.search.query_preferences", lambda text, **_: QueryPreferences(text, text))
        off.enter_context(plain)
        yield


def paired_quality(engine: SearchEngine, queries: Sequence[str], judgments: Judgments) -> PairedFigures:
    """Searches for each query both ways, one search after the other, and compares the orders by query."""
    stages = [stage for stage in ("merged", "ranked") if stage in engine.stages]
    measured: dict[tuple[str, bool], list[tuple[float, float, float]]] = {}
    for query, stage, is_on in product([queries[0], *queries], stages, (True, False)):
        with nullcontext() if is_on else without_intent():
            started = time.perf_counter()
            page = engine.search(query, size=DEPTH, stage=stage, correct=False, rules=False)
            spent = (time.perf_counter() - started) * 1_000
        found = [hit.product.id for hit in page.hits]
        grades = judgments.grades[query]
        best = {each for each, grade in grades.items() if grade == max(grades.values()) > judgments.lowest}
        recall = len(best.intersection(found)) / len(best) if best else np.nan
        measured.setdefault((stage, is_on), []).append((ndcg(found, grades, judgments), recall, spent))
    # The first query warms up.
    arrays = {way: np.array(values[1:]) for way, values in measured.items()}
    quality = [
        PairedQuality(stage, name, float(np.nanmean(on)), float(np.nanmean(off)), paired_bootstrap(on, off))
        for stage in stages
        for column, name in enumerate(("nDCG@10", "R@100"))
        for on, off in [(arrays[stage, True][:, column], arrays[stage, False][:, column])]
    ]
    medians = {way: float(np.median(values[:, 2])) for way, values in arrays.items()}
    return PairedFigures(quality, {stage: (medians[stage, True], medians[stage, False]) for stage in stages})


@command("first_minute typing store")
def typing(
    index: Index,
    words: Annotated[int, typer.Option(help="Number of titles whose last words are cut.", min=1)] = 200,
    letters: Annotated[int, typer.Option(help="Number of letters before the cut.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the drawn titles.")] = 7,
) -> None:
    """Search for the last words of titles while they are typed."""
    with SearchEngine.open(index, follow=False) as engine:
        found = unfinished_words(engine, words, letters, seed)
    emit(found, _show_words)


def _show_words(found: UnfinishedWords) -> None:
    say(
        f"{found.words:,} words, cut: the first ten hits have the whole word for {found.prefix:.1%}; "
        f"for {found.as_typed:.1%} where the cut word is searched for as it is"
    )


@command("first_minute nothing store judgments.tsv other-judgments.tsv")
def nothing(
    index: Index,
    judgments: Annotated[Path, typer.Argument(help="Judged queries of this catalog.", metavar="JUDGMENTS")],
    foreign: Annotated[Path, typer.Argument(help="Judged queries of an unrelated catalog.", metavar="OTHER")],
    count: Annotated[int, typer.Option(help="Queries of each kind.", min=1)] = 250,
    seed: Annotated[int, typer.Option(help="Seed of the drawn queries.")] = 7,
) -> None:
    """Search for products that the catalog does not have, at several cutoffs."""
    dice = random.Random(seed)  # noqa: S311 - the same queries each time
    others = sorted(read_judgments(foreign).grades)
    judged = read_judgments(judgments)
    relevant = {
        query: len(products)
        for query, grades in judged.grades.items()
        if (products := [product for product, grade in grades.items() if grade == max(grades.values()) > judged.lowest])
    }
    queries = dict(dice.sample(sorted(relevant.items()), min(2 * count, len(relevant))))
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        progress.begin("search", None, "")
        curve = cutoff_curve(engine, random_letters(count, seed), dice.sample(others, min(count, len(others))), queries)
        progress.end(f"{len(_SHIFTS)} cutoffs")
    emit(curve, _show_curve, document={"curve": [asdict(each) for each in curve]})


def _show_curve(curve: Sequence[CutoffFigures]) -> None:
    table = figure_table(["cutoff", "random letters", "another trade", "relevant lost"], "without a hit")
    for each in curve:
        shares = (f"{share:.1%}" for share in (each.letters, each.foreign, each.lost))
        table.add_row(f"{each.shift:+.1f}", *shares)
    show_table(table)


@command("first_minute corrections store")
def corrections(
    index: Index,
    words: Annotated[int, typer.Option(help="Dictionary words, and as many of the catalog.", min=1)] = 20_000,
    typos: Annotated[int, typer.Option(help="Number of words of titles that are misspelled.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the drawn words.")] = 7,
) -> None:
    """Count correct words that a search replaces, and planted typos that it corrects."""
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        progress.begin("correct", None, "")
        found = count_corrections(engine, words, typos, seed)
        progress.end(f"{found.dictionary + found.catalog + found.typos:,} words")
    emit(found, _show_corrections)


def _show_corrections(found: CorrectionCounts) -> None:
    say(f"{found.dictionary:,} dictionary words: {found.dictionary_changed} are searched for as another one")
    say(f"{found.catalog:,} words of the catalog: {found.catalog_changed} are searched for as another one")
    table = figure_table([f"{found.typos:,} misspelled words", "put right", "changed wrongly"], "")
    for each in found.corrected:
        table.add_row(each.kind, str(each.right), str(each.wrong))
    show_table(table)
    say("Not checked: whether the corrected query finds better.")


@command("first_minute paired store judgments.tsv")
def paired(
    index: Index,
    judgments: Annotated[Path, typer.Argument(help="Judged queries of this catalog.", metavar="JUDGMENTS")],
    queries: Annotated[int, typer.Option(help="Maximum number of queries.", min=1)] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of the drawn queries.")] = 7,
) -> None:
    """Compare searches with product types, preferences and the candidate margin to searches without them."""
    dice = random.Random(seed)  # noqa: S311 - the same queries each time
    judged = read_judgments(judgments)
    drawn = dice.sample(sorted(judged.grades), min(queries, len(judged.grades)))
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        progress.begin("search", None, "")
        found = paired_quality(engine, drawn, judged)
        progress.end(f"{len(drawn):,} queries")
    emit(found, _show_paired)


def _show_paired(found: PairedFigures) -> None:
    table = figure_table(["", "with", "without", "difference"], "")
    for each in found.quality:
        table.add_row(f"{each.stage} {each.measure}", f"{each.mean:.4f}", f"{each.without:.4f}", str(each.difference))
    for stage, (on, off) in found.p50.items():
        table.add_row(f"{stage} p50 ms", f"{on:.1f}", f"{off:.1f}", f"{on - off:+.1f}")
    show_table(table)


if __name__ == "__main__":
    run_study(typing, corrections, nothing, paired)
