"""What a merchandising rule is: when it holds, and what it does then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Match(StrEnum):
    """How a rule's query is met by the one that a shopper typed."""

    EXACT = "exact"
    """It is the same text; case, width and white space do not count."""
    CONTAINS = "contains"
    """All words of the rule are in it, in any order and form: "drills" has "drill" in it."""
    ANY = "any"
    """Whatever was typed, and browsing without a query."""


@dataclass(frozen=True, slots=True)
class When:
    """The searches that a rule is about: all conditions must hold."""

    query: str = ""
    match: Match = Match.ANY
    filters: str = ""
    """Each part of this expression must be one of the request's own filter: `category = "Tools"` holds while a shopper
    is in that category."""
    starts: datetime | None = None
    """The first moment, with its zone; None for always before."""
    ends: datetime | None = None
    """The first moment after, with its zone; None for always after."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Puts products at places: the first at `position`, the next behind it."""

    products: tuple[str, ...]
    """Their ids."""
    position: int = 1
    """Counted over all pages, from 1."""


@dataclass(frozen=True, slots=True)
class Boost:
    """Moves the hits that an expression lets through upward."""

    filters: str
    strength: float = 1.0
    """In standard deviations of the scores of the best hits."""


@dataclass(frozen=True, slots=True)
class Bury:
    """Moves the hits that an expression lets through downward."""

    filters: str
    strength: float = 1.0
    """In standard deviations of the scores of the best hits."""


@dataclass(frozen=True, slots=True)
class Hide:
    """Keeps products out: those of these ids, and those that an expression lets through."""

    products: tuple[str, ...] = ()
    filters: str = ""


@dataclass(frozen=True, slots=True)
class Restrict:
    """Keeps out whatever an expression does not let through, as if the shopper had filtered by it."""

    filters: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """Names a page to show instead; the hits are there all the same."""

    url: str
    """With http or https, or a path that begins with one slash."""


Action = Pin | Boost | Bury | Hide | Restrict | Redirect

KINDS: Mapping[str, type[Action]] = {
    "pin": Pin,
    "boost": Boost,
    "bury": Bury,
    "hide": Hide,
    "restrict": Restrict,
    "redirect": Redirect,
}
"""What each action is called in JSON and TOML."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Some actions, and when they hold. Of several rules that do, the one with the higher priority speaks first, among
    equals the one whose id comes first."""

    id: str
    actions: tuple[Action, ...]
    when: When = When()
    name: str = ""
    priority: int = 0
    enabled: bool = True
