"""Documents that people maintain for an index, such as merchandising rules, with a log of every change."""

from __future__ import annotations

import re
import secrets
import sqlite3
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from shelfwise.retrieval.errors import DocumentError, InputError, StoreDamagedError, suggest_names
from shelfwise.retrieval.store.files import file_stamp
from shelfwise.retrieval.updates.validation import RECORDS, convert_document, read_document, type_info
from shelfwise.service.curation.sqlite_file import SqliteFile, from_microseconds, to_microseconds, wall_clock

LONGEST_WHO = 100


def check_text(
    place: str, text: str, longest: int, error: Callable[..., InputError], *, must: bool = False, field: str = ""
) -> None:
    """Raises `error` for a text that is too long, contains control characters, or is blank although it `must` be given;
    `field` is by default the last part of `place`."""
    field = field or place.rpartition(": ")[2]
    if must and not text.strip():
        raise error(f"{place}: is empty; it is required", field=field)
    if len(text) > longest:
        raise error(f"{place}: has {len(text):,} characters, at most {longest:,} are allowed", field=field)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise error(f"{place}: contains a control character or half a surrogate pair; remove it", field=field)


def check_period(place: str, starts: datetime | None, ends: datetime | None, error: Callable[..., InputError]) -> None:
    """Raises `error` for a time without a zone, and for an end that is not after the start."""
    for name, moment in (("starts", starts), ("ends", ends)):
        if moment is not None and moment.utcoffset() is None:
            raise error(f"{place}{name}: has no zone; write it as 2026-11-27T00:00:00+01:00", field=name)
    if starts and ends and ends <= starts:
        raise error(f"{place}ends: is not after starts", field="ends")


_LONGEST_STEM = 26
"""With its number, an id has at most 32 characters."""


def readable_id(text: str, used: Container[str], fallback: str) -> str:
    """An unused id of a-z, 0-9 and -, derived from a text or else the fallback; with a number if another has it."""
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    stem = "-".join(re.findall("[a-z0-9]+", plain))[:_LONGEST_STEM].strip("-") or fallback
    own_id, number = stem, 1
    while own_id in used:
        number += 1
        own_id = f"{stem}-{number}"
    return own_id


def plain_document(value: Any) -> Any:  # noqa: ANN401 - of any type
    """A value as plain values for JSON: of records, the fields that differ from their defaults or have none."""
    if isinstance(value, tuple):
        return list(map(plain_document, value))
    record = type_info(type(value))  # type: ignore[arg-type]  # every type has a hash
    if not isinstance(record, RECORDS):
        return msgspec.to_builtins(value)
    plain: dict[str, Any] = {}
    if isinstance(record, msgspec.inspect.StructType) and record.tag_field:
        plain[record.tag_field] = record.tag
    for each in record.fields:
        default = each.default if each.default_factory is msgspec.NODEFAULT else each.default_factory()
        own = getattr(value, each.name)
        if own != default:
            plain[each.name] = plain_document(own)
    return plain


# A rollback journal rather than a write-ahead log: engines read such a file a few times a day, and may not have
# permission to write next to it. The file is opened for each call, so it may be used on both sides of a fork.


_TABLES = """
CREATE TABLE {many} (id TEXT PRIMARY KEY, {one} TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (
    revision INTEGER NOT NULL, id TEXT NOT NULL, time INTEGER NOT NULL, who TEXT NOT NULL, before TEXT, after TEXT,
    PRIMARY KEY (revision, id)
) WITHOUT ROWID;
CREATE INDEX changes_by_id ON changes (id, revision);
"""


KEY_TABLE = "CREATE TABLE secret (key BLOB NOT NULL);"
"""Table for a kind with a secret key, for `DocumentCodec.more_tables`."""
_KEY_BYTES = 32
_ADD_KEY = "INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT * FROM secret)"


def add_key(cursor: sqlite3.Cursor) -> None:
    """Creates the secret key of a file if there is none."""
    cursor.execute(_ADD_KEY, (secrets.token_bytes(_KEY_BYTES),))


def read_key(cursor: sqlite3.Cursor) -> bytes:
    """The secret key of a file; empty if there is none yet."""
    (key,) = cursor.execute("SELECT key FROM secret").fetchone() or (b"",)
    return bytes(key)


