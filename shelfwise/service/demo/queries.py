"""Queries of the demo store with graded judgments; a query's intent determines the grades."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from shelfwise.service.demo.catalog import (
    GRAMMARS,
    Axis,
    Catalog,
    DemoProduct,
    DescriptiveQuery,
    Dice,
    Grammar,
    ProductType,
    Scalar,
    named_rng,
)

_UNRELATED = 20
"""Products of grade 0 that are judged for each query, half of them from the departments of its targets."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A condition of a query. `field` is an attribute, or brand, price, line or id; a price is a maximum, other values
    must be equal. A product that fails it loses `weight` grades."""

    field: str
    value: Scalar
    weight: int = 1

    def is_met(self, item: DemoProduct) -> bool:
        if self.field == "price":
            return isinstance(self.value, int) and (item.product.price or 0.0) <= self.value
        values: dict[str, object] = {**item.product.attributes, "line": item.line.number, "id": item.product.id}
        return (item.product.brand if self.field == "brand" else values.get(self.field)) == self.value


@dataclass(frozen=True, slots=True)
class Intent:
    """Intent of a query: target types, related types that answer it in part, and requirements."""

    targets: tuple[str, ...]
    near: tuple[str, ...]
    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class GradedProducts:
    """Graded products of one query: positions in the catalog and grades 0 to 3, best first, then by position."""

    positions: NDArray[np.int32]
    grades: NDArray[np.int8]


class Grader:
    """Grades the whole catalog for an intent.

    3: a target type that meets every requirement; 2: one requirement failed; 1: more failed, or a related type; 0: a
    sample of the rest.
    """

    def __init__(self, catalog: Catalog, seed: int) -> None:
        self._catalog = catalog
        self._seed = seed
        self._by_kind = {key: np.array(found, dtype=np.int32) for key, found in catalog.by_kind.items()}
        departments: dict[str, list[str]] = {}
        for key, kind in catalog.kinds.items():
            departments.setdefault(kind.path[0], []).append(key)
        self._by_department = {name: self._all_of(keys) for name, keys in departments.items()}

    def judge(self, name: str, intent: Intent) -> GradedProducts:
        """Grades all products of the target and related types, and a sample of the others (seeded by `name`)."""
        targets = self._all_of(intent.targets)
        near = self._all_of(key for key in intent.near if key not in intent.targets)
        rest = self._unrelated(name, intent)
        grades = np.concatenate(
            [self._grade(targets, intent.requirements), np.ones(len(near), np.int8), np.zeros(len(rest), np.int8)]
        )
        positions = np.concatenate([targets, near, rest])
        order = np.lexsort((positions, -grades))
        return GradedProducts(positions[order], grades[order])

    def _grade(self, positions: NDArray[np.int32], requirements: tuple[Requirement, ...]) -> NDArray[np.int8]:
        if not requirements:
            return np.full(len(positions), 3, np.int8)
        products = self._catalog.products
        missed = [sum(w.weight for w in requirements if not w.is_met(products[at])) for at in positions.tolist()]
        return np.maximum(1, 3 - np.array(missed, dtype=np.int64)).astype(np.int8)

    def _unrelated(self, name: str, intent: Intent) -> NDArray[np.int32]:
        rng = named_rng(self._seed, f"grading/{name}")
        departments = {self._catalog.kinds[key].path[0] for key in intent.targets}
        close = np.concatenate([self._by_department[department] for department in sorted(departments)])
        drawn = np.concatenate(
            [close[rng.integers(len(close), size=_UNRELATED // 2)], rng.integers(len(self._catalog.products), size=20)]
        )
        related = {*intent.targets, *intent.near}
        kept = (at for at in drawn.tolist() if self._catalog.products[at].line.kind.key not in related)
        return np.array(list(dict.fromkeys(kept))[:_UNRELATED], dtype=np.int32)

    def _all_of(self, keys: Iterable[str]) -> NDArray[np.int32]:
        return np.concatenate([np.empty(0, np.int32), *(self._by_kind[key] for key in keys)])


_WORD = re.compile(r"[^\W_]+")
_SHORTEST_MISSPELT = 5


class QueryClass(StrEnum):
    """Class of a query by its difficulty for a search engine."""

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
    """A query and its intent."""

    text: str
    label: QueryClass
    language: str
    """"en", "zh", or "mixed"."""
    intent: Intent

    @property
    def split(self) -> str:
        """train (60%), dev (20%) or test (20%), by a hash of the text: other queries do not change the split of one."""
        bucket = int(hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()[:8], 16) % 10
        return "train" if bucket < 6 else "dev" if bucket < 8 else "test"


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query with its graded products."""

    query: DemoQuery
    judged: GradedProducts


