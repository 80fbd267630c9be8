"""Synonyms proposed from shoppers' queries: `synonyms proposals`, `accept` and `decline`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from rich.text import Text
from typer import Argument, Option

from shelfwise.retrieval.html_report import printable
from shelfwise.service.cli.options import By, Index, command
from shelfwise.service.cli.output import emit, emit_revision, plain_table, say, show_table
from shelfwise.service.cli.search import open_engine
from shelfwise.service.curation.synonym_mining import Example, Proposal

ProposalId = Annotated[str, Argument(help="Id of the proposal, as shown by proposals.", metavar="PROPOSAL")]


@command("synonyms proposals store --size 10")
def proposals(index: Index, size: Annotated[int, Option(help="How many, strongest first.", min=1)] = 20) -> None:
    """Show the synonyms proposed from shoppers' queries, with the evidence. shelfwise events refresh updates them."""
    with open_engine(index, models=False) as engine:
        emit(engine.synonyms.proposals()[:size], _show_proposals)


@command("synonyms accept store 3f9a1c0b22de --by m7")
def accept(index: Index, proposal: ProposalId, by: By = "") -> None:
    """Accept a proposal as a synonym. Engines follow at once."""
    with open_engine(index, models=False) as engine:
        before = engine.synonyms.revision
        synonym = engine.synonyms.accept(proposal, who=by)
        after = engine.synonyms.revision
    emit_revision(before, after, f"{synonym.line}, with the id {synonym.id}")


@command("synonyms decline store 3f9a1c0b22de --by m7")
def decline(index: Index, proposal: ProposalId, by: By = "") -> None:
    """Never propose a synonym again."""
    with open_engine(index, models=False) as engine:
        engine.synonyms.decline(proposal, who=by)
    emit({"declined": proposal}, lambda _: say("It will not be proposed again."))


def _show_proposals(proposals: Sequence[Proposal]) -> None:
    if not proposals:
        say("No proposals. To derive them from shoppers' events: shelfwise events refresh INDEX")
        return
    table = plain_table("proposal", "says", "shoppers", "because", right=("shoppers",))
    for each in proposals:
        table.add_row(
            each.id,
            Text(printable(each.synonym.line)),
            f"{each.shoppers:,}",
            Text(printable(_evidence_text(each.examples[0]))),
        )
    show_table(table)


def _evidence_text(example: Example) -> str:
    parts = [f'"{example.query}", "{example.to_query}"']
    if example.share:
        parts.append(f"{example.share:.0%} chose a product after it")
    if example.alike:
        parts.append(f"similarity of choices {example.alike:.2f}")
    return "; ".join(parts)
