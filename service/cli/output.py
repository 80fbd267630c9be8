"""What the commands show in a terminal: progress, tables of hits, facets, reports and entries. The only place that
prints."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from retrieval.records import Explanation, Facet, Hit, Page, Product
from retrieval.store.manifest import QUALITY_PAGE
from service.curation.document_store import Change
from service.engine.candidates import STAGES

if TYPE_CHECKING:
    from indexer.build import RebuildReport
    from indexer.migrate import MoveReport, ReencodeReport


out = Console()
err = Console(stderr=True)


class ProgressLines:
    """Draws a rebuild: a bar while a phase runs, one line of what it did when it is over. Writes to standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<13}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task: TaskID | None = None
        self._phase = ""

    def __enter__(self) -> ProgressLines:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """Starts a bar."""
        self._phase = phase
        self._task = self._progress.add_task(phase, total=total, unit=unit)

    def advance(self, amount: int) -> None:
        """Moves the bar."""
        if self._task is not None:
            self._progress.advance(self._task, amount)

    def end(self, summary: str) -> None:
        """Replaces the bar by a line."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        err.print(f"[green]✓[/] {self._phase:<13} ", Text(summary), sep="")


def show_error(message: str) -> None:
    """One line to standard error."""
    err.print(Text("error: ", style="bold red"), Text(message), sep="", soft_wrap=True)


def show_notices(notices: tuple[str, ...]) -> None:
    """What is wrong although an answer was possible."""
    for notice in notices:
        err.print(Text("warning: ", style="bold yellow"), Text(notice), sep="", soft_wrap=True)


def write_json(encoded: bytes) -> None:
    """One JSON document to standard output, in UTF-8 whatever the terminal speaks."""
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded + b"\n")
    sys.stdout.buffer.flush()


def show_report(report: RebuildReport, index: Path) -> None:
    """The summary of a rebuild."""
    table = Table.grid(padding=(0, 2))
    table.add_row("products", f"{report.products:,} of {report.read:,} rows read")
    if report.changes is not None:
        made = report.changes
        table.add_row("changes", f"+{made.added:,} ~{made.changed:,} -{made.removed:,} since {made.previous_version}")
    if report.live:
        table.add_row("live changes", f"{report.live:,} stand over what the feed says")
    table.add_row("set aside", _counted(report.rejected) or "none")
    if report.noted:
        table.add_row("values dropped", _counted(report.noted))
    if report.cleaned:
        table.add_row("cleaned", _counted(report.cleaned))
    found = ", ".join(f"{count:,} {severity}{'s' if count != 1 else ''}" for severity, count in report.findings.items())
    table.add_row("quality", f"{found or 'no findings'}; see {index / QUALITY_PAGE}")
    table.add_row("encoder", report.encoder)
    table.add_row("vectors", f"{report.encoded:,} encoded, {report.reused:,} reused")
    table.add_row(
        "token states", f"{report.token_states:,}" if report.token_states else "none: this encoder gives none"
    )
    seconds = ", ".join(f"{phase} {spent:.1f}" for phase, spent in report.seconds.items())
    table.add_row("seconds", f"{sum(report.seconds.values()):.1f} ({seconds})")
    table.add_row("size", f"{report.bytes / 1e6:,.1f} MB")
    out.print(table)
    if report.published:
        out.print(f"[bold]{report.version}[/] is published and serves.")
    else:
        out.print(f"Nothing changed since [bold]{report.version}[/], which serves on.")


def show_move(report: MoveReport) -> None:
    """What a move did."""
    where = "in the index directory" if report.backend == "embedded" else "in Elasticsearch"
    if report.published:
        out.print(f"[bold]{report.version}[/] is published and serves: {report.products:,} products, {where}.")
    elif report.restored:
        out.print(f"[bold]{report.version}[/] serves on; what the cluster had lost of it is there again.")
    else:
        out.print(f"[bold]{report.version}[/] serves on: it is {where} already.")


def show_reencoded(report: ReencodeReport) -> None:
    """What encoding by another encoder did."""
    if not report.published:
        out.print(f"[bold]{report.version}[/] serves on: its vectors are by {escape(report.encoder)} already.")
        return
    out.print(
        f"[bold]{report.version}[/] is published and serves: {report.products:,} products by {escape(report.encoder)}, "
        f"{report.encoded:,} texts encoded in {report.seconds:,.0f} s."
    )


def plain_table(*names: str, right: Collection[str] = ()) -> Table:
    """A table without lines, its columns named; those in `right` hold numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left")
    return table


