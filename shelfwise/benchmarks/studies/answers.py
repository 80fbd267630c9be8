"""Answers to questions that people asked about products: how many are right, wrong and "not said"."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from typer import Argument, Option

from shelfwise.benchmarks.quality import PARTS
from shelfwise.benchmarks.studies import run_study
from shelfwise.retrieval.errors import JudgmentsError, UnknownProductError
from shelfwise.retrieval.judgments import read_table
from shelfwise.service.answers.answering import Answer
from shelfwise.service.cli.options import Index, command
from shelfwise.service.cli.output import emit, say
from shelfwise.service.cli.query import open_engine
from shelfwise.service.engine.engine import SearchEngine

HEADER = ("product", "question", "field", "answer", "part")
_YES_OR_NO = re.compile(r"(yes|no|not)\b", re.IGNORECASE)
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]{2,}")


@dataclass(frozen=True, slots=True)
class QuestionCase:
    """A question about a product, the field that answers it, empty if none does, and the answer in short."""

    product: str
    question: str
    field: str
    answer: str
    part: str


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """The figures of n questions."""

    answerable: int
    right: int
    """The best quote is of the right field and does not contradict the answer; of a text, it has a word or number of
    the answer."""
    wrong: int
    unanswerable: int
    answered: int
    """Unanswerable questions that were answered."""
    p99: float
    """The 99th percentile of the time of an answer, in milliseconds."""


def read_questions(path: Path, part: str = "") -> list[QuestionCase]:
    """Reads questions, tab-separated with the header product, question, field, answer, part. Raises JudgmentsError."""

    def cases() -> Iterator[QuestionCase]:
        for number, cells in read_table(path, HEADER):
            if len(cells) != len(HEADER) or not cells[0] or not cells[1] or cells[-1] not in PARTS:
                raise JudgmentsError(f"{path}, line {number}: expected {', '.join(HEADER)} between tabs")
            yield QuestionCase(*cells)

    return [case for case in cases() if part in ("", case.part)]


def is_right(case: QuestionCase, answer: Answer) -> bool:
    """Whether the best quote of an answer is that of the case."""
    quote, truth = answer.quotes[0], _YES_OR_NO.match(case.answer)
    if quote.field.removeprefix("attributes.") != case.field:
        return False
    if answer.holds is not None and truth and answer.holds != (truth[1].lower() == "yes"):
        return False
    if case.field not in ("title", "description") or truth:
        return True
    return not set(_TOKEN.findall(case.answer.lower())).isdisjoint(_TOKEN.findall(quote.text.lower()))


def measure_answers(engine: SearchEngine, cases: Sequence[QuestionCase]) -> AnswerFigures:
    """Asks the questions whose product is in the index. Raises JudgmentsError if there are none."""
    answers, seconds = [], []
    for case in cases:
        started = time.perf_counter()
        try:
            answers.append((case, engine.answer(case.question, case.product)))
        except UnknownProductError:
            continue
        seconds.append(time.perf_counter() - started)
    if not answers:
        raise JudgmentsError("no product of the questions is in this index")
    answerable = [(case, answer) for case, answer in answers if case.field]
    right = sum(bool(answer.quotes) and is_right(case, answer) for case, answer in answerable)
    wrong = sum(bool(answer.quotes) for _, answer in answerable) - right
    answered = sum(bool(answer.quotes) for case, answer in answers if not case.field)
    p99 = float(np.quantile(seconds, 0.99)) * 1_000
    return AnswerFigures(len(answerable), right, wrong, len(answers) - len(answerable), answered, p99)


@command("answers icecat-index benchmarks/cases/icecat_questions.tsv --part report")
def answers(
    index: Index,
    questions: Annotated[Path, Argument(help="Tab-separated product, question, field, answer, part.", metavar="FILE")],
    part: Annotated[str, Option(help="Only the questions of this part: choose or report.")] = "",
) -> None:
    """Measure the answers to questions about products."""
    with open_engine(index, models=False) as engine:
        figures = measure_answers(engine, read_questions(questions, part))
    emit(figures, _show)


def _show(figures: AnswerFigures) -> None:
    say(f"{figures.answerable} with an answer: {figures.right} right, {figures.wrong} wrong, the others not said.")
    say(f"{figures.unanswerable} without: {figures.answered} answered. p99 {figures.p99:.0f} ms.")


if __name__ == "__main__":
    run_study(answers)
