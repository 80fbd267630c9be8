"""The study of answers: questions with and without an answer in the demo store."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.benchmarks.studies.answers import HEADER, measure_answers, read_questions
from shelfwise.retrieval.errors import JudgmentsError
from shelfwise.service.engine.engine import SearchEngine

LINES = """ID\thow many volts does it have?\tvoltage_v\t20 V\tchoose
ID\thow many volts does it have?\tweight\t2 kg\tchoose
ID\twho won the cup final?\t\t\treport
gone\thow many volts does it have?\tvoltage_v\t12 V\tchoose
"""


def test_answers_are_right_by_their_field(engine: SearchEngine, tmp_path: Path) -> None:
    path = tmp_path / "questions.tsv"
    drill = engine.search("cordless drill", filters="voltage_v > 0").hits[0].product.id
    path.write_text("\t".join(HEADER) + "\n" + LINES.replace("ID", drill))
    figures = measure_answers(engine, read_questions(path))
    assert (figures.answerable, figures.right, figures.wrong) == (2, 1, 1)
    assert (figures.unanswerable, figures.answered) == (1, 0)
    assert [case.part for case in read_questions(path, "report")] == ["report"]
    path.write_text("\t".join(HEADER) + "\nID\tvolts?\tvoltage\t12 V\tsome\n")
    with pytest.raises(JudgmentsError, match="line 2: expected product, question, field, answer, part"):
        read_questions(path)
