"""The rules of an index directory and every change that was made to them: STORE/rules.sqlite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from retrieval.errors import RuleError
from service.entry_kind import EntryChange, EntryKind
from service.logged_entries import LoggedEntries
from service.merchandising.checking import sound
from service.merchandising.rule import Rule
from service.merchandising.rule_json import decoded, encoded, rule_document, rule_of


@dataclass(frozen=True, slots=True)
class RuleChange(EntryChange[Rule]):
    """What one change did to one rule."""


@dataclass(frozen=True, slots=True)
class StoredRules:
    """The rules as they were at one revision, in the order of their ids."""

    revision: int = 0
    rules: tuple[Rule, ...] = ()


class RuleStore(LoggedEntries[Rule, RuleChange]):
    """The rules of an index directory; a rule that cannot be taken or is not there is told by RuleError."""

    kind = EntryKind("rule", "rules", 0x53575255, RuleError, RuleChange, sound, encoded, decoded)

    def read(self) -> StoredRules:
        """The rules as they are."""
        return StoredRules(*self._read())

    def patch(self, rule_id: str, values: Mapping[str, object], *, who: str = "") -> int:
        """Replaces some fields of a rule, as JSON names them: `{"enabled": False}`; returns the revision. Raises
        RuleError where there is no such rule, or one that cannot be taken."""

        def patched(cursor: sqlite3.Cursor) -> Mapping[str, str]:
            there = rule_document(self._decoded(self._line(cursor, rule_id)))
            changed = sound(rule_of({**there, **values}))
            if changed.id != rule_id:
                raise RuleError(f"rule {rule_id!r}: id cannot be changed; put it under the other id", rule_id, "id")
            return {rule_id: encoded(changed)}

        return self._change(patched, who)
