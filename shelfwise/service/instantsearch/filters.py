"""Filters of the protocol: expressions, facet filters, and the catalog fields that their attributes name.

An expression is such as `brand:Bosch AND (price < 100 OR NOT colour:"dark blue") AND rating:3 TO 5`. AND binds tighter
than OR; keywords are upper case; a single word is a tag. Scores such as `<score=2>` are ignored.

Filters are converted to trees, so that no value can escape its place. An attribute that no product has matches nothing,
and its negation everything, since a page may filter by fields that a catalog lacks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from shelfwise.retrieval.errors import FilterError, QueryError
from shelfwise.retrieval.filters.ast import (
    PLACES,
    And,
    Comparison,
    Filter,
    Not,
    Operator,
    Or,
    Value,
    Within,
    format_filter,
)
from shelfwise.retrieval.filters.parser import MAX_CHARACTERS, MAX_NESTING
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR, FieldCatalog, FieldInfo, FieldKind, fold_value
from shelfwise.service.curation.relevance import is_hidden
from shelfwise.service.engine.request import MAX_OPTIONAL_FILTERS
from shelfwise.service.instantsearch.protocol_request import AnyOf, Refinements

_NUMERIC = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_SPACES = re.compile(r"\s*")
_QUOTED = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\')', re.DOTALL)
_NAME = re.compile(r"\s*([^\s():<>=!\"']+)")
_VALUE = re.compile(r"\s*([^\s()]+)")
_COMPARISON = re.compile(r"<=|>=|!=|<|>|=")
_OPERATOR = re.compile(rf"\s*({_COMPARISON.pattern})")
_NUMBER = re.compile(rf"\s*({_NUMERIC})(?![^\s()])", re.ASCII)
_TO = re.compile(r"\s+TO\s+")
_SCORE = re.compile(r"\s*<score=\d+>", re.ASCII)
_SCORED = re.compile(r"<score=(\d{1,9})>\Z", re.ASCII)
_OPEN, _CLOSE, _COLON = (re.compile(rf"\s*{re.escape(sign)}") for sign in "():")
_AND, _OR, _NOT = (re.compile(rf"\s*{keyword}(?=[\s(\"']|\Z)") for keyword in ("AND", "OR", "NOT"))
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_KEYWORDS = frozenset({"AND", "OR", "NOT", "TO"})

NOTHING = Comparison("id", "=", "")
"""Matches nothing: no product has an empty id."""
_PLAIN = re.compile(_NUMERIC, re.ASCII)
_RANGE = re.compile(rf"({_NUMERIC})(?:\s+TO\s+({_NUMERIC}))?", re.ASCII)
_OPERATORS: dict[str, Operator] = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

_ALIASES = {
    "objectID": "id",
    "name": "title",
    "categories": "category",
    "hierarchicalCategories": "category",
    "_tags": "tags",
}
_LEVEL = re.compile(r"(?:categories|hierarchicalCategories|category)\.lvl(\d)", re.ASCII)
_LEVELS = ("hierarchicalCategories.lvl0", "hierarchicalCategories.lvl1", "hierarchicalCategories.lvl2")
_FIRST = ("brand", "price", "rating", "availability")
_MAX_OFFERED = 20


@dataclass(frozen=True, slots=True)
class ProtocolAttribute:
    """A field, or one level of the categories: "Tools > Drills" has level 1."""

    info: FieldInfo
    level: int | None = None

    def has(self, value: str) -> bool:
        """Whether a value of the field belongs to this attribute."""
        return self.level is None or value.count(CATEGORY_SEPARATOR) == self.level


class AttributeCatalog:
    """The attributes of one catalog."""

    def __init__(self, catalog: FieldCatalog, faceting: tuple[str, ...] = (), hidden: Collection[str] = ()) -> None:
        """`faceting` are the facets of "*", by default a selection of common ones that are not `hidden`."""
        self._catalog = catalog
        self._faceting = faceting
        self._hidden = hidden

    def find(self, name: str) -> ProtocolAttribute | None:
        """The attribute of a name; None if no product has it, or if it is text that cannot be filtered."""
        if level := _LEVEL.fullmatch(name):
            info = self._catalog.fields.get("category")
            return ProtocolAttribute(info, int(level[1])) if info else None
        field = _ALIASES.get(name, name)
        own = None if field == PLACES else self._catalog.fields.get(field)
        info = own or self._catalog.fields.get(f"attributes.{field}")
        return ProtocolAttribute(info) if info else None

    def searched(self, name: str) -> str:
        """The searched field that an attribute name refers to; raises UnknownFieldError for other names."""
        field = "category" if _LEVEL.fullmatch(name) else _ALIASES.get(name, name)
        return self._catalog.resolve_searched(field)

    def is_root(self, category: str) -> bool:
        """Whether a category has no parent."""
        return fold_value(category) in self._catalog.category_roots

    @property
    def offered(self) -> tuple[str, ...]:
        """The facets of "*": categories by level, common fields, then the attributes that most products have; or those
        that the store has set."""
        if self._faceting:
            return self._faceting
        fields = {name: info for name, info in self._catalog.fields.items() if not is_hidden(name, self._hidden)}
        common = sorted(
            (info for name, info in fields.items() if name.startswith("attributes.")),
            key=lambda info: (-info.products, info.name),
        )
        named = (*(_LEVELS if "category" in fields else ()), *(name for name in _FIRST if name in fields))
        return (*named, *(info.name.removeprefix("attributes.") for info in common))[:_MAX_OFFERED]


class _ExpressionParser:
    """Recursive-descent parser of one expression."""

    def __init__(self, text: str, conditions: FilterTranslator) -> None:
        self._text = text
        self._conditions = conditions
        self._at = 0
        self._depth = 0

    def parse(self) -> Filter:
        """The tree; raises FilterError with the column of the error."""
        if len(self._text) > MAX_CHARACTERS:
            message = f"filters may have at most {MAX_CHARACTERS:,} characters, these have {len(self._text):,}"
            raise FilterError(message, MAX_CHARACTERS + 1)
        tree = self._parse_or()
        self._match(_SPACES)
        if self._at < len(self._text):
            raise self._fault("AND, OR or the end")
        return tree

    def _parse_or(self) -> Filter:
        operands = [self._parse_and()]
        while self._match(_OR):
            operands.append(self._parse_and())
        return _join(operands, Or)

    def _parse_and(self) -> Filter:
        operands = [self._parse_not()]
        while self._match(_AND):
            operands.append(self._parse_not())
        return _join(operands, And)

    def _parse_not(self) -> Filter:
        if self._match(_NOT):
            return Not(self._nest(self._parse_not))
        if self._match(_OPEN):
            tree = self._nest(self._parse_or)
            if not self._match(_CLOSE):
                raise self._fault("AND, OR or a closing bracket")
            return tree
        return self._parse_condition()

    def _nest(self, parse: Callable[[], Filter]) -> Filter:
        self._depth += 1
        if self._depth > MAX_NESTING:
            message = f"filters: brackets and NOTs may be nested {MAX_NESTING} deep, not deeper"
            raise FilterError(message, self._at + 1)
        tree = parse()
        self._depth -= 1
        return tree

    def _parse_condition(self) -> Filter:
        name = self._text_or_name(_NAME)
        if self._match(_COLON):
            return self._parse_value(name)
        if operator := self._match(_OPERATOR):
            return self._conditions.compare(name, operator[1], self._number())
        self._match(_SCORE)
        return self._conditions.equal("_tags", name)

    def _parse_value(self, name: str) -> Filter:
        start = self._at
        if (low := self._match(_NUMBER)) and self._match(_TO):
            high = self._number()
            ends = self._conditions.compare(name, ">=", float(low[1])), self._conditions.compare(name, "<=", high)
            return And(ends)
        self._at = start
        return self._conditions.equal(name, self._text_or_name(_VALUE))

    def _text_or_name(self, bare: re.Pattern[str]) -> str:
        """A quoted text or a bare word."""
        if quoted := self._match(_QUOTED):
            self._match(_SCORE)
            return _ESCAPED.sub(r"\1", quoted[1] if quoted[1] is not None else quoted[2])
        match = bare.match(self._text, self._at)
        if match is None or match[1] in _KEYWORDS or match[1][0] in "\"'":
            raise self._fault("an attribute or a value")
        self._at = match.end()
        return _SCORE.sub("", match[1]) if bare is _VALUE else match[1]

    def _number(self) -> float:
        if match := self._match(_NUMBER):
            return float(match[1])
        raise self._fault("a number")

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The next token if it matches, advancing past it."""
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match

    def _fault(self, expectation: str) -> FilterError:
        self._match(_SPACES)
        there = repr(self._text[self._at : self._at + 20]) if self._at < len(self._text) else "the end"
        message = f"filters, column {self._at + 1}: expected {expectation}, found {there}"
        return FilterError(message, self._at + 1, (expectation,))


