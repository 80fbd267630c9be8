"""The report's plots as SVG to stand inside a page: the only file that imports matplotlib.

Text stays text, so the page's font shows it and a reader can search it; the same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from indexer.quality.findings import NO_DATE
from indexer.quality.report import Finding, PriceBin, QualityReport
from indexer.quality.rule import Measure, Severity

INK, QUIET, RULE = "#27313d", "#6b7785", "#e3e7ec"
BLUE, AMBER, RED, GREY = "#3f6f9f", "#c98a1b", "#b4453f", "#9aa5b1"
SEVERITY_COLOURS = {Severity.ERROR: RED, Severity.WARNING: AMBER, Severity.INFO: GREY}

_WIDTH = 6.2
_MOST_LANGUAGES = 8
_MOST_CURRENCIES = 3
_PRICE_COLOURS = (BLUE, AMBER, GREY)
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


def plots(report: QualityReport) -> Mapping[str, str]:
    """Each plot's title and SVG element; a plot without anything to show is not there."""
    charts = report.charts
    drawn = {
        "Findings by measure": _findings(report.findings),
        "Fields that are filled": _filled(charts.filled) if report.products else "",
        "Prices": _prices(charts.prices),
        "Time since the last update": _ages(charts.ages),
        "Languages": _languages(charts.languages),
    }
    return {title: svg for title, svg in drawn.items() if svg}


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    measures = list(Measure)

    def draw(axes: Axes) -> None:
        left = [0] * len(measures)
        for severity in Severity:
            counts = [
                sum(one.count for one in findings if one.measure is measure and one.severity is severity)
                for measure in measures
            ]
            if any(counts):
                axes.barh(measures, counts, left=left, color=SEVERITY_COLOURS[severity], height=0.6, label=severity)
            left = [before + count for before, count in zip(left, counts, strict=True)]
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_count))
        axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=9)
        for place, count in enumerate(left):
            axes.annotate(f"{count:,}", (count, place), (4, 0), textcoords="offset points", va="center", color=QUIET)
        axes.set_xlim(0, max(*left, 1) * 1.14)

    return _svg(2.6, draw, "Findings of each measure by severity")


def _filled(filled: Mapping[str, float]) -> str:
    def draw(axes: Axes) -> None:
        names, shares = list(filled), [100 * share for share in filled.values()]
        axes.barh(names, [100] * len(names), color="#f1f3f6", height=0.66)
        colours = [RED if share < 50 else AMBER if share < 90 else BLUE for share in shares]
        axes.barh(names, shares, color=colours, height=0.66)
        for place, share in enumerate(shares):
            axes.annotate(_percent(share), (100, place), (4, 0), textcoords="offset points", va="center", color=QUIET)
        axes.invert_yaxis()
        axes.set_xlim(0, 112)
        axes.set_xticks([])

    return _svg(0.27 * len(filled) + 0.3, draw, "Share of products that have each field")


def _prices(prices: Mapping[str, Sequence[PriceBin]]) -> str:
    totals = {currency: sum(one.count for one in bins) for currency, bins in prices.items()}
    shown = sorted(totals, key=lambda currency: (-totals[currency], currency))[:_MOST_CURRENCIES]
    if not shown:
        return ""

    def draw(axes: Axes) -> None:
        for currency, colour in zip(shown, _PRICE_COLOURS, strict=False):
            bins = prices[currency]
            lows = [one.low for one in bins]
            widths = [one.high - one.low for one in bins]
            label = f"{currency or 'no currency'} ({totals[currency]:,})"
            counts = [one.count for one in bins]
            axes.bar(lows, counts, widths, align="edge", color=colour, alpha=0.72, label=label, edgecolor="white")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_count))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(_count))
        axes.grid(axis="y", color=RULE)
        axes.set_axisbelow(True)
        axes.set_ylabel("products")
        axes.legend(frameon=False, fontsize=9, loc="upper right")

    return _svg(2.6, draw, "Products by price, on a logarithmic scale")


def _ages(ages: Mapping[str, int]) -> str:
    if not sum(ages.values()):
        return ""

    def draw(axes: Axes) -> None:
        labels = [label if label == NO_DATE else label.replace(" ", "\n", 1) for label in ages]
        late = ("2 years", "5 years", "older")
        colours = [GREY if label == NO_DATE else AMBER if label in late else BLUE for label in ages]
        axes.bar(labels, list(ages.values()), color=colours, width=0.72)
        for place, count in enumerate(ages.values()):
            if count:
                axes.annotate(
                    f"{count:,}", (place, count), (0, 3), textcoords="offset points", ha="center", color=QUIET
                )
        axes.set_yticks([])
        axes.margins(y=0.14)
        axes.tick_params(axis="x", labelsize=9)

    return _svg(2.4, draw, "Products by the time since they were updated, up to")


def _languages(languages: Mapping[str, int]) -> str:
    total = sum(languages.values())
    if not total:
        return ""
    shown = dict(list(languages.items())[:_MOST_LANGUAGES])
    rest = total - sum(shown.values())
    bars = {code or "unknown": count for code, count in shown.items()} | ({"others": rest} if rest else {})

    def draw(axes: Axes) -> None:
        axes.barh(list(bars), list(bars.values()), color=BLUE, height=0.6)
        for place, count in enumerate(bars.values()):
            text = f"{count:,}  {_percent(100 * count / total)}"
            axes.annotate(text, (count, place), (4, 0), textcoords="offset points", va="center", color=QUIET)
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.set_xlim(0, max(bars.values()) * 1.28)

    return _svg(0.3 * len(bars) + 0.4, draw, "Products by language")


def _svg(height: float, draw: Callable[[Axes], None], label: str) -> str:
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


def _count(value: float, _: object) -> str:
    if value <= 0:
        return "0" if value == 0 else ""
    for least, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= least:
            return f"{value / (1e3 if letter == 'k' else least):g}{letter}"
    return f"{value:,.0f}" if value >= 1 else f"{value:.{max(1, math.ceil(-math.log10(value)))}f}"


def _percent(share: float) -> str:
    """A share in percent that is 100% only when nothing is missing."""
    return "100%" if share >= 100 else f"{min(share, 99.9):.1f}%".replace(".0%", "%")
