"""An experiment as it is kept: with what its lots are drawn by, and with what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from service.experiments.experiment import Experiment


@dataclass(frozen=True, slots=True)
class StoredExperiment:
    """An experiment with what became of it."""

    experiment: Experiment
    salt: bytes
    """What its lots are drawn by: its own, so that they have nothing to do with those of others."""
    put: datetime
    who: str
    """Who put it, as it was given."""
    stopped: datetime | None = None
    stopper: str = ""

    @property
    def begins(self) -> datetime:
        """When the first ones take part: as it says, and not before it was put."""
        return max(self.put, self.experiment.starts or self.put)

    @property
    def over(self) -> datetime | None:
        """From when on nobody takes part; None where that is not known."""
        ends = [each for each in (self.experiment.ends, self.stopped) if each is not None]
        return min(ends, default=None)

    def has_begun(self, now: datetime) -> bool:
        """Whether somebody may have taken part."""
        return self.experiment.enabled and self.begins <= now and (self.over is None or self.begins < self.over)

    def runs(self, now: datetime) -> bool:
        """Whether searches take part now."""
        return self.has_begun(now) and (self.over is None or now < self.over)

    def state(self, now: datetime) -> str:
        """In a word: draft, waiting, running, stopped or ended."""
        if self.stopped is not None:
            return "stopped"
        if not self.experiment.enabled:
            return "draft"
        if now < self.begins:
            return "waiting"
        return "running" if self.runs(now) else "ended"


@dataclass(frozen=True, slots=True)
class StoredExperiments:
    """All of them, in the order of their ids."""

    experiments: tuple[StoredExperiment, ...] = ()
    key: bytes = b""
    """Signs the marks in query ids; empty where there is no experiment yet."""
