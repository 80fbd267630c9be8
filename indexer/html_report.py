"""HTML reports: plots as SVG, and templates that need nothing else. matplotlib and jinja2 are imported here alone."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Plots as SVG to stand inside a page: the only file that imports matplotlib.
#
# Text stays text, so the page's font shows it and a reader can search it; the same numbers give the same bytes.

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


# Templates of pages that need nothing else: the only file that imports jinja2.
#
# Everything that is put into a page is escaped, and characters that could do harm in it are replaced.

_FOLDER = Path(__file__).parent
"""Where the style that all pages include is."""
# Signs that turn the direction of the text around them could make a row say something else than it does.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def template(path: Path, filters: Mapping[str, Callable[..., Any]]) -> Template:
    """The template of a file, with `count` and some filters of its own; it may include `style.css.j2`."""
    environment = Environment(
        loader=FileSystemLoader((path.parent, _FOLDER)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_replace_harmful,
    )
    environment.filters |= {"count": _format_count, **filters}
    return environment.get_template(path.name)


def mark_safe(plots: Mapping[str, str]) -> dict[str, Markup]:
    """Plots of our own, by title, that a page takes as they are."""
    return {title: Markup(svg) for title, svg in plots.items()}  # noqa: S704  # matplotlib escapes what it writes


def _replace_harmful(value: object) -> object:
    """A text without characters that a page cannot hold or that would turn its text around."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "".join("\ufffd" if _is_harmful(mark) else mark for mark in value)


def _is_harmful(mark: str) -> bool:
    return (
        mark in _TURNING or (ord(mark) < 32 and mark not in "\t\n") or 0x7F <= ord(mark) < 0xA0 or _is_surrogate(mark)
    )


def _is_surrogate(mark: str) -> bool:
    return 0xD800 <= ord(mark) < 0xE000


def _format_count(value: int) -> str:
    return f"{value:,}"
