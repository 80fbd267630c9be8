"""A small file of one part of the program, in SQLite: opened, made, read and written under SQLite's own locks.

A rollback journal rather than a write-ahead log: engines read such a file a few times a day, and may have no right to
write beside it. It is opened for each call, so it may be used on both sides of a fork.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from retrieval.manifest import sync

_WAIT_SECONDS = 30.0
_READ_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file holds, and how it is told from others."""

    holds: str
    """In words: "experiments"."""
    application: int
    """SQLite's application_id."""
    version: int
    """Counts up when the tables change so that an older program could not read them."""
    tables: str
    """The statements that make them."""

    @property
    def script(self) -> str:
        """Makes a new file what it should be, all at once."""
        marks = f"PRAGMA application_id = {self.application}; PRAGMA user_version = {self.version};"
        return f"BEGIN IMMEDIATE; {self.tables} {marks} COMMIT;"


class SqliteFile:
    """One file. What cannot be done is told by StoreError, StoreDamagedError or StoreForeignError."""

    def __init__(self, path: Path, layout: Layout, *, private: bool = False) -> None:
        """`private`: a new file is for its owner's eyes only."""
        self.path = path
        self._layout = layout
        self._private = private

    def stamp(self) -> tuple[int, int, int]:
        """Changes when the file does; zeros where there is none. It takes some microseconds."""
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0, 0)
        return status.st_mtime_ns, status.st_ino, status.st_size

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Cursor | None]:
        """The file as it is at one moment; None where there is none yet."""
        if not self.path.exists():
            yield None
            return
        # SQLite reads a file that may not be written to as well; where it may, what a killed writer left is undone.
        with self._opened("rw", _READ_WAIT_SECONDS) as connection:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            yield cursor if self._is_made(cursor) else None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Cursor]:
        """All of it is durable after it, or nothing has happened."""
        with self._opened("rwc", _WAIT_SECONDS) as connection:
            cursor = connection.cursor()
            self._prepare(cursor)
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()

    @contextmanager
    def _opened(self, mode: str, wait: float) -> Iterator[sqlite3.Connection]:
        """Every foreign error becomes one of ours."""
        where = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            if self._private and mode == "rwc":
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            with closing(sqlite3.connect(where, wait, isolation_level=None, uri=True)) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                yield connection
        except (sqlite3.OperationalError, OSError) as error:
            raise StoreError(f"{self.path} cannot be used: {error}; see to the disk and to the rights to it") from error
        except sqlite3.DatabaseError as error:
            raise StoreDamagedError(f"{self.path} is damaged: {error}; restore it from a backup") from error

    def _prepare(self, cursor: sqlite3.Cursor) -> None:
        """Makes the tables of a new file. Two processes may try at once: the second finds them made."""
        if self._is_made(cursor):
            return
        try:
            cursor.executescript(self._layout.script)
        except sqlite3.OperationalError:
            if cursor.connection.in_transaction:
                cursor.connection.rollback()
            if not self._is_made(cursor):
                raise
        sync(self.path.parent)

    def _is_made(self, cursor: sqlite3.Cursor) -> bool:
        """False for a new file; raises StoreForeignError for one of somebody else's."""
        told = "SELECT count(*), (SELECT * FROM pragma_application_id), (SELECT * FROM pragma_user_version)"
        tables, application, version = cursor.execute(f"{told} FROM sqlite_master").fetchone()
        if (tables, application, version) == (0, 0, 0):
            return False
        if application != self._layout.application:
            raise StoreForeignError(f"{self.path} holds no {self._layout.holds} of Shelfwise; move it away")
        if version != self._layout.version:
            raise StoreForeignError(f"{self.path} is of another version of Shelfwise: use that one")
        return True
