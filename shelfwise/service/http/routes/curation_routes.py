"""Routes of the documents of a store with their history, of the ledger of campaigns, which
advertisers may read, and of reports on experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Body, Path, Query
from msgspec import to_builtins
from starlette.convertors import StringConvertor, register_url_convertor

from shelfwise.service.answers.answering import UnansweredQuestion, unanswered_questions
from shelfwise.service.curation.document_store import DocumentKind
from shelfwise.service.engine.editors import DocumentEditor, HitMove, PreviewEditor, editor_of
from shelfwise.service.http.auth import Permit, Scope, combine_filters
from shelfwise.service.http.context import Contextual, MayAdminister, MayReadLedger, WorkerRouter
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.schemas import RESPONSES, DocumentsBody, PreviewBody, RestoreBody
from shelfwise.service.sponsored.ledger import CampaignDay, LedgerEntry


class _KindConvertor(StringConvertor):
    """The kinds of documents in paths, so that no other path matches."""

    regex = "|".join(DocumentKind)


register_url_convertor("documents", _KindConvertor())
router = WorkerRouter(prefix="/v1/{kind:documents}", tags=["documents"], responses=RESPONSES)
question_router = WorkerRouter(prefix="/v1", tags=["documents"], responses=RESPONSES)
ledger_router = WorkerRouter(prefix="/v1/campaigns", tags=["sponsored"], responses=RESPONSES)
experiment_router = WorkerRouter(prefix="/v1/experiments", tags=["experiments"], responses=RESPONSES)

Document = dict[str, Any]
"""A document, as in docs/rules.md, docs/synonyms.md, docs/relations.md, docs/sponsored.md, docs/answers.md and
docs/experiments.md."""
Kind = Annotated[DocumentKind, Path(description="The kind of document.")]
DocumentId = Annotated[str, Path(min_length=1, max_length=3_000)]
Limit = Annotated[int, Query(ge=1, le=1_000)]


@dataclass(frozen=True, slots=True)
class RevisionResponse:
    """The revision of a durable change."""

    revision: int


@dataclass(frozen=True, slots=True)
class DocumentsResponse:
    """Documents of one kind, ordered by id."""

    revision: int
    total: int
    """Number of all matching documents, including those beyond the limit."""
    documents: tuple[Document, ...]
    faults: Mapping[str, str]
    """The reason why a document is not applied, by its id; for relevance settings, why a signal is not, by field."""
    details: Document
    """For rules `exposure_goals`, today's progress of each; for campaigns `enabled` and `states` with the amounts
    spent, by id; for experiments `states` by id; for relevance settings `fields_in_effect`; for a product's relations
    `relations` and `titles`."""


@dataclass(frozen=True, slots=True)
class DocumentHistoryEntry:
    """One change of one document."""

    revision: int
    time: datetime
    who: str
    id: str
    before: Document | None
    after: Document | None


@dataclass(frozen=True, slots=True)
class DocumentHistoryResponse:
    """Changes, newest first."""

    changes: tuple[DocumentHistoryEntry, ...]


@dataclass(frozen=True, slots=True)
class PreviewResponse:
    """The effect of changes on one page. Nothing is changed."""

    total_before: int
    total_after: int
    gained: tuple[HitMove, ...]
    lost: tuple[HitMove, ...]
    moved: tuple[HitMove, ...]


@router.get("", summary="Documents of one kind")
def list_documents(
    context: Contextual,
    _permit: MayAdminister,
    kind: Kind,
    q: Annotated[str, Query(max_length=1_000, description="Part of a text of the document.")] = "",
    product: Annotated[str, Query(max_length=1_000, description="For relations: only those of this product.")] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> DocumentsResponse:
    """Rules, synonyms, corrections of relations, relevance settings, campaigns, texts for answers or experiments."""
    editor = editor_of(context.engine, kind)
    words = q.strip().casefold()
    entries = editor.of_product(product) if product else editor.list()
    documents = [each for each in map(editor.kind.to_plain, entries) if not words or words in _text_of(each)]
    details: Document = to_builtins(editor.details(product))
    return DocumentsResponse(editor.revision, len(documents), tuple(documents[:limit]), dict(editor.faults), details)


@router.put("", summary="Add or replace documents")
def put_documents(context: Contextual, permit: MayAdminister, kind: Kind, body: DocumentsBody) -> RevisionResponse:
    """Stores all documents or none; they apply to searches at once. The history records the key's id. Relevance
    settings are one document, whose omitted fields get their defaults."""
    editor = editor_of(context.engine, kind)
    if len(body.documents) > editor.kind.batch:
        message = f"documents: has {len(body.documents):,} {kind}, at most {editor.kind.batch:,} are allowed"
        raise RequestError(400, message, field="documents")
    return RevisionResponse(editor.put(_accepted(editor, body.documents, "documents"), who=permit.id))


@router.get("/history", summary="Changes of documents")
def document_history(
    context: Contextual,
    _permit: MayAdminister,
    kind: Kind,
    of: Annotated[str, Query(alias="id", max_length=3_000, description="Id of one document; by default all.")] = "",
    limit: Limit = 100,
) -> DocumentHistoryResponse:
    """Every change, with its author and the document before and after it. For relations, `id` may be that of a
    product."""
    editor = editor_of(context.engine, kind)
    return DocumentHistoryResponse(
        tuple(DocumentHistoryEntry(**editor.kind.plain_change(each)) for each in editor.history(of or None, limit))
    )


@router.post("/restore", summary="Restore an earlier revision")
def restore(context: Contextual, permit: MayAdminister, kind: Kind, body: RestoreBody) -> RevisionResponse:
    """Restores all documents of the kind to a revision, as a new change. Charges of campaigns remain."""
    return RevisionResponse(editor_of(context.engine, kind).restore(body.revision, who=permit.id))


@router.post("/preview", summary="Preview changes of documents")
def preview(context: Contextual, permit: MayAdminister, kind: Kind, body: PreviewBody) -> PreviewResponse:
    """Compares a search with the current rules or relevance settings and the same search with changed ones. Nothing is
    changed."""
    editor = editor_of(context.engine, kind)
    if not isinstance(editor, PreviewEditor):
        raise RequestError(400, f"{kind} have no preview; rules and relevance settings have one", field="kind")
    comparison = editor.preview(
        body.q,
        _accepted(editor, body.put, "put"),
        delete=body.delete,
        size=body.size,
        page=body.page,
        filters=combine_filters((*permit.filters, body.filters)),
    )
    return PreviewResponse(
        comparison.before.total, comparison.after.total, comparison.gained, comparison.lost, comparison.moved
    )


@router.patch("/{document_id:path}", summary="Change some fields of a document")
def patch(
    context: Contextual,
    permit: MayAdminister,
    kind: Kind,
    document_id: DocumentId,
    values: Annotated[Document, Body(min_length=1, examples=[{"enabled": False}])],
) -> RevisionResponse:
    """Changes fields, named as in the document. The id of relevance settings is `relevance`."""
    return RevisionResponse(editor_of(context.engine, kind).patch(document_id, values, who=permit.id))


@router.delete("/{document_id:path}", summary="Delete a document")
def delete(context: Contextual, permit: MayAdminister, kind: Kind, document_id: DocumentId) -> RevisionResponse:
    """The document remains in the history. A relation without a correction follows the refreshes again; an experiment
    that has started cannot be deleted."""
    return RevisionResponse(editor_of(context.engine, kind).delete([document_id], who=permit.id))


def _accepted(editor: DocumentEditor[Any], documents: list[Document], path: str) -> list[Any]:
    return [editor.kind.accept(each, f"{path}[{number}]") for number, each in enumerate(documents)]


def _text_of(document: object) -> str:
    """All texts of a document, folded."""
    if isinstance(document, Mapping):
        return "\n".join(map(_text_of, document.values()))
    if isinstance(document, list | tuple):
        return "\n".join(map(_text_of, document))
    return str(document).casefold()


@dataclass(frozen=True, slots=True)
class UnansweredResponse:
    """Questions of shoppers without an answer, most frequent first."""

    questions: tuple[UnansweredQuestion, ...]


@question_router.get("/answers/unanswered", summary="Questions without an answer")
def unanswered(context: Contextual, _permit: MayAdminister, limit: Limit = 50) -> UnansweredResponse:
    """Questions of at least events.minimum_shoppers shoppers that no public text answers, as counted by the last
    refresh of the derived tables; with the product, for questions on a product's page."""
    engine = context.engine
    answer = partial(engine.answer, hidden=engine.relevance.served.hidden)
    return UnansweredResponse(unanswered_questions(answer, engine.root, limit))


