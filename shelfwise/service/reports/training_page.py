"""The report of a run of `shelfwise learn` as a self-contained HTML page and in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shelfwise.rerank.evaluation.promotion import NDCG, MeasureComparison
from shelfwise.rerank.evaluation.statistics import Difference
from shelfwise.rerank.ranker.spec import MERGED, NAIVE, NEW, SERVED, OrderResult
from shelfwise.retrieval.html_report import (
    AMBER,
    BLUE,
    GREY,
    INK,
    INSIDE,
    RED,
    draw_curve,
    measure_text,
    printable,
    render,
    seconds_text,
    show_counts,
    show_grid,
    show_shares,
    svg,
)
from shelfwise.service.reports.training import (
    Curve,
    Findings,
    Gain,
    LearnReport,
    Position,
    RunDecision,
    Stage,
    StageOutcome,
)
from shelfwise.service.training.click_dataset import FirstHits

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_PAGE = Path(__file__).with_name("training_page.html.j2")


def html(report: LearnReport) -> str:
    """Renders the page; equal reports give equal bytes."""
    drawings = dict(plots(report.findings)) if report.findings else {}
    if report.shoppers:
        drawings["shoppers"] = shopper_plot(report.shoppers.report.curve)
    words = (order_name, model_name, difference, judgment, left_out)
    named = {each.__name__: each for each in words}
    return render(_PAGE, drawings, report=report, headline=HEADLINES[report.decision], **named)


_COLOURS = (BLUE, AMBER)
"""Colours of the requested and of the naive training method."""


def plots(found: Findings) -> Mapping[str, str]:
    """SVG elements of the ranker by "orders", "slices", "validation", "loss" and "positions"; empty if there is no
    data to plot."""
    return {
        "orders": _orders(found.orders),
        "slices": _slices([each for each in found.comparisons if each.measure == NDCG and each.difference]),
        "validation": _validation(found.curves),
        "loss": _loss(found.curves),
        "positions": _positions(found.positions),
    }


def _orders(orders: Sequence[OrderResult]) -> str:
    if not orders:
        return ""

    def draw(axes: Axes) -> None:
        for place, each in enumerate(orders):
            colour = BLUE if each.order == NEW else GREY
            _interval(axes, place, (each.ndcg, each.low, each.high), colour)
            axes.annotate(f"{each.ndcg:.4f}", (each.ndcg, place), (0, 7), textcoords="offset points", ha="center")
        _rows(axes, [order_name(each.order) for each in orders])

    return svg(0.5 * len(orders) + 0.7, draw, "nDCG@10 of each order on the last lists, with 95% intervals")


def _slices(comparisons: Sequence[MeasureComparison]) -> str:
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
    show_grid(axes, "x")


def _validation(curves: Sequence[Curve]) -> str:
    def draw(axes: Axes) -> None:
        for curve, colour in zip(curves, _COLOURS, strict=False):
            draw_curve(axes, [(each.number, each.validation) for each in curve.epochs], colour, curve.method)
            _mark_best(axes, curve.best.number, curve.best.validation, colour)
        _by_epoch(axes)

    return svg(2.8, draw, "nDCG@10 on the validation lists, by epoch")


def shopper_plot(curve: Sequence[tuple[int, float]]) -> str:
    """SVG element of the training curve of a user tower; empty for fewer than two epochs."""
    if len(curve) < 2:
        return ""
    best = max(curve, key=lambda point: point[1])

    def draw(axes: Axes) -> None:
        draw_curve(axes, curve, BLUE, "nDCG@10")
        _mark_best(axes, *best, BLUE)
        _by_epoch(axes)

    return svg(2.2, draw, "nDCG@10 of what shoppers chose next, by epoch")


def _loss(curves: Sequence[Curve]) -> str:
    if not any(each.loss is not None for curve in curves for each in curve.epochs):
        return ""

    def draw(axes: Axes) -> None:
        for curve, colour in zip(curves, _COLOURS, strict=False):
            known = [(each.number, each.loss) for each in curve.epochs if each.loss is not None]
            if known:
                draw_curve(axes, known, colour, curve.method)
        _by_epoch(axes)

    return svg(2.8, draw, "Mean loss of each epoch")


def _by_epoch(axes: Axes) -> None:
    show_counts(axes.xaxis, 10)
    axes.set_xlabel("epoch")
    show_grid(axes, legend=INSIDE)


def _positions(rows: Sequence[Position]) -> str:
    if not rows:
        return ""

    def draw(axes: Axes) -> None:
        known = [(each.position, each.examination) for each in rows if each.examination is not None]
        if known:
            draw_curve(axes, known, BLUE, "examined")
        draw_curve(axes, [(each.position, each.clicks / each.shown) for each in rows], AMBER, "clicked")
        axes.set_ylim(0, 1.04)
        show_counts(axes.xaxis, 10)
        show_shares(axes.yaxis, 5)
        axes.set_xlabel("position")
        show_grid(axes, legend=INSIDE)

    return svg(2.8, draw, "Examination and click rate of each position")


def _mark_best(axes: Axes, at: float, value: float, colour: str) -> None:
    axes.plot([at], [value], color=colour, marker="o", markersize=8, alpha=0.35)


_ORDERS: Mapping[str, str] = {MERGED: "merged order", SERVED: "served before", NAIVE: "raw clicks", NEW: "new ranker"}
_LONGEST_NAME = 24
_BASELINES: Mapping[str, str] = {
    "ctr": "each product's click rate, whatever its position",
    "position": "each position's click rate, whatever its product",
}
HEADLINES: Mapping[RunDecision, str] = {
    RunDecision.SERVES: "A better ranker serves",
    RunDecision.SWITCHED_OFF: "A better ranker is ready; rankers are switched off",
    RunDecision.REJECTED: "The new ranker is rejected",
    RunDecision.REFUSED: "No ranker was trained",
}


def order_name(order: str) -> str:
    """The display name of an order."""
    return _ORDERS.get(order, order)


def model_name(model: str) -> str:
    """The display name of a click model or baseline."""
    return _BASELINES.get(model, f"click model {model}")


def slice_name(name: str) -> str:
    """A slice's name for a plot, which does not escape text; the name of a language slice comes from the feed."""
    plain = "".join(mark if mark.isprintable() else "\ufffd" for mark in name)
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"


