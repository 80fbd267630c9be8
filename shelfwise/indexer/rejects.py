"""Log of rejected rows: a file of JSON lines, and counts of the reasons with the first examples of each. The rows of
event logs are masked: they show no personal data."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

import msgspec

from shelfwise.indexer.feeds.base import FeedNote, RejectedRow
from shelfwise.retrieval.errors import EventError, RowError, StoreError
from shelfwise.retrieval.events.privacy import Masker, Pseudonyms
from shelfwise.retrieval.events.stored import MAX_QUERY
from shelfwise.retrieval.records import Event
from shelfwise.retrieval.store.files import atomic_file, scratch_path
from shelfwise.retrieval.updates.journal import lock_folder

REJECTED_FILE = "rejected.jsonl"
EXAMPLES = 10
"""The most rows that a report shows for one reason."""


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

    Rows are collected in a file without a name, so a killed run leaves none. Raises StoreError if the file cannot be
    written.
    """

    def __init__(self, path: Path, *, is_partial: bool = False) -> None:
        self.path = path
        self.reasons = ReasonCounts()
        self._is_partial = is_partial
        self._target = path.resolve()
        self._is_file = path.is_file() or not path.exists()  # not a terminal, pipe or /dev/null
        with _write_errors(path):
            if is_partial:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._rows: IO[bytes] = (
                TemporaryFile(dir=self._target.parent) if self._is_file else path.open("wb")  # noqa: SIM115
            )

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
            self._rows.write(msgspec.json.encode(row) + b"\n")

    def take_over(self, path: Path) -> None:
        """Adds the rows of the finished log at `path`, without counting them."""
        with _write_errors(self.path), path.open("rb") as rows:
            shutil.copyfileobj(rows, self._rows)

    def flush(self) -> None:
        """Makes all rows so far visible in the file."""
        with _write_errors(self.path):
            if not self._is_file:
                self._rows.flush()
            elif self._is_partial and not self._rows.tell():
                self._target.unlink(missing_ok=True)
            else:
                # Another process may remove temporary files: see `remove_unfinished`.
                folder = self._target.parent
                with lock_folder(folder, None) if self._is_partial else nullcontext():
                    self._rows.seek(0)
                    with atomic_file(self._target) as file:
                        shutil.copyfileobj(self._rows, file)

    def close(self) -> None:
        with self._rows:
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._is_partial:
            self.close()
        else:
            self._rows.close()


def remove_unfinished(folder: Path) -> None:
    """Removes what runs that were killed while they put a file in place have left in a folder.

    Raises StoreError if it cannot be removed.
    """
    if folder.is_dir():
        with _write_errors(folder), lock_folder(folder, None):
            for scratch in folder.glob(scratch_path(folder / "*").name):
                scratch.unlink()


def printable(name: str) -> str:
    """A file name, which is bytes and need not be UTF-8, in a form that UTF-8 can encode."""
    return name.encode("utf-8", "backslashreplace").decode()


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
