"""Whether a synonym can be taken: its bounds, and whether it would find anything."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import msgspec

from retrieval.analysis import phrase_key
from retrieval.errors import SynonymError
from retrieval.textfold import fold
from service.synonyms.synonym import Kind, Synonym, synonym_document

MOST_PHRASES = 30
"""On one side of a synonym."""
MOST_OTHERS = 60
"""That one phrase leads to, by all synonyms together: each is searched for."""
LONGEST_PHRASE = 100
LONGEST_ID = 100
MARKS = (",", "=>", "#")
"""What phrases and comments are told apart by in a file."""


def sound(synonym: Synonym) -> Synonym:
    """The synonym, checked, its white space made one; raises SynonymError, which names the field, what is wrong and
    what is right."""
    if not isinstance(synonym, Synonym):
        raise SynonymError(f"a synonym must be a Synonym, not {type(synonym).__name__}")
    name = str(synonym.id)[:LONGEST_ID]
    try:
        checked = msgspec.convert(synonym_document(synonym), Synonym)
    except (msgspec.ValidationError, TypeError) as error:
        raise SynonymError(f"synonym {name!r}: holds what no synonym may hold ({error})", name) from error
    try:
        return _checked(checked)
    except SynonymError as error:
        error.synonym = name
        raise


def check_together(synonyms: Iterable[Synonym]) -> None:
    """Raises SynonymError where there are too many of one phrase."""
    others = Counter[str]()
    for synonym in synonyms:
        for rule in synonym.rules if synonym.enabled else ():
            others[fold(rule.phrase)] += len(rule.others)
    for phrase, found in others.most_common(1):
        if found > MOST_OTHERS:
            message = f"{phrase!r} would have {found:,} synonyms, at most {MOST_OTHERS} of one phrase are searched for"
            raise SynonymError(message, field="phrases")


def _checked(synonym: Synonym) -> Synonym:
    _check_text("id", synonym.id, LONGEST_ID)
    place = f"synonym {synonym.id!r}: "
    phrases, to = (tuple(" ".join(each.split()) for each in side) for side in (synonym.phrases, synonym.to))
    is_one_way = synonym.kind == Kind.ONE_WAY
    least = 1 if is_one_way else 2
    _check_side(f"{place}phrases", phrases, least)
    if to and not is_one_way:
        raise SynonymError(f"{place}to: is given, although kind is two-way; list all in phrases", field="to")
    if is_one_way:
        _check_side(f"{place}to", to, 1)
    known: dict[object, str] = {}
    for field, side in (("phrases", phrases), ("to", to)):
        for phrase in side:
            before = known.setdefault(phrase_key(phrase), phrase)
            if before is not phrase:
                message = f"{place}{field}: {phrase!r} is the same to a search as {before!r}; name each once"
                raise SynonymError(message, field=field)
    return replace(synonym, phrases=phrases, to=to)


def _check_side(place: str, phrases: tuple[str, ...], least: int) -> None:
    field = place.rpartition(": ")[2]
    if not least <= len(phrases) <= MOST_PHRASES:
        raise SynonymError(f"{place}: has {len(phrases):,} phrases, it can have {least} to {MOST_PHRASES}", field=field)
    for number, phrase in enumerate(phrases):
        where = f"{place}[{number}]"
        _check_text(where, phrase, LONGEST_PHRASE, field)
        if mark := next((each for each in MARKS if each in phrase), None):
            raise SynonymError(f'{where}: {phrase!r} has "{mark}" in it, which no phrase may have', field=field)
        if not phrase_key(phrase):
            raise SynonymError(f"{where}: {phrase!r} holds no word; a phrase must have letters or digits", field=field)


def _check_text(place: str, text: str, longest: int, field: str = "") -> None:
    field = field or place
    if not text.strip():
        raise SynonymError(f"{place}: is empty; it must be given", field=field)
    if len(text) > longest:
        raise SynonymError(f"{place}: has {len(text):,} characters, at most {longest:,} are taken", field=field)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise SynonymError(f"{place}: has a control character in it, or half of one; leave it out", field=field)
