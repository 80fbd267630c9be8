"""The first queries of a shopper: unfinished words, and queries that the catalog has nothing for."""

from __future__ import annotations

import random
import string
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.studies import run_study
from benchmarks.tables import figure_table
from retrieval.judgments import read_judgments
from retrieval.text.analysis import word_term
from retrieval.text.vocabulary import words_of
from service.cli.options import Index, command
from service.cli.output import TerminalProgress, emit, say, show_table
from service.engine.candidates import CandidateLimits, Stages
from service.engine.engine import SearchEngine
from service.engine.request import SearchRequest
from service.engine.search import Search

_SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Of the measured cutoff, in deviations."""


@dataclass(frozen=True, slots=True)
class UnfinishedWords:
    """The last words of titles, cut: the shares that find a product with the whole word among the first ten hits."""

    words: int
    prefix: float
    """With `prefix=True`."""
    as_typed: float


@dataclass(frozen=True, slots=True)
class CutoffFigures:
    """Queries without a hit at one cutoff, as shares."""

    shift: float
    letters: float
    """Of queries of random letters."""
    foreign: float
    """Of another catalog's queries."""
    lost: float
    """Of the judged relevant products, those whose queries have no hit."""


def unfinished_words(engine: SearchEngine, count: int, letters: int, seed: int) -> UnfinishedWords:
    """Searches for the last words of `count` titles, cut after some letters."""
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


@command("first_minute typing store")
def typing(
    index: Index,
    words: Annotated[int, typer.Option(help="How many titles' last words are cut.", min=1)] = 200,
    letters: Annotated[int, typer.Option(help="After how many letters.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Another seed takes other titles.")] = 7,
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
    foreign: Annotated[Path, typer.Argument(help="Judged queries of another trade.", metavar="OTHER")],
    count: Annotated[int, typer.Option(help="Queries of each kind.", min=1)] = 250,
    seed: Annotated[int, typer.Option(help="Another seed takes other queries.")] = 7,
) -> None:
    """Search for what the catalog does not have, at several cutoffs."""
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


if __name__ == "__main__":
    run_study(typing, nothing)
