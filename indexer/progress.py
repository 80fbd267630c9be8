"""Who hears how long work gets on: the commands draw it, a library call may be silent."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Hears how a rebuild or a check gets on."""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """A phase begins; `total` is None where it cannot be known."""
        ...

    def advance(self, amount: int) -> None:
        """So much more of the phase is done."""
        ...

    def end(self, summary: str) -> None:
        """The phase is over."""
        ...


class Silence:
    """An observer that does not listen."""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, amount: int) -> None:
        """Nothing."""

    def end(self, summary: str) -> None:
        """Nothing."""
