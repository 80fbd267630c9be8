"""The report in a terminal of 80 columns or more: the numbers, and the first few rows of each table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from service.event_report.fraud import FraudFound, Suspect
from service.event_report.funnel import Funnel
from service.event_report.positions import Positions
from service.event_report.products import ProductRow, Products
from service.event_report.queries import Queries
from service.event_report.report import EventReport
from service.event_report.set_aside import SetAside
from service.event_report.texts import day, interval, minute, number, plural, share, times
from service.event_report.traffic import Traffic
from service.terminal import out, shown

_FEW = 5
_GAP = 2
_LEAST_ROOM = 20

_EMPTY = """There is no event in this window. Take some in with `shelfwise events import LOG...`, make the tables with
`shelfwise events refresh`, and look again. Events that are older than the window need one that ends earlier."""


def show_report(report: EventReport, console: Console = out) -> None:
    """Prints a report; where a section has nothing, it says so in a line."""
    for part in _parts(report, max(80, console.width)):
        console.print(part, highlight=False)


def _parts(report: EventReport, width: int) -> Iterator[RenderableType]:
    yield Text(f"What shoppers did, {day(report.first)} to {minute(report.last)} UTC", style="bold")
    few = report.least_shoppers
    yield Text(f"Queries and products of fewer than {few} shoppers are not named.", style="dim")
    if report.is_empty:
        yield Text(_EMPTY.replace("\n", " "))
    else:
        yield from _traffic(report.traffic, width)
        yield from _funnel(report.funnel, width)
        yield from _positions(report.positions, width)
        yield from _queries(report.queries, width)
        yield from _products(report.products, width)
        yield from _fraud(report.fraud, report.traffic, width)
    yield from _aside(report.aside, width)


@dataclass(frozen=True, slots=True)
class _Grid:
    """A table whose first column takes the room that the others leave: it is shortened, they are not."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    width: int

    def table(self) -> Table:
        cells = [self.heads, *self.rows]
        taken = sum(max(Text(row[at]).cell_len for row in cells) + _GAP for at in range(1, len(self.heads)))
        room = max(_LEAST_ROOM, self.width - taken)
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, _GAP, 0, 0))
        table.add_column(self.heads[0], no_wrap=True)
        for head in self.heads[1:]:
            table.add_column(head, justify="right", no_wrap=True)
        for first, *others in self.rows:
            table.add_row(_fitted(first, room), *(Text(shown(each)) for each in others))
        return table


def _fitted(text: str, room: int) -> Text:
    fitted = Text(shown(text))
    fitted.truncate(room, overflow="ellipsis")
    return fitted


def _head(title: str, about: str = "") -> Text:
    head = Text(f"\n{title}", style="bold")
    return head.append(f"  {about}", style="not bold dim") if about else head


def _traffic(traffic: Traffic, width: int) -> Iterator[RenderableType]:
    whose = f"{plural(traffic.shoppers, 'known shopper')}, {traffic.anonymous_visits:,} of nobody known"
    yield Text(f"{traffic.events:,} events from {day(traffic.first)} to {day(traffic.last)}")
    yield Text(f"{plural(traffic.visits, 'visit')}, {traffic.flagged_visits:,} flagged; the others of {whose}")
    rows = [(one.kind, f"{one.honest:,}", f"{one.flagged:,}", f"{one.aside:,}") for one in traffic.kinds]
    yield _Grid(("events", "learned from", "in flagged visits", "set aside"), rows, width).table()


def _funnel(funnel: Funnel, width: int) -> Iterator[RenderableType]:
    yield _head("Funnel", "without flagged visits")
    flows = [steps for steps in (funnel.searches, funnel.pages) if steps[0].answers]
    if not flows:
        yield Text("The log tells of no searches and of no pages that were browsed.")
    for steps in flows:
        rows = [
            (
                "" if step is steps[0] else step.name,
                f"{step.answers:,}",
                share(step.answer_share),
                "" if step is steps[0] else share(step.answer_rate),
                f"{step.visits:,}",
                share(step.visit_share),
            )
            for step in steps
        ]
        yield _Grid(("step", steps[0].name, "of all", "of the step before", "visits", "of all"), rows, width).table()
    if funnel.carts_elsewhere or funnel.purchases_elsewhere:
        carts, purchases = plural(funnel.carts_elsewhere, "cart"), plural(funnel.purchases_elsewhere, "purchase")
        yield Text(f"{carts} and {purchases} came of no answer.", style="dim")


