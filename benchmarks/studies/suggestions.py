"""Latency of suggestions, quality of spelling corrections, and, on the demo store, of proposed synonyms and choices."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.latency import title_queries
from benchmarks.studies import run_study
from benchmarks.tables import difference_cells, figure_table
from indexer.version_writer import WordsWriter
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.sessions.tables import open_derived
from retrieval.filters.ast import In, format_filter
from retrieval.filters.schema import field_values
from retrieval.html_report import printable
from retrieval.judgments import read_judgments
from retrieval.progress import Progress
from retrieval.records import Page, Product
from retrieval.store.manifest import EVENTS_FOLDER
from retrieval.store.products import product_to_json
from retrieval.text.analysis import word_term
from retrieval.text.vocabulary import SHORTEST_TWICE, CatalogWords, edits_of, words_of
from service.cli.options import Index, QueriesFile, command
from service.cli.output import TerminalProgress, emit, say, show_table
from service.curation.synonym_mining import Proposal, joined, split, synonym_proposals
from service.curation.synonyms import serving_words
from service.demo.catalog import Catalog, Dice, make_catalog
from service.demo.grammar import GRAMMARS
from service.demo.queries import phrase_requirements
from service.engine.engine import SearchEngine
from service.engine.snapshot import Products
from service.engine.spelling import WordCorrector
from service.events.event_log import DERIVED_FOLDER
from service.web.pages import used_fields

# The latency of suggestions while queries are typed, and the quality of spelling corrections.

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MOST_TRIES = 20
_CONTEXT_WORDS = 2
"""The number of other words of the title in a query with a typo, as in a short query."""


@dataclass(frozen=True, slots=True)
class SuggestLatency:
    """The latency of a suggestion after each letter, in milliseconds."""

    keystrokes: int
    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class TypoFigures:
    """The outcomes of corrections in numbers of words; the `sure` ones are searched for without asking."""

    kind: str
    words: int
    right: int
    wrong: int
    sure_right: int
    sure_wrong: int

    @property
    def recall(self) -> float:
        """The share of the words that are corrected rightly."""
        return self.right / self.words if self.words else 0.0

    @property
    def precision(self) -> float:
        """The share of all corrections that are right; 1 without corrections."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0


def measure_keystrokes(suggest: Callable[[str], object], queries: Sequence[str], count: int) -> SuggestLatency:
    """Times every prefix of the queries, letter by letter, up to `count` prefixes."""
    prefixes = [query[:end] for query in queries for end in range(1, len(query) + 1)][:count]
    spent = []
    for prefix in prefixes:
        started = time.perf_counter()
        suggest(prefix)
        spent.append((time.perf_counter() - started) * 1_000)
    p50, p99 = np.percentile(spent, [50, 99])
    return SuggestLatency(len(spent), float(p50), float(p99), max(spent))


def measure_typos(products: Products, count: int, seed: int) -> list[TypoFigures]:
    """Learns words from one half of the products and corrects words of the other half's titles: with one and two
    planted typos, and unchanged words that the first half does not have."""
    rows = range(len(products))
    titles = [words_of(products[row].title) for row in rows[1::2]]
    dice = random.Random(seed)  # noqa: S311 - the same typos each time
    with tempfile.TemporaryDirectory() as scratch:
        writer = WordsWriter()
        writer.add(product_to_json(products[row]) for row in rows[::2])
        writer.finish(Path(scratch) / "words")
        words = CatalogWords.open(Path(scratch) / "words")
        trial = TypoTrial(words, WordCorrector(words), titles, dice)
        return [
            trial.planted("1 edit", count, edits=1),
            trial.planted(f"2 edits, from {SHORTEST_TWICE} letters", count, edits=2),
            trial.untouched("right but unknown", count),
        ]


