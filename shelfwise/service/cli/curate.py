"""Documents of a store by kind: `curate list`, `show`, `put`, `delete`, `history`, `restore`, `preview`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import msgspec
from typer import Argument, Option

from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.options import By, Index, check_index, command
from shelfwise.service.cli.output import emit, emit_revision, say, show_history, show_moves, show_notices, write_json
from shelfwise.service.cli.search import PageOptions, QueryArgument, open_engine
from shelfwise.service.curation.document_store import DocumentChange
from shelfwise.service.curation.relevance import DEFAULT_RELEVANCE, Relevance, RelevanceStore, read_relevance
from shelfwise.service.engine.editors import Preview


class DocumentKind(StrEnum):
    """The kinds of documents."""

    RULES = "rules"
    SYNONYMS = "synonyms"
    RELATIONS = "relations"
    RELEVANCE = "relevance"
    CAMPAIGNS = "campaigns"
    EXPERIMENTS = "experiments"
    ANSWERS = "answers"


_LIST = {
    DocumentKind.RULES: "rules:list_rules",
    DocumentKind.SYNONYMS: "synonyms:list_synonyms",
    DocumentKind.CAMPAIGNS: "rules:list_campaigns",
    DocumentKind.EXPERIMENTS: "experiments:list_experiments",
    DocumentKind.ANSWERS: "search:list_texts",
}
_SHOW = {
    DocumentKind.RULES: "rules:show_rule",
    DocumentKind.SYNONYMS: "synonyms:show_synonyms",
    DocumentKind.RELEVANCE: "curate:show_relevance",
}
_PUT = {
    DocumentKind.RULES: "rules:put_rules",
    DocumentKind.SYNONYMS: "synonyms:put_synonyms",
    DocumentKind.RELEVANCE: "curate:put_relevance",
    DocumentKind.CAMPAIGNS: "rules:put_campaigns",
    DocumentKind.EXPERIMENTS: "experiments:put_experiment",
}
_DELETE = {
    DocumentKind.RULES: "rules:RULES.delete",
    DocumentKind.SYNONYMS: "synonyms:delete_synonyms",
    DocumentKind.CAMPAIGNS: "rules:CAMPAIGNS.delete",
    DocumentKind.ANSWERS: "search:delete_texts",
}
_HISTORY = {
    DocumentKind.RULES: "rules:RULES.history",
    DocumentKind.SYNONYMS: "synonyms:synonym_history",
    DocumentKind.RELATIONS: "synonyms:relation_history",
    DocumentKind.RELEVANCE: "curate:relevance_history",
    DocumentKind.CAMPAIGNS: "rules:CAMPAIGNS.history",
}
_RESTORE = {
    DocumentKind.RULES: "rules:RULES.restore",
    DocumentKind.RELEVANCE: "curate:restore_relevance",
    DocumentKind.CAMPAIGNS: "rules:CAMPAIGNS.restore",
}
_PREVIEW = {DocumentKind.RULES: "rules:preview_rules", DocumentKind.RELEVANCE: "curate:preview_relevance"}
Kind = Annotated[DocumentKind, Argument(metavar="KIND", help=f"One of {', '.join(DocumentKind)}.")]


@command("curate list rules store")
def list_documents(kind: Kind, index: Index) -> None:
    """List the rules, synonyms, campaigns, experiments or answers of an index."""
    _of(_LIST, kind, "list")(index)


@command("curate show rules store summer-sale > summer-sale.json", json=False)
def show(kind: Kind, index: Index, name: Annotated[str, Argument(help="Id of the rule.", metavar="ID")] = "") -> None:
    """Print a rule or the relevance settings as JSON, or the synonyms as a text file, for put."""
    _of(_SHOW, kind, "show")(index, name)


@command("curate put rules store summer-sale.toml --by m7")
def put(
    kind: Kind,
    index: Index,
    file: Annotated[Path, Argument(help="A JSON or TOML file, for synonyms a text file.", metavar="FILE")],
    by: By = "",
) -> None:
    """Add or replace the rules, synonyms, campaigns or the experiment of a file, all or none, or replace the relevance
    settings. Engines follow at once."""
    _of(_PUT, kind, "put")(index, file, by)


@command("curate delete rules store summer-sale --by m7")
def delete(
    kind: Kind, index: Index, ids: Annotated[list[str], Argument(help="Ids of documents.", metavar="ID")], by: By = ""
) -> None:
    """Delete rules, synonyms, campaigns or answers; they stay in the history, and the ledger keeps charges."""
    _of(_DELETE, kind, "delete")(index, ids, by)


@command("curate history rules store summer-sale --limit 5")
def history(
    kind: Kind,
    index: Index,
    name: Annotated[str, Argument(help="Id of a document; by default all.", metavar="ID")] = "",
    limit: Annotated[int, Option(help="Number of changes.", min=1)] = 20,
) -> None:
    """Show the history of changes of rules, synonyms, relations, campaigns or relevance settings, newest first."""
    _of(_HISTORY, kind, "history")(index, name, limit)


@command("curate restore rules store 12 --by m7")
def restore(
    kind: Kind,
    index: Index,
    revision: Annotated[int, Argument(help="Revision number in the history; 0 for none.", metavar="REVISION")],
    by: By = "",
) -> None:
    """Restore all rules, campaigns or relevance settings of a revision, as a new change that can be undone."""
    _of(_RESTORE, kind, "restore")(index, revision, by)


@command('curate preview rules store "cordless drill" summer-sale.toml')
def preview(
    kind: Kind,
    index: Index,
    query: QueryArgument,
    which: PageOptions,
    file: Annotated[Path | None, Argument(help="The file as for put.", metavar="FILE")] = None,
    delete: Annotated[
        list[str] | None, Option("--delete", help="Preview deleting a rule. Repeatable.", metavar="RULE")
    ] = None,
) -> None:
    """Show the effect of a change of rules or relevance settings on a page of a search, without changing anything."""
    _of(_PREVIEW, kind, "preview")(index, query, file, delete or (), which)


def _of(functions: Mapping[DocumentKind, str], kind: DocumentKind, verb: str) -> Callable[..., None]:
    """The function of a kind, whose module is imported now; raises SettingError for a kind that has none."""
    if kind not in functions:
        raise SettingError(f"curate {verb} is not for {kind}; use one of {', '.join(functions)}")
    module, _, path = functions[kind].partition(":")
    found: Callable[..., None] = attrgetter(path)(import_module(f"{__package__}.{module}"))
    return found


# Relevance settings.


def show_relevance(index: Path, _name: str) -> None:
    """Prints the settings as JSON for put, and on standard error whether field weights wait for a rebuild."""
    relevance = _store(index).current()
    write_json(msgspec.json.format(msgspec.json.encode(relevance)))
    weights = Store(index).find_serving().manifest.weights
    if weights != relevance.fields:
        show_notices([f"fields takes effect with the next rebuild; until then searches use {_text(weights)}"])


def put_relevance(index: Path, file: Path, by: str) -> None:
    """Replaces the settings with those of a file. Omitted settings get their defaults. Engines follow at once."""
    relevance = read_relevance(file)
    with open_engine(index, models=False) as engine:
        before = engine.relevance.revision
        after = engine.relevance.put([relevance], who=by)
    emit_revision(before, after, "the settings are now those of the file", undo=_undo(index))


def relevance_history(index: Path, _name: str, limit: int) -> None:
    """Prints the history of changes, newest first."""
    emit(_store(index).history(limit=limit), show_history, "document", _difference)


def restore_relevance(index: Path, revision: int, by: str) -> None:
    """Restores the settings of a revision, as a new change that can be undone."""
    store = _store(index)
    before = store.revision()
    after = store.restore(revision, who=by)
    emit_revision(before, after, f"the settings are now those of revision {revision}", undo=_undo(index))


def preview_relevance(index: Path, query: str, file: Path | None, delete: Sequence[str], which: PageOptions) -> None:
    """Prints the effect of other settings on a page of a search; raises SettingError without a file."""
    if file is None or delete:
        raise SettingError(
            "curate preview relevance needs a file of settings, and deletes nothing; name the file alone"
        )
    relevance = read_relevance(file)
    with open_engine(index) as engine:
        emit(engine.relevance.preview(query, [relevance], **asdict(which)), _show_preview)


def _undo(index: Path) -> str:
    return f"shelfwise curate restore relevance {index}"


def _store(index: Path) -> RelevanceStore:
    check_index(index)
    return RelevanceStore(index)


def _difference(change: DocumentChange[Relevance]) -> str:
    was, became = (each or DEFAULT_RELEVANCE for each in (change.before, change.after))
    pairs = ((name, getattr(was, name), getattr(became, name)) for name in Relevance.__struct_fields__)
    changed = [f"{name} {_text(before)} → {_text(after)}" for name, before, after in pairs if before != after]
    return "; ".join(changed) or "defaults"


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _show_preview(preview: Preview) -> None:
    show_moves(preview)
    say(f"{preview.before.total:,} products before, {preview.after.total:,} after")
    searched = [
        f"{page.suggestion!r} {'is searched for' if page.corrected else 'is offered'}" if page.suggestion else "none"
        for page in (preview.before, preview.after)
    ]
    if len(set(searched)) > 1:
        say(f"correction: {searched[0]} before, {searched[1]} after")
