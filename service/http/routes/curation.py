"""Merchandising rules, synonyms and experiments over HTTP: read, changed, tried, and what was changed by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response

from service.curation.rule_editor import HitMove
from service.curation.rules import RuleChange, parse_rule, rule_document
from service.curation.synonym_mining import Proposal
from service.curation.synonyms import Synonym, SynonymChange
from service.experiments.analysis import report_document, stored_document
from service.experiments.assignment import check_rankers, notices
from service.experiments.experiment import parse_experiment
from service.http.auth import combine_filters
from service.http.context import Contextual, MayAdminister
from service.http.schemas import RESPONSES, PreviewBody, RestoreBody, RulesBody, SynonymsBody, json_response

rule_router = APIRouter(prefix="/v1/rules", tags=["rules"], responses=RESPONSES)

Document = dict[str, Any]
"""A rule, as docs/rules.md writes them."""
RuleId = Annotated[str, Path(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class RulesResponse:
    """All rules of a store."""

    revision: int
    rules: tuple[Document, ...]
    faults: dict[str, str]
    """Why a rule is passed over, by its id."""


@dataclass(frozen=True, slots=True)
class RuleRevisionResponse:
    """A change that was taken, durably."""

    revision: int


@dataclass(frozen=True, slots=True)
class RuleHistoryEntry:
    """What one change did to one rule."""

    revision: int
    time: datetime
    who: str
    id: str
    before: Document | None
    after: Document | None


@dataclass(frozen=True, slots=True)
class RuleHistoryResponse:
    """Changes, the newest first."""

    changes: tuple[RuleHistoryEntry, ...]


@dataclass(frozen=True, slots=True)
class RulePreviewResponse:
    """What a page would be. Nothing was changed."""

    total_before: int
    total_after: int
    gained: tuple[HitMove, ...]
    lost: tuple[HitMove, ...]
    moved: tuple[HitMove, ...]


@rule_router.get("", response_model=RulesResponse, summary="All rules")
async def rules(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids, with what is wrong with those that the version that serves cannot follow."""

    def read() -> RulesResponse:
        held = context.engine.rules
        return RulesResponse(held.revision, tuple(map(rule_document, held.list())), dict(held.faults))

    return json_response(await context.threads.run(read))


@rule_router.put("", response_model=RuleRevisionResponse, summary="Add or replace rules")
async def put_rule(context: Contextual, permit: MayAdminister, body: RulesBody) -> Response:
    """All of them or none; searches follow at once. The key's id is written down beside the change."""
    made = [parse_rule(each) for each in body.rules]
    return json_response(
        RuleRevisionResponse(await context.threads.run(lambda: context.engine.rules.put(made, who=permit.id)))
    )


