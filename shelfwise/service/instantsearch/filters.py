"""Filters of the protocol: expressions, facet filters, and the catalog fields that their attributes name.

An expression is such as `brand:Bosch AND (price < 100 OR NOT colour:"dark blue") AND rating:3 TO 5`. AND binds tighter
than OR; keywords are upper case; a single word is a tag. Scores such as `<score=2>` are ignored.

Filters are converted to trees, so that no value can escape its place. An attribute that no product has matches nothing,
and its negation everything, since a page may filter by fields that a catalog lacks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

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
from shelfwise.retrieval.filters.parser import CONNECTIVES, MAX_CHARACTERS, build_parser, unquoted
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR, FieldCatalog, FieldInfo, FieldKind, fold_value
from shelfwise.service.curation.relevance import is_hidden
from shelfwise.service.engine.request import MAX_OPTIONAL_FILTERS
from shelfwise.service.instantsearch.protocol_request import AnyOf, Refinements

_NUMERIC = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_COMPARISON = re.compile(r"<=|>=|!=|<|>|=")
_SCORED = re.compile(r"<score=(\d{1,9})>\Z", re.ASCII)
_GRAMMAR = rf"""
?any: all | all (_OR all)+ -> any_of
?all: one | one (_AND one)+ -> all_of
?one: "(" any ")" | _NOT one -> negation | condition
condition: name -> tag
    | name ":" value -> equal
    | name ":" RANGE -> between
    | name OPERATOR NUMBER -> compare
name: WORD | STRING
value: VALUE | STRING

STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
OPERATOR: /{_COMPARISON.pattern}/
NUMBER: /{_NUMERIC}(?![^\s()])/
RANGE.2: /{_NUMERIC}\s+TO\s+{_NUMERIC}(?![^\s()])/
WORD: /(?!(?:AND|OR|NOT|TO)(?:[\s():<>=!"']|\Z))[^\s():<>=!"']+/
VALUE: /(?!(?:AND|OR|NOT|TO)(?:[\s()]|\Z))(?!["'])[^\s()]+?(?=(?:<score=[0-9]+>)?(?:[\s()]|\Z))/
_AND.2: /AND(?=[\s("']|\Z)/
_OR.2: /OR(?=[\s("']|\Z)/
_NOT.2: /NOT(?=[\s("']|\Z)/
%ignore /\s+|<score=[0-9]+>(?=[\s()]|\Z)/
"""
"""Expressions; scores are ignored. The builders' comparisons have texts for values, and numbers for comparisons."""
_TO = re.compile(r"\s+TO\s+")

NOTHING = Comparison("id", "=", "")
"""Matches nothing: no product has an empty id."""
_PLAIN = re.compile(_NUMERIC)
_RANGE = re.compile(rf"({_NUMERIC})(?:{_TO.pattern}({_NUMERIC}))?")
_OPERATORS: dict[str, Operator] = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def _between(name: str, low: float, high: float) -> Filter:
    return And((Comparison(name, ">=", low), Comparison(name, "<=", high)))


_BUILDERS: Mapping[str, Callable[..., object]] = {
    "name": unquoted,
    "value": unquoted,
    "tag": lambda name: Comparison("_tags", "=", name),
    "equal": lambda name, value: Comparison(name, "=", value),
    "between": lambda name, ends: _between(name, *map(float, _TO.split(ends))),
    "compare": lambda name, symbol, number: Comparison(name, _OPERATORS[symbol], float(number)),
    **CONNECTIVES,
}

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


@cache
def _parser() -> Callable[[str], Filter]:
    """The parser of expressions, built on first use."""
    return build_parser(_GRAMMAR, _BUILDERS, lexer="contextual")


def _parse(expression: str) -> Filter:
    """The tree of an expression, with comparisons of attributes; raises FilterError with the column of the error."""
    if len(expression) > MAX_CHARACTERS:
        message = f"filters may have at most {MAX_CHARACTERS:,} characters, these have {len(expression):,}"
        raise FilterError(message, MAX_CHARACTERS + 1)
    try:
        return _parser()(expression)
    except FilterError as error:
        raise FilterError(f"filters, {error}", error.column, error.expected) from None


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
            parts.append(self._translate(_parse(refinements.expression)))
        return _join(parts, And) if parts else None

    def _translate(self, tree: Filter) -> Filter:
        """The filter of an expression's tree."""
        match tree:
            case And(operands):
                return And(tuple(map(self._translate, operands)))
            case Or(operands):
                return Or(tuple(map(self._translate, operands)))
            case Not(operand):
                return Not(self._translate(operand))
            case Comparison(name, operator, float(number)):
                return self.compare(name, operator, number)
            case Comparison(name, _, value):
                return self.equal(name, str(value))
        raise AssertionError(tree)

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
            return self._translate(_between(name.strip(), low, high))
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
