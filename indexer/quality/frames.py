"""A batch as a polars frame with one narrow column for each rule: what the rule's check then looks at.

All columns are made in one fused pass. Conditions (`when`, the other field of a comparison) empty the column where the
rule says nothing, so every check is a plain one.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexer.quality.derived import Batch
from indexer.quality.fields import FIELDS, Kind, kind_of, read_field
from indexer.quality.rule import Check, Rule, When

_TYPES = {Kind.TEXT: pl.String, Kind.NUMBER: pl.Float64, Kind.TIME: pl.Float64}
_STAND_IN = {Kind.TEXT: pl.lit("-"), Kind.NUMBER: pl.lit(0.0), Kind.TIME: pl.lit(0.0)}
"""What not_null sees where its rule says nothing."""


def pattern_fault(pattern: str) -> str:
    """What is wrong with a regular expression, or nothing."""
    try:
        pl.select(pl.lit("").str.extract(pattern, 0))
    except pl.exceptions.ComputeError as error:
        return " ".join(str(error).split())
    return ""


def base_frame(batch: Batch, rules: Sequence[Rule], fields: Sequence[str]) -> pl.DataFrame:
    """A column for each field that a rule reads or that `fields` names, under `column_of` it."""
    wanted = {column_of(name, FIELDS[name].kind): (name, FIELDS[name].kind) for name in fields}
    for rule in rules:
        for name in rule.fields:
            kind = _kind(name, rule)
            wanted.setdefault(column_of(name, kind), (name, kind))
    return pl.DataFrame(
        [
            pl.Series(column, read_field(name, kind, batch), dtype=_TYPES[kind], strict=False)
            for column, (name, kind) in wanted.items()
        ]
    )


def rule_frame(base: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
    """One column for each rule, under its name, and one under `other_column` for a rule that compares two fields."""
    return base.select(expression for rule in rules for expression in _expressions(rule))


def column_of(name: str, kind: Kind) -> str:
    """The name of a field's column in the base frame; a free attribute can be there as a text and as a number."""
    return f"{name}:{kind.value}"


def other_column(rule: Rule) -> str:
    """The column of the field that a rule compares with."""
    return f"{rule.name}/other"


def _kind(name: str, rule: Rule) -> Kind:
    if rule.when is not None and name == rule.when.field:
        return kind_of(name, Check.IN_SET)
    return kind_of(name, rule.check, number=not any(isinstance(value, str) for value in rule.values))


def _expressions(rule: Rule) -> list[pl.Expr]:
    kind = _kind(rule.field, rule)
    value = pl.col(column_of(rule.field, kind))
    if rule.check is Check.NOT_REGEX:
        value = value.str.extract(rule.pattern, 0)  # what is found is what the report shows
    if rule.when is not None:
        concerned = _concerned(rule.when, _kind(rule.when.field, rule))
        stand_in = _STAND_IN[kind] if rule.check is Check.NOT_NULL else pl.lit(None)
        value = pl.when(concerned).then(value).otherwise(stand_in)
    if not rule.other:
        return [value.alias(rule.name)]
    other = pl.col(column_of(rule.other, _kind(rule.other, rule)))
    # A comparison with nothing says nothing; the library would take it for a failure.
    value = pl.when(other.is_not_null()).then(value)
    return [value.alias(rule.name), other.alias(other_column(rule))]


def _concerned(when: When, kind: Kind) -> pl.Expr:
    value = pl.col(column_of(when.field, kind))
    if when.equals:
        return (value.str.to_lowercase() == when.equals.lower()).fill_null(value=False)
    if when.starts:
        return value.str.to_lowercase().str.starts_with(when.starts.lower()).fill_null(value=False)
    return value.is_not_null()
