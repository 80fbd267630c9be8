"""What shoppers asked, as suggestions read it: one small file beside the index, made with the tables of events.

STORE/asked.json holds the queries that enough shoppers asked, with what goes with each, under a checksum. It is
replaced whole, and engines take it up by themselves. Queries of fewer shoppers than the settings say are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import msgspec

from retrieval.store_files import ASKED_FILE
from retrieval.surface_words import index_words, words_of
from retrieval.word_postings import WordPostings, postings_of
from service.sealed_json import SealedJson
from service.served_file import ServedFile

SCHEMA = 1
"""Counts up when the file changes so that an older program could not read it."""
MOST_BYTES = 64 << 20


class AskedQuery(msgspec.Struct, frozen=True):
    """A query that enough shoppers asked."""

    text: str
    """As it is typed most often."""
    searches: int
    sells: bool = False
    """Whether something was bought through it."""
    leads: bool = False
    """Whether it finds what is chosen: only then it is suggested."""
    related: tuple[int, ...] = ()
    """The queries that go with it, by their places, the nearest first."""


_FILE = SealedJson("queries", SCHEMA, msgspec.json.Decoder(tuple[AskedQuery, ...]))


@dataclass(frozen=True)
class Asked:
    """The queries of a store, those that are asked most first."""

    queries: tuple[AskedQuery, ...] = ()

    @cached_property
    def places(self) -> Mapping[tuple[str, ...], int]:
        """Each query's place by its words in any order; of several with the same words the one asked most."""
        return {asked_key(query.text): at for at, query in reversed(list(enumerate(self.queries)))}

    @cached_property
    def postings(self) -> WordPostings:
        """Which queries have which words."""
        return postings_of(
            [[part for word in words_of(each.text) for part in index_words(word)] for each in self.queries]
        )

    @cached_property
    def sold(self) -> frozenset[str]:
        """The words of queries that something was bought through."""
        return frozenset(word for each in self.queries if each.sells for word in words_of(each.text))


NOTHING = Asked()


def asked_key(text: str) -> tuple[str, ...]:
    """Equal for two queries of the same words."""
    return tuple(sorted(words_of(text)))


def write_asked(root: Path, queries: Sequence[AskedQuery], made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError where it cannot be written."""
    _FILE.write(root / ASKED_FILE, tuple(queries), made)


def read_asked(root: Path) -> Asked:
    """What the file of an index directory says; NOTHING where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    queries = _FILE.read(root / ASKED_FILE, MOST_BYTES, _problem)
    return NOTHING if queries is None else Asked(queries)


def _problem(queries: tuple[AskedQuery, ...]) -> str:
    is_right = all(0 <= at < len(queries) for query in queries for at in query.related)
    return "" if is_right else "names related queries that it does not hold"


class ServedAsked(ServedFile[Asked]):
    """The queries that an engine suggests."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / ASKED_FILE, lambda: _ready(root), NOTHING, "no query of shoppers is suggested")


def _ready(root: Path) -> Asked:
    """As `read_asked`, with all that is made of it: no shopper waits for that."""
    found = read_asked(root)
    _ = found.places, found.postings, found.sold
    return found
