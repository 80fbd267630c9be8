"""What a kept synonym is, and the rules that queries are expanded by it with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from retrieval.surface_words import words_of
from retrieval.synonyms import SynonymRule

_LONGEST_NAME = 60


class Kind(StrEnum):
    """In which direction a synonym works."""

    TWO_WAY = "two-way"
    """Who types one of `phrases` also finds the others."""
    ONE_WAY = "one-way"
    """Who types one of `phrases` also finds `to`, and nobody the other way round."""


@dataclass(frozen=True, slots=True)
class Synonym:
    """Phrases that mean the same to a search."""

    id: str
    kind: Kind
    phrases: tuple[str, ...]
    to: tuple[str, ...] = ()
    """Empty where it is two-way."""
    enabled: bool = True

    @property
    def rules(self) -> Iterator[SynonymRule]:
        """What it says for each phrase."""
        for phrase in self.phrases:
            others = self.to if self.kind == Kind.ONE_WAY else tuple(each for each in self.phrases if each != phrase)
            yield SynonymRule(phrase, others)

    @property
    def line(self) -> str:
        """As a file of synonyms has it."""
        arrow = f" => {', '.join(self.to)}" if self.kind == Kind.ONE_WAY else ""
        return f"{', '.join(self.phrases)}{arrow}"


def named(kind: Kind, phrases: tuple[str, ...], to: tuple[str, ...] = ()) -> Synonym:
    """A synonym whose id is made of its words, so that the same one has the same id each time."""
    sides = ("-".join("-".join(words_of(phrase)) for phrase in side) for side in (phrases, to) if side)
    name = "-to-".join(sides)
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Synonym(name, kind, phrases, to)


def synonym_document(synonym: Synonym) -> dict[str, object]:
    """A synonym as plain values that JSON has."""
    said: dict[str, object] = msgspec.to_builtins(synonym)
    return said


def encoded(synonym: Synonym) -> str:
    """A synonym as one line of JSON."""
    return msgspec.json.encode(synonym).decode()


def decoded(line: str) -> Synonym:
    """The synonym of which `encoded` made this line; raises msgspec.DecodeError for another one."""
    return msgspec.json.decode(line, type=Synonym)
