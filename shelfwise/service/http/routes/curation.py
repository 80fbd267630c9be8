"""Routes of merchandising rules, synonyms, relations, relevance settings, answer texts and experiments, with their
history."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import Body, Path, Query
from pydantic import Field

from shelfwise.indexer.cleaning.text import clean_text
from shelfwise.retrieval.errors import UnknownProductError
from shelfwise.retrieval.records import Relation, RelationKind
from shelfwise.service.answers.faq import FaqEntry, entry_id
from shelfwise.service.answers.unanswered import UnansweredQuestion, unanswered_questions
from shelfwise.service.curation.document_store import DocumentChange, Entry
from shelfwise.service.curation.relations import RelationChange, RelationCorrection
from shelfwise.service.curation.relevance import Relevance, RelevanceChange, parse_relevance
from shelfwise.service.curation.rules import parse_rule, rule_document
from shelfwise.service.curation.synonym_mining import Proposal
from shelfwise.service.curation.synonyms import Synonym, SynonymChange
from shelfwise.service.engine.editors import HitMove, Preview, RuleExposure
from shelfwise.service.experiments.assignment import check_rankers, notices
from shelfwise.service.experiments.experiment import parse_experiment
from shelfwise.service.experiments.store import stored_document
from shelfwise.service.http.auth import combine_filters
from shelfwise.service.http.context import Contextual, MayAdminister, WorkerRouter
from shelfwise.service.http.schemas import (
    RESPONSES,
    Name,
    PreviewBody,
    ProductId,
    RelevancePreviewBody,
    RequestBody,
    RestoreBody,
    RulesBody,
    SynonymsBody,
)

rule_router = WorkerRouter(prefix="/v1/rules", tags=["rules"], responses=RESPONSES)
synonym_router = WorkerRouter(prefix="/v1/synonyms", tags=["synonyms"], responses=RESPONSES)
relation_router = WorkerRouter(prefix="/v1/relations", tags=["relations"], responses=RESPONSES)
relevance_router = WorkerRouter(prefix="/v1/relevance", tags=["relevance"], responses=RESPONSES)
answer_router = WorkerRouter(prefix="/v1/answers", tags=["answers"], responses=RESPONSES)
experiment_router = WorkerRouter(prefix="/v1/experiments", tags=["experiments"], responses=RESPONSES)

Document = dict[str, Any]
"""A rule, an experiment or an answer text, as in docs/rules.md, docs/experiments.md and docs/answers.md."""
DocumentId = Annotated[str, Path(min_length=1, max_length=200)]
HistoryOf = Annotated[str, Query(max_length=200, description="Id of one document; by default all.")]
Limit = Annotated[int, Query(ge=1, le=1_000)]
_EXPERIMENT = {"id": "rrf", "variants": [{"name": "now"}, {"name": "rrf", "options": {"merge": "rrf"}}]}


@dataclass(frozen=True, slots=True)
class RevisionResponse:
    """The revision of a durable change."""

    revision: int


@dataclass(frozen=True, slots=True)
class RulesResponse:
    """All rules of a store."""

    revision: int
    rules: tuple[Document, ...]
    faults: dict[str, str]
    """The reason why a rule is not applied, by rule id."""
    exposure_goals: tuple[RuleExposure, ...]
    """Today's progress of each exposure goal."""


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


def document_history(
    changes: Iterable[DocumentChange[Entry]], document_of: Callable[[Entry], Document]
) -> DocumentHistoryResponse:
    """The response for the history of rules, campaigns or answer texts."""
    return DocumentHistoryResponse(
        tuple(
            DocumentHistoryEntry(
                each.revision,
                each.time,
                each.who,
                each.id,
                *(None if entry is None else document_of(entry) for entry in (each.before, each.after)),
            )
            for each in changes
        )
    )


@dataclass(frozen=True, slots=True)
class PreviewResponse:
    """The effect of changes on one page. Nothing is changed."""

    total_before: int
    total_after: int
    gained: tuple[HitMove, ...]
    lost: tuple[HitMove, ...]
    moved: tuple[HitMove, ...]


@rule_router.get("", summary="All rules")
def rules(context: Contextual, _permit: MayAdminister) -> RulesResponse:
    """The rules by id, and the reason for each rule that the current version cannot apply."""
    editor = context.engine.rules
    documents, exposure_goals = tuple(map(rule_document, editor.list())), tuple(editor.exposure_goals())
    return RulesResponse(editor.revision, documents, dict(editor.faults), exposure_goals)


