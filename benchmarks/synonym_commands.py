"""`shelfwise bench synonyms`: what is proposed on the demo store, beside what is planted there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import JsonOption

if TYPE_CHECKING:
    from benchmarks.synonyms import Proposed


def synonyms(
    demo: Annotated[Path, typer.Argument(help="A folder that shelfwise demo made.", metavar="DEMO")],
    as_json: JsonOption = False,
) -> None:
    """Compare the synonyms that shoppers' queries propose with those that the demo store's grammar has.

    A proposal is right where both sides are names of one type of product. Planted are the names that no title has, as
    far as enough shoppers searched for them; found are those that a right proposal leads from.
    """
    import msgspec

    from benchmarks.synonyms import judged
    from rerank.behaviour.derived import open_derived
    from retrieval.store_files import EVENTS_FOLDER
    from service.event_log import DERIVED_FOLDER
    from service.synonyms.in_catalog import serving_words
    from service.synonyms.proposing import synonym_proposals
    from service.terminal import write_json

    index = demo / "index"
    derived = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER)
    found = judged(synonym_proposals(derived, serving_words(index)), derived.queries["query"].to_list())
    if as_json:
        write_json(msgspec.json.encode(asdict(found) | {"precision": found.precision, "recall": found.recall}))
    else:
        _show(found)


def _show(found: Proposed) -> None:
    from rich.text import Text

    from service.terminal import out, shown

    at = ", ".join(f"{share:.0%} of the first {size}" for size, share in found.precision_at.items())
    out.print(
        f"{found.proposals:,} proposals, {found.right:,} right: precision {found.precision:.1%} ({at})\n"
        f"{found.planted:,} planted, {found.found:,} found: recall {found.recall:.1%}",
        highlight=False,
        soft_wrap=True,
    )
    if found.wrong:
        out.print("Not names of one type:")
        out.print(Text("\n".join(f"  {shown(line)}" for line in found.wrong)))


EXAMPLES = ((synonyms, "Example: shelfwise bench synonyms demo-store"),)
