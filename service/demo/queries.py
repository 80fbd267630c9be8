"""The demo store's queries: each with its class, its split, and the intent that its grades follow from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from service.demo.catalog import GRAMMARS, Catalog, DemoProduct
from service.demo.dice import Dice
from service.demo.grading import Grader, Intent, Judged, Wish
from service.demo.grammar import Grammar, ProductType, Want
from service.demo.phrasing import misspell, phrase_wishes

_WORD = re.compile(r"[^\W_]+")
_SHORTEST_MISSPELT = 5


class QueryClass(StrEnum):
    """What makes a query easy or hard."""

    HEAD = "head"
    SYNONYM = "synonym"
    MISSPELLING = "misspelling"
    ATTRIBUTE = "attribute"
    GIFT = "gift"
    USE_CASE = "use_case"
    IDENTIFIER = "identifier"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class DemoQuery:
    """A query, what it is after, and the words in it that are spelled wrong."""

    text: str
    label: QueryClass
    language: str
    """"en", "zh", or "mixed"."""
    intent: Intent
    misspelt: tuple[str, ...] = ()

    @property
    def split(self) -> str:
        """train (60%), dev (20%) or test (20%), by a hash of the text, so that no change of the set moves a query."""
        bucket = int(hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()[:8], 16) % 10
        return "train" if bucket < 6 else "dev" if bucket < 8 else "test"


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query with its graded products."""

    query: DemoQuery
    judged: Judged


def make_queries(catalog: Catalog, seed: int) -> tuple[JudgedQuery, ...]:
    """All queries, each text once, with their grades."""
    grader = Grader(catalog, seed)
    found: dict[str, DemoQuery] = {}
    for grammar in GRAMMARS:
        for query in _Phrasebook(catalog, grammar, seed).queries():
            found.setdefault(query.text, query)
    return tuple(JudgedQuery(query, grader.judge(query.text, query.intent)) for query in found.values())


def title_words(catalog: Catalog) -> frozenset[str]:
    """Every word of every title, in lower case."""
    return frozenset(word for item in catalog.products for word in _WORD.findall(item.product.title.lower()))


class _Phrasebook:
    """Phrases the queries of one language."""

    def __init__(self, catalog: Catalog, grammar: Grammar, seed: int) -> None:
        self._catalog = catalog
        self._grammar = grammar
        self._seed = seed
        self._neighbours = _neighbours(catalog.kinds)

    def queries(self) -> Iterator[DemoQuery]:
        grammar = self._grammar
        for kind in grammar.types:
            yield self._about(kind.names[0].lower(), QueryClass.HEAD, kind)
        yield from (self._wanted(want, QueryClass.HEAD) for want in grammar.broad)
        for kind in grammar.types:
            yield from (self._about(word, QueryClass.SYNONYM, kind) for word in kind.also)
        yield from self._misspellings()
        yield from self._with_wishes()
        yield from (self._wanted(want, QueryClass.GIFT) for want in grammar.gifts)
        yield from (self._wanted(want, QueryClass.USE_CASE) for want in grammar.uses)
        yield from self._identifiers()
        yield from (self._wanted(want, QueryClass.MIXED) for want in grammar.mixed)

    def _about(self, text: str, label: QueryClass, kind: ProductType, wishes: tuple[Wish, ...] = ()) -> DemoQuery:
        intent = Intent((kind.key,), self._neighbours[kind.key], wishes)
        return DemoQuery(text, label, self._grammar.language, intent)

    def _wanted(self, want: Want, label: QueryClass) -> DemoQuery:
        twins = {twin for key in want.targets for twin in self._neighbours[key] if _are_twins(self._catalog, key, twin)}
        near = tuple(sorted({*want.near, *twins} - {*want.targets}))
        language = "mixed" if label is QueryClass.MIXED else self._grammar.language
        return DemoQuery(want.text, label, language, Intent(want.targets, near))

    def _misspellings(self) -> Iterator[DemoQuery]:
        dice = Dice(self._seed, f"queries/misspellings/{self._grammar.language}")
        known = title_words(self._catalog)
        for kind in self._grammar.types:
            for typo in kind.typos:
                yield self._misspelt(kind, typo, typo)
            right = max(_WORD.findall(kind.names[0].lower()), key=len)
            # The rule of slips is about letters; Chinese ones (a wrong character of like sound) are in the grammar.
            if not right.isascii() or len(right) < _SHORTEST_MISSPELT or not dice.chance(0.7):
                continue
            wrong = right
            while wrong in known:
                wrong = misspell(right, dice)
            yield self._misspelt(kind, kind.names[0].lower().replace(right, wrong), wrong)

    def _misspelt(self, kind: ProductType, text: str, word: str) -> DemoQuery:
        query = self._about(text, QueryClass.MISSPELLING, kind)
        return DemoQuery(query.text, query.label, query.language, query.intent, (word,))

    def _with_wishes(self) -> Iterator[DemoQuery]:
        dice = Dice(self._seed, f"queries/wishes/{self._grammar.language}")
        for kind in self._grammar.types:
            for _ in range(2 if dice.chance(0.3) else 1):
                phrased = phrase_wishes(self._any_of(kind, dice), self._grammar, dice)
                if phrased:
                    yield self._about(phrased.text, QueryClass.ATTRIBUTE, kind, phrased.wishes)

    def _identifiers(self) -> Iterator[DemoQuery]:
        dice = Dice(self._seed, f"queries/identifiers/{self._grammar.language}")
        for at, kind in enumerate(dice.some(self._grammar.types, len(self._grammar.types) // 2)):
            item = self._any_of(kind, dice)
            forms = _MODEL_FORMS if kind.technical else _EXACT_FORMS
            wishes = (
                (Wish("line", item.line.number, weight=2),)
                if kind.technical
                else (Wish("line", item.line.number), Wish("id", item.product.id))
            )
            intent = Intent((kind.key,), (), wishes)
            text = forms[at % len(forms)](item)
            yield DemoQuery(text, QueryClass.IDENTIFIER, self._grammar.language, intent)

    def _any_of(self, kind: ProductType, dice: Dice) -> DemoProduct:
        return self._catalog.products[dice.pick(self._catalog.by_kind[kind.key])]


_EXACT_FORMS: tuple[Callable[[DemoProduct], str], ...] = (
    lambda item: item.product.identifiers["mpn"][0],
    lambda item: item.product.identifiers["ean"][0],
    lambda item: item.product.identifiers["sku"][0],
    lambda item: item.product.identifiers["mpn"][0].lower(),
)

# Only the titles of technical types carry the model number, which all variants of the line share.
_MODEL_FORMS: tuple[Callable[[DemoProduct], str], ...] = (
    lambda item: item.line.model,
    lambda item: f"{item.product.brand} {item.line.model}".lower(),
    lambda item: f"{item.line.model} {item.line.kind.names[0]}".lower(),
)


def _neighbours(kinds: Mapping[str, ProductType]) -> dict[str, tuple[str, ...]]:
    """For each type the related ones, and the same thing in the other language (right, but not to be read by all)."""
    found = {key: {*kind.related} for key, kind in kinds.items()}
    for key, kind in kinds.items():
        if kind.twin:
            found[key].add(kind.twin)
            found[kind.twin].add(key)
    return {key: tuple(sorted(related)) for key, related in found.items()}


def _are_twins(catalog: Catalog, one: str, other: str) -> bool:
    return catalog.kinds[one].twin == other or catalog.kinds[other].twin == one
