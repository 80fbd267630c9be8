"""The commands for merchandising rules: `shelfwise rules list, show, put, delete, history, restore, preview`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import ByOption, IndexOption, JsonOption, opened_engine
from service.curation.rules import (
    Action,
    Boost,
    Bury,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
    RuleChange,
    When,
    rule_document,
)

if TYPE_CHECKING:
    from rich.table import Table

    from service.curation.rule_editor import HitMove, Preview
    from service.curation.rules import RuleStore


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

    from service.cli.output import write_json

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

    from service.cli.output import write_json
    from service.curation.rules import encode_rule

    write_json(msgspec.json.format(encode_rule(_store(index).get(rule))).encode())


@rules.command(epilog="Example: shelfwise rules put summer-sale.toml --by m7 --index store")
def put(file: FileArgument, by: ByOption = "", index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """Add the rules of a file, or replace those of the same id: all of them or none. Engines take them up at once."""
    from service.cli.output import counted, show_revision
    from service.curation.rules import read_rules

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
    from service.cli.output import counted, show_revision

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

    from service.cli.output import show_history, write_json

    changes = _store(index).history(rule or None, limit)
    told = [change_document(each) for each in changes]
    write_json(msgspec.json.encode(told)) if as_json else show_history("rule", changes, difference)


@rules.command(epilog="Example: shelfwise rules restore 12 --by m7 --index store")
def restore(
    revision: RevisionArgument, by: ByOption = "", index: IndexOption = Path("store"), as_json: JsonOption = False
) -> None:
    """Make all rules what they were after a change; that is a change, too, and can be undone."""
    from service.cli.output import show_revision

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

    from service.cli.output import write_json
    from service.curation.rules import read_rules

    wanted = read_rules(put) if put else []
    with opened_engine(index) as engine:
        found = engine.rules.preview(query, wanted, delete=delete or (), filters=filters, size=size, page=page)
    write_json(msgspec.json.encode(found)) if as_json else show_preview(found)


def _store(index: Path) -> RuleStore:
    """The rules of what is found to be an index directory."""
    from retrieval.store.versions import Store
    from service.curation.rules import RuleStore

    Store(index).check_ours()
    return RuleStore(index)


# What the commands for merchandising rules show in a terminal.

_MOST_NAMED = 3


def show_rules(rules: Sequence[Rule], faults: Mapping[str, str]) -> None:
    """A line for each rule: when it holds and what it does."""
    from rich.text import Text

    from service.cli.output import out, plain_table, shown

    if not rules:
        out.print("No rules. To add some: shelfwise rules put FILE")
        return
    table = plain_table("rule", "priority", "when", "does", right=("priority",))
    for rule in rules:
        state = "" if rule.enabled else " (off)"
        named = Text(shown(rule.id) + state, style="" if rule.enabled else "dim")
        if rule.id in faults:
            named.append("\npassed over", style="bold yellow")
        when, does = Text(shown(when_text(rule.when))), Text(shown("; ".join(map(action_text, rule.actions))))
        table.add_row(named, str(rule.priority), when, does)
    out.print(table)


def when_text(when: When) -> str:
    """When a rule holds, in words."""
    said = {Match.ANY: "always", Match.EXACT: f'"{when.query}"', Match.CONTAINS: f'with "{when.query}"'}[when.match]
    parts = [said]
    if when.filters:
        parts.append(f"within {when.filters}")
    if when.starts:
        parts.append(f"from {when.starts:%Y-%m-%d %H:%M %Z}")
    if when.ends:
        parts.append(f"until {when.ends:%Y-%m-%d %H:%M %Z}")
    return ", ".join(parts)


def action_text(action: Action) -> str:
    """What a rule does, in words."""
    match action:
        case Pin(products, position):
            return f"pin {_named(products)} at {position}"
        case Boost(filters, strength):
            return f"boost {filters} by {strength:g}"
        case Bury(filters, strength):
            return f"bury {filters} by {strength:g}"
        case Hide(products, filters):
            return f"hide {' and '.join(part for part in (_named(products), filters) if part)}"
        case Restrict(filters):
            return f"only {filters}"
        case Redirect(url):
            return f"redirect to {url}"


def change_document(change: RuleChange) -> dict[str, object]:
    """A change as plain values that JSON has."""
    was, became = (rule and rule_document(rule) for rule in (change.before, change.after))
    made = {"revision": change.revision, "time": change.time, "who": change.who, "id": change.id}
    return made | {"before": was, "after": became}


def difference(change: RuleChange) -> str:
    """Which fields are other than they were."""
    if change.before is None:
        return "added"
    if change.after is None:
        return "deleted"
    was, became = rule_document(change.before), rule_document(change.after)
    return "changed " + ", ".join(name for name in {**was, **became} if was.get(name) != became.get(name))


def show_preview(preview: Preview) -> None:
    """Which hits would come, go and move, and how many there would be."""
    from rich.table import Table
    from rich.text import Text

    from service.cli.output import out, shown

    before, after = preview.before, preview.after
    table = Table.grid(padding=(0, 2))
    for sign, moves in (("+", preview.gained), ("-", preview.lost), ("~", preview.moved)):
        _add_moves(table, sign, moves)
    out.print(table) if table.row_count else out.print("The page would be the same.")
    counts = f"{before.total:,} products now, {after.total:,} then"
    out.print(Text(f"{counts}; rules now: {_listed(before.rules)}; then: {_listed(after.rules)}"))
    if after.redirect != before.redirect:
        out.print(Text(f"redirect: {shown(before.redirect) or 'none'} now, {shown(after.redirect) or 'none'} then"))


def _add_moves(table: Table, sign: str, moves: Iterable[HitMove]) -> None:
    from rich.text import Text

    from service.cli.output import shown

    style = {"+": "green", "-": "red"}.get(sign, "")
    for move in moves:
        places = f"{move.before or ''} → {move.after or ''}".strip()
        title = Text(shown(f"{move.title} ({move.product})"), style=style)
        table.add_row(Text(sign, style=style), places, title, Text(shown(move.rule), style="dim"))


def _named(products: Sequence[str]) -> str:
    more = len(products) - _MOST_NAMED
    return ", ".join(products[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _listed(rules: Sequence[str]) -> str:
    from service.cli.output import shown

    return shown(", ".join(rules)) or "none"
