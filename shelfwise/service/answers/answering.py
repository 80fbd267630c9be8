"""Answers to questions about products, quoted from attributes, descriptions and the store's FAQ, or "not said".

A question is about the product of the page, a product or product type that it names, or the subject of the previous
question. The product's facts answer first, then FAQ entries about it, then sentences of its description, then FAQ
entries about the whole store.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from shelfwise.retrieval.errors import QueryError
from shelfwise.retrieval.filters.conditions import AllOf, Condition
from shelfwise.retrieval.index.keyword import Selection
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import fold, identifier_key, word_term
from shelfwise.retrieval.text.product_types import MOST_WORDS
from shelfwise.service.answers.facts import (
    Fact,
    FactMatch,
    FieldIndex,
    compare,
    contradictions,
    fact_label,
    facts_of,
    match_fact,
    question_for,
    sentence_coverage,
    sentences_of,
    title_has,
)
from shelfwise.service.answers.faq import CompiledFaq, FaqMatch
from shelfwise.service.answers.questions import (
    MOST_CHARACTERS,
    Question,
    QuestionKind,
    Superlative,
    Word,
    concept_terms,
    content_terms,
    has_count,
    is_advice,
    is_follow_up,
    is_question,
    measured_places,
    named_fields,
    of_last_word,
    parse_question,
    split_words,
)
from shelfwise.service.curation.rule_matching import CompiledRules
from shelfwise.service.engine.snapshot import Snapshot, condition_of, row_of

_CANDIDATES, _READ, _READ_OF_TYPE = 30, 30, 40
"""Limits: candidate products found by a question's words, candidates read, and products of a type read."""
_OF_TYPE = 200
"""Number of keyword hits that are examined for products of a type."""
_MOST_QUOTES = 3
_MOST_RELATED = 4


class AnswerStatus(StrEnum):
    """Outcomes of a question."""

    ANSWERED = "answered"
    NO_SOURCE = "not_said"
    """No text of the store answers the question."""
    NO_QUESTION = "no_question"
    """The text is a search, not a question."""


@dataclass(frozen=True, slots=True)
class QuestionSubject:
    """The subject of a question: a product or a type of product; all fields are empty for the whole store."""

    product_id: str = ""
    product_type: str = ""
    title: str = ""
    """Title of the product."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A verbatim text of the store that answers a question."""

    text: str
    """A sentence, or a field with its value: "Voltage: 12 V"."""
    field: str
    """The source: a product field by its filter name, "description", "title" (of a product that the store has), or
    "faq"."""
    product_id: str = ""
    entry: str = ""
    """Id of the FAQ entry."""
    title: str = ""
    """Title of the product, or the question of the FAQ entry."""
    holds: bool | None = None
    """Answer of this text to a yes-or-no question; None if it does not decide it."""
    score: float = 0.0
    """Score of the text as an answer, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question: quotes of the store's texts, best first."""

    question: str
    status: AnswerStatus
    about: QuestionSubject
    """The subject of the question, to be sent with the next question."""
    quotes: tuple[Quote, ...] = ()
    holds: bool | None = None
    """Answer to a yes-or-no question; None if the quotes do not decide it or disagree."""
    disagree: bool = False
    """Whether the quotes contradict each other."""
    related: tuple[str, ...] = ()
    """Related questions that have an answer."""
    version: str = ""
    nearest: Quote | None = None
    """If no text answers a question about a product: the nearest sentence of its description, which may not answer
    it."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Minimum scores of quotes, chosen on questions about the demo store."""

    fact: float = 0.6
    lacking: float = 0.12
    """A question counts as being about a field that the product lacks if another field of the catalog scores higher
    than all of the product's fields by this margin."""
    sentence: float = 0.6
    long_sentence: float = 0.5
    """Minimum for sentences if the question has at least three words."""
    meaning: float = 0.3
    """Minimum cosine for a sentence with too few words of the question; 0 is the cosine of unrelated texts."""
    nearest: float = 0.1
    """The same for the sentence that is shown if nothing answers."""
    field_meaning: float = 0.35
    """Minimum cosine for the name of a field that the question has no word of."""
    field_lead: float = 0.1
    distinct: float = 0.74
    """Minimum of that cosine plus twice its difference to the product's second nearest sentence."""
    faq: float = 0.38
    faq_of_product: float = 0.5
    """Minimum for FAQ entries about the whole store if the question is about a product."""


