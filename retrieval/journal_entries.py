"""The changes in the frames of the journal, each with its number and its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from retrieval.changes import Change, change_from_json
from retrieval.errors import StoreDamagedError
from retrieval.journal_copies import damaged
from retrieval.journal_walk import Frame

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """A change that was taken: its number, which no other change ever gets, and when that was (in UTC)."""

    seq: int
    at: datetime
    change: Change


def entries_of(frame: Frame, root: Path, above: int = 0) -> Iterator[Entry]:
    """The changes of a frame behind a number; raises StoreDamagedError for what is no change, whoever sealed it."""
    head = frame.head
    lines = frame.payload.split(b"\n")
    if len(lines) != head.count:
        raise damaged(root, f"{head.names} are {len(lines):,} lines")
    for seq, line in enumerate(lines, head.first):
        if seq > above:
            try:
                yield Entry(seq, _EPOCH + timedelta(microseconds=head.at), change_from_json(line))
            except (StoreDamagedError, OverflowError) as error:
                raise damaged(root, f"change {seq:,}: {error}") from error


def microseconds(moment: datetime) -> int:
    """A time as frames have it: since 1970, UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