class DocumentKind(StrEnum):
    """The kinds of documents of a store, by which commands, paths and the attributes of an engine name them."""

    RULES = "rules"
    SYNONYMS = "synonyms"
    RELATIONS = "relations"
    RELEVANCE = "relevance"
    CAMPAIGNS = "campaigns"
    ANSWERS = "answers"
    EXPERIMENTS = "experiments"


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Entry = TypeVar("Entry", bound=_Named)


@dataclass(frozen=True, slots=True)
class DocumentChange(Generic[Entry]):
    """The effect of one change on one entry."""

    revision: int
    """Number of the change in the index, from 1; the entries of one call share it."""
    time: datetime
    who: str
    """Name of the author, such as a pseudonym; empty if none was given."""
    id: str
    before: Entry | None
    """Previous entry; None if there was none."""
    after: Entry | None
    """New entry; None if it was deleted."""


@dataclass(frozen=True, slots=True)
class StoredDocuments(Generic[Entry]):
    """All documents at one revision, ordered by id."""

    revision: int = 0
    documents: tuple[Entry, ...] = ()
    file: int = 0
    """Identity of the file; 0 if it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentCodec(Generic[Entry]):
    """A kind of document and its form in the file."""

    one: str
    """Noun and column name: "rule"."""
    many: str
    """Plural noun, and name of the table, the file and the command: "rules"."""
    entry: type[Entry]
    """Class of the entries."""
    application: int
    """SQLite's application_id of the file."""
    error: type[DocumentError]
    """Class of its errors."""
    check: Callable[[Entry, str], Entry] = lambda entry, _: entry
    """Checks the values of an entry and returns it, normalised; raises `error`, which begins with the text."""
    allowed: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of the values of fields, for errors."""
    to_plain: Callable[[Entry], dict[str, Any]] = msgspec.to_builtins
    """Converts an entry to plain values for JSON."""
    from_user: Callable[[Entry], Entry] = lambda entry: entry
    """The entry from that of a user's plain values: without markup, or with an id."""
    label: Callable[[Entry], str] = lambda _: ""
    """Text from which the id of an entry without one is derived, if `check` accepts such entries."""
    batch: int = 1_000
    """Maximum number of entries of one request."""
    more_tables: str = ""
    """SQL statements that create further tables."""
    private: bool = False
    """Whether only the owner may read a new file."""

    def parse(self, document: object, place: str = "") -> Entry:
        """The entry from plain values of the file; raises `error`."""
        if isinstance(document, Mapping):
            if (name := document.get("id")) and isinstance(name, str):
                place = f"{self.one} {name[:_LONGEST_SHOWN]!r}"
            # An id that is no field follows from the fields.
            has_id = "id" in self.entry.__annotations__
            document = {"id": "", **document} if has_id else {each: document[each] for each in document if each != "id"}
        return convert_document(document, self.entry, place, self.error, self.allowed)

    def accept(self, document: object, place: str) -> Entry:
        """The entry from plain values of a user; raises `error`, which begins with the text if they have no id."""
        return self.from_user(self.parse(document, place))

    def validate(self, entry: Entry) -> Entry:
        """Validates an entry by itself and returns it; raises `error`, which has its id."""
        if not isinstance(entry, self.entry):
            raise self.error(f"{self.many} must be of the class {self.entry.__name__}, not {type(entry).__name__}")
        name = str(getattr(entry, "id", ""))[:_LONGEST_SHOWN]
        place = f"{self.one} {name!r}" if name else f"the {self.one}"
        try:
            return self.check(self.parse(self.to_plain(entry), place), place)
        except (TypeError, AttributeError, KeyError) as problem:
            raise self.error(f"{place}: has an invalid value ({problem})", name) from problem
        except DocumentError as problem:
            problem.document = name
            raise

    def plain_change(self, change: DocumentChange[Entry]) -> dict[str, Any]:
        """A change as plain values for JSON, by the names of `DocumentChange`."""
        before, after = (None if each is None else self.to_plain(each) for each in (change.before, change.after))
        head = {"revision": change.revision, "time": change.time, "who": change.who, "id": change.id}
        return head | {"before": before, "after": after}

    def sql(self, statement: str) -> str:
        """A statement on its table."""
        return statement.format(one=self.one, many=self.many)


