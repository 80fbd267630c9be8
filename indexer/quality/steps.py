"""Runs rules over a frame: each rule is declared to pointblank as one step, and comes back with the rows that fail it.

The only file that imports pointblank. Its steps cost a millisecond each whatever the number of rows, so frames of many
thousand rows are cheapest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pointblank as pb
import polars as pl
from numpy.typing import NDArray

from indexer.quality.frames import other_column
from indexer.quality.rule import Check, Rule
from retrieval.errors import SettingError

_ROW = "_row_num_"
"""The column in which pointblank numbers the rows of an extract, from 1."""


def failing_rows(frame: pl.DataFrame, rules: Sequence[Rule]) -> Iterator[tuple[Rule, NDArray[np.int64]]]:
    """Each rule that rows fail, with their positions in the frame, ascending.

    Raises SettingError for a rule that the library cannot evaluate over the frame.
    """
    for rule in rules:
        if _says_something(rule, frame[rule.name]):
            rows = _failing(frame, rule)
            if len(rows):
                yield rule, rows


def _says_something(rule: Rule, column: pl.Series) -> bool:
    """Whether a row could fail. Most rules have nothing to look at in most batches, and a step is not free."""
    nulls = column.null_count()
    return nulls > 0 if rule.check is Check.NOT_NULL else nulls < len(column)


def _failing(frame: pl.DataFrame, rule: Rule) -> NDArray[np.int64]:
    columns = [rule.name, other_column(rule)] if rule.other else [rule.name]
    # A frame of only these columns: the library copies the frame's schema many times a step.
    validation = _declared(pb.Validate(frame.select(columns)), rule)
    validation = validation.interrogate(collect_tbl_checked=False, extract_limit=frame.height)
    if validation.validation_info[0].eval_error:
        raise SettingError(f"rule {rule.name}: {rule.check.value} cannot be evaluated on {rule.field}; change it")
    extract = validation.get_data_extracts(i=1, frame=True)
    if extract is None:
        return np.empty(0, dtype=np.int64)
    rows: NDArray[np.int64] = extract[_ROW].to_numpy().astype(np.int64) - 1
    return rows


def _declared(validation: pb.Validate, rule: Rule) -> pb.Validate:
    column = rule.name
    match rule.check:
        case Check.NOT_NULL:
            return validation.col_vals_not_null(column)
        case Check.NULL | Check.NOT_REGEX:  # the frame holds what not_regex found
            return validation.col_vals_null(column)
        case Check.BETWEEN:
            low, high = map(float, rule.values)
            return validation.col_vals_between(column, low, high, na_pass=True)
        case Check.IN_SET:
            return validation.col_vals_in_set(column, [*rule.values, None])
        case Check.NOT_IN_SET:
            return validation.col_vals_not_in_set(column, list(rule.values), na_pass=True)
        case Check.REGEX:
            return validation.col_vals_regex(column, rule.pattern, na_pass=True)
        case Check.COMPARE:
            return _compared(validation, rule)
        case _:
            raise ValueError(f"{rule.check} is answered by no batch alone")


def _compared(validation: pb.Validate, rule: Rule) -> pb.Validate:
    steps = {
        "<": validation.col_vals_lt,
        "<=": validation.col_vals_le,
        ">": validation.col_vals_gt,
        ">=": validation.col_vals_ge,
        "=": validation.col_vals_eq,
        "!=": validation.col_vals_ne,
    }
    value = pb.col(other_column(rule)) if rule.other else rule.values[0]
    return steps[rule.op](rule.name, value, na_pass=True)
