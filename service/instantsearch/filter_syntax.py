"""The protocol's filter expressions: `brand:Bosch AND (price < 100 OR NOT colour:"dark blue") AND rating:3 TO 5`.

AND binds tighter than OR; keywords are in capitals; a word by itself is a tag. Scores such as `<score=2>` count for
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from retrieval.errors import FilterError
from retrieval.filters import MAX_CHARACTERS, MAX_NESTING, And, Filter, Not, Or

_SPACES = re.compile(r"\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_NAME = re.compile(r"[^\s():<>=!\"']+")
_VALUE = re.compile(r"[^\s()]+")
_OPERATOR = re.compile(r"<=|>=|!=|<|>|=")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![^\s()])", re.ASCII)
_TO = re.compile(r"\s+TO\s+")
_SCORE = re.compile(r"<score=\d+>", re.ASCII)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_KEYWORDS = frozenset({"AND", "OR", "NOT", "TO"})


@dataclass(frozen=True, slots=True)
class Parts:
    """What an expression is put together from."""

    equal: Callable[[str, str], Filter]
    """Of an attribute and a value."""
    compared: Callable[[str, str, float], Filter]
    """Of an attribute, an operator and a number."""


def parse_expression(text: str, parts: Parts) -> Filter:
    """Its tree; raises FilterError with the column of the fault."""
    if len(text) > MAX_CHARACTERS:
        message = f"filters may have at most {MAX_CHARACTERS:,} characters, these have {len(text):,}"
        raise FilterError(message, MAX_CHARACTERS + 1)
    return _Reader(text, parts).whole()


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, text: str, parts: Parts) -> None:
        self._text = text
        self._parts = parts
        self._at = 0
        self._depth = 0

    def whole(self) -> Filter:
        tree = self._any()
        if self._at < len(self._text):
            raise self._fault("AND, OR or the end")
        return tree

    def _any(self) -> Filter:
        operands = [self._all()]
        while self._takes_word("OR"):
            operands.append(self._all())
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def _all(self) -> Filter:
        operands = [self._one()]
        while self._takes_word("AND"):
            operands.append(self._one())
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def _one(self) -> Filter:
        if self._takes_word("NOT"):
            return Not(self._deeper(self._one))
        if self._takes("("):
            tree = self._deeper(self._any)
            if not self._takes(")"):
                raise self._fault("AND, OR or a closing bracket")
            return tree
        return self._leaf()

    def _deeper(self, read: Callable[[], Filter]) -> Filter:
        self._depth += 1
        if self._depth > MAX_NESTING:
            message = f"filters: brackets and NOTs may be nested {MAX_NESTING} deep, not deeper"
            raise FilterError(message, self._at + 1)
        tree = read()
        self._depth -= 1
        return tree

    def _leaf(self) -> Filter:
        name = self._word(_NAME)
        if self._takes(":"):
            return self._value_of(name)
        if operator := self._matched(_OPERATOR):
            return self._parts.compared(name, operator[0], self._number())
        self._matched(_SCORE)
        return self._parts.equal("_tags", name)

    def _value_of(self, name: str) -> Filter:
        start = self._at
        if low := self._matched(_NUMBER):
            if not _TO.match(self._text, self._at):
                self._at = start
            else:
                self._matched(_TO)
                high = self._number()
                ends = self._parts.compared(name, ">=", float(low[0])), self._parts.compared(name, "<=", high)
                return And(ends)
        return self._parts.equal(name, self._word(_VALUE))

    def _word(self, bare: re.Pattern[str]) -> str:
        """A quoted text or a bare word."""
        self._skip()
        if quoted := self._matched(_QUOTED):
            self._matched(_SCORE)
            return _ESCAPED.sub(r"\1", quoted[1] if quoted[1] is not None else quoted[2])
        found = bare.match(self._text, self._at)
        if found is None or found[0] in _KEYWORDS or found[0][0] in "\"'":
            raise self._fault("an attribute or a value")
        self._at = found.end()
        return _SCORE.sub("", found[0]) if bare is _VALUE else found[0]

    def _number(self) -> float:
        if found := self._matched(_NUMBER):
            return float(found[0])
        raise self._fault("a number")

    def _takes(self, sign: str) -> bool:
        self._skip()
        is_there = self._text.startswith(sign, self._at)
        self._at += len(sign) if is_there else 0
        return is_there

    def _takes_word(self, word: str) -> bool:
        """A keyword that stands alone."""
        self._skip()
        end = self._at + len(word)
        is_there = self._text.startswith(word, self._at) and (
            self._text[end : end + 1] in ("", "(", '"', "'") or self._text[end].isspace()
        )
        self._at = end if is_there else self._at
        return is_there

    def _matched(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        if pattern is not _TO:
            self._skip()
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def _skip(self) -> None:
        found = _SPACES.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _fault(self, expected: str) -> FilterError:
        self._skip()
        there = repr(self._text[self._at : self._at + 20]) if self._at < len(self._text) else "the end"
        message = f"filters, column {self._at + 1}: {expected} was expected, not {there}"
        return FilterError(message, self._at + 1, (expected,))
