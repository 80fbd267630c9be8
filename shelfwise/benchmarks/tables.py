"""Tables of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from shelfwise.benchmarks.scale import ScalePoint, fit
from shelfwise.service.cli.output import plain_table, say, show_table

if TYPE_CHECKING:
    from shelfwise.benchmarks.backends import BackendFigures, BackendsReport
    from shelfwise.benchmarks.changes import Build, Freshness
    from shelfwise.benchmarks.intent import AbsentFigures, IntentFigures, SynonymEffect
    from shelfwise.benchmarks.load import HttpReport
    from shelfwise.benchmarks.quality import RunChange


def show_measures(measures: Mapping[str, Mapping[str, float]], queries: int, changes: Mapping[str, RunChange]) -> None:
    """Stages by measures; also the changes from other runs, if any."""
    names = list(next(iter(measures.values())))
    table = figure_table(["stage", *names], f"{queries:,} queries")
    for stage, values in measures.items():
        table.add_row(stage, *(f"{values[name]:.4f}" for name in names))
    show_table(table)
    for stage, change in changes.items():
        counts = f"{change.higher:,} queries higher, {change.lower:,} lower"
        say(f"{stage}: nDCG@10 {change.ndcg}, 95% by bootstrap; {counts}")


def show_latency(result: Mapping[str, Any]) -> None:
    """Percentiles and throughput of each stage, then the seconds to open."""
    title = f"{result['products']:,} products, {result['searches']:,} searches, {result['threads']} threads"
    table = figure_table(["stage", "p50 ms", "p90 ms", "p99 ms", "a second", "median ms by part"], title)
    for stage, latency in result["stages"].items():
        parts = ", ".join(f"{part} {spent:.2f}" for part, spent in latency["stages"].items())
        figures = (f"{latency[name]:.2f}" for name in ("p50", "p90", "p99"))
        table.add_row(stage, *figures, f"{latency['per_second']:.0f}", parts)
    show_table(table)
    say(f"import shelfwise {result['import_seconds']:.3f} s, opening {result['open_seconds']:.3f} s")


def show_recall(result: Mapping[str, Any]) -> None:
    """Recall by selectivity of the filter."""
    title = f"{result['vectors']:,} vectors, {result['index']} index"
    table = figure_table(["filter keeps", "products", "recall@100", "ms", "ms of a full scan"], title)
    for each in result["recall"]:
        spent = (f"{each['milliseconds']:.2f}", f"{each['exact_milliseconds']:.2f}")
        table.add_row(f"{each['share']:.2%}", f"{each['allowed']:,}", f"{each['recall']:.4f}", *spent)
    show_table(table)


def show_throughput(result: Mapping[str, Any]) -> None:
    """Titles analysed per second, then runtimes by speed and similarity to the first."""
    table = figure_table(["runtime", "products a second", "query p50 ms", "p99 ms", "cosine with torch"], "")
    for each in result["runtimes"]:
        spent = (f"{each['query_p50']:.2f}", f"{each['query_p99']:.2f}")
        table.add_row(each["runtime"], f"{each['products_per_second']:.0f}", *spent, f"{each['cosine']:.5f}")
    say(f"{result['titles']:,} titles analysed, {result['terms_per_second']:,.0f} a second on one core")
    show_table(table)


def show_quality(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Methods of merging by judged set, nDCG@10 / R@100, and the mean nDCG@10 over the sets."""
    table = figure_table(["", *(Path(index).name for index in results), "mean nDCG@10"], "nDCG@10, R@100")
    for label in next(iter(results.values())):
        measured = [each[label] for each in results.values()]
        cells = (f"{values['nDCG@10']:.4f} {values['R@100']:.4f}" for values in measured)
        table.add_row(label, *cells, f"{sum(values['nDCG@10'] for values in measured) / len(measured):.4f}")
    show_table(table)


