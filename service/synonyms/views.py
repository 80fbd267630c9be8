"""What the commands for synonyms show in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from service.synonyms.proposal import Example, Proposal
from service.synonyms.store import SynonymChange
from service.synonyms.synonym import Synonym
from service.terminal import out, plain_table, shown


def show_synonyms(synonyms: Sequence[Synonym]) -> None:
    """A line for each."""
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
