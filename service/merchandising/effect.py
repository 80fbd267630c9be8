"""What the rules that match one search do to it, in the terms of the search."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.conditions import AllOf, Condition


@dataclass(frozen=True, slots=True)
class PinnedProduct:
    """A product and the place that it is to have, from 1."""

    product: str
    position: int
    rule: str
    """The id of the rule that says so."""


@dataclass(frozen=True, slots=True)
class Lift:
    """What moves some hits up, or down where the strength is negative."""

    condition: Condition
    strength: float
    rule: str


@dataclass(frozen=True, slots=True)
class Effect:
    """The actions of all rules that match, in the order in which the rules speak."""

    rules: tuple[str, ...] = ()
    """Their ids."""
    where: tuple[Condition, ...] = ()
    """What a hit must pass beside the shopper's filter."""
    pins: tuple[PinnedProduct, ...] = ()
    """Each product once."""
    lifts: tuple[Lift, ...] = ()
    redirect: str = ""
    kept_out_by: tuple[str, ...] = ()
    """The rules that `where` is of."""

    def condition(self, asked: Condition | None) -> Condition | None:
        """What a hit must pass in all; `asked` is the shopper's filter."""
        parts = self.where if asked is None else (asked, *self.where)
        return AllOf(parts) if len(parts) > 1 else next(iter(parts), None)


NOTHING = Effect()
