"""Co-views as `similar` reads them: what the file holds, and every way in which it can be damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from retrieval.store.manifest import COVIEWS_FILE
from service.engine.hot_reload import follow_coviews
from service.events.signals import MAX_COVIEWS, NO_COVIEWS, CoViews, read_coviews, write_coviews

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)


def of_pairs(*pairs: tuple[str, str, float]) -> CoViews:
    return CoViews.of_pairs(
        [one for one, _, _ in pairs], [two for _, two, _ in pairs], np.array([s for *_, s in pairs])
    )


SOME = of_pairs(("a", "b", 0.25), ("无线/耳机", "a", 0.5), ("a", "c", 0.75))

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)
strengths = st.integers(0, 16).map(lambda share: share / 16)


class TestPairs:
    @given(st.dictionaries(st.tuples(names, names), strengths, max_size=40))
    def test_they_are_those_of_a_plain_sort(self, pairs: dict[tuple[str, str], float]) -> None:
        made = of_pairs(*((*pair, strength) for pair, strength in pairs.items()))
        assert made.problem() == ""
        for name in {each for pair in pairs for each in pair}:
            mine = [(other, strength) for (one, other), strength in pairs.items() if one == name]
            assert made.of(name) == sorted(mine, key=lambda each: (-each[1], each[0]))[:MAX_COVIEWS]

    def test_the_strongest_are_kept(self) -> None:
        made = of_pairs(*(("a", f"b{number:02}", number / 64) for number in range(50)))
        assert made.of("a") == [(f"b{number:02}", number / 64) for number in range(49, 49 - MAX_COVIEWS, -1)]

    def test_products_that_nobody_looked_at_have_none(self) -> None:
        assert SOME.of("a") == [("c", 0.75), ("b", 0.25)]
        for name in ("b", "", "zzz", "无线", "\ud800"):
            assert SOME.of(name) == []
        assert NO_COVIEWS.of("a") == []


class TestFile:
    def test_it_says_what_was_written(self, tmp_path: Path) -> None:
        write_coviews(tmp_path, SOME, MADE)
        found = read_coviews(tmp_path)
        assert {name: found.of(name) for name in ("a", "b", "无线/耳机")} == {
            "a": [("c", 0.75), ("b", 0.25)],
            "b": [],
            "无线/耳机": [("a", 0.5)],
        }

    def test_none_and_an_empty_one_say_nothing(self, tmp_path: Path) -> None:
        assert read_coviews(tmp_path) is NO_COVIEWS
        write_coviews(tmp_path, NO_COVIEWS, MADE)
        assert len(read_coviews(tmp_path)) == 0

    @pytest.mark.parametrize(
        "damage",
        [
            lambda said: said[:-3],
            lambda said: said[:-1] + bytes([said[-1] ^ 1]),
            lambda said: b"",
            lambda said: b"\xff\xfe",
            lambda said: msgspec.msgpack.encode([1, 2]),
            lambda said: said.replace(b"starts", b"others"),
        ],
        ids=["cut off", "changed", "empty", "no format", "no object", "another array"],
    )
    def test_a_damaged_one_is_told(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        write_coviews(tmp_path, SOME, MADE)
        path = tmp_path / COVIEWS_FILE
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(StoreDamagedError, match=r"coviews.bin .*; shelfwise events refresh makes it anew"):
            read_coviews(tmp_path)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            (replace(SOME, ends=SOME.ends[:-1]), "other ids than neighbours"),
            (replace(SOME, ends=SOME.ends[:0], starts=SOME.starts[:0]), "other ids than neighbours"),
            (replace(SOME, ends=SOME.ends[::-1]), "bounds that do not fit"),
            (replace(SOME, starts=SOME.starts + 1), "bounds that do not fit"),
            (replace(SOME, others=SOME.others + 9), "neighbours that it does not hold"),
            (replace(SOME, strengths=SOME.strengths[1:]), "neighbours that it does not hold"),
            (replace(SOME, strengths=-SOME.strengths), "strengths that are not within 0 and 1"),
            (replace(SOME, strengths=SOME.strengths * np.float32(np.nan)), "strengths that are not within 0 and 1"),
        ],
    )
    def test_what_cannot_be_is_damage(self, tmp_path: Path, wrong: CoViews, told: str) -> None:
        write_coviews(tmp_path, wrong, MADE)
        with pytest.raises(StoreDamagedError, match=told):
            read_coviews(tmp_path)

    def test_one_of_a_newer_program_is_told_and_one_too_long_is_not_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / COVIEWS_FILE).write_bytes(msgspec.msgpack.encode({"schema": 2, "what": "else"}))
        with pytest.raises(StoreForeignError, match="is in schema 2, this program reads 1"):
            read_coviews(tmp_path)
        monkeypatch.setattr("service.events.signals.MOST_COVIEW_BYTES", 100)
        write_coviews(tmp_path, SOME, MADE)
        with pytest.raises(StoreDamagedError, match="more than 100 bytes"):
            read_coviews(tmp_path)

    def test_where_it_cannot_be_written_that_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="cannot be written"):
            write_coviews(tmp_path / "nowhere", SOME, MADE)

    def test_it_is_read_again_when_it_was_replaced(self, tmp_path: Path) -> None:
        served = follow_coviews(tmp_path)
        served.reload_if_changed()
        assert served.value is NO_COVIEWS
        write_coviews(tmp_path, SOME, MADE)
        served.reload_if_changed()
        taken_up = served.value
        assert taken_up.of("a")
        served.reload_if_changed()
        assert served.value is taken_up
        (tmp_path / COVIEWS_FILE).unlink()
        served.reload_if_changed()
        assert (served.value, served.notices) == (NO_COVIEWS, ())

    def test_nothing_of_it_takes_a_table_library(self) -> None:
        program = "import sys, service.engine.engine, service.engine.hot_reload; sys.exit('polars' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
