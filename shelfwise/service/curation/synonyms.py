"""Synonyms of a store: their types, text form and validation, and their store with a log of every change."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from shelfwise.retrieval.errors import SynonymError
from shelfwise.retrieval.text.analysis import SynonymRule, fold, phrase_key
from shelfwise.retrieval.text.vocabulary import words_of
from shelfwise.retrieval.updates.validation import read_text
from shelfwise.service.curation.document_store import DocumentCodec, DocumentStore, check_text

_LONGEST_NAME = 60


class SynonymKind(StrEnum):
    """Direction of a synonym."""

    TWO_WAY = "two-way"
    """A query for any of `phrases` also finds the others."""
    ONE_WAY = "one-way"
    """A query for any of `phrases` also finds `to`, but not the other way round."""


@dataclass(frozen=True, slots=True)
class Synonym:
    """Phrases with the same meaning in searches."""

    id: str
    kind: SynonymKind
    phrases: tuple[str, ...]
    to: tuple[str, ...] = ()
    """Phrases that are also found; empty for a two-way synonym."""
    enabled: bool = True

    @property
    def rules(self) -> Iterator[SynonymRule]:
        """The expansions of each phrase."""
        for phrase in self.phrases:
            others = (
                self.to if self.kind == SynonymKind.ONE_WAY else tuple(each for each in self.phrases if each != phrase)
            )
            yield SynonymRule(phrase, others)

    @property
    def line(self) -> str:
        """The synonym as a line of a synonyms file."""
        arrow = f" => {', '.join(self.to)}" if self.kind == SynonymKind.ONE_WAY else ""
        return f"{', '.join(self.phrases)}{arrow}"


def name_synonym(
    kind: SynonymKind, phrases: tuple[str, ...], to: tuple[str, ...] = (), *, enabled: bool = True
) -> Synonym:
    """A synonym whose id is derived from its words, so that equal synonyms have equal ids."""
    sides = ("-".join("-".join(words_of(phrase)) for phrase in side) for side in (phrases, to) if side)
    name = "-to-".join(sides)
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Synonym(name, kind, phrases, to, enabled)


MAX_FILE_BYTES = 16 << 20
_RIGHT = 'write "couch, sofa" (each finds the other) or "hdd => hard drive, hard disk" (the left finds the right)'


def parse_line(line: str) -> Synonym:
    """The synonym of one line, with an id derived from its words; raises SynonymError for an invalid line."""
    left, arrow, right = line.partition("=>")
    if "=>" in right:
        raise SynonymError(f'more than one "=>" in {line.strip()[:100]!r}; {_RIGHT}')
    if not arrow and "," not in left:
        raise SynonymError(f"{line.strip()[:100]!r} has no synonym; {_RIGHT}")
    sides = (tuple(" ".join(phrase.split()) for phrase in side.split(",")) for side in (left, right))
    phrases, to = (tuple(dict.fromkeys(side)) for side in sides)
    kind, others = (SynonymKind.ONE_WAY, to) if arrow else (SynonymKind.TWO_WAY, ())
    return SynonymStore.kind.validate(name_synonym(kind, phrases, others))


def read_lines(path: Path) -> list[Synonym]:
    """The synonyms of a UTF-8 file; "#" starts a comment. Of lines with the same words in the same order, the first
    counts. Raises SynonymError, which names the line."""
    found: dict[str, Synonym] = {}
    for number, line in enumerate(read_text(path, SynonymError, MAX_FILE_BYTES).split("\n"), 1):
        if entry := line.split("#", 1)[0].strip():
            try:
                synonym = parse_line(entry)
            except SynonymError as error:
                raise SynonymError(f"{path}:{number}: {error}", error.document, error.field) from error
            found.setdefault(synonym.id, synonym)
    return list(found.values())


def format_lines(synonyms: Iterable[Synonym]) -> str:
    """The text of a synonyms file; synonyms that are off become comments."""
    return "".join(f"{'' if each.enabled else '# off: '}{each.line}\n" for each in synonyms)


MAX_PHRASES = 30
"""Maximum number of phrases on one side of a synonym."""
MAX_OTHERS = 60
"""Maximum number of expansions of one phrase over all synonyms, since each is searched for."""
LONGEST_PHRASE = 100
LONGEST_ID = 100
MARKS = (",", "=>", "#")
"""Separators of phrases and comments in a file."""


def _check(synonym: Synonym, place: str) -> Synonym:
    place = f"{place}: "
    check_text(f"{place}id", synonym.id, LONGEST_ID, SynonymError, must=True)
    phrases, to = (tuple(" ".join(each.split()) for each in side) for side in (synonym.phrases, synonym.to))
    is_one_way = synonym.kind == SynonymKind.ONE_WAY
    least = 1 if is_one_way else 2
    _check_side(f"{place}phrases", phrases, least)
    if to and not is_one_way:
        raise SynonymError(f"{place}to: is given, but kind is two-way; list all in phrases", field="to")
    if is_one_way:
        _check_side(f"{place}to", to, 1)
    known: dict[object, str] = {}
    for field, side in (("phrases", phrases), ("to", to)):
        for phrase in side:
            before = known.setdefault(phrase_key(phrase), phrase)
            if before is not phrase:
                message = f"{place}{field}: {phrase!r} is the same as {before!r} in searches; name each once"
                raise SynonymError(message, field=field)
    return replace(synonym, phrases=phrases, to=to)


def _check_side(place: str, phrases: tuple[str, ...], least: int) -> None:
    field = place.rpartition(": ")[2]
    if not least <= len(phrases) <= MAX_PHRASES:
        raise SynonymError(f"{place}: has {len(phrases):,} phrases, it can have {least} to {MAX_PHRASES}", field=field)
    for number, phrase in enumerate(phrases):
        where = f"{place}[{number}]"
        check_text(where, phrase, LONGEST_PHRASE, SynonymError, must=True, field=field)
        if mark := next((each for each in MARKS if each in phrase), None):
            raise SynonymError(f'{where}: {phrase!r} contains "{mark}", which is not allowed', field=field)
        if not phrase_key(phrase):
            raise SynonymError(f"{where}: {phrase!r} has no word; a phrase must have letters or digits", field=field)


class SynonymStore(DocumentStore[Synonym]):
    """The synonyms of an index directory and their changes (INDEX/synonyms.sqlite); its errors are SynonymError."""

    kind = DocumentCodec(
        one="synonym",
        many="synonyms",
        entry=Synonym,
        application=0x5357534E,
        error=SynonymError,
        check=_check,
        from_user=lambda new: new if new.id else name_synonym(new.kind, new.phrases, new.to, enabled=new.enabled),
    )

    def _check_together(self, cursor: sqlite3.Cursor) -> None:
        super()._check_together(cursor)
        others = Counter[str]()
        for synonym in self._all(cursor):
            for rule in synonym.rules if synonym.enabled else ():
                others[fold(rule.phrase)] += len(rule.others)
        for phrase, found in others.most_common(1):
            if found > MAX_OTHERS:
                message = f"{phrase!r} would have {found:,} synonyms, at most {MAX_OTHERS} are allowed"
                raise SynonymError(message, field="phrases")