@dataclass(frozen=True, slots=True)
class TypoTrial:
    """Words of titles to correct, with typos and unchanged."""

    words: CatalogWords
    corrections: WordCorrector
    titles: Sequence[list[str]]
    dice: random.Random

    def planted(self, kind: str, count: int, *, edits: int) -> TypoFigures:
        """The outcomes for misspelled words that the catalog knows."""
        counts = [0, 0, 0, 0]
        cases = list(islice(self.typos(edits), count))
        for typo, token, others in cases:
            self._judge(counts, typo, token, others)
        return TypoFigures(kind, len(cases), *counts)

    def typos(self, edits: int) -> Iterator[tuple[str, str, list[str]]]:
        """Misspelled words, each with the right one and a few others of its title."""
        for token, others in self._drawn(edits):
            if token in self.words and (typo := self._misspelled(token, edits)):
                yield typo, token, others

    def untouched(self, kind: str, count: int) -> TypoFigures:
        """The outcomes for words that the catalog does not know, nor any form of them by which the search would find
        them; every correction of these is wrong."""
        counts = [0, 0, 0, 0]
        known = self.words.postings
        terms = {word_term(known[place]) for place in range(len(known))}
        unknown = sorted(
            {token for title in self.titles for token in title if edits_of(token) and word_term(token) not in terms}
        )
        drawn = self.dice.sample(unknown, min(count, len(unknown)))
        for token in drawn:
            self._judge(counts, token, token, ())
        return TypoFigures(kind, len(drawn), *counts)

    def _judge(self, counts: list[int], typed: str, right: str, others: Sequence[str]) -> None:
        """Adds to the counts of `TypoFigures`, in their order."""
        correction = self.corrections.correct(typed, others)
        if correction:
            is_wrong = correction.text != right
            counts[is_wrong] += 1
            counts[2 + is_wrong] += correction.is_sure

    def _drawn(self, edits: int) -> Iterator[tuple[str, list[str]]]:
        """Words of titles by their frequency there, each with a few others of its title."""
        for _ in range(100 * len(self.titles)):
            title = self.dice.choice(self.titles)
            long_enough = [token for token in title if edits_of(token) >= edits]
            if long_enough:
                token = self.dice.choice(long_enough)
                others = [other for other in title if other != token and other in self.words]
                yield token, self.dice.sample(others, min(_CONTEXT_WORDS, len(others)))

    def _misspelled(self, token: str, edits: int) -> str:
        """The token with typos, which is not a token of the catalog; empty if every try is one."""
        for _ in range(_MOST_TRIES):
            typo = token
            for _ in range(edits):
                typo = _edited(typo, self.dice)
            if typo != token and typo not in self.words and edits_of(typo) >= edits:
                return typo
        return ""


def _edited(token: str, dice: random.Random) -> str:
    """The token with one letter omitted, inserted, replaced, or swapped with the next one, with equal probability."""
    at = dice.randrange(len(token))
    letter = dice.choice(_LETTERS)
    swapped = token[:at] + token[at + 1 : at + 2] + token[at] + token[at + 2 :]
    return dice.choice(
        [token[:at] + token[at + 1 :], token[:at] + letter + token[at:], token[:at] + letter + token[at + 1 :], swapped]
    )


# The quality of the synonyms proposed from shoppers' queries, on the demo store, whose synonyms are known.


@dataclass(frozen=True, slots=True)
class ProposalQuality:
    """The quality of the proposals."""

    proposals: int
    right: int
    """The number of proposals both of whose sides are names of one type in the demo store's grammar."""
    planted: int
    """The number of words of the grammar that no title has, and that enough shoppers searched for."""
    found: int
    """The number of these that are one side of a right proposal."""
    wrong: tuple[str, ...]
    """Proposals that are not right, the strongest first."""
    precision_at: Mapping[int, float]
    """The precision of the strongest proposals, by their number."""

    @property
    def precision(self) -> float:
        """The share of the proposals that are right."""
        return self.right / self.proposals if self.proposals else 1.0

    @property
    def recall(self) -> float:
        """The share of the planted words that are found."""
        return self.found / self.planted if self.planted else 1.0


_AT = (10, 25, 50, 100)


def judge_proposals(proposals: Sequence[Proposal], searched: Iterable[str]) -> ProposalQuality:
    """Compares proposals with the grammar's names; `searched` are the queries of enough shoppers."""
    types, planted = _names()
    found: set[str] = set()
    marks: list[bool] = []
    wrong: list[str] = []
    for proposal in proposals:
        pairs = list(_pairs(proposal))
        is_right = all(types.get(one, set()) & types.get(other, set()) for one, other in pairs)
        marks.append(is_right)
        if is_right:
            found.update(phrase for pair in pairs for phrase in pair)
        else:
            wrong.append(proposal.synonym.line)
    reachable = planted & {_plain(query) for query in searched}
    precision_at = {size: sum(marks[:size]) / size for size in _AT if size <= len(marks)}
    return ProposalQuality(len(marks), sum(marks), len(reachable), len(found & reachable), tuple(wrong), precision_at)


def _pairs(proposal: Proposal) -> Iterator[tuple[str, str]]:
    for one, other in product(proposal.phrases, proposal.to) if proposal.to else [proposal.phrases[:2]]:
        yield _plain(one), _plain(other)


def _names() -> tuple[dict[str, set[str]], set[str]]:
    """The types of each name, and the names that no title has."""
    types: dict[str, set[str]] = {}
    planted: set[str] = set()
    for kind in (kind for grammar in GRAMMARS for kind in grammar.types):
        for name in (*kind.names, *kind.synonyms):
            types.setdefault(_plain(name), set()).add(kind.key)
        planted.update(map(_plain, kind.synonyms))
    return types, planted


