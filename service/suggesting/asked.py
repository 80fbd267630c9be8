"""What shoppers asked, as suggestions read it: one small file beside the index, made with the tables of events.

STORE/asked.json holds the queries that enough shoppers asked, with what goes with each, under a checksum. It is
replaced whole, and engines take it up by themselves. Queries of fewer shoppers than the settings say are not in it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import msgspec
import xxhash

from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from retrieval.manifest import file_stamp, write_durably
from retrieval.store_files import ASKED_FILE
from retrieval.surface_words import index_words, words_of
from retrieval.word_postings import WordPostings, postings_of

SCHEMA = 1
"""Counts up when the file changes so that an older program could not read it."""
MOST_BYTES = 64 << 20
_CURE = "shelfwise events refresh makes it anew"


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


class _File(msgspec.Struct, frozen=True):
    schema: int
    made: datetime
    xxh3: str
    """Of the bytes of `queries`."""
    queries: msgspec.Raw


class _Schema(msgspec.Struct, frozen=True):
    schema: int


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
    told = msgspec.json.encode(queries)
    content = _File(SCHEMA, made, xxhash.xxh3_64_hexdigest(told), msgspec.Raw(told))
    path = root / ASKED_FILE
    try:
        write_durably(path, msgspec.json.encode(content))
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}); see to the disk and to the rights") from error


def read_asked(root: Path) -> Asked:
    """What the file of an index directory says; NOTHING where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    path = root / ASKED_FILE
    try:
        with path.open("rb") as file:
            said = file.read(MOST_BYTES + 1)
        if len(said) > MOST_BYTES:
            raise StoreDamagedError(f"{path} has more than {MOST_BYTES:,} bytes; {_CURE}")
        if (schema := msgspec.json.decode(said, type=_Schema).schema) != SCHEMA:
            raise StoreForeignError(f"{path} is in schema {schema}, this program reads {SCHEMA}; {_CURE}")
        content = msgspec.json.decode(said, type=_File)
        queries = msgspec.json.decode(content.queries, type=tuple[AskedQuery, ...])
    except FileNotFoundError:
        return NOTHING
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); {_CURE}") from error
    if content.xxh3 != xxhash.xxh3_64_hexdigest(bytes(content.queries)):
        raise StoreDamagedError(f"{path} has another checksum than when it was written; {_CURE}")
    if any(not 0 <= at < len(queries) for query in queries for at in query.related):
        raise StoreDamagedError(f"{path} names related queries that it does not hold; {_CURE}")
    return Asked(queries)


class ServedAsked:
    """The queries that an engine suggests: read again when the file was replaced. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self.now = NOTHING
        self.notices: tuple[str, ...] = ()
        """Why no shopper's query is suggested although there is a file, or none."""

    def look(self) -> None:
        """Takes up a file that was written since the last look."""
        seen = file_stamp(self._root / ASKED_FILE)
        with self._lock:
            if seen == self._seen:
                return
            try:
                found, self.notices = read_asked(self._root), ()
            except StoreError as error:
                found, self.notices = NOTHING, (f"no query of shoppers is suggested: {error}",)
            # Made before it is shown to others: no shopper waits for it.
            _ = found.places, found.postings, found.sold
            self.now, self._seen = found, seen
