"""The `shelfwise` program: a command group that imports a command's module when it runs or prints its help."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from typer.core import TyperGroup

from shelfwise.retrieval.errors import ShelfwiseError
from shelfwise.retrieval.extras import optional_imports

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter  # typer does not export them


class Entry(NamedTuple):
    """A command: its function as "module:function", and its line of help."""

    target: str
    help: str


class Group(NamedTuple):
    """A group of commands by name, and its line of help."""

    help: str
    commands: Mapping[str, Entry]


COMMANDS: Mapping[str, Entry] = {
    "rebuild": Entry("shelfwise.service.cli.rebuild:rebuild", "Build an index from feeds, and publish it."),
    "search": Entry("shelfwise.service.cli.query:search", "Search an index."),
    "serve": Entry("shelfwise.service.cli.serve:serve", "Serve an index over HTTP."),
    "mcp": Entry("shelfwise.service.cli.serve:mcp", "Let an AI assistant search an index over MCP."),
    "settings": Entry("shelfwise.service.cli.serve:show_settings", "List all settings with their values."),
    "learn": Entry(
        "shelfwise.service.cli.train:learn", "Train all models on shoppers' events, and publish the better ones."
    ),
    "check": Entry("shelfwise.service.cli.rebuild:check", "Report the data quality of feeds."),
    "demo": Entry("shelfwise.service.cli.demo:demo", "Generate a demo store, build its index and search it."),
    "evaluate": Entry("shelfwise.benchmarks.commands:evaluate", "Measure the ranking against judgments."),
}
GROUPS: Mapping[str, Group] = {
    "index": Group(
        "Versions of an index, and changes without a rebuild.",
        {
            "versions": Entry("shelfwise.service.cli.index:versions", "List the versions of an index."),
            "rollback": Entry("shelfwise.service.cli.index:rollback", "Make an earlier version serve again."),
            "prune": Entry("shelfwise.service.cli.index:prune", "Remove old versions."),
            "verify": Entry("shelfwise.service.cli.index:verify", "Verify the integrity of an index."),
            "upsert": Entry("shelfwise.service.cli.index:upsert", "Add or replace products at once."),
            "update": Entry("shelfwise.service.cli.index:update", "Change the fields that a feed has at once."),
            "patch": Entry("shelfwise.service.cli.index:patch", "Change some fields of a product at once."),
            "delete": Entry("shelfwise.service.cli.index:delete", "Remove products at once."),
        },
    ),
    "query": Group(
        "Suggestions, similar and related products, answers.",
        {
            "answer": Entry("shelfwise.service.cli.query:answer", "Answer a question from the store's own texts."),
            "suggest": Entry("shelfwise.service.cli.query:suggest", "Complete what a shopper has typed so far."),
            "similar": Entry("shelfwise.service.cli.query:similar", "Show the products most similar to a product."),
            "related": Entry("shelfwise.service.cli.query:related", "Show complements and substitutes of a product."),
            "picture": Entry("shelfwise.service.cli.query:picture", "Show the products most similar to a picture."),
            "recommend": Entry("shelfwise.service.cli.query:recommend", "Recommend products to a shopper."),
        },
    ),
    "answers": Group(
        "Questions of shoppers.",
        {"unanswered": Entry("shelfwise.service.cli.query:unanswered", "List questions without an answer.")},
    ),
    "curate": Group(
        "Rules, synonyms, campaigns and other documents, by kind.",
        {
            "list": Entry("shelfwise.service.cli.curate:list_documents", "List the documents of a kind."),
            "show": Entry("shelfwise.service.cli.curate:show", "Print a document in the form of put."),
            "put": Entry("shelfwise.service.cli.curate:put", "Add or replace the documents of a file."),
            "delete": Entry("shelfwise.service.cli.curate:delete", "Delete documents."),
            "history": Entry("shelfwise.service.cli.curate:history", "Show who changed what."),
            "restore": Entry("shelfwise.service.cli.curate:restore", "Restore all documents of a revision."),
            "preview": Entry("shelfwise.service.cli.curate:preview", "Preview the effect of a change on a search."),
        },
    ),
    "sponsored": Group(
        "Sponsored placement: the ledger of clicks.",
        {
            "log": Entry("shelfwise.service.cli.curate:show_ledger", "Show the result of each click."),
            "report": Entry(
                "shelfwise.service.cli.curate:report_campaigns", "Report impressions, clicks and charges by day."
            ),
        },
    ),
    "experiments": Group(
        "A/B tests and interleaving of rankings.",
        {
            "plan": Entry(
                "shelfwise.service.cli.experiments:plan", "Estimate an experiment from the log, before it runs."
            ),
            "stop": Entry("shelfwise.service.cli.experiments:stop", "End an experiment."),
            "report": Entry("shelfwise.service.cli.experiments:report", "Report the results of an experiment."),
        },
    ),
    "events": Group(
        "Shoppers' events: import, tables, report, privacy.",
        {
            "import": Entry("shelfwise.service.cli.events:import_logs", "Import event logs."),
            "refresh": Entry("shelfwise.service.cli.events:refresh", "Update the derived tables."),
            "report": Entry("shelfwise.service.cli.events:report", "Report funnel, clicks, queries and fraud."),
            "exposure": Entry("shelfwise.service.cli.events:exposure", "Show how exposure is shared among groups."),
            "export": Entry("shelfwise.service.cli.events:export", "Write all events as Parquet."),
            "forget": Entry("shelfwise.service.cli.events:forget", "Erase all data of a shopper."),
            "rotate-key": Entry("shelfwise.service.cli.events:rotate_key", "Create a new key for pseudonyms."),
            "move": Entry("shelfwise.service.cli.events:move", "Move events to or from the cluster."),
        },
    ),
    "models": Group(
        "Trained rankers and user towers: list, show, roll back.",
        {
            "list": Entry("shelfwise.service.cli.models:list_models", "List the rankers and user towers."),
            "show": Entry("shelfwise.service.cli.models:show", "Show a model and its evaluation."),
            "rollback": Entry("shelfwise.service.cli.models:rollback", "Make an earlier model serve again."),
            "off": Entry("shelfwise.service.cli.models:off", "Switch rankers off."),
            "prune": Entry("shelfwise.service.cli.models:prune", "Create a smaller ranker from a stored one."),
        },
    ),
    "train": Group(
        "Train a ranker, the encoder or a user tower.",
        {
            "ranker": Entry("shelfwise.service.cli.train:ranker", "Train the ranker on clicks or on the catalog."),
            "towers": Entry("shelfwise.service.cli.train:towers", "Fine-tune the encoder on judgments or clicks."),
            "users": Entry("shelfwise.service.cli.train:users", "Train the user tower for recommendations."),
            "expansions": Entry(
                "shelfwise.service.cli.train:expansions", "Learn which product words match which query words."
            ),
        },
    ),
    "keys": Group(
        "API keys of the HTTP service.",
        {
            "create": Entry("shelfwise.service.cli.serve:create_key", "Create a key and print it once."),
            "list": Entry("shelfwise.service.cli.serve:list_keys", "List the keys with their scopes."),
            "withdraw": Entry("shelfwise.service.cli.serve:withdraw_key", "Withdraw a key."),
            "narrow": Entry("shelfwise.service.cli.serve:narrow", "Derive a narrower key from a key."),
        },
    ),
    "bench": Group(
        "Benchmarks on your own index.",
        {
            "latency": Entry("shelfwise.benchmarks.commands:latency", "Latency and throughput of searches."),
            "recall": Entry("shelfwise.benchmarks.commands:recall", "Recall of the vector index against a full scan."),
            "intent": Entry(
                "shelfwise.benchmarks.commands:intent", "Whether queries that name a kind of product find it."
            ),
            "throughput": Entry(
                "shelfwise.benchmarks.commands:throughput", "Text analysis and all runtimes of the encoder."
            ),
            "http": Entry("shelfwise.benchmarks.commands:http", "The HTTP service at a fixed rate and overloaded."),
        },
    ),
}
_HELP = {"help_option_names": ["-h", "--help"]}


def load_command(name: str, entry: Entry) -> Command:
    """Imports a command's module, and creates the command from its function."""
    module, _, function = entry.target.partition(":")
    run = getattr(import_module(module), function)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, epilog=f"Example: shelfwise {run.example}", context_settings=_HELP)(run)
    return typer.main.get_command(app)


