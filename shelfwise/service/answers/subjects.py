"""The product or type of product that a question is about: named by its text, or the subject of the last question."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from shelfwise.retrieval.filters.conditions import AllOf, Condition
from shelfwise.retrieval.index.keyword import Selection
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import fold, identifier_key, word_term
from shelfwise.retrieval.text.product_types import MAX_WORDS
from shelfwise.service.answers.faq import CompiledFaq
from shelfwise.service.answers.questions import content_terms, measured_places, parse_question, split_words
from shelfwise.service.curation.rule_matching import CompiledRules
from shelfwise.service.engine.snapshot import Snapshot, condition_of, row_of

CANDIDATES = 30
"""Number of candidate products found by a question's words."""
_READ = 30
"""Number of candidates that are read."""
_OF_TYPE = 200
"""Number of keyword hits that are examined for products of a type."""


@dataclass(frozen=True, slots=True)
class QuestionSubject:
    """The subject of a question: a product or a type of product; all fields are empty for the whole store."""

    product_id: str = ""
    product_type: str = ""
    title: str = ""
    """Title of the product."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The texts of one engine that answer questions."""

    snapshot: Snapshot
    faq: CompiledFaq
    rules: CompiledRules | None = None
    filters: str = ""
    """Filter of the request; products that do not pass it are treated as missing."""
    hidden: Collection[str] = ()
    """Names of fields that are never quoted."""


@dataclass(frozen=True, slots=True)
class NamedSubject:
    """A product or type that a question names, and the question without it."""

    subject: QuestionSubject
    row: int | None
    rest: str
    rows: tuple[int, ...] = ()
    """Rows of the products of the type, best first."""


def subject_of(sources: Sources, text: str, product_id: str | None, about: QuestionSubject | None) -> NamedSubject:
    """The subject of a question: the product with this id, what the text names, or the last subject."""
    snapshot = sources.snapshot
    if product_id is not None:
        row = row_of(snapshot, product_id, sources.filters)
        product = snapshot.products[row]
        title = title_terms(product)
        _, terms, rest = _mention(text, title)
        # Some words of the title may be the question itself: "is it noise cancelling".
        rest = rest if _share(terms, title) >= _MAX_OF_TITLE else text
        return NamedSubject(QuestionSubject(product_id, title=product.title), row, rest)
    named = _find_named(sources, text)
    if about is None or not (about.product_id or about.product_type):
        return named
    keeps = not (named.subject.product_id or named.subject.product_type)
    if named.subject.product_type and parse_question(text).refers:
        keeps = True
    if not keeps:
        return named
    if about.product_id:
        row = row_of(snapshot, about.product_id, sources.filters)
        return NamedSubject(QuestionSubject(about.product_id, title=snapshot.products[row].title), row, text)
    rows = _rows_of_type(sources, about.product_type)
    return NamedSubject(QuestionSubject(product_type=about.product_type), None, text, rows)


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    term: str


def _tokens(folded: str) -> list[_Token]:
    found, at = [], 0
    for word in split_words(folded):
        start = folded.find(word, at)
        at = start + len(word)
        found.append(_Token(start, at, word_term(word)))
    return found


def title_terms(product: Product) -> frozenset[str]:
    """The terms of a product's title and brand."""
    return terms_of(f"{product.title} {product.brand}")


@lru_cache(maxsize=2**12)
def terms_of(text: str) -> frozenset[str]:
    """The terms of all words of a text."""
    return frozenset(word_term(word) for word in split_words(fold(text)))


_MEASURE = 0.5
"""The weight of a word of a quantity, which a title shares with many."""
_GAP = 1.0
"""Cost of a word within a mention that the title lacks."""