THRESHOLDS = Thresholds()


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
class _Named:
    """A product or type that a question names, and the question without it."""

    subject: QuestionSubject
    row: int | None
    rest: str
    rows: tuple[int, ...] = ()
    """Rows of the products of the type, best first."""


def answer_question(
    sources: Sources, text: str, product_id: str | None = None, about: QuestionSubject | None = None
) -> Answer:
    """The answer to a question. With `product_id`, any text counts as a question about that product. `about` is the
    subject of the previous question; it is kept unless the text names another one.

    Raises QueryError if the text is blank or too long, UnknownProductError if there is no such product.
    """
    _validate(text, about)
    snapshot = sources.snapshot
    version = snapshot.manifest.version
    is_about = about is not None and (about.product_id or about.product_type)
    no_question = Answer(text, AnswerStatus.NO_QUESTION, about or QuestionSubject(), version=version)
    is_search = product_id is None and not (is_question(text) or (is_about and is_follow_up(text)))
    if is_search and not named_fields(text):
        return no_question
    named = _subject_of(sources, text, product_id, about)
    question = parse_question(named.rest)
    # "Is it waterproof backpack" asks nothing of backpacks; "weight of the X hammer" asks something of a product.
    has_content = question.words or question.bound or question.superlative or question.comparative
    if (is_search and named.row is None) or (named.subject.product_type and not has_content and not question.is_offer):
        return no_question
    related: tuple[str, ...] = ()
    quotes: list[Quote] = []
    # "Do you have the X?" asks for the product, "does it have X" for a property of it.
    if product_id is None and question.is_offer and question.bound is None and named.rest != text:
        quotes = _offered(sources, question, text, named) if named.row is not None else []
    if not quotes and named.row is not None:
        quotes, related = _about_product(sources, question, named.row)
        if not quotes and not has_content and question.kind is QuestionKind.YES_NO and named.rest != text:
            quotes, related = _about_product(sources, of_last_word(question, text), named.row)
            quotes = [quote for quote in quotes if quote.field.startswith("attributes.")]
    elif not quotes and named.subject.product_type:
        quotes = _about_type(sources, question, named)
    if not quotes and product_id is None and question.is_offer:
        quotes = _offered(sources, question, text, named)
    if not quotes and named.row is None:
        quotes = _faq_quotes(sources.faq.entries.find(question, THRESHOLDS.faq))
    is_sure = bool(quotes) and quotes[0].score >= _SURE and question.bound is None
    if is_sure and quotes[0].text.partition(": ")[2].casefold() in text.casefold():  # "jacket size medium" asks nothing
        is_sure = False
    if (is_search and not is_sure) or (not quotes and named.row is None and is_advice(text)):
        return no_question
    status = AnswerStatus.ANSWERED if quotes else AnswerStatus.NO_SOURCE
    decided = {quote.holds for quote in quotes if quote.holds is not None}
    disagree = named.row is not None and len(quotes) > 1 and quotes[0].field not in ("faq", "description")
    holds = decided.pop() if len(decided) == 1 and not disagree else None
    related = (*related, *sources.faq.entries.related(question, exclude={quote.entry for quote in quotes}))
    row = None if quotes else named.row
    nearest = None if row is None else _near_sentence(sources, snapshot.products[row], question)[0]
    subject, quoted = named.subject, tuple(quotes[:_MOST_QUOTES])
    return Answer(text, status, subject, quoted, holds, disagree, related[:_MOST_RELATED], version, nearest)


_SURE = 0.9
"""Minimum score of an answer to a search that names a product and a field."""


