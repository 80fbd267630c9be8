"""Tables of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shelfwise.service.cli.output import say, show_rows

if TYPE_CHECKING:
    from shelfwise.benchmarks.intent import AbsentFigures, IntentFigures
    from shelfwise.benchmarks.load import HttpReport
    from shelfwise.benchmarks.quality import RunChange


def show_measures(measures: Mapping[str, Mapping[str, float]], queries: int, changes: Mapping[str, RunChange]) -> None:
    """Stages by measures; also the changes from other runs, if any."""
    names = list(next(iter(measures.values())))
    rows = [(stage, *(f"{values[name]:.4f}" for name in names)) for stage, values in measures.items()]
    show_rows(["stage", *names], rows, title=f"{queries:,} queries")
    for stage, change in changes.items():
        counts = f"{change.higher:,} queries higher, {change.lower:,} lower"
        say(f"{stage}: nDCG@10 {change.ndcg}, 95% by bootstrap; {counts}")


def show_latency(result: Mapping[str, Any]) -> None:
    """Percentiles and throughput of each stage, then the seconds to open, and memory: of the process's own when opened,
    and with the mapped files after all searches."""
    title = f"{result['products']:,} products, {result['searches']:,} searches, {result['threads']} threads"
    rows = []
    for stage, latency in result["stages"].items():
        parts = ", ".join(f"{part} {spent:.2f}" for part, spent in latency["stages"].items())
        figures = (f"{latency[name]:.2f}" for name in ("p50", "p90", "p99"))
        rows.append((stage, *figures, f"{latency['per_second']:.0f}", parts))
    show_rows(("stage", "p50 ms", "p90 ms", "p99 ms", "a second", "median ms by part"), rows, title=title)
    memory = " / ".join(f"{size / 1e6:,.0f}" for size in result["memory"].values())
    say(
        f"import shelfwise {result['import_seconds']:.3f} s, opening {result['open_seconds']:.3f} s; "
        f"MB when opened / with mapped files {memory}"
    )


def show_recall(result: Mapping[str, Any]) -> None:
    """Recall by selectivity of the filter."""
    title = f"{result['vectors']:,} vectors, {result['index']} index"
    rows = []
    for each in result["recall"]:
        spent = (f"{each['milliseconds']:.2f}", f"{each['exact_milliseconds']:.2f}")
        rows.append((f"{each['share']:.2%}", each["allowed"], each["recall"], *spent))
    show_rows(("filter keeps", "products", "recall@100", "ms", "ms of a full scan"), rows, title=title)


def show_throughput(result: Mapping[str, Any]) -> None:
    """Titles analysed per second, then runtimes by speed and similarity to the first."""
    rows = []
    for each in result["runtimes"]:
        spent = (f"{each['query_p50']:.2f}", f"{each['query_p99']:.2f}")
        rows.append((each["runtime"], f"{each['products_per_second']:.0f}", *spent, f"{each['cosine']:.5f}"))
    say(f"{result['titles']:,} titles analysed, {result['terms_per_second']:,.0f} a second on one core")
    show_rows(("runtime", "products a second", "query p50 ms", "p99 ms", "cosine with torch"), rows)


def show_quality(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Methods of merging by judged set, nDCG@10 / R@100, and the mean nDCG@10 over the sets."""
    rows = []
    for label in next(iter(results.values())):
        measured = [each[label] for each in results.values()]
        cells = (f"{values['nDCG@10']:.4f} {values['R@100']:.4f}" for values in measured)
        rows.append((label, *cells, f"{sum(values['nDCG@10'] for values in measured) / len(measured):.4f}"))
    names = (Path(index).name for index in results)
    show_rows(("", *names, "mean nDCG@10"), rows, title="nDCG@10, R@100")


def show_intent(figures: Mapping[str, IntentFigures], cases: int, absent: AbsentFigures, failures: bool) -> None:
    """Stages by P@1 and P@10 with their intervals; types that the store does not sell; optionally the failures of the
    last stage."""
    rows = []
    for stage, found in figures.items():
        cells = (
            text
            for each in (found.first, found.ten)
            for text in (f"{each.mean:.3f}", f"{each.low:.3f}-{each.high:.3f}")
        )
        rows.append((stage, *cells, f"{found.accessories:.3f}"))
    show_rows(("stage", "P@1", "95%", "P@10", "95%", "accessories"), rows, title=f"{cases:,} cases")
    if absent.cases:
        having = f"{absent.with_hits:,} of {absent.cases:,} queries for a kind that the store does not sell have hits"
        say(f"{having}; {absent.unsaid:,} of them do not say that these are only the nearest")
    for failure in list(figures.values())[-1].failures if failures else ():
        say(f"{failure.query}: {failure.precision:.0%}; {' | '.join(title[:50] for title in failure.titles)}")


def show_http(report: HttpReport) -> None:
    """A row for each load."""
    title = f"{report.products:,} products; {report.capacity:.0f} searches a second at most"
    rows = []
    for load in report.loads:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in load.statuses.items())
        refused = "" if load.refused_p99 is None else f"{load.refused_p99:.1f}"
        rows.append(
            (load.kind, f"{load.rate:.0f}", load.requests, statuses, f"{load.p50:.1f}", f"{load.p99:.1f}", refused)
        )
    names = "", "a second", "requests", "answers", "p50 ms", "p99 ms", "refused within, p99 ms"
    show_rows(names, rows, title=title)
