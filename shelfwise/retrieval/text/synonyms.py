"""Synonym rules in Solr's format, applied to queries only, so that a change needs no new encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shelfwise.retrieval.errors import SettingError

_RIGHT = 'write "couch, sofa" (each finds the other) or "hdd => hard drive, hard disk" (the left finds the right)'


@dataclass(frozen=True, slots=True)
class SynonymRule:
    """A query with `phrase` also finds `others`."""

    phrase: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Synonyms:
    """The rules of one file, in order."""

    rules: tuple[SynonymRule, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Synonyms:
        """Read a UTF-8 file.

        Raises SettingError if the file cannot be read or a line is not a rule.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise SettingError(f"synonyms {path}: cannot be read ({error.strerror}); name a readable file") from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise SettingError(f"synonyms {path}:{line}: not UTF-8; save the file as UTF-8") from error
        return cls.parse(text.split("\n"), str(path))

    @classmethod
    def stored(cls, path: Path) -> Synonyms:
        """The synonyms in a version's file, or none without a file; raises SettingError if it is damaged."""
        return cls.load(path) if path.exists() else cls()

    @classmethod
    def parse(cls, lines: Iterable[str], name: str = "synonyms") -> Synonyms:
        """Read lines; "#" starts a comment, and empty lines are skipped. Errors show `name` before the line number.

        Raises SettingError with the number of a line that is not a rule.
        """
        rules: list[SynonymRule] = []
        for number, line in enumerate(lines, 1):
            if text := line.split("#", 1)[0].strip():
                rules.extend(_rules(text, f"{name}:{number}"))
        return cls(tuple(rules))

    @property
    def text(self) -> str:
        """The rules in the format of a file."""
        return "".join(f"{rule.phrase} => {', '.join(rule.others)}\n" for rule in self.rules)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with the rules; comments, spacing and the file's name do not count."""
        lines = ("\t".join((rule.phrase, *rule.others)) for rule in self.rules)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _rules(text: str, where: str) -> Iterator[SynonymRule]:
    left, *rest = (_phrases(side, where) for side in text.split("=>"))
    if len(rest) > 1:
        raise SettingError(f'{where}: more than one "=>" in {text!r}; {_RIGHT}')
    if not rest and len(left) < 2:
        raise SettingError(f"{where}: {text!r} has no synonym; {_RIGHT}")
    for phrase in left:
        others = tuple(other for other in (rest[0] if rest else left) if other != phrase)
        if others:
            yield SynonymRule(phrase, others)


def _phrases(side: str, where: str) -> tuple[str, ...]:
    phrases = tuple(" ".join(phrase.split()) for phrase in side.split(","))
    for phrase in phrases:
        if not any(map(str.isalnum, phrase)):
            raise SettingError(f"{where}: {phrase!r} has no word; {_RIGHT}")
    return tuple(dict.fromkeys(phrases))
