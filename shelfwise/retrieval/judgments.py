"""Judgments files: tab-separated, with the header query, product_id, grade."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from shelfwise.retrieval.errors import JudgmentsError

_HIGHEST_GRADE = 100.0
"""Gains double with each grade; beyond this, they are meaningless."""
HEADER = ("query", "product_id", "grade")


@dataclass(frozen=True, slots=True)
class Judgments:
    """Grades by query and product id; queries are in the order of the file."""

    grades: Mapping[str, Mapping[str, float]]
    lowest: float
    """The file's lowest grade, that of products that are not relevant."""
    repeated: int = 0
    """The number of pairs with several lines; their grade is the mean."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Notes about the file for the user."""
        message = f"{self.repeated:,} pairs are judged more than once: each has the mean of its grades"
        return (message,) if self.repeated else ()

    def gain(self, grade: float) -> float:
        """The gain of a grade, 2^(grade - lowest) - 1. In a file with a single grade, all listed products are
        relevant."""
        return math.exp2(grade - self.lowest) - 1.0


def read_judgments(path: Path) -> Judgments:
    """Reads a judgments file.

    Raises JudgmentsError with the line number for anything but a query, an id and a finite grade, or for a file without
    judgments.
    """
    given: dict[str, dict[str, list[float]]] = {}
    for query, product, grade in _rows(path):
        given.setdefault(query, {}).setdefault(product, []).append(grade)
    if not given:
        raise JudgmentsError(f"{path} has a header but no judgments")
    grades = {query: {product: fmean(each) for product, each in judged.items()} for query, judged in given.items()}
    seen = {grade for judged in grades.values() for grade in judged.values()}
    repeated = sum(len(each) > 1 for judged in given.values() for each in judged.values())
    return Judgments(grades, min(seen) if len(seen) > 1 else min(seen) - 1.0, repeated)


def read_table(path: Path, header: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The lines of a tab-separated file with this header, each with its number and cells, without blank lines.

    Raises JudgmentsError for a file that cannot be read or has another header.
    """
    try:
        # Not splitlines: a query may have a character that only Python treats as a line end.
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise JudgmentsError(f"{path} cannot be read: {error}") from error
    if tuple(lines[0].split("\t")) != header:
        found = repr(lines[0][:80]) if lines[0] else "empty"
        raise JudgmentsError(f"{path}, line 1: the header must be {'<tab>'.join(header)}, but is {found}")
    return ((number, line.split("\t")) for number, line in enumerate(lines[1:], 2) if line.strip())


def _rows(path: Path) -> Iterator[tuple[str, str, float]]:
    for number, cells in read_table(path, HEADER):
        if len(cells) != len(HEADER) or not cells[0].strip() or not cells[1].strip():
            raise JudgmentsError(f"{path}, line {number}: expected query, product_id and grade separated by tabs")
        try:
            grade = float(cells[2])
        except ValueError:
            grade = math.nan
        if not abs(grade) <= _HIGHEST_GRADE:
            raise JudgmentsError(f"{path}, line {number}: the grade {cells[2]!r} is not a number")
        yield cells[0], cells[1], grade
