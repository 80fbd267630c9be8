"""Things that are made once for all threads that want them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.engine.candidates import SingleFlight


def test_all_threads_get_what_one_of_them_made() -> None:
    once: SingleFlight[str, int] = SingleFlight()
    calls: list[int] = []
    all_here = threading.Barrier(4)

    def make() -> int:
        calls.append(1)
        return len(calls)

    def get(key: str) -> int:
        all_here.wait(10)
        return once.get(key, make)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(get, ["a", "a", "a", "b"]))
    assert len(calls) == 2
    assert found[0] == found[1] == found[2] != found[3]


def test_another_key_is_taken_rather_where_it_is_there() -> None:
    once: SingleFlight[str, str] = SingleFlight()
    assert once.get("plain", lambda: "plain", rather="rich") == "plain"
    assert once.get("rich", lambda: "rich") == "rich"
    assert once.get("plain", lambda: "again", rather="rich") == "rich"


def test_a_fault_is_everybodys() -> None:
    once: SingleFlight[str, int] = SingleFlight()

    def make() -> int:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            once.get("a", make)