def difference(found: Difference | Gain | None) -> str:
    """Text of a difference with its interval."""
    return "too few to decide" if found is None else f"{found.mean:+z.4f} ({found.low:+z.4f} to {found.high:+z.4f})"


def judgment(comparison: MeasureComparison) -> str:
    """The gate's result of a comparison."""
    if comparison.difference is None:
        return "does not count"
    return "better" if comparison.is_better else "worse" if comparison.is_worse else "no sure difference"


def left_out(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts above 0 by display name."""
    return {_LEFT_OUT.get(name, name.replace("_", " ")): count for name, count in counts.items() if count}


_LEFT_OUT: Mapping[str, str] = {
    "unclicked_queries": "queries that were shown and never clicked",
    "gone_products": "pairs of query and product whose product no longer exists",
    "lost_candidates": "pairs whose product is no longer among its query's candidates",
    "unanswered_queries": "queries without a clicked candidate and another one",
}


def show_learned(report: LearnReport, page: Path, index: Path, console: Console) -> None:
    """Prints a short form of the report."""
    console.print(Text(HEADLINES[report.decision], style="bold"))
    for sentence in report.summary:
        console.print(Text(printable(sentence)))
    console.print()
    console.print(_steps(report))
    if report.findings and report.findings.orders:
        console.print()
        console.print(_order_rows(report.findings.orders))
    if report.findings and report.findings.examples:
        console.print()
        console.print(_example_rows(report.findings.examples))
    console.print()
    if report.removed:
        console.print(Text(f"Removed the oldest models: {', '.join(report.removed)}"), soft_wrap=True)
    if report.decision is RunDecision.SERVES and report.against.startswith("ranker-"):
        undo = f"{report.against} is kept; to go back to it: shelfwise models rollback {index}"
        console.print(Text(undo), soft_wrap=True)
    console.print(Text(f"Full report: {page}"), soft_wrap=True)


def show_waiting(new: int, needed: int, console: Console) -> None:
    """Prints that there are too few new events to train on."""
    console.print(Text(f"Nothing to learn yet: {new:,} new events since the last run, {needed:,} are needed."))


def _steps(report: LearnReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("step", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("summary")
    for stage in report.stages:
        table.add_row(stage.name, seconds_text(stage.seconds) if stage.steps else "", Text(_did(stage)))
    return table


def _did(stage: Stage) -> str:
    """Summaries of the stage's steps, one line each, or its outcome."""
    lines = [f"{'' if step.name == stage.name else f'{step.name}: '}{step.did}" for step in stage.steps if step.did]
    if not lines or stage.outcome is StageOutcome.STOPPED:
        lines.append(stage.outcome.value)
    return "\n".join(map(printable, lines))


def _example_rows(examples: Sequence[FirstHits]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("query", "first hits before", "with the new ranker"):
        table.add_column(name, overflow="fold")
    for each in examples:
        columns = (each.query,), each.before, each.after
        table.add_row(*(Text("\n".join(map(printable, column))) for column in columns), end_section=True)
    return table


def _order_rows(orders: Sequence[OrderResult]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("order", "nDCG@10", "95%"):
        table.add_column(name, justify="left" if name == "order" else "right", no_wrap=True)
    for each in orders:
        interval = f"{measure_text(each.low)} to {measure_text(each.high)}"
        table.add_row(order_name(each.order), measure_text(each.ndcg), interval)
    return table