@rule_router.get("/history", response_model=RuleHistoryResponse, summary="What was changed, by whom")
async def rule_history(
    context: Contextual,
    _permit: MayAdminister,
    rule: Annotated[str, Query(max_length=200, description="Of one rule alone.")] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Every change there was, with the rule before and after it."""
    found = await context.threads.run(lambda: context.engine.rules.history(rule or None, limit))
    return json_response(RuleHistoryResponse(tuple(map(_to_history_entry, found))))


@rule_router.post("/restore", response_model=RuleRevisionResponse, summary="Go back to an earlier revision")
async def restore(context: Contextual, permit: MayAdminister, body: RestoreBody) -> Response:
    """Makes all rules what they were after a revision; that is one more change."""
    made = await context.threads.run(lambda: context.engine.rules.restore(body.revision, who=permit.id))
    return json_response(RuleRevisionResponse(made))


@rule_router.post("/preview", response_model=RulePreviewResponse, summary="What would this change?")
async def preview(context: Contextual, permit: MayAdminister, body: PreviewBody) -> Response:
    """A search by the rules that are, beside one by those that would be."""
    put_rules = [parse_rule(each) for each in body.put]

    def tried() -> RulePreviewResponse:
        found = context.engine.rules.preview(
            body.q,
            put_rules,
            delete=body.delete,
            size=body.size,
            page=body.page,
            filters=combine_filters((*permit.filters, body.filters)),
        )
        return RulePreviewResponse(found.before.total, found.after.total, found.gained, found.lost, found.moved)

    return json_response(await context.threads.run(tried))


@rule_router.patch("/{rule_id}", response_model=RuleRevisionResponse, summary="Change some fields of a rule")
async def patch(
    context: Contextual,
    permit: MayAdminister,
    rule_id: RuleId,
    values: Annotated[Document, Body(min_length=1, examples=[{"enabled": False}])],
) -> Response:
    """Fields as the rule's document names them."""
    made = await context.threads.run(lambda: context.engine.rules.patch(rule_id, values, who=permit.id))
    return json_response(RuleRevisionResponse(made))


@rule_router.delete("/{rule_id}", response_model=RuleRevisionResponse, summary="Take a rule away")
async def delete_rule(context: Contextual, permit: MayAdminister, rule_id: RuleId) -> Response:
    """It stays in the history, and can be restored."""
    made = await context.threads.run(lambda: context.engine.rules.delete([rule_id], who=permit.id))
    return json_response(RuleRevisionResponse(made))


def _to_history_entry(change: RuleChange) -> RuleHistoryEntry:
    before, after = (rule_document(each) if each else None for each in (change.before, change.after))
    return RuleHistoryEntry(change.revision, change.time, change.who, change.id, before, after)


# Synonyms over HTTP: read, changed, what was changed by whom, and proposals accepted or declined.

synonym_router = APIRouter(prefix="/v1/synonyms", tags=["synonyms"], responses=RESPONSES)

SynonymId = Annotated[str, Path(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class SynonymsResponse:
    """All synonyms of a store, beside those that its version was built with."""

    revision: int
    synonyms: tuple[Synonym, ...]


@dataclass(frozen=True, slots=True)
class SynonymRevisionResponse:
    """A change that was taken, durably."""

    revision: int


@dataclass(frozen=True, slots=True)
class SynonymHistoryResponse:
    """Changes, the newest first."""

    changes: tuple[SynonymChange, ...]


@dataclass(frozen=True, slots=True)
class ProposalsResponse:
    """What shoppers' queries propose, the strongest first."""

    total: int
    """How many there are, beyond those that were asked for."""
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True)
class AcceptedProposalResponse:
    """A proposal that is a synonym now."""

    revision: int
    synonym: Synonym


@dataclass(frozen=True, slots=True)
class DeclinedProposalResponse:
    """A proposal that will not come back."""

    declined: str


@synonym_router.get("", response_model=SynonymsResponse, summary="All synonyms")
async def synonyms(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids."""

    def read() -> SynonymsResponse:
        held = context.engine.synonyms
        return SynonymsResponse(held.revision, held.list())

    return json_response(await context.threads.run(read))


@synonym_router.put("", response_model=SynonymRevisionResponse, summary="Add or replace synonyms")
async def put_synonym(context: Contextual, permit: MayAdminister, body: SynonymsBody) -> Response:
    """All of them or none; searches follow at once. The key's id is written down beside the change."""
    made = [each.to_synonym() for each in body.synonyms]
    revision = await context.threads.run(lambda: context.engine.synonyms.put(made, who=permit.id))
    return json_response(SynonymRevisionResponse(revision))


@synonym_router.get("/history", response_model=SynonymHistoryResponse, summary="What was changed, by whom")
async def synonym_history(
    context: Contextual,
    _permit: MayAdminister,
    synonym: Annotated[str, Query(max_length=200, description="Of one synonym alone.")] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Every change there was, with the synonym before and after it."""
    found = await context.threads.run(lambda: context.engine.synonyms.history(synonym or None, limit))
    return json_response(SynonymHistoryResponse(tuple(found)))


@synonym_router.get("/proposals", response_model=ProposalsResponse, summary="What shoppers' queries propose")
async def proposals(
    context: Contextual, _permit: MayAdminister, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> Response:
    """Without what was declined, and what is a synonym already; with the evidence of each."""
    found = await context.threads.run(context.engine.synonyms.proposals)
    return json_response(ProposalsResponse(len(found), found[:limit]))


@synonym_router.post(
    "/proposals/{proposal_id}/accept", response_model=AcceptedProposalResponse, summary="Accept a proposal"
)
async def accept(context: Contextual, permit: MayAdminister, proposal_id: SynonymId) -> Response:
    """Keeps it as a synonym; searches follow at once."""

    def accepted() -> AcceptedProposalResponse:
        held = context.engine.synonyms
        kept = held.accept(proposal_id, who=permit.id)
        return AcceptedProposalResponse(held.revision, kept)

    return json_response(await context.threads.run(accepted))


@synonym_router.post(
    "/proposals/{proposal_id}/decline", response_model=DeclinedProposalResponse, summary="Decline a proposal"
)
async def decline(context: Contextual, permit: MayAdminister, proposal_id: SynonymId) -> Response:
    """It does not come back."""
    await context.threads.run(lambda: context.engine.synonyms.decline(proposal_id, who=permit.id))
    return json_response(DeclinedProposalResponse(proposal_id))


@synonym_router.delete("/{synonym_id:path}", response_model=SynonymRevisionResponse, summary="Take a synonym away")
async def delete_synonym(context: Contextual, permit: MayAdminister, synonym_id: SynonymId) -> Response:
    """It stays in the history."""
    revision = await context.threads.run(lambda: context.engine.synonyms.delete([synonym_id], who=permit.id))
    return json_response(SynonymRevisionResponse(revision))


# Experiments over HTTP: put, stopped, and what came of them.

experiment_router = APIRouter(prefix="/v1/experiments", tags=["experiments"], responses=RESPONSES)
ExperimentId = Annotated[str, Path(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class ExperimentsResponse:
    """All experiments of a store."""

    experiments: tuple[Document, ...]
    """Each with its state, and when it began and ended."""
    notices: tuple[str, ...]
    """Why searches do not take part as they should."""


@dataclass(frozen=True, slots=True)
class ExperimentChangeResponse:
    """An experiment that is kept, durably."""

    changed: bool
    """False where it was so already."""


@experiment_router.get("", response_model=ExperimentsResponse, summary="All experiments")
async def experiments(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids."""

    def read() -> ExperimentsResponse:
        now, served = datetime.now(UTC), context.experiments
        listed = tuple(stored_document(each, now) for each in served.store.read().experiments)
        return ExperimentsResponse(listed, notices(context.engine, served))

    return json_response(await context.threads.run(read))


@experiment_router.put("", response_model=ExperimentChangeResponse, summary="Add an experiment")
async def put_experiment(
    context: Contextual,
    permit: MayAdminister,
    experiment: Annotated[
        Document,
        Body(
            examples=[
                {"id": "rrf", "variants": [{"name": "now"}, {"name": "rrf", "options": {"merge": "rrf"}}]},
            ]
        ),
    ],
) -> Response:
    """Or replace one of the same id that has not begun. Searches take part at once, or from `starts` on."""
    wanted = parse_experiment(experiment)

    def kept() -> ExperimentChangeResponse:
        check_rankers(wanted, context.engine.ranker_problem)
        changed = context.experiments.store.put(wanted, who=permit.id)
        context.experiments.reload_if_changed()
        return ExperimentChangeResponse(changed)

    return json_response(await context.threads.run(kept))


@experiment_router.post("/{experiment_id}/stop", response_model=ExperimentChangeResponse, summary="End an experiment")
async def stop(context: Contextual, permit: MayAdminister, experiment_id: ExperimentId) -> Response:
    """For good; its figures stay."""

    def stopped() -> ExperimentChangeResponse:
        changed = context.experiments.store.stop(experiment_id, who=permit.id)
        context.experiments.reload_if_changed()
        return ExperimentChangeResponse(changed)

    return json_response(await context.threads.run(stopped))


@experiment_router.get("/{experiment_id}/report", response_model=Document, summary="What came of an experiment")
async def report(context: Contextual, _permit: MayAdminister, experiment_id: ExperimentId) -> Response:
    """Each variant's figures, the differences with their intervals, and what they come to; from the tables that were
    last made of events: shelfwise events refresh makes them."""

    def read() -> Document:
        from service.experiments.analysis import stored_report

        return report_document(stored_report(context.engine.root, experiment_id, datetime.now(UTC)))

    return json_response(await context.threads.run(read))
