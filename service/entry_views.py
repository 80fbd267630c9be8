"""What the commands for rules and for synonyms show alike: that something was changed, and every change there was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from rich.text import Text

from service.entry_kind import Change
from service.terminal import out, plain_table, shown, write_json


def show_revision(before: int, after: int, done: str, as_json: bool, *, undo: str = "") -> None:
    """What became of the entries; `undo` is a command that takes the number of a revision."""
    if as_json:
        write_json(msgspec.json.encode({"before": before, "revision": after}))
    elif before == after:
        out.print(f"Nothing is other than it was at revision {after}.", highlight=False)
    else:
        advice = f" To undo: {undo} {before}" if undo else ""
        out.print(f"Revision {after}: {shown(done)}.{advice}", highlight=False, soft_wrap=True, markup=False)


def counted(count: int, one: str) -> str:
    """How many there are of what is called `one`: "1 rule is", "2 rules are"."""
    return f"{count:,} {one} is" if count == 1 else f"{count:,} {one}s are"


def show_history(one: str, changes: Sequence[Change], difference: Callable[[Change], str]) -> None:
    """A line for each change of what is called `one`."""
    if not changes:
        out.print("No changes.")
        return
    table = plain_table("revision", "time", "by", one, "change", right=("revision",))
    for change in changes:
        when, who = f"{change.time:%Y-%m-%d %H:%M:%S}", Text(shown(change.who))
        table.add_row(str(change.revision), when, who, Text(shown(change.id)), Text(shown(difference(change))))
    out.print(table)
