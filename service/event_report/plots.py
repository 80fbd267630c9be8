"""The plots of the page: events by day, the funnel, click rates by position, scores of visits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from indexer.quality.svg import (
    AMBER,
    BLUE,
    GREY,
    INK,
    QUIET,
    RED,
    RULE,
    percent,
    show_counts,
    show_shares,
    svg,
)
from service.event_report.fraud import FraudFound
from service.event_report.funnel import Funnel, Step
from service.event_report.positions import PositionRow
from service.event_report.report import EventReport
from service.event_report.traffic import DayCount

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from service.event_report.intervals import Estimate

_SOFT = "#f1f3f6"
_SURE_CLICKS = 30
_MOST_DAYS = 8
"""That are named below the events of each day."""


def plots(report: EventReport) -> Mapping[str, str]:
    """SVG elements by "days", "funnel", "rates", "examination" and "scores"; one without anything to show is empty."""
    return {
        "days": _days(report.traffic.days),
        "funnel": _funnel(report.funnel),
        "rates": _rates(report.positions.rows),
        "examination": _examination(report.positions.rows),
        "scores": _scores(report.fraud),
    }


def _days(days: Sequence[DayCount]) -> str:
    if not days:
        return ""

    def draw(axes: Axes) -> None:
        places = range(len(days))
        named = places[:: math.ceil(len(days) / _MOST_DAYS)]
        series = {"honest": ([each.honest for each in days], BLUE), "flagged": ([each.flagged for each in days], RED)}
        for label, (counts, colour) in series.items():
            if any(counts):
                axes.plot(places, counts, color=colour, label=label, marker="o", markersize=2.5, linewidth=1.4)
        axes.set_ylim(bottom=0)
        axes.set_xticks(named, [f"{days[place].day:%m-%d}" for place in named])
        show_counts(axes.yaxis, 4)
        _grid(axes)
        _legend(axes)

    return svg(2.8, draw, "Events of each day")


def _funnel(funnel: Funnel) -> str:
    flows = [steps for steps in (funnel.searches, funnel.pages) if steps[0].answers]
    if not flows:
        return ""
    bars = [(step, colour) for steps, colour in zip(flows, (BLUE, AMBER), strict=False) for step in steps]
    gaps = [at + (0.5 if at >= len(flows[0]) else 0) for at in range(len(bars))]

    def draw(axes: Axes) -> None:
        shares = [_of(step) for step, _ in bars]
        axes.barh(gaps, [100] * len(bars), color=_SOFT, height=0.66)
        axes.barh(gaps, shares, color=[colour for _, colour in bars], height=0.66)
        for place, (step, _), share in zip(gaps, bars, shares, strict=True):
            text = f"{step.answers:,}  {percent(share)}"
            axes.annotate(text, (100, place), (5, 0), textcoords="offset points", va="center", color=QUIET)
        axes.set_yticks(gaps, [step.name for step, _ in bars])
        axes.invert_yaxis()
        axes.set_xlim(0, 132)
        axes.set_xticks([])

    return svg(0.29 * len(bars) + 0.4, draw, "Answers that came to each step of the funnel")


def _of(step: Step) -> float:
    return 100 * (step.answer_share or 0.0)


def _rates(rows: Sequence[PositionRow]) -> str:
    if not rows:
        return ""

    def draw(axes: Axes) -> None:
        at = [row.position for row in rows]
        _band(axes, at, [row.debiased for row in rows], AMBER, "once looked at")
        _band(axes, at, [row.ctr for row in rows], BLUE, "as it is")
        axes.set_ylim(0, _top(rows))
        _by_position(axes)

    return svg(2.8, draw, "Click rate by position, as it is and once looked at, with 95% intervals")


def _top(rows: Sequence[PositionRow]) -> float:
    """Where the axis of click rates ends: the wide intervals of a few clicks low down may be cut off."""
    sure = [row.debiased.value for row in rows if row.clicks >= _SURE_CLICKS]
    return min(1.0, 1.6 * max(sure or [row.debiased.value for row in rows])) or 1.0


def _examination(rows: Sequence[PositionRow]) -> str:
    if not rows:
        return ""

    def draw(axes: Axes) -> None:
        at = [row.position for row in rows]
        _band(axes, at, [row.examination for row in rows], BLUE, "position-based model")
        compared = [row.browsing_examination for row in rows]
        axes.plot(at, compared, color=GREY, linestyle="--", linewidth=1.4, label="user browsing model")
        axes.set_ylim(0, 1.04)
        _by_position(axes)

    return svg(2.8, draw, "How often each position is looked at, with 95% intervals")


def _band(axes: Axes, at: Sequence[int], estimates: Sequence[Estimate], colour: str, label: str) -> None:
    axes.plot(at, [each.value for each in estimates], color=colour, marker="o", markersize=3.5, label=label)
    lower = [each.value if each.lower is None else each.lower for each in estimates]
    upper = [each.value if each.upper is None else each.upper for each in estimates]
    axes.fill_between(at, lower, upper, color=colour, alpha=0.16, linewidth=0)


def _by_position(axes: Axes) -> None:
    show_counts(axes.xaxis, 10)
    show_shares(axes.yaxis, 5)
    axes.set_xlabel("position")
    _grid(axes)
    _legend(axes)


def _scores(fraud: FraudFound) -> str:
    if not any(each.visits for each in fraud.scores):
        return ""

    def draw(axes: Axes) -> None:
        for each in fraud.scores:
            colour = RED if each.low >= fraud.threshold else BLUE
            width = each.high - each.low
            axes.bar(each.low, each.visits, width * 0.9, align="edge", color=colour)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, 4 * max(each.visits for each in fraud.scores))
        show_counts(axes.yaxis)
        axes.axvline(fraud.threshold, color=INK, linewidth=1, linestyle=":")
        axes.annotate(
            "flagged",
            (fraud.threshold, 1),
            (6, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color=QUIET,
        )
        axes.set_xlim(0, 1)
        axes.set_xlabel("score")
        axes.set_ylabel("visits")
        _grid(axes)

    return svg(2.6, draw, "Visits by their score, counts on a logarithmic scale")


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), fontsize=9, borderaxespad=0)


def _grid(axes: Axes) -> None:
    axes.grid(axis="y", color=RULE)
    axes.set_axisbelow(True)
