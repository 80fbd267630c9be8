"""Benchmarks: measures, intent and load over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, P, Qrel, R, ScoredDoc, nDCG

from shelfwise.benchmarks import quality
from shelfwise.benchmarks.commands import show_http
from shelfwise.benchmarks.load import measure_http, serve_index
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.judgments import Judgments, read_judgments
from shelfwise.service.engine.engine import SearchEngine

Grades = Mapping[str, Mapping[str, float]]


def judgments_of(grades: Grades) -> Judgments:
    return Judgments(grades, min(grade for judged in grades.values() for grade in judged.values()))


def one_ndcg(ranked: Sequence[str], judged: Mapping[str, float]) -> float:
    return quality.ndcg(ranked, judged, judgments_of({"query": judged}))


JUDGED = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0}
BEST = (2**3 - 1) / log2(1 + 1) + (2**2 - 1) / log2(2 + 1) + (2**1 - 1) / log2(3 + 1)


class TestNdcg:
    def test_ndcg_uses_exponential_gain_and_logarithmic_discount(self) -> None:
        gained = (2**2 - 1) / log2(1 + 1) + (2**1 - 1) / log2(2 + 1) + (2**3 - 1) / log2(4 + 1)
        assert one_ndcg("bcda", JUDGED) == pytest.approx(gained / BEST)

    def test_fractional_grades_are_relative_to_the_lowest_of_the_file(self) -> None:
        judged = {"a": 3.0, "b": 2.67, "c": 1.33, "d": 1.0}
        ideal = (2 ** (3 - 1) - 1) / log2(2) + (2 ** (2.67 - 1) - 1) / log2(3) + (2 ** (1.33 - 1) - 1) / log2(4)
        gained = (2 ** (1.33 - 1) - 1) / log2(2) + (2 ** (3 - 1) - 1) / log2(3) + (2 ** (2.67 - 1) - 1) / log2(5)
        assert one_ndcg("cadb", judged) == pytest.approx(gained / ideal)

    def test_lowest_grade_is_of_the_file_not_of_the_query(self) -> None:
        judgments = judgments_of({"one": {"a": 3.0, "b": 2.0}, "other": {"c": 1.0}})
        ideal = (2 ** (3 - 1) - 1) / log2(2) + (2 ** (2 - 1) - 1) / log2(3)
        gained = (2 ** (2 - 1) - 1) / log2(2) + (2 ** (3 - 1) - 1) / log2(3)
        assert quality.ndcg("ba", judgments.grades["one"], judgments) == pytest.approx(gained / ideal)

    def test_single_grade_means_all_listed_are_relevant(self, tmp_path: Path) -> None:
        path = tmp_path / "judgments.tsv"
        path.write_text("query\tproduct_id\tgrade\nq\ta\t4\nq\tb\t4\n")
        measured = quality.measure({"q": ["x", "a"]}, read_judgments(path))
        ideal = (2**1 - 1) / log2(1 + 1) + (2**1 - 1) / log2(2 + 1)
        assert measured["nDCG@10"] == pytest.approx((2**1 - 1) / log2(2 + 1) / ideal)
        assert (measured["R@100"], measured["R@10"], measured["P@10"], measured["MRR"]) == (1 / 2, 1 / 2, 1 / 10, 1 / 2)

    @given(
        grades=st.dictionaries(
            st.sampled_from("pqrs"),
            st.dictionaries(st.sampled_from("abcdefghijklmno"), st.sampled_from([0.0, 1.0]), min_size=1),
            min_size=1,
        ),
        rankings=st.lists(st.permutations("abcdefghijklmnoxyz"), min_size=4, max_size=4),
        length=st.integers(0, 18),
    )
    def test_measures_of_binary_grades_equal_those_of_ir_measures(
        self, grades: Grades, rankings: list[list[str]], length: int
    ) -> None:
        run = {query: ranking[:length] for query, ranking in zip(grades, rankings, strict=False)}
        qrels = [Qrel(query, item, int(grade)) for query, judged in grades.items() for item, grade in judged.items()]
        scored = [ScoredDoc(query, item, -float(place)) for query, ids in run.items() for place, item in enumerate(ids)]
        names = {nDCG @ 10: "nDCG@10", RR: "MRR", P @ 10: "P@10", R @ 10: "R@10"}
        ours = quality.measure(run, Judgments(grades, 0.0))
        for kind, theirs in ir_measures.calc_aggregate(list(names), qrels, scored).items():
            assert ours[names[kind]] == pytest.approx(theirs)


class TestMeasure:
    def test_recall_at_100_counts_only_a_querys_top_grade(self) -> None:
        judgments = judgments_of({"q": {"a": 3.0, "b": 3.0, "c": 2.0, "d": 0.0}, "r": {"e": 1.0, "f": 0.0}})
        runs = {"q": ["a", "c", "d"], "r": ["e"]}, {"q": ["c", "d"], "r": ["f"]}
        assert [quality.measure(run, judgments)["R@100"] for run in runs] == [pytest.approx((1 / 2 + 1 / 1) / 2), 0]

    def test_other_measures_count_grades_above_the_lowest(self) -> None:
        judgments = judgments_of({"q": {"a": 2.67, "b": 1.33, "c": 1.0}, "r": {"d": 3.0}})
        measured = quality.measure({"q": ["c", "b", "x"], "r": ["y", "z", "d"]}, judgments)
        assert measured["MRR"] == pytest.approx((1 / 2 + 1 / 3) / 2)
        assert measured["P@10"] == pytest.approx((1 / 10 + 1 / 10) / 2)
        assert measured["R@10"] == pytest.approx((1 / 2 + 1 / 1) / 2)


class TestWriteRun:
    def test_run_numbers_distinct_queries_from_1(self, tmp_path: Path) -> None:
        judgments, run_file = tmp_path / "judgments.tsv", tmp_path / "run.txt"
        judgments.write_text("query\tproduct_id\tgrade\nz\ta\t1\na\tb\t0\nz\tb\t0\nm\ta\t1\n")
        queries = list(read_judgments(judgments).grades)
        run = {query: ["a", "b"][: len(queries) - place] for place, query in enumerate(queries)}
        quality.write_run(run, run_file, "bm25")
        assert run_file.read_text().splitlines() == [
            "1 Q0 a 1 100 shelfwise-bm25",
            "1 Q0 b 2 99 shelfwise-bm25",
            "2 Q0 a 1 100 shelfwise-bm25",
            "2 Q0 b 2 99 shelfwise-bm25",
            "3 Q0 a 1 100 shelfwise-bm25",
        ]

    def test_a_query_without_hits_keeps_its_number(self, tmp_path: Path) -> None:
        quality.write_run({"q": [], "r": ["a"]}, tmp_path / "run.txt", "merged")
        assert (tmp_path / "run.txt").read_text() == "2 Q0 a 1 100 shelfwise-merged\n"

    def test_white_space_inside_an_id_becomes_an_underscore(self, tmp_path: Path) -> None:
        quality.write_run({"q": ["a b\u3000c"]}, tmp_path / "run.txt", "merged")
        assert (tmp_path / "run.txt").read_text("utf-8").split(" ")[2] == "a_b_c"

    def test_written_run_is_read_and_compared(self, tmp_path: Path) -> None:
        judgments = judgments_of({"q": {"a b": 1.0, "c": 0.0}, "r": {"a": 1.0, "c": 0.0}, "s": {"a": 1.0, "c": 0.0}})
        run = {"q": ["c", "a b"], "r": ["a"], "s": []}
        quality.write_run(run, tmp_path / "run.txt", "merged")
        assert quality.read_run(tmp_path / "run.txt", judgments) == run
        change = quality.compare_runs({"q": ["a b"], "r": ["a"], "s": []}, run, judgments)
        assert change.ndcg.mean == pytest.approx((1 - 1 / log2(3)) / 3)
        assert (change.higher, change.lower, change.ndcg.queries) == (1, 0, 3)
        for text in ("nothing of a run", "4 Q0 a 1 100 x", "x Q0 a 1 100 x"):
            (tmp_path / "bad.txt").write_text(f"{text}\n")
            with pytest.raises(SettingError, match=r"bad\.txt: is not a run of these 3 queries"):
                quality.read_run(tmp_path / "bad.txt", judgments)

    def test_unwritable_path_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match=r"nowhere/run\.txt: cannot be written \(No such file or directory\)"):
            quality.write_run({"q": ["a"]}, tmp_path / "nowhere" / "run.txt", "merged")


DEMO_CASES = Path("benchmarks/cases/demo.tsv")


def cases(folder: Path, *lines: str) -> Path:
    path = folder / "cases.tsv"
    path.write_text("\n".join(["\t".join(quality.HEADER), *lines]), "utf-8")
    return path


def test_precision_is_limited_by_the_number_of_products_of_the_kind(engine: SearchEngine, tmp_path: Path) -> None:
    title = engine.search("backpack", size=1).hits[0].product.title
    path = cases(tmp_path, f"{title}\tbackpack\t.\tprice > 0\tchoose", "nothing\tno such title\t\t\tchoose")
    figures, counted = quality.measure_intent(engine, quality.read_intent_cases(path), ("bm25", "merged"))
    assert counted == 1, "a case without a product of its kind does not count"
    assert figures["merged"].first.mean == 1
    assert figures["merged"].accessories == len(engine.search(title, size=10, stage="merged").hits) / 10
    assert not figures["merged"].failures


def test_most_hits_of_missing_products_are_marked_as_nearest(engine: SearchEngine) -> None:
    cases = quality.read_intent_cases(Path("benchmarks/cases/demo_absent.tsv"))
    english = [case for case in cases if case.query.isascii()]  # the tests' encoder does not support Chinese
    absent = quality.measure_absent(engine, english)
    assert absent.cases == 121
    assert absent.unsaid < 25 < absent.with_hits


def test_most_first_hits_of_the_demo_store_match_the_kind(engine: SearchEngine) -> None:
    figures, counted = quality.measure_intent(engine, quality.read_intent_cases(DEMO_CASES, "report"), engine.stages)
    assert counted >= 50
    assert figures["merged"].first.mean >= 0.9, figures["merged"].failures
    assert figures["merged"].first.mean > figures["bm25"].first.mean


@pytest.mark.slow
def test_every_request_of_a_load_is_counted(demo_index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with serve_index(demo_index) as server:
        report = measure_http(
            server.address, ["drill", "hammer", "laptop bag"], rate=20, seconds=1, advance=lines.append
        )
    assert report.products == 600
    assert report.capacity > 0
    assert len(lines) == 5
    for load in report.loads:
        assert sum(load.statuses.values()) == load.requests
        assert set(load.statuses) <= {"200", "503"}
        assert 0 < load.p50 <= load.p99
    assert report.loads[0].statuses == {"200": 20}
    show_http(report)
    assert "600 products" in capsys.readouterr().out
