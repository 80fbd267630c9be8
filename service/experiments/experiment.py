"""What an experiment is: the ways in which searches are answered, who takes part, and when."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum


class Mode(StrEnum):
    """How variants are compared."""

    SPLIT = "split"
    """Each unit sees one of them."""
    INTERLEAVE = "interleave"
    """Everybody sees both, hit by hit in one list."""


class Unit(StrEnum):
    """What a lot is drawn for."""

    SHOPPER = "shopper"
    SESSION = "session"
    QUERY = "query"
    """One shopper's searches for one text, those of a session where the shopper is not told."""


class Goal(StrEnum):
    """What decides an experiment; the other figures are shown beside it."""

    CLICK_THROUGH = "click_through"
    EMPTY = "empty"
    ABANDONED = "abandoned"
    CARTS = "carts"
    PURCHASES = "purchases"


@dataclass(frozen=True, slots=True)
class Options:
    """How a variant answers; what is None is as a search has it by default."""

    stage: str | None = None
    """"merged" or "ranked"."""
    merge: str | None = None
    """One of `retrieval.merging.METHODS`."""
    rules: bool | None = None
    """Whether the store's merchandising rules hold."""
    ranker: str | None = None
    """The name of a ranker of the index, "default" among them, or "off" for the merged order."""

    @property
    def given(self) -> dict[str, str | bool]:
        """Those that are not None, as `SearchEngine.search` takes them."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the ways; the first of an experiment is what the others are compared with."""

    name: str
    options: Options = Options()
    weight: float = 1.0
    """How often it is drawn, beside the weights of the others."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Some variants, who takes part, and what is looked at."""

    id: str
    variants: tuple[Variant, ...]
    name: str = ""
    mode: Mode = Mode.SPLIT
    unit: Unit = Unit.SHOPPER
    share: float = 1.0
    """Of all units, those that take part."""
    starts: datetime | None = None
    """The first moment, with its zone; None for when it is put."""
    ends: datetime | None = None
    """The first moment after, with its zone; None for when it is stopped."""
    enabled: bool = True
    """A draft otherwise: it can be changed, and nobody takes part."""
    goal: Goal = Goal.CLICK_THROUGH
    """Of a split; interleaving looks at clicks."""
    planned: int = 10_000
    """How many shoppers are hoped for. The interval that may be looked at at any time is narrowest there."""
    least_effect: float = 0.02
    """The smallest difference that matters, as a share of the first variant's figure; of interleaving, of the share of
    wins above one half."""

    @property
    def touches(self) -> frozenset[str]:
        """The options that any of its variants has."""
        return frozenset(name for variant in self.variants for name in variant.options.given)
