"""JSON arrays: elements with their lines, malformed ones one by one, and ends that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.feeds.io import MAX_LINE
from tests.unit.indexer.feeds.feed_outcome import FEEDS, read, read_bytes


def test_elements_have_the_lines_on_which_they_begin() -> None:
    outcome = read(FEEDS / "products.json")
    assert [(row.line, row.product.title) for row in outcome.rows] == [
        (2, "Hammer [steel], {new}"),
        (3, 'Saw, "fine"'),
        (10, "Screw"),
    ]
    assert outcome.reasons == [(8, "not JSON"), (9, "not an object")]


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_of_any_size_is_read_as_its_elements(tmp_path: Path, indent: int | None) -> None:
    rows = [{"id": str(n), "title": f'"{n}" \\ [{{', "attributes": {"a": ["]", "}"] * (n % 50)}} for n in range(9_000)]
    outcome = read_bytes(tmp_path, json.dumps(rows, indent=indent).encode())
    assert outcome.ids == [str(n) for n in range(9_000)]
    assert outcome.rows[10].product.title == '"10" \\ [{'


@pytest.mark.parametrize(
    ("content", "ids", "reasons", "error"),
    [
        ("[]", [], [], ""),
        (" \n[\n]\n ", [], [], ""),
        ('[{"id":"1","title":"a"},]', ["1"], [], ""),
        ('[{"id":"1","title":"a"}', [], [], "breaks off after line 0: the array is not closed"),
        ('[{"id":"1","title":"a"},\n{"id":', ["1"], [], "breaks off after line 0: the array is not closed"),
        ('[{"id":"1","title":"a"}]\n x', ["1"], [], "line 2: more behind the end of the JSON array"),
        ('[{"id":"1","title":"a"}]\n[]', ["1"], [], "line 2: more behind the end"),
        ('[\n{"id":"1","title":"a\n"},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
        ('[\n[1],\n"x",\nnull,\n{"id":"2","title":"b"}]', ["2"], [(n, "not an object") for n in (2, 3, 4)], ""),
        ('[\n{"id":"1","title":"a\\\n"},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
        ('[\n{"id":"1","title":"a\nb, [c"},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
        ('[\n{"id":"1","title":"a, "x":1},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
        ('[\n{"id":"1","title":a", "x":1},\n{"id":"2","title":"b"}]', ["2"], [(2, "not JSON")], ""),
    ],
)
def test_what_is_malformed_is_told_where_it_is(
    tmp_path: Path, content: str, ids: list[str], reasons: list[tuple[int, str]], error: str
) -> None:
    outcome = read_bytes(tmp_path, content.encode())
    assert (outcome.ids, outcome.reasons) == (ids, reasons)
    assert error in outcome.error
    assert bool(error) == bool(outcome.error)


def test_an_element_over_a_megabyte_is_set_aside_one_over_sixteen_ends_it(tmp_path: Path) -> None:
    long = '{"id": "2", "title": "' + "x" * MAX_LINE + '"}'
    outcome = read_bytes(tmp_path, f'[{{"id":"1","title":"a"}},\n{long},\n{{"id":"3","title":"c"}}]'.encode())
    assert (outcome.ids, outcome.reasons) == (["1", "3"], [(2, "over 1 MB")])
    outcome = read_bytes(tmp_path, b'[{"id":"1","title":"a"},\n"' + b"x" * (17 * MAX_LINE))
    assert (outcome.ids, "line 1: an element has over 16 MB" in outcome.error) == (["1"], True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=8) | st.lists(st.integers()), max_size=3)))
def test_the_elements_are_those_that_json_finds(tmp_path: Path, values: list[dict[str, object]]) -> None:
    rows = [{**value, "id": f"{n}", "title": "a"} for n, value in enumerate(values)]
    outcome = read_bytes(tmp_path, json.dumps(rows, ensure_ascii=False).encode(errors="replace"))
    assert len(outcome.rows) + len(outcome.rejected) == len(rows)
    assert not outcome.error
