"""The rules of an index directory and every change that was made to them: STORE/rules.sqlite.

SQLite, so that the rules and the log of who changed them are written in one transaction, by one of many processes
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
from retrieval.errors import RuleError, StoreDamagedError
from service.merchandising.checking import MOST_RULES, sound
from service.merchandising.rule import Rule
from service.merchandising.rule_json import decoded, encoded, rule_document, rule_of
from service.sqlite_file import Layout, SqliteFile

RULES_FILE = "rules.sqlite"
LONGEST_WHO = 100
MOST_HISTORY = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LAYOUT = Layout(
    "rules",
    0x53575255,
    1,
    """
CREATE TABLE rules (id TEXT PRIMARY KEY, rule TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (
    revision INTEGER NOT NULL, id TEXT NOT NULL, time INTEGER NOT NULL, who TEXT NOT NULL, before TEXT, after TEXT,
    PRIMARY KEY (revision, id)
) WITHOUT ROWID;
CREATE INDEX changes_by_id ON changes (id, revision);
""",
)
_REVISION = "SELECT coalesce(max(revision), 0) FROM changes"
_PUT = "INSERT INTO rules VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET rule = excluded.rule"
# What each rule was at a revision: what its first later change found.
_AT = """
SELECT id, before FROM changes JOIN (SELECT id AS changed, min(revision) AS first FROM changes WHERE revision > ?
GROUP BY id) ON id = changed AND revision = first
"""


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What one change did to one rule."""

    revision: int
    """Counts the changes of an index from 1; those of one call share a number."""
    time: datetime
    who: str
    """The name that was given, such as a pseudonym; empty where none was."""
    id: str
    before: Rule | None
    """None where there was no such rule."""
    after: Rule | None
    """None where it was taken away."""


@dataclass(frozen=True, slots=True)
class StoredRules:
    """The rules as they were at one revision, in the order of their ids."""

    revision: int = 0
    rules: tuple[Rule, ...] = ()


def _now() -> datetime:
    return datetime.now(UTC)


class RuleStore:
    """The rules of an index directory. Any number of threads and processes may use it at once; nothing is created
    until a rule is put. What a method changes is durable when it returns, all of it or nothing.

    All methods raise StoreError, of which StoreDamagedError and StoreForeignError are kinds, where the file cannot be
    used.
    """

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = _now) -> None:
        self.path = root / RULES_FILE
        self._file = SqliteFile(self.path, _LAYOUT)
        self._clock = clock

    def stamp(self) -> tuple[int, int, int]:
        """Changes when the file does; zeros where there is none. It takes some microseconds."""
        return self._file.stamp()

    def revision(self) -> int:
        """The number of the last change, 0 before the first."""
        with self._file.reading() as cursor:
            return 0 if cursor is None else _revision(cursor)

    def read(self) -> StoredRules:
        """The rules as they are."""
        with self._file.reading() as cursor:
            if cursor is None:
                return StoredRules()
            revision = _revision(cursor)
            rows = cursor.execute("SELECT rule FROM rules ORDER BY id").fetchall()
        return StoredRules(revision, tuple(self._decoded(line) for (line,) in rows))

    def get(self, rule_id: str) -> Rule:
        """One rule; raises RuleError where there is none of this id."""
        with self._file.reading() as cursor:
            line = _line(cursor, rule_id) if cursor else None
            if line is None:
                raise _unknown(rule_id, _ids(cursor) if cursor else [])
            return self._decoded(line)

    def put(self, rules: Sequence[Rule], *, who: str = "") -> int:
        """Adds rules, or replaces those of the same id; returns the revision, which is the one before where all were
        there already. Raises RuleError for one that cannot be taken."""
        wanted = {rule.id: encoded(rule) for rule in map(sound, rules)}
        if len(wanted) < len(rules):
            raise RuleError("two rules of one call have the same id; give each its own", field="id")
        return self._change(wanted, who)

    def patch(self, rule_id: str, values: Mapping[str, object], *, who: str = "") -> int:
        """Replaces some fields of a rule, as JSON names them: `{"enabled": False}`; returns the revision. Raises
        RuleError where there is no such rule, or one that cannot be taken."""

        def patched(cursor: sqlite3.Cursor) -> Mapping[str, str | None]:
            line = _line(cursor, rule_id)
            if line is None:
                raise _unknown(rule_id, _ids(cursor))
            changed = sound(rule_of({**rule_document(self._decoded(line)), **values}))
            if changed.id != rule_id:
                raise RuleError(f"rule {rule_id!r}: id cannot be changed; put it under the other id", rule_id, "id")
            return {rule_id: encoded(changed)}

        return self._change(patched, who)

    def delete(self, ids: Iterable[str], *, who: str = "") -> int:
        """Takes rules away; returns the revision. Raises RuleError for an id that is not there: then all stay."""

        def gone(cursor: sqlite3.Cursor) -> Mapping[str, str | None]:
            known = _ids(cursor)
            strange = sorted(set(wanted).difference(known))
            if strange:
                raise _unknown(strange[0], known)
            return dict.fromkeys(wanted)

        wanted = list(ids)
        return self._change(gone, who)

    def restore(self, revision: int, *, who: str = "") -> int:
        """Makes all rules what they were after a revision (0: none), which is a change of its own; returns its number.
        Raises RuleError for a revision that never was."""

        def before(cursor: sqlite3.Cursor) -> Mapping[str, str | None]:
            last = _revision(cursor)
            if not 0 <= revision <= last:
                raise RuleError(f"there is no revision {revision}; the last one is {last}", field="revision")
            return dict(cursor.execute(_AT, (revision,)).fetchall())

        return self._change(before, who)

    def history(self, rule_id: str | None = None, limit: int = 100) -> list[RuleChange]:
        """The last changes, of one rule or of all, newest first."""
        if not 1 <= limit <= MOST_HISTORY:
            raise RuleError(f"limit is {limit}, it can be 1 to {MOST_HISTORY:,}", field="limit")
        which, values = ("", ()) if rule_id is None else ("WHERE id = ?", (rule_id,))
        query = f"SELECT revision, time, who, id, before, after FROM changes {which} ORDER BY revision DESC, id LIMIT ?"  # noqa: S608  # our own words
        with self._file.reading() as cursor:
            rows = [] if cursor is None else cursor.execute(query, (*values, limit)).fetchall()
        return [self._told(*row) for row in rows]

    def _told(self, revision: int, time: int, who: str, rule_id: str, *lines: str | None) -> RuleChange:
        before, after = (None if line is None else self._decoded(line) for line in lines)
        return RuleChange(revision, _EPOCH + timedelta(microseconds=time), who, rule_id, before, after)

    def _change(
        self, wanted: Mapping[str, str | None] | Callable[[sqlite3.Cursor], Mapping[str, str | None]], who: str
    ) -> int:
        """Makes rules what `wanted` says, None for none, and writes down what they were."""
        _check_who(who)
        with self._file.writing() as cursor:
            lines = wanted(cursor) if callable(wanted) else wanted
            before = {each: _line(cursor, each) for each in lines}
            changed = {each: line for each, line in lines.items() if line != before[each]}
            revision = _revision(cursor)
            if not changed:
                return revision
            put = {each: line for each, line in changed.items() if line is not None}
            cursor.executemany(_PUT, put.items())
            cursor.executemany("DELETE FROM rules WHERE id = ?", [(each,) for each in changed if each not in put])
            count = cursor.execute("SELECT count(*) FROM rules").fetchone()[0]
            if put and count > MOST_RULES:
                raise RuleError(f"there would be {count:,} rules, at most {MOST_RULES:,} are kept; delete some first")
            time = (self._clock() - _EPOCH) // timedelta(microseconds=1)
            rows = [(revision + 1, each, time, who, before[each], line) for each, line in changed.items()]
            cursor.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)", rows)
            return revision + 1

    def _decoded(self, line: str) -> Rule:
        try:
            return decoded(line)
        except (RuleError, msgspec.MsgspecError) as error:
            raise StoreDamagedError(f"{self.path} holds a rule that cannot be read: {error}") from error


def _revision(cursor: sqlite3.Cursor) -> int:
    return int(cursor.execute(_REVISION).fetchone()[0])


def _line(cursor: sqlite3.Cursor, rule_id: str) -> str | None:
    """A rule as it is kept; None where there is none of this id."""
    row: tuple[str] | None = cursor.execute("SELECT rule FROM rules WHERE id = ?", (rule_id,)).fetchone()
    return None if row is None else row[0]


def _ids(cursor: sqlite3.Cursor) -> list[str]:
    return [each for (each,) in cursor.execute("SELECT id FROM rules ORDER BY id")]


def _unknown(rule_id: str, known: Sequence[str]) -> RuleError:
    close = close_names(rule_id[:LONGEST_WHO], known)
    advice = f"did you mean {' or '.join(close)}?" if close else "shelfwise rules list shows those that are"
    return RuleError(f"there is no rule {rule_id[:LONGEST_WHO]!r}; {advice}", rule_id, "id")


def _check_who(who: str) -> None:
    if not isinstance(who, str) or len(who) > LONGEST_WHO:
        raise RuleError(f"who must be a name of at most {LONGEST_WHO} characters", field="who")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in who):
        raise RuleError("who: has a control character in it, or half of one; leave it out", field="who")