def _plain(phrase: str) -> str:
    return joined(split(phrase))


@command("suggestions suggest store --judgments judgments.tsv")
def suggest(
    index: Index,
    judgments: QueriesFile = None,
    count: Annotated[int, typer.Option(help="Maximum number of typed letters.", min=100)] = 10_000,
    words: Annotated[int, typer.Option(help="Number of words misspelled in each way.", min=10)] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of the typos.")] = 7,
) -> None:
    """Time a suggestion after each letter of typed queries, and correct typos planted in held-out titles."""
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        queries = list(read_judgments(judgments).grades) if judgments else title_queries(engine, count)
        progress.begin("suggest", None, "")
        latency = measure_keystrokes(engine.suggest, queries, count)
        progress.end(f"{latency.keystrokes:,} letters")
        progress.begin("correct", None, "")
        typos = measure_typos(engine.snapshot.products, words, seed)
        progress.end(f"{sum(each.words for each in typos):,} words")
        products = engine.manifest.products
    figures = [{**asdict(each), "recall": each.recall, "precision": each.precision} for each in typos]
    document = {"products": products, "suggest": asdict(latency), "typos": figures}
    emit(latency, show_suggesting, typos, products, document=document)


def show_suggesting(latency: SuggestLatency, typos: Sequence[TypoFigures], products: int) -> None:
    """Milliseconds of a suggestion, and corrections by kind of token."""
    say(
        f"{products:,} products, {latency.keystrokes:,} letters typed: p50 {latency.p50:.2f} ms, "
        f"p99 {latency.p99:.2f} ms, most {latency.most:.1f} ms"
    )
    table = figure_table(["words", "count", "right", "wrong", "certain, right", "certain, wrong"], "corrected")
    for each in typos:
        counts = (each.right, each.wrong, each.sure_right, each.sure_wrong)
        table.add_row(each.kind, f"{each.words:,}", *(f"{count / max(each.words, 1):.1%}" for count in counts))
    show_table(table)


@command("suggestions synonyms demo-store")
def synonyms(demo: Annotated[Path, typer.Argument(help="A folder made by shelfwise demo.", metavar="DEMO")]) -> None:
    """Compare the synonyms that shoppers' queries propose with those that the demo store's grammar has.

    A proposal is right if both sides are names of one type of product. Planted names are those that no title has and
    that enough shoppers searched for; found ones are those that a right proposal starts from.
    """
    index = demo / "index"
    derived = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER)
    found = judge_proposals(synonym_proposals(derived, serving_words(index)), derived.queries["query"].to_list())
    emit(found, show_proposals, document=asdict(found) | {"precision": found.precision, "recall": found.recall})


def show_proposals(found: ProposalQuality) -> None:
    """Precision, recall, and the wrong proposals."""
    at = ", ".join(f"{share:.0%} of the first {size}" for size, share in found.precision_at.items())
    say(f"{found.proposals:,} proposals, {found.right:,} right: precision {found.precision:.1%} ({at})")
    say(f"{found.planted:,} planted, {found.found:,} found: recall {found.recall:.1%}")
    if found.wrong:
        say("Not names of one type:\n" + "\n".join(f"  {printable(line)}" for line in found.wrong))


# Guided choice compared with the facets of the store page: simulated shoppers narrow a broad query to a product.
#
# A shopper types the name of a product type, looks for one product of it, and wants the values that the grammar of the
# demo store draws for its queries: one or two attributes, sometimes the price or the brand. While the product is not
# on the page, the shopper clicks the first of its wanted values: among the choices that the page proposes and then
# its facets, or among the facets alone, which have one order for all queries. Without a value left the shopper turns
# pages. Every click counts.

_PAGE, _DEEP = 20, 1_000
_FACET_VALUES = 10
"""The number of values that a facet shows before "more"."""
_CHOICES = 3
Options = Iterable[tuple[str, str]]
"""Fields, each with the filter of a value that the page shows, as the page orders them."""
WAYS = ("choices", "facets", "pages")


@dataclass(frozen=True, slots=True)
class ClickFigures:
    """Mean clicks until the wanted product is on the page, by way, and the difference from facets."""

    shoppers: int
    clicks: Mapping[str, float]
    less_facets: Difference
    less_pages: Difference


