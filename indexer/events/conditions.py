"""What a mapping asks of a row before it makes an event of it, or leaves it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from indexer.reading import value_at

_TRUE = frozenset({"true", "t", "1", "1.0", "yes", "y", "on"})
TESTS = ("equals", "among", "begins", "above", "below")
"""What a value can be asked; without any of these, whether it says yes."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One question about a row's field."""

    field: str
    test: str = ""
    """One of `TESTS`; empty asks for true, 1, yes and the like."""
    operand: tuple[object, ...] = ()
    """What the value is compared with; of `among` several."""

    def compiled(self) -> Callable[[Mapping[str, object]], bool]:
        """The question as a function of a row. A row without the field, or with none to compare, answers no."""
        field, test = self.field, _test(self.test, self.operand)

        def holds(row: Mapping[str, object]) -> bool:
            value = row.get(field)
            return test(value_at(row, field) if value is None else value)

        return holds


def _test(name: str, operand: tuple[object, ...]) -> Callable[[object], bool]:
    if name in ("above", "below"):
        bound = number(operand[0])
        if name == "above":
            return lambda value: number(value) > bound
        return lambda value: number(value) < bound
    if name == "begins":
        beginning = str(operand[0])
        return lambda value: str(value).strip().startswith(beginning)
    if name in ("equals", "among"):
        texts = frozenset(spelled(one) for one in operand)
        numbers = frozenset(number(one) for one in operand if type(one) in (int, float))
        if numbers:
            return lambda value: spelled(value) in texts or number(value) in numbers
        return lambda value: spelled(value) in texts
    return lambda value: value is True or (value is not False and spelled(value).lower() in _TRUE)


def spelled(value: object) -> str:
    """A value as texts are compared: without the blanks around it, true and false in small letters."""
    if type(value) is str:
        return value.strip()
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def number(value: object) -> float:
    """A number or a text that is one; else NaN, which is neither above, below nor equal to anything."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
