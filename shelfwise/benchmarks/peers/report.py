"""Tables and plots of peers: first the figures in which a peer is ahead, then all, notes, versions and plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shelfwise.benchmarks.peers.measure import PeerFigures, PeersReport, versions_of
from shelfwise.benchmarks.peers.registry import OURS
from shelfwise.benchmarks.tables import figure_table
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.html_report import BLUE, GREY, png, svg
from shelfwise.service.cli.output import say, show_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HOUR_MILLISECONDS = 3_600_000


@dataclass(frozen=True, slots=True)
class _Figure:
    """A column: the value of a row, None if it has none; and whether higher is better."""

    name: str
    value: Callable[[PeerFigures], float | None]
    shown: str
    more_is_better: bool = False


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


_QUALITY = (
    _Figure("nDCG@10", lambda row: row.measures["nDCG@10"], "{:.4f}", more_is_better=True),
    _Figure("R@100", lambda row: row.measures["R@100"], "{:.4f}", more_is_better=True),
    _Figure("intent P@10", lambda row: _mean(row.intent), "{:.3f}", more_is_better=True),
    _Figure("filtered recall@100", lambda row: row.filtered_recall, "{:.4f}", more_is_better=True),
    _Figure("its p50 ms", lambda row: row.filtered_ms, "{:.1f}"),
)
_RATE = _Figure("arrivals a second", lambda row: row.rate, "{:.2g}", more_is_better=True)
_SPEED = (
    _Figure("p50 ms", lambda row: _median(row.p50), "{:.1f}"),
    _Figure("p99 ms", lambda row: _median(row.p99), "{:.1f}"),
    _Figure("searches a second", lambda row: _median(row.per_second), "{:,.1f}", more_is_better=True),
    _Figure("core ms a search", lambda row: _median(row.core_ms), "{:.2f}"),
    _Figure("first search ms", lambda row: row.first_ms, "{:.0f}"),
    _Figure("fresh, p50 ms", lambda row: _median(row.freshness), "{:.1f}"),
)
_SIZE = (
    _Figure("build s", lambda row: row.build_seconds, "{:.1f}"),
    _Figure("open s", lambda row: row.open_seconds, "{:.1f}"),
    _Figure("MB on disk", lambda row: row.bytes / 1e6, "{:,.1f}"),
    _Figure("MB resident", lambda row: row.resident / 1e6, "{:,.0f}"),
)


def _mean(values: Mapping[str, float]) -> float | None:
    return float(np.mean(list(values.values()))) if values else None


def show_peers(report: PeersReport, plots: Sequence[Path], hour_price: float, old: PeersReport | None) -> None:
    """Shows where peers are ahead, the figures, substitutions, versions, and changes against an older report."""
    ours = next(row for row in report.rows if row.peer == OURS)
    for row in report.rows:
        if ahead := list(leads(row, ours)):
            say(f"ahead of Shelfwise: {row.label} in {'; '.join(ahead)}")
    for name, error in report.failures.items():
        say(f"not measured: {name}: {error}")
    title = f"{report.products:,} products, {report.queries:,} judged queries, {report.cases:,} intent cases"
    _show(report.rows, _QUALITY, title)
    _show_differences(report.rows, ours)
    _show(report.rows, (_RATE, *_SPEED), f"open arrivals ({_mix_of(report)})")
    price = _Figure("price of 1,000", lambda row: hour_price * (_median(row.core_ms) or 0) / 3_600, "{:.6f}")
    _show(report.rows, (*_SIZE, price), f"a core and hour at {hour_price:g}")
    for row in report.rows:
        say(f"{row.label}: {row.note}" if row.note else f"{row.label}: nothing substituted")
    say(f"cross-encoder: {report.made_by['cross_encoder'] or 'none'}; encoder: {report.made_by['encoder']}")
    say(", ".join(f"{name} {value}" for name, value in (*report.machine.items(), *versions_of(report.rows).items())))
    busiest = max(row.load for row in report.rows)
    say(f"processes that shared the cores: up to {busiest:.1f}")
    if old:
        _show_changes(report, old)
    say(f"plots: {', '.join(map(str, plots))}")


def leads(row: PeerFigures, ours: PeerFigures) -> Iterator[str]:
    """The figures in which a row is ahead of ours: quality with the interval of its difference, then others."""
    if row is ours:
        return
    for name, theirs, own in (("nDCG@10", row.ndcg, ours.ndcg), ("intent P@10", row.intent, ours.intent)):
        found = difference(theirs, own)
        if found and found.mean > 0:
            yield f"{name} by {found}"
    for each in (*_QUALITY, *_SPEED, *_SIZE):
        value, least = each.value(row), each.value(ours)
        if each.name in ("nDCG@10", "intent P@10") or value is None or least is None:
            continue
        if (value > least) if each.more_is_better else (value < least):
            yield f"{each.name} ({each.shown.format(value)} against {each.shown.format(least)})"


def difference(theirs: Mapping[str, float], ours: Mapping[str, float]) -> Difference | None:
    """The mean difference over the queries that both have; None if there are none."""
    shared = [query for query in theirs if query in ours]
    if not shared:
        return None
    return paired_bootstrap(*(np.array([each[query] for query in shared]) for each in (theirs, ours)))


def _mix_of(report: PeersReport) -> str:
    caches = "encodings of queries kept" if report.made_by["caches"] == "True" else "no caches"
    return f"{report.made_by['mix']} mix, {caches}"


def _show(rows: Sequence[PeerFigures], figures: Sequence[_Figure], title: str) -> None:
    table = figure_table(["", *(each.name for each in figures)], title)
    for row in rows:
        values = [each.value(row) for each in figures]
        cells = [
            each.shown.format(value) if value is not None else "" for each, value in zip(figures, values, strict=True)
        ]
        table.add_row(row.label, *cells)
    show_table(table)


def _show_differences(rows: Sequence[PeerFigures], ours: PeerFigures) -> None:
    table = figure_table(["Shelfwise less", "nDCG@10", "95%", "intent P@10", "95%", "speed", "core time"], "")
    for row in rows:
        if row is ours:
            continue
        pairs = (difference(ours.ndcg, row.ndcg), difference(ours.intent, row.intent))
        cells = [text for each in pairs for text in ((f"{each.mean:+.4f}", _interval(each)) if each else ("", ""))]
        spent = float(np.median(ours.core_ms) / np.median(row.core_ms))
        table.add_row(row.label, *cells, f"{_speed(ours) / _speed(row):.2f} times", f"{spent:.2f} times")
    show_table(table)


def _interval(found: Difference) -> str:
    return f"{found.low:+.4f} to {found.high:+.4f}"


def _speed(row: PeerFigures) -> float:
    return float(np.median(row.per_second))


# Changes since an older report.


@dataclass(frozen=True, slots=True)
class Change:
    """A figure now and before, with the 95% interval of the difference of their means; None if there is none."""

    label: str
    figure: str
    now: float
    before: float
    low: float | None
    high: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def changes(report: PeersReport, old: PeersReport) -> Iterator[Change]:
    """The differences of rows that both reports have: quality by the bootstrap over queries, speed by Welch's t-test
    over repeats. Raises SettingError for reports of other products or queries."""
    for name in ("catalog", "encoder", "judgments", "queries", "seed"):
        if report.made_by[name] != old.made_by[name]:
            raise SettingError(f"--compare: the older report has another {name}, so its figures cannot be compared")
    before = {row.label: row for row in old.rows}
    for row in report.rows:
        if row.label not in before:
            continue
        other = before[row.label]
        for name, now, then in (("nDCG@10", row.ndcg, other.ndcg), ("intent P@10", row.intent, other.intent)):
            if found := difference(now, then):
                yield Change(row.label, name, _mean(now) or 0.0, _mean(then) or 0.0, found.low, found.high)
        for name in ("p50", "p99", "per_second", "core_ms", "freshness"):
            if (one := getattr(row, name)) and (two := getattr(other, name)):
                yield Change(row.label, name, float(np.mean(one)), float(np.mean(two)), *_welch(one, two))


def _welch(now: Sequence[float], before: Sequence[float]) -> tuple[float | None, float | None]:
    if min(len(now), len(before)) < 2:
        return None, None
    from scipy.stats import ttest_ind

    interval = ttest_ind(now, before, equal_var=False).confidence_interval()
    return float(interval.low), float(interval.high)


def _show_changes(report: PeersReport, old: PeersReport) -> None:
    table = figure_table(["against the older report", "figure", "before", "now", "95% of the difference", ""], "")
    for each in changes(report, old):
        interval = "" if each.low is None or each.high is None else f"{each.low:+.4g} to {each.high:+.4g}"
        mark = "changed" if each.is_clear else ""
        table.add_row(each.label, each.figure, f"{each.before:.4g}", f"{each.now:.4g}", interval, mark)
    show_table(table)


# Plots.


def write_plots(report: PeersReport, folder: Path) -> list[Path]:
    """Draws quality against speed, latency, and memory, each as an SVG and a PNG file; returns the files."""
    drawings = {
        "quality-and-speed": ("nDCG@10 by searches a second", 3.4, _scatter(report.rows)),
        "latency": ("p99 ms of open arrivals", _height(report.rows), _bars(report.rows, _SPEED[1])),
        "memory": ("MB resident", _height(report.rows), _bars(report.rows, _SIZE[3])),
    }
    written = []
    for name, (label, height, draw) in drawings.items():
        vector, pixels = folder / f"{name}.svg", folder / f"{name}.png"
        vector.write_text(svg(height, draw, label), "utf-8")
        pixels.write_bytes(png(height, draw))
        written += [vector, pixels]
    return written


def _height(rows: Sequence[PeerFigures]) -> float:
    return 0.6 + 0.28 * len(rows)


def _color(row: PeerFigures) -> str:
    return BLUE if row.peer == OURS else GREY


def _scatter(rows: Sequence[PeerFigures]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for row in rows:
            at = (_speed(row), row.measures["nDCG@10"])
            axes.scatter(*at, color=_color(row))
            axes.annotate(row.label, at, xytext=(4, 3), textcoords="offset points", fontsize=7)
        _use_powers(axes)
        axes.set_xlabel("searches a second")
        axes.set_ylabel("nDCG@10")
        axes.margins(x=0.3, y=0.1)

    return draw


def _bars(rows: Sequence[PeerFigures], figure: _Figure) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        values = [figure.value(row) or 0.0 for row in rows]
        bars = axes.barh([row.label for row in rows], values, color=[_color(row) for row in rows])
        axes.bar_label(bars, [figure.shown.format(value) for value in values], padding=3, fontsize=8)
        _use_powers(axes)
        axes.set_xlim(min(values) / 3, max(values) * 3)
        axes.invert_yaxis()
        axes.set_xlabel(figure.name)

    return draw


def _use_powers(axes: Axes) -> None:
    """Makes an axis logarithmic, with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
