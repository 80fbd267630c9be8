"""A filter made ready for a backend: names checked, values folded and typed. Four plain nodes under NOT, AND and OR."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextIn:
    """The field has one of these folded texts. A boolean is the text "true" or "false"."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberWithin:
    """The field has a number (or a time, in seconds since 1970) between the two bounds."""

    field: str
    low: float = -math.inf
    high: float = math.inf
    include_low: bool = True
    include_high: bool = True


@dataclass(frozen=True, slots=True)
class HasText:
    """The field has any text."""

    field: str


@dataclass(frozen=True, slots=True)
class HasNumber:
    """The field has any number."""

    field: str


@dataclass(frozen=True, slots=True)
class NotThat:
    """Everything that the operand does not match."""

    operand: Condition


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every operand matches; with none, everything does."""

    operands: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one operand matches; with none, nothing does."""

    operands: tuple[Condition, ...]


Condition = TextIn | NumberWithin | HasText | HasNumber | NotThat | AllOf | AnyOf