def _validate(text: str, about: QuestionSubject | None) -> None:
    if not isinstance(text, str):
        raise QueryError(f"the question is {type(text).__name__}, it must be str")
    if not text.strip():
        raise QueryError("the question is blank; write one")
    if len(text) > MOST_CHARACTERS:
        raise QueryError(f"the question has {len(text):,} characters, at most {MOST_CHARACTERS:,} are answered")
    if about is not None and not isinstance(about, QuestionSubject):
        raise QueryError(f"about is {type(about).__name__}, it must be a QuestionSubject")


def _subject_of(sources: Sources, text: str, product_id: str | None, about: QuestionSubject | None) -> _Named:
    snapshot = sources.snapshot
    if product_id is not None:
        row = row_of(snapshot, product_id, sources.filters)
        product = snapshot.products[row]
        title = _title_terms(product)
        _, terms, rest = _mention(text, title)
        # Some words of the title may be the question itself: "is it noise cancelling".
        rest = rest if _share(terms, title) >= _MOST_OF_TITLE else text
        return _Named(QuestionSubject(product_id, title=product.title), row, rest)
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
        return _Named(QuestionSubject(about.product_id, title=snapshot.products[row].title), row, text)
    rows = _rows_of_type(sources, about.product_type)
    return _Named(QuestionSubject(product_type=about.product_type), None, text, rows)


# Which product or type a question names.


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


def _title_terms(product: Product) -> frozenset[str]:
    return _terms_of(f"{product.title} {product.brand}")


@lru_cache(maxsize=2**12)
def _terms_of(text: str) -> frozenset[str]:
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
    if weight < _LEAST_MENTION:
        return 0.0, frozenset(), text
    start, end = _trimmed([token.term for token in tokens], start, end, title)
    terms = frozenset(token.term for token in tokens[start:end] if token.term in title)
    rest = f"{folded[: tokens[start].start]} it {folded[tokens[end - 1].end :]}"
    return weight, terms, rest


_LEAST_MENTION = 1.5


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


def _find_named(sources: Sources, text: str) -> _Named:
    snapshot = sources.snapshot
    folded = fold(text)
    where = _condition(sources, text)
    by_code = _find_code(snapshot, text, where)
    coded = " ".join(word for word in split_words(folded) if _CODE.fullmatch(word))
    for words in filter(None, (_searched(folded), coded)):
        rows = snapshot.keyword.search(snapshot.analyzer.groups(words), _CANDIDATES, where).rows.tolist()
        if rows:
            break
    found: list[tuple[float, float, int, Product, str, frozenset[str]]] = []
    for row in rows[:_READ]:
        product = snapshot.products[row]
        title = _title_terms(product)
        weight, terms, rest = _mention(text, title)
        if weight:
            found.append((weight, _share(terms, title), row, product, rest, terms))
    shares = Counter(term for each in found for term in each[5])
    # "Moisturizer" is in many titles, the name of a series in few.
    rarity = {each[2]: sum(1 / shares[term] for term in each[5]) for each in found}
    best = max(found, key=lambda each: (each[0], each[1] >= _MOST_OF_TITLE and each[1], rarity[each[2]]), default=None)
    # Titles can contain codes of parts, such as a processor's.
    if by_code and (best is None or best[0] <= by_code[0] or best[1] < _MOST_OF_TITLE):
        return by_code[1]
    product_type = _named_type(snapshot, folded)
    if best:
        # If this many products share the question's words, it names a type or a brand, not one product.
        tied = [each[3] for each in found if each[0] >= best[0] and 2 * rarity[each[2]] > rarity[best[2]]]
        others, title = len(tied), _title_terms(best[3])
        # The variants of a product have nearly the same title.
        are_variants = all(len(title & _title_terms(each)) >= _SAME * len(title | _title_terms(each)) for each in tied)
        most = _VARIANTS if are_variants or any(map(_CODE.fullmatch, best[5])) else _FEW
        distinct = others <= most and best[0] >= _LEAST_NAMED
        if product_type and parse_question(text).is_offer:  # "are there drills with 20 V" asks for any of them
            distinct = False
        if best[1] >= _MOST_OF_TITLE or distinct:
            return _Named(QuestionSubject(best[3].id, title=best[3].title), best[2], best[4])
    if product_type:
        name, rest = product_type
        return _Named(QuestionSubject(product_type=name), None, rest, _rows_of_type(sources, name))
    return _Named(QuestionSubject(), None, text)