def _mention(text: str, title: Collection[str]) -> tuple[float, frozenset[str], str]:
    """The part of a text that mentions a title: its weight, its terms, and the text with "it" in its place.

    The mention is the span with the highest sum, where words of the title gain and others cost (Bentley 1984,
    Programming Pearls: Algorithm Design Techniques). Words at its ends that occur in it again are removed: in "which
    case has the drill with case" only the last "case" belongs to the title.
    """
    folded = fold(text)
    best, total, first = (0.0, 0, 0), 0.0, 0
    tokens = _tokens(folded)
    measured = measured_places(folded)
    for at, token in enumerate(tokens):
        # "16 GB" is of many products.
        weight = min(_weight(token.term), _MEASURE) if token.start in measured else _weight(token.term)
        gain = weight if token.term in title else -_GAP
        if total <= 0:
            total, first = 0.0, at
        total += gain
        if total > best[0]:
            best = (total, first, at + 1)
    weight, start, end = best
    if weight < _MIN_MENTION:
        return 0.0, frozenset(), text
    start, end = _trimmed([token.term for token in tokens], start, end, title)
    terms = frozenset(token.term for token in tokens[start:end] if token.term in title)
    rest = f"{folded[: tokens[start].start]} it {folded[tokens[end - 1].end :]}"
    return weight, terms, rest


_MIN_MENTION = 1.5


def _trimmed(terms: Sequence[str], start: int, end: int, title: Collection[str]) -> tuple[int, int]:
    """The span without repeated title words and other words at its ends; the shorter one of two ways to trim it."""

    def is_needless(at: int, first: int, last: int) -> bool:
        return last - first > 1 and (terms[at] not in title or terms[first:last].count(terms[at]) > 1)

    found = []
    for sides in ("left right", "right left"):
        first, last = start, end
        for side in sides.split():
            while is_needless(first if side == "left" else last - 1, first, last):
                first, last = (first + 1, last) if side == "left" else (first, last - 1)
        found.append((first, last))
    return min(found, key=lambda span: span[1] - span[0])


_CODE = re.compile(r"(?=.*[a-z])(?=.*[0-9].*[0-9])[a-z0-9-]{5,}")
"""A model's name, such as "kh4827"."""


def _weight(term: str) -> float:
    """The weight of a term in a mention; numbers and codes weigh more because they distinguish products."""
    if any(character.isdigit() for character in term):
        return 3.0 if _CODE.fullmatch(term) else 2.0
    return 0.3 if len(term) < 2 and term.isascii() else 1.0


def _share(terms: Collection[str], title: Collection[str]) -> float:
    """The share of a title's weight that some of its terms have."""
    return sum(map(_weight, terms)) / (sum(map(_weight, title)) or 1.0)


def _find_named(sources: Sources, text: str) -> NamedSubject:
    snapshot = sources.snapshot
    folded = fold(text)
    where = question_condition(sources, text)
    by_code = _find_code(snapshot, text, where)
    coded = " ".join(word for word in split_words(folded) if _CODE.fullmatch(word))
    for words in filter(None, (searched_terms(folded), coded)):
        rows = snapshot.keyword.search(snapshot.analyzer.groups(words), CANDIDATES, where).rows.tolist()
        if rows:
            break
    found: list[tuple[float, float, int, Product, str, frozenset[str]]] = []
    for row in rows[:_READ]:
        product = snapshot.products[row]
        title = title_terms(product)
        weight, terms, rest = _mention(text, title)
        if weight:
            found.append((weight, _share(terms, title), row, product, rest, terms))
    shares = Counter(term for each in found for term in each[5])
    # "Moisturizer" is in many titles, the name of a series in few.
    rarity = {each[2]: sum(1 / shares[term] for term in each[5]) for each in found}
    best = max(found, key=lambda each: (each[0], each[1] >= _MAX_OF_TITLE and each[1], rarity[each[2]]), default=None)
    # Titles can contain codes of parts, such as a processor's.
    if by_code and (best is None or best[0] <= by_code[0] or best[1] < _MAX_OF_TITLE):
        return by_code[1]
    product_type = _named_type(snapshot, folded)
    if best:
        # If this many products share the question's words, it names a type or a brand, not one product.
        tied = [each[3] for each in found if each[0] >= best[0] and 2 * rarity[each[2]] > rarity[best[2]]]
        others, title = len(tied), title_terms(best[3])
        # The variants of a product have nearly the same title.
        are_variants = all(len(title & title_terms(each)) >= _SAME * len(title | title_terms(each)) for each in tied)
        most = _VARIANTS if are_variants or any(map(_CODE.fullmatch, best[5])) else _FEW
        distinct = others <= most and best[0] >= _MIN_NAMED
        if product_type and parse_question(text).is_offer:  # "are there drills with 20 V" asks for any of them
            distinct = False
        if best[1] >= _MAX_OF_TITLE or distinct:
            return NamedSubject(QuestionSubject(best[3].id, title=best[3].title), best[2], best[4])
    if product_type:
        name, rest = product_type
        return NamedSubject(QuestionSubject(product_type=name), None, rest, _rows_of_type(sources, name))
    return NamedSubject(QuestionSubject(), None, text)


