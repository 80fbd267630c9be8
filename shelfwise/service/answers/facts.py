"""Facts of a product, field by field, and their match with a question."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from shelfwise.indexer.cleaning.text import parse_quantity
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.errors import EncoderError
from shelfwise.retrieval.index.vectors import Background
from shelfwise.retrieval.records import AttributeValue, Product
from shelfwise.retrieval.text.analysis import HAN, contains_chinese, fold, word_term
from shelfwise.service.answers.questions import (
    Bound,
    Question,
    Word,
    chinese_label,
    concept_terms,
    content_terms,
    named_fields,
    neutral_terms,
    quantities_in,
    split_words,
    unit_of,
    with_same,
)
from shelfwise.service.curation.relevance import without_fields

_CORE: Mapping[str, str] = {
    "price": "price cost",
    "brand": "brand manufacturer maker",
    "availability": "availability stock",
    "rating": "rating",
    "category": "category",
    "sku": "sku",
    "ean": "ean gtin barcode upc",
    "mpn": "mpn model part",
}
"""Fields that every product has, with the words by which questions ask for them."""
_SPELLED_UNITS = """
in ft yd mm cm m km gal qt pt oz lb kg g mg l ml cl V kV W kW Wh kWh mAh Ah A mA Hz kHz MHz GHz KB MB GB TB MP psi rpm
dB ga deg
"""
_UNITS = {unit.lower(): unit for unit in _SPELLED_UNITS.split()} | {"lm": "lumens"}
"""Units that end the name of a field, as they are displayed."""
_FLUID = re.compile("capacity|volume")
_UNIT_OF = re.compile("_units?$")
"""End of the name of an attribute that is the unit of another: "weight_unit"."""


@dataclass(frozen=True, slots=True)
class FieldName:
    """The name of a field, split into words."""

    name: str
    """Name in filters, without "attributes."."""
    label: str
    terms: frozenset[str]
    neutral: frozenset[str]
    unit: str
    """Last part of the name, if it is a unit ("weight_lb")."""


@lru_cache(maxsize=2**14)
def read_name(name: str) -> FieldName:
    """The words of a field's name: "operating_temperature" and "batteryLife" have two."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[\s_.:/()\[\]（）-]+", spaced) if word]
    unit = words[-1].lower() if len(words) > 1 and words[-1].lower() in _UNITS else ""
    words = words[:-1] if unit else words
    label = " ".join(words)
    if name in _CORE:
        terms = frozenset(word_term(word) for word in _CORE[name].split())
        return FieldName(name, label.upper() if len(label) < 4 else label.capitalize(), terms, frozenset(), "")
    if contains_chinese(label):
        terms = concept_terms(label) or frozenset(content_terms(label)) or frozenset({fold(label)})
        return FieldName(name, label, terms, frozenset(), unit)
    # Questions do not ask for "of"; numbers distinguish "tray 1" from "tray 2".
    found = frozenset(content_terms(label)) or frozenset({fold(label)})
    narrow = neutral_terms() | {term for term in found if term.isdecimal()}
    neutral = found & narrow if found - narrow else frozenset()
    return FieldName(name, label[:1].upper() + label[1:], found - neutral, neutral, unit)


@dataclass(frozen=True, slots=True)
class Fact:
    """A field of a product with its stored value."""

    field: FieldName
    value: AttributeValue
    shown: str
    """Value for display, with its unit."""

    @property
    def text(self) -> str:
        """The fact as it is quoted: "Voltage: 12 V"."""
        return f"{self.field.label}: {self.shown}"

    @property
    def value_terms(self) -> frozenset[str]:
        return _value_terms(self.shown)

    @property
    def quantity(self) -> tuple[str, float] | None:
        """The base unit and the number; None if the value has no unit."""
        unit = self.field.unit
        if _is_number(self.value):
            spelled = "fl oz" if unit == "oz" and _FLUID.search(self.field.name) else unit
            return parse_quantity(f"{self.value:.12g} {spelled}") if unit else None
        return parse_quantity(self.value.strip()) if isinstance(self.value, str) else None


@lru_cache(maxsize=2**12)
def _value_terms(shown: str) -> frozenset[str]:
    return frozenset(word_term(word) for word in split_words(fold(shown)))


def facts_of(product: Product, hidden: Collection[str] = ()) -> list[Fact]:
    """The facts of a product, except fields that are `hidden`."""
    return list(_facts(without_fields(product, hidden) if hidden else product))


