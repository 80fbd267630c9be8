"""What the entries of a log are, such as merchandising rules, what a change of one is, and where a file keeps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from retrieval.errors import InputError
from service.sqlite_file import Layout

_TABLES = """
CREATE TABLE {many} (id TEXT PRIMARY KEY, {one} TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (
    revision INTEGER NOT NULL, id TEXT NOT NULL, time INTEGER NOT NULL, who TEXT NOT NULL, before TEXT, after TEXT,
    PRIMARY KEY (revision, id)
) WITHOUT ROWID;
CREATE INDEX changes_by_id ON changes (id, revision);
"""


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Entry = TypeVar("Entry", bound=_Named)


@dataclass(frozen=True, slots=True)
class EntryChange(Generic[Entry]):
    """What one change did to one entry."""

    revision: int
    """Counts the changes of an index from 1; those of one call share a number."""
    time: datetime
    who: str
    """The name that was given, such as a pseudonym; empty where none was."""
    id: str
    before: Entry | None
    """None where there was no such entry."""
    after: Entry | None
    """None where it was taken away."""


Change = TypeVar("Change", bound=EntryChange[Any])


@dataclass(frozen=True, slots=True)
class EntryKind(Generic[Entry, Change]):
    """What is kept, and as what."""

    one: str
    """In words, and the column: "rule"."""
    many: str
    """In words, the table, the file's name and the command's: "rules"."""
    application: int
    """SQLite's application_id of the file."""
    error: Callable[..., InputError]
    """Takes a message, the entry's id and the field."""
    change: type[Change]
    sound: Callable[[Entry], Entry]
    """The entry, checked by itself; raises `error`."""
    encoded: Callable[[Entry], str]
    """An entry as one line of JSON."""
    decoded: Callable[[str], Entry]
    more_tables: str = ""
    """The statements that make what is kept beside entries and changes."""

    def sql(self, statement: str) -> str:
        """A statement about its table."""
        return statement.format(one=self.one, many=self.many)

    @property
    def layout(self) -> Layout:
        """Of its file."""
        return Layout(self.many, self.application, 1, self.sql(_TABLES) + self.more_tables)
