"""What the commands for merchandising rules show in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from service.merchandising.preview import Moved, Preview
from service.merchandising.rule import Action, Boost, Bury, Hide, Match, Pin, Redirect, Restrict, Rule, When
from service.merchandising.rule_json import rule_document
from service.merchandising.store import RuleChange
from service.terminal import out, plain_table, shown

_MOST_NAMED = 3


def show_rules(rules: Sequence[Rule], faults: Mapping[str, str]) -> None:
    """A line for each rule: when it holds and what it does."""
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
    before, after = preview.before, preview.after
    table = Table.grid(padding=(0, 2))
    for sign, moves in (("+", preview.gained), ("-", preview.lost), ("~", preview.moved)):
        _add_moves(table, sign, moves)
    out.print(table) if table.row_count else out.print("The page would be the same.")
    counts = f"{before.total:,} products now, {after.total:,} then"
    out.print(Text(f"{counts}; rules now: {_listed(before.rules)}; then: {_listed(after.rules)}"))
    if after.redirect != before.redirect:
        out.print(Text(f"redirect: {shown(before.redirect) or 'none'} now, {shown(after.redirect) or 'none'} then"))


def _add_moves(table: Table, sign: str, moves: Iterable[Moved]) -> None:
    style = {"+": "green", "-": "red"}.get(sign, "")
    for move in moves:
        places = f"{move.before or ''} → {move.after or ''}".strip()
        title = Text(shown(f"{move.title} ({move.product})"), style=style)
        table.add_row(Text(sign, style=style), places, title, Text(shown(move.rule), style="dim"))


def _named(products: Sequence[str]) -> str:
    more = len(products) - _MOST_NAMED
    return ", ".join(products[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _listed(rules: Sequence[str]) -> str:
    return shown(", ".join(rules)) or "none"