@rule_router.put("", summary="Add or replace rules")
def put_rule(context: Contextual, permit: MayAdminister, body: RulesBody) -> RevisionResponse:
    """Stores all rules or none; they apply to searches at once. The history records the key's id."""
    return RevisionResponse(context.engine.rules.put(list(map(parse_rule, body.rules)), who=permit.id))


@rule_router.get("/history", summary="Changes of rules")
def rule_history(
    context: Contextual, _permit: MayAdminister, rule: HistoryOf = "", limit: Limit = 100
) -> DocumentHistoryResponse:
    """Every change, with its author and the rule before and after it."""
    return document_history(context.engine.rules.history(rule or None, limit), rule_document)


@rule_router.post("/restore", summary="Restore an earlier revision")
def restore(context: Contextual, permit: MayAdminister, body: RestoreBody) -> RevisionResponse:
    """Restores all rules to a revision, as a new change."""
    return RevisionResponse(context.engine.rules.restore(body.revision, who=permit.id))


@rule_router.post("/preview", summary="Preview changes of rules")
def preview(context: Contextual, permit: MayAdminister, body: PreviewBody) -> PreviewResponse:
    """Compares a search with the current rules and the same search with the changed rules. Nothing is changed."""
    found = context.engine.rules.preview(
        body.q,
        list(map(parse_rule, body.put)),
        delete=body.delete,
        size=body.size,
        page=body.page,
        filters=combine_filters((*permit.filters, body.filters)),
    )
    return _to_preview(found)


@rule_router.patch("/{rule_id}", summary="Change some fields of a rule")
def patch(
    context: Contextual,
    permit: MayAdminister,
    rule_id: DocumentId,
    values: Annotated[Document, Body(min_length=1, examples=[{"enabled": False}])],
) -> RevisionResponse:
    """Changes fields, named as in the rule's document."""
    return RevisionResponse(context.engine.rules.patch(rule_id, values, who=permit.id))


@rule_router.delete("/{rule_id}", summary="Delete a rule")
def delete_rule(context: Contextual, permit: MayAdminister, rule_id: DocumentId) -> RevisionResponse:
    """The rule remains in the history and can be restored."""
    return RevisionResponse(context.engine.rules.delete([rule_id], who=permit.id))


def _to_preview(found: Preview) -> PreviewResponse:
    return PreviewResponse(found.before.total, found.after.total, found.gained, found.lost, found.moved)


@dataclass(frozen=True, slots=True)
class SynonymsResponse:
    """All synonyms of a store, except those built into its version."""

    revision: int
    synonyms: tuple[Synonym, ...]


@dataclass(frozen=True, slots=True)
class SynonymHistoryResponse:
    """Changes, newest first."""

    changes: tuple[SynonymChange, ...]


@dataclass(frozen=True, slots=True)
class ProposalsResponse:
    """Synonyms proposed from shoppers' queries, strongest first."""

    total: int
    """Number of all proposals, including those beyond the limit."""
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True)
class AcceptedProposalResponse:
    """The synonym created from a proposal."""

    revision: int
    synonym: Synonym


@dataclass(frozen=True, slots=True)
class DeclinedProposalResponse:
    """The id of a proposal that will not be proposed again."""

    declined: str


@synonym_router.get("", summary="All synonyms")
def synonyms(context: Contextual, _permit: MayAdminister) -> SynonymsResponse:
    """The synonyms by id."""
    editor = context.engine.synonyms
    return SynonymsResponse(editor.revision, editor.list())


@synonym_router.put("", summary="Add or replace synonyms")
def put_synonym(context: Contextual, permit: MayAdminister, body: SynonymsBody) -> RevisionResponse:
    """Stores all synonyms or none; they apply to searches at once. The history records the key's id."""
    wanted = [each.to_synonym() for each in body.synonyms]
    return RevisionResponse(context.engine.synonyms.put(wanted, who=permit.id))


@synonym_router.get("/history", summary="Changes of synonyms")
def synonym_history(
    context: Contextual, _permit: MayAdminister, synonym: HistoryOf = "", limit: Limit = 100
) -> SynonymHistoryResponse:
    """Every change, with its author and the synonym before and after it."""
    return SynonymHistoryResponse(tuple(context.engine.synonyms.history(synonym or None, limit)))


@synonym_router.get("/proposals", summary="Proposals from shoppers' queries")
def proposals(context: Contextual, _permit: MayAdminister, limit: Limit = 100) -> ProposalsResponse:
    """Proposals with their evidence, without declined ones and existing synonyms."""
    found = context.engine.synonyms.proposals()
    return ProposalsResponse(len(found), found[:limit])


