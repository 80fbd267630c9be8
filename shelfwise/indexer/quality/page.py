"""Quality report as one HTML page without scripts or external resources, including its plots.

Everything from a feed is escaped, and control characters are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shelfwise.indexer.quality.findings import NO_DATE
from shelfwise.indexer.quality.report import Finding, PriceBin, QualityReport
from shelfwise.indexer.quality.rules import Measure, Severity
from shelfwise.retrieval.html_report import (
    AMBER,
    BLUE,
    GREY,
    QUIET,
    RED,
    count_text,
    draw_share_bars,
    label_bar,
    percent,
    render,
    show_counts,
    show_grid,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_PAGE = Path(__file__).with_name("page.html.j2")


def html(report: QualityReport) -> str:
    """The page; the same report gives the same bytes."""
    rejected = sum(counted.count for counted in report.rejected.values())
    return render(_PAGE, plots(report), report=report, rejected=rejected)


SEVERITY_COLOURS = {Severity.ERROR: RED, Severity.WARNING: AMBER, Severity.INFO: GREY}

_MOST_LANGUAGES = 8
_MOST_CURRENCIES = 3
_PRICE_COLOURS = (BLUE, AMBER, GREY)


def plots(report: QualityReport) -> Mapping[str, str]:
    """Each plot's title and SVG element; plots without data are left out."""
    charts = report.charts
    drawn = {
        "Findings by measure": _findings(report.findings),
        "Fields that are filled": _filled(charts.filled) if report.products else "",
        "Prices": _prices(charts.prices),
        "Time since the last update": _ages(charts.ages),
        "Languages": _languages(charts.languages),
    }
    return {title: element for title, element in drawn.items() if element}


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
        show_counts(axes.xaxis, 5)
        axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=9)
        for place, count in enumerate(left):
            label_bar(axes, count_text(count), (count, place))
        axes.set_xlim(0, max(*left, 1) * 1.14)

    return svg(2.6, draw, "Findings of each measure by severity")


def _filled(filled: Mapping[str, float]) -> str:
    def draw(axes: Axes) -> None:
        names, shares = list(filled), [100 * share for share in filled.values()]
        colours = [RED if share < 50 else AMBER if share < 90 else BLUE for share in shares]
        draw_share_bars(axes, range(len(names)), shares, colours)
        axes.set_yticks(range(len(names)), names)
        for place, share in enumerate(shares):
            label_bar(axes, percent(share), (100, place))
        axes.set_xlim(0, 112)

    return svg(0.27 * len(filled) + 0.3, draw, "Share of products that have each field")


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
        show_counts(axes.xaxis)
        show_counts(axes.yaxis, 4)
        axes.set_ylabel("products")
        show_grid(axes, legend={"loc": "upper right"})

    return svg(2.6, draw, "Products by price, on a logarithmic scale")


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

    return svg(2.4, draw, "Products by the time since they were updated, up to")


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
            label_bar(axes, f"{count:,}  {percent(100 * count / total)}", (count, place))
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.set_xlim(0, max(bars.values()) * 1.28)

    return svg(0.3 * len(bars) + 0.4, draw, "Products by language")
