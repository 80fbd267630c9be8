"""Findings of an inspection: counts that merge to the same sums for any split of the rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_EXAMPLES = 10
_MAX_TEXT = 160

AGES: Mapping[str, float] = {
    "a week": 7,
    "a month": 30,
    "3 months": 91,
    "6 months": 183,
    "a year": 365,
    "2 years": 730,
    "5 years": 1826,
    "older": math.inf,
}
"""Labels ("up to ...") and the largest number of days."""
NO_DATE = "no date"
_FIELD_LIST = "title price currency category brand description image identifier availability language updated rating"
COMPLETENESS_FIELDS = tuple(_FIELD_LIST.split())
PRICE_STEPS = 4
"""Bins per decade."""


class RowLocation(NamedTuple):
    """The feed and line of a product, and whether its language was detected and not declared."""

    file: str
    line: int
    has_detected_language: bool = False


class Example(msgspec.Struct, frozen=True):
    """A row that fails a rule, and the failing value."""

    id: str
    title: str
    file: str
    line: int
    value: str = ""


def shorten(text: str) -> str:
    """The beginning of a text for display, on one line and without control characters."""
    printable = "".join(mark if mark.isprintable() else " " for mark in text[: _MAX_TEXT + 1])
    return printable if len(printable) <= _MAX_TEXT else f"{printable[: _MAX_TEXT - 1]}…"


@dataclass(slots=True)
class Failures:
    """The products that fail one rule: their number, and the first of them by id."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)

    def merge(self, other: Failures) -> None:
        self.count += other.count
        self.examples = sorted([*self.examples, *other.examples], key=lambda example: example.id)[:MAX_EXAMPLES]


@dataclass(slots=True)
class Findings:
    """Counts over the inspected products."""

    products: int = 0
    failures: dict[str, Failures] = field(default_factory=dict)
    """Failures by the rule's name; rules that no product fails are missing."""
    filled: Counter[str] = field(default_factory=Counter)
    """The number of products with a value in each of the fields that completeness checks."""
    ages: Counter[str] = field(default_factory=Counter)
    """The number of products by the time since their last update, under the labels of `AGES`."""
    prices: Counter[tuple[str, int]] = field(default_factory=Counter)
    """The number of products by currency and quarter of a decade of price."""
    languages: Counter[str] = field(default_factory=Counter)
    """The number of products by ISO 639-1 code; empty if unknown."""
    failing: dict[str, list[NDArray[np.int32]]] = field(default_factory=dict)
    """Rows of the products that fail a rule, in parts, by the rule's name."""

    def merge(self, other: Findings) -> None:
        self.products += other.products
        for name, failures in other.failures.items():
            self.failures.setdefault(name, Failures()).merge(failures)
        self.filled.update(other.filled)
        self.ages.update(other.ages)
        self.prices.update(other.prices)
        self.languages.update(other.languages)
        for name, rows in other.failing.items():
            self.failing.setdefault(name, []).extend(rows)

    def subtract_counts(self, other: Findings) -> None:
        """Subtracts products from the counts, whose failures are not included here."""
        self.products -= other.products
        self.filled -= other.filled
        self.ages -= other.ages
        self.languages -= other.languages
        self.prices -= other.prices

    def count_failing(self, rules: Iterable[str], rows: Iterable[NDArray[np.int64]] = ()) -> int:
        """The number of products that fail one of these rules, or are in `rows`."""
        failing = (self.failing.get(name, ()) for name in rules)
        parts: list[NDArray[np.signedinteger]] = [*chain.from_iterable(failing), *rows]
        is_failing = np.zeros(max((int(part.max(initial=-1)) for part in parts), default=-1) + 1, bool)
        for part in parts:
            is_failing[part] = True
        return int(is_failing.sum())


@dataclass(slots=True)
class DuplicateFindings:
    """The findings across rows: failures by rule, and the rows that fail each, ascending."""

    failures: dict[str, Failures] = field(default_factory=dict)
    rows: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    """The number of groups of matching rows, by rule."""
    pairs: int = 0
    """The number of candidate pairs that were compared."""
    unchecked: int = 0
    """The number of candidate pairs beyond the limit, which were not compared."""
    siblings: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """(n,): the group of each product with its variants and copies, as the first row in it."""