def _facts(product: Product) -> Iterator[Fact]:
    if product.price is not None:
        yield _fact("price", product.price, f"{product.price:,.2f} {product.currency}".rstrip())
    if product.brand:
        yield _fact("brand", product.brand)
    if product.availability:
        yield _fact("availability", product.availability.value, product.availability.value.replace("_", " "))
    if product.rating is not None:
        count = f", {product.rating_count:,} ratings" if product.rating_count else ""
        yield _fact("rating", product.rating, f"{product.rating:g} of 5{count}")
    if product.category:
        yield _fact("category", " > ".join(product.category))
    for kind, values in product.identifiers.items():
        if values:
            yield _fact(kind, ", ".join(values))
    yield from _attribute_facts(product.attributes)
    options: dict[str, dict[str, None]] = defaultdict(dict)
    for variant in product.variants:
        for name, option in variant.options.items():
            options[name].setdefault(option)
    for name, values_of in options.items():
        if name not in product.attributes:
            yield _fact(name, tuple(values_of))


def _attribute_facts(attributes: Mapping[str, AttributeValue]) -> Iterator[Fact]:
    units = {_UNIT_OF.sub("", name): unit for name, unit in attributes.items() if _UNIT_OF.search(name)}
    for name, value in attributes.items():
        if not (_UNIT_OF.search(name) and _is_number(attributes.get(_UNIT_OF.sub("", name)))):
            yield _fact(name, value, unit=str(units.get(name, "")))


def _is_number(value: AttributeValue | None) -> TypeGuard[float | int]:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _fact(name: str, value: AttributeValue, shown: str = "", unit: str = "") -> Fact:
    """A field with its value; `unit` is that of a number whose field's name has none."""
    field = read_name(name)
    if unit and not field.unit and _is_number(value):
        field = replace(field, unit=unit.lower())
    if not shown:
        if isinstance(value, bool):
            shown = "yes" if value else "no"
        elif isinstance(value, float | int):
            shown = f"{value:.12g} {_UNITS.get(field.unit, unit)}".rstrip()
        else:
            shown = ", ".join(value) if isinstance(value, tuple) else value
            # Some exports write line breaks as two characters.
            shown = _LINE_BREAK.sub(", ", shown)
    return Fact(field, value, shown)


_LINE_BREAK = re.compile(r",?\s*(?:\\n|\n)\s*")


def fact_label(fact: Fact, *, is_chinese: bool) -> str:
    """The name of a field in the language of a question; empty if it has none."""
    label = fact.field.label
    if contains_chinese(label):
        return label
    return chinese_label(label) if is_chinese else label.lower()


def question_for(fact: Fact, *, is_chinese: bool) -> str:
    """A question that asks for a fact: "What is the voltage?"."""
    label = fact_label(fact, is_chinese=is_chinese)
    if isinstance(fact.value, bool):
        return f"{label}吗？" if is_chinese else f"Is it {label}?"
    return (f"{label}是多少？" if fact.quantity else f"{label}是什么？") if is_chinese else f"What is the {label}?"


@dataclass(frozen=True, slots=True)
class NameMatch:
    """Match of a question's words with the name of a field."""

    score: float
    """Harmonic mean of the share of the name's words that the question has and of the question's words that the name
    has."""
    matched: tuple[Word, ...] = ()
    is_whole: bool = False
    """Whether the question has all words of the name, except neutral ones."""


_NO_MATCH = NameMatch(0.0)
_OWN_WORD = 0.02
"""Weight of an unmatched word that the product's name contains, relative to any other."""


def score_name(
    field: FieldName, words: Sequence[Word], own: Collection[str] = (), values: Collection[str] = ()
) -> NameMatch:
    """Matches a question's words with the name of a field. Unmatched words that refer to the product (`own`) or to the
    field's value (`values`) do not lower the score."""
    matched = tuple(word for word in words if word.terms & field.terms or word.terms & field.neutral)
    core = [word for word in matched if word.terms & field.terms]
    if not core:
        return _NO_MATCH
    wanted = frozenset[str]().union(*(word.terms for word in matched))
    # Synonyms ("size", "dimensions") count as one word.
    found = field.terms & wanted
    # The length of a cable is its "cable length".
    lacking = field.terms - wanted
    missing = lacking - frozenset(own)
    precision = 1.0
    if field.name not in _CORE:
        precision = len(found) / (len(found) + len(missing) + _OWN_WORD * len(lacking - missing))
    others = [word for word in words if word not in matched and not word.terms & set(values)]
    of_name = sum(not word.terms.isdisjoint(own) for word in others)
    recall = len(matched) / (len(matched) + len(others) - of_name + _OWN_WORD * of_name)
    return NameMatch(2 * precision * recall / (precision + recall), matched, not missing)


@dataclass(frozen=True, slots=True)
class FactMatch:
    """A fact that may answer a question."""

    fact: Fact
    score: float
    holds: bool | None
    """Answer to a yes-or-no question; None if the fact does not decide it."""


