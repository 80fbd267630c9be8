"""What narrows a search, as a tree of our own filters: built from its parts, so that no value reaches out of its place.

An attribute that no product has matches nothing, and its negation everything: a page may ask for what a catalog lacks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from retrieval.errors import QueryError
from retrieval.fields import Kind
from retrieval.filters import And, Comparison, Filter, Not, Operator, Or, Value, format_filter
from service.instantsearch.attributes import Attribute, Attributes
from service.instantsearch.filter_syntax import Parts, parse_expression
from service.instantsearch.parameters import Refinements
from service.instantsearch.values import AnyOf

NOTHING = Comparison("id", "=", "")
"""No product has an empty id."""
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_OPERATOR = re.compile("<=|>=|!=|<|>|=")
_PLAIN = re.compile(_NUMBER, re.ASCII)
_RANGE = re.compile(rf"({_NUMBER})(?:\s+TO\s+({_NUMBER}))?", re.ASCII)
_OPERATORS: dict[str, Operator] = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class Filters:
    """Translates refinements for one catalog."""

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes

    def expression(self, refinements: Refinements) -> str:
        """A filter expression; empty where nothing narrows. Raises QueryError or FilterError."""
        tree = self.tree(refinements)
        return "" if tree is None else format_filter(tree)

    def tree(self, refinements: Refinements) -> Filter | None:
        """The same as a tree; None where nothing narrows."""
        parts = [
            *_each(refinements.facets, self._facet),
            *_each(refinements.numbers, self._numeric),
            *_each(refinements.tags, self._tag),
        ]
        if refinements.expression.strip():
            parts.append(parse_expression(refinements.expression, Parts(self.equal, self.compared)))
        return _together(parts, And) if parts else None

    def equal(self, name: str, value: str) -> Filter:
        """The attribute has this value."""
        attribute = self._attributes.find(name)
        if attribute is None or not attribute.has(value):
            return NOTHING
        if attribute.level == 0 and not self._attributes.is_root(value):
            return NOTHING
        if attribute.info.is_textual:
            return Comparison(attribute.info.name, "=", value)
        try:
            return _compared(attribute, "=", float(value))
        except ValueError:
            return NOTHING

    def compared(self, name: str, operator: str, number: float) -> Filter:
        """The attribute has such a number."""
        attribute = self._attributes.find(name)
        if attribute is None or not attribute.info.is_numeric:
            return Not(NOTHING) if operator == "!=" else NOTHING
        return _compared(attribute, operator, number)

    def _facet(self, said: str) -> Filter:
        name, colon, value = said.partition(":")
        if not colon or not name.strip():
            raise QueryError(f"facetFilters: {said[:60]!r} must be an attribute and a value, such as 'brand:Bosch'")
        if value.startswith("-"):
            return Not(self.equal(name.strip(), value[1:]))
        return self.equal(name.strip(), value[1:] if value.startswith("\\-") else value)

    def _numeric(self, said: str) -> Filter:
        # Commas stand between filters in the oldest way to write them.
        parts = [self._one_numeric(each) for each in said.split(",")]
        return _together(parts, And)

    def _one_numeric(self, said: str) -> Filter:
        operator = _OPERATOR.search(said)
        name, _, values = said.rpartition(":")
        if operator:
            name, values = said[: operator.start()].strip(), said[operator.end() :].strip()
            if name and _PLAIN.fullmatch(values):
                return self.compared(name, operator[0], float(values))
        elif name.strip() and (found := _RANGE.fullmatch(values.strip())):
            low, high = float(found[1]), float(found[2] or found[1])
            return And((self.compared(name.strip(), ">=", low), self.compared(name.strip(), "<=", high)))
        raise QueryError(f"numericFilters: {said[:60]!r} must be such as 'price >= 10' or 'price:10 TO 20'")

    def _tag(self, said: str) -> Filter:
        return Not(self.equal("_tags", said[1:])) if said.startswith("-") else self.equal("_tags", said)


def _each(groups: Iterable[AnyOf], translated: Callable[[str], Filter]) -> list[Filter]:
    return [_together([translated(each) for each in group], Or) for group in groups]


def _together(parts: Sequence[Filter], kind: type[And] | type[Or]) -> Filter:
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _compared(attribute: Attribute, operator: str, number: float) -> Filter:
    if not math.isfinite(number):
        return Not(NOTHING) if operator == "!=" else NOTHING
    value: Value = number
    if Kind.TIME in attribute.info.kinds:
        try:
            value = datetime.fromtimestamp(number, UTC).isoformat()
        except (OverflowError, OSError, ValueError):
            raise QueryError(f"{number:g} is no time in seconds since 1970, which {attribute.info.name} has") from None
    return Comparison(attribute.info.name, _OPERATORS[operator], value)