def show_intent(
    figures: Mapping[str, IntentFigures],
    cases: int,
    absent: AbsentFigures,
    failures: bool,
    effects: Mapping[str, SynonymEffect],
) -> None:
    """Stages by P@1 and P@10 with their intervals; types that the store does not sell; optionally the failures of the
    last stage; and the effects of added synonyms, if any."""
    table = figure_table(["stage", "P@1", "95%", "P@10", "95%", "accessories"], f"{cases:,} cases")
    for stage, found in figures.items():
        cells = (
            text
            for each in (found.first, found.ten)
            for text in (f"{each.mean:.3f}", f"{each.low:.3f}-{each.high:.3f}")
        )
        table.add_row(stage, *cells, f"{found.accessories:.3f}")
    show_table(table)
    if absent.cases:
        having = f"{absent.with_hits:,} of {absent.cases:,} queries for a kind that the store does not sell have hits"
        say(f"{having}; {absent.unsaid:,} of them do not say that these are only the nearest")
    for failure in list(figures.values())[-1].failures if failures else ():
        say(f"{failure.query}: {failure.precision:.0%}; {' | '.join(title[:50] for title in failure.titles)}")
    for stage, effect in effects.items():
        say(f"{stage} with the synonyms: P@10 {effect.ten}; lower for {', '.join(effect.lower) or 'no query'}")


def show_backends(report: BackendsReport) -> None:
    """Backends side by side, and the queries that two of them answered differently."""
    title = f"{report.products:,} products, {report.searches:,} searches with facets, {report.threads} threads"
    table = figure_table(["", *(each.backend for each in report.backends)], title)
    rows: dict[str, Callable[[BackendFigures], str]] = {
        "seconds to fill": lambda each: f"{each.fill_seconds:.1f}",
        "products a second": lambda each: f"{each.products_per_second:,.0f}",
        "MB on disk": lambda each: f"{each.bytes / 1e6:,.1f}",
        "search p50 / p99 ms": lambda each: f"{each.latency.p50:.1f} / {each.latency.p99:.1f}",
        "searches a second": lambda each: f"{each.latency.per_second:,.0f}",
        "round trips, mean (most)": lambda each: f"{each.round_trips:.2f} ({each.most_round_trips})",
        "vectors' recall@100": lambda each: f"{each.recall:.4f}",
        "compared searches": lambda each: f"{each.parity.searches:,}" if each.parity else "",
        "as good as equal swapped": lambda each: f"{len(each.parity.swapped):,}" if each.parity else "",
        "answered differently": lambda each: f"{len(each.parity.differing):,}" if each.parity else "",
        "largest difference of scores": lambda each: f"{each.parity.largest:.6f}" if each.parity else "",
    }
    for name, shown in rows.items():
        table.add_row(name, *map(shown, report.backends))
    show_table(table)
    for each in report.backends:
        for difference in each.parity.differing if each.parity else ():
            say(f"{each.backend}: {difference}")


def figure_table(columns: Sequence[str], title: str) -> Table:
    """A table without lines, with a left-aligned first column."""
    return plain_table(*columns, right=columns[1:], title=title)


def show_http(report: HttpReport) -> None:
    """A row for each load."""
    title = f"{report.products:,} products; {report.capacity:.0f} searches a second at most"
    table = figure_table(["", "a second", "requests", "answers", "p50 ms", "p99 ms", "refused within, p99 ms"], title)
    for load in report.loads:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in load.statuses.items())
        refused = "" if load.refused_p99 is None else f"{load.refused_p99:.1f}"
        table.add_row(
            load.kind, f"{load.rate:.0f}", f"{load.requests:,}", statuses, f"{load.p50:.1f}", f"{load.p99:.1f}", refused
        )
    show_table(table)


def show_rebuilds(measured: Sequence[Build]) -> None:
    """Builds by time, as shares of the first."""
    table = figure_table(["rebuild", "products", "encoded", "seconds", "of the first", "seconds by phase"], "")
    for each in measured:
        phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in each.phases.items())
        share = f"{each.seconds / measured[0].seconds:.2%}"
        table.add_row(each.label, f"{each.products:,}", f"{each.encoded:,}", f"{each.seconds:.1f}", share, phases)
    show_table(table)