def read_entries(path: Path, kind: DocumentCodec[Entry]) -> list[Entry]:
    """The entries of a JSON or TOML file: a list of them, an object with such a list as `documents` or under the kind's
    name, or one entry. Raises the kind's error if the file cannot be read."""
    document, place = read_document(path, kind.error), str(path)
    if isinstance(document, Mapping) and (
        name := next((each for each in ("documents", kind.many) if each in document), "")
    ):
        for other in sorted(set(document) - {name}):
            raise kind.error(f"{place}: {other!r} is not a field next to {name}", field=other)
        document = document[name]
    if not isinstance(document, list):
        return [kind.accept(document, place)]
    return [kind.accept(each, f"{place}: {kind.many}[{number}]") for number, each in enumerate(document)]


MAX_ENTRIES = 10_000
"""Maximum number of entries of one kind in one index."""
MAX_HISTORY = 10_000
_LONGEST_SHOWN = 100

# {many} and {one} are those of the kind.
_REVISION = "SELECT coalesce(max(revision), 0) FROM changes"
_IDS = "SELECT id FROM {many} ORDER BY id"
_ALL = "SELECT {one} FROM {many} ORDER BY id"
_ONE = "SELECT {one} FROM {many} WHERE id = ?"
_COUNT = "SELECT count(*) FROM {many}"
_PUT = "INSERT INTO {many} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET {one} = excluded.{one}"
_DELETE = "DELETE FROM {many} WHERE id = ?"
_LOG = "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)"
# Each entry at a revision is the `before` of its first later change.
_AT = """
SELECT id, before FROM changes JOIN (SELECT id AS changed, min(revision) AS first FROM changes WHERE revision > ?
GROUP BY id) ON id = changed AND revision = first
"""


