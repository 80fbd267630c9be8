"""Synonyms as a text file has them, one a line: "couch, sofa" or "hdd => hard disk". What `shelfwise rebuild
--synonyms` reads, too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from retrieval.errors import SynonymError
from service.synonyms.checking import sound
from service.synonyms.synonym import Kind, Synonym, named

MOST_FILE_BYTES = 16 << 20
_RIGHT = 'write "couch, sofa" (each finds the other) or "hdd => hard drive, hard disk" (the left finds the right)'


def parsed(line: str) -> Synonym:
    """The synonym that one line says, its id made of its words; raises SynonymError for one that says none."""
    left, arrow, right = line.partition("=>")
    if "=>" in right:
        raise SynonymError(f'more than one "=>" in {line.strip()[:100]!r}; {_RIGHT}')
    if not arrow and "," not in left:
        raise SynonymError(f"{line.strip()[:100]!r} has nothing to be a synonym of; {_RIGHT}")
    sides = (tuple(" ".join(phrase.split()) for phrase in side.split(",")) for side in (left, right))
    phrases, to = (tuple(dict.fromkeys(side)) for side in sides)
    return sound(named(Kind.ONE_WAY, phrases, to) if arrow else named(Kind.TWO_WAY, phrases))


def read_lines(path: Path) -> list[Synonym]:
    """The synonyms of a UTF-8 file; "#" starts a comment. Of lines with the same words in the same order the first
    counts. Raises SynonymError, which names the line."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            raise SynonymError(f"{path} has more than {MOST_FILE_BYTES:,} bytes; no store has so many synonyms")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise SynonymError(f"{path}: cannot be read ({error.strerror}); name a readable file") from error
    except UnicodeDecodeError as error:
        bad = error.object[: error.start].count(b"\n") + 1
        raise SynonymError(f"{path}:{bad}: not UTF-8; save the file as UTF-8") from error
    found: dict[str, Synonym] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if said := line.split("#", 1)[0].strip():
            try:
                synonym = parsed(said)
            except SynonymError as error:
                raise SynonymError(f"{path}:{number}: {error}", error.synonym, error.field) from error
            found.setdefault(synonym.id, synonym)
    return list(found.values())


def text_of(synonyms: Iterable[Synonym]) -> str:
    """A file of synonyms; those that are off stand there as comments."""
    return "".join(f"{'' if each.enabled else '# off: '}{each.line}\n" for each in synonyms)
