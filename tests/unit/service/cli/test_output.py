"""Tables of commands in narrow terminals."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from shelfwise.service.cli import output


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=12), st.integers(40, 120))
def test_no_figure_is_cut_at_any_width(figures: list[float], width: int) -> None:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "out", Console(file=file, width=width))
        output.show_rows(["stage", *(f"measure {index}" for index in range(len(figures)))], [["merged", *figures]])
    words = file.getvalue().split()
    assert [word for word in words if word[-1].isdigit() and "." in word] == [f"{each:.4f}" for each in figures]
