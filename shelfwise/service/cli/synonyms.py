"""Synonyms and relations, for `curate`; `synonyms add`, `proposals`, `accept`, `decline`, and `relations`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Argument, Option

from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.html_report import printable
from shelfwise.retrieval.records import Relation, RelationKind
from shelfwise.service.cli.options import By, Index, SettingsFile, check_index, command
from shelfwise.service.cli.output import (
    TerminalProgress,
    count_text,
    emit,
    emit_revision,
    plain_table,
    say,
    show_history,
    show_table,
)
from shelfwise.service.cli.search import open_engine, relation_line
from shelfwise.service.curation.document_store import DocumentChange, StoredDocuments
from shelfwise.service.curation.relations import RelationCorrection, RelationStore
from shelfwise.service.curation.synonym_mining import Example, Proposal
from shelfwise.service.curation.synonyms import Synonym, SynonymStore, format_lines, parse_line, read_lines
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.settings import load_settings
from shelfwise.service.training.derived_tables import DerivedTablesManager

ProposalId = Annotated[str, Argument(help="Id of the proposal, as shown by proposals.", metavar="PROPOSAL")]


def list_synonyms(index: Path) -> None:
    """Prints the synonyms of an index; those that its version was built with are in a file of the version."""
    stored = _store(index).read()
    emit(stored, _show_synonyms, document={"revision": stored.revision, "synonyms": stored.documents})


@command('synonyms add store "sofa, couch, settee" --by m7')
def add(
    index: Index,
    line: Annotated[
        str,
        Argument(help='"sofa, couch": each finds the other. "hdd => disk": the left finds the right.', metavar="LINE"),
    ],
    synonym_id: Annotated[str, Option("--id", help="Id of the synonym; by default derived from the words.")] = "",
    off: Annotated[bool, Option("--off", help="Store it without using it in searches.")] = False,
    by: By = "",
) -> None:
    """Add a synonym, or replace the one with the same id. Engines follow at once."""
    synonym = parse_line(line)
    _put(index, [replace(synonym, id=synonym_id or synonym.id, enabled=not off)], by)


def delete_synonyms(index: Path, ids: Sequence[str], by: str) -> None:
    """Deletes synonyms; they stay in the history."""
    store = _store(index)
    before = store.revision()
    emit_revision(before, store.delete(ids, who=by), f"{count_text(len(set(ids)), 'synonym', 'is')} deleted")


def synonym_history(index: Path, synonym: str, limit: int) -> None:
    """Prints the history of changes, newest first."""
    emit(_store(index).history(synonym or None, limit), show_history, "synonym", _difference)


def put_synonyms(index: Path, file: Path, by: str) -> None:
    """Adds the synonyms of a text file, one per line, all or none; those with the same words are replaced."""
    _put(index, read_lines(file), by)


def show_synonyms(index: Path, _name: str) -> None:
    """Prints the synonyms as a text file for put and rebuild; those that are off become comments."""
    # In UTF-8 whatever the terminal's encoding, since it is read again.
    sys.stdout.buffer.write(format_lines(_store(index).read().documents).encode())


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


def _put(index: Path, synonyms: Sequence[Synonym], by: str) -> None:
    store = _store(index)
    before = store.revision()
    emit_revision(before, store.put(synonyms, who=by), f"{count_text(len(synonyms), 'synonym', 'is')} stored")


def _store(index: Path) -> SynonymStore:
    check_index(index)
    return SynonymStore(index)


def _show_synonyms(stored: StoredDocuments[Synonym]) -> None:
    if not stored.documents:
        say('No synonyms. To add one: shelfwise synonyms add INDEX "sofa, couch"')
        return
    table = plain_table("synonym", "says")
    for each in stored.documents:
        style = "" if each.enabled else "dim"
        name = Text(printable(each.id) + ("" if each.enabled else " (off)"), style=style)
        table.add_row(name, Text(printable(each.line), style=style))
    show_table(table)


def _difference(change: DocumentChange[Synonym]) -> str:
    if change.before is None:
        return f"added: {change.after.line}" if change.after else ""
    if change.after is None:
        return f"deleted: {change.before.line}"
    if change.before.line != change.after.line:
        return f"{change.before.line} became {change.after.line}"
    return "turned on" if change.after.enabled else "turned off"


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


@command("relations refresh store")
def refresh_relations(index: Index, settings: SettingsFile = None) -> None:
    """Update the relations of all products, from shoppers' choices and, without any events, from texts and attributes.
    The other derived tables are updated, too."""
    loaded = load_settings(settings)
    with EventLog.open(index, loaded) as log, TerminalProgress() as progress:
        tables = DerivedTablesManager(index, log, loaded.events, progress=progress)
        tables.refresh()
        derived = open_derived(tables.folder)
    counts = {
        name: dict(table.group_by("kind").len().sort("kind").iter_rows())
        for name, table in (("products", derived.relations), ("types", derived.relation_types))
    }
    emit(counts, _show_counts)


def _show_counts(counts: Mapping[str, Mapping[str, int]]) -> None:
    for name, found in counts.items():
        say(f"{name}: {', '.join(f'{count:,} {kind}' for kind, count in found.items()) or 'none'}")


ProductOf = Annotated[str, Argument(help="Id of the product.", metavar="PRODUCT")]
OtherOf = Annotated[str, Argument(help="Id of the other product.", metavar="OTHER")]
KindOf = Annotated[RelationKind, Argument(help='"PRODUCT KIND OTHER" reads as a sentence.', metavar="KIND")]


@command("relations show store 3920564")
def show_relations(index: Index, product: ProductOf) -> None:
    """Show all relations of a product, with corrections applied."""
    with open_engine(index, models=False) as engine:
        engine.product(product)
        found = [RelatedId(other, relation) for other, relation in engine.relations.show(product)]
    emit(found, _show_relations)


@command("relations add store 3920564 fits 1187 --by m7")
def add_relation(index: Index, product: ProductOf, kind: KindOf, other: OtherOf, by: By = "") -> None:
    """Add a relation between two products. Engines follow at once."""
    _correct(index, RelationCorrection(kind, product, other), by)


@command("relations remove store 3920564 complement 1187 --by m7")
def remove_relation(index: Index, product: ProductOf, kind: KindOf, other: OtherOf, by: By = "") -> None:
    """Remove a relation between two products, also from later refreshes. Engines follow at once."""
    _correct(index, RelationCorrection(kind, product, other, removed=True), by)


@command("relations withdraw store 3920564 complement 1187 --by m7")
def withdraw_relation(index: Index, product: ProductOf, kind: KindOf, other: OtherOf, by: By = "") -> None:
    """Withdraw a correction of a relation, which then follows the refreshes again. Engines follow at once."""
    check_index(index)
    store = RelationStore(index)
    before = store.revision()
    after = store.delete([RelationCorrection(kind, product, other).id], who=by)
    emit_revision(before, after, "the correction is withdrawn")


def relation_history(index: Path, _name: str, limit: int) -> None:
    """Prints the history of changes, newest first."""
    check_index(index)
    emit(RelationStore(index).history(limit=limit), show_history, "relation", _correction_text)


@dataclass(frozen=True, slots=True)
class RelatedId:
    """A product's relation to another one."""

    other: str
    relation: Relation


def _correct(index: Index, correction: RelationCorrection, by: str) -> None:
    with open_engine(index, models=False) as engine:
        before = RelationStore(index).revision()
        after = engine.relations.put([correction], who=by)
    emit_revision(before, after, f"the relation is {'removed' if correction.removed else 'added'}")


def _show_relations(found: Sequence[RelatedId]) -> None:
    if not found:
        say("No relation of this product alone. To update all: shelfwise relations refresh INDEX")
        say("Those of its type, such as what is bought with drills:  shelfwise query related INDEX PRODUCT")
        return
    table = plain_table("other", "relation")
    for each in found:
        table.add_row(Text(printable(each.other)), Text(relation_line(each.relation)))
    show_table(table)


def _correction_text(change: DocumentChange[RelationCorrection]) -> str:
    if change.after is None:
        return "withdrawn"
    return "removed" if change.after.removed else "added"