_LEAST_CODE, _MOST_CODES = 5, 4
"""Minimum length of an identifier that names a product by itself, and the number of words looked up as identifiers."""


def _find_code(snapshot: Snapshot, text: str, where: Condition | None) -> tuple[float, _Named] | None:
    """The product whose identifier occurs in a question, with the weight of its mention."""
    words = [word for word in split_words(fold(text)) if any(character.isdigit() for character in word)]
    for word in [each for each in words if len(identifier_key(each)) >= _LEAST_CODE][:_MOST_CODES]:
        rows = snapshot.keyword.find_identifier(identifier_key(word))
        if where is not None and len(rows):
            rows = snapshot.keyword.select(Selection(rows=rows, where=where))
        if len(rows):
            product = snapshot.products[int(rows[0])]
            weight, _, rest = _mention(text, _title_terms(product) | _terms_of(word))
            return weight, _Named(QuestionSubject(product.id, title=product.title), int(rows[0]), rest)
    return None


_MOST_OF_TITLE = 0.7
_FEW, _VARIANTS, _LEAST_NAMED, _SAME = 3, 12, 3.0, 0.5


def _searched(folded: str) -> str:
    """The content words of a question, for finding the products that it names; long descriptions contain all other
    words."""
    return " ".join(content_terms(folded)) or folded


def _condition(sources: Sources, text: str) -> Condition | None:
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
    for count in range(MOST_WORDS, 0, -1):
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
    where = _condition(sources, name)
    rows = snapshot.keyword.search(snapshot.analyzer.groups(name), _OF_TYPE, where).rows
    wanted = snapshot.types.named(name, len(name.split()))
    if wanted is None or not len(rows):
        return ()
    agreement = snapshot.types.agreements(wanted, rows)
    return tuple(rows[agreement >= 1].tolist())


# Sources of the answer.


def _about_product(sources: Sources, question: Question, row: int) -> tuple[list[Quote], tuple[str, ...]]:
    product = sources.snapshot.products[row]
    own = _own_terms(sources.snapshot, product, row)
    comparative = (question.comparative,) if question.comparative else ()
    words = (*question.words, *comparative) if question.words else ()
    facts = facts_of(product, sources.hidden)
    if comparative and not words and not _best_facts(question, facts, (), own):
        words = comparative
    matches = _best_facts(question, facts, words, own)
    if not (matches and matches[0].score >= THRESHOLDS.fact) and word_term(question.counted) in own:
        matches = _best_facts(question, facts, _PIECES, own)  # "how many pens": their count
    lacking = _lacking(sources.faq.fields, words, matches)
    hidden = "description" in sources.hidden
    sentences = () if hidden else sentences_of(product.description)
    quotes: list[Quote] = []
    if matches and matches[0].score >= THRESHOLDS.fact and not lacking:
        quotes = _fact_quotes(product, matches, sentences)
    if not quotes:
        of_product = sources.faq.entries.find_bound(question, THRESHOLDS.faq, product.id, _type_name(sources, row))
        quotes = _faq_quotes(of_product)
    if not quotes:
        quotes = _sentence_quotes(product, sentences, question, words, own, lacking=lacking)
    if not quotes:
        quotes = _title_quotes(sources, product, row, question)
    if not quotes and not lacking:
        quotes = _faq_quotes(sources.faq.entries.find(question, THRESHOLDS.faq_of_product))
    if not quotes and not lacking and question.words:
        quotes = _near_quotes(sources, product, question, facts)
    requested = {quote.field.removeprefix("attributes.") for quote in quotes}
    return quotes, _related_fields(question, facts, requested, own)


