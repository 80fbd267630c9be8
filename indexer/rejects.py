"""What a run rejects: bad rows in a file that is a feed itself, to be repaired and read again, and counts of all."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from indexer.feeds.reader import FeedNote, RejectedRow
from indexer.quality.findings import Example
from indexer.quality.report import ReasonCount
from retrieval.store.files import open_scratch, scratch_path

REJECTED_FILE = "rejected.jsonl"
EXAMPLES = 10
"""Rows that a report shows of one reason."""


@dataclasses.dataclass(slots=True)
class NoteCounts:
    """Dropped values, counted by field and reason, with the first examples of each; what follows merges into it."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: dict[str, list[Example]] = dataclasses.field(default_factory=dict)

    def add(self, noted: FeedNote) -> None:
        """Counts one."""
        kind = f"{noted.field}: {noted.reason}"
        self.counts[kind] += 1
        _keep_examples(self.examples, kind, (Example("", noted.detail, printable(noted.file), noted.line),))

    def merge(self, later: NoteCounts) -> None:
        """Adds what came later."""
        self.counts.update(later.counts)
        for kind, examples in later.examples.items():
            _keep_examples(self.examples, kind, examples)


class RejectLog:
    """Writes rejected rows to a file as they come, and counts them and the values that were dropped.

    The file takes its place when it is flushed or closed: until then the one there before may be a feed that is read.
    After an error before that it stays as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rejected: Counter[str] = Counter()
        self.notes = NoteCounts()
        self._examples: dict[str, list[Example]] = {}
        is_file = path.is_file() or not path.exists()  # and no terminal, pipe or /dev/null
        self._scratch = scratch_path(path.resolve()) if is_file else None
        self._file = open_scratch(self._scratch) if self._scratch else path.open("wb")

    def reject(self, rows: Iterable[RejectedRow]) -> None:
        """Takes rows that cannot be used."""
        for row in rows:
            self.rejected[row.reason] += 1
            file = printable(row.file)
            _keep_examples(self._examples, row.reason, (Example("", row.detail, file, row.line),))
            self._file.write(msgspec.json.encode(dataclasses.replace(row, file=file)) + b"\n")

    @property
    def rejection_counts(self) -> Mapping[str, ReasonCount]:
        """By reason, with examples."""
        return {reason: ReasonCount(count, tuple(self._examples[reason])) for reason, count in self.rejected.items()}

    @property
    def note_counts(self) -> Mapping[str, ReasonCount]:
        """By field and reason, with examples."""
        examples = self.notes.examples
        return {kind: ReasonCount(count, tuple(examples[kind])) for kind, count in self.notes.counts.items()}

    def flush(self) -> None:
        """Lets a reader of the file see everything so far."""
        self._file.flush()
        if self._scratch is not None:
            self._scratch.replace(self.path.resolve())
            self._scratch = None

    def close(self) -> None:
        """Ends the file."""
        self.flush()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        self._file.close()
        if self._scratch is not None:
            self._scratch.unlink()


def printable(name: str) -> str:
    """A file's name, which is bytes and need not be UTF-8, as UTF-8 can write it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _keep_examples(examples: dict[str, list[Example]], kind: str, more: Iterable[Example]) -> None:
    kept = examples.setdefault(kind, [])
    kept.extend(list(more)[: EXAMPLES - len(kept)])
