"""Plots as SVG to stand inside a page: the only file that imports matplotlib.

Text stays text, so the page's font shows it and a reader can search it; the same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, QUIET, RULE = "#27313d", "#6b7785", "#e3e7ec"
BLUE, AMBER, RED, GREY = "#3f6f9f", "#c98a1b", "#b4453f", "#9aa5b1"

Draw = Callable[[Axes], None]

_WIDTH = 6.2
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "shelfwise",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": INK,
}


def svg(height: float, draw: Draw, label: str) -> str:
    """An SVG element, 6.2 inches wide; `label` says to a screen reader what is drawn."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0)
        draw(axes)
        written = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(written, format="svg", transparent=True, metadata=metadata)
    document = written.getvalue()
    element = document[document.index("<svg") :]
    return element.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def show_counts(axis: Axis, most: int | None = None) -> None:
    """Lets an axis tell counts in short, at no more than `most` whole numbers where that is given."""
    if most is not None:
        axis.set_major_locator(MaxNLocator(most, integer=True))
    axis.set_major_formatter(FuncFormatter(_count))


def show_shares(axis: Axis, most: int) -> None:
    """Lets an axis tell shares from 0 to 1 in percent."""
    axis.set_major_locator(MaxNLocator(most))
    axis.set_major_formatter(FuncFormatter(_percent_tick))


def percent(share: float) -> str:
    """A share, given in percent, that is 100% only when nothing is missing."""
    return "100%" if share >= 100 else f"{min(share, 99.9):.1f}%".replace(".0%", "%")


def _percent_tick(share: float, _: object) -> str:
    return f"{100 * share:.6g}%"


def _count(value: float, _: object) -> str:
    if value <= 0:
        return "0" if value == 0 else ""
    for least, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= least:
            return f"{value / (1e3 if letter == 'k' else least):g}{letter}"
    return f"{value:,.0f}" if value >= 1 else f"{value:.{max(1, math.ceil(-math.log10(value)))}f}"