@synonym_router.post("/proposals/{proposal_id}/accept", summary="Accept a proposal")
def accept(context: Contextual, permit: MayAdminister, proposal_id: DocumentId) -> AcceptedProposalResponse:
    """Stores the proposal as a synonym, which applies to searches at once."""
    editor = context.engine.synonyms
    accepted = editor.accept(proposal_id, who=permit.id)
    return AcceptedProposalResponse(editor.revision, accepted)


@synonym_router.post("/proposals/{proposal_id}/decline", summary="Decline a proposal")
def decline(context: Contextual, permit: MayAdminister, proposal_id: DocumentId) -> DeclinedProposalResponse:
    """The synonym will not be proposed again."""
    context.engine.synonyms.decline(proposal_id, who=permit.id)
    return DeclinedProposalResponse(proposal_id)


@synonym_router.delete("/{synonym_id:path}", summary="Delete a synonym")
def delete_synonym(context: Contextual, permit: MayAdminister, synonym_id: DocumentId) -> RevisionResponse:
    """The synonym remains in the history."""
    return RevisionResponse(context.engine.synonyms.delete([synonym_id], who=permit.id))


@dataclass(frozen=True, slots=True)
class ProductRelation:
    """A relation between a product and another one."""

    product_id: str
    relation: Relation


@dataclass(frozen=True, slots=True)
class RelationsResponse:
    """The relations of a product, and the store's corrections of them."""

    revision: int
    relations: tuple[ProductRelation, ...]
    """Relations with corrections applied, without the products of related types."""
    corrections: tuple[RelationCorrection, ...]
    titles: dict[str, str]
    """Titles of the named products that exist, by id."""


@dataclass(frozen=True, slots=True)
class RelationHistoryResponse:
    """Changes, newest first."""

    changes: tuple[RelationChange, ...]


class RelationBody(RequestBody):
    """One correction; "product KIND other" reads as a sentence."""

    kind: RelationKind
    product: str = Field(min_length=1, max_length=1_000)
    other: str = Field(min_length=1, max_length=1_000)
    removed: bool = Field(False, description="True if the relation does not hold, whatever a refresh finds.")

    def to_correction(self) -> RelationCorrection:
        return RelationCorrection(self.kind, self.product, self.other, self.removed)


class RelationsBody(RequestBody):
    """Corrections that are stored together or not at all."""

    corrections: list[RelationBody] = Field(min_length=1, max_length=1_000)


ProductOf = Annotated[str, Query(min_length=1, max_length=1_000, description="The id of a product.")]


@relation_router.get("", summary="The relations of a product")
def relations(context: Contextual, _permit: MayAdminister, product: ProductOf) -> RelationsResponse:
    """Every relation with its kind, evidence, strength and number of shoppers; with products that rules hide."""
    engine = context.engine
    engine.product(product)
    found = tuple(ProductRelation(other, relation) for other, relation in engine.relations.show(product))
    corrections = tuple(engine.relations.corrections(product))
    titles = {}
    for name in {each.product_id for each in found}.union(*((each.product, each.other) for each in corrections)):
        with suppress(UnknownProductError):
            titles[name] = engine.product(name).title
    return RelationsResponse(engine.relations.revision, found, corrections, titles)


@relation_router.put("", summary="Add or remove relations")
def put_relations(context: Contextual, permit: MayAdminister, body: RelationsBody) -> RevisionResponse:
    """Stores all corrections or none. They apply at once, whatever a refresh finds. The history records the key's
    id."""
    wanted = [each.to_correction() for each in body.corrections]
    return RevisionResponse(context.engine.relations.correct(*wanted, who=permit.id))


@relation_router.delete("", summary="Withdraw a correction")
def withdraw_relation(
    context: Contextual, permit: MayAdminister, product: ProductOf, kind: RelationKind, other: ProductOf
) -> RevisionResponse:
    """The pair follows the results of refreshes again. The correction remains in the history."""
    correction = RelationCorrection(kind, product, other)
    return RevisionResponse(context.engine.relations.withdraw(correction, who=permit.id))


@relation_router.get("/history", summary="Changes of relations")
def relation_history(
    context: Contextual,
    _permit: MayAdminister,
    product: Annotated[str, Query(max_length=1_000, description="Id of one product; by default all.")] = "",
    limit: Limit = 100,
) -> RelationHistoryResponse:
    """Every correction, with its author and the one before and after it."""
    return RelationHistoryResponse(tuple(context.engine.relations.history(product or None, limit)))


