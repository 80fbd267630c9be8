"""`shelfwise suggest`: what a search box would show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.options import IndexArgument, JsonOption

if TYPE_CHECKING:
    from rich.text import Text

    from service.suggesting.suggestions import Spans, Suggestions


def suggest(
    index: IndexArgument,
    text: Annotated[str, typer.Argument(help="What was typed so far; the last word may go on.", metavar="TEXT")],
    size: Annotated[int, typer.Option(help="The most queries; of each other kind half as many.")] = 8,
    related: Annotated[bool, typer.Option("--related", help="Show queries that go with TEXT instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what may be meant by what was typed so far: queries, categories, brands and products."""
    import msgspec

    from service.engine import SearchEngine
    from service.terminal import out, show_notices, shown, write_json

    with SearchEngine.open(index) as engine:
        show_notices(engine.notices)
        if related:
            queries = engine.related(text, size=size)
            write_json(msgspec.json.encode(queries)) if as_json else out.print(
                "\n".join(map(shown, queries)) or "None."
            )
            return
        found = engine.suggest(text, size=size)
    write_json(msgspec.json.encode(found)) if as_json else _show(found)


def _show(found: Suggestions) -> None:
    from rich.table import Table
    from rich.text import Text

    from service.page_view import price_text
    from service.terminal import out, shown

    if not found:
        out.print("No suggestions.")
        return
    if found.corrected:
        out.print(Text.assemble("For ", (shown(found.corrected), "bold"), ": nothing begins as typed."))
    table = Table.grid(padding=(0, 2))
    for query in found.queries:
        table.add_row("query", _marked(query.text, query.spans), query.source.value)
    for category in found.categories:
        table.add_row("category", _marked(category.text, category.spans), f"{category.count:,}")
    for brand in found.brands:
        table.add_row("brand", _marked(brand.name, brand.spans), f"{brand.count:,}")
    for each in found.products:
        table.add_row("product", _marked(each.product.title, each.spans), price_text(each.product))
    out.print(table)


def _marked(text: str, spans: Spans) -> Text:
    from rich.text import Text

    from service.terminal import shown

    marked = Text(shown(text))
    for start, end in spans:
        marked.stylize("bold", start, end)
    return marked


EXAMPLES = ((suggest, 'Example: shelfwise suggest store "cord"'),)