def make_queries(catalog: Catalog, seed: int) -> tuple[JudgedQuery, ...]:
    """All queries with their graded products, each text once."""
    grader = Grader(catalog, seed)
    found: dict[str, DemoQuery] = {}
    for grammar in GRAMMARS:
        for query in _Phrasebook(catalog, grammar, seed).queries():
            found.setdefault(query.text, query)
    return tuple(JudgedQuery(query, grader.judge(query.text, query.intent)) for query in found.values())


class _Phrasebook:
    """Generator of the queries of one language."""

    def __init__(self, catalog: Catalog, grammar: Grammar, seed: int) -> None:
        self._catalog = catalog
        self._grammar = grammar
        self._seed = seed
        related = {key: {*kind.related} for key, kind in catalog.kinds.items()}
        for key, kind in catalog.kinds.items():
            if kind.counterpart:
                related[key].add(kind.counterpart)
                related[kind.counterpart].add(key)
        self._neighbours = {key: tuple(sorted(each)) for key, each in related.items()}
        """Related types by type, including the counterpart in the other language."""

    def queries(self) -> Iterator[DemoQuery]:
        grammar = self._grammar
        for kind in grammar.types:
            yield self._about(kind.names[0].lower(), QueryClass.HEAD, kind)
        yield from (self._wanted(want, QueryClass.HEAD) for want in grammar.broad)
        for kind in grammar.types:
            yield from (self._about(word, QueryClass.SYNONYM, kind) for word in kind.synonyms)
        yield from self._misspellings()
        yield from self._with_requirements()
        yield from (self._wanted(want, QueryClass.GIFT) for want in grammar.gifts)
        yield from (self._wanted(want, QueryClass.USE_CASE) for want in grammar.uses)
        yield from self._identifiers()
        yield from (self._wanted(want, QueryClass.MIXED) for want in grammar.mixed)

    def _about(
        self, text: str, label: QueryClass, kind: ProductType, requirements: tuple[Requirement, ...] = ()
    ) -> DemoQuery:
        intent = Intent((kind.key,), self._neighbours[kind.key], requirements)
        return DemoQuery(text, label, self._grammar.language, intent)

    def _wanted(self, want: DescriptiveQuery, label: QueryClass) -> DemoQuery:
        kinds = self._catalog.kinds
        pairs = ((key, other) for key in want.targets for other in self._neighbours[key])
        twins = {two for one, two in pairs if kinds[one].counterpart == two or kinds[two].counterpart == one}
        near = tuple(sorted({*want.near, *twins} - {*want.targets}))
        language = "mixed" if label is QueryClass.MIXED else self._grammar.language
        return DemoQuery(want.text, label, language, Intent(want.targets, near))

    def _misspellings(self) -> Iterator[DemoQuery]:
        dice = Dice(self._seed, f"queries/misspellings/{self._grammar.language}")
        known = {word for item in self._catalog.products for word in _WORD.findall(item.product.title.lower())}
        for kind in self._grammar.types:
            for typo in kind.typos:
                yield self._about(typo, QueryClass.MISSPELLING, kind)
            right = max(_WORD.findall(kind.names[0].lower()), key=len)
            # `misspell` changes Latin letters; Chinese typos (a wrong character of similar sound) are in the grammar.
            if not right.isascii() or len(right) < _SHORTEST_MISSPELT or not dice.chance(0.7):
                continue
            wrong = right
            while wrong in known:
                wrong = misspell(right, dice)
            text = kind.names[0].lower().replace(right, wrong)
            yield self._about(text, QueryClass.MISSPELLING, kind)

    def _with_requirements(self) -> Iterator[DemoQuery]:
        dice = Dice(self._seed, f"queries/wishes/{self._grammar.language}")
        for kind in self._grammar.types:
            for _ in range(2 if dice.chance(0.3) else 1):
                if phrased := phrase_requirements(self._any_of(kind, dice), self._grammar, dice):
                    text, requirements = phrased
                    yield self._about(text, QueryClass.ATTRIBUTE, kind, requirements)

    def _identifiers(self) -> Iterator[DemoQuery]:
        dice = Dice(self._seed, f"queries/identifiers/{self._grammar.language}")
        for at, kind in enumerate(dice.some(self._grammar.types, len(self._grammar.types) // 2)):
            item = self._any_of(kind, dice)
            forms = _MODEL_FORMS if kind.technical else _EXACT_FORMS
            requirements = (
                (Requirement("line", item.line.number, weight=2),)
                if kind.technical
                else (Requirement("line", item.line.number), Requirement("id", item.product.id))
            )
            intent = Intent((kind.key,), (), requirements)
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


_VOWELS = "aeiou"
_NICE_CEILINGS = (5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600, 800, 1000)


def phrase_requirements(item: DemoProduct, grammar: Grammar, dice: Dice) -> tuple[str, tuple[Requirement, ...]] | None:
    """Text and requirements of a query that this product meets; None if it has neither attribute nor price to name."""
    values = ((axis, item.product.attributes[axis.name]) for axis in item.line.kind.axes)
    known = [(axis, value) for axis, value in values if axis.phrases and not isinstance(value, tuple)]
    requested = dice.some([each for each in known if each[1] is not False], 1 + dice.below(2))
    ceiling: int | None = None
    if dice.chance(0.4) or not requested:
        price = (item.product.price or 0.0) * (1 + 0.3 * dice.unit())
        ceiling = next((bound for bound in _NICE_CEILINGS if bound >= price), None)
    brand = item.product.brand if dice.chance(0.15) else ""
    if not requested and ceiling is None:
        return None
    leading = [_spoken(axis, value, grammar, dice) for axis, value in requested if axis.precedes_type]
    trailing = [_spoken(axis, value, grammar, dice) for axis, value in requested if not axis.precedes_type]
    requirements = [Requirement(axis.name, value) for axis, value in requested]
    if ceiling is not None:
        trailing.append(dice.pick(grammar.ceilings).format(ceiling))
        requirements.append(Requirement("price", ceiling))
    if brand:
        leading.insert(0, brand.lower())
        requirements.append(Requirement("brand", brand))
    between = " " if grammar.language == "en" else ""
    kind = item.line.kind
    if kind.synonyms and dice.chance(0.3):
        noun = dice.pick(kind.synonyms)
    else:
        noun = kind.names[0] if dice.chance(0.8) else dice.pick(kind.names)
    words = between.join((*leading, noun.lower()))
    return " ".join((words, *trailing)), tuple(requirements)


def _spoken(axis: Axis, value: Scalar, grammar: Grammar, dice: Dice) -> str:
    text = dice.pick(axis.phrases).format(value)
    if grammar.language != "en":
        return text
    # Half of the shoppers type "mens shoes".
    return text.lower().replace("'", "") if dice.chance(0.5) else text.lower()


def misspell(word: str, dice: Dice) -> str:
    """The word with one typo: two letters swapped, one dropped, one doubled, or a vowel replaced."""
    at = 1 + dice.below(len(word) - 2)
    slip = dice.below(4)
    if slip == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if slip == 1:
        return word[:at] + word[at + 1 :]
    if slip == 2:
        return word[:at] + word[at] + word[at:]
    vowels = [place for place in range(1, len(word)) if word[place] in _VOWELS] or [at]
    place = dice.pick(vowels)
    return word[:place] + dice.pick([vowel for vowel in _VOWELS if vowel != word[place]]) + word[place + 1 :]
