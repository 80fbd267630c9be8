"""What an import of event logs did, as a value that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class Example:
    """Where one row was set aside, and why exactly."""

    file: str
    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """How often there was one reason, with the first examples."""

    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of the rows of event logs. A row may make several events, or none."""

    files: tuple[str, ...]
    rows: int
    events: Mapping[str, int]
    """By kind, those that the store has now: taken or repeated."""
    taken: int
    """Events that were new."""
    repeated: int
    """Events that the store had already, word for word, or that came twice in these logs."""
    aside: Mapping[str, SetAside]
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
    def set_aside(self) -> int:
        """Rows and events that cannot be used."""
        return sum(each.count for each in self.aside.values())

    @property
    def why_useless(self) -> str:
        """Why nothing of the logs could be used; empty where something could. The command then ends with 1."""
        if self.events:
            return ""
        names = ", ".join(self.files)
        if not self.rows:
            return f"{names}: no rows in it"
        reasons = [*((reason, each.count) for reason, each in self.aside.items()), *self.skipped.items()]
        reasons.sort(key=lambda each: -each[1])
        most = ", ".join(f"{reason} ({count:,})" for reason, count in reasons[:_MOST_REASONS])
        example = next((one for each in self.aside.values() for one in each.examples), None)
        told = f"; for example line {example.line:,} of {example.file}: {example.detail}" if example else ""
        return f"{names}: none of its {self.rows:,} rows can be used: {most}{told}"
