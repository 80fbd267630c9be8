"""The event report in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from shelfwise.rerank.evaluation.statistics import Estimate
from shelfwise.retrieval.html_report import NOTHING, day_text, minute_text, plural, printable, share_text
from shelfwise.service.events.report_inputs import RejectSummary, RowExample
from shelfwise.service.reports.event_bots import FraudReport, Suspect
from shelfwise.service.reports.events import EventReport, Funnel, Positions, Traffic


def interval(estimate: Estimate) -> str:
    """The bounds of an interval in percent, or a dash if they are unknown."""
    if estimate.lower is None or estimate.upper is None:
        return NOTHING
    if estimate.lower == estimate.upper:
        return "by definition"
    return f"{share_text(estimate.lower).rstrip('%')} to {share_text(estimate.upper)}"


_FEW = 5
_GAP = 2
_LEAST_ROOM = 20
_EMPTY = """There are no events in this window. Import events with `shelfwise events import LOG...` and update the
tables with `shelfwise events refresh`. Older events need a window that ends earlier."""

_Cell = str | int | float | None
"""Text, count or share; None for an unknown share."""


def show_report(report: EventReport, console: Console) -> None:
    """Prints a report; an empty section is one line."""
    for part in _parts(report, max(80, console.width)):
        console.print(part, highlight=False)


def _parts(report: EventReport, width: int) -> Iterator[RenderableType]:
    yield Text(f"Event report, {day_text(report.first)} to {minute_text(report.last)} UTC", style="bold")
    few = report.least_shoppers
    yield Text(f"Queries and products of fewer than {few} shoppers are not named.", style="dim")
    if report.is_empty:
        yield Text(_EMPTY.replace("\n", " "))
    else:
        yield from _traffic(report.traffic, width)
        yield from _funnel_table(report.funnel, width)
        yield from _positions(report.positions, width)
        yield from _queries(report, width)
        yield from _fraud(report.fraud, report.traffic, width)
    yield from _rejects(report.rejected, width)


def _table(heads: Sequence[str], rows: Iterable[Sequence[_Cell]], width: int) -> Table:
    """A table whose first column is truncated to the width that the other columns leave."""
    texts = [[Text(_cell(cell)) for cell in row] for row in rows]
    _, *others = zip(map(Text, heads), *texts, strict=True)
    room = max(_LEAST_ROOM, width - sum(max(cell.cell_len for cell in column) + _GAP for column in others))
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, _GAP, 0, 0))
    for at, head in enumerate(heads):
        table.add_column(head, justify="right" if at else "left", no_wrap=True)
    for row in texts:
        row[0].truncate(room, overflow="ellipsis")
        table.add_row(*row)
    return table


def _cell(value: _Cell) -> str:
    return printable(value) if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else share_text(value)


def _head(title: str, about: str = "") -> Text:
    head = Text(f"\n{title}", style="bold")
    return head.append(f"  {about}", style="not bold dim") if about else head


def _ranking(
    title: str, about: str, heads: Sequence[str], rows: Iterable[Sequence[_Cell]], nothing: str, width: int
) -> Iterator[RenderableType]:
    """A section with the first few rows, or the line `nothing` if there are none."""
    yield _head(title, about)
    few = list(rows)[:_FEW]
    yield _table(heads, few, width) if few else Text(nothing)


def _traffic(traffic: Traffic, width: int) -> Iterator[RenderableType]:
    whose = f"{plural(traffic.shoppers, 'known shopper')}, {traffic.anonymous_sessions:,} without a shopper id"
    yield Text(f"{traffic.events:,} events from {day_text(traffic.first)} to {day_text(traffic.last)}")
    yield Text(f"{plural(traffic.sessions, 'session')}, {traffic.flagged_sessions:,} flagged; the rest from {whose}")
    yield _table(("events", "used", "in flagged sessions", "rejected"), map(astuple, traffic.kinds), width)


def _funnel_table(funnel: Funnel, width: int) -> Iterator[RenderableType]:
    yield _head("Funnel", "without flagged sessions")
    flows = [steps for steps in (funnel.searches, funnel.pages) if steps[0].answers]
    if not flows:
        yield Text("The log has no searches and no browsed pages.")
    for first, *later in flows:
        rows = [
            ("", first.answers, first.answer_share, "", first.sessions, first.session_share),
            *((s.name, s.answers, s.answer_share, s.answer_rate, s.sessions, s.session_share) for s in later),
        ]
        yield _table(("step", first.name, "of all", "of the step before", "sessions", "of all"), rows, width)
    if funnel.carts_elsewhere or funnel.purchases_elsewhere:
        carts, purchases = plural(funnel.carts_elsewhere, "cart"), plural(funnel.purchases_elsewhere, "purchase")
        yield Text(f"{carts} and {purchases} belong to no answer.", style="dim")


def _positions(positions: Positions, width: int) -> Iterator[RenderableType]:
    yield _head("Clicks by position", "debiased: the click rate divided by the examination")
    if not positions.rows:
        yield Text(f"No position was shown {positions.least_impressions:,} times or more in answers to searches.")
        return
    rows: list[Sequence[_Cell]] = [
        (
            str(row.position),
            row.impressions,
            *(estimate.value for estimate in (row.ctr, row.examination, row.debiased)),
            interval(row.debiased),
        )
        for row in positions.rows[: 2 * _FEW]
    ]
    yield _table(("position", "shown", "click rate", "examination", "debiased", "95%"), rows, width)


def _queries(report: EventReport, width: int) -> Iterator[RenderableType]:
    yield from _ranking(
        "Failing queries",
        "by a lower bound of the failures above the average",
        ("query", "problem", "failed", "searches", "at least", "average"),
        ((row.query, row.problem.value, row.failed, row.searches, row.lower, row.overall) for row in report.failing),
        "No query fails more than the average.",
        width,
    )
    yield from _ranking(
        "Successful reformulations",
        "candidates for synonyms",
        ("from → to", "times", "successful", "bought"),
        ((f"{row.query} → {row.to_query}", row.count, row.share, row.purchased) for row in report.reformulations),
        "No reformulation has enough shoppers.",
        width,
    )


def _fraud(fraud: FraudReport, traffic: Traffic, width: int) -> Iterator[RenderableType]:
    yield _head("Bots and fraud", "all are in the table `sessions`")
    if not fraud.sessions:
        yield Text(f"None of {plural(traffic.sessions, 'session')} is flagged.")
        return
    counted = f"{plural(fraud.sessions, 'session')} of {plural(fraud.shoppers, 'shopper')}"
    yield Text(f"{counted} with {plural(fraud.clicks, 'click')}, {share_text(fraud.click_share)} of all clicks")
    reasons = ((row.reason, row.sessions, row.clicks) for row in fraud.reasons)
    yield _table(("reason", "sessions", "clicks"), reasons, width)
    heads = ("most suspicious", "score", "sessions", "clicks", "from", "to")
    yield _table(heads, map(_suspect, fraud.suspects[:_FEW]), width)


def _suspect(one: Suspect) -> tuple[_Cell, ...]:
    about = ", ".join(each.name for each in one.queries)
    name = f"{one.who}… {about}" if one.who else f"unknown {about}"
    return name, f"{one.score:.2f}", one.sessions, one.clicks, day_text(one.first), day_text(one.last)


def _rejects(rejects: RejectSummary, width: int) -> Iterator[RenderableType]:
    yield _head("Rejected")
    rows = [(f"import: {one.reason}", one.count, _place(one.examples[0])) for one in rejects.rows]
    rows += [(f"cleaning: {one.reason}", one.count, minute_text(one.examples[0].time)) for one in rejects.events]
    yield _table(("reason", "count", "first"), rows, width) if rows else Text("Nothing was rejected.")


def _place(row: RowExample) -> str:
    return f"{row.file.rpartition('/')[2][-24:]}:{row.line}"
