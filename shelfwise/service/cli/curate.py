"""Documents of a store by kind: `curate list`, `show`, `put`, `delete`, `history`, `restore`, `preview`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

from typer import Argument, Option

from shelfwise.retrieval.errors import SettingError
from shelfwise.service.cli.experiments import list_experiments, put_experiment
from shelfwise.service.cli.options import By, Index, command
from shelfwise.service.cli.relevance import (
    preview_relevance,
    put_relevance,
    relevance_history,
    restore_relevance,
    show_relevance,
)
from shelfwise.service.cli.rules import (
    CAMPAIGNS,
    RULES,
    list_campaigns,
    list_rules,
    preview_rules,
    put_campaigns,
    put_rules,
    show_rule,
)
from shelfwise.service.cli.search import PageOptions, QueryArgument, delete_texts, list_texts
from shelfwise.service.cli.synonyms import (
    delete_synonyms,
    list_synonyms,
    put_synonyms,
    relation_history,
    show_synonyms,
    synonym_history,
)


class DocumentKind(StrEnum):
    """The kinds of documents."""

    RULES = "rules"
    SYNONYMS = "synonyms"
    RELATIONS = "relations"
    RELEVANCE = "relevance"
    CAMPAIGNS = "campaigns"
    EXPERIMENTS = "experiments"
    ANSWERS = "answers"


_Function = TypeVar("_Function")
_LIST = {
    DocumentKind.RULES: list_rules,
    DocumentKind.SYNONYMS: list_synonyms,
    DocumentKind.CAMPAIGNS: list_campaigns,
    DocumentKind.EXPERIMENTS: list_experiments,
    DocumentKind.ANSWERS: list_texts,
}
_SHOW: Mapping[DocumentKind, Callable[[Path, str], None]] = {
    DocumentKind.RULES: show_rule,
    DocumentKind.SYNONYMS: show_synonyms,
    DocumentKind.RELEVANCE: show_relevance,
}
_PUT = {
    DocumentKind.RULES: put_rules,
    DocumentKind.SYNONYMS: put_synonyms,
    DocumentKind.RELEVANCE: put_relevance,
    DocumentKind.CAMPAIGNS: put_campaigns,
    DocumentKind.EXPERIMENTS: put_experiment,
}
_DELETE = {
    DocumentKind.RULES: RULES.delete,
    DocumentKind.SYNONYMS: delete_synonyms,
    DocumentKind.CAMPAIGNS: CAMPAIGNS.delete,
    DocumentKind.ANSWERS: delete_texts,
}
_HISTORY: Mapping[DocumentKind, Callable[[Path, str, int], None]] = {
    DocumentKind.RULES: RULES.history,
    DocumentKind.SYNONYMS: synonym_history,
    DocumentKind.RELATIONS: relation_history,
    DocumentKind.RELEVANCE: relevance_history,
    DocumentKind.CAMPAIGNS: CAMPAIGNS.history,
}
_RESTORE = {
    DocumentKind.RULES: RULES.restore,
    DocumentKind.RELEVANCE: restore_relevance,
    DocumentKind.CAMPAIGNS: CAMPAIGNS.restore,
}
_PREVIEW = {DocumentKind.RULES: preview_rules, DocumentKind.RELEVANCE: preview_relevance}
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
    file: Annotated[
        Path, Argument(help="A JSON or TOML file, for synonyms a text file: docs/KIND.md.", metavar="FILE")
    ],
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


def _of(functions: Mapping[DocumentKind, _Function], kind: DocumentKind, verb: str) -> _Function:
    """The function of a kind; raises SettingError for a kind that has none."""
    if kind not in functions:
        raise SettingError(f"curate {verb} is not for {kind}; use one of {', '.join(functions)}")
    return functions[kind]