def show_freshness(measured: Freshness) -> None:
    """Shows the time until a change is found, by engine."""
    title = (
        f"{measured.changes:,} prices changed during {measured.searches_per_second:.0f} searches a second "
        f"(p99 {measured.search_p99:.1f} ms)"
    )
    table = figure_table(["found by", "p50 ms", "p99 ms", "longest ms"], title)
    table.add_row("the engine that received it", *(f"{each:.1f}" for each in measured.here))
    table.add_row("an engine of another process", *(f"{each:.1f}" for each in measured.elsewhere))
    show_table(table)


_ON_PAPER = (1_000_000, 10_000_000, 100_000_000)


def show_scale(points: Sequence[ScalePoint], plots: Sequence[Path], hour_price: float) -> None:
    """A row for each size, then the fitted lines and their predictions for larger catalogs."""
    table = figure_table(
        ["", "index", "build s", "MB", "opened", "serving", "recall@100", "filtered", "p50 ms", "p99 ms", "a second"],
        "MB on disk, in memory when opened, and with the mapped pages that searches read",
    )
    for each in points:
        plain, *filtered = each.recall.values()
        figures = (sum(each.build_seconds.values()), sum(each.bytes.values()) / 1e6, each.opened / 1e6)
        table.add_row(
            f"{each.count:,} {each.kind}",
            each.index,
            *(f"{figure:,.0f}" for figure in (*figures, each.resident / 1e6)),
            f"{plain:.4f}",
            f"{min(filtered):.4f}",
            *(f"{figure:.1f}" for figure in (each.p50, each.p99)),
            f"{each.per_second:,.0f}",
        )
    show_table(table)
    for each in points:
        phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in each.build_seconds.items())
        parts = ", ".join(f"{part} {count / 1e6:.1f}" for part, count in list(each.bytes.items())[:6])
        say(f"{each.count:,} {each.kind}: seconds by phase: {phases}; MB by part: {parts}")
        spent = f"build {each.build_processor:.0f} s, a search {each.search_processor:.1f} ms"
        say(f"  of a core: {spent}; load {each.load:.1f}")
    _show_model([each for each in points if each.kind == "products"], hour_price)
    say(f"plots: {', '.join(map(str, plots))}")


def _show_model(points: Sequence[ScalePoint], hour_price: float) -> None:
    figures: dict[str, tuple[Callable[[ScalePoint], float], str]] = {
        "build, core s": (lambda each: each.build_processor, "{:,.0f}"),
        "GB on disk": (lambda each: sum(each.bytes.values()) / 1e9, "{:,.2f}"),
        "GB serving": (lambda each: each.resident / 1e9, "{:,.2f}"),
        "search, core ms": (lambda each: each.search_processor, "{:,.1f}"),
    }
    lines = {name: line for name, (figure, _) in figures.items() if (line := fit(points, figure))}
    if not lines:
        say("three catalogs or more give a line through all but the largest, checked against that one")
        return
    table = figure_table(["fitted", "base", "a million more", "largest: predicted", "measured", "off"], "")
    for name, line in lines.items():
        numbers = (line.base, line.slope * 1e6, line.predicted, line.measured)
        table.add_row(name, *map(figures[name][1].format, numbers), f"{line.predicted / line.measured - 1:+.0%}")
    show_table(table)
    paper = figure_table(["on paper", *lines, "a second and core", "cores for 1,000 a second", "price of 1,000"], "")
    for products in _ON_PAPER:
        spent = lines["search, core ms"].at(products)
        cells = [figures[name][1].format(line.at(products)) for name, line in lines.items()]
        paper.add_row(
            f"{products:,}", *cells, f"{1_000 / spent:,.1f}", f"{spent:,.0f}", f"{hour_price * spent / 3_600:.6f}"
        )
    show_table(paper)