_PIECES = (Word("pieces", concept_terms("number of pieces"), is_concept=True),)


def _near_quotes(sources: Sources, product: Product, question: Question, facts: Sequence[Fact]) -> list[Quote]:
    """The field whose name, or the sentence that, means the same as a question: "what wood" and "Material: Oak"."""
    # "How many" asks for a number without a unit.
    is_count = question.counted and not question.unit
    labelled = {fact.field.label: fact for fact in facts if not (is_count and fact.quantity)}
    near = sources.faq.near.nearest(question.text, [*labelled])
    if near and near.score >= THRESHOLDS.field_meaning and near.lead >= THRESHOLDS.field_lead:
        fact = [*labelled.values()][near.number]
        holds = fact.value if isinstance(fact.value, bool) else None
        return [_fact_quote(product, FactMatch(fact, near.score, holds))]
    quote, lead = _near_sentence(sources, product, question)
    if quote and quote.score >= THRESHOLDS.meaning and quote.score + 2 * lead >= THRESHOLDS.distinct:
        return [quote]
    return []


def _near_sentence(sources: Sources, product: Product, question: Question) -> tuple[Quote | None, float]:
    """The sentence of a description that is nearest to a question in meaning, if it is near enough to be shown,
    and its lead over the second one."""
    sentences = () if "description" in sources.hidden else sentences_of(product.description)[:_MOST_ENCODED]
    near = sources.faq.near.nearest(question.text, sentences)
    if near is None or near.score < THRESHOLDS.nearest:
        return None, 0.0
    quote = Quote(sentences[near.number], "description", product.id, title=product.title, score=near.score)
    return quote, near.lead


_MOST_ENCODED = 16
"""Number of sentences of a description that are compared with a question by their meaning."""


def _type_name(sources: Sources, row: int) -> str:
    snapshot = sources.snapshot
    return snapshot.types.names_of(row, snapshot.products[row]).name


def _own_terms(snapshot: Snapshot, product: Product, row: int) -> frozenset[str]:
    """The words by which a question may refer to a product: those of title, brand, type and category."""
    category = product.category[-1] if product.category else ""
    return _title_terms(product) | _terms_of(f"{category} {snapshot.types.name_of(row)}")


def _best_facts(
    question: Question, facts: Sequence[Fact], words: Sequence[Word], own: Collection[str]
) -> list[FactMatch]:
    found = (match_fact(question, fact, words, own) for fact in facts)
    return sorted((each for each in found if each), key=lambda each: -each.score)


def _lacking(fields: FieldIndex, words: Sequence[Word], matches: Sequence[FactMatch]) -> bool:
    """Whether a question asks for a field of the catalog that the product lacks."""
    best = matches[0] if matches else None
    least = (best.score if best else 0.0) + THRESHOLDS.lacking
    known = [field.terms for score, field in fields.best(words, THRESHOLDS.fact) if score > least]
    # A display resolution is a resolution, but the weight of a package is not that of the product.
    own = best.fact.field.terms if best else frozenset[str]()
    return bool(known) and not any(terms <= own and not (own - terms) & _OF_PACKAGES for terms in known)


_OF_PACKAGES = frozenset(
    map(word_term, ("package", "packaging", "pallet", "carton", "outer", "inner", "shipping", "case"))
)
"""Terms of field names that are about the package instead of the product."""


def _fact_quotes(product: Product, matches: Sequence[FactMatch], sentences: Sequence[str]) -> list[Quote]:
    """The best fact, and quotes that contradict it: another field with the same words, or a sentence."""
    best = matches[0]
    quotes = [_fact_quote(product, best)]
    quotes += [
        Quote(each, "description", product.id, title=product.title, score=best.score)
        for each in contradictions(best.fact, sentences)
    ]
    own = best.fact.quantity
    for other in matches[1:]:
        same = other.fact.field.terms == best.fact.field.terms and not other.fact.field.neutral
        quantity = other.fact.quantity
        if same and own and quantity and own[0] == quantity[0] and abs(own[1] - quantity[1]) > _DIFFERENT * own[1]:
            quotes.append(_fact_quote(product, other))
    return quotes


