"""The report on a run of `shelfwise learn`, as a value; its JSON is its schema. docs/learn.md says how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec

from rerank.behaviour.refresh import Refreshed
from rerank.gate.verdict import Comparison
from rerank.ranker.spec import Reached
from rerank.shoppers.files import TowerReport
from rerank.training.checkpoint import Epoch, best_of
from rerank.training.foretelling import Foretold
from service.learning.steps import Stage

SCHEMA = 1


class Decision(StrEnum):
    """What came of a run."""

    SERVES = "serves"
    SWITCHED_OFF = "may serve, rankers are switched off"
    ASIDE = "kept aside"
    REFUSED = "not trained"


@dataclass(frozen=True, slots=True)
class EventsRead:
    """The events that the run began with."""

    first: datetime
    last: datetime
    """The window: no event outside it was learned from."""
    events: int
    """Cleaned ones, robots' among them."""
    aside: Mapping[str, int]
    """Reason to how many events were set aside for it."""
    corrected: int
    """Events whose time was corrected."""
    visits: int
    flagged_visits: int
    """Of robots and fraud: left out of all that follows."""
    flagged_clicks: int

    @classmethod
    def of(cls, done: Refreshed) -> EventsRead:
        """What a refresh of the derived tables tells."""
        return cls(
            first=done.window.first,
            last=done.window.last,
            events=done.events,
            aside=done.aside,
            corrected=done.corrected,
            visits=done.visits,
            flagged_visits=done.flagged_visits,
            flagged_clicks=done.flagged_clicks,
        )


@dataclass(frozen=True, slots=True)
class Position:
    """One position of the lists that trained."""

    position: int
    """From 1."""
    shown: int
    clicks: int
    examination: float | None
    """How often a shopper looks at it, as the click model has it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One network's training."""

    way: str
    """As `--way` names it."""
    epochs: tuple[Epoch, ...]
    mixed: float
    """nDCG@10 on the lists that choose, of its best epoch mixed with the merged order."""

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return best_of(self.epochs)


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more nDCG@10 than learning from clicks as they are, with the 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What a training found that came to its end."""

    lists: int
    """That trained."""
    queries: int
    """That left something to learn from."""
    judging_lists: int
    """The last ones, which the gate saw alone."""
    left_out: Mapping[str, int]
    """What could not be learned from, counted: see `rerank.training.click_lists.LeftOut`."""
    borrowed: tuple[str, ...]
    """Carts or purchases, where there were too few, so that they are learned from clicks."""
    models: tuple[Foretold, ...]
    """The click model that was used, then plain click rates, on the lists that choose."""
    positions: tuple[Position, ...]
    curves: tuple[Curve, ...]
    """The way that was asked for first."""
    orders: tuple[Reached, ...]
    """On the lists that judge."""
    above_naive: Gain | None
    comparisons: tuple[Comparison, ...]
    """The gate's, over all queries and by slice."""


@dataclass(frozen=True, slots=True)
class Recommends:
    """The shopper tower of a run."""

    tower: str
    """Its name."""
    serves: bool
    is_new: bool
    """False where the last run's events were these: it is that run's."""
    report: TowerReport
    """What it was measured by, beside what served; the gate's reasons."""


@dataclass(frozen=True, slots=True)
class TextTowers:
    """The encoder: what it could learn from, or has."""

    queries: int
    """That clicks have labelled."""
    next: tuple[str, ...]
    """Commands: how to train it where it was left, how to use it where it was kept aside."""
    folder: str = ""
    """Of a trained one; empty where none is."""
    before: float | None = None
    after: float | None = None
    """nDCG@10 of queries that chose when to stop, over a part of the catalog, of the model as it was and as trained."""
    version: str = ""
    """The version that it serves in from now on; empty where it does not."""


@dataclass(frozen=True, slots=True)
class LearnReport:
    """One run."""

    started: datetime
    """UTC."""
    seconds: float
    """Of this run: what an interrupted one before it had done is not among them."""
    decision: Decision
    summary: tuple[str, ...]
    """What was decided and why, in sentences."""
    reasons: tuple[str, ...]
    """The gate's; of a run that was refused, why."""
    ranker: str
    """Its name; empty where none was trained."""
    against: str
    """What it was judged against."""
    notices: tuple[str, ...]
    """What a user should know besides."""
    removed: tuple[str, ...]
    """Older rankers that were one too many."""
    stages: tuple[Stage, ...]
    events: EventsRead | None
    """None where the run stopped before."""
    findings: Findings | None
    """None where the run was refused."""
    shoppers: Recommends | None = None
    """None where none was trained: its stage says why."""
    towers: TextTowers | None = None
    """None where the run did not come to it, or nothing came of it: its stage says why."""
    schema: int = field(default=SCHEMA)

    def to_json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)
