"""HTML reports: one self-contained page from a template, plots as SVG elements, and the formats of their values.

Only this file imports matplotlib and jinja2, in the functions that need them. All values in a page are escaped, and
characters that could be harmful in it are replaced. The same report gives the same bytes.
"""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

INK, QUIET, RULE, SOFT = "#27313d", "#6b7785", "#e3e7ec", "#f1f3f6"
BLUE, AMBER, RED, GREY = "#3f6f9f", "#c98a1b", "#b4453f", "#9aa5b1"
NOTHING = "–"
"""Shown in place of an unknown value."""

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
# Signs that change the direction of text could make a row appear to say something else.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def render(path: Path, plots: Mapping[str, str], **values: object) -> str:
    """The page of a template, which extends `report.html.j2`; `plots` are SVG elements of `svg`, by name."""
    safe = {name: Markup(element) for name, element in plots.items()}  # noqa: S704  # matplotlib escapes what it writes
    return _template(path).render(plots=safe, **values)


@cache
def _template(path: Path) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader((path.parent, Path(__file__).parent)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_replace_harmful,
    )
    environment.filters |= FILTERS
    return environment.get_template(path.name)


def _replace_harmful(value: object) -> object:
    """A text without characters that a page cannot contain or that would change its direction."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "".join("\ufffd" if _is_harmful(mark) else mark for mark in value)


def _is_harmful(mark: str) -> bool:
    code = ord(mark)
    is_control = (code < 32 and mark not in "\t\n") or 0x7F <= code < 0xA0
    return is_control or mark in _BIDI_CONTROLS or 0xD800 <= code < 0xE000


def printable(text: str) -> str:
    """Text from a feed for a terminal: without control characters, which could have any effect there."""
    return "".join("\ufffd" if unicodedata.category(character) == "Cc" else character for character in text)


def share_text(share: float | None) -> str:
    """A share in percent; 100% or 0% only if it is exactly that."""
    if share is None:
        return NOTHING
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{max(share, 0.0001):.2%}" if share < 0.01 else f"{min(share, 0.999):.1%}"


def count_text(value: int) -> str:
    """An integer with separated thousands."""
    return f"{value:,}"


def number_text(value: float | None) -> str:
    """A number with one decimal, or a dash."""
    return NOTHING if value is None else f"{value:,.1f}"


def measure_text(value: float | None) -> str:
    """A measure with four decimals, or a dash."""
    return NOTHING if value is None else f"{value:.4f}"


def day_text(moment: datetime | None) -> str:
    """The date, UTC, or a dash."""
    return NOTHING if moment is None else f"{moment:%Y-%m-%d}"


def minute_text(moment: datetime) -> str:
    """The date and time of day, UTC."""
    return f"{moment:%Y-%m-%d %H:%M}"


def seconds_text(value: float) -> str:
    """A duration."""
    minutes, rest = divmod(value, 60)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{value:.1f} s"


def size_text(count: int) -> str:
    """A number of bytes in a readable unit."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1_000:
            break
        size, unit = size / 1_000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"


def times_text(value: float) -> str:
    """A factor, as a number of times."""
    return f"×{value:.2f}"


def plural(count: int, one: str) -> str:
    """A count with its noun."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def percent(share: float) -> str:
    """A share, given in percent; 100% only if nothing is missing."""
    return "100%" if share >= 100 else f"{min(share, 99.9):.1f}%".replace(".0%", "%")


def file_name(path: str) -> str:
    """The last part of a path; a path without one stays as it is."""
    return Path(path).name or path


def capitalize_first(text: str) -> str:
    """A text with its first letter in upper case and the rest unchanged."""
    return text[:1].upper() + text[1:]


FILTERS: Mapping[str, Callable[..., Any]] = {
    "file_name": file_name,
    "capitalize_first": capitalize_first,
    "count": count_text,
    "share": share_text,
}
"""The filters of all templates in addition to those of jinja2."""


def svg(height: float, draw: Callable[[Axes], None], label: str) -> str:
    """A plot as an SVG element, 6.2 inches wide; `label` describes it for screen readers.

    Text stays text, so that it uses the page's font and can be searched.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0)
        draw(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata=metadata)
    document = written.getvalue()
    element = document[document.index("<svg") :]
    return element.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def show_counts(axis: Axis, most: int | None = None) -> None:
    """Labels an axis with short counts, at no more than `most` integers if that is given."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if most is not None:
        axis.set_major_locator(MaxNLocator(most, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def short_count(value: float) -> str:
    """A count for an axis, such as 25k."""
    if value <= 0:
        return "0" if value == 0 else ""
    for least, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= least:
            return f"{value / (1e3 if letter == 'k' else least):g}{letter}"
    return f"{value:,.0f}" if value >= 1 else f"{value:.{max(1, math.ceil(-math.log10(value)))}f}"


def show_grid(axes: Axes, legend: Mapping[str, Any] | None = None) -> None:
    """Draws horizontal grid lines behind the plot and, if its arguments are given, a legend."""
    axes.grid(axis="y", color=RULE)
    axes.set_axisbelow(True)
    if legend is not None:
        axes.legend(frameon=False, fontsize=9, **legend)


def label_bar(axes: Axes, text: str, at: tuple[float, float]) -> None:
    """Writes a text to the right of a horizontal bar."""
    axes.annotate(text, at, (4, 0), textcoords="offset points", va="center", color=QUIET)


def draw_share_bars(axes: Axes, places: Sequence[float], shares: Sequence[float], colours: Sequence[str]) -> None:
    """Horizontal bars of shares, given in percent, in front of bars of 100%; the first on top."""
    axes.barh(places, [100] * len(places), color=SOFT, height=0.66)
    axes.barh(places, shares, color=colours, height=0.66)
    axes.invert_yaxis()
    axes.set_xticks([])