def shown(text: str) -> str:
    """Text from a feed as a terminal may see it: without control characters, which could do anything there."""
    return "".join("\ufffd" if unicodedata.category(character) == "Cc" else character for character in text)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())


_LONGEST_ID = 24
_GAPS = 6
"""Two spaces between each of the four columns."""
_NARROWEST = 20
_LEAST_SHOWN = 0.005
"""Contributions below it would show as 0.00."""


def show_page(page: Page, *, explain: bool, query: str = "") -> None:
    """One page of hits, with what each stage gave them, and what a ranker's scores are made of, where `explain` is
    set; `query` is what was typed."""
    if page.degraded:
        show_notices((f"answered without {', '.join(page.degraded)}",))
    if page.relaxed:
        show_notices(("nothing matches inside the filter; these are the nearest products that it lets through",))
    if page.nothing_fits and page.fit is not None:
        show_notices((f"nothing may fit: the best hit does with a probability of {page.fit:.0%}",))
    if page.suggestion:
        out.print(_meant(page, query))
    if page.redirect:
        out.print(Text(f"A rule redirects this search to {shown(page.redirect)}"))
    if page.rules:
        out.print(Text(f"rules: {shown(', '.join(page.rules))}", style="dim"))
    if page.hits:
        _show_hits(page, explain=explain)
        out.print(f"{page.total:,} products, page {page.page}{_took(page)}", highlight=False)
    elif page.size and page.total:
        out.print(f"No products on page {page.page}; there are {page.total:,}.", highlight=False)
    else:
        out.print(f"{page.total:,} products." if page.total else "No products.", highlight=False)
    for facet in page.facets.values():
        out.print(_facet_line(facet))


def _meant(page: Page, query: str) -> Text:
    meant = (shown(page.suggestion), "bold")
    if page.corrected:
        return Text.assemble("Showing results for ", meant, f"; nothing matches {shown(query)}" if query else "")
    return Text.assemble("Did you mean ", meant, "?")


def price_text(product: Product) -> str:
    """The price as a table shows it."""
    return "" if product.price is None else f"{product.price:,.2f} {product.currency}".strip()


@dataclass(frozen=True, slots=True)
class _Line:
    """A hit as the table shows it."""

    place: str
    hit: Hit
    price: str
    id: Text


@dataclass(frozen=True, slots=True)
class _Widths:
    """Of the table's columns, in cells."""

    place: int
    name: int
    price: int
    id: int


def _show_hits(page: Page, *, explain: bool) -> None:
    lines = _lines(page)
    widths = _widths(lines)
    if not (explain and any(hit.explanation for hit in page.hits)):
        out.print(_table(lines, widths, header=True, explain=explain))
        return
    # What explains a hit takes all of the width right of its place, which a column of the table does not have.
    indent = (0, 0, 0, widths.place + 2)
    for number, line in enumerate(lines):
        out.print(_table([line], widths, header=not number, explain=False))
        out.print(Padding(Text(_stages_line(line.hit), style="dim"), indent))
        if line.hit.explanation:
            out.print(Padding(_explained(line.hit.explanation), indent))


def _lines(page: Page) -> list[_Line]:
    first = (page.page - 1) * page.size + 1
    lines = []
    for place, hit in enumerate(page.hits, first):
        product_id = Text(shown(hit.product.id))
        product_id.truncate(_LONGEST_ID, overflow="ellipsis")
        lines.append(_Line(str(place), hit, price_text(hit.product), product_id))
    return lines


def _widths(lines: list[_Line]) -> _Widths:
    """Only the title is shortened: place, price and id are what a reader needs whole."""
    place = len(lines[-1].place)
    price = max(len("price"), *(len(line.price) for line in lines))
    product_id = max(len("id"), *(line.id.cell_len for line in lines))
    return _Widths(place, max(_NARROWEST, out.width - place - price - product_id - _GAPS), price, product_id)


