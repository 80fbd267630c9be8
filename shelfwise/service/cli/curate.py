"""Documents of a store by kind: `curate`; the ledger of campaigns: `sponsored`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
from rich.text import Text
from typer import Argument, Option

from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.events.privacy import Masker
from shelfwise.retrieval.value_texts import printable
from shelfwise.service.answers.faq_files import FAQ_SUFFIXES, read_faq
from shelfwise.service.cli.options import By, Index, PublishedIndex, SettingsFile, command
from shelfwise.service.cli.output import (
    Column,
    count_text,
    emit,
    emit_revision,
    say,
    show_moves,
    show_notices,
    show_objects,
    show_rows,
    write_json,
)
from shelfwise.service.cli.query import PageOptions, QueryArgument, open_engine, relation_line
from shelfwise.service.curation.document_store import DocumentCodec, DocumentKind, read_entries
from shelfwise.service.curation.synonyms import format_lines, read_lines
from shelfwise.service.engine.editors import Preview, PreviewEditor, editor_of
from shelfwise.service.settings import load_settings
from shelfwise.service.sponsored.ledger import Ledger

Kind = Annotated[DocumentKind, Argument(metavar="KIND", help=f"One of {', '.join(DocumentKind)}.")]
_DATA_FILES = (".json", ".toml")
_MAX_VALUE = 120
"""Maximum length of a value in the history, in characters."""


@command("curate list rules store")
def list_documents(
    kind: Kind,
    index: Index,
    product: Annotated[
        str, Option("--product", help="For relations: those of this product, with their evidence.", metavar="ID")
    ] = "",
) -> None:
    """List the documents of a kind, with what is off or ignored."""
    with open_engine(index, models=False) as engine:
        editor = editor_of(engine, kind)
        documents = editor.of_product(product) if product else editor.list()
        details: dict[str, Any] = dict(editor.details(product))
        faults = dict(editor.faults)
        revision = editor.revision
    plain = [editor.kind.to_plain(each) for each in documents]
    listing = {"revision": revision, "documents": plain, "faults": faults, "details": details}
    emit(plain, _show_documents, kind, faults, details, document=listing)


@command("curate show rules store summer-sale > summer-sale.json", json=False)
def show(
    kind: Kind,
    index: Index,
    name: Annotated[str, Argument(help="Id of a document; by default all.", metavar="ID")] = "",
) -> None:
    """Print documents as JSON, or all synonyms as a text file, in the form of put."""
    with open_engine(index, models=False) as engine:
        editor = editor_of(engine, kind)
        documents = [editor.get(name)] if name else list(editor.list())
        waits = kind is DocumentKind.RELEVANCE and engine.relevance.weights_in_effect != documents[0].fields
    if kind is DocumentKind.SYNONYMS and not name:
        # In UTF-8 whatever the terminal's encoding, since it is read again.
        sys.stdout.buffer.write(format_lines(documents).encode())
        return
    plain = [editor.kind.to_plain(each) for each in documents]
    is_one = name or kind is DocumentKind.RELEVANCE
    write_json(msgspec.json.format(msgspec.json.encode(plain[0] if is_one else {"documents": plain})))
    if waits:
        show_notices(["fields takes effect with the next rebuild"])


@command("curate put rules store summer-sale.toml --by m7")
def put(
    kind: Kind,
    index: Index,
    file: Annotated[
        Path,
        Argument(
            help="JSON or TOML; for synonyms also lines of text, for answers also an FAQ or a manual.", metavar="FILE"
        ),
    ],
    replace_all: Annotated[bool, Option("--replace", help="Delete all documents that are not in the file.")] = False,
    products: Annotated[
        list[str] | None, Option("--product", help="Product that all answers are about. Repeatable.", metavar="ID")
    ] = None,
    by: By = "",
    settings: SettingsFile = None,
) -> None:
    """Add or replace the documents of a file, all or none. Engines follow at once. In an FAQ or manual, markup is
    removed and personal data is masked."""
    with open_engine(index, settings, models=kind is DocumentKind.ANSWERS) as engine:
        editor = editor_of(engine, kind)
        documents, notes = _read(kind, editor.kind, file, products or (), settings)
        gone = {each.id for each in editor.list()} - {each.id for each in documents} if replace_all else ()
        before = editor.revision
        after = editor.put(documents, gone=gone, who=by)
    stored = count_text(len(documents), editor.kind.one, "is")
    emit_revision(before, after, f"{stored} stored{notes}", undo=_undo(kind, index))


@command("curate delete rules store summer-sale --by m7")
def delete(
    kind: Kind, index: Index, ids: Annotated[list[str], Argument(help="Ids of documents.", metavar="ID")], by: By = ""
) -> None:
    """Delete documents; they stay in the history, and the ledger keeps charges. A relation without a correction follows
    the refreshes again."""
    with open_engine(index, models=False) as engine:
        editor = editor_of(engine, kind)
        before = editor.revision
        after = editor.delete(ids, who=by)
    emit_revision(before, after, f"{count_text(len(set(ids)), editor.kind.one, 'is')} deleted", undo=_undo(kind, index))


@command("curate history rules store summer-sale --limit 5")
def history(
    kind: Kind,
    index: Index,
    name: Annotated[str, Argument(help="Id of a document; by default all.", metavar="ID")] = "",
    limit: Annotated[int, Option(help="Number of changes.", min=1)] = 20,
) -> None:
    """Show the history of changes, newest first. For relations, the id may be that of a product."""
    with open_engine(index, models=False) as engine:
        editor = editor_of(engine, kind)
        changes = editor.history(name or None, limit)
    plain = [editor.kind.plain_change(each) for each in changes]
    emit(plain, _show_history, editor.kind.one)


@command("curate restore rules store 12 --by m7")
def restore(
    kind: Kind,
    index: Index,
    revision: Annotated[int, Argument(help="Revision number in the history; 0 for none.", metavar="REVISION")],
    by: By = "",
) -> None:
    """Restore all documents of a revision, as a new change that can be undone."""
    with open_engine(index, models=kind is DocumentKind.ANSWERS) as engine:
        editor = editor_of(engine, kind)
        before = editor.revision
        after = editor.restore(revision, who=by)
    emit_revision(before, after, f"all {kind} are now as in revision {revision}", undo=_undo(kind, index))


@command('curate preview rules store "cordless drill" summer-sale.toml')
def preview(
    kind: Kind,
    index: Index,
    query: QueryArgument,
    which: PageOptions,
    file: Annotated[Path | None, Argument(help="The file as for put.", metavar="FILE")] = None,
    gone: Annotated[
        list[str] | None, Option("--delete", help="Preview deleting a rule. Repeatable.", metavar="RULE")
    ] = None,
) -> None:
    """Show the effect of a change of rules or relevance settings on a page of a search, without changing anything."""
    with open_engine(index) as engine:
        editor = editor_of(engine, kind)
        if not isinstance(editor, PreviewEditor):
            raise SettingError(f"curate preview is not for {kind}; use rules or relevance")
        documents = read_entries(file, editor.kind) if file else []
        emit(editor.preview(query, documents, delete=gone or (), **asdict(which)), _show_preview)


def _read(
    kind: DocumentKind, codec: DocumentCodec[Any], file: Path, products: Sequence[str], settings: Path | None
) -> tuple[Sequence[Any], str]:
    """The documents of a file, and notes about what was read."""
    if kind is DocumentKind.ANSWERS and file.suffix in FAQ_SUFFIXES:
        faq = read_faq(file, Masker(load_settings(settings).events.phone_regions), products=products)
        show_notices(f"line {each.line} is rejected: {each.reason}" for each in faq.rejected[:20])
        masking = f"{faq.masked:,} with masked personal data, {faq.named:,} with masked names"
        return faq.entries, f", {masking}; {count_text(len(faq.rejected), 'line')} rejected"
    if products:
        raise SettingError(f"--product is for answers in files that end in {', '.join(FAQ_SUFFIXES)}")
    if kind is DocumentKind.SYNONYMS and file.suffix not in _DATA_FILES:
        return read_lines(file), ""
    return read_entries(file, codec), ""


def _undo(kind: DocumentKind, index: Path) -> str:
    return f"shelfwise curate restore {kind} {index}"


def _show_history(changes: Sequence[dict[str, Any]], one: str) -> None:
    rows = [(each["revision"], each["time"], each["who"], each["id"], _difference(each)) for each in changes]
    show_rows(("revision", "time", "by", one, "change"), rows, empty="No changes.")


def _difference(change: dict[str, Any]) -> str:
    before, after = change["before"], change["after"]
    if before is None:
        return f"added: {_line(after)}"
    if after is None:
        return f"deleted: {_line(before)}"
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return "; ".join(f"{name} {_value(before.get(name))} → {_value(after.get(name))}" for name in names)


def _line(document: Mapping[str, Any]) -> str:
    """A document in one line: its fields other than id and state."""
    pairs = ((name, value) for name, value in document.items() if name not in ("id", "enabled"))
    return ", ".join(f"{name} {_value(value)}" for name, value in pairs if value not in (None, "", [], {}))


def _value(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"


def _show_documents(
    documents: Sequence[dict[str, Any]], kind: DocumentKind, faults: Mapping[str, str], details: Mapping[str, Any]
) -> None:
    rows = []
    for each in documents:
        state = "" if each.get("enabled", True) else "off"
        if "states" in details:
            state = details["states"][each["id"]].state
        text = Text(printable(_line(each)), style="dim" if state == "off" else "")
        if fault := faults.get(each.get("id", "")):
            text.append(f"\nignored: {printable(fault)}", style="bold yellow")
        rows.append((each.get("id", ""), state, text))
    show_rows(
        ("id", "state", kind.value), rows, empty=f"No {kind}. To add some: shelfwise curate put {kind} INDEX FILE"
    )
    for each in details.get("exposure_goals", ()):
        limits = f"at least {each.at_least or 0:.2%}, at most {1 if each.at_most is None else each.at_most:.2%}"
        reached = f"{each.share:.2%} of attention today ({each.searches:,} counted), {limits}"
        say(printable(f"{each.rule}: {each.filters}: {reached}; offset {each.strength:+.2f} deviations"))
    for name, state in details.get("states", {}).items() if "enabled" in details else ():
        say(f"{name}: {state.spent:.2f} spent, {state.spent_today:.2f} today")
    if "relations" in details and not details["relations"]:
        say("No relation of this product alone. To update all: shelfwise events refresh INDEX")
    for each in details.get("relations", ()):
        say(printable(f"{each.product_id}: {relation_line(each.relation)}"))


def _show_preview(preview: Preview) -> None:
    before, after = preview.before, preview.after
    show_moves(preview)
    say(f"{before.total:,} products before, {after.total:,} after")
    pairs: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("rules", lambda page: ", ".join(page.rules)),
        ("redirect", lambda page: page.redirect),
        (
            "correction",
            lambda page: (
                f"{page.suggestion!r} {'is searched for' if page.corrected else 'is offered'}"
                if page.suggestion
                else ""
            ),
        ),
    )
    for name, text_of in pairs:
        was, becomes = (printable(text_of(page)) or "none" for page in (before, after))
        if was != becomes:
            say(f"{name}: {was} before, {becomes} after")


# The ledger of sponsored campaigns.

Advertiser = Annotated[str, Option(help="By default all advertisers.", metavar="ADVERTISER")]
CampaignOption = Annotated[str, Option("--campaign", help="Only this campaign.", metavar="CAMPAIGN")]


@command("sponsored log store --advertiser acme")
def show_ledger(
    index: PublishedIndex,
    advertiser: Advertiser = "",
    campaign: CampaignOption = "",
    after: Annotated[int, Option(help="Id of the last known entry.", min=0)] = 0,
    limit: Annotated[int, Option(help="Number of entries.", min=1)] = 100,
) -> None:
    """Show the result of each click on sponsored hits with its reason, oldest first: charges, uncharged clicks,
    refunds. No data is about shoppers."""
    entries = Ledger(index).entries(advertiser, campaign=campaign, after=after, limit=limit)
    emit(entries, show_objects, _ENTRY_COLUMNS, "No entries.")


@command("sponsored report store --days 7")
def report_campaigns(
    index: PublishedIndex,
    advertiser: Advertiser = "",
    campaign: CampaignOption = "",
    days: Annotated[int, Option(help="Number of days.", min=1)] = 30,
) -> None:
    """Show sponsored impressions, clicks, charges, amounts and clicks not charged by campaign and day, newest first."""
    counts = Ledger(index).days(advertiser, campaign=campaign, days=days)
    emit(counts, show_objects, _DAY_COLUMNS, "No sponsored hit was shown or clicked in these days.")


_ENTRY_COLUMNS: Mapping[str, Column] = {
    "id": lambda each: f"{each.id}",
    "time": lambda each: f"{each.time:%Y-%m-%d %H:%M:%S}",
    "campaign": "campaign",
    "product": "product",
    "price": "price",
    "amount": "amount",
    "reason": lambda each: f"{each.reason} ({each.refunds})" if each.refunds else each.reason,
}
_DAY_COLUMNS: Mapping[str, Column] = {
    **{name: name for name in ("day", "campaign", "shown", "clicks", "charged")},
    "amount": lambda each: f"{each.amount:.2f}",
    "not charged": lambda each: ", ".join(f"{reason} {count:,}" for reason, count in each.uncharged.items()),
}
