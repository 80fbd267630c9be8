"""Judgments files: parsed, with errors that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.retrieval.errors import JudgmentsError
from shelfwise.retrieval.judgments import read_judgments

HEADER = "query\tproduct_id\tgrade\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "judgments.tsv"


def test_queries_are_in_the_order_of_their_first_line(path: Path) -> None:
    path.write_text(HEADER + "saw\t2\t1\ndrill\t1\t0\nsaw\t1\t2.67\n")
    judgments = read_judgments(path)
    assert judgments.grades == {"saw": {"2": 1.0, "1": 2.67}, "drill": {"1": 0.0}}
    assert list(judgments.grades) == ["saw", "drill"]
    assert judgments.lowest == 0


@pytest.mark.parametrize(("grades", "lowest"), [("1 1.33 3", 1.0), ("-1 0", -1.0), ("2 2", 1.0), ("0", -1.0)])
def test_lowest_grade_means_irrelevant_unless_it_is_the_only_one(path: Path, grades: str, lowest: float) -> None:
    path.write_text(HEADER + "".join(f"q\t{place}\t{grade}\n" for place, grade in enumerate(grades.split())))
    judgments = read_judgments(path)
    assert judgments.lowest == lowest
    assert judgments.gain(lowest) == 0
    assert judgments.gain(lowest + 1.5) == 2**1.5 - 1


def test_a_pair_of_several_lines_has_their_mean(path: Path) -> None:
    path.write_text(HEADER + "saw\t1\t0\nsaw\t2\t1\ndrill\t1\t3\nsaw\t1\t3\nsaw\t1\t3\ndrill\t1\t1\n")
    judgments = read_judgments(path)
    assert judgments.grades == {"saw": {"1": (0 + 3 + 3) / 3, "2": 1.0}, "drill": {"1": (3 + 1) / 2}}
    assert judgments.notices == ("2 pairs are judged more than once: each has the mean of its grades",)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_byte_order_marks_crlf_blank_lines_and_missing_newline_are_accepted(
    path: Path, newline: str, mark: bytes
) -> None:
    text = "query\tproduct_id\tgrade\n\n电钻\ta b\t1e0\n\nsaw\tc\t0"
    path.write_bytes(mark + text.replace("\n", newline).encode())
    assert read_judgments(path).grades == {"电钻": {"a b": 1.0}, "saw": {"c": 0.0}}


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c"])
def test_query_may_contain_unicode_line_separators(path: Path, mark: str) -> None:
    path.write_text(HEADER + f"red{mark}mug\ta\t1\nsaw\ta\t0\n", "utf-8")
    assert list(read_judgments(path).grades) == [f"red{mark}mug", "saw"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: the header must be query<tab>product_id<tab>grade, but is empty"),
        ("query,product_id,grade\nq,a,1\n", r"line 1: the header must be .*, but is 'query,product_id,grade'"),
        (HEADER, r"has a header but no judgments"),
        (HEADER + "q\ta\t1\nq\tb\n", r"line 3: expected query, product_id and grade separated by tabs"),
        (HEADER + "\ta\t1\n", r"line 2: expected query"),
        (HEADER + "q\ta\t1\nq\tb\tgood\n", r"line 3: the grade 'good' is not a number"),
        (HEADER + "q\ta\tnan\n", r"line 2: the grade 'nan' is not a number"),
    ],
)
def test_invalid_line_is_named_with_its_number(path: Path, content: str, message: str) -> None:
    path.write_text(content)
    with pytest.raises(JudgmentsError, match=message) as raised:
        read_judgments(path)
    assert "judgments.tsv" in str(raised.value)


def test_missing_file_and_non_utf8_file_are_refused(path: Path) -> None:
    with pytest.raises(JudgmentsError, match=r"judgments\.tsv cannot be read"):
        read_judgments(path)
    path.write_bytes(HEADER.encode() + b"caf\xe9\ta\t1\n")
    with pytest.raises(JudgmentsError, match=r"judgments\.tsv cannot be read"):
        read_judgments(path)
    with pytest.raises(JudgmentsError, match="cannot be read"):
        read_judgments(path.parent)
