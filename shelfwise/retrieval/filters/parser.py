"""The filter language: text to a syntax tree, parsed once for all backends.

    price < 100 AND brand = Bosch
    colour IN (red, "dark blue") OR NOT category = "Tools > Drills"
    distance(52.5, 13.4) < 10 km OR box(48, 11, 49, 12)
    price 10 TO 20 AND attributes.voltage EXISTS AND created >= "2024-01-31"

AND binds tighter than OR, brackets group, and keywords may be in any case. A bare word has letters of any script,
digits and `_ - . / +`; other text needs quotes, in which a backslash escapes the next character. A bare number is a
number, unless it is a code (leading zeros, or more digits than a float has); a quoted one is a text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from shelfwise.retrieval.errors import FilterError, UnknownFieldError, close_names
from shelfwise.retrieval.filters.ast import (
    BOOLEANS,
    KEYWORDS,
    And,
    Comparison,
    Exists,
    Filter,
    In,
    Leaf,
    Not,
    Operator,
    Or,
    Value,
    Within,
    leaves,
    number_of,
    stray_mark,
)
from shelfwise.retrieval.filters.places import UNITS, Area, Box, Circle, Polygon
from shelfwise.retrieval.records import Place

if TYPE_CHECKING:
    from lark import Lark, Token
    from lark.exceptions import UnexpectedCharacters

MAX_CHARACTERS = 10_000
MAX_NESTING = 50
MAX_VALUES = 1_000

_GRAMMAR = r"""
?any: all | all (_OR all)+ -> any_of
?all: one | one (_AND one)+ -> all_of
?one: "(" any ")" | _NOT one -> negation | comparison
?comparison: name OPERATOR value -> compare
    | name _IN values -> among
    | name _NOT _IN values -> not_among
    | name _EXISTS -> exists
    | name _NOT _EXISTS -> not_exists
    | name bound _TO bound -> between
    | region -> within
    | region OPERATOR radius -> near
region: AREA "(" NUMBER ("," NUMBER)* ")"
radius: NUMBER WORD? | WORD
values: "(" value ("," value)* ")"
name: WORD | STRING
value: WORD | STRING | NUMBER | BOOLEAN
bound: NUMBER | STRING

STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
OPERATOR: /[<>!]=|[<>=]/
AREA.2: /(?:distance|box|polygon)(?=\s*\()/i
WORD: /(?:[\w\-.\/+]|[^\x00-\x7f\s])+/
%declare _AND _OR _NOT _IN _EXISTS _TO NUMBER BOOLEAN
%ignore /\s+/
"""


class _Parser(Protocol):
    """The part of lark's interactive parser, which is untyped, that is used."""

    def iter_parse(self) -> Iterator[Token]: ...
    def feed_token(self, token: Token) -> object: ...
    def feed_eof(self, last_token: Token | None = None) -> Filter: ...
    def accepts(self) -> set[str]: ...


class _Name(NamedTuple):
    text: str
    column: int


def parse_filter(text: str) -> Filter | None:
    """The syntax tree of a filter expression; None if it is blank.

    Raises FilterError with the column of the error and what was expected there, or with the limit that was exceeded.
    """
    if not text.strip():
        return None
    if len(text) > MAX_CHARACTERS:
        message = f"a filter may have at most {MAX_CHARACTERS:,} characters; this one has {len(text):,}"
        raise FilterError(message, MAX_CHARACTERS + 1)
    tree = _parser()(text)
    _check_count(tree)
    return tree


def _check_count(tree: Filter) -> None:
    count = 0
    for leaf in leaves(tree):
        count += len(leaf.values) if isinstance(leaf, In) else 1
        if count > MAX_VALUES:
            message = f"column {leaf.column}: a filter may have at most {MAX_VALUES:,} values; this one has more"
            raise FilterError(message, leaf.column)


def _parse(grammar: Lark, text: str) -> Filter:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    parser: _Parser = grammar.parse_interactive(text)
    nesting = _Nesting()
    read: list[Token] = []
    try:
        for token in parser.iter_parse():  # returned before the parser processes it
            nesting.take(token)
            read.append(token)
        return parser.feed_eof(read[-1] if read else None)
    except UnexpectedCharacters as error:
        raise _unreadable(grammar, error, read) from None
    except UnexpectedToken as error:
        raise _unexpected(grammar, error.token, read, text) from None


class _Nesting:
    """Counts open brackets and pending NOTs, and raises an error at the limit."""

    def __init__(self) -> None:
        self._depth = 0
        self._outer = [0]

    def take(self, token: Token) -> None:
        if token.type in ("LPAR", "_NOT"):
            self._depth += 1
            if self._depth > MAX_NESTING:
                message = f"column {_column(token)}: brackets and NOTs may be nested at most {MAX_NESTING} deep"
                raise FilterError(message, _column(token))
        if token.type == "LPAR":
            self._outer.append(self._depth)
        elif token.type == "RPAR" and len(self._outer) > 1:
            self._outer.pop()
            self._depth = self._outer[-1]
        elif token.type in ("_AND", "_OR"):
            self._depth = self._outer[-1]


@functools.cache
def _parser() -> Callable[[str], Filter]:
    """The parser of the grammar, built on first use, which takes a tenth of a second."""
    return build_parser(_GRAMMAR, _BUILDERS, lexer="basic", lexer_callbacks={"WORD": _classified})


def build_parser(
    grammar: str,
    builders: Mapping[str, Callable[..., object]],
    lexer: Literal["basic", "contextual"],
    lexer_callbacks: Mapping[str, Callable[[Token], Token]] = MappingProxyType({}),
) -> Callable[[str], Filter]:
    """A function that parses texts that are not blank by a grammar of lark, whose first rule is `any`; `builders` make
    the nodes of its rules. It raises FilterError with the column of an error and what was expected there."""
    from lark import Lark

    # Called bottom-up as the parser reduces, so that no nesting can exhaust the stack. lark accepts any object whose
    # attributes have the names of the rules.
    builder: Any = SimpleNamespace(**{rule: _spread(function) for rule, function in builders.items()})
    callbacks = dict(lexer_callbacks)
    parser = Lark(grammar, start="any", parser="lalr", lexer=lexer, transformer=builder, lexer_callbacks=callbacks)
    return functools.partial(_parse, parser)


def _spread(function: Callable[..., object]) -> Callable[[list[object]], object]:
    return lambda parts: function(*parts)


def _classified(token: Token) -> Token:
    """Classifies a bare word as a keyword, a boolean, a number or a word."""
    upper = token.upper()
    if upper in KEYWORDS:
        kind = f"_{upper}"
    elif upper in BOOLEANS:
        kind = "BOOLEAN"
    else:
        kind = "WORD" if number_of(token) is None else "NUMBER"
    return token.update(type=kind)


def _named(token: Token) -> _Name:
    name = _plain_text(token)
    if not name:
        raise FilterError(f"column {_column(token)}: a field's name cannot be empty", _column(token), ("a field",))
    return _Name(name, _column(token))


def _value(token: Token) -> Value:
    if token.type == "NUMBER":
        return float(token)
    return BOOLEANS[token.upper()] if token.type == "BOOLEAN" else _plain_text(token)


def _plain_text(token: Token) -> str:
    stray = stray_mark(token) if token.type == "WORD" else ""
    if stray:
        column = _column(token) + token.index(stray)
        message = f"column {column}: {stray!r} is not allowed in a bare word; put the text in quotes"
        raise FilterError(message, column, ("a quoted text",))
    return unquoted(token)


def unquoted(token: Token) -> str:
    """The text of a token; of one in quotes its content, in which a backslash escapes the next character."""
    if token.type != "STRING":
        return str(token)
    characters = iter(token[1:-1])
    return "".join(next(characters) if character == "\\" else character for character in characters)


class _Region(NamedTuple):
    kind: str
    numbers: tuple[float, ...]
    column: int


_FORMS = {
    "distance": "distance(latitude, longitude) < 10 km",
    "box": "box(south, west, north, east)",
    "polygon": "polygon(latitude, longitude, ...)",
}
_DISTANCE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([a-z]+)", re.ASCII)


def _radius(number: Token, unit: Token | str = "m") -> float:
    """A distance in metres: `10 km`, `10km`, `500`."""
    joined = _DISTANCE.fullmatch(number.lower())
    amount, name = joined.groups() if joined else (str(number), unit.lower())
    if name not in UNITS or number_of(amount) is None:
        column = _column(number)
        raise FilterError(f"column {column}: a radius is a number of {', '.join(UNITS)}, such as 10 km", column)
    return float(amount) * UNITS[name]


def _within(region: _Region) -> Filter:
    corners = tuple(map(Place, region.numbers[::2], region.numbers[1::2]))
    if region.kind == "polygon" and len(region.numbers) % 2 == 0:
        return _checked(Polygon(corners), region)
    if region.kind == "box" and len(region.numbers) == 4:
        return _checked(Box(*region.numbers), region)
    raise _misshapen(region)


def _near(region: _Region, operator: str, metres: float) -> Filter:
    if region.kind != "distance" or len(region.numbers) != 2 or operator not in ("<", "<="):
        raise _misshapen(region)
    return _checked(Circle(Place(*region.numbers), metres), region)


def _checked(area: Area, region: _Region) -> Filter:
    if area.problem:
        raise FilterError(f"column {region.column}: {area.problem}", region.column)
    return Within(area, region.column)


def _misshapen(region: _Region) -> FilterError:
    return FilterError(f"column {region.column}: expected {_FORMS[region.kind]}", region.column)


CONNECTIVES: Mapping[str, Callable[..., object]] = {
    "negation": Not,
    "all_of": lambda *operands: And(operands),
    "any_of": lambda *operands: Or(operands),
}
_OPERATORS: dict[str, Operator] = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_BUILDERS: dict[str, Callable[..., object]] = {
    "name": _named,
    "value": _value,
    "bound": _value,
    "values": lambda *values: values,
    "compare": lambda name, symbol, value: Comparison(name.text, _OPERATORS[symbol], value, name.column),
    "among": lambda name, values: In(name.text, values, name.column),
    "not_among": lambda name, values: Not(In(name.text, values, name.column)),
    "exists": lambda name: Exists(name.text, name.column),
    "not_exists": lambda name: Not(Exists(name.text, name.column)),
    "between": lambda name, low, high: And(
        (Comparison(name.text, ">=", low, name.column), Comparison(name.text, "<=", high, name.column))
    ),
    "region": lambda token, *numbers: _Region(token.lower(), tuple(map(float, numbers)), _column(token)),
    "radius": _radius,
    "within": _within,
    "near": _near,
    **CONNECTIVES,
}


def _column(token: Token) -> int:
    return (token.start_pos or 0) + 1


def _unreadable(grammar: Lark, error: UnexpectedCharacters, read: list[Token]) -> FilterError:
    column = (error.pos_in_stream or 0) + 1
    if error.char in "\"'":
        return FilterError(f"column {column}: the quote that opens here is never closed", column, (error.char,))
    return syntax_error(column, repr(error.char), read, _accepted(grammar, read))


def _unexpected(grammar: Lark, token: Token, read: list[Token], text: str) -> FilterError:
    if token.type == "$END":
        return syntax_error(len(text.rstrip()) + 1, "the end", read, _accepted(grammar, read))
    before = [each for each in read if each.start_pos != token.start_pos]
    found = f"'{abbreviate(token)}'"
    if token.type.startswith("_"):
        found += " (a keyword; in quotes it is a text)"
    return syntax_error(_column(token), found, before, _accepted(grammar, before))


def _accepted(grammar: Lark, before: list[Token]) -> set[str]:
    """The terminals that may follow, from a new parser: the failed one has already reduced."""
    parser: _Parser = grammar.parse_interactive("")
    for token in before:
        parser.feed_token(token)
    return parser.accepts()


_FIELD = {"WORD", "STRING"}
_VALUE = {"WORD", "STRING", "NUMBER", "BOOLEAN"}
_EXPECTED = {
    "OPERATOR": "an operator (=, !=, <, <=, >, >=)",
    "_IN": "IN",
    "_EXISTS": "EXISTS",
    "_TO": "TO and the end of the range",
    "RPAR": "')'",
    "COMMA": "','",
    "COLON": "':'",
    "VALUE": "a value",
    "_AND": "AND",
    "_OR": "OR",
    "LPAR": "'('",
    "$END": "the end of the filter",
}


def syntax_error(column: int, found: str, before: Sequence[str], accepted: set[str]) -> FilterError:
    """The error for a misplaced token at a column.

    `before` are the tokens before it, `accepted` the grammar's terminals that may follow them.
    """
    expected = _expected(accepted)
    *others, final = expected
    wanted = f"{', '.join(others)} or {final}" if others else final
    after = f" after '{abbreviate(before[-1])}'" if before else ""
    return FilterError(f"column {column}: expected {wanted}{after}, found {found}", column, expected)


def abbreviate(token: str) -> str:
    """A token, cut if it is too long for a message."""
    return token if len(token) <= 40 else f"{token[:40]}..."


def _expected(accepted: set[str]) -> tuple[str, ...]:
    if accepted >= _VALUE:
        return ("a value",)
    if accepted >= _FIELD:
        return ("a field",)
    words = [word for terminal, word in _EXPECTED.items() if terminal in accepted]
    if "NUMBER" in accepted:
        words.append(
            "a range (10 TO 20)"
            if "OPERATOR" in accepted
            else "a number or a quoted text"
            if "STRING" in accepted
            else "a number"
        )
    return tuple(words)


MAX_LISTED = 20


def resolve_field(leaf: Leaf, known: Collection[str]) -> str:
    """The known field that a leaf names: `colour` means `attributes.colour` if only that is known.

    Raises UnknownFieldError with the column and up to three similar names.
    """
    for name in (leaf.field, f"attributes.{leaf.field}"):
        if name in known:
            return name
    close = close_names(leaf.field, sorted(known), lambda name: name.removeprefix("attributes."))
    advice = f"did you mean {' or '.join(close)}?" if close else f"known fields: {_listed(known)}"
    place = f"column {leaf.column}: " if leaf.column else ""
    raise UnknownFieldError(f"{place}no field {leaf.field!r}; {advice}", leaf.field, close)


def _listed(known: Collection[str]) -> str:
    shown = sorted(known)[:MAX_LISTED]
    more = f" and {len(known) - len(shown):,} more" if len(known) > len(shown) else ""
    return (", ".join(shown) or "none") + more
