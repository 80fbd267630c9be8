"""Rejected rows of an import: counted by reason, with the first examples, and kept in a file to be looked at.

Where nothing is rejected there is no file. It is JSON lines of `file`, `line`, `reason`, `detail` and `event`: only
what the mapping took for fields of an event, never another column, with the shopper and the session as pseudonyms and
every text masked and shortened. Of a row that could not be read there is no `event`.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from indexer.rejects import printable
from retrieval.errors import EventError, RowError, StoreError
from retrieval.events.privacy import Masker, Pseudonyms
from retrieval.events.stored import MAX_QUERY
from retrieval.records import Event
from retrieval.store.files import scratch_path, sync
from retrieval.updates.journal import lock_folder

# Texts of a log as a message or a file may show them: writable, without personal data, and short.

_LONGEST_ADDRESS = 254
"""Characters of an e-mail address (RFC 5321, section 4.5.3.1.3: a path of 256 less its angle brackets)."""


def mask_text(text: str, masker: Masker, most: int) -> str:
    """A text masked and then cut to so many characters: half an address would no longer look like one."""
    masked = masker.mask(printable_text(text[:MAX_QUERY]))
    if len(text) > MAX_QUERY:
        # At the end may be half an address.
        masked = masked[:-_LONGEST_ADDRESS]
    return masked if len(masked) <= most and len(text) <= MAX_QUERY else f"{masked[:most]}..."


def printable_text(text: str) -> str:
    """A text as UTF-8 can write it."""
    return text.encode("utf-8", "replace").decode()


# What an import of event logs did, as a value that JSON can hold.

_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class RejectExample:
    """Where one row was rejected, and why exactly."""

    file: str
    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class RejectReason:
    """How often there was one reason, with the first examples."""

    count: int
    examples: tuple[RejectExample, ...]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of the rows of event logs. A row may make several events, or none."""

    files: tuple[str, ...]
    rows: int
    events: Mapping[str, int]
    """By kind, those that the store has now: taken or repeated."""
    added: int
    """Events that were new."""
    repeated: int
    """Events that the store had already, word for word, or that came twice in these logs."""
    rejected: Mapping[str, RejectReason]
    """Rows and events that cannot be used, by reason, the most frequent first."""
    skipped: Mapping[str, int]
    """Rows that the mapping leaves out on purpose, by reason."""
    notes: tuple[str, ...]
    """What is odd about the logs as a whole."""
    first: datetime | None
    """The time of the earliest event that the store has of these logs."""
    last: datetime | None
    products: int | None
    """Different products; None where there are more than are counted."""
    shoppers: int | None
    sessions: int | None
    seconds: float
    rows_per_second: float

    @property
    def rejected_count(self) -> int:
        """Rows and events that cannot be used."""
        return sum(each.count for each in self.rejected.values())

    @property
    def failure(self) -> str:
        """Why nothing of the logs could be used; empty where something could. The command then ends with 1."""
        if self.events:
            return ""
        names = ", ".join(self.files)
        if not self.rows:
            return f"{names}: no rows in it"
        reasons = [*((reason, each.count) for reason, each in self.rejected.items()), *self.skipped.items()]
        reasons.sort(key=lambda each: -each[1])
        most = ", ".join(f"{reason} ({count:,})" for reason, count in reasons[:_MOST_REASONS])
        example = next((one for each in self.rejected.values() for one in each.examples), None)
        told = f"; for example line {example.line:,} of {example.file}: {example.detail}" if example else ""
        return f"{names}: none of its {self.rows:,} rows can be used: {most}{told}"


EXAMPLES = 5
"""Rows that a report shows of one reason."""
_SHOWN = 200
"""Characters that are kept of a text."""
_WAIT_SECONDS = 10.0
_WHAT = "the files of what is rejected"


class RejectedEvents:
    """Writes events and rows that cannot be taken to a file, which takes its place, durably, when it is closed.

    The first of them makes the file; without any there is none, nor one of an earlier import under this name. Until it
    takes its place it is a scratch file, locked, so that `remove_unfinished` knows those that a killed import left.
    """

    def __init__(self, path: Path, pseudonyms: Pseudonyms, masker: Masker) -> None:
        self.path = path
        self._pseudonyms = pseudonyms
        self._masker = masker
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[RejectExample]] = {}
        self._file: BinaryIO | None = None
        with _wrap_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)

    def add(
        self, file: str, line: int, error: RowError | EventError, event: Mapping[str, object] | None = None
    ) -> None:
        """Takes what was refused for an error; `event` is what there is of its fields, as the log has it.

        Shopper and session are spelled as in an event, since their pseudonyms are made of them. Raises StoreError where
        the file cannot be written.
        """
        example = RejectExample(printable(file), line, self._text(error.detail))
        self._counts[error.reason] += 1
        examples = self._examples.setdefault(error.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(example)
        row = {"file": example.file, "line": line, "reason": error.reason, "detail": example.detail}
        if event is not None:
            row["event"] = {field: self._shown(field, value) for field, value in event.items()}
        with _wrap_write_errors(self.path):
            if self._file is None:
                self._file = _locked_scratch(self.path)
            self._file.write(msgspec.json.encode(row) + b"\n")

    @property
    def reasons(self) -> dict[str, RejectReason]:
        """By reason, the most frequent first."""
        return {
            reason: RejectReason(count, tuple(self._examples[reason])) for reason, count in self._counts.most_common()
        }

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
        if not isinstance(value, str):
            return ""
        made = self._pseudonyms.shopper if field == "shopper" else self._pseudonyms.session
        return made(printable_text(value))

    def _text(self, text: str) -> str:
        return mask_text(text, self._masker, _SHOWN)

    def close(self) -> None:
        """Ends the file; it is on the disk, under its name."""
        with _wrap_write_errors(self.path):
            if self._file is None:
                self.path.unlink(missing_ok=True)
                return
            # It is closed, and no longer locked, when it is no scratch file any more.
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
                scratch_path(self.path).replace(self.path)
            sync(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove_unfinished(folder: Path) -> None:
    """Removes scratch files in a folder that imports left which were killed; those of imports under way stay.

    Raises StoreError where one cannot be removed.
    """
    if not folder.is_dir():
        return
    with _wrap_write_errors(folder), lock_folder(folder, _WAIT_SECONDS, _WHAT):
        for scratch in folder.glob(scratch_path(folder / "*").name):
            _remove_unheld(scratch)


def _remove_unheld(scratch: Path) -> None:
    with suppress(FileNotFoundError), scratch.open("rb") as file:
        if _try_lock(file):
            scratch.unlink()


def _locked_scratch(path: Path) -> BinaryIO:
    """An empty scratch file for a path, locked until it is closed. Raises StoreError where another import has it."""
    # Under the folder's lock, or it would be removed before it is locked itself.
    with lock_folder(path.parent, _WAIT_SECONDS, _WHAT):
        file = scratch_path(path).open("ab")  # not "wb", which would empty another import's
        if _try_lock(file):
            file.truncate(0)
            return file
        file.close()
    raise StoreError(f"{path} is being written by another import; wait for its end, or name another file")


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _wrap_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}, for what is rejected, cannot be written ({error.strerror}); see to the disk and to the rights "
            f"to its folder"
        ) from error


def event_fields(event: Event) -> dict[str, object]:
    """The fields of an event that say something."""
    values = {each.name: getattr(event, each.name) for each in fields(event)}
    return {name: value for name, value in values.items() if value not in ("", None)}