_FALSE = frozenset({"no", "none", "false", "0", "否", "无", "不"})
_MIN_COMPARED = 0.02
"""Relative difference up to which two quantities are equal, because values are rounded."""


def match_fact(question: Question, fact: Fact, words: Sequence[Word], own: Collection[str]) -> FactMatch | None:
    """Match of a fact with a question; `words` are the question's words without those of the product's name."""
    values = fact.value_terms if question.is_whether else frozenset[str]()
    match = score_name(fact.field, words, own, values)
    bound = question.bound
    comparable = fact.quantity is not None and fact.quantity[0] in (question.unit, bound.unit if bound else "")
    if not match.score:
        return _value_match(question, fact, words, own, comparable=comparable)
    score = match.score
    # "yes" does not answer "what cover is it", but it answers "touchscreen?".
    if not question.is_whether and isinstance(fact.value, bool) and score < 1:
        score *= 0.6
    holds = _holds(question, fact, match.matched, words, own)
    if isinstance(fact.value, bool) and score >= 1 and question.bound is None:
        holds = fact.value  # "touchscreen?" and "dishwasher safe"
    return FactMatch(fact, score, holds)


def _value_match(
    question: Question, fact: Fact, words: Sequence[Word], own: Collection[str], *, comparable: bool
) -> FactMatch | None:
    """A match by value, for a question that names a value but not its field: "is it red", "is it 12 volts"."""
    if not (question.is_whether or comparable) or isinstance(fact.value, bool):
        return None
    others = [word for word in words if not word.terms & fact.value_terms and not word.terms & set(own)]
    met = [word for word in words if word.terms & fact.value_terms]
    if others or not (met or comparable) or fact.field.name in ("category", "price", "rating"):
        return None
    return FactMatch(fact, 0.9 if met else 0.7, _holds(question, fact, (), words, own))


def _holds(
    question: Question, fact: Fact, matched: Sequence[Word], words: Sequence[Word], own: Collection[str]
) -> bool | None:
    if question.bound is not None:
        return compare(question.bound, fact)
    if not question.is_whether:
        return None
    if fact.field.name == "availability":
        is_negated = bool(re.search(r"sold out|out of stock|没货|缺货", question.folded))
        return (fact.value == "in_stock") != is_negated
    if isinstance(fact.value, bool):
        return fact.value
    if fact.shown.strip().casefold() in _FALSE:
        return False
    leftover = [word for word in words if word not in matched and not word.terms & set(own)]
    named = [word for word in matched if word.value_terms]
    if named or leftover:
        wanted = [*(word.value_terms for word in named), *(word.terms for word in leftover)]
        if all(terms & fact.value_terms for terms in wanted):
            return True
        return False if named and not leftover and len(fact.value_terms) <= 2 else None
    return None


def compare(bound: Bound, fact: Fact) -> bool | None:
    """Whether a fact is within a bound; None if they cannot be compared."""
    quantity = fact.quantity
    if quantity is None:
        is_number = _is_number(fact.value) and not fact.field.unit
        if bound.unit or not (is_number and fact.field.name in ("price", "rating", "count")):
            return None
        quantity = "", float(fact.value)  # type: ignore[arg-type]  # a number by the line above
    if bound.unit and quantity[0] != bound.unit:
        return None
    if fact.field.name == "price" and bound.currencies and fact.shown.partition(" ")[2] not in bound.currencies:
        return None
    number = quantity[1]
    if bound.operator == "=":
        return abs(number - bound.number) <= _MIN_COMPARED * max(abs(number), abs(bound.number))
    return number < bound.number if bound.operator == "<" else number > bound.number


_SENTENCE = re.compile(r"[^.!?。！？；\n]+(?:(?:\.(?=\S)|(?<=\b[A-Z])\.)[^.!?。！？；\n]*)*[.!?。！？；]*")
_MAX_TEXT, _MAX_SENTENCES, _LONGEST = 20_000, 200, 600


