"""An engine's suggestions, corrections and related searches: by the words of the version that serves, and by what
shoppers asked, each taken up anew when it changes."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from retrieval.catalog_words import CatalogWords, are_current
from retrieval.errors import ClusterError, QueryError, StoreDamagedError
from retrieval.layout import WORDS_FOLDER
from retrieval.published import Store
from service.merchandising.compiled import CompiledRules
from service.popularity import ServedPopularity
from service.searching import MOST_TEXT
from service.snapshot import Snapshot
from service.suggesting.asked import Asked, ServedAsked, asked_key
from service.suggesting.completing import Completer, Material
from service.suggesting.corrections import Meant
from service.suggesting.meaning import Meanings
from service.suggesting.suggestions import Suggestions
from service.suggesting.typed import Typed

MOST_SUGGESTIONS = 50


@dataclass(frozen=True, slots=True)
class _Opened:
    """The words of one version; None where it has none, and why."""

    version: str = ""
    words: CatalogWords | None = None
    notices: tuple[str, ...] = ()


class Suggester:
    """Suggests for one index directory. Safe to share between threads."""

    def __init__(self, root: Path, popularity: ServedPopularity) -> None:
        self._store = Store(root)
        self._asked = ServedAsked(root)
        self._popularity = popularity
        self._lock = threading.Lock()
        self._opened = _Opened()

    @property
    def notices(self) -> tuple[str, ...]:
        """What suggestions have to do without, or nothing."""
        return (*self._opened.notices, *self._asked.notices)

    def look(self, snapshot: Snapshot) -> None:
        """Takes up another version's words, and what was made of events since the last look."""
        self._words(snapshot)
        self._asked.look()
        self._popularity.look()

    def suggest(self, snapshot: Snapshot, text: str, size: int, rules: CompiledRules | None = None) -> Suggestions:
        """What may be meant by what was typed so far, without the products that `rules` keep out; raises QueryError for
        what cannot be."""
        _check(text, size)
        words, asked = self._words(snapshot), self._asked.now
        meanings = Meanings(snapshot, words, asked.sold) if words else None
        completer = Completer(Material(snapshot, asked, self._popularity.now, words, meanings, rules))
        missing = () if words else ("words",)
        found = completer.complete(Typed(text), size, text)
        if found or meanings is None:
            return dataclasses.replace(found, degraded=missing)
        try:
            for corrected in meanings.of_beginning(text):
                if instead := completer.complete(Typed(corrected), size, text):
                    return dataclasses.replace(instead, corrected=corrected)
        except (ClusterError, StoreDamagedError):
            return dataclasses.replace(found, degraded=("corrections",))
        return found

    def meant(self, snapshot: Snapshot, text: str) -> Meant | None:
        """What a whole query was meant to be; None where it may be meant as it stands. Raises as the keyword index."""
        words = self._words(snapshot)
        return Meanings(snapshot, words, self._asked.now.sold).of_query(text) if words else None

    def related(self, snapshot: Snapshot, text: str, size: int) -> tuple[str, ...]:
        """The queries that go with one, nearest first: as shoppers moved between them; else those that say more."""
        _check(text, size)
        asked = self._asked.now
        place = asked.places.get(asked_key(text))
        found = _saying_more(asked, text) if place is None else asked.queries[place].related
        words = self._words(snapshot)
        meanings = Meanings(snapshot, words, asked.sold) if words else None
        texts = (asked.queries[at].text for at in found if asked.queries[at].leads)
        return tuple(islice((text for text in texts if not (meanings and meanings.is_misspelled(text))), size))

    def _words(self, snapshot: Snapshot) -> CatalogWords | None:
        version = snapshot.manifest.version
        opened = self._opened
        if opened.version != version:
            with self._lock:
                opened = self._opened
                if opened.version != version:
                    opened = self._opened = self._open(version)
        return opened.words

    def _open(self, version: str) -> _Opened:
        folder = self._store.version_folder(version) / WORDS_FOLDER
        if not are_current(folder):
            told = f"{version} has no words to suggest and correct by, as an older program built it; shelfwise rebuild"
            return _Opened(version, None, (f"{told} makes them",))
        try:
            return _Opened(version, CatalogWords.open(folder))
        except StoreDamagedError as error:
            return _Opened(version, None, (f"nothing of the catalog is suggested or corrected: {error}",))


def _saying_more(asked: Asked, text: str) -> list[int]:
    """The queries that have all words of a text, those asked most first."""
    typed = Typed(f"{text} ")
    lookups = list(typed.lookups)
    if not lookups or typed.is_too_long:
        return []
    return [int(at) for at in asked.postings.matching(lookups)]


def _check(text: str, size: int) -> None:
    """Refuses what cannot be suggested for, naming the argument."""
    if not isinstance(text, str):
        raise QueryError(f"text is {type(text).__name__}, it must be str")
    if len(text) > MOST_TEXT:
        raise QueryError(f"the text has {len(text)} characters, at most {MOST_TEXT} are looked at")
    if type(size) is not int:
        raise QueryError(f"size is {type(size).__name__}, it must be int")
    if not 0 <= size <= MOST_SUGGESTIONS:
        raise QueryError(f"size is {size}, it can be 0 to {MOST_SUGGESTIONS}")