_DIFFERENT = 0.05
"""Relative difference above which two quantities that should be equal contradict each other; less is rounding."""


def _fact_quote(product: Product, match: FactMatch) -> Quote:
    fact = match.fact
    name = fact.field.name
    field = f"attributes.{name}" if name in product.attributes else name
    return Quote(fact.text, field, product.id, title=product.title, holds=match.holds, score=min(match.score, 1.0))


def _sentence_quotes(
    product: Product,
    sentences: Sequence[str],
    question: Question,
    words: Sequence[Word],
    own: Collection[str],
    *,
    lacking: bool,
) -> list[Quote]:
    if not sentences or not words:
        return []
    scores = [1.0 if has_count(each, question) else sentence_coverage(each, words, own) for each in sentences]
    score, _, best = max((score, -len(each), each) for score, each in zip(scores, sentences, strict=True))
    least = 1.0 if lacking else THRESHOLDS.sentence
    if score < least and not (len(words) > 2 and not lacking and score >= THRESHOLDS.long_sentence):
        return []
    return [Quote(best, "description", product.id, title=product.title, score=score)]


def _title_quotes(sources: Sources, product: Product, row: int, question: Question) -> list[Quote]:
    """The title, if it has all words of a yes-or-no question except those for the product ("is it noise cancelling"),
    or the number or colour that a question asks for: "how many amps", "what color"."""
    category = product.category[-1] if product.category else ""
    itself = _terms_of(f"{category} {_type_name(sources, row)} {product.brand}")
    words = [word for word in question.words if not word.terms & itself]
    title = _title_terms(product)
    if not title_has(product.title, title, words, question):
        return []
    return [Quote(product.title, "title", product.id, title=product.title, score=THRESHOLDS.sentence)]


def _about_type(sources: Sources, question: Question, named: _Named) -> list[Quote]:
    """FAQ entries about a type or, without any, facts of its best products; for a yes-or-no question, products with a
    yes."""
    of_type = sources.faq.entries.find_bound(question, THRESHOLDS.faq, "", named.subject.product_type)
    if of_type:
        return _faq_quotes(of_type)
    if question.superlative and question.kind is QuestionKind.VALUE:
        return _first_of_type(sources, question, question.superlative, named)
    found: list[Quote] = []
    for row in named.rows[:_READ_OF_TYPE]:
        product = sources.snapshot.products[row]
        own = _own_terms(sources.snapshot, product, row)
        facts = facts_of(product, sources.hidden)
        matches = _best_facts(question, facts, question.words, own)
        if matches and matches[0].score >= THRESHOLDS.fact and _has_words(matches[0].fact, facts, question.words, own):
            value = matches[0].fact.value
            quote = _fact_quote(product, matches[0])
            found.append(replace(quote, holds=value) if isinstance(value, bool) else quote)
    # That some products lack a property says nothing about the others.
    holding = [quote for quote in found if quote.holds]
    if question.is_offer and not holding:
        return []
    if not holding or question.kind is not QuestionKind.YES_NO:  # "which are waterproof" is not answered by "yes"
        holding = [replace(quote, holds=None) for quote in holding or found]
    return sorted(holding, key=lambda each: -each.score)[:_MOST_QUOTES]


def _has_words(best: Fact | None, facts: Sequence[Fact], words: Sequence[Word], own: Collection[str]) -> bool:
    """Whether a product is what a question asks about besides the field: "AA batteries", "red backpacks"."""

    def has(word: Word) -> bool:
        if word.terms & set(own) or (best is not None and word.terms & (best.field.terms | best.field.neutral)):
            return True
        return any(
            word.terms & fact.value_terms or (fact.value is not False and word.terms & fact.field.terms)
            for fact in facts
        )

    return all(map(has, words))


