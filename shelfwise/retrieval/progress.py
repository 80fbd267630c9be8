"""Progress of long work by phases: a command displays it, a library call may ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the phases of long work, one after the other."""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """Begins a phase; `total` is None if it is not known."""

    def advance(self, amount: int) -> None:
        """Reports that `amount` more units of the phase are done."""

    def end(self, summary: str) -> None:
        """Ends the phase; `summary` says what it did."""


class NullProgress:
    """A progress that ignores everything."""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def end(self, summary: str) -> None:
        pass
