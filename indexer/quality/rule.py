"""One rule of the quality report: what it asks of which field, and what it says to people when a product fails it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Measure(StrEnum):
    """The four measures of data quality that the field names."""

    COMPLETENESS = "completeness"
    CONSISTENCY = "consistency"
    ACCURACY = "accuracy"
    TIMELINESS = "timeliness"


class Severity(StrEnum):
    """An error makes a product wrong in a shopper's eyes, a warning makes it worse to find, an info is worth a look."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Check(StrEnum):
    """What a rule can ask of its field. A field without a value passes every check but `not_null`."""

    NOT_NULL = "not_null"
    NULL = "null"
    BETWEEN = "between"
    IN_SET = "in_set"
    NOT_IN_SET = "not_in_set"
    REGEX = "regex"
    NOT_REGEX = "not_regex"
    COMPARE = "compare"
    UNIQUE = "unique"
    NO_COPIES = "no_copies"
    NO_NEAR_COPIES = "no_near_copies"


ACROSS_ROWS = frozenset({Check.UNIQUE, Check.NO_COPIES, Check.NO_NEAR_COPIES})
"""Checks that no batch can answer alone."""


@dataclass(frozen=True, slots=True)
class When:
    """The products that a rule is about: those with a value in `field` that equals, or starts with, a text (case does
    not count); with neither text, those with any value.
    """

    field: str
    equals: str = ""
    starts: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A declared rule. `says` ends the sentence "The product ..."."""

    name: str
    measure: Measure
    severity: Severity
    field: str
    check: Check
    says: str
    advice: str = ""
    values: tuple[str | float, ...] = ()
    """The set of in_set and not_in_set; least and most of between; the number or text of compare."""
    pattern: str = ""
    """Of regex and not_regex, in the syntax of Rust's regex crate, which has no back references and no slow cases."""
    op: str = ""
    """Of compare: one of < <= > >= = !=."""
    other: str = ""
    """The field that compare holds against, where it is no value."""
    when: When | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field that the rule reads."""
        others = (self.other, self.when.field if self.when else "")
        return (self.field, *filter(None, others))