class LazyGroup(TyperGroup):
    """A group that takes its help from the tables above, and imports its commands one at a time."""

    entries: Mapping[str, Entry | Group] = {**COMMANDS, **GROUPS}

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(self.entries)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        if isinstance(entry, Group):
            group = LazyGroup(
                name=cmd_name, help=entry.help, no_args_is_help=True, rich_markup_mode=None, context_settings=_HELP
            )
            group.entries = entry.commands
            return group
        return load_command(cmd_name, entry)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        self.commands = dict.fromkeys(self.entries)  # type: ignore[assignment]  # typer suggests similar names of them
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        path = ctx.command_path
        formatter.write(f"{self.help} Usage: {path} COMMAND [ARGS]...\n")
        for title, kind in ((f"Commands (help on one: {path} COMMAND -h)", Entry), ("Groups", Group)):
            rows = [(name, entry.help) for name, entry in self.entries.items() if isinstance(entry, kind)]
            if rows:
                formatter.write_heading(title)
                with formatter.indentation():
                    formatter.write_dl(rows)


app = typer.Typer(
    name="shelfwise",
    cls=LazyGroup,
    help="Product search for web stores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_HELP,
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"shelfwise {version('shelfwise')}")
        raise typer.Exit


def _show_all_help(context: typer.Context, chosen: bool) -> None:
    if chosen:
        _show_help(context.command, context)
        raise typer.Exit


def _show_help(command: Command, context: Context) -> None:
    typer.echo(command.get_help(context) + "\n")
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            if each := command.get_command(context, name):
                _show_help(each, type(context)(each, info_name=name, parent=context))


@app.callback()  # it also makes typer create a group for an app without commands of its own
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    help_all: Annotated[
        bool, typer.Option("--help-all", callback=_show_all_help, is_eager=True, help="Print the help of all commands.")
    ] = False,
) -> None:
    """Product search for web stores."""


def main() -> None:
    """Runs the program. Exit codes: 0 success, 1 refusal or failure, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal cannot show is escaped, so that a title cannot make a command fail.
            stream.reconfigure(errors="backslashreplace")
    run(app)


def run(program: typer.Typer) -> None:
    """Runs an app. An error of the program, or a library of an extra that is not installed, is printed in one line,
    and the exit code is 1."""
    try:
        with optional_imports():
            program()
    except (ShelfwiseError, OSError) as error:
        from shelfwise.service.cli.output import show_error

        show_error(str(error))
        sys.exit(1)