def measure_clicks(
    engine: SearchEngine, catalog: Catalog, shoppers: int, seed: int, progress: Progress
) -> ClickFigures:
    """Means over shoppers whose product is behind the first page of its type's name."""
    dice = Dice(seed, "guided choice")
    grammars = {grammar.language: grammar for grammar in GRAMMARS}
    clicks: list[list[int]] = []
    progress.begin("shoppers", shoppers, "shoppers")
    while len(clicks) < shoppers:
        item = dice.pick(catalog.products)
        phrased = phrase_requirements(item, grammars[item.product.language or "en"], dice)
        query = item.line.kind.names[0]
        if phrased and item.product.id in _ids(engine.search(query, size=_DEEP))[_PAGE:]:
            shopper = _Shopper(engine, query, item.product, {each.field for each in phrased[1]})
            clicks.append([shopper.clicks(way) for way in WAYS])
            progress.advance(1)
    progress.end(f"{shoppers} shoppers")
    found = np.array(clicks, np.float64)
    means = dict(zip(WAYS, found.mean(axis=0).tolist(), strict=True))
    less = [paired_bootstrap(found[:, 0], found[:, at]) for at in (1, 2)]
    return ClickFigures(shoppers, means, *less)


@dataclass(frozen=True, slots=True)
class _Shopper:
    """A shopper who looks for a product and wants the values of some of its fields."""

    engine: SearchEngine
    query: str
    wanted: Product
    fields: Collection[str]

    def clicks(self, way: str) -> int:
        """The number of clicks until the product is on the page."""
        filters: list[str] = []
        used: set[str] = set()
        while True:
            where = " AND ".join(filters)
            rank = _ids(self.engine.search(self.query, size=_DEEP, filters=where)).index(self.wanted.id)
            options = () if rank < _PAGE or way == "pages" else _OPTIONS[way](self, where)
            option = next(((name, each) for name, each in options if name not in used), None)
            if option is None:
                return len(filters) + rank // _PAGE
            used.add(option[0])
            filters.append(f"({option[1]})")

    def of_choices(self, filters: str) -> Options:
        """Values among the choices, and then among the facets."""
        for choice in self.engine.search(self.query, filters=filters, choices=_CHOICES).choices:
            for each in choice.values:
                wants = self._wants(choice.field, each.value)
                if self._wants_range(choice.field, each.low, each.high) if each.value is None else wants:
                    yield choice.field, each.filter
        yield from self.of_facets(filters)

    def of_facets(self, filters: str) -> Options:
        """Values among the facets of the store page."""
        fields, _ = used_fields(self.engine.snapshot.catalog, self.engine.manifest.products)
        page = self.engine.search(
            self.query, filters=filters, facets=fields, ranges=["price"], facet_values=_FACET_VALUES
        )
        for name in fields:
            if name == "price":
                ranges = page.ranges[name]
                yield from ((name, each.filter) for each in ranges if self._wants_range(name, each.low, each.high))
            else:
                values = (each.value for each in page.facets[name].counts)
                yield from ((name, format_filter(In(name, (each,)))) for each in values if self._wants(name, each))

    def _wants(self, field: str, value: str | float | bool | None) -> bool:
        cares = field.removeprefix("attributes.") in self.fields
        return cares and any(name == field and own == value for name, _, own in field_values(self.wanted))

    def _wants_range(self, field: str, low: float | None, high: float | None) -> bool:
        own = [value for name, _, value in field_values(self.wanted) if name == field and not isinstance(value, str)]
        cares = field.removeprefix("attributes.") in self.fields
        return cares and any((low or 0) <= value < (math.inf if high is None else high) for value in own)


_OPTIONS: Mapping[str, Callable[[_Shopper, str], Options]] = {
    "choices": _Shopper.of_choices,
    "facets": _Shopper.of_facets,
}


def _ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


@command("suggestions choices demo-store/index")
def choices(
    index: Index,
    demo_seed: Annotated[int, typer.Option(help="Seed of the index's demo store.")] = 7,
    shoppers: Annotated[int, typer.Option(help="Number of shoppers who each look for a product.", min=10)] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the shoppers.")] = 0,
) -> None:
    """Count the clicks of simulated shoppers of a demo store with guided choice, with plain facets, and by turning
    pages."""
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        catalog = make_catalog(demo_seed, engine.manifest.products)
        found = measure_clicks(engine, catalog, shoppers, seed, progress)
    emit(found, show_clicks, document=asdict(found))


def show_clicks(found: ClickFigures) -> None:
    """The mean clicks of each way, and the differences."""
    table = figure_table(["way", "clicks"], f"{found.shoppers:,} shoppers")
    for way, clicks in found.clicks.items():
        table.add_row(way, f"{clicks:.2f}")
    differences = figure_table(["choices less", "clicks", "from", "to"], "95% intervals")
    differences.add_row("facets", *difference_cells(found.less_facets))
    differences.add_row("pages", *difference_cells(found.less_pages))
    show_table(table, differences)


if __name__ == "__main__":
    run_study(suggest, synonyms, choices)