class FilterTranslator:
    """Translates refinements to filters of one catalog."""

    def __init__(self, attributes: AttributeCatalog) -> None:
        self._attributes = attributes

    def expression(self, refinements: Refinements) -> str:
        """A filter expression, empty without refinements; raises QueryError or FilterError."""
        tree = self.tree(refinements)
        return "" if tree is None else format_filter(tree)

    def optional(self, groups: Iterable[AnyOf]) -> list[str]:
        """The expression of each group of optional filters, repeated by its score (`brand:Bosch<score=2>`)."""
        filters = []
        for group in groups:
            scores = [int(each[1]) for text in group if (each := _SCORED.search(text))]
            parts = [self._facet(_SCORED.sub("", text)) for text in group]
            filters += [format_filter(_join(parts, Or))] * min(max(scores, default=1), MAX_OPTIONAL_FILTERS)
        return filters

    def tree(self, refinements: Refinements) -> Filter | None:
        """Like `expression`, as a tree; None without refinements."""
        parts = [
            *_each(refinements.facets, self._facet),
            *_each(refinements.numbers, self._numeric),
            *_each(refinements.tags, self._tag),
        ]
        if refinements.areas:
            parts.append(_join([Within(each) for each in refinements.areas], Or))
        if refinements.expression.strip():
            parts.append(_ExpressionParser(refinements.expression, self).parse())
        return _join(parts, And) if parts else None

    def equal(self, name: str, value: str) -> Filter:
        """The condition that an attribute has a value."""
        attribute = self._attributes.find(name)
        if attribute is None or not attribute.has(value):
            return NOTHING
        if attribute.level == 0 and not self._attributes.is_root(value):
            return NOTHING
        if attribute.info.is_textual:
            return Comparison(attribute.info.name, "=", value)
        try:
            return _compare(attribute, "=", float(value))
        except ValueError:
            return NOTHING

    def compare(self, name: str, operator: str, number: float) -> Filter:
        """The condition that an attribute compares to a number."""
        attribute = self._attributes.find(name)
        if attribute is None or not attribute.info.is_numeric:
            return Not(NOTHING) if operator == "!=" else NOTHING
        return _compare(attribute, operator, number)

    def _facet(self, text: str) -> Filter:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise QueryError(f"filters: {text[:60]!r} must be an attribute and a value, such as 'brand:Bosch'")
        if value.startswith("-"):
            return Not(self.equal(name.strip(), value[1:]))
        return self.equal(name.strip(), value[1:] if value.startswith("\\-") else value)

    def _numeric(self, text: str) -> Filter:
        # The oldest syntax separates filters by commas.
        return _join([self._one_numeric(each) for each in text.split(",")], And)

    def _one_numeric(self, text: str) -> Filter:
        operator = _COMPARISON.search(text)
        name, _, values = text.rpartition(":")
        if operator:
            name = text[: operator.start()].strip()
            values = text[operator.end() :].strip()
            if name and _PLAIN.fullmatch(values):
                return self.compare(name, operator[0], float(values))
        elif name.strip() and (match := _RANGE.fullmatch(values.strip())):
            low = float(match[1])
            high = float(match[2] or match[1])
            return And((self.compare(name.strip(), ">=", low), self.compare(name.strip(), "<=", high)))
        raise QueryError(f"numericFilters: {text[:60]!r} must be such as 'price >= 10' or 'price:10 TO 20'")

    def _tag(self, text: str) -> Filter:
        return Not(self.equal("_tags", text[1:])) if text.startswith("-") else self.equal("_tags", text)


def _each(groups: Iterable[AnyOf], translate: Callable[[str], Filter]) -> list[Filter]:
    return [_join([translate(each) for each in group], Or) for group in groups]


def _join(parts: Sequence[Filter], kind: type[And] | type[Or]) -> Filter:
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _compare(attribute: ProtocolAttribute, operator: str, number: float) -> Filter:
    if not math.isfinite(number):
        return Not(NOTHING) if operator == "!=" else NOTHING
    value: Value = number
    if FieldKind.TIME in attribute.info.kinds:
        try:
            value = datetime.fromtimestamp(number, UTC).isoformat()
        except (OverflowError, OSError, ValueError):
            raise QueryError(
                f"{number:g} is not a time in seconds since 1970, as {attribute.info.name} needs"
            ) from None
    return Comparison(attribute.info.name, _OPERATORS[operator], value)