@dataclass(frozen=True, slots=True)
class RelevanceResponse:
    """The relevance settings of a store."""

    revision: int
    relevance: Document
    """All settings, as in docs/rules.md."""
    faults: dict[str, str]
    """The reason why a signal is not applied, by field."""
    fields_in_effect: Document
    """Field weights of the serving version; those in `relevance` apply after the next rebuild."""


@dataclass(frozen=True, slots=True)
class RelevanceHistoryEntry:
    """One change of the settings."""

    revision: int
    time: datetime
    who: str
    before: Document | None
    after: Document | None


@dataclass(frozen=True, slots=True)
class RelevanceHistoryResponse:
    """Changes, newest first."""

    changes: tuple[RelevanceHistoryEntry, ...]


@relevance_router.get("", summary="The relevance settings")
def relevance(context: Contextual, _permit: MayAdminister) -> RelevanceResponse:
    """The stored settings, or the defaults."""
    editor = context.engine.relevance
    faults, weights = dict(editor.faults), msgspec.to_builtins(editor.weights_in_effect)
    return RelevanceResponse(editor.revision, _to_document(editor.get()), faults, weights)


@relevance_router.put("", summary="Replace the relevance settings")
def put_relevance(
    context: Contextual,
    permit: MayAdminister,
    settings: Annotated[Document, Body(examples=[{"typo_tolerance": "offer", "signals": [{"field": "rating"}]}])],
) -> RevisionResponse:
    """Omitted settings get their defaults. The settings apply to searches at once. The history records the key's id."""
    return RevisionResponse(context.engine.relevance.put(parse_relevance(settings), who=permit.id))


@relevance_router.get("/history", summary="Changes of the relevance settings")
def relevance_history(context: Contextual, _permit: MayAdminister, limit: Limit = 100) -> RelevanceHistoryResponse:
    """Every change, with its author and the settings before and after it."""
    return RelevanceHistoryResponse(tuple(map(_to_relevance_entry, context.engine.relevance.history(limit))))


@relevance_router.post("/restore", summary="Restore earlier relevance settings")
def restore_relevance(context: Contextual, permit: MayAdminister, body: RestoreBody) -> RevisionResponse:
    """Restores the settings of a revision, as a new change."""
    return RevisionResponse(context.engine.relevance.restore(body.revision, who=permit.id))


@relevance_router.post("/preview", summary="Preview relevance settings")
def preview_relevance(context: Contextual, permit: MayAdminister, body: RelevancePreviewBody) -> PreviewResponse:
    """Compares a search with the current settings and the same search with other settings. Nothing is changed."""
    filters = combine_filters((*permit.filters, body.filters))
    wanted = parse_relevance(body.put)
    return _to_preview(
        context.engine.relevance.preview(body.q, wanted, size=body.size, page=body.page, filters=filters)
    )


def _to_relevance_entry(change: RelevanceChange) -> RelevanceHistoryEntry:
    before, after = (None if each is None else _to_document(each) for each in (change.before, change.after))
    return RelevanceHistoryEntry(change.revision, change.time, change.who, before, after)


def _to_document(settings: Relevance) -> Document:
    document: Document = msgspec.to_builtins(settings)
    return document


class FaqEntryBody(RequestBody):
    """An answer text, as in docs/answers.md. Markup is removed; personal data is not masked."""

    id: str = Field("", max_length=200, description="By default derived from the texts.")
    question: str = Field("", max_length=10_000, examples=["What is your return policy?"])
    answer: str = Field(max_length=10_000, examples=["You can send anything back within 30 days."])
    products: tuple[ProductId, ...] = Field((), max_length=1_000, description="Product ids; empty for the whole store.")
    product_type: Name = Field("", description="The type of product that it is about.")
    source: Name = ""

    def to_entry(self) -> FaqEntry:
        question, answer = (clean_text(each, set()) for each in (self.question, self.answer))
        own_id = self.id or entry_id(question, answer)
        return FaqEntry(own_id, answer, question, self.products, self.product_type.strip(), self.source)


class FaqBody(RequestBody):
    """Answer texts that are stored together or not at all."""

    # Encoding more can take longer than the time limit of a request.
    entries: list[FaqEntryBody] = Field(min_length=1, max_length=100)


@dataclass(frozen=True, slots=True)
class FaqResponse:
    """Answer texts, ordered by id."""

    revision: int
    total: int
    """Number of all matching texts, including those beyond the limit."""
    entries: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class UnansweredResponse:
    """Questions of shoppers without an answer, most frequent first."""

    questions: tuple[UnansweredQuestion, ...]


