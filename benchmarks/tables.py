"""The tables that the measuring commands print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from service.cli.output import out

if TYPE_CHECKING:
    from benchmarks.backends import BackendFigures, BackendsReport
    from benchmarks.studies.rankers import Ordered
    from rerank.evaluation.statistics import Difference


def show_measures(measures: Mapping[str, Mapping[str, float]], queries: int) -> None:
    """Stages by measures."""
    names = list(next(iter(measures.values())))
    table = plain_table(["stage", *names], f"{queries:,} queries")
    for stage, values in measures.items():
        table.add_row(stage, *(f"{values[name]:.4f}" for name in names))
    out.print(table)


def show_latency(result: Mapping[str, Any]) -> None:
    """Percentiles and throughput of each stage, then the seconds to open."""
    title = f"{result['products']:,} products, {result['searches']:,} searches, {result['threads']} threads"
    table = plain_table(["stage", "p50 ms", "p90 ms", "p99 ms", "a second", "median ms by part"], title)
    for stage, latency in result["stages"].items():
        parts = ", ".join(f"{part} {spent:.2f}" for part, spent in latency["stages"].items())
        figures = (f"{latency[name]:.2f}" for name in ("p50", "p90", "p99"))
        table.add_row(stage, *figures, f"{latency['per_second']:.0f}", parts)
    out.print(table)
    out.print(f"import shelfwise {result['import_seconds']:.3f} s, opening {result['open_seconds']:.3f} s")


def show_recall(result: Mapping[str, Any]) -> None:
    """Recall by width of filter."""
    title = f"{result['vectors']:,} vectors, {result['index']} index"
    table = plain_table(["filter keeps", "products", "recall@100", "ms", "ms of a full scan"], title)
    for each in result["recall"]:
        spent = (f"{each['milliseconds']:.2f}", f"{each['exact_milliseconds']:.2f}")
        table.add_row(f"{each['share']:.2%}", f"{each['allowed']:,}", f"{each['recall']:.4f}", *spent)
    out.print(table)


def difference_cells(found: Difference | None) -> list[str]:
    """A difference and the ends of its interval; empty cells where there is none."""
    return [""] * 3 if found is None else [f"{value:+.4f}" for value in (found.mean, found.low, found.high)]


def show_orders(measured: Mapping[str, Ordered], queries: int) -> None:
    """nDCG@10 by system, and its difference from the merged order with its interval."""
    title = f"{queries:,} queries; differences from the merged order, paired by query, 95% by bootstrap"
    table = plain_table(["order", "nDCG@10", "difference", "from", "to"], title)
    for name, each in measured.items():
        table.add_row(name, f"{each.ndcg:.4f}", *difference_cells(each.against_merged))
    out.print(table)


def show_throughput(result: Mapping[str, Any]) -> None:
    """Titles analysed a second, then runtimes by speed and nearness to the first."""
    table = plain_table(["runtime", "products a second", "query p50 ms", "p99 ms", "cosine with torch"], "")
    for each in result["runtimes"]:
        spent = (f"{each['query_p50']:.2f}", f"{each['query_p99']:.2f}")
        table.add_row(each["runtime"], f"{each['products_per_second']:.0f}", *spent, f"{each['cosine']:.5f}")
    out.print(f"{result['titles']:,} titles analysed, {result['terms_per_second']:,.0f} a second on one core")
    out.print(table)


def show_quality(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Ways of merging by dev set, nDCG@10 / R@100, and the mean nDCG@10 over the sets."""
    table = plain_table(["", *(Path(index).name for index in results), "mean nDCG@10"], "nDCG@10, R@100")
    for label in next(iter(results.values())):
        measured = [each[label] for each in results.values()]
        cells = (f"{values['nDCG@10']:.4f} {values['R@100']:.4f}" for values in measured)
        table.add_row(label, *cells, f"{sum(values['nDCG@10'] for values in measured) / len(measured):.4f}")
    out.print(table)


def show_backends(report: BackendsReport) -> None:
    """Backends beside each other, and what two of them answered differently."""
    title = f"{report.products:,} products, {report.searches:,} searches with facets, {report.threads} threads"
    table = plain_table(["", *(each.backend for each in report.backends)], title)
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
    out.print(table)
    for each in report.backends:
        for told in each.parity.differing if each.parity else ():
            out.print(f"{each.backend}: {told}", markup=False, soft_wrap=True)


def plain_table(columns: Sequence[str], title: str) -> Table:
    """A table without lines, its first column to the left."""
    table = Table(box=None, header_style="bold", title=title, title_justify="left", title_style="")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table