Advertiser = Annotated[str, Query(max_length=32, description="By default all; for the scope advertiser, its own.")]
CampaignId = Annotated[str, Query(max_length=32, description="Only this campaign.")]


@dataclass(frozen=True, slots=True)
class LedgerResponse:
    """Entries of the ledger, oldest first."""

    entries: tuple[LedgerEntry, ...]


@dataclass(frozen=True, slots=True)
class CampaignReportResponse:
    """Counts by campaign and day, newest first."""

    days: tuple[CampaignDay, ...]


@ledger_router.get("/log", summary="The ledger of clicks on sponsored hits")
def ledger(
    context: Contextual,
    permit: MayReadLedger,
    advertiser: Advertiser = "",
    campaign: CampaignId = "",
    after: Annotated[int, Query(ge=0, description="Id of the last known entry.")] = 0,
    limit: Limit = 100,
) -> LedgerResponse:
    """The result of each click with its reason, and no data about shoppers. A key with the scope advertiser reads the
    entries of its own advertiser."""
    whose = _advertiser_of(permit, advertiser)
    entries = context.engine.campaigns.ledger.entries(whose, campaign=campaign, after=after, limit=limit)
    return LedgerResponse(tuple(entries))


@ledger_router.get("/report", summary="Counts of sponsored campaigns by day")
def campaign_report(
    context: Contextual,
    permit: MayReadLedger,
    advertiser: Advertiser = "",
    campaign: CampaignId = "",
    days: Annotated[int, Query(ge=1, le=3_660)] = 30,
) -> CampaignReportResponse:
    """Sponsored hits shown, clicks, charges, amounts and clicks not charged, by reason, of the last days."""
    whose = _advertiser_of(permit, advertiser)
    return CampaignReportResponse(tuple(context.engine.campaigns.ledger.days(whose, campaign=campaign, days=days)))


def _advertiser_of(permit: Permit, advertiser: str) -> str:
    """The advertiser whose entries are requested; raises RequestError (403) if the key is another advertiser's."""
    if Scope.ADMIN in permit.scopes:
        return advertiser
    if advertiser not in ("", permit.name):
        message = f"this key is for the advertiser {permit.name!r} and cannot read the entries of others"
        raise RequestError(403, message, field="advertiser")
    return permit.name


@experiment_router.get("/{experiment_id}/report", summary="Report of an experiment")
def report(context: Contextual, _permit: MayAdminister, experiment_id: DocumentId) -> Document:
    """The measures of each variant, their differences with intervals, and the conclusions, from the tables of the last
    `shelfwise events refresh`."""
    from shelfwise.service.experiments.analysis import report_document, stored_report  # imports scipy and scikit-learn

    return report_document(stored_report(context.engine.root, experiment_id, datetime.now(UTC)))
