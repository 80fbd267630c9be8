"""The synonyms of an index directory, every change that was made to them, and the proposals that were declined:
STORE/synonyms.sqlite."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from retrieval.errors import SynonymError
from service.entry_kind import EntryChange, EntryKind
from service.logged_entries import LoggedEntries
from service.synonyms.checking import check_together, sound
from service.synonyms.synonym import Synonym, decoded, encoded
from service.who_and_when import MICROSECOND, check_who, count_of

_DECLINED = """
CREATE TABLE declined (proposal TEXT PRIMARY KEY, time INTEGER NOT NULL, who TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class SynonymChange(EntryChange[Synonym]):
    """What one change did to one synonym."""

    # Named again for the OpenAPI document, which does not see what a generic class is of.
    before: Synonym | None
    after: Synonym | None


@dataclass(frozen=True, slots=True)
class StoredSynonyms:
    """The synonyms as they were at one revision, in the order of their ids."""

    revision: int = 0
    synonyms: tuple[Synonym, ...] = ()


class SynonymStore(LoggedEntries[Synonym, SynonymChange]):
    """The synonyms of an index directory; a synonym that cannot be taken or is not there is told by SynonymError."""

    kind = EntryKind(
        "synonym", "synonyms", 0x5357534E, SynonymError, SynonymChange, sound, encoded, decoded, more_tables=_DECLINED
    )

    def read(self) -> StoredSynonyms:
        """The synonyms as they are."""
        return StoredSynonyms(*self._read())

    def decline(self, proposal: str, *, who: str = "") -> None:
        """Has a proposal never come back; to decline it again changes nothing."""
        check_who(who, SynonymError)
        with self._file.writing() as cursor:
            time = count_of(self._clock(), MICROSECOND)
            cursor.execute("INSERT OR IGNORE INTO declined VALUES (?, ?, ?)", (proposal, time, who))

    def declined(self) -> frozenset[str]:
        """The ids of the proposals that were declined."""
        with self._file.reading() as cursor:
            rows = [] if cursor is None else cursor.execute("SELECT proposal FROM declined").fetchall()
        return frozenset(proposal for (proposal,) in rows)

    def _check_together(self, cursor: sqlite3.Cursor) -> None:
        super()._check_together(cursor)
        check_together(self._all(cursor))
