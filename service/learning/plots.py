"""The plots of the page: what each order reaches, the gate's slices, training curves, examination by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from indexer.quality.svg import AMBER, BLUE, GREY, INK, RED, RULE, show_counts, show_shares, svg
from rerank.gate.verdict import NDCG, Comparison
from rerank.ranker.spec import NEW, Reached
from service.learning.report import Curve, Findings, Position
from service.learning.words import order_name, slice_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = (BLUE, AMBER)
"""Of the way that was asked for, and the naive one."""


def plots(found: Findings) -> Mapping[str, str]:
    """SVG elements of the ranker by "orders", "slices", "validation", "loss" and "positions"; one without anything to
    show is empty."""
    return {
        "orders": _orders(found.orders),
        "slices": _slices([each for each in found.comparisons if each.measure == NDCG and each.difference]),
        "validation": _validation(found.curves),
        "loss": _loss(found.curves),
        "positions": _positions(found.positions),
    }


def _orders(orders: Sequence[Reached]) -> str:
    if not orders:
        return ""

    def draw(axes: Axes) -> None:
        for place, each in enumerate(orders):
            colour = BLUE if each.order == NEW else GREY
            _interval(axes, place, (each.ndcg, each.low, each.high), colour)
            axes.annotate(f"{each.ndcg:.4f}", (each.ndcg, place), (0, 7), textcoords="offset points", ha="center")
        _rows(axes, [order_name(each.order) for each in orders])

    return svg(0.5 * len(orders) + 0.7, draw, "nDCG@10 of each order on the last lists, with 95% intervals")


def _slices(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=1, linestyle=":")
        for place, each in enumerate(comparisons):
            if each.difference is not None:
                colour = BLUE if each.is_better else RED if each.is_worse else GREY
                _interval(axes, place, (each.difference.mean, each.difference.low, each.difference.high), colour)
        _rows(axes, [slice_name(each.slice) for each in comparisons])

    return svg(0.36 * len(comparisons) + 0.7, draw, "nDCG@10 gained over what serves, by slice, with 95% intervals")


def _interval(axes: Axes, place: int, values: tuple[float, float, float], colour: str) -> None:
    mean, low, high = values
    axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.35, solid_capstyle="butt")
    axes.plot([mean], [place], color=colour, marker="o", markersize=5)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.grid(axis="x", color=RULE)
    axes.set_axisbelow(True)


def _validation(curves: Sequence[Curve]) -> str:
    def draw(axes: Axes) -> None:
        for curve, colour in zip(curves, _COLOURS, strict=False):
            at, values = zip(*((each.number, each.validation) for each in curve.epochs), strict=True)
            axes.plot(at, values, color=colour, marker="o", markersize=3.5, linewidth=1.4, label=curve.way)
            axes.plot([curve.best.number], [curve.best.validation], color=colour, marker="o", markersize=8, alpha=0.35)
        _by_epoch(axes)

    return svg(2.8, draw, "nDCG@10 on the lists that choose, by epoch")


def shopper_plot(curve: Sequence[tuple[int, float]]) -> str:
    """An SVG element of a shopper tower's training; empty for a curve of one epoch."""
    if len(curve) < 2:
        return ""
    best = max(curve, key=lambda point: point[1])

    def draw(axes: Axes) -> None:
        axes.plot(*zip(*curve, strict=True), color=BLUE, marker="o", markersize=3.5, linewidth=1.4, label="nDCG@10")
        axes.plot(*best, color=BLUE, marker="o", markersize=8, alpha=0.35)
        _by_epoch(axes)

    return svg(2.2, draw, "nDCG@10 of what shoppers chose next, by epoch")


def _loss(curves: Sequence[Curve]) -> str:
    if not any(each.loss is not None for curve in curves for each in curve.epochs):
        return ""

    def draw(axes: Axes) -> None:
        for curve, colour in zip(curves, _COLOURS, strict=False):
            known = [(each.number, each.loss) for each in curve.epochs if each.loss is not None]
            if known:
                at, values = zip(*known, strict=True)
                axes.plot(at, values, color=colour, marker="o", markersize=3.5, linewidth=1.4, label=curve.way)
        _by_epoch(axes)

    return svg(2.8, draw, "Mean loss of each epoch")


def _by_epoch(axes: Axes) -> None:
    show_counts(axes.xaxis, 10)
    axes.set_xlabel("epoch")
    _grid(axes)


def _positions(rows: Sequence[Position]) -> str:
    if not rows:
        return ""

    def draw(axes: Axes) -> None:
        known = [(each.position, each.examination) for each in rows if each.examination is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=BLUE, marker="o", markersize=3.5, label="looked at")
        rates = [each.clicks / each.shown for each in rows]
        axes.plot([each.position for each in rows], rates, color=AMBER, marker="o", markersize=3.5, label="clicked")
        axes.set_ylim(0, 1.04)
        show_counts(axes.xaxis, 10)
        show_shares(axes.yaxis, 5)
        axes.set_xlabel("position")
        _grid(axes)

    return svg(2.8, draw, "How often each position is looked at and clicked")


def _grid(axes: Axes) -> None:
    axes.grid(axis="y", color=RULE)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=2, loc="best", fontsize=9)
