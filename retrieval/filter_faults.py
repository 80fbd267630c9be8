"""What a filter's syntax error says: where, what was expected there, what stood there. Used by `retrieval.filters`."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.errors import FilterError

_FIELD = {"WORD", "STRING"}
_VALUE = {"WORD", "STRING", "NUMBER", "BOOLEAN"}
_EXPECTED = {
    "OPERATOR": "an operator (=, !=, <, <=, >, >=)",
    "_IN": "IN",
    "_EXISTS": "EXISTS",
    "_TO": "TO and the end of the range",
    "RPAR": "')'",
    "COMMA": "','",
    "_AND": "AND",
    "_OR": "OR",
    "LPAR": "'('",
    "$END": "the end of the filter",
}


def misplaced(column: int, found: str, before: Sequence[str], accepted: set[str]) -> FilterError:
    """The error for something that may not stand at a column.

    `before` are the tokens up to there, `accepted` the grammar's terminals that may follow them.
    """
    expected = _expected(accepted)
    *others, final = expected
    wanted = f"{', '.join(others)} or {final}" if others else final
    after = f" after '{shortened(before[-1])}'" if before else ""
    return FilterError(f"column {column}: expected {wanted}{after}, found {found}", column, expected)


def shortened(token: str) -> str:
    """A token, cut where it would swamp a message."""
    return token if len(token) <= 40 else f"{token[:40]}..."


def _expected(accepted: set[str]) -> tuple[str, ...]:
    if accepted >= _VALUE:
        return ("a value",)
    if accepted >= _FIELD:
        return ("a field",)
    words = [word for terminal, word in _EXPECTED.items() if terminal in accepted]
    if "NUMBER" in accepted:
        words.append("a range (10 TO 20)" if "OPERATOR" in accepted else "a number or a quoted text")
    return tuple(words)
