"""Tables of commands in narrow terminals."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from shelfwise.service.cli.output import TableConsole, plain_table

FIGURES = st.lists(st.floats(-1e9, 1e9).map(lambda number: f"{number:,.4f}"), min_size=1, max_size=12)


def printed(*columns: str, rows: list[list[str]], width: int) -> list[str]:
    table = plain_table("stage", *columns, right=columns)
    for row in rows:
        table.add_row("merged", *row)
    console = TableConsole(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@given(FIGURES, st.integers(40, 120))
def test_no_figure_is_cut_at_any_width(figures: list[str], width: int) -> None:
    lines = printed(*(f"measure {place}" for place in range(len(figures))), rows=[figures], width=width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert [word for word in words if word in figures] == figures
    assert [line.split()[0] for line in lines if line.split()[-1] in figures] == ["merged"] * words.count("merged")
