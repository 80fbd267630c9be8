"""Intent cases: parsed, with errors that name the line, and measured on the demo store."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.benchmarks.intent import HEADER, measure_absent, measure_intent, read_intent_cases
from shelfwise.retrieval.errors import JudgmentsError
from shelfwise.service.engine.engine import SearchEngine

DEMO_CASES = Path("benchmarks/cases/demo.tsv")


def cases(folder: Path, *lines: str) -> Path:
    path = folder / "cases.tsv"
    path.write_text("\n".join(["\t".join(HEADER), *lines]), "utf-8")
    return path


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "has no case"),
        (["drill\tdrill\tbit\t"], "line 2: expected query, good, accessory, filter, part"),
        (["", "drill\t\tbit\t\tchoose"], "line 3: expected"),
        (["drill\t(\tbit\t\tchoose"], "line 2: not a regular expression"),
        (["drill\tdrill\tbit\t\ttest"], "line 2: the part is 'test', but must be choose or report"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, lines: list[str], problem: str) -> None:
    with pytest.raises(JudgmentsError, match=problem):
        read_intent_cases(cases(tmp_path, *lines))


def test_a_file_without_the_header_or_of_another_part_is_refused(tmp_path: Path) -> None:
    path = cases(tmp_path, "drill\tdrill\t\t\tchoose")
    with pytest.raises(JudgmentsError, match="no case of the part 'report'"):
        read_intent_cases(path, "report")
    path.write_text("query\tgood\n", "utf-8")
    with pytest.raises(JudgmentsError, match="line 1: the header must be"):
        read_intent_cases(path)


def test_precision_is_limited_by_the_number_of_products_of_the_kind(engine: SearchEngine, tmp_path: Path) -> None:
    title = engine.search("backpack", size=1).hits[0].product.title
    path = cases(tmp_path, f"{title}\tbackpack\t.\tprice > 0\tchoose", "nothing\tno such title\t\t\tchoose")
    figures, counted = measure_intent(engine, read_intent_cases(path), ("bm25", "merged"))
    assert counted == 1, "a case without a product of its kind does not count"
    assert figures["merged"].first.mean == 1
    assert figures["merged"].accessories == len(engine.search(title, size=10, stage="merged").hits) / 10
    assert not figures["merged"].failures


def test_most_hits_of_missing_products_are_marked_as_nearest(engine: SearchEngine) -> None:
    cases = read_intent_cases(Path("benchmarks/cases/demo_absent.tsv"))
    english = [case for case in cases if case.query.isascii()]  # the tests' encoder does not support Chinese
    absent = measure_absent(engine, english)
    assert absent.cases == 121
    assert absent.unsaid < 25 < absent.with_hits


def test_most_first_hits_of_the_demo_store_match_the_kind(engine: SearchEngine) -> None:
    figures, counted = measure_intent(engine, read_intent_cases(DEMO_CASES, "report"), engine.stages)
    assert counted >= 50
    assert figures["merged"].first.mean >= 0.9, figures["merged"].failures
    assert figures["merged"].first.mean > figures["bm25"].first.mean