def _positions(positions: Positions, width: int) -> Iterator[RenderableType]:
    yield _head("Clicks by position", "once looked at: the click rate by how often it is looked at")
    if not positions.rows:
        yield Text(f"No position was shown {positions.least_impressions:,} times or more in answers to searches.")
        return
    rows = [
        (
            str(row.position),
            f"{row.impressions:,}",
            share(row.ctr.value),
            share(row.examination.value),
            share(row.debiased.value),
            interval(row.debiased),
        )
        for row in positions.rows[: 2 * _FEW]
    ]
    yield _Grid(("position", "shown", "click rate", "looked at", "once looked at", "95%"), rows, width).table()


def _queries(queries: Queries, width: int) -> Iterator[RenderableType]:
    yield _head("Top queries", f"{queries.count:,} with enough shoppers")
    yield from _rows(
        ("query", "searches", "clicked", "click rate", "purchases"),
        (
            (row.query, f"{row.searches:,}", share(row.clicked_share), share(row.ctr), f"{row.purchases:,}")
            for row in queries.top
        ),
        width,
        "No query has enough shoppers.",
    )
    yield _head("Failing queries", "by searches that failed beyond what is usual, at least")
    yield from _rows(
        ("query", "problem", "failed", "searches", "at least", "usual"),
        (
            (row.query, row.problem.value, f"{row.failed:,}", f"{row.searches:,}", share(row.lower), share(row.usual))
            for row in queries.failing
        ),
        width,
        "No query fails more than is usual.",
    )
    yield _head("Rising queries", "the recent rate by the usual one")
    yield from _rows(
        ("query", "trend", "searches", "shoppers"),
        ((row.query, times(row.times), f"{row.searches:,}", f"{row.shoppers:,}") for row in queries.rising),
        width,
        "No query rises.",
    )
    yield _head("Searched instead, and it ended well", "they may be synonyms")
    yield from _rows(
        ("from → to", "times", "ended well", "bought"),
        (
            (f"{row.query} → {row.to_query}", f"{row.count:,}", share(row.share), f"{row.purchased:,}")
            for row in queries.reformulations
        ),
        width,
        "No two queries were searched so by enough shoppers.",
    )


def _products(products: Products, width: int) -> Iterator[RenderableType]:
    titles = {
        "Popular products": (products.top, "No product has enough shoppers."),
        "Rising products": (products.rising, "No product rises."),
    }
    for title, (rows, nothing) in titles.items():
        yield _head(title)
        heads = ("product", "score", "trend", "clicks", "carts", "purchases")
        yield from _rows(heads, map(_product, rows), width, nothing)


def _product(row: ProductRow) -> tuple[str, ...]:
    name = f"{row.product_id} {row.title or row.category}".rstrip()
    counts = (f"{count:,}" for count in (row.clicks, row.carts, row.purchases))
    return name, number(row.score), times(row.times), *counts


def _fraud(fraud: FraudFound, traffic: Traffic, width: int) -> Iterator[RenderableType]:
    yield _head("Robots and fraud", "nothing is deleted: all are in the table of visits")
    if not fraud.visits:
        yield Text(f"None of {plural(traffic.visits, 'visit')} is called a robot's or fraud.")
        return
    counted = f"{plural(fraud.visits, 'visit')} of {plural(fraud.shoppers, 'shopper')}"
    yield Text(f"{counted} with {plural(fraud.clicks, 'click')}, {share(fraud.click_share)} of all clicks")
    reasons = [(row.reason, f"{row.visits:,}", f"{row.clicks:,}") for row in fraud.reasons]
    yield _Grid(("reason", "visits", "clicks"), reasons, width).table()
    heads = ("most suspicious", "score", "visits", "clicks", "from", "to")
    yield _Grid(heads, [_suspect(one) for one in fraud.suspects[:_FEW]], width).table()


def _suspect(one: Suspect) -> tuple[str, ...]:
    about = ", ".join(each.name for each in one.queries)
    name = f"{one.who}… {about}" if one.who else f"nobody known {about}"
    return name, f"{one.score:.2f}", f"{one.visits:,}", f"{one.clicks:,}", day(one.first), day(one.last)


def _aside(aside: SetAside, width: int) -> Iterator[RenderableType]:
    yield _head("Set aside")
    rows = [
        *(
            (f"import: {one.reason}", f"{one.count:,}", _place(one.examples[0].file, one.examples[0].line))
            for one in aside.rows
        ),
        *((f"cleaning: {one.reason}", f"{one.count:,}", minute(one.examples[0].time)) for one in aside.events),
    ]
    if rows:
        yield _Grid(("reason", "count", "first"), rows, width).table()
    else:
        yield Text("Nothing was set aside.")


def _place(file: str, line: int) -> str:
    return f"{file.rpartition('/')[2][-24:]}:{line}"


def _rows(
    heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], width: int, nothing: str
) -> Iterator[RenderableType]:
    """The first few rows, or a line that says that there are none."""
    few = list(rows)[:_FEW]
    yield _Grid(heads, few, width).table() if few else Text(nothing)