def _first_of_type(sources: Sources, question: Question, superlative: Superlative, named: _Named) -> list[Quote]:
    """The products of a type with the highest or the lowest value of a field, of one unit."""
    found: dict[str, list[tuple[float, Quote]]] = defaultdict(list)
    for row in named.rows:
        product = sources.snapshot.products[row]
        own = _own_terms(sources.snapshot, product, row)
        facts = facts_of(product, sources.hidden)
        best = next(iter(_best_facts(question, facts, (superlative.word,), own)), None)
        if best is None or best.score < THRESHOLDS.fact or not _has_words(best.fact, facts, question.words, own):
            continue
        fact = best.fact
        unit, number = fact.quantity or ("", fact.value)
        if isinstance(number, float | int) and not isinstance(number, bool):
            unit = product.currency if fact.field.name == "price" else unit
            found[f"{fact.field.name} {unit}"].append((float(number), replace(_fact_quote(product, best), holds=None)))
    most = max(found.values(), key=len, default=[])
    ordered = sorted(most, key=lambda each: -each[0] if superlative.is_most else each[0])
    return [quote for _, quote in ordered[:_MOST_QUOTES]]


def _offered(sources: Sources, question: Question, text: str, named: _Named) -> list[Quote]:
    """The titles of named products, for a question that asks whether the store has them: a yes, or no quotes at all."""
    if parse_question(text).refers:  # "do you have a bag for it"
        return []
    found = []
    rows = named.rows if named.row is None else (named.row,)
    if not (rows or named.subject.product_type):  # a brand
        groups = sources.snapshot.analyzer.groups(_searched(" ".join(word.text for word in question.words)))
        where = _condition(sources, text)
        rows = tuple(sources.snapshot.keyword.search(groups, _CANDIDATES, where).rows.tolist())
    for row in rows[:_READ_OF_TYPE]:
        product = sources.snapshot.products[row]
        facts = facts_of(product, sources.hidden)
        own = _own_terms(sources.snapshot, product, row)
        if not _has_words(None, facts, [each for each in question.words if not _MONEY.fullmatch(each.text)], own):
            continue
        if question.bound is None:
            found.append(Quote(product.title, "title", product.id, title=product.title, holds=True, score=1.0))
        elif _MONEY.search(text):
            within = [FactMatch(fact, 1.0, holds=True) for fact in facts if fact.field.name == "price"]
            found += [_fact_quote(product, each) for each in within if compare(question.bound, each.fact)]
    return found[:_MOST_QUOTES]


_MONEY = re.compile(r"[$€£¥]|\b(?:dollars|euros?|pounds|bucks|usd|eur|gbp|cny|rmb)\b|元|块", re.IGNORECASE)


def _faq_quotes(found: Sequence[FaqMatch]) -> list[Quote]:
    return [Quote(each.text, "faq", entry=each.entry.id, title=each.entry.question, score=each.score) for each in found]


def _related_fields(
    question: Question, facts: Sequence[Fact], requested: Collection[str], own: Collection[str]
) -> tuple[str, ...]:
    """Questions for other fields of the product that its card does not show, if each question finds its field."""
    skipped = {"price", "brand", "category", "rating", "availability", "sku", "ean", "mpn", *requested}
    found: list[str] = []
    for fact in facts:
        if fact.field.name in skipped:
            continue
        if question.is_chinese and not fact_label(fact, is_chinese=True):
            continue
        text = question_for(fact, is_chinese=question.is_chinese)
        about_fact = parse_question(text)
        best = _best_facts(about_fact, facts, about_fact.words, own)[:1]
        if best and best[0].fact is fact and best[0].score >= THRESHOLDS.fact:
            found.append(text)
        if len(found) == _MOST_RELATED_FIELDS:
            break
    return tuple(found)


_MOST_RELATED_FIELDS = 2
