"""Answers to questions about products, quoted from attributes, descriptions and the store's FAQ, or "not said".

A question is about the product of the page, a product or product type that it names, or the subject of the previous
question. The product's facts answer first, then FAQ entries about it, then sentences of its description, then FAQ
entries about the whole store.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from shelfwise.retrieval.errors import QueryError, UnknownProductError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import word_term
from shelfwise.service.answers.facts import (
    Fact,
    FactMatch,
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
from shelfwise.service.answers.faq import FaqMatch
from shelfwise.service.answers.questions import (
    MAX_CHARACTERS,
    Question,
    Superlative,
    Word,
    is_advice,
    is_follow_up,
    is_question,
    named_fields,
    parse_question,
)
from shelfwise.service.answers.subjects import (
    CANDIDATES,
    NamedSubject,
    QuestionSubject,
    Sources,
    question_condition,
    searched_terms,
    subject_of,
    terms_of,
    title_terms,
)
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.popular_queries import read_popular_queries

_READ_OF_TYPE = 40
"""Number of products of a type that are read."""
_MAX_QUOTES = 3
_MAX_RELATED = 4


class AnswerStatus(StrEnum):
    """Outcomes of a question."""

    ANSWERED = "answered"
    NO_SOURCE = "not_said"
    """No text of the store answers the question."""
    NO_QUESTION = "no_question"
    """The text is a search, not a question."""


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
    named = subject_of(sources, text, product_id, about)
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
    subject, quoted = named.subject, tuple(quotes[:_MAX_QUOTES])
    return Answer(text, status, subject, quoted, holds, disagree, related[:_MAX_RELATED], version, nearest)


_SURE = 0.9
"""Minimum score of an answer to a search that names a product and a field."""


def _validate(text: str, about: QuestionSubject | None) -> None:
    if not isinstance(text, str):
        raise QueryError(f"the question is {type(text).__name__}, it must be str")
    if not text.strip():
        raise QueryError("the question is blank; write one")
    if len(text) > MAX_CHARACTERS:
        raise QueryError(f"the question has {len(text):,} characters, at most {MAX_CHARACTERS:,} are answered")
    if about is not None and not isinstance(about, QuestionSubject):
        raise QueryError(f"about is {type(about).__name__}, it must be a QuestionSubject")


# Sources of the answer.


def _about_product(sources: Sources, question: Question, row: int) -> tuple[list[Quote], tuple[str, ...]]:
    product = sources.snapshot.products[row]
    own = _own_terms(sources.snapshot, product, row)
    words = (*question.words, question.comparative) if question.comparative else question.words
    facts = facts_of(product, sources.hidden)
    matches = _best_facts(question, facts, words, own)
    hidden = "description" in sources.hidden
    sentences = () if hidden else sentences_of(product.description)
    quotes: list[Quote] = []
    if matches and matches[0].score >= THRESHOLDS.fact:
        quotes = _fact_quotes(product, matches, sentences)
    if not quotes:
        of_product = sources.faq.entries.find_bound(question, THRESHOLDS.faq, product.id, _type_name(sources, row))
        quotes = _faq_quotes(of_product)
    if not quotes:
        quotes = _sentence_quotes(product, sentences, words, own)
    if not quotes:
        quotes = _title_quotes(sources, product, row, question)
    if not quotes:
        quotes = _faq_quotes(sources.faq.entries.find(question, THRESHOLDS.faq_of_product))
    if not quotes and question.words:
        quotes = _near_quotes(sources, product, question, facts)
    requested = {quote.field.removeprefix("attributes.") for quote in quotes}
    return quotes, _related_fields(question, facts, requested, own)


def _near_quotes(sources: Sources, product: Product, question: Question, facts: Sequence[Fact]) -> list[Quote]:
    """The field whose name, or the sentence that, means the same as a question: "what wood" and "Material: Oak"."""
    labelled = {fact.field.label: fact for fact in facts}
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
    sentences = () if "description" in sources.hidden else sentences_of(product.description)[:_MAX_ENCODED]
    near = sources.faq.near.nearest(question.text, sentences)
    if near is None or near.score < THRESHOLDS.nearest:
        return None, 0.0
    quote = Quote(sentences[near.number], "description", product.id, title=product.title, score=near.score)
    return quote, near.lead


_MAX_ENCODED = 16
"""Number of sentences of a description that are compared with a question by their meaning."""


def _type_name(sources: Sources, row: int) -> str:
    snapshot = sources.snapshot
    return snapshot.types.names_of(row, snapshot.products[row]).name


def _own_terms(snapshot: Snapshot, product: Product, row: int) -> frozenset[str]:
    """The words by which a question may refer to a product: those of title, brand, type and category."""
    category = product.category[-1] if product.category else ""
    return title_terms(product) | terms_of(f"{category} {snapshot.types.name_of(row)}")


def _best_facts(
    question: Question, facts: Sequence[Fact], words: Sequence[Word], own: Collection[str]
) -> list[FactMatch]:
    is_of_package = any(word.terms & _OF_PACKAGES for word in words)
    candidates = (fact for fact in facts if not is_of_package or fact.field.terms & _OF_PACKAGES)
    found = (match_fact(question, fact, words, own) for fact in candidates)
    return sorted((each for each in found if each), key=lambda each: -each.score)


_OF_PACKAGES = frozenset(map(word_term, ("package", "packaging", "pallet", "carton", "shipping")))
"""Terms by which a question asks for a field of the package, which that of the product does not answer."""


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
    product: Product, sentences: Sequence[str], words: Sequence[Word], own: Collection[str]
) -> list[Quote]:
    if not sentences or not words:
        return []
    scores = [sentence_coverage(each, words, own) for each in sentences]
    score, _, best = max((score, -len(each), each) for score, each in zip(scores, sentences, strict=True))
    if score < (THRESHOLDS.long_sentence if len(words) > 2 else THRESHOLDS.sentence):
        return []
    return [Quote(best, "description", product.id, title=product.title, score=score)]


def _title_quotes(sources: Sources, product: Product, row: int, question: Question) -> list[Quote]:
    """The title, if it has all words of a yes-or-no question except those for the product ("is it noise cancelling"),
    or the number or colour that a question asks for: "how many amps", "what color"."""
    category = product.category[-1] if product.category else ""
    itself = terms_of(f"{category} {_type_name(sources, row)} {product.brand}")
    words = [word for word in question.words if not word.terms & itself]
    title = title_terms(product)
    if not title_has(product.title, title, words, question):
        return []
    return [Quote(product.title, "title", product.id, title=product.title, score=THRESHOLDS.sentence)]


def _about_type(sources: Sources, question: Question, named: NamedSubject) -> list[Quote]:
    """FAQ entries about a type or, without any, facts of its best products; for a yes-or-no question, products with a
    yes."""
    of_type = sources.faq.entries.find_bound(question, THRESHOLDS.faq, "", named.subject.product_type)
    if of_type:
        return _faq_quotes(of_type)
    if question.superlative and not question.is_whether:
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
    if not holding or not question.is_whether:  # "which are waterproof" is not answered by "yes"
        holding = [replace(quote, holds=None) for quote in holding or found]
    return sorted(holding, key=lambda each: -each.score)[:_MAX_QUOTES]


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


def _first_of_type(sources: Sources, question: Question, superlative: Superlative, named: NamedSubject) -> list[Quote]:
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
    return [quote for _, quote in ordered[:_MAX_QUOTES]]


def _offered(sources: Sources, question: Question, text: str, named: NamedSubject) -> list[Quote]:
    """The titles of named products, for a question that asks whether the store has them: a yes, or no quotes at all."""
    if parse_question(text).refers:  # "do you have a bag for it"
        return []
    found = []
    rows = named.rows if named.row is None else (named.row,)
    if not (rows or named.subject.product_type):  # a brand
        groups = sources.snapshot.analyzer.groups(searched_terms(" ".join(word.text for word in question.words)))
        where = question_condition(sources, text)
        rows = tuple(sources.snapshot.keyword.search(groups, CANDIDATES, where).rows.tolist())
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
    return found[:_MAX_QUOTES]


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
        if len(found) == _MAX_RELATED_FIELDS:
            break
    return tuple(found)


_MAX_RELATED_FIELDS = 2


_MAX_POPULAR = 500
"""Number of the most frequent questions that are tried."""


@dataclass(frozen=True, slots=True)
class UnansweredQuestion:
    """A shopper's question that no text of the store answers."""

    text: str
    times: int
    about: QuestionSubject
    """The product on whose page it was asked, or the subject that it names."""


def unanswered_questions(answer: Callable[..., Answer], root: Path, size: int) -> tuple[UnansweredQuestion, ...]:
    """The questions without an answer among the 500 most frequent popular queries of an index directory, most frequent
    first. `answer` is `SearchEngine.answer`. A question that enough shoppers asked on a product's page is counted for
    that product."""
    questions = sorted(_popular_questions(root), key=lambda each: -each[1])[:_MAX_POPULAR]
    found: list[UnansweredQuestion] = []
    for text, times, product_id in questions:
        try:
            result = answer(text, product_id)
        except (QueryError, UnknownProductError):  # the product is gone
            continue
        if result.status is AnswerStatus.NO_SOURCE:
            found.append(UnansweredQuestion(text, times, result.about))
    return tuple(found[:size])


def _popular_questions(root: Path) -> Iterator[tuple[str, int, str | None]]:
    """Popular questions with their counts, and the product on whose page each was asked, if any."""
    for each in read_popular_queries(root).queries:
        yield from ((each.text, times, product_id) for product_id, times in each.pages)
        others = each.searches - sum(times for _, times in each.pages)
        if others > 0 and is_question(each.text):
            yield each.text, others, None
