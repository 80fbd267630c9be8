"""What a search shows in a terminal: its hits, what each stage and each thing about them gave, and its facets."""

from __future__ import annotations

from dataclasses import dataclass

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from retrieval.records import Explanation, Facet, Hit, Page, Product
from service.ranking import STAGES
from service.terminal import out, show_notices, shown

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