@answer_router.get("", summary="Answer texts")
def faq(
    context: Contextual,
    _permit: MayAdminister,
    q: Annotated[str, Query(max_length=1_000, description="Part of an id, question or answer.")] = "",
    limit: Limit = 100,
) -> FaqResponse:
    """The FAQ, tickets and passages of manuals from which questions are answered, in addition to product texts."""
    editor, wanted = context.engine.faq, q.strip().casefold()
    found = [each for each in editor.list() if wanted in f"{each.id}\n{each.question}\n{each.answer}".casefold()]
    return FaqResponse(editor.revision, len(found), tuple(map(msgspec.to_builtins, found[:limit])))


@answer_router.put("", summary="Add or replace answer texts")
def put_faq(context: Contextual, permit: MayAdminister, body: FaqBody) -> RevisionResponse:
    """Stores all texts or none; they are used for answers at once. The history records the key's id."""
    return RevisionResponse(context.engine.faq.put([each.to_entry() for each in body.entries], who=permit.id))


@answer_router.get("/history", summary="Changes of answer texts")
def faq_history(
    context: Contextual, _permit: MayAdminister, entry: HistoryOf = "", limit: Limit = 100
) -> DocumentHistoryResponse:
    """Every change, with its author and the text before and after it."""
    return document_history(context.engine.faq.history(entry or None, limit), msgspec.to_builtins)


@answer_router.get("/unanswered", summary="Questions without an answer")
def unanswered(context: Contextual, _permit: MayAdminister, limit: Limit = 50) -> UnansweredResponse:
    """Questions of at least events.minimum_shoppers shoppers that no public text answers, as counted by the last
    refresh of the derived tables; with the product, for questions on a product's page."""
    engine = context.engine
    answer = partial(engine.answer, hidden=engine.relevance.served.hidden)
    return UnansweredResponse(unanswered_questions(answer, engine.root, limit))


@answer_router.delete("/{entry_id:path}", summary="Delete an answer text")
def delete_faq(context: Contextual, permit: MayAdminister, entry_id: DocumentId) -> RevisionResponse:
    """The text remains in the history."""
    return RevisionResponse(context.engine.faq.delete([entry_id], who=permit.id))


@dataclass(frozen=True, slots=True)
class ExperimentsResponse:
    """All experiments of a store."""

    experiments: tuple[Document, ...]
    """Experiments with their states, and the times of their start and end."""
    notices: tuple[str, ...]
    """Problems of searches that should take part."""


@dataclass(frozen=True, slots=True)
class ExperimentChangeResponse:
    """A durable change of an experiment."""

    changed: bool
    """Whether anything changed; false if the experiment was already in this state."""


@experiment_router.get("", summary="All experiments")
def experiments(context: Contextual, _permit: MayAdminister) -> ExperimentsResponse:
    """The experiments by id."""
    now, served = datetime.now(UTC), context.experiments
    documents = tuple(stored_document(each, now) for each in served.store.read().documents)
    return ExperimentsResponse(documents, notices(context.engine, served))


@experiment_router.put("", summary="Add an experiment")
def put_experiment(
    context: Contextual, permit: MayAdminister, experiment: Annotated[Document, Body(examples=[_EXPERIMENT])]
) -> ExperimentChangeResponse:
    """Adds an experiment, or replaces one that has not started. Searches take part at once, or from `starts`."""
    wanted = parse_experiment(experiment)
    check_rankers(wanted, context.engine.ranker_problem)
    changed = context.experiments.store.put(wanted, who=permit.id)
    context.experiments.reload_if_changed()
    return ExperimentChangeResponse(changed)


@experiment_router.post("/{experiment_id}/stop", summary="End an experiment")
def stop(context: Contextual, permit: MayAdminister, experiment_id: DocumentId) -> ExperimentChangeResponse:
    """Ends the experiment permanently; its report remains."""
    changed = context.experiments.store.stop(experiment_id, who=permit.id)
    context.experiments.reload_if_changed()
    return ExperimentChangeResponse(changed)


@experiment_router.get("/{experiment_id}/report", summary="Report of an experiment")
def report(context: Contextual, _permit: MayAdminister, experiment_id: DocumentId) -> Document:
    """The measures of each variant, their differences with intervals, and the conclusions, from the tables of the last
    `shelfwise events refresh`."""
    from shelfwise.service.experiments.analysis import report_document, stored_report  # imports scipy and scikit-learn

    return report_document(stored_report(context.engine.root, experiment_id, datetime.now(UTC)))
