"""The commands for synonyms: `shelfwise synonyms list, put, delete, history, import, export, proposals, accept,
decline`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import ByOption, IndexOption, JsonOption, opened_engine
from service.curation.synonym_mining import Example, Proposal
from service.curation.synonyms import Synonym, SynonymChange

if TYPE_CHECKING:
    from service.curation.synonyms import SynonymStore


synonyms = typer.Typer(
    name="synonyms",
    help="Words that find each other, kept beside the index; and proposals for them from what shoppers did.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

ProposalArgument = Annotated[str, typer.Argument(help="A proposal's id, as proposals shows it.", metavar="PROPOSAL")]


@synonyms.command("list", epilog="Example: shelfwise synonyms list --index store")
def list_synonyms(index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """List the synonyms of an index; those that its version was built with are in a file of the version."""
    import msgspec

    from service.cli.output import write_json

    stored = _store(index).read()
    write_json(msgspec.json.encode(stored)) if as_json else show_synonyms(stored.synonyms)


@synonyms.command(epilog='Example: shelfwise synonyms put "sofa, couch, settee" --by m7 --index store')
def put(
    line: Annotated[
        str,
        typer.Argument(help='"sofa, couch": each finds the other. "hdd => hard disk": the left finds the right.'),
    ],
    synonym_id: Annotated[str, typer.Option("--id", help="Its id; by default it is made of the words.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Keep it without searching by it.")] = False,
    by: ByOption = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Add a synonym, or replace the one with the same id. Engines take it up at once."""
    from dataclasses import replace

    from service.curation.synonyms import parse_line

    made = parse_line(line)
    _put(index, [replace(made, id=synonym_id or made.id, enabled=not off)], by, as_json)


@synonyms.command(epilog="Example: shelfwise synonyms delete sofa-couch-settee --by m7 --index store")
def delete(
    ids: Annotated[list[str], typer.Argument(help="Ids of synonyms.", metavar="SYNONYM...")],
    by: ByOption = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Take synonyms away; they stay in the history."""
    from service.cli.output import counted, show_revision

    store = _store(index)
    before = store.revision()
    show_revision(before, store.delete(ids, who=by), f"{counted(len(set(ids)), 'synonym')} gone", as_json)


@synonyms.command(epilog="Example: shelfwise synonyms history sofa-couch --limit 5 --index store")
def history(
    synonym: Annotated[str, typer.Argument(help="By default the changes of all.", metavar="[SYNONYM]")] = "",
    limit: Annotated[int, typer.Option(help="How many changes.", min=1)] = 20,
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Show who changed what, newest first."""
    import msgspec

    from service.cli.output import show_history, write_json

    changes = _store(index).history(synonym or None, limit)
    write_json(msgspec.json.encode(changes)) if as_json else show_history("synonym", changes, difference)


@synonyms.command("import", epilog="Example: shelfwise synonyms import synonyms.txt --by m7 --index store")
def import_lines(
    file: Annotated[Path, typer.Argument(help="As shelfwise rebuild --synonyms reads it.", metavar="FILE")],
    by: ByOption = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Add the synonyms of a text file, one a line: all of them or none; what has the same words is replaced."""
    from service.curation.synonyms import read_lines

    _put(index, read_lines(file), by, as_json)


@synonyms.command(epilog="Example: shelfwise synonyms export --index store > synonyms.txt")
def export(index: IndexOption = Path("store")) -> None:
    """Print the synonyms as a text file that import and rebuild read; those that are off stand there as comments."""
    import sys

    from service.curation.synonyms import format_lines

    # In UTF-8 whatever the terminal speaks: it is read again.
    sys.stdout.buffer.write(format_lines(_store(index).read().synonyms).encode())


@synonyms.command(epilog="Example: shelfwise synonyms proposals --size 10 --index store")
def proposals(
    size: Annotated[int, typer.Option(help="How many, the strongest first.", min=1)] = 20,
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Show what shoppers' queries propose, with the evidence; shelfwise events refresh makes it anew."""
    import msgspec

    from service.cli.output import write_json

    with opened_engine(index) as engine:
        found = engine.synonyms.proposals()[:size]
    write_json(msgspec.json.encode(found)) if as_json else show_proposals(found)


@synonyms.command(epilog="Example: shelfwise synonyms accept 3f9a1c0b22de --by m7 --index store")
def accept(
    proposal: ProposalArgument, by: ByOption = "", index: IndexOption = Path("store"), as_json: JsonOption = False
) -> None:
    """Keep what is proposed as a synonym. Engines take it up at once."""
    from service.cli.output import show_revision

    with opened_engine(index) as engine:
        before = engine.synonyms.revision
        kept = engine.synonyms.accept(proposal, who=by)
        after = engine.synonyms.revision
    show_revision(before, after, f"{kept.line}, with the id {kept.id}", as_json)


@synonyms.command(epilog="Example: shelfwise synonyms decline 3f9a1c0b22de --by m7 --index store")
def decline(
    proposal: ProposalArgument, by: ByOption = "", index: IndexOption = Path("store"), as_json: JsonOption = False
) -> None:
    """Have a proposal never come back."""
    import msgspec

    from service.cli.output import out, write_json

    with opened_engine(index) as engine:
        engine.synonyms.decline(proposal, who=by)
    write_json(msgspec.json.encode({"declined": proposal})) if as_json else out.print("It will not come back.")


def _put(index: Path, wanted: Sequence[Synonym], by: str, as_json: bool) -> None:
    from service.cli.output import counted, show_revision

    store = _store(index)
    before = store.revision()
    show_revision(before, store.put(wanted, who=by), f"{counted(len(wanted), 'synonym')} in place", as_json)


def _store(index: Path) -> SynonymStore:
    """The synonyms of what is found to be an index directory."""
    from retrieval.store.versions import Store
    from service.curation.synonyms import SynonymStore

    Store(index).check_ours()
    return SynonymStore(index)


def show_synonyms(synonyms: Sequence[Synonym]) -> None:
    """A line for each."""
    from rich.text import Text

    from service.cli.output import out, plain_table, shown

    if not synonyms:
        out.print('No synonyms. To add one: shelfwise synonyms put "sofa, couch"')
        return
    table = plain_table("synonym", "says")
    for each in synonyms:
        style = "" if each.enabled else "dim"
        name = Text(shown(each.id) + ("" if each.enabled else " (off)"), style=style)
        table.add_row(name, Text(shown(each.line), style=style))
    out.print(table)


def difference(change: SynonymChange) -> str:
    """What is other than it was."""
    if change.before is None:
        return f"added: {change.after.line}" if change.after else ""
    if change.after is None:
        return f"deleted: {change.before.line}"
    if change.before.line != change.after.line:
        return f"{change.before.line} became {change.after.line}"
    return "turned on" if change.after.enabled else "turned off"


def show_proposals(proposals: Sequence[Proposal]) -> None:
    """A line for each, and its strongest example below."""
    from rich.text import Text

    from service.cli.output import out, plain_table, shown

    if not proposals:
        out.print("No proposals. They are made of what shoppers did: shelfwise events refresh")
        return
    table = plain_table("proposal", "says", "shoppers", "because", right=("shoppers",))
    for each in proposals:
        table.add_row(
            each.id, Text(shown(each.synonym.line)), f"{each.shoppers:,}", Text(shown(_why(each.examples[0])))
        )
    out.print(table)


def _why(example: Example) -> str:
    parts = [f'"{example.query}", "{example.to_query}"']
    if example.share:
        parts.append(f"{example.share:.0%} went on and chose")
    if example.alike:
        parts.append(f"choices alike {example.alike:.2f}")
    return "; ".join(parts)
