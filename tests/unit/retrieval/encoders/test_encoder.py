from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoders.base import prepare_text, unit_rows


@given(st.text(st.characters(), max_size=200), st.sampled_from(["", "query: "]))
def test_prepared_text_is_valid_unicode_after_its_prompt(text: str, prompt: str) -> None:
    result = prepare_text(text, prompt, 8)
    assert result.startswith(prompt)
    assert result.encode("utf-8").decode("utf-8") == result


def test_prepared_cuts_before_any_tokenizer_sees_the_text() -> None:
    assert len(prepare_text("drill " * 1_000_000, "", 64)) <= 64 * 24


def test_prepared_keeps_words_behind_leading_whitespace() -> None:
    assert prepare_text(" \n\t " * 100 + "drill\u00a0\u3000bit", "", 64) == "drill bit"


def test_prepared_replaces_lone_surrogates() -> None:
    assert prepare_text("a\ud800b", "", 64) == "a?b"


def test_unit_rows_gives_rows_without_direction_the_first_axis() -> None:
    rows = unit_rows(np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1]], np.float32))
    assert rows.tolist() == [[np.float32(3 / 5), np.float32(4 / 5)], [1, 0], [1, 0], [1, 0]]
