"""Merchandising rules: `rules list`, `show`, `put`, `delete`, `history`, `restore`, `preview`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
from rich.text import Text
from typer import Argument, Option

from retrieval.html_report import printable
from service.cli.options import By, Index, check_index, command
from service.cli.output import (
    count_text,
    emit,
    emit_revision,
    plain_table,
    say,
    show_history,
    show_moves,
    show_table,
    write_json,
)
from service.cli.search import PageOptions, QueryArgument, open_engine
from service.curation.rules import (
    Action,
    Boost,
    Bury,
    Classify,
    Data,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
    RuleChange,
    RuleStore,
    When,
    read_rules,
    rule_document,
)
from service.engine.editors import Preview


@command("rules list store")
def list_rules(index: Index) -> None:
    """List the rules of an index, and which of them its catalog cannot use."""
    with open_engine(index, models=False) as engine:
        revision, rules, faults = engine.rules.revision, engine.rules.list(), engine.rules.faults
    document = {"revision": revision, "rules": [rule_document(each) for each in rules], "faults": faults}
    emit(rules, _show_rules, faults, document=document)


@command("rules show store summer-sale > summer-sale.json", json=False)
def show(index: Index, rule: Annotated[str, Argument(help="A rule's id.", metavar="RULE")]) -> None:
    """Print one rule as JSON, as put reads it."""
    write_json(msgspec.json.format(msgspec.json.encode(rule_document(_store(index).get(rule)))))


@command("rules put store summer-sale.toml --by m7")
def put(
    index: Index,
    file: Annotated[Path, Argument(help="A JSON or TOML file: docs/rules.md.", metavar="FILE")],
    by: By = "",
) -> None:
    """Add the rules of a file, or replace those of the same id: all of them or none. Engines follow at once."""
    rules = read_rules(file)
    with open_engine(index, models=False) as engine:
        before = engine.rules.revision
        after = engine.rules.put(rules, who=by)
    emit_revision(before, after, f"{count_text(len(rules), 'rule', 'is')} in place", undo=_undo(index))


@command("rules delete store summer-sale --by m7")
def delete(
    index: Index, ids: Annotated[list[str], Argument(help="Ids of rules.", metavar="RULE")], by: By = ""
) -> None:
    """Delete rules; restore brings them back."""
    store = _store(index)
    before = store.revision()
    after = store.delete(ids, who=by)
    emit_revision(before, after, f"{count_text(len(set(ids)), 'rule', 'is')} deleted", undo=_undo(index))


@command("rules history store summer-sale --limit 5")
def history(
    index: Index,
    rule: Annotated[str, Argument(help="By default the changes of all rules.", metavar="RULE")] = "",
    limit: Annotated[int, Option(help="How many changes.", min=1)] = 20,
) -> None:
    """Show who changed what, newest first."""
    changes = _store(index).history(rule or None, limit)
    emit(changes, show_history, "rule", _difference, document=[_change_document(each) for each in changes])


@command("rules restore store 12 --by m7")
def restore(
    index: Index,
    revision: Annotated[int, Argument(help="As history numbers them; 0 for none.", metavar="REVISION")],
    by: By = "",
) -> None:
    """Restore all rules of a revision; that is a change, too, and can be undone."""
    store = _store(index)
    before = store.revision()
    after = store.restore(revision, who=by)
    emit_revision(before, after, f"the rules are those of revision {revision}", undo=_undo(index))


@command('rules preview store "cordless drill" --put summer-sale.toml')
def preview(
    index: Index,
    query: QueryArgument,
    which: PageOptions,
    put: Annotated[Path | None, Option("--put", help="A file of rules that would be put.", metavar="FILE")] = None,
    delete: Annotated[
        list[str] | None, Option("--delete", help="A rule that would be deleted. Repeatable.", metavar="RULE")
    ] = None,
) -> None:
    """Show what a change of rules would do to a page of a search, without changing anything."""
    rules = read_rules(put) if put else []
    with open_engine(index) as engine:
        found = engine.rules.preview(query, rules, delete=delete or (), **asdict(which))
    emit(found, _show_preview)


def _undo(index: Path) -> str:
    return f"shelfwise rules restore {index}"


def _store(index: Path) -> RuleStore:
    check_index(index)
    return RuleStore(index)


_MOST_NAMED = 3


def _show_rules(rules: Sequence[Rule], faults: Mapping[str, str]) -> None:
    if not rules:
        say("No rules. To add some: shelfwise rules put INDEX FILE")
        return
    table = plain_table("rule", "priority", "when", "does", right=("priority",))
    for rule in rules:
        name = Text(printable(rule.id), style="" if rule.enabled else "dim")
        name.append("" if rule.enabled else " (off)")
        if rule.id in faults:
            name.append("\nignored", style="bold yellow")
        when, does = Text(printable(_when_text(rule.when))), Text(printable("; ".join(map(_action_text, rule.actions))))
        table.add_row(name, str(rule.priority), when, does)
    show_table(table)


def _when_text(when: When) -> str:
    condition = {Match.ANY: "always", Match.EXACT: f'"{when.query}"', Match.CONTAINS: f'with "{when.query}"'}[
        when.match
    ]
    parts = [condition]
    if when.filters:
        parts.append(f"within {when.filters}")
    if when.contexts:
        parts.append(f"in {' or '.join(when.contexts)}")
    if when.starts:
        parts.append(f"from {when.starts:%Y-%m-%d %H:%M %Z}")
    if when.ends:
        parts.append(f"until {when.ends:%Y-%m-%d %H:%M %Z}")
    return ", ".join(parts)


def _action_text(action: Action) -> str:
    match action:
        case Pin(products, position):
            return f"pin {_products_text(products)} at {position}"
        case Boost(filters, strength):
            return f"boost {filters} by {strength:g}"
        case Bury(filters, strength):
            return f"bury {filters} by {strength:g}"
        case Hide(products, filters):
            return f"hide {' and '.join(part for part in (_products_text(products), filters) if part)}"
        case Restrict(filters):
            return f"only {filters}"
        case Redirect(url):
            return f"redirect to {url}"
        case Data(values):
            return f"data {', '.join(values)}"
        case Classify(name, products, filters):
            return f"type {name} for {' and '.join(part for part in (_products_text(products), filters) if part)}"


def _change_document(change: RuleChange) -> dict[str, object]:
    was, became = (rule and rule_document(rule) for rule in (change.before, change.after))
    made = {"revision": change.revision, "time": change.time, "who": change.who, "id": change.id}
    return made | {"before": was, "after": became}


def _difference(change: RuleChange) -> str:
    if change.before is None:
        return "added"
    if change.after is None:
        return "deleted"
    was, became = rule_document(change.before), rule_document(change.after)
    return "changed " + ", ".join(name for name in {**was, **became} if was.get(name) != became.get(name))


def _show_preview(preview: Preview) -> None:
    before, after = preview.before, preview.after
    show_moves(preview)
    counts = f"{before.total:,} products now, {after.total:,} then"
    say(f"{counts}; rules now: {_names(before.rules)}; then: {_names(after.rules)}")
    if after.redirect != before.redirect:
        say(f"redirect: {printable(before.redirect) or 'none'} now, {printable(after.redirect) or 'none'} then")


def _products_text(products: Sequence[str]) -> str:
    more = len(products) - _MOST_NAMED
    return ", ".join(products[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _names(rules: Sequence[str]) -> str:
    return printable(", ".join(rules)) or "none"
