"""Findings of an inspection: counts that merge to the same sums for any split of the rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

import msgspec
import numpy as np
from numpy.typing import NDArray

MOST_EXAMPLES = 10
_MOST_TEXT = 160

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
"""Labels ("up to ...") and most days."""
NO_DATE = "no date"
_FIELD_LIST = "title price currency category brand description image identifier availability language updated rating"
COMPLETENESS_FIELDS = tuple(_FIELD_LIST.split())
PRICE_STEPS = 4
"""Bins a decade."""


@dataclass(frozen=True, slots=True)
class RowLocation:
    """The feed and line of a product, and whether its language was detected, not declared."""

    file: str
    line: int
    has_detected_language: bool = False


class Example(msgspec.Struct, frozen=True):
    """A row that fails a rule, and the value that does."""

    id: str
    title: str
    file: str
    line: int
    value: str = ""


def shorten(text: str) -> str:
    """The beginning of a text, for people, on one line and without control characters."""
    shown = "".join(mark if mark.isprintable() else " " for mark in text[: _MOST_TEXT + 1])
    return shown if len(shown) <= _MOST_TEXT else f"{shown[: _MOST_TEXT - 1]}…"


@dataclass(slots=True)
class Failures:
    """The products that fail one rule: how many, and the first of them by id."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)

    def merge(self, other: Failures) -> None:
        self.count += other.count
        self.examples = sorted([*self.examples, *other.examples], key=lambda example: example.id)[:MOST_EXAMPLES]


@dataclass(slots=True)
class Findings:
    """Counts over the inspected products."""

    products: int = 0
    failures: dict[str, Failures] = field(default_factory=dict)
    """By the rule's name; rules that nothing fails are not there."""
    filled: Counter[str] = field(default_factory=Counter)
    """How many products have a value in each of the fields that completeness looks at."""
    ages: Counter[str] = field(default_factory=Counter)
    """Products by the time since they were updated, under the labels of `AGES`."""
    prices: dict[str, Counter[int]] = field(default_factory=dict)
    """By currency: products in each quarter of a decade of price."""
    languages: Counter[str] = field(default_factory=Counter)
    """By ISO 639-1 code; empty where unknown."""
    failing: dict[str, list[NDArray[np.int32]]] = field(default_factory=dict)
    """By the rule's name: the rows of the products that fail it, in parts."""

    def merge(self, other: Findings) -> None:
        self.products += other.products
        for name, failures in other.failures.items():
            self.failures.setdefault(name, Failures()).merge(failures)
        self.filled.update(other.filled)
        self.ages.update(other.ages)
        for currency, bins in other.prices.items():
            self.prices.setdefault(currency, Counter()).update(bins)
        self.languages.update(other.languages)
        for name, rows in other.failing.items():
            self.failing.setdefault(name, []).extend(rows)

    def subtract_counts(self, other: Findings) -> None:
        """Takes products out of the counts, whose failures are not among these."""
        self.products -= other.products
        self.filled -= other.filled
        self.ages -= other.ages
        self.languages -= other.languages
        for currency, bins in other.prices.items():
            self.prices[currency] -= bins
            if not self.prices[currency]:
                del self.prices[currency]

    def count_failing(self, rules: Iterable[str], rows: Iterable[NDArray[np.int64]] = ()) -> int:
        """How many products fail one of the rules with these names; `rows` are further ones that do."""
        failing = (self.failing.get(name, ()) for name in rules)
        parts: list[NDArray[np.signedinteger]] = [*chain.from_iterable(failing), *rows]
        is_failing = np.zeros(max((int(part.max(initial=-1)) for part in parts), default=-1) + 1, bool)
        for part in parts:
            is_failing[part] = True
        return int(is_failing.sum())


@dataclass(slots=True)
class DuplicateFindings:
    """What was found across rows: failures by rule, and the rows that fail each, ascending."""

    failures: dict[str, Failures] = field(default_factory=dict)
    rows: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    """By rule, how many groups of rows meet."""
    pairs: int = 0
    """Candidate pairs that were compared."""
    unchecked: int = 0
    """Candidate pairs past the bound on comparisons, which were not."""
    siblings: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """(n,) The group of each product, its variants and copies: the first row in it."""