def _table(lines: list[_Line], widths: _Widths, *, header: bool, explain: bool) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=header)
    described = [_described(line.hit, widths.name, explain=explain) for line in lines]
    table.add_column("#", justify="right", no_wrap=True, min_width=widths.place)
    table.add_column("product", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True, min_width=widths.price)
    table.add_column("id", no_wrap=True, min_width=widths.id)
    for line, text in zip(lines, described, strict=True):
        table.add_row(line.place, text, line.price, line.id)
    return table


def _described(hit: Hit, width: int, *, explain: bool) -> Text:
    """The product's name, and on a second line what each stage gave it, each at most `width` cells wide."""
    name = Text(shown(_name(hit.product)))
    name.truncate(width, overflow="ellipsis")
    if explain:
        stages = Text(_stages_line(hit), style="dim")
        stages.truncate(width, overflow="ellipsis")
        name.append("\n").append_text(stages)
    return name


def _stages_line(hit: Hit) -> str:
    """What each stage gave a hit, with its rank there: "bm25 16.40 #2, dense 0.701 #5, merged 12.37 #1"."""
    parts = ["exact identifier"] if hit.identifier else []
    if hit.rule:
        parts.append(f"rule {shown(hit.rule)}")
    for stage in STAGES:
        given = hit.stages.get(stage)
        if given is not None:
            parts.append(f"{stage} {given.score:.3f}" + (f" #{given.rank}" if given.rank else ""))
    return ", ".join(parts)


def _explained(explanation: Explanation) -> Table:
    """A line for each thing that changes the score, strongest first."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for part in explanation.contributions:
        if abs(part.contribution) >= _LEAST_SHOWN:
            style = "green" if part.contribution > 0 else "red"
            named = Text.assemble((f"{part.contribution:+5.2f}", style), f" {part.name}")
            table.add_row(named, Text(shown(part.value)))
    return table


def _name(product: Product) -> str:
    brand = product.brand
    return product.title if not brand or brand.casefold() in product.title.casefold() else f"{product.title} · {brand}"


def _took(page: Page) -> str:
    """The retrievers work side by side, so the slower one counts."""
    spent = page.timings
    beside = max(spent.get("bm25", 0.0), spent.get("encode", 0.0) + spent.get("dense", 0.0))
    return f", ranked in {beside + spent['merge'] + spent.get('rerank', 0.0):.1f} ms" if spent else ""


def _facet_line(facet: Facet) -> Text:
    values = ", ".join(f"{shown(str(each.value))} ({each.count:,})" for each in facet.counts[:12])
    spread = (
        f"{facet.minimum:g} to {facet.maximum:g}; " if facet.minimum is not None and facet.maximum is not None else ""
    )
    return Text(f"{facet.field}: {spread}{values or 'none'}")


# What the commands for rules and for synonyms show alike: that something was changed, and every change there was.


def show_revision(before: int, after: int, done: str, as_json: bool, *, undo: str = "") -> None:
    """What became of the entries; `undo` is a command that takes the number of a revision."""
    if as_json:
        write_json(msgspec.json.encode({"before": before, "revision": after}))
    elif before == after:
        out.print(f"Nothing is other than it was at revision {after}.", highlight=False)
    else:
        advice = f" To undo: {undo} {before}" if undo else ""
        out.print(f"Revision {after}: {shown(done)}.{advice}", highlight=False, soft_wrap=True, markup=False)


def counted(count: int, one: str) -> str:
    """How many there are of what is called `one`: "1 rule is", "2 rules are"."""
    return f"{count:,} {one} is" if count == 1 else f"{count:,} {one}s are"


def show_history(one: str, changes: Sequence[Change], difference: Callable[[Change], str]) -> None:
    """A line for each change of what is called `one`."""
    if not changes:
        out.print("No changes.")
        return
    table = plain_table("revision", "time", "by", one, "change", right=("revision",))
    for change in changes:
        when, who = f"{change.time:%Y-%m-%d %H:%M:%S}", Text(shown(change.who))
        table.add_row(str(change.revision), when, who, Text(shown(change.id)), Text(shown(difference(change))))
    out.print(table)
