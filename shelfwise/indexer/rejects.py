"""Log of rejected rows: a file of JSON lines, and counts of the reasons with the first examples of each. The rows of
event logs are masked: they show no personal data."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from shelfwise.indexer.feeds.base import FeedNote, RejectedRow
from shelfwise.retrieval.errors import EventError, RowError, StoreError
from shelfwise.retrieval.events.privacy import Masker, Pseudonyms
from shelfwise.retrieval.events.stored import MAX_QUERY
from shelfwise.retrieval.records import Event
from shelfwise.retrieval.store.files import open_scratch, scratch_path, sync
from shelfwise.retrieval.updates.journal import lock_folder

REJECTED_FILE = "rejected.jsonl"
EXAMPLES = 10
"""The most rows that a report shows for one reason."""
_WAIT_SECONDS = 10.0
_WHAT = "the files of rejected rows"


class RejectExample(msgspec.Struct, frozen=True):
    """The place of a rejected row or value, and the exact reason."""

    file: str
    line: int
    detail: str


@dataclasses.dataclass(slots=True)
class ReasonCounts:
    """Rows or values counted by reason, with the first examples of each reason."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: dict[str, list[RejectExample]] = dataclasses.field(default_factory=dict)

    def add(self, reason: str, example: RejectExample) -> None:
        self.counts[reason] += 1
        self._keep(reason, (example,))

    def add_note(self, note: FeedNote) -> None:
        """Counts a dropped value under its field and reason."""
        self.add(f"{note.field}: {note.reason}", RejectExample(printable(note.file), note.line, note.detail))

    @property
    def remarks(self) -> str:
        """The remarks on whole feeds, for a message."""
        lines = (
            f"{reason}; {each.detail}" for reason, group in self.examples.items() for each in group if not each.line
        )
        return "; ".join(lines)

    def merge(self, later: ReasonCounts) -> None:
        """Adds counts that were made later."""
        self.counts.update(later.counts)
        for reason, examples in later.examples.items():
            self._keep(reason, examples)

    def _keep(self, reason: str, more: Iterable[RejectExample]) -> None:
        examples = self.examples.setdefault(reason, [])
        examples.extend(list(more)[: EXAMPLES - len(examples)])


