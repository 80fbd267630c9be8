"""The `shelfwise` program: its commands, from modules of their own, and those that other parts add to it."""

from __future__ import annotations

import io
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import ShelfwiseError
from service.cli import feeds, training, versions
from service.cli import serve as serve_commands
from service.cli.events import events
from service.cli.experiments import experiments
from service.cli.models import models
from service.cli.options import IndexArgument, JsonOption, SettingsOption, add_commands, cache_folder
from service.cli.rules import rules
from service.cli.synonyms import synonyms
from service.cli.training import train

if TYPE_CHECKING:
    from rich.text import Text

    from service.engine.spelling import Spans, Suggestions


# `shelfwise suggest`: what a search box would show.


def suggest(
    index: IndexArgument,
    text: Annotated[str, typer.Argument(help="What was typed so far; the last word may go on.", metavar="TEXT")],
    size: Annotated[int, typer.Option(help="The most queries; of each other kind half as many.")] = 8,
    related: Annotated[bool, typer.Option("--related", help="Show queries that go with TEXT instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what may be meant by what was typed so far: queries, categories, brands and products."""
    import msgspec

    from service.cli.output import out, show_notices, shown, write_json
    from service.engine.engine import SearchEngine

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

    from service.cli.output import out, price_text, shown

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

    from service.cli.output import shown

    marked = Text(shown(text))
    for start, end in spans:
        marked.stylize("bold", start, end)
    return marked


EXAMPLES = ((suggest, 'Example: shelfwise suggest store "cord"'),)


app = typer.Typer(
    name="shelfwise",
    help="Product search for web stores: rebuild an index from a catalog, search it, measure it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


add_commands(app, feeds.EXAMPLES)


@cache
def program() -> typer.Typer:
    """The commands here, and those that other parts add."""
    for extra in entry_points(group="shelfwise.commands"):
        command = extra.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=extra.name)
        else:
            app.command(name=extra.name)(command)
    return app


def main() -> None:
    """Runs the program. Exit codes: 0 done, 1 refused or failed, 2 misuse."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows its escape; a title is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        program()()
    except (ShelfwiseError, OSError) as error:
        from service.cli.output import show_error

        show_error(str(error))
        sys.exit(1)


@app.command(epilog='Example: shelfwise search store "cordless drill" --filter "price < 100" --facet brand --explain')
def search(
    index: IndexArgument,
    query: Annotated[str, typer.Argument(help="What a shopper would type; '' browses everything.", metavar="QUERY")],
    filters: Annotated[
        str, typer.Option("--filter", help='For example: price < 100 AND brand IN (Bosch, "Max Pro")')
    ] = "",
    facets: Annotated[list[str] | None, typer.Option("--facet", help="A field to count values of. Repeatable.")] = None,
    sort: Annotated[str, typer.Option(help="A numeric field; -price for descending.")] = "",
    stage: Annotated[str, typer.Option(help="bm25, dense, merged or ranked.")] = "ranked",
    size: Annotated[int, typer.Option(help="Hits on a page.")] = 10,
    page: Annotated[int, typer.Option(help="Which page, from 1.")] = 1,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show what each stage gave each hit, and what the ranker's score is made of."),
    ] = False,
    history: Annotated[
        str,
        typer.Option(
            help="What this shopper did before, oldest first: ids of products, with :consultation, :cart or :purchase "
            "where it was no click. For example: 3920564,1187:cart"
        ),
    ] = "",
    no_correct: Annotated[
        bool, typer.Option("--no-correct", help="Search for the words as they are, though one may be misspelled.")
    ] = False,
    no_rules: Annotated[bool, typer.Option("--no-rules", help="As if the store had no merchandising rules.")] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search an index and show the hits."""
    import msgspec

    from service.cli.output import show_notices, show_page, write_json
    from service.engine.engine import SearchEngine
    from service.engine.request import parse_history
    from service.engine.reranking import UNREAD, unknown_products_warning
    from service.settings import load_settings

    past = parse_history(history)
    with SearchEngine.open(index, settings=load_settings(settings)) as engine:
        unread = unknown_products_warning(engine.snapshot, past) if engine.reads_history or not past else (UNREAD,)
        show_notices((*engine.notices, *unread))
        found = engine.search(
            query,
            size=size,
            page=page,
            filters=filters,
            facets=facets or (),
            sort=sort,
            stage=stage,
            explain=explain,
            history=past,
            correct=not no_correct,
            rules=not no_rules,
        )
    write_json(msgspec.json.encode(found)) if as_json else show_page(found, explain=explain, query=query)


@app.command(epilog="Example: shelfwise similar store 3920564")
def similar(
    index: IndexArgument,
    product: Annotated[str, typer.Argument(help="A product's id.", metavar="PRODUCT")],
    filters: Annotated[str, typer.Option("--filter", help="Only products that this expression lets through.")] = "",
    size: Annotated[int, typer.Option(help="How many.")] = 10,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the products most like one: by their texts, and by which ones the same shoppers looked at."""
    import msgspec

    from service.cli.output import show_notices, show_page, write_json
    from service.engine.engine import SearchEngine
    from service.settings import load_settings

    with SearchEngine.open(index, settings=load_settings(settings)) as engine:
        show_notices(engine.notices)
        found = engine.similar(product, size=size, filters=filters)
    write_json(msgspec.json.encode(found)) if as_json else show_page(found, explain=False)


@app.command(epilog="Example: shelfwise recommend store --history 3920564,1187:cart")
def recommend(
    index: IndexArgument,
    history: Annotated[
        str, typer.Option(help="What a shopper did, oldest first, as in shelfwise search; by default nothing.")
    ] = "",
    filters: Annotated[str, typer.Option("--filter", help="Only products that this expression lets through.")] = "",
    size: Annotated[int, typer.Option(help="How many.")] = 10,
    include_seen: Annotated[
        bool | None,
        typer.Option("--include-seen/--hide-seen", help="Products of the history; by default as recommend.seen says."),
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what to show next to a shopper: what follows from the last products, or what most choose."""
    import msgspec

    from service.cli.output import show_notices, show_page, write_json
    from service.engine.engine import SearchEngine
    from service.engine.request import parse_history
    from service.engine.reranking import unknown_products_warning
    from service.settings import load_settings

    past = parse_history(history)
    with SearchEngine.open(index, settings=load_settings(settings)) as engine:
        show_notices((*engine.notices, *unknown_products_warning(engine.snapshot, past)))
        found = engine.recommend(past, size=size, filters=filters, include_seen=include_seen)
    write_json(msgspec.json.encode(found)) if as_json else show_page(found, explain=False)


@app.command(epilog="Example: shelfwise demo --folder demo-store")
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo store is written.")] = Path("demo-store"),
    products: Annotated[int, typer.Option(help="How many products to invent.", min=100, max=1_000_000)] = 2_000,
    seed: Annotated[int, typer.Option(help="Another seed makes another store.")] = 7,
    sessions: Annotated[
        int, typer.Option(help="How many visits of shoppers to invent, of some 25 events each.", min=0, max=1_000_000)
    ] = 3_000,
    serve: Annotated[bool, typer.Option("--serve", help="Then serve it, with a store page in the browser.")] = False,
) -> None:
    """Make a small lifelike store, English and Chinese, build its index and search it."""
    from service.cli.demo import show_demo

    show_demo(folder, products=products, seed=seed, sessions=sessions, cache=cache_folder())
    if serve:
        serve_commands.serve(folder / "index")


add_commands(app, feeds.CHANGE_EXAMPLES)
add_commands(app, versions.EXAMPLES)
add_commands(app, training.LEARN_EXAMPLES)
add_commands(app, EXAMPLES)
add_commands(app, serve_commands.EXAMPLES)
app.add_typer(events)
app.add_typer(experiments)
app.add_typer(models)
app.add_typer(rules)
app.add_typer(serve_commands.keys)
app.add_typer(synonyms)
app.add_typer(train)
