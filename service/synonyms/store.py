"""The synonyms of an index directory, every change that was made to them, and the proposals that were declined:
STORE/synonyms.sqlite.

SQLite, so that the synonyms and the log of who changed them are written in one transaction, by one of many processes
(`service.sqlite_file`).
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from retrieval.close_names import close_names
from retrieval.errors import StoreDamagedError, SynonymError
from service.sqlite_file import Layout, SqliteFile
from service.synonyms.checking import check_together, sound
from service.synonyms.synonym import Synonym, decoded, encoded

SYNONYMS_STORE = "synonyms.sqlite"
LONGEST_WHO = 100
MOST_HISTORY = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LAYOUT = Layout(
    "synonyms",
    0x5357534E,
    1,
    """
CREATE TABLE synonyms (id TEXT PRIMARY KEY, synonym TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (
    revision INTEGER NOT NULL, id TEXT NOT NULL, time INTEGER NOT NULL, who TEXT NOT NULL, before TEXT, after TEXT,
    PRIMARY KEY (revision, id)
) WITHOUT ROWID;
CREATE INDEX changes_by_id ON changes (id, revision);
CREATE TABLE declined (proposal TEXT PRIMARY KEY, time INTEGER NOT NULL, who TEXT NOT NULL) WITHOUT ROWID;
""",
)
_REVISION = "SELECT coalesce(max(revision), 0) FROM changes"
_PUT = "INSERT INTO synonyms VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET synonym = excluded.synonym"


@dataclass(frozen=True, slots=True)
class SynonymChange:
    """What one change did to one synonym."""

    revision: int
    """Counts the changes of an index from 1; those of one call share a number."""
    time: datetime
    who: str
    """The name that was given, such as a pseudonym; empty where none was."""
    id: str
    before: Synonym | None
    """None where there was no such synonym."""
    after: Synonym | None
    """None where it was taken away."""


@dataclass(frozen=True, slots=True)
class StoredSynonyms:
    """The synonyms as they were at one revision, in the order of their ids."""

    revision: int = 0
    synonyms: tuple[Synonym, ...] = ()


def _now() -> datetime:
    return datetime.now(UTC)


class SynonymStore:
    """The synonyms of an index directory. Any number of threads and processes may use it at once; nothing is created
    until something is changed. What a method changes is durable when it returns, all of it or nothing.

    All methods raise StoreError, of which StoreDamagedError and StoreForeignError are kinds, where the file cannot be
    used.
    """

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = _now) -> None:
        self.path = root / SYNONYMS_STORE
        self._file = SqliteFile(self.path, _LAYOUT)
        self._clock = clock

    def stamp(self) -> tuple[int, int, int]:
        """Changes when the file does; zeros where there is none. It takes some microseconds."""
        return self._file.stamp()

    def revision(self) -> int:
        """The number of the last change, 0 before the first."""
        with self._file.reading() as cursor:
            return 0 if cursor is None else _revision(cursor)

    def read(self) -> StoredSynonyms:
        """The synonyms as they are."""
        with self._file.reading() as cursor:
            return StoredSynonyms() if cursor is None else StoredSynonyms(_revision(cursor), self._all(cursor))

    def get(self, synonym_id: str) -> Synonym:
        """One synonym; raises SynonymError where there is none of this id."""
        with self._file.reading() as cursor:
            line = _line(cursor, synonym_id) if cursor else None
            if line is None:
                raise _unknown(synonym_id, _ids(cursor) if cursor else [])
            return self._decoded(line)

    def put(self, synonyms: Sequence[Synonym], *, who: str = "") -> int:
        """Adds synonyms, or replaces those of the same id; returns the revision, which is the one before where all
        were there already. Raises SynonymError for one that cannot be taken."""
        wanted = {each.id: encoded(each) for each in map(sound, synonyms)}
        if len(wanted) < len(synonyms):
            raise SynonymError("two synonyms of one call have the same id; give each its own", field="id")
        return self._change(lambda _: wanted, who)

    def delete(self, ids: Iterable[str], *, who: str = "") -> int:
        """Takes synonyms away; returns the revision. Raises SynonymError for an id that is not there: then all stay."""
        wanted = list(ids)

        def gone(cursor: sqlite3.Cursor) -> Mapping[str, str | None]:
            known = _ids(cursor)
            strange = sorted(set(wanted).difference(known))
            if strange:
                raise _unknown(strange[0], known)
            return dict.fromkeys(wanted)

        return self._change(gone, who)

    def history(self, synonym_id: str | None = None, limit: int = 100) -> list[SynonymChange]:
        """The last changes, of one synonym or of all, newest first."""
        if not 1 <= limit <= MOST_HISTORY:
            raise SynonymError(f"limit is {limit}, it can be 1 to {MOST_HISTORY:,}", field="limit")
        which, values = ("", ()) if synonym_id is None else ("WHERE id = ?", (synonym_id,))
        query = f"SELECT revision, time, who, id, before, after FROM changes {which} ORDER BY revision DESC, id LIMIT ?"  # noqa: S608  # our own words
        with self._file.reading() as cursor:
            rows = [] if cursor is None else cursor.execute(query, (*values, limit)).fetchall()
        return [self._told(*row) for row in rows]

    def decline(self, proposal: str, *, who: str = "") -> None:
        """Has a proposal never come back; to decline it again changes nothing."""
        _check_who(who)
        with self._file.writing() as cursor:
            time = (self._clock() - _EPOCH) // timedelta(microseconds=1)
            cursor.execute("INSERT OR IGNORE INTO declined VALUES (?, ?, ?)", (proposal, time, who))

    def declined(self) -> frozenset[str]:
        """The ids of the proposals that were declined."""
        with self._file.reading() as cursor:
            rows = [] if cursor is None else cursor.execute("SELECT proposal FROM declined").fetchall()
        return frozenset(proposal for (proposal,) in rows)

    def _told(self, revision: int, time: int, who: str, synonym_id: str, *lines: str | None) -> SynonymChange:
        before, after = (None if line is None else self._decoded(line) for line in lines)
        return SynonymChange(revision, _EPOCH + timedelta(microseconds=time), who, synonym_id, before, after)

    def _change(self, wanted: Callable[[sqlite3.Cursor], Mapping[str, str | None]], who: str) -> int:
        """Makes synonyms what `wanted` says, None for none, and writes down what they were."""
        _check_who(who)
        with self._file.writing() as cursor:
            lines = wanted(cursor)
            before = {each: _line(cursor, each) for each in lines}
            changed = {each: line for each, line in lines.items() if line != before[each]}
            revision = _revision(cursor)
            if not changed:
                return revision
            put = {each: line for each, line in changed.items() if line is not None}
            cursor.executemany(_PUT, put.items())
            cursor.executemany("DELETE FROM synonyms WHERE id = ?", [(each,) for each in changed if each not in put])
            if put:
                check_together(self._all(cursor))
            time = (self._clock() - _EPOCH) // timedelta(microseconds=1)
            rows = [(revision + 1, each, time, who, before[each], line) for each, line in changed.items()]
            cursor.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)", rows)
            return revision + 1

    def _all(self, cursor: sqlite3.Cursor) -> tuple[Synonym, ...]:
        rows = cursor.execute("SELECT synonym FROM synonyms ORDER BY id").fetchall()
        return tuple(self._decoded(line) for (line,) in rows)

    def _decoded(self, line: str) -> Synonym:
        try:
            return decoded(line)
        except msgspec.MsgspecError as error:
            raise StoreDamagedError(f"{self.path} holds a synonym that cannot be read: {error}") from error


def _revision(cursor: sqlite3.Cursor) -> int:
    return int(cursor.execute(_REVISION).fetchone()[0])


def _line(cursor: sqlite3.Cursor, synonym_id: str) -> str | None:
    """A synonym as it is kept; None where there is none of this id."""
    row: tuple[str] | None = cursor.execute("SELECT synonym FROM synonyms WHERE id = ?", (synonym_id,)).fetchone()
    return None if row is None else row[0]


def _ids(cursor: sqlite3.Cursor) -> list[str]:
    return [each for (each,) in cursor.execute("SELECT id FROM synonyms ORDER BY id")]


def _unknown(synonym_id: str, known: Sequence[str]) -> SynonymError:
    close = close_names(synonym_id[:LONGEST_WHO], known)
    advice = f"did you mean {' or '.join(close)}?" if close else "shelfwise synonyms list shows those that are"
    return SynonymError(f"there is no synonym {synonym_id[:LONGEST_WHO]!r}; {advice}", synonym_id, "id")


def _check_who(who: str) -> None:
    if not isinstance(who, str) or len(who) > LONGEST_WHO:
        raise SynonymError(f"who must be a name of at most {LONGEST_WHO} characters", field="who")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in who):
        raise SynonymError("who: has a control character in it, or half of one; leave it out", field="who")
