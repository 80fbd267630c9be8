"""A progress for tests: it keeps what it is told, and may raise an error after a number of units."""

from __future__ import annotations

from retrieval.progress import NullProgress


class StoppedProgress(NullProgress):
    """Raises `error` at the unit of this number, counted over all phases."""

    def __init__(self, at: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.phases: list[str] = []
        self.totals: list[int | None] = []
        self.summaries: list[str] = []
        self.done = 0
        self._at, self._error = at, error

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        self.phases.append(phase)
        self.totals.append(total)

    def advance(self, amount: int) -> None:
        self.done += amount
        if self._at is not None and self.done >= self._at:
            raise self._error

    def end(self, summary: str) -> None:
        self.summaries.append(summary)
