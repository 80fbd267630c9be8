"""Compiled filters: names resolved, values folded and typed. Eight kinds of tests under NOT, AND, OR and a minimum."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shelfwise.retrieval.filters.ast import PLACES
from shelfwise.retrieval.filters.places import Area, coordinates
from shelfwise.retrieval.records import Place


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
class InArea:
    """The product has a place in this area."""

    area: Area
    field: str = PLACES


@dataclass(frozen=True, slots=True)
class HasPlace:
    """The product has a place."""

    field: str = PLACES


@dataclass(frozen=True, slots=True)
class HasTerm:
    """One of the searched fields has this term."""

    fields: tuple[str, ...]
    term: str


@dataclass(frozen=True, slots=True)
class HasPhrase:
    """Some searched field has these terms consecutively."""

    terms: tuple[str, ...]


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


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least `count` of the operands match."""

    count: int
    operands: tuple[Condition, ...]


Condition = (
    TextIn
    | NumberWithin
    | HasText
    | HasNumber
    | InArea
    | HasPlace
    | HasTerm
    | HasPhrase
    | NotThat
    | AllOf
    | AnyOf
    | AtLeast
)


def all_of(condition: Condition | None, others: Iterable[Condition]) -> Condition | None:
    """The conjunction of a condition, if given, and others."""
    parts = (*(() if condition is None else (condition,)), *others)
    return AllOf(parts) if len(parts) > 1 else next(iter(parts), None)


def fields_of(condition: Condition) -> frozenset[str]:
    """The fields whose values a condition compares."""
    match condition:
        case AllOf(operands) | AnyOf(operands) | AtLeast(_, operands):
            return frozenset[str]().union(*map(fields_of, operands))
        case NotThat(operand):
            return fields_of(operand)
        case HasTerm() | HasPhrase():
            return frozenset()
        case _:
            return frozenset((condition.field,))


def reads_terms(condition: Condition) -> bool:
    """Whether a condition tests terms of searched fields."""
    match condition:
        case AllOf(operands) | AnyOf(operands) | AtLeast(_, operands):
            return any(map(reads_terms, operands))
        case NotThat(operand):
            return reads_terms(operand)
        case _:
            return isinstance(condition, HasTerm | HasPhrase)


@dataclass(slots=True)
class ProductColumns:
    """One product's values by field, as a keyword index stores them."""

    numbers: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    texts: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Folded texts, with which filters compare."""
    display: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """The product's own spelling of each folded text, for facets."""
    places: Sequence[Place] = ()
    terms: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """The terms of each searched field."""


def matches(condition: Condition, values: ProductColumns) -> bool:
    """Whether one product's values pass a filter; a keyword index does this for all products at once."""
    match condition:
        case AllOf(operands):
            return all(matches(each, values) for each in operands)
        case AnyOf(operands):
            return any(matches(each, values) for each in operands)
        case AtLeast(count, operands):
            return sum(matches(each, values) for each in operands) >= count
        case NotThat(operand):
            return not matches(operand, values)
        case TextIn(field, wanted):
            return not set(wanted).isdisjoint(values.texts.get(field, ()))
        case HasText(field):
            return field in values.texts
        case HasNumber(field):
            return field in values.numbers
        case InArea(area):
            return bool(area.contains(*coordinates(values.places)).any())
        case HasPlace():
            return bool(values.places)
        case HasTerm(fields, term):
            return any(term in values.terms.get(field, ()) for field in fields)
        case HasPhrase(terms):
            runs = ((each, at) for each in values.terms.values() for at in range(len(each)))
            return any(tuple(each[at : at + len(terms)]) == terms for each, at in runs)
        case NumberWithin(field):
            return any(_is_within(condition, number) for number in values.numbers.get(field, ()))


def _is_within(wanted: NumberWithin, number: float) -> bool:
    above = number >= wanted.low if wanted.include_low else number > wanted.low
    below = number <= wanted.high if wanted.include_high else number < wanted.high
    return above and below
