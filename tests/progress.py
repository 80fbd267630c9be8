"""A progress for tests: records its calls, and can raise an error after a number of units."""

from __future__ import annotations

from collections.abc import Callable

from shelfwise.retrieval.progress import NullProgress


class KilledError(Exception):
    """Simulates a kill of the process."""


class StoppedProgress(NullProgress):
    """Raises `error` at the unit of this number (0: when its phase begins), of all phases or of one name or unit.

    `amounts` and `summary_of` map a phase to its advanced amounts and to its summary."""

    def __init__(self, at: int | None = None, error: type[BaseException] = KeyboardInterrupt, of: str = "") -> None:
        self.phases: list[str] = []
        self.totals: list[int | None] = []
        self.summaries: list[str] = []
        self.amounts: dict[str, list[int]] = {}
        self.summary_of: dict[str, str] = {}
        self.done = 0
        self._at, self._error, self._of = at, error, of
        self._counts = not of

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        self.phases.append(phase)
        self.totals.append(total)
        self.amounts[phase] = []
        self._counts = self._of in ("", phase, unit)
        if self._counts and self._at == 0:
            raise self._error

    def advance(self, amount: int) -> None:
        self.amounts[self.phases[-1]].append(amount)
        self.done += amount if self._counts else 0
        if self._at is not None and self.done >= self._at and self._counts:
            raise self._error

    def end(self, summary: str) -> None:
        self.summaries.append(summary)
        self.summary_of[self.phases[-1]] = summary


def killed_at(step: int) -> Callable[[int], None]:
    """A progress callback that raises KilledError at this step."""
    progress = StoppedProgress(step, KilledError)
    progress.begin("", None, "")
    return progress.advance