class RejectLog:
    """Writes rejected rows as JSON lines to a file, which is put in place when the log is flushed or closed.

    Until then the previous file stays: it may be a feed that is being read. The log of a feed is created even without
    rows, and after an error the old file stays. With `is_partial`, as for events, whose import is stored in batches, a
    log without rows leaves no file (an old one is removed), and after an error the rows so far are kept.

    The temporary file is locked, so that `remove_unfinished` recognises those of killed runs. Raises StoreError if the
    file cannot be written, or another run is writing it.
    """

    def __init__(self, path: Path, *, is_partial: bool = False) -> None:
        self.path = path
        self.reasons = ReasonCounts()
        self._is_partial = is_partial
        self._target = path.resolve()
        self._is_file = path.is_file() or not path.exists()  # not a terminal, pipe or /dev/null
        self._is_scratch = False
        self._file: BinaryIO | None = None
        with _write_errors(path):
            if is_partial:
                path.parent.mkdir(parents=True, exist_ok=True)
            else:
                self._open()

    def reject(self, rows: Iterable[RejectedRow]) -> None:
        """Adds rows of a feed."""
        for row in rows:
            file = printable(row.file)
            example = RejectExample(file, row.line, row.detail)
            self.write(row.reason, example, dataclasses.replace(row, file=file))

    def write(self, reason: str, example: RejectExample, row: object) -> None:
        """Adds a row as the JSON of its line, counted under a reason."""
        self.reasons.add(reason, example)
        with _write_errors(self.path):
            (self._file or self._open()).write(msgspec.json.encode(row) + b"\n")

    def take_over(self, path: Path) -> None:
        """Adds the rows of the finished log at `path`, without counting them."""
        with _write_errors(self.path), path.open("rb") as rows:
            shutil.copyfileobj(rows, self._file or self._open())

    def _open(self) -> BinaryIO:
        if self._is_file:
            self._file = _open_locked(self._target)
            self._is_scratch = True
        else:
            self._file = self.path.open("wb")
        return self._file

    def flush(self) -> None:
        """Makes all rows so far visible in the file."""
        with _write_errors(self.path):
            if self._file is None:
                self._target.unlink(missing_ok=True)
                return
            self._file.flush()
            if self._is_scratch:
                os.fsync(self._file.fileno())
                scratch_path(self._target).replace(self._target)
                sync(self._target.parent)
                self._is_scratch = False

    def close(self) -> None:
        self.flush()
        # The temporary file gets its final name before its lock ends.
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._is_partial:
            self.close()
        elif self._file is not None:
            if self._is_scratch:
                scratch_path(self._target).unlink()
            self._file.close()


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files of killed runs in a folder; those of running ones stay.

    Raises StoreError if one cannot be removed.
    """
    if not folder.is_dir():
        return
    with _write_errors(folder), lock_folder(folder, _WAIT_SECONDS, _WHAT):
        for scratch in folder.glob(scratch_path(folder / "*").name):
            with suppress(FileNotFoundError), scratch.open("rb") as file:
                if _try_lock(file):
                    scratch.unlink()


def printable(name: str) -> str:
    """A file name, which is bytes and need not be UTF-8, in a form that UTF-8 can encode."""
    return name.encode("utf-8", "backslashreplace").decode()


def _open_locked(path: Path) -> BinaryIO:
    """An empty temporary file for a path, locked until it is closed. Raises StoreError if another run has it."""
    scratch = scratch_path(path)
    # Under the folder's lock: another process could remove the temporary file before it is locked itself.
    with lock_folder(path.parent, _WAIT_SECONDS, _WHAT):
        file: BinaryIO
        try:
            file = scratch.open("ab")  # "wb" would empty the file of another run
        except OSError:
            file = open_scratch(scratch)
        if _try_lock(file):
            file.truncate(0)
            return file
        file.close()
    raise StoreError(f"{path} is being written by another import; wait for its end, or use another file")


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}, the file of rejected rows, cannot be written ({error.strerror}); check the disk and the "
            f"permissions of its folder"
        ) from error


_LONGEST_ADDRESS = 254
"""The most characters of an e-mail address (RFC 5321, section 4.5.3.1.3: a path of 256 without its angle brackets)."""


def mask_text(text: str, masker: Masker, most: int) -> str:
    """A text masked and then cut to `most` characters; half an address would no longer look like one."""
    masked = masker.mask(printable_text(text[:MAX_QUERY]))
    if len(text) > MAX_QUERY:
        # The end may be half an address.
        masked = masked[:-_LONGEST_ADDRESS]
    return masked if len(masked) <= most and len(text) <= MAX_QUERY else f"{masked[:most]}..."


def printable_text(text: str) -> str:
    """A text in a form that UTF-8 can encode."""
    return text.encode("utf-8", "replace").decode()


_SHOWN = 200
"""The number of characters of a text that are kept."""


class RejectedEvents:
    """Logs rejected events and rows without personal data.

    A line has `file`, `line`, `reason`, `detail` and `event`. The event has only the fields that the mapping uses,
    never other columns, with the shopper and the session as pseudonyms and all texts masked and shortened. A row that
    could not be read has no `event`.
    """

    def __init__(self, log: RejectLog, pseudonyms: Pseudonyms, masker: Masker) -> None:
        self._log = log
        self._pseudonyms = pseudonyms
        self._masker = masker

    def add(
        self, file: str, line: int, error: RowError | EventError, event: Mapping[str, object] | None = None
    ) -> None:
        """Logs an error; `event` has the known fields, as in the log.

        Shopper and session are spelled as in an event, since their pseudonyms are derived from them.
        """
        example = RejectExample(printable(file), line, self._text(error.detail))
        row = {"file": example.file, "line": line, "reason": error.reason, "detail": example.detail}
        if event is not None:
            row["event"] = {field: self._mask(field, value) for field, value in event.items()}
        self._log.write(error.reason, example, row)

    def _mask(self, field: str, value: object) -> object:
        if field in ("shopper", "session"):
            if not isinstance(value, str):
                return ""
            pseudonym = self._pseudonyms.shopper if field == "shopper" else self._pseudonyms.session
            return pseudonym(printable_text(value))
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, float | bool) or (type(value) is int and abs(value) < 2**53):
            return value
        if isinstance(value, list):
            # A session may be one of the joined values.
            return f"{len(value):,} values"
        return self._text(str(value))

    def _text(self, text: str) -> str:
        return mask_text(text, self._masker, _SHOWN)


def event_fields(event: Event) -> dict[str, object]:
    """The fields of an event that have a value."""
    values = {each.name: getattr(event, each.name) for each in dataclasses.fields(event)}
    return {name: value for name, value in values.items() if value not in ("", None)}
