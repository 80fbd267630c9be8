"""Entries that people keep beside an index, such as merchandising rules, and every change that was made to them.

SQLite, so that the entries and the log of who changed them are written in one transaction, by one of many processes
(`service.sqlite_file`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Generic

import msgspec

from retrieval.close_names import meant
from retrieval.errors import InputError, StoreDamagedError
from service.entry_kind import Change, Entry, EntryKind
from service.sqlite_file import SqliteFile
from service.who_and_when import MICROSECOND, check_who, count_of, moment_of, wall_clock

MOST_ENTRIES = 10_000
"""Of one kind, of one index."""
MOST_HISTORY = 10_000
_LONGEST_SHOWN = 100

# {many} and {one} are the kind's.
_REVISION = "SELECT coalesce(max(revision), 0) FROM changes"
_IDS = "SELECT id FROM {many} ORDER BY id"
_ALL = "SELECT {one} FROM {many} ORDER BY id"
_ONE = "SELECT {one} FROM {many} WHERE id = ?"
_COUNT = "SELECT count(*) FROM {many}"
_PUT = "INSERT INTO {many} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET {one} = excluded.{one}"
_DELETE = "DELETE FROM {many} WHERE id = ?"
_LOG = "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)"
# What each entry was at a revision: what its first later change found.
_AT = """
SELECT id, before FROM changes JOIN (SELECT id AS changed, min(revision) AS first FROM changes WHERE revision > ?
GROUP BY id) ON id = changed AND revision = first
"""


class LoggedEntries(Generic[Entry, Change]):
    """The entries of one kind of an index directory: INDEX/rules.sqlite for rules. Any number of threads and processes
    may use it at once; nothing is created until something is changed. What a method changes is durable when it returns,
    all of it or nothing.

    All methods raise StoreError, of which StoreDamagedError and StoreForeignError are kinds, where the file cannot be
    used, and the kind's own error for an entry that cannot be taken or is not there.
    """

    kind: EntryKind[Entry, Change]

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = wall_clock) -> None:
        self.path = root / f"{self.kind.many}.sqlite"
        self._file = SqliteFile(self.path, self.kind.layout)
        self._clock = clock

    def stamp(self) -> tuple[int, int, int]:
        """Changes when the file does; zeros where there is none. It takes some microseconds."""
        return self._file.stamp()

    def revision(self) -> int:
        """The number of the last change, 0 before the first."""
        with self._file.reading() as cursor:
            return 0 if cursor is None else _revision(cursor)

    def get(self, entry_id: str) -> Entry:
        """One entry."""
        with self._file.reading() as cursor:
            return self._decoded(self._line(cursor, entry_id))

    def put(self, entries: Sequence[Entry], *, who: str = "") -> int:
        """Adds entries, or replaces those of the same id; returns the revision, which is the one before where all were
        there already."""
        wanted = {each.id: self.kind.encoded(each) for each in map(self.kind.sound, entries)}
        if len(wanted) < len(entries):
            raise self.kind.error(f"two {self.kind.many} of one call have the same id; give each its own", field="id")
        return self._change(lambda _: wanted, who)

    def delete(self, ids: Iterable[str], *, who: str = "") -> int:
        """Takes entries away; returns the revision. Where one is not there all stay."""
        wanted = list(ids)

        def gone(cursor: sqlite3.Cursor) -> Mapping[str, None]:
            for each in sorted(set(wanted)):
                self._line(cursor, each)
            return dict.fromkeys(wanted)

        return self._change(gone, who)

    def restore(self, revision: int, *, who: str = "") -> int:
        """Makes all entries what they were after a revision (0: none), which is a change of its own; returns its
        number."""

        def before(cursor: sqlite3.Cursor) -> Mapping[str, str | None]:
            last = _revision(cursor)
            if not 0 <= revision <= last:
                raise self.kind.error(f"there is no revision {revision}; the last one is {last}", field="revision")
            return dict(cursor.execute(_AT, (revision,)).fetchall())

        return self._change(before, who)

    def history(self, entry_id: str | None = None, limit: int = 100) -> list[Change]:
        """The last changes, of one entry or of all, newest first."""
        if not 1 <= limit <= MOST_HISTORY:
            raise self.kind.error(f"limit is {limit}, it can be 1 to {MOST_HISTORY:,}", field="limit")
        which, values = ("", ()) if entry_id is None else ("WHERE id = ?", (entry_id,))
        query = f"SELECT revision, time, who, id, before, after FROM changes {which} ORDER BY revision DESC, id LIMIT ?"  # noqa: S608  # our own words
        with self._file.reading() as cursor:
            rows = [] if cursor is None else cursor.execute(query, (*values, limit)).fetchall()
        return [self._told(*row) for row in rows]

    def _told(self, revision: int, time: int, who: str, entry_id: str, *lines: str | None) -> Change:
        before, after = (None if line is None else self._decoded(line) for line in lines)
        return self.kind.change(revision, moment_of(time, MICROSECOND), who, entry_id, before, after)

    def _read(self) -> tuple[int, tuple[Entry, ...]]:
        """The revision, and the entries in the order of their ids."""
        with self._file.reading() as cursor:
            return (0, ()) if cursor is None else (_revision(cursor), self._all(cursor))

    def _change(self, wanted: Callable[[sqlite3.Cursor], Mapping[str, str | None]], who: str) -> int:
        """Makes entries what `wanted` says, None for none, and writes down what they were."""
        check_who(who, self.kind.error)
        with self._file.writing() as cursor:
            lines = wanted(cursor)
            before = {each: self._found(cursor, each) for each in lines}
            changed = {each: line for each, line in lines.items() if line != before[each]}
            revision = _revision(cursor)
            if not changed:
                return revision
            put = {each: line for each, line in changed.items() if line is not None}
            cursor.executemany(self.kind.sql(_PUT), put.items())
            cursor.executemany(self.kind.sql(_DELETE), [(each,) for each in changed if each not in put])
            if put:
                self._check_together(cursor)
            time = count_of(self._clock(), MICROSECOND)
            cursor.executemany(
                _LOG, [(revision + 1, each, time, who, before[each], line) for each, line in changed.items()]
            )
            return revision + 1

    def _check_together(self, cursor: sqlite3.Cursor) -> None:
        """What must hold of all entries as they would be."""
        (count,) = cursor.execute(self.kind.sql(_COUNT)).fetchone()
        if count > MOST_ENTRIES:
            most = f"at most {MOST_ENTRIES:,} are kept; delete some first"
            raise self.kind.error(f"there would be {count:,} {self.kind.many}, {most}")

    def _all(self, cursor: sqlite3.Cursor) -> tuple[Entry, ...]:
        return tuple(self._decoded(line) for (line,) in cursor.execute(self.kind.sql(_ALL)).fetchall())

    def _found(self, cursor: sqlite3.Cursor, entry_id: str) -> str | None:
        """An entry as it is kept; None where there is none of this id."""
        row: tuple[str] | None = cursor.execute(self.kind.sql(_ONE), (entry_id,)).fetchone()
        return None if row is None else row[0]

    def _line(self, cursor: sqlite3.Cursor | None, entry_id: str) -> str:
        """An entry as it is kept; raises the kind's error where there is none of this id."""
        line = self._found(cursor, entry_id) if cursor else None
        if line is None:
            known = [each for (each,) in cursor.execute(self.kind.sql(_IDS))] if cursor else []
            name = entry_id[:_LONGEST_SHOWN]
            advice = meant(name, known, f"shelfwise {self.kind.many} list shows those that are")
            raise self.kind.error(f"there is no {self.kind.one} {name!r}; {advice}", entry_id, "id")
        return line

    def _decoded(self, line: str) -> Entry:
        try:
            return self.kind.decoded(line)
        except (InputError, msgspec.MsgspecError) as error:
            raise StoreDamagedError(f"{self.path} holds a {self.kind.one} that cannot be read: {error}") from error


def _revision(cursor: sqlite3.Cursor) -> int:
    return int(cursor.execute(_REVISION).fetchone()[0])
