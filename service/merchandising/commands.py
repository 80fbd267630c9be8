"""The commands for merchandising rules: `shelfwise rules list, show, put, delete, history, restore, preview`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import ByOption, IndexOption, JsonOption, opened_engine

if TYPE_CHECKING:
    from service.merchandising.store import RuleStore

rules = typer.Typer(
    name="rules",
    help="What the store's people want of searches: products pinned, boosted, buried or hidden, filters, redirects.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_UNDO = "shelfwise rules restore"
FileArgument = Annotated[Path, typer.Argument(help="A JSON or TOML file: docs/rules.md.", metavar="FILE")]
RevisionArgument = Annotated[int, typer.Argument(help="As history numbers them; 0 for none.", metavar="REVISION")]


@rules.command("list", epilog="Example: shelfwise rules list --index store")
def list_rules(index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """List the rules of an index, and which of them its catalog cannot use."""
    import msgspec

    from service.merchandising.rule_json import rule_document
    from service.merchandising.views import show_rules
    from service.terminal import write_json

    with opened_engine(index) as engine:
        revision, listed, faults = engine.rules.revision, engine.rules.list(), engine.rules.faults
    document = {"revision": revision, "rules": [rule_document(each) for each in listed], "faults": faults}
    write_json(msgspec.json.encode(document)) if as_json else show_rules(listed, faults)


@rules.command(epilog="Example: shelfwise rules show summer-sale --index store > summer-sale.json")
def show(
    rule: Annotated[str, typer.Argument(help="A rule's id.", metavar="RULE")], index: IndexOption = Path("store")
) -> None:
    """Print one rule as JSON, as put reads it."""
    import msgspec

    from service.merchandising.rule_json import encoded
    from service.terminal import write_json

    write_json(msgspec.json.format(encoded(_store(index).get(rule))).encode())


@rules.command(epilog="Example: shelfwise rules put summer-sale.toml --by m7 --index store")
def put(file: FileArgument, by: ByOption = "", index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """Add the rules of a file, or replace those of the same id: all of them or none. Engines take them up at once."""
    from service.entry_views import counted, show_revision
    from service.merchandising.rule_json import read_rules

    wanted = read_rules(file)
    with opened_engine(index) as engine:
        before = engine.rules.revision
        after = engine.rules.put(wanted, who=by)
    show_revision(before, after, f"{counted(len(wanted), 'rule')} in place", as_json, undo=_UNDO)


@rules.command(epilog="Example: shelfwise rules delete summer-sale --by m7 --index store")
def delete(
    ids: Annotated[list[str], typer.Argument(help="Ids of rules.", metavar="RULE...")],
    by: ByOption = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Take rules away; restore brings them back."""
    from service.entry_views import counted, show_revision

    store = _store(index)
    before = store.revision()
    after = store.delete(ids, who=by)
    show_revision(before, after, f"{counted(len(set(ids)), 'rule')} gone", as_json, undo=_UNDO)


@rules.command(epilog="Example: shelfwise rules history summer-sale --limit 5 --index store")
def history(
    rule: Annotated[str, typer.Argument(help="By default the changes of all rules.", metavar="[RULE]")] = "",
    limit: Annotated[int, typer.Option(help="How many changes.", min=1)] = 20,
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Show who changed what, newest first."""
    import msgspec

    from service.entry_views import show_history
    from service.merchandising.views import change_document, difference
    from service.terminal import write_json

    changes = _store(index).history(rule or None, limit)
    told = [change_document(each) for each in changes]
    write_json(msgspec.json.encode(told)) if as_json else show_history("rule", changes, difference)


@rules.command(epilog="Example: shelfwise rules restore 12 --by m7 --index store")
def restore(
    revision: RevisionArgument, by: ByOption = "", index: IndexOption = Path("store"), as_json: JsonOption = False
) -> None:
    """Make all rules what they were after a change; that is a change, too, and can be undone."""
    from service.entry_views import show_revision

    store = _store(index)
    before = store.revision()
    after = store.restore(revision, who=by)
    show_revision(before, after, f"the rules are those of revision {revision}", as_json, undo=_UNDO)


@rules.command(epilog='Example: shelfwise rules preview "cordless drill" --put summer-sale.toml --index store')
def preview(
    query: Annotated[str, typer.Argument(help="What a shopper would type; '' browses everything.", metavar="QUERY")],
    put: Annotated[
        Path | None, typer.Option("--put", help="A file of rules that would be put.", metavar="FILE")
    ] = None,
    delete: Annotated[
        list[str] | None, typer.Option("--delete", help="A rule that would be deleted. Repeatable.", metavar="RULE")
    ] = None,
    filters: Annotated[str, typer.Option("--filter", help="Only products that this expression lets through.")] = "",
    size: Annotated[int, typer.Option(help="Hits on a page.")] = 10,
    page: Annotated[int, typer.Option(help="Which page, from 1.")] = 1,
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Show what a change of rules would do to a page of a search, without changing anything."""
    import msgspec

    from service.merchandising.rule_json import read_rules
    from service.merchandising.views import show_preview
    from service.terminal import write_json

    wanted = read_rules(put) if put else []
    with opened_engine(index) as engine:
        found = engine.rules.preview(query, wanted, delete=delete or (), filters=filters, size=size, page=page)
    write_json(msgspec.json.encode(found)) if as_json else show_preview(found)


def _store(index: Path) -> RuleStore:
    """The rules of what is found to be an index directory."""
    from retrieval.published import Store
    from service.merchandising.store import RuleStore

    Store(index).check_ours()
    return RuleStore(index)
