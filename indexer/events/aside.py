"""What an import sets aside: counted by reason, with the first examples, and kept in a file to be looked at.

The file is JSON lines of `file`, `line`, `reason`, `detail` and `event`: only what the mapping took for fields of an
event, never another column, with the shopper and the session as pseudonyms and every text masked and shortened. Of a
row that could not be read there is no `event`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from indexer.aside import printable
from indexer.events.report import Example, SetAside
from retrieval.errors import EventError, RowError, StoreError
from retrieval.events.checking import MAX_QUERY
from retrieval.events.event import Event
from retrieval.events.masking import Masker
from retrieval.events.pseudonyms import Pseudonyms
from retrieval.manifest import open_scratch, scratch_path, sync

EXAMPLES = 5
"""Rows that a report shows of one reason."""
_SHOWN = 200
"""Characters that are kept of a text."""


class EventAside:
    """Writes events and rows that cannot be taken to a file, which takes its place, durably, when it is closed."""

    def __init__(self, path: Path, pseudonyms: Pseudonyms, masker: Masker) -> None:
        self.path = path
        self._pseudonyms = pseudonyms
        self._masked = masker.masked
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[Example]] = {}
        self._scratch = scratch_path(path)
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_scratch(self._scratch)

    def add(
        self, file: str, line: int, error: RowError | EventError, event: Mapping[str, object] | None = None
    ) -> None:
        """Takes what was refused for an error; `event` is what there is of its fields, as the log has it."""
        example = Example(printable(file), line, self._text(error.detail))
        self._counts[error.reason] += 1
        examples = self._examples.setdefault(error.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(example)
        row = {"file": example.file, "line": line, "reason": error.reason, "detail": example.detail}
        if event is not None:
            row["event"] = {field: self._shown(field, value) for field, value in event.items()}
        with self._told():
            self._file.write(msgspec.json.encode(row) + b"\n")

    @property
    def reasons(self) -> dict[str, SetAside]:
        """By reason, the most frequent first."""
        return {reason: SetAside(count, tuple(self._examples[reason])) for reason, count in self._counts.most_common()}

    def _shown(self, field: str, value: object) -> object:
        if field in ("shopper", "session"):
            return self._pseudonym(field, value)
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, float | bool) or (type(value) is int and abs(value) < 2**53):
            return value
        if isinstance(value, list):
            # What is joined may have a session in it.
            return f"{len(value):,} values"
        return self._text(str(value))

    def _pseudonym(self, field: str, value: object) -> str:
        if not isinstance(value, str | int | float):
            return ""
        made = self._pseudonyms.shopper if field == "shopper" else self._pseudonyms.session
        return made(printable_text(str(value)))

    def _text(self, text: str) -> str:
        # Masked before it is cut: half an address would no longer look like one.
        masked = self._masked(printable_text(text[:MAX_QUERY]))
        return masked if len(masked) <= _SHOWN else f"{masked[:_SHOWN]}..."

    def close(self) -> None:
        """Ends the file; it is on the disk, under its name."""
        with self._told():
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self._file.close()
            self._scratch.replace(self.path)
            sync(self.path.parent)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.path}, for what is set aside, cannot be written ({error.strerror}); see to the disk and to the "
                f"rights to its folder"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def printable_text(text: str) -> str:
    """A text as UTF-8 can write it."""
    return text.encode("utf-8", "replace").decode()


def told(event: Event) -> dict[str, object]:
    """The fields of an event that say something."""
    values = {each.name: getattr(event, each.name) for each in fields(event)}
    return {name: value for name, value in values.items() if value not in ("", None)}
