"""What the commands show in a terminal: progress, tables of hits, facets and reports. The only place that prints."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
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

from retrieval.layout import QUALITY_PAGE
from retrieval.records import Facet, Hit, Page, Product
from service.ranking import STAGES

if TYPE_CHECKING:
    from indexer.build import RebuildReport
    from indexer.moving import MoveReport

out = Console()
err = Console(stderr=True)

_LONGEST_ID = 24
_GAPS = 6
"""Two spaces between each of the four columns."""


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
        table.add_row("changes", f"+{made.added:,} ~{made.changed:,} -{made.removed:,} since {made.before}")
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


def show_page(page: Page, *, explain: bool) -> None:
    """One page of hits, with what each stage gave them where `explain` is set."""
    if page.degraded:
        show_notices((f"answered without {', '.join(page.degraded)}",))
    if page.relaxed:
        show_notices(("nothing matches inside the filter; these are the nearest products that it lets through",))
    if page.hits:
        out.print(_hits_table(page, explain=explain))
        out.print(f"{page.total:,} products, page {page.page}{_took(page)}", highlight=False)
    elif page.size and page.total:
        out.print(f"No products on page {page.page}; there are {page.total:,}.", highlight=False)
    else:
        out.print(f"{page.total:,} products." if page.total else "No products.", highlight=False)
    for facet in page.facets.values():
        out.print(_facet_line(facet))


def _took(page: Page) -> str:
    """The retrievers work side by side, so the slower one counts."""
    spent = page.timings
    beside = max(spent.get("bm25", 0.0), spent.get("encode", 0.0) + spent.get("dense", 0.0))
    return f", ranked in {beside + spent['merge']:.1f} ms" if spent else ""


def _hits_table(page: Page, *, explain: bool) -> Table:
    first = (page.page - 1) * page.size + 1
    places = [str(first + place) for place in range(len(page.hits))]
    prices = [price_text(hit.product) for hit in page.hits]
    ids = [Text(shown(hit.product.id)) for hit in page.hits]
    for each in ids:
        each.truncate(_LONGEST_ID, overflow="ellipsis")
    # Only the title is shortened: place, price and id are what a reader needs whole.
    taken = len(places[-1]) + max(map(len, ["price", *prices])) + max([2, *(each.cell_len for each in ids)])
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("product", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True)
    for place, hit, price, product_id in zip(places, page.hits, prices, ids, strict=True):
        table.add_row(place, _described(hit, max(20, out.width - taken - _GAPS), explain=explain), price, product_id)
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
    for stage in STAGES:
        given = hit.stages.get(stage)
        if given is not None:
            parts.append(f"{stage} {given.score:.3f}" + (f" #{given.rank}" if given.rank else ""))
    return ", ".join(parts)


def _name(product: Product) -> str:
    brand = product.brand
    return product.title if not brand or brand.casefold() in product.title.casefold() else f"{product.title} · {brand}"


def shown(text: str) -> str:
    """Text from a feed as a terminal may see it: without control characters, which could do anything there."""
    return "".join("\ufffd" if unicodedata.category(character) == "Cc" else character for character in text)


def price_text(product: Product) -> str:
    """The price as a table shows it."""
    return "" if product.price is None else f"{product.price:,.2f} {product.currency}".strip()


def _facet_line(facet: Facet) -> Text:
    values = ", ".join(f"{shown(str(each.value))} ({each.count:,})" for each in facet.counts[:12])
    spread = (
        f"{facet.minimum:g} to {facet.maximum:g}; " if facet.minimum is not None and facet.maximum is not None else ""
    )
    return Text(f"{facet.field}: {spread}{values or 'none'}")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())
