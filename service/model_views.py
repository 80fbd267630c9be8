"""What the commands for rankers show in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from rerank.gate.verdict import NDCG, Comparison, Verdict
from rerank.ranker.ranker_list import RankerEntry, RankerList
from rerank.ranker.registry import Added, Published, RolledBack
from rerank.ranker.shipped import DEFAULT_RANKER
from rerank.ranker.spec import RankerReport, RankerSpec
from service.model_comparison import ComparedRankers
from service.terminal import out, show_notices, shown
from service.versions_view import size_text

if TYPE_CHECKING:
    from service.training.shrinking import Shrunk

_RIGHT = {"size", "before", "after", "difference", "served", "challenger", "queries", "graph", "100 candidates", NDCG}


def show_rankers(listed: RankerList, index: Path) -> None:
    """A table, newest first: the one that serves has a mark; why others do not is said below."""
    if listed.serving == DEFAULT_RANKER:
        out.print(Text(f"{DEFAULT_RANKER}, the ranker that comes with the program, serves."), soft_wrap=True)
    if listed.rankers:
        table = _table("", "ranker", "made", "kind", NDCG, "verdict", "size")
        for entry in reversed(listed.rankers):
            table.add_row(*_row(entry))
        out.print(table)
    else:
        how = f"To train one: shelfwise train ranker --index {index}"
        out.print(Text(f"No ranker of its own yet. {how}"), soft_wrap=True)
    for entry in reversed(listed.rankers):
        if entry.problem:
            out.print(Text(f"{entry.name} cannot be used: {shown(entry.problem)}", style="red"), soft_wrap=True)
        elif entry.report and entry.report.aside:
            first, *more = entry.report.aside
            others = f"; {len(more)} more: shelfwise models show {entry.name} --index {index}" if more else ""
            out.print(Text(f"{entry.name} was kept aside: {shown(first)}{others}"), soft_wrap=True)
        elif entry.misfit:
            out.print(Text(f"{entry.name} is for another index: {shown(entry.misfit)}"), soft_wrap=True)
    show_notices(tuple(map(shown, listed.notices)))
    if listed.is_off:
        cure = f"; to let one serve: shelfwise models rollback --index {index}" if listed.rankers else ""
        out.print(Text(f"Rankers are switched off: results keep the merged order{cure}"), soft_wrap=True)
    elif listed.rankers and not listed.serving:
        out.print("None serves: results keep the merged order.")


def _row(entry: RankerEntry) -> tuple[str | Text, ...]:
    mark = Text("▶", style="bold green") if entry.serves else ""
    if entry.spec is None or entry.report is None:
        return mark, entry.name, "", "", "", Text("unusable", style="red"), size_text(entry.bytes)
    verdict = Text("kept aside", style="yellow") if entry.is_aside else "published"
    reached = _number(entry.report.measures.get(NDCG))
    return mark, entry.name, moment(entry.report.created), _kind(entry.spec), reached, verdict, size_text(entry.bytes)


def show_ranker(made: Published) -> None:
    """What a ranker is, then how it was judged."""
    spec, report = made.spec, made.report
    table = Table.grid(padding=(0, 2))
    rows = {
        "ranker": f"{made.name}, made {moment(report.created)}",
        "identity": spec.identity + (f", trained on from {spec.parent}" if spec.parent else ""),
        "kind": _kind(spec),
        "encoder": f"{spec.encoder}, states of dimension {spec.state_dimension}",
        "features": ", ".join(spec.features),
        "score": f"network + {spec.mix:g} of the merged score",
        "events": "click {:g}, cart {:g}, purchase {:g}".format(*spec.event_weights),
        "fits": "with the probability sigmoid({:g} × score {:+g})".format(*spec.calibration),
        "trained on": ", ".join(f"{name} {value}" for name, value in spec.trained_on.items()),
        "measured on": report.measured_on,
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(shown(value)))
    for name, reached in report.measures.items():
        table.add_row(Text(shown(name)), _number(reached))
    out.print(table)
    _show_reasons(report)
    if report.verdict is not None:
        _show_comparisons(report.verdict)


def _show_reasons(report: RankerReport) -> None:
    """Why it was published or kept aside, one reason a line."""
    reasons = report.aside or (report.verdict.reasons if report.verdict else ())
    if not reasons:
        return
    against = f" against {shown(report.against)}" if report.against else ""
    out.print()
    out.print(Text(f"kept aside{against}" if report.aside else f"published{against}", style="bold"), soft_wrap=True)
    for reason in reasons:
        out.print(Text(f"  {shown(reason)}", style="yellow" if report.aside else "green"), soft_wrap=True)


def _show_comparisons(verdict: Verdict) -> None:
    out.print()
    table = _table("measure", "on", "queries", "served", "challenger", "difference")
    for each in verdict.comparisons:
        style = "green" if each.is_better else "red" if each.is_worse else ""
        numbers = f"{each.queries:,}", _number(each.served), _number(each.challenger)
        table.add_row(each.measure, Text(shown(each.slice)), *numbers, Text(_interval(each), style=style))
    out.print(table)


def _interval(each: Comparison) -> str:
    found = each.difference
    return "too few to tell" if found is None else f"{found.mean:+z.4f} ({found.low:+z.4f} to {found.high:+z.4f})"


def show_trained(added: Added, index: Path) -> None:
    """What a training gave, and whether it serves."""
    made = added.ranker
    show_ranker(made)
    if added.serves:
        out.print(f"\n[bold]{made.name}[/] serves.", highlight=False)
        if made.report.against.startswith("ranker-"):
            undo = f"{made.report.against} is kept; to go back to it: shelfwise models rollback --index {index}"
            out.print(Text(undo), soft_wrap=True)
    elif made.report.aside:
        out.print(f"\n[bold]{made.name}[/] is kept aside, and {made.report.against} serves on.", highlight=False)
    if added.removed:
        out.print(Text(f"Removed, being the oldest: {', '.join(added.removed)}"), soft_wrap=True)
    show_notices(added.notices)


def show_default(report: RankerReport, folder: Path) -> None:
    """What a ranker for stores without one reaches on each catalog that it was left out of."""
    table = _table("measure", NDCG)
    for name, value in report.measures.items():
        table.add_row(Text(name), f"{value:.4f}")
    out.print(table)
    out.print(Text(f"Written to {folder}: measured on {report.measured_on}"), soft_wrap=True)


def show_shrunk(done: Shrunk, index: Path) -> None:
    """What a smaller ranker takes and how far it agrees with the one that it was made of, and whether it serves."""
    made, before = done.added.ranker, done.added.ranker.report.against
    table = _table("", "graph", "100 candidates")
    for name, size in ((before, done.before), (made.name, done.after)):
        table.add_row(name, size_text(size.bytes), f"{size.milliseconds:.2f} ms")
    out.print(table)
    alike = done.likeness
    out.print(
        f"On {alike.queries:,} synthetic queries: agreement {alike.agreement:.4f} (nDCG@10 by the scores of {before}), "
        f"{alike.first_ten:.1%} of its first ten stay.",
        highlight=False,
        soft_wrap=True,
    )
    if done.added.serves:
        undo = f"{before} is kept; to go back to it: shelfwise models rollback {before} --index {index}"
        out.print(Text(f"{made.name} serves. {undo}"), soft_wrap=True)
    elif made.report.aside:
        again = "to let one serve: the same command with --publish"
        out.print(Text(f"{made.name} is kept aside; {again}"), soft_wrap=True)
    if done.added.removed:
        out.print(Text(f"Removed, being the oldest: {', '.join(done.added.removed)}"), soft_wrap=True)
    show_notices(done.added.notices)


def show_comparison(compared: ComparedRankers) -> None:
    """Measures side by side, then what the two differ in."""
    out.print(f"[bold]{compared.before}[/] → [bold]{compared.after}[/]", highlight=False)
    table = _table("measure", "before", "after", "difference")
    for each in compared.measures:
        moved = "" if each.difference is None else f"{each.difference:+z.4f}"
        table.add_row(Text(shown(each.measure)), _number(each.before), _number(each.after), moved)
    out.print(table if compared.measures else "Neither was measured.")
    for name, (before, after) in compared.settings.items():
        out.print(Text(shown(f"{name.replace('_', ' ')}: {before} → {after}")), soft_wrap=True)
    if compared.measures and not compared.same_data:
        show_notices(("they were measured on different held-out data, so the differences tell of the data too",))


def show_model_rollback(done: RolledBack, index: Path) -> None:
    """What serves now, and how to undo it."""
    show_notices(done.passed_over)
    show_gone_back(done.ranker.name, done.before, done.ranker.report.created, index)


def show_gone_back(name: str, before: str, created: str, index: Path) -> None:
    """That a model, made at `created`, serves in the place of the one `before`, if there was one."""
    if name == before:
        out.print(f"[bold]{name}[/] serves already.", highlight=False)
        return
    out.print(f"[bold]{name}[/] serves: made {moment(created)}.", highlight=False)
    if before:
        undo = f"{before} is kept; to go back to it: shelfwise models rollback {before} --index {index}"
        out.print(Text(undo), soft_wrap=True)


def show_off(before: str, index: Path) -> None:
    """What served, and how to undo it."""
    out.print("No ranker serves: results keep the merged order.")
    if before:
        undo = f"{before} is kept; to let it serve again: shelfwise models rollback {before} --index {index}"
        out.print(Text(undo), soft_wrap=True)


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True)
    return table


def _kind(spec: RankerSpec) -> str:
    layers = f"{spec.layers} attention layer{'s' if spec.layers > 1 else ''}" if spec.layers else "features head"
    return f"{layers}, {spec.precision}"


def moment(created: str) -> str:
    """A time of a report, as people read it."""
    return shown(created.replace("T", " ")[:16])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