class DocumentStore(Generic[Entry]):
    """The entries of one kind of an index directory: INDEX/rules.sqlite for rules. Threads and processes may use it at
    the same time; the file is created by the first change. Changes are durable when a method returns, all or none.

    All methods raise StoreError, or its subclasses StoreDamagedError and StoreForeignError, if the file cannot be used,
    and the kind's own error for an invalid or unknown entry.
    """

    kind: DocumentCodec[Entry]

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = wall_clock) -> None:
        self.path = root / f"{self.kind.many}.sqlite"
        kind, tables = self.kind, self.kind.sql(_TABLES) + self.kind.more_tables
        self._file = SqliteFile(self.path, kind.many, kind.application, tables, private=kind.private)
        self._clock = clock

    def revision(self) -> int:
        """Number of the last change; 0 before the first."""
        with self._file.reading() as cursor:
            return 0 if cursor is None else self._revision(cursor)

    def get(self, entry_id: str) -> Entry:
        """One entry."""
        with self._file.reading() as cursor:
            return self._decoded(self._line(cursor, entry_id))

    def history(self, entry_id: str | None = None, limit: int = 100) -> list[DocumentChange[Entry]]:
        """The last changes of one entry or of all, newest first."""
        if not 1 <= limit <= MAX_HISTORY:
            raise self.kind.error(f"limit is {limit}, it can be 1 to {MAX_HISTORY:,}", field="limit")
        which, values = ("", ()) if entry_id is None else ("WHERE id = ?", (entry_id,))
        query = f"SELECT revision, time, who, id, before, after FROM changes {which} ORDER BY revision DESC, id LIMIT ?"  # noqa: S608  # our own words
        with self._file.reading() as cursor:
            rows = [] if cursor is None else cursor.execute(query, (*values, limit)).fetchall()
        return [self._to_change(*row) for row in rows]

    def _to_change(
        self, revision: int, time: int, who: str, entry_id: str, *lines: str | None
    ) -> DocumentChange[Entry]:
        before, after = (None if line is None else self._decoded(line) for line in lines)
        return DocumentChange(revision, from_microseconds(time), who, entry_id, before, after)

    def read(self) -> StoredDocuments[Entry]:
        """The current documents."""
        with self._file.reading() as cursor:
            return StoredDocuments() if cursor is None else StoredDocuments(self._revision(cursor), self._all(cursor))

    def ensure_key(self) -> bytes:
        """The secret key of a kind that has one (`KEY_TABLE`), created if missing."""
        with self._file.reading() as cursor:
            key = read_key(cursor) if cursor else b""
        if not key:
            with self._file.writing() as cursor:
                add_key(cursor)
                key = read_key(cursor)
        return key

    def check(self) -> None:
        """Reads every entry and change; raises StoreDamagedError if the changes do not lead to the entries."""
        lines: dict[str, str] = {}
        wrong: set[str] = set()
        with self._file.reading() as cursor:
            if cursor is None:
                return
            entries = dict(cursor.execute(self.kind.sql("SELECT id, {one} FROM {many}")).fetchall())
            changes = cursor.execute("SELECT revision, time, who, id, before, after FROM changes ORDER BY revision")
            for change in changes.fetchall():
                *_, entry_id, before, after = change
                self._to_change(*change)
                if lines.pop(entry_id, None) != before:
                    wrong.add(entry_id)
                if after is not None:
                    lines[entry_id] = after
        wrong |= {each for each in lines.keys() | entries.keys() if lines.get(each) != entries.get(each)}
        for entry_id in sorted(wrong):
            what = f"the {self.kind.one} {entry_id!r} does not agree with its history"
            raise StoreDamagedError(f"{self.path} is damaged: {what}; restore it from a backup")

    def reload(self, previous: StoredDocuments[Entry]) -> StoredDocuments[Entry]:
        """The current documents; `previous` itself if the file and revision are the same."""
        file = self.identity()
        # A file from a backup may replace another one with as many revisions.
        if file == previous.file and self.revision() == previous.revision:
            return previous
        stored = self.read()
        if file and previous.revision and not stored.revision:
            raise StoreDamagedError(f"{self.path} is empty; restore it from a backup, or remove it")
        return replace(stored, file=file)

    def identity(self) -> int:
        """Distinguishes the file from one that replaces it: its inode; 0 if there is none."""
        return file_stamp(self.path)[1]

    def _write(self, cursor: sqlite3.Cursor, lines: Mapping[str, str | None], who: str) -> None:
        """Sets entries to `lines`, None for deletion, and logs their previous content."""
        before = {each: self._found(cursor, each) for each in lines}
        changed = {each: line for each, line in lines.items() if line != before[each]}
        put = {each: line for each, line in changed.items() if line is not None}
        cursor.executemany(self.kind.sql(_PUT), put.items())
        cursor.executemany(self.kind.sql(_DELETE), [(each,) for each in changed if each not in put])
        if put:
            self._check_together(cursor)
        revision, time = self._revision(cursor) + 1, to_microseconds(self._clock())
        cursor.executemany(_LOG, [(revision, each, time, who, before[each], line) for each, line in changed.items()])

    def _check_together(self, cursor: sqlite3.Cursor) -> None:
        """Checks conditions over all entries after a change."""
        (count,) = cursor.execute(self.kind.sql(_COUNT)).fetchone()
        self.check_count(range(count))

    def check_count(self, entries: Sized) -> None:
        """Raises the kind's error if there would be too many entries."""
        if len(entries) > MAX_ENTRIES:
            most = f"at most {MAX_ENTRIES:,} are allowed; delete some first"
            raise self.kind.error(f"there would be {len(entries):,} {self.kind.many}, {most}")

    def _all(self, cursor: sqlite3.Cursor) -> tuple[Entry, ...]:
        return tuple(self._decoded(line) for (line,) in cursor.execute(self.kind.sql(_ALL)).fetchall())

    def _found(self, cursor: sqlite3.Cursor, entry_id: str) -> str | None:
        """The stored line of an entry; None for an unknown id."""
        row: tuple[str] | None = cursor.execute(self.kind.sql(_ONE), (entry_id,)).fetchone()
        return None if row is None else row[0]

    def _line(self, cursor: sqlite3.Cursor | None, entry_id: str) -> str:
        """The stored line of an entry; raises the kind's error for an unknown id."""
        line = self._found(cursor, entry_id) if cursor else None
        if line is None:
            known = [each for (each,) in cursor.execute(self.kind.sql(_IDS))] if cursor else []
            name = entry_id[:_LONGEST_SHOWN]
            advice = suggest_names(name, known, f"list the {self.kind.many} to see all")
            raise self.kind.error(f"there is no {self.kind.one} {name!r}; {advice}", entry_id, "id")
        return line

    def _encoded(self, entry: Entry) -> str:
        return msgspec.json.encode(self.kind.to_plain(entry)).decode()

    def _decoded(self, line: str) -> Entry:
        try:
            return self.kind.parse(msgspec.json.decode(line))
        except (InputError, msgspec.MsgspecError) as error:
            message = f"{self.path} is damaged: one of its {self.kind.many} cannot be read ({error})"
            raise StoreDamagedError(f"{message}; restore it from a backup") from error

    @staticmethod
    def _revision(cursor: sqlite3.Cursor) -> int:
        return int(cursor.execute(_REVISION).fetchone()[0])

    def put(self, entries: Sequence[Entry], *, gone: Iterable[str] = (), who: str = "") -> int:
        """Adds entries, or replaces those with the same id, and deletes the ids in `gone`; returns the revision, which
        is the previous one if nothing changes. An entry without an id gets one, or that of a stored equal entry, so
        that a repeated call changes nothing."""
        checked = list(map(self.kind.validate, entries))
        ids = [each.id for each in checked if each.id]
        if len(set(ids)) < len(ids):
            raise self.kind.error(f"two {self.kind.many} of one call have the same id; give each its own", field="id")

        def wanted(cursor: sqlite3.Cursor) -> Mapping[str, str | None]:
            named = checked if len(ids) == len(checked) else self._with_ids(cursor, checked)
            return {**dict.fromkeys(gone), **{each.id: self._encoded(each) for each in named}}

        return self._change(wanted, who)

    def _with_ids(self, cursor: sqlite3.Cursor, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries, each with an id: never one that a deleted entry had, to which logs may refer."""
        stored = {self._content(each): each.id for each in self._all(cursor)}
        used = {each for (each,) in cursor.execute("SELECT id FROM changes")} | {each.id for each in entries}
        for entry in entries:
            known = entry.id or stored.get(self._content(entry))
            own_id = known or readable_id(self.kind.label(entry), used, self.kind.one)
            used.add(own_id)
            yield entry if entry.id else self._renamed(entry, own_id)

    def _content(self, entry: Entry) -> str:
        return self._encoded(self._renamed(entry, ""))

    def _renamed(self, entry: Entry, own_id: str) -> Entry:
        return self.kind.parse({**self.kind.to_plain(entry), "id": own_id})

    def patch(self, entry_id: str, values: Mapping[str, object], *, who: str = "") -> int:
        """Replaces fields of an entry, named as in JSON: `{"enabled": False}`; returns the revision."""

        def patched(cursor: sqlite3.Cursor) -> Mapping[str, str]:
            there = self.kind.to_plain(self._decoded(self._line(cursor, entry_id)))
            changed = self.kind.validate(self.kind.accept({**there, **values}, f"the {self.kind.one}"))
            if changed.id != entry_id:
                message = f"{self.kind.one} {entry_id[:_LONGEST_SHOWN]!r}: id cannot be changed; put another one"
                raise self.kind.error(message, entry_id, "id")
            return {entry_id: self._encoded(changed)}

        return self._change(patched, who)

    def delete(self, ids: Iterable[str], *, who: str = "") -> int:
        """Deletes entries; returns the revision. If an id is unknown, none is deleted."""
        wanted = list(ids)

        def gone(cursor: sqlite3.Cursor) -> Mapping[str, None]:
            for each in sorted(set(wanted)):
                self._line(cursor, each)
            return dict.fromkeys(wanted)

        return self._change(gone, who)

    def restore(self, revision: int, *, who: str = "") -> int:
        """Restores all entries of a revision (0: none), as a new change; returns its number."""

        def before(cursor: sqlite3.Cursor) -> Mapping[str, str | None]:
            last = self._revision(cursor)
            if not 0 <= revision <= last:
                raise self.kind.error(f"there is no revision {revision}; the last one is {last}", field="revision")
            return dict(cursor.execute(_AT, (revision,)).fetchall())

        return self._change(before, who)

    def _change(self, wanted: Callable[[sqlite3.Cursor], Mapping[str, str | None]], who: str) -> int:
        """Sets entries to `wanted`, None for deletion; returns the revision. `who` is a name, such as a pseudonym, or
        empty."""
        if not isinstance(who, str):
            raise self.kind.error(f"who is {type(who).__name__}, it must be a name", field="who")
        check_text("who", who, LONGEST_WHO, self.kind.error)
        with self._file.writing() as cursor:
            self._write(cursor, wanted(cursor), who)
            return self._revision(cursor)
