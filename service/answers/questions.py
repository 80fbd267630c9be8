"""Questions of shoppers: whether a text is a question, in English or Chinese, and which words of it matter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import msgspec

from indexer.cleaning.measures import parse_quantity
from retrieval.text.analysis import HAN, chinese_words, contains_chinese, fold, word_term
from retrieval.text.units import QUANTITIES, quantities

MOST_CHARACTERS = 1_000
"""Maximum length of a question."""
_MOST_WORDS = 60

_TOKEN = re.compile(rf"[a-z0-9][a-z0-9.'/-]*|[{HAN}]+")
_LEAD = re.compile(
    r"^(?:(?:hi|hello|hey|please|ok|okay|so|and|but|well|question|quick question)\b[\s,:!.]*|"
    r"(?:can|could|would) you (?:please )?(?:tell me|say)(?: if| whether)?\s|i(?:'d| would)? (?:want|like) to know"
    r"(?: if| whether)?\s|would you say\s|do you know(?: if| whether)?\s|tell me(?: if| whether)?\s|"
    r"请问(?:一下)?|你好|想问(?:一下|下)?|问一下)+"
)
_THING = r"(?:it|this|that|these|those|they|the|there|one|any|you|we|i|my|a|an|its|anyone|someone)"
_BE = r"(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|'s|'re)"
_ENGLISH = re.compile(
    rf"""
    what(?:(?:'s|\ is|\ are|\ does|\ do|\ did|\ was|\ can|\ will|\ would|\ should)\b|(?:\ \S+){{1,3}}\ {_BE}\b)
    |which(?:\ \S+){{0,3}}\ {_BE}\b
    |who(?:'s|\ (?:is|are|makes|made|manufactures|produces|sells|designed|founded|can|should))\b
    |whose\ \S+\ {_BE}\b|(?:where|when|why)(?:'s|\ {_BE})\b
    |how\ (?:much|many|long|big|wide|tall|heavy|deep|large|often|high|thick|fast|loud|noisy|far|old|hot|cold|strong
       |bright|powerful|small|hard|good|well|soon|thin|narrow|sharp|sturdy|accurate|warm|quiet|expensive|cheap)\b
    |how\ (?:is|are|was)\b|how\ (?:do|does|can|could|should|will|would)\ (?!-)
    |(?:is|are|does)\ (?:\S+\ ){{1,}}\S+
    |do\ (?!(?:it|this|that|a|an|one)\b){_THING}\b|(?:did|can|could|will|would|should|has|have|was|may|must)\ {_THING}\b
    """,
    re.VERBOSE,
)
_YES_NO = re.compile(
    rf"(?:is|are|do|does|did|can|could|will|would|should|has|have|was|may|must)\s|.*\b(?:is|are|does|do)\s{_THING}\b"
)
_WORK = re.compile(
    r"\b(?:dvd|blu-?ray|cd|book|novel|movie|film|soundtrack|album|poster|paperback|hardcover|vinyl|lyrics|game|t-?shirt)s?$"
)
"""Endings of searches for works whose titles read like questions."""
_CHINESE = re.compile(
    r"[吗嘛么?]$|[吗呢]|什么|多少|多大|多重|多长|多高|多宽|多厚|多深|多久|几[个只片寸年岁码天升瓦伏人层档种支根孔块台件次]"
    r"|能不能|能否|是不是|是否|有没有|可不可以|可以.*吗|会不会|可否|怎么样|怎么[用洗装开清保]|如何|哪[个里种款些儿国家年]"
    r"|为什么|为何|是谁|谁[做设制]|何时|(.)不\1|还有没有"
)
_CHINESE_YES_NO = re.compile(r"吗|能不能|能否|是不是|是否|有没有|可不可以|会不会|可否|(.)不\1|没有$")
_STORE = "(?:你们|你家|贵店|本店|店里|这里)?店?[还也]?"
_OFFER = re.compile(
    r"(?:(?:do|does) (?:you|(?:the|this|your) (?:store|shop))(?: guys| still| also)* (?:sell|have|carry|stock|offer)"
    r"|have you got|(?:are|is) there any|can i buy|where (?:can|do) i (?:buy|find))(?: any| some)? (?P<thing>.+?)"
    r"(?: here)?"
    rf"|{_STORE}(?:(?:有没有卖?|卖不卖)(?P<which>.+?)[吗么嘛呢]?|(?:有卖|有售|出售|卖|有)(?P<what>.+?)[吗么嘛])"
    rf"|{_STORE}(?P<named>.+?)(?:有没有卖?|有卖|卖不卖|有)[吗么嘛呢]?"
)
_PRONOUN = re.compile(r"\b(?:it|this|that|these|those|they|them|its|this one)\b|它|这个|这款|这件|这台|这种|该")


class QuestionKind(StrEnum):
    """Kinds of questions."""

    VALUE = "value"
    """Asks for a value or a text: "how heavy is it"."""
    YES_NO = "yes_no"
    """Asks whether something holds: "is it waterproof"."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A quantity to compare with: "less than 2 lb"."""

    operator: str
    """"<", ">" or "="."""
    number: float
    """In the base unit, or as written if there is no unit."""
    unit: str
    """Base unit, as in `parse_quantity`; empty if there is none."""
    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """A meaningful word or phrase of a question."""

    text: str
    terms: frozenset[str]
    """Stem and synonyms; a field or sentence matches if it has any of them."""
    is_concept: bool = False
    """Whether it is a usual way to ask for a field ("how heavy")."""
    value_terms: frozenset[str] = frozenset()
    """Stems of a value that it names in addition to the field: "red" names a colour."""


@dataclass(frozen=True, slots=True)
class Question:
    """A parsed question."""

    text: str
    folded: str
    kind: QuestionKind
    words: tuple[Word, ...]
    bound: Bound | None
    is_chinese: bool
    unit: str
    """Base unit of the quantity that it asks for ("how many volts"); empty if it names none."""
    refers: bool
    """Whether it refers to a product without naming it: "it"."""
    is_offer: bool = False
    """Whether it asks if the store has something: "do you sell drills". Its words then describe that product."""


def _folded(text: str) -> str:
    """A text on one line, folded; some characters become several, which count, too."""
    return " ".join(fold(text[:MOST_CHARACTERS])[:MOST_CHARACTERS].split())


def is_question(text: str) -> bool:
    """Whether a text reads as a question, not a search; the title of a work that reads like one is a search."""
    folded = _folded(text)
    has_mark = folded.endswith("?")
    folded = folded.rstrip("?!. ")
    bare = _LEAD.sub("", folded)
    if contains_chinese(bare) and (_CHINESE.search(bare) or (has_mark and len(bare) > 2)):
        return True
    words = bare.split()
    if len(words) < 2:
        return False
    if has_mark:
        return len(words) > 2 or bool(_ENGLISH.match(bare))
    if _WORK.search(bare) or len(words) < 3:
        return False
    if words[0] in ("do", "can", "will") and words[1] in ("the", "a", "you", "one") and len(words) < 5:
        return False
    return bool(_ENGLISH.match(bare)) or bare != folded


def load_questions() -> None:
    """Loads in advance what the first question needs: units, concepts, the Chinese dictionary."""
    parse_question("is it 1 kg")
    parse_question("它防水吗")
    quantities_in("1 kg")


def parse_question(text: str) -> Question:
    """The words of a question; any text can be parsed as one."""
    folded = _folded(text)
    bare = _LEAD.sub("", folded.rstrip("?!. ")).strip()
    is_chinese = contains_chinese(bare)
    if is_chinese:
        kind = QuestionKind.YES_NO if _CHINESE_YES_NO.search(bare) else QuestionKind.VALUE
    else:
        is_open = re.match(
            r"(?:what|which|who|whose|where|when|why|how|for what|from what|at (?:what|which|how))\b", bare
        )
        kind = QuestionKind.YES_NO if not is_open and _YES_NO.match(bare) else QuestionKind.VALUE
    offer = _OFFER.fullmatch(bare)
    bound, rest = _bound_of(offer[str(offer.lastgroup)] if offer else bare)
    words = tuple(_words_of(rest))[:_MOST_WORDS]
    refers = bool(_PRONOUN.search(bare))
    return Question(text, folded, kind, words, bound, is_chinese, _unit_of(bare), refers, offer is not None)


_HOW_MANY = re.compile(r"\bhow many ((?:fl |sq )?[a-z]+)|多少([^的是]{1,3})")


def _unit_of(bare: str) -> str:
    found = _HOW_MANY.search(bare)
    parsed = parse_quantity(f"1 {found[1] or found[2]}") if found else None
    return parsed[0] if parsed else ""


@lru_cache(maxsize=2**13)
def content_terms(text: str) -> tuple[str, ...]:
    """The terms of a text in order, without stop words."""
    return tuple(term for word in split_words(fold(text)) for term in (word_term(word),) if not _is_stop(word, term))


def split_words(folded: str) -> Iterator[str]:
    """The words of a folded text; Chinese is segmented."""
    for found in _TOKEN.findall(folded):
        if contains_chinese(found):
            yield from chinese_words(found)
            continue
        word = found.rstrip(".'/-").removesuffix("'s")
        if re.fullmatch(r"[a-z]+(?:[/-][a-z]+)+", word):
            yield from re.split("[/-]", word)
        elif word:
            yield word


def _is_stop(word: str, term: str) -> bool:
    return term in _read_concepts().stop_words or word in _read_concepts().stop_words


class _Concept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A usual way to ask for a field."""

    words: str
    phrases: tuple[str, ...]
    values: bool = False


class _ConceptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    english_stop: str
    chinese_stop: str
    concepts: tuple[_Concept, ...]


@dataclass(frozen=True, slots=True)
class _Concepts:
    """The concepts of concepts.toml, compiled to one pattern with a group for each."""

    pattern: re.Pattern[str]
    terms: tuple[frozenset[str], ...]
    """Stems of the fields that each concept asks for."""
    are_values: tuple[bool, ...]
    stop_words: frozenset[str]
    """Words and stems that carry no meaning in a question."""


@lru_cache(maxsize=1)
def _read_concepts() -> _Concepts:
    path = Path(__file__).with_name("concepts.toml")
    file = msgspec.toml.decode(path.read_bytes(), type=_ConceptFile)
    concepts, english = file.concepts, file.english_stop.split()
    parts = [
        "|".join(each if contains_chinese(each) else rf"(?<![a-z0-9]){each}(?![a-z0-9])" for each in concept.phrases)
        for concept in concepts
    ]
    return _Concepts(
        re.compile("|".join(f"(?P<c{at}>{part})" for at, part in enumerate(parts))),
        tuple(frozenset(map(word_term, concept.words.split())) for concept in concepts),
        tuple(concept.values for concept in concepts),
        frozenset((*english, *map(word_term, english), *file.chinese_stop.split())),
    )


def _words_of(bare: str) -> Iterator[Word]:
    """The words of a question: concepts first, then the remaining words without stop words."""
    concepts = _read_concepts()
    seen: set[str] = set()
    rest = bare
    for number, found in _concepts(bare):
        names = concepts.terms[number]
        text = found[0]
        # A phrase around the product ("how much does X hold") keeps the product for parsing.
        inner = re.fullmatch(r"(\S+ \S+ \S+) (.{1,200}?) (\S+)", text) if len(text) > 24 else None
        rest = rest.replace(text, f" {inner[2]} " if inner else " ; ", 1)
        own = frozenset(content_terms(text)) if not inner else frozenset[str]()
        values = _value_terms(text) if concepts.are_values[number] else frozenset[str]()
        yield Word(text, names | own | values, is_concept=True, value_terms=values)
        seen |= names | own
    for word in split_words(rest):
        term = word_term(word)
        if not _is_stop(word, term) and term not in seen:
            seen.add(term)
            yield Word(word, frozenset({term}))


_GENDERS = ("男", "女")


def _value_terms(text: str) -> frozenset[str]:
    terms = frozenset(content_terms(text.removeprefix("meant ").removeprefix("for ")))
    return terms | {f"{each}款" for each in _GENDERS if each in text}


@lru_cache(maxsize=2**12)
def concept_terms(text: str) -> frozenset[str]:
    """The stems of the fields that the concepts in a text ask for."""
    terms = _read_concepts().terms
    return frozenset[str]().union(*(terms[number] for number, _ in _concepts(fold(text))))


def quantities_in(text: str) -> list[tuple[str, float]]:
    """The base unit and the number of each quantity with a unit in a text."""
    found = (parse_quantity(each[0]) for each in _QUANTITY.finditer(fold(text)))
    return [each for each in found if each]


def _concepts(bare: str) -> Iterator[tuple[int, re.Match[str]]]:
    """The concepts in a folded text, each once, with the matched phrase."""
    numbers = set()
    for found in _read_concepts().pattern.finditer(bare):
        number = int(str(found.lastgroup)[1:])
        if number not in numbers:
            numbers.add(number)
            yield number, found


_QUANTITY = re.compile(rf"(?<![a-z0-9.]){QUANTITIES}")
_BELOW = re.compile(
    r"\b(?:less|lighter|shorter|smaller|cheaper|lower|fewer|under|below|up to|at most|no more|max\S*)\b(?: than)?"
    r"[^0-9]{0,12}$|(?:小于|少于|低于|不到|不超过|轻于|短于|最多)\s?$"
)
_HOW_MANY_BEFORE = re.compile(r"how many $|多少$|几$")
_LONGEST_COMPARISON = 60
"""Characters before a quantity in which the words that compare with it are looked for: a question may have a thousand
quantities."""
_ABOVE = re.compile(
    r"\b(?:more|heavier|longer|taller|bigger|larger|higher|greater|over|above|at least|min\S*|exceed\S*)\b(?: than)?"
    r"[^0-9]{0,12}$|(?:大于|多于|高于|超过|至少|重于|长于)\s?$"
)


def _bound_of(bare: str) -> tuple[Bound | None, str]:
    """The quantity that a question compares with (the last one with a unit or a comparison), and the question without
    it."""
    for found in reversed(list(_QUANTITY.finditer(bare))):
        span = bare, max(0, found.start() - _LONGEST_COMPARISON), found.start()
        if _HOW_MANY_BEFORE.search(*span):
            continue
        below = _BELOW.search(*span)
        comparison = below or _ABOVE.search(*span)
        operator = "<" if below else ">" if comparison else "="
        parsed = parse_quantity(found[0])
        if parsed is None and operator == "=":
            continue
        read = quantities(found[0])
        if parsed is None and len(read) != 1:
            continue
        unit, number = parsed or ("", float(read[0].number.lstrip("m") or 0))
        before = bare[: comparison.start()] + " " if comparison else bare[: found.start()]
        return Bound(operator, number, unit, found[0]), f"{before} {bare[found.end() :]}"
    return None, bare
