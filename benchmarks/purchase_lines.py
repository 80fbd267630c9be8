"""Purchases from files without times: JSON lines, in the order of time, of a shopper's last purchases and the next.

    {"user": "A474", "history": ["168"], "next": "278"}

A shopper has several lines, and later ones hold the answers of earlier ones in their histories: who trained on all
histories of the file that judges would train on its answers. So what comes before a shopper's first line is learned
alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.purchases import Case, Ints, Part, Purchases, PurchaseSet
from indexer.lines import numbered_lines, open_source
from retrieval.errors import InputError
from retrieval.events.stored import DAY_MS


class Line(msgspec.Struct, frozen=True):
    """One line of such a file."""

    user: str
    history: tuple[str, ...]
    """Oldest first; the oldest of many may be cut off."""
    next: str


RowOf = Callable[[str], int | None]


def read_lines(path: Path) -> list[Line]:
    """The lines of one file; raises InputError for what is none, with its number, and for a file without any."""
    lines = []
    with open_source(str(path), lambda _: None) as source:
        for number, line in numbered_lines(source):
            try:
                lines.append(msgspec.json.decode(line, type=Line))
            except msgspec.MsgspecError as error:
                raise InputError(f"{path} line {number}: {error}; a line has user, history and next") from error
    if not lines:
        raise InputError(f"{path} has no line; one has user, history and next")
    return lines


def divided_by_file(tuning: Sequence[Line], judging: Sequence[Line], row_of: RowOf) -> PurchaseSet:
    """All of `tuning` was bought before any of `judging`.

    What is learned before tuning is what came before each shopper's first line there; who is only in the other file
    counts with what came before the first line in it.
    """
    shoppers = {user: number for number, user in enumerate(sorted({line.user for line in (*tuning, *judging)}))}
    first_tuning, first_judging = _first(tuning), _first(judging)
    # Longer than the last history of a shopper, which has lost its oldest purchases: first history, then each answer.
    whole = {user: [*line.history] for user, line in first_tuning.items()}
    for line in tuning:
        whole[line.user].append(line.next)
    only = {user: [*line.history] for user, line in first_judging.items() if user not in whole}
    before = {user: [*line.history] for user, line in first_tuning.items()}
    return PurchaseSet(
        Part(_purchases(before | only, shoppers, row_of), _cases(tuning, shoppers, row_of)),
        Part(_purchases(whole | only, shoppers, row_of), _cases(judging, shoppers, row_of)),
        "learned from what was bought before the first line that judges, one time for all shoppers",
    )


def _first(lines: Iterable[Line]) -> dict[str, Line]:
    first: dict[str, Line] = {}
    for line in lines:
        first.setdefault(line.user, line)
    return first


def _purchases(histories: Mapping[str, Sequence[str]], shoppers: Mapping[str, int], row_of: RowOf) -> Purchases:
    ordered = sorted((shoppers[user], _rows(history, row_of)) for user, history in histories.items())
    who = np.repeat([shopper for shopper, _ in ordered], [len(rows) for _, rows in ordered]).astype(np.int64)
    products = np.array(list(itertools.chain.from_iterable(rows for _, rows in ordered)), np.int64)
    times = [np.arange(len(rows), dtype=np.int64) * DAY_MS for _, rows in ordered]
    return Purchases(who, products, np.arange(len(who)), np.concatenate(times), timed=False)


def _cases(lines: Sequence[Line], shoppers: Mapping[str, int], row_of: RowOf) -> tuple[Case, ...]:
    cases = []
    for line in lines:
        if (target := row_of(line.next)) is not None:
            history: Ints = np.array(_rows(line.history, row_of), np.int64)
            times = np.arange(len(history), dtype=np.int64) * DAY_MS
            cases.append(Case(shoppers[line.user], history, times, np.array([target]), len(history) * DAY_MS))
    return tuple(cases)


def _rows(ids: Iterable[str], row_of: RowOf) -> list[int]:
    return [row for each in ids if (row := row_of(each)) is not None]
