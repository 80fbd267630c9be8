"""SQLite files of an index directory, each marked with its content and version, with a sum over all rows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import xxhash

from shelfwise.retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from shelfwise.retrieval.store.files import sync

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WAIT_SECONDS = 30.0
_READ_WAIT_SECONDS = 5.0


def wall_clock() -> datetime:
    """The default clock of stores."""
    return datetime.now(UTC)


def to_microseconds(moment: datetime) -> int:
    """The whole microseconds from 1970 to a time with a zone."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """The time (UTC) at a number of microseconds after 1970."""
    return _EPOCH + count * _MICROSECOND


def day_of(moment: datetime) -> int:
    """The days (UTC) since 1970."""
    return (moment - _EPOCH).days


class SqliteFile:
    """One SQLite file. Failures raise StoreError, StoreDamagedError or StoreForeignError."""

    def __init__(
        self, path: Path, holds: str, application: int, tables: str, *, version: int = 1, private: bool = False
    ) -> None:
        """A file whose content is named `holds` in messages. `application` is SQLite's application_id, `tables` are the
        SQL statements that create the tables, and `version` is incremented when an older program could not read them.
        With `private`, only the owner may access a new file."""
        self.path = path
        self._holds = holds
        self._application = application
        self._tables = tables
        self._version = version
        self._private = private

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Cursor | None]:
        """A consistent view of the file; None if there is none yet."""
        if not self.path.exists():
            yield None
            return
        # SQLite also reads a file that is read-only; if it is writable, SQLite undoes what a killed writer left.
        with self._opened("rw", _READ_WAIT_SECONDS) as connection:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            yield cursor if self._is_made(cursor) else None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Cursor]:
        """A transaction: all of it is durable at the end, or nothing happened."""
        with self._opened("rwc", _WAIT_SECONDS) as connection:
            cursor = connection.cursor()
            self._prepare(cursor)
            connection.create_function("row_hash", -1, _row_hash, deterministic=True)
            cursor.execute("BEGIN IMMEDIATE")
            try:
                _keep_sum(cursor)
                yield cursor
                cursor.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()

    @contextmanager
    def _opened(self, mode: str, wait: float) -> Iterator[sqlite3.Connection]:
        """Converts every foreign error to one of this program."""
        where = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            if self._private and mode == "rwc":
                # Never a file that exists: closing it would release the locks that this process's connections hold on
                # it.
                with suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            with closing(sqlite3.connect(where, wait, isolation_level=None, uri=True)) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                yield connection
        except (sqlite3.OperationalError, OSError) as error:
            raise StoreError(f"{self.path} cannot be used: {error}; check the disk and the permissions") from error
        except sqlite3.DatabaseError as error:
            raise StoreDamagedError(f"{self.path} is damaged: {error}; restore it from a backup") from error

    def _prepare(self, cursor: sqlite3.Cursor) -> None:
        """Creates the tables of a new file. If two processes try at once, the second one finds them."""
        if self._is_made(cursor):
            return
        try:
            marks = f"PRAGMA application_id = {self._application}; PRAGMA user_version = {self._version};"
            cursor.executescript(f"BEGIN IMMEDIATE; {self._tables} {marks} COMMIT;")
        except sqlite3.OperationalError:
            if cursor.connection.in_transaction:
                cursor.connection.rollback()
            if not self._is_made(cursor):
                raise
        sync(self.path.parent)

    def _is_made(self, cursor: sqlite3.Cursor) -> bool:
        """False for a new file; raises StoreForeignError for a file of another program."""
        state = "SELECT count(*), (SELECT * FROM pragma_application_id), (SELECT * FROM pragma_user_version)"
        tables, application, version = cursor.execute(f"{state} FROM sqlite_master").fetchone()
        if (tables, application, version) == (0, 0, 0):
            return False
        if application != self._application:
            raise StoreForeignError(f"{self.path} does not contain {self._holds} of Shelfwise; move it away")
        if version != self._version:
            raise StoreForeignError(f"{self.path} is of another version of Shelfwise: use that one")
        return True


_SUM_TABLE = "content_sum"
_MODULUS = 1 << 48


def _row_hash(*values: str | bytes | float | None) -> int:
    """XXH3 of a table's name and the values of a row: an integer of 48 bits."""
    return xxhash.xxh3_64_intdigest(msgspec.msgpack.encode(values)) % _MODULUS


def _columns(cursor: sqlite3.Cursor) -> dict[str, list[str]]:
    """The tables with their columns, except SQLite's own and that of the sum."""
    rows = cursor.execute(
        "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
    ).fetchall()
    tables: dict[str, list[str]] = {}
    for table, column in rows:
        if table != _SUM_TABLE and not table.startswith("sqlite_"):
            tables.setdefault(table, []).append(column)
    return tables


def _keep_sum(cursor: sqlite3.Cursor) -> None:
    """Lets the sum of the hashes of all rows follow each change of this transaction."""
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {_SUM_TABLE} (sum INTEGER NOT NULL)")
    if not cursor.execute(f"SELECT count(*) FROM {_SUM_TABLE}").fetchone()[0]:  # noqa: S608  # a constant
        cursor.execute(f"INSERT INTO {_SUM_TABLE} VALUES (?)", (_sum_of_rows(cursor),))  # noqa: S608
    # REPLACE removes rows, too.
    cursor.execute("PRAGMA recursive_triggers = ON")
    for table, columns in _columns(cursor).items():
        old, new = (f"row_hash('{table}', {', '.join(f'{row}.{each}' for each in columns)})" for row in ("OLD", "NEW"))
        changes = {"INSERT": new, "DELETE": f"{_MODULUS} - {old}", "UPDATE": f"{_MODULUS} - {old} + {new}"}
        for change, difference in changes.items():
            cursor.execute(
                f"CREATE TEMP TRIGGER {table}_{change} AFTER {change} ON main.{table} BEGIN "  # noqa: S608
                f"UPDATE {_SUM_TABLE} SET sum = (sum + {difference}) % {_MODULUS}; END"
            )


def _sum_of_rows(cursor: sqlite3.Cursor) -> int:
    rows = (_row_hash(table, *row) for table in _columns(cursor) for row in cursor.execute(f"SELECT * FROM {table}"))  # noqa: S608
    return sum(rows) % _MODULUS


def content_problem(connection: sqlite3.Connection) -> str:
    """The damage to the rows of a `SqliteFile`, in which SQLite has no checksums; "" if there is none."""
    cursor = connection.cursor()
    (is_kept,) = cursor.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (_SUM_TABLE,)).fetchone()
    if is_kept and cursor.execute(f"SELECT sum FROM {_SUM_TABLE}").fetchall() != [(_sum_of_rows(cursor),)]:  # noqa: S608
        return "a value has changed"
    return ""


def check_sqlite(path: Path) -> None:
    """Raises StoreDamagedError if SQLite or the sum of the rows finds damage; a file that does not exist has none."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (result,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if result == "ok":
                result = content_problem(connection) or result
    except sqlite3.DatabaseError as error:
        result = str(error)
        tables = 1
    if result != "ok" or not tables:
        message = f"{path} is damaged ({result if tables else 'it is empty'})"
        raise StoreDamagedError(f"{message}; restore it from a backup")