@lru_cache(maxsize=2**10)
def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of the first 20,000 characters of a text, verbatim, at most 200."""
    found = (each[0].strip() for each in _SENTENCE.finditer(text[:_MAX_TEXT]))
    return tuple(each for each in found if 1 < len(each) <= _LONGEST)[:_MAX_SENTENCES]


def sentence_coverage(sentence: str, words: Sequence[Word], own: Collection[str]) -> float:
    """The share of a question's words that a sentence contains; missing words that refer to the product do not
    count."""
    terms = frozenset(content_terms(sentence)) | concept_terms(sentence)
    met = [word for word in words if word.terms & terms]
    others = [word for word in words if word not in met and not word.terms & set(own)]
    return len(met) / (len(met) + len(others)) if met else 0.0


_MEASURES = {
    word_term(name): unit
    for name, unit in (("capacity", "ml"), ("volume", "ml"), ("power", "w"), ("voltage", "v"), ("length", "mm"))
}
"""Base units of fields, by their stems. Of a weight there is none: the ounces of titles are often of a volume."""


def title_has(title: str, terms: Collection[str], words: Sequence[Word], question: Question) -> bool:
    """Whether a title, which has some `terms`, answers a question: it has all `words` and the quantity of a yes-or-no
    question, or else the number or colour that the question asks for."""
    if not question.is_whether:
        units = {unit for unit, _ in quantities_in(title)}
        values = named_fields(title, by_value=True) | {term for term, unit in _MEASURES.items() if unit in units}
        return has_count(title, question) or (bool(words) and all(word.terms & values for word in words))
    bound = question.bound
    has_bound = bool(words) if bound is None else (bound.unit, bound.number) in quantities_in(title)
    return has_bound and all((word.value_terms or word.terms) & set(terms) for word in words)


@dataclass(frozen=True, slots=True)
class NearText:
    """The text whose vector is nearest to that of a question."""

    number: int
    score: float
    """Cosine; 0 is that of unrelated texts."""
    lead: float
    """Difference to the score of the second nearest text."""


class NearTexts:
    """Compares questions with texts by their vectors, which are cached: names of fields, sentences of descriptions."""

    def __init__(self, encoder: Encoder, background: Background | None) -> None:
        self._encoder, self._background = encoder, background
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def nearest(self, question: str, texts: Sequence[str]) -> NearText | None:
        """The nearest of some texts; None if there are fewer than three, or the encoder fails."""
        if len(texts) < _MIN_COMPARED_TEXTS or self._background is None:
            return None
        if len(self._vectors) > _MAX_VECTORS:
            self._vectors = {}
        vectors = self._vectors
        missing = [text for text in dict.fromkeys((question, *texts)) if text not in vectors]
        try:
            vectors |= zip(missing, self._encoder.encode_queries(missing), strict=True)
        except EncoderError:
            return None
        cosines = np.stack([vectors[text] for text in texts]) @ vectors[question]
        scores = (cosines - self._background.mean) / (1 - self._background.mean)
        second, best = np.argsort(scores)[-2:].tolist()
        return NearText(best, float(scores[best]), float(scores[best] - scores[second]))


_MIN_COMPARED_TEXTS, _MAX_VECTORS = 3, 4_096


def contradictions(fact: Fact, sentences: Sequence[str]) -> list[str]:
    """The sentences of the same product that contradict a fact: "Label: value" with another value, or a quantity of the
    same kind with another number."""
    own = fact.quantity
    found = []
    for sentence in sentences:
        terms = frozenset(content_terms(sentence)) | concept_terms(sentence)
        if not fact.field.terms <= terms:
            continue
        label, colon, rest = sentence.partition("：" if "：" in sentence else ":")
        if (
            colon
            and isinstance(fact.value, str)
            and frozenset(content_terms(label)) | concept_terms(label) >= fact.field.terms
        ):
            values = frozenset(word_term(word) for word in split_words(fold(rest)))
            if values and not with_same(values) & fact.value_terms and fact.shown.casefold() not in rest.casefold():
                found.append(sentence)
        elif own and not _agrees(own, sentence):
            found.append(sentence)
    return found


def _agrees(own: tuple[str, float], sentence: str) -> bool:
    same = [number for unit, number in quantities_in(sentence) if unit == own[0]]
    return not same or any(abs(number - own[1]) <= _MIN_COMPARED * max(abs(number), abs(own[1])) for number in same)


_CLASSIFIERS = "个件套片支颗块包张只本台条把双对卷袋盒瓶"
_NUMBER_OF = re.compile(
    rf"(?:(?<![a-z0-9.])[0-9][0-9.,/]*[ -]?|[一二两三四五六七八九十百]+)(?P<word>[a-z]+?(?=x[0-9])|[a-z]+|[{HAN}]+)"
)


def has_count(text: str, question: Question) -> bool:
    """Whether a text has a number of what a question counts: "15 Amp" for "how many amps"."""
    if not question.counted:
        return False
    # "Shelves" are counted by "5-shelf".
    counted, unit = word_term(question.counted), question.unit
    least = counted[:4] if len(counted) == 5 else counted[:1] if counted[0] in _CLASSIFIERS else counted
    words = (found["word"] for found in _NUMBER_OF.finditer(fold(text)))
    return any(word_term(word).startswith(least) or (unit and unit_of(word) == unit) for word in words)
