"""What came of the rounds: how many of each kind, and every one after which the index was not what it must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Failure:
    """A round after which something was wrong. `run_faults` with this seed and one round repeats it on a new index."""

    seed: int
    round: int
    """From 1."""
    work: str
    fault: str
    detail: str
    """What was done to which file, or to the process when."""
    wrong: str


@dataclass(frozen=True, slots=True)
class FaultReport:
    """Rounds by what was done and what went wrong in it on purpose."""

    rounds: int
    seconds: float
    counts: Mapping[str, Mapping[str, int]]
    """Work to fault to rounds."""
    harmed: Mapping[str, int]
    """What was harmed at rest to rounds."""
    killed: int
    """Processes that the kill met at work."""
    refused: int
    """Pieces of work that ended with an error, as on a full disk they should."""
    changes: int
    """Calls for live changes that were acknowledged."""
    failures: tuple[Failure, ...]


@dataclass(slots=True)
class Tally:
    """A report in the making."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    harmed: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    refused: int = 0
    changes: int = 0
    failures: list[Failure] = field(default_factory=list)

    def report(self, rounds: int, seconds: float) -> FaultReport:
        """The report."""
        counts = {work: dict(counted) for work, counted in self.counts.items()}
        failures = tuple(self.failures)
        return FaultReport(
            rounds, round(seconds, 1), counts, dict(self.harmed), self.killed, self.refused, self.changes, failures
        )
