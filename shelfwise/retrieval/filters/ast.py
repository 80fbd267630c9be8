"""The syntax tree of a filter expression, and its formatting as text.

A backend translates the nodes and never sees the text. Every leaf has the column of its field, so that an error found
only by a backend (a text compared with a numeric field) shows the place.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shelfwise.retrieval.filters.places import Area, Box, Circle, Polygon

Value = str | float | bool
Operator = Literal["=", "!=", "<", "<=", ">", ">="]

PLACES = "places"
"""The field of a product's places."""
KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "EXISTS", "TO"})
BOOLEANS = {"TRUE": True, "FALSE": False}
WORD_MARKS = "_-./+"
_JOINERS = "\u200c\u200d"
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]\d+)?", re.ASCII)
_CODE = re.compile(r"[-+]?0\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`price < 100`. `=` and `!=` accept any value; the other operators need numbers or dates in ISO 8601."""

    field: str
    operator: Operator
    value: Value
    column: int = dataclasses.field(default=0, compare=False)
    """Column of the field in the text, counted from 1; 0 for a tree built in code."""


@dataclass(frozen=True, slots=True)
class In:
    """`colour IN (red, "dark blue")`: equal to any of the values; there is at least one."""

    field: str
    values: tuple[Value, ...]
    column: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Exists:
    """`colour EXISTS`: the product has a value in the field."""

    field: str
    column: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Within:
    """`distance(52.5, 13.4) < 10 km`, `box(...)`, `polygon(...)`: the product has a place in the area."""

    area: Area
    column: int = dataclasses.field(default=0, compare=False)
    field: str = PLACES


@dataclass(frozen=True, slots=True)
class Not:
    """`NOT ...`: every product that the operand does not match, including products without the field."""

    operand: Filter


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more operands. `price 10 TO 20` is parsed as `price >= 10 AND price <= 20`."""

    operands: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more operands."""

    operands: tuple[Filter, ...]


Leaf = Comparison | In | Exists | Within
Filter = Leaf | Not | And | Or


def leaves(tree: Filter) -> Iterator[Leaf]:
    """The comparisons of a tree from left to right."""
    waiting: list[Filter] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Not):
            waiting.append(node.operand)
        elif isinstance(node, And | Or):
            waiting.extend(reversed(node.operands))
        else:
            yield node


def number_of(word: str) -> float | None:
    """The number that a bare word stands for, or None.

    A code stays a text: a number with leading zeros, or with more digits than a float has.
    """
    if not _NUMBER.fullmatch(word) or _CODE.match(word):
        return None
    number = float(word)
    if number in (float("inf"), float("-inf")):
        return None
    is_plain_integer = word.lstrip("+-").isdigit()
    return None if is_plain_integer and len(word) > 15 and int(word) != int(number) else number


def stray_mark(word: str) -> str:
    """The first character that is not allowed in a bare word, or the empty string.

    Letters of any script with their marks, digits, and `_ - . / +` are allowed.
    """
    for mark in word:
        if mark not in WORD_MARKS and mark not in _JOINERS and unicodedata.category(mark)[0] not in "LMN":
            return mark
    return ""


def value_text(value: Value) -> str:
    """A value as a text field spells it: `100001` and not `100001.0`, `true` and not `True`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return repr(float(value)).removesuffix(".0")


def format_filter(tree: Filter) -> str:
    """The text of a tree. Parsing it gives an equal tree if the text is within the parser's limits."""
    match tree:
        case Comparison():
            return f"{_name(tree.field)} {tree.operator} {_literal(tree.value)}"
        case In():
            return f"{_name(tree.field)} IN ({', '.join(map(_literal, tree.values))})"
        case Exists():
            return f"{_name(tree.field)} EXISTS"
        case Within():
            return _area_text(tree.area)
        case Not():
            return f"NOT {_bracketed(tree.operand, (And, Or))}"
        case And():
            return _range(tree) or " AND ".join(_bracketed(operand, (And, Or)) for operand in tree.operands)
        case Or():
            return " OR ".join(_bracketed(operand, (Or,)) for operand in tree.operands)


def _area_text(area: Area) -> str:
    match area:
        case Circle(center, metres):
            return f"distance({value_text(center.lat)}, {value_text(center.lng)}) <= {value_text(metres)} m"
        case Box(south, west, north, east):
            return f"box({', '.join(map(value_text, (south, west, north, east)))})"
        case Polygon(corners):
            return f"polygon({', '.join(value_text(each) for corner in corners for each in (corner.lat, corner.lng))})"


def _bracketed(tree: Filter, looser: tuple[type, ...]) -> str:
    is_range = isinstance(tree, And) and bool(_range(tree))
    text = format_filter(tree)
    return f"({text})" if isinstance(tree, looser) and not is_range else text


def _range(tree: And) -> str:
    """`field low TO high` for a node parsed from it, since two comparisons would need brackets."""
    match tree.operands:
        case (Comparison(name, ">=", low), Comparison(other, "<=", high)) if name == other:
            if isinstance(low, bool) or isinstance(high, bool):
                return ""
            return f"{_name(name)} {_bound(low)} TO {_bound(high)}"
    return ""


def _name(name: str) -> str:
    return name if _is_bare(name) else _quoted(name)


def _literal(value: Value) -> str:
    return value_text(value) if not isinstance(value, str) or _is_bare(value) else _quoted(value)


def _bound(value: str | float) -> str:
    return _quoted(value) if isinstance(value, str) else value_text(value)


def _is_bare(text: str) -> bool:
    if not text or text.upper() in KEYWORDS or text.upper() in BOOLEANS:
        return False
    return number_of(text) is None and not stray_mark(text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