_MIN_CODE, _MAX_CODES = 5, 4
"""Minimum length of an identifier that names a product by itself, and the number of words looked up as identifiers."""


def _find_code(snapshot: Snapshot, text: str, where: Condition | None) -> tuple[float, NamedSubject] | None:
    """The product whose identifier occurs in a question, with the weight of its mention."""
    words = [word for word in split_words(fold(text)) if any(character.isdigit() for character in word)]
    for word in [each for each in words if len(identifier_key(each)) >= _MIN_CODE][:_MAX_CODES]:
        rows = snapshot.keyword.find_identifier(identifier_key(word))
        if where is not None and len(rows):
            rows = snapshot.keyword.select(Selection(rows=rows, where=where))
        if len(rows):
            product = snapshot.products[int(rows[0])]
            weight, _, rest = _mention(text, title_terms(product) | terms_of(word))
            return weight, NamedSubject(QuestionSubject(product.id, title=product.title), int(rows[0]), rest)
    return None


_MAX_OF_TITLE = 0.7
_FEW, _VARIANTS, _MIN_NAMED, _SAME = 3, 12, 3.0, 0.5


def searched_terms(folded: str) -> str:
    """The content words of a question, for finding the products that it names; long descriptions contain all other
    words."""
    return " ".join(content_terms(folded)) or folded


def question_condition(sources: Sources, text: str) -> Condition | None:
    """The condition that a product must pass to be quoted: the filter and the rules on this text."""
    snapshot = sources.snapshot
    where = condition_of(snapshot, sources.filters)
    if sources.rules is None:
        return where
    effect = sources.rules.effect([snapshot.analyzer.analyze(text)], where, time.time())
    parts = tuple(each for each in (where, *effect.where) if each is not None)
    return AllOf(parts) if len(parts) > 1 else parts[0] if parts else None


def _named_type(snapshot: Snapshot, folded: str) -> tuple[str, str] | None:
    """The longest phrase of a question that is a product type, as written, and the question without it."""
    tokens, measured = _tokens(folded), measured_places(folded)
    for count in range(MAX_WORDS, 0, -1):
        for at in range(len(tokens) - count + 1):
            part = tokens[at : at + count]
            phrase = tuple(token.term for token in part)
            # "Does it run": no store sells runs.
            is_verb = count == 1 and at > 0 and tokens[at - 1].term in _SUBJECTS
            if is_verb or part[-1].start in measured or not content_terms(folded[part[0].start : part[-1].end]):
                continue
            numbers = snapshot.types.heads.get(phrase[-1], ())
            if any(snapshot.types.phrases[number] == phrase for number in numbers):
                start, end = part[0].start, part[-1].end
                return folded[start:end], f"{folded[:start]} it {folded[end:]}"
    return None


_SUBJECTS = frozenset({"it", "they", "i", "we", "you", "to"})


def _rows_of_type(sources: Sources, name: str) -> tuple[int, ...]:
    snapshot = sources.snapshot
    where = question_condition(sources, name)
    rows = snapshot.keyword.search(snapshot.analyzer.groups(name), _OF_TYPE, where).rows
    wanted = snapshot.types.named(name, len(name.split()))
    if wanted is None or not len(rows):
        return ()
    agreement = snapshot.types.agreements(wanted, rows)
    return tuple(rows[agreement >= 1].tolist())
