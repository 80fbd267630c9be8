"""Merchandising rules, synonyms and experiments over HTTP: read, changed, tried, and what was changed by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response

from service.curation.rule_editor import Moved
from service.curation.rules import RuleChange, rule_document, rule_of
from service.curation.synonym_mining import Proposal
from service.curation.synonyms import Synonym, SynonymChange
from service.experiments.analysis import report_document, stored_document
from service.experiments.assignment import check_rankers, notices
from service.experiments.experiment import experiment_of
from service.http.auth import all_of
from service.http.context import Contextual, MayAdminister
from service.http.schemas import RESPONSES, PreviewBody, RestoreBody, RulesBody, SynonymsBody, json_response

rule_router = APIRouter(prefix="/v1/rules", tags=["rules"], responses=RESPONSES)

Document = dict[str, Any]
"""A rule, as docs/rules.md writes them."""
RuleId = Annotated[str, Path(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class RulesAnswer:
    """All rules of a store."""

    revision: int
    rules: tuple[Document, ...]
    faults: dict[str, str]
    """Why a rule is passed over, by its id."""


@dataclass(frozen=True, slots=True)
class RevisionAnswer:
    """A change that was taken, durably."""

    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one change did to one rule."""

    revision: int
    time: datetime
    who: str
    id: str
    before: Document | None
    after: Document | None


@dataclass(frozen=True, slots=True)
class HistoryAnswer:
    """Changes, the newest first."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class PreviewAnswer:
    """What a page would be. Nothing was changed."""

    total_before: int
    total_after: int
    gained: tuple[Moved, ...]
    lost: tuple[Moved, ...]
    moved: tuple[Moved, ...]


@rule_router.get("", response_model=RulesAnswer, summary="All rules")
async def rules(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids, with what is wrong with those that the version that serves cannot follow."""

    def read() -> RulesAnswer:
        held = context.engine.rules
        return RulesAnswer(held.revision, tuple(map(rule_document, held.list())), dict(held.faults))

    return json_response(await context.workers.run(read))


@rule_router.put("", response_model=RevisionAnswer, summary="Add or replace rules")
async def put_rule(context: Contextual, permit: MayAdminister, body: RulesBody) -> Response:
    """All of them or none; searches follow at once. The key's id is written down beside the change."""
    made = [rule_of(each) for each in body.rules]
    return json_response(
        RevisionAnswer(await context.workers.run(lambda: context.engine.rules.put(made, who=permit.id)))
    )


@rule_router.get("/history", response_model=HistoryAnswer, summary="What was changed, by whom")
async def rule_history(
    context: Contextual,
    _permit: MayAdminister,
    rule: Annotated[str, Query(max_length=200, description="Of one rule alone.")] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Every change there was, with the rule before and after it."""
    found = await context.workers.run(lambda: context.engine.rules.history(rule or None, limit))
    return json_response(HistoryAnswer(tuple(map(_told, found))))


@rule_router.post("/restore", response_model=RevisionAnswer, summary="Go back to an earlier revision")
async def restore(context: Contextual, permit: MayAdminister, body: RestoreBody) -> Response:
    """Makes all rules what they were after a revision; that is one more change."""
    made = await context.workers.run(lambda: context.engine.rules.restore(body.revision, who=permit.id))
    return json_response(RevisionAnswer(made))


@rule_router.post("/preview", response_model=PreviewAnswer, summary="What would this change?")
async def preview(context: Contextual, permit: MayAdminister, body: PreviewBody) -> Response:
    """A search by the rules that are, beside one by those that would be."""
    put_rules = [rule_of(each) for each in body.put]

    def tried() -> PreviewAnswer:
        found = context.engine.rules.preview(
            body.q,
            put_rules,
            delete=body.delete,
            size=body.size,
            page=body.page,
            filters=all_of((*permit.filters, body.filters)),
        )
        return PreviewAnswer(found.before.total, found.after.total, found.gained, found.lost, found.moved)

    return json_response(await context.workers.run(tried))


@rule_router.patch("/{rule_id}", response_model=RevisionAnswer, summary="Change some fields of a rule")
async def patch(
    context: Contextual,
    permit: MayAdminister,
    rule_id: RuleId,
    values: Annotated[Document, Body(min_length=1, examples=[{"enabled": False}])],
) -> Response:
    """Fields as the rule's document names them."""
    made = await context.workers.run(lambda: context.engine.rules.patch(rule_id, values, who=permit.id))
    return json_response(RevisionAnswer(made))


@rule_router.delete("/{rule_id}", response_model=RevisionAnswer, summary="Take a rule away")
async def delete_rule(context: Contextual, permit: MayAdminister, rule_id: RuleId) -> Response:
    """It stays in the history, and can be restored."""
    made = await context.workers.run(lambda: context.engine.rules.delete([rule_id], who=permit.id))
    return json_response(RevisionAnswer(made))


def _told(change: RuleChange) -> Change:
    before, after = (rule_document(each) if each else None for each in (change.before, change.after))
    return Change(change.revision, change.time, change.who, change.id, before, after)


# Synonyms over HTTP: read, changed, what was changed by whom, and proposals accepted or declined.

synonym_router = APIRouter(prefix="/v1/synonyms", tags=["synonyms"], responses=RESPONSES)

SynonymId = Annotated[str, Path(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class SynonymsAnswer:
    """All synonyms of a store, beside those that its version was built with."""

    revision: int
    synonyms: tuple[Synonym, ...]


@dataclass(frozen=True, slots=True)
class SynonymRevision:
    """A change that was taken, durably."""

    revision: int


@dataclass(frozen=True, slots=True)
class SynonymHistory:
    """Changes, the newest first."""

    changes: tuple[SynonymChange, ...]


@dataclass(frozen=True, slots=True)
class ProposalsAnswer:
    """What shoppers' queries propose, the strongest first."""

    total: int
    """How many there are, beyond those that were asked for."""
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True)
class AcceptedAnswer:
    """A proposal that is a synonym now."""

    revision: int
    synonym: Synonym


@dataclass(frozen=True, slots=True)
class DeclinedAnswer:
    """A proposal that will not come back."""

    declined: str


@synonym_router.get("", response_model=SynonymsAnswer, summary="All synonyms")
async def synonyms(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids."""

    def read() -> SynonymsAnswer:
        held = context.engine.synonyms
        return SynonymsAnswer(held.revision, held.list())

    return json_response(await context.workers.run(read))


@synonym_router.put("", response_model=SynonymRevision, summary="Add or replace synonyms")
async def put_synonym(context: Contextual, permit: MayAdminister, body: SynonymsBody) -> Response:
    """All of them or none; searches follow at once. The key's id is written down beside the change."""
    made = [each.synonym() for each in body.synonyms]
    revision = await context.workers.run(lambda: context.engine.synonyms.put(made, who=permit.id))
    return json_response(SynonymRevision(revision))


@synonym_router.get("/history", response_model=SynonymHistory, summary="What was changed, by whom")
async def synonym_history(
    context: Contextual,
    _permit: MayAdminister,
    synonym: Annotated[str, Query(max_length=200, description="Of one synonym alone.")] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Every change there was, with the synonym before and after it."""
    found = await context.workers.run(lambda: context.engine.synonyms.history(synonym or None, limit))
    return json_response(SynonymHistory(tuple(found)))


@synonym_router.get("/proposals", response_model=ProposalsAnswer, summary="What shoppers' queries propose")
async def proposals(
    context: Contextual, _permit: MayAdminister, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> Response:
    """Without what was declined, and what is a synonym already; with the evidence of each."""
    found = await context.workers.run(context.engine.synonyms.proposals)
    return json_response(ProposalsAnswer(len(found), found[:limit]))


@synonym_router.post("/proposals/{proposal_id}/accept", response_model=AcceptedAnswer, summary="Accept a proposal")
async def accept(context: Contextual, permit: MayAdminister, proposal_id: SynonymId) -> Response:
    """Keeps it as a synonym; searches follow at once."""

    def accepted() -> AcceptedAnswer:
        held = context.engine.synonyms
        kept = held.accept(proposal_id, who=permit.id)
        return AcceptedAnswer(held.revision, kept)

    return json_response(await context.workers.run(accepted))


@synonym_router.post("/proposals/{proposal_id}/decline", response_model=DeclinedAnswer, summary="Decline a proposal")
async def decline(context: Contextual, permit: MayAdminister, proposal_id: SynonymId) -> Response:
    """It does not come back."""
    await context.workers.run(lambda: context.engine.synonyms.decline(proposal_id, who=permit.id))
    return json_response(DeclinedAnswer(proposal_id))


@synonym_router.delete("/{synonym_id:path}", response_model=SynonymRevision, summary="Take a synonym away")
async def delete_synonym(context: Contextual, permit: MayAdminister, synonym_id: SynonymId) -> Response:
    """It stays in the history."""
    revision = await context.workers.run(lambda: context.engine.synonyms.delete([synonym_id], who=permit.id))
    return json_response(SynonymRevision(revision))


# Experiments over HTTP: put, stopped, and what came of them.

experiment_router = APIRouter(prefix="/v1/experiments", tags=["experiments"], responses=RESPONSES)
ExperimentId = Annotated[str, Path(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class ExperimentsAnswer:
    """All experiments of a store."""

    experiments: tuple[Document, ...]
    """Each with its state, and when it began and ended."""
    notices: tuple[str, ...]
    """Why searches do not take part as they should."""


@dataclass(frozen=True, slots=True)
class ChangedExperiment:
    """An experiment that is kept, durably."""

    changed: bool
    """False where it was so already."""


@experiment_router.get("", response_model=ExperimentsAnswer, summary="All experiments")
async def experiments(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids."""

    def read() -> ExperimentsAnswer:
        now, served = datetime.now(UTC), context.experiments
        listed = tuple(stored_document(each, now) for each in served.store.read().experiments)
        return ExperimentsAnswer(listed, notices(context.engine, served))

    return json_response(await context.workers.run(read))


@experiment_router.put("", response_model=ChangedExperiment, summary="Add an experiment")
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
    wanted = experiment_of(experiment)

    def kept() -> ChangedExperiment:
        check_rankers(wanted, context.engine.ranker_problem)
        changed = context.experiments.store.put(wanted, who=permit.id)
        context.experiments.look()
        return ChangedExperiment(changed)

    return json_response(await context.workers.run(kept))


@experiment_router.post("/{experiment_id}/stop", response_model=ChangedExperiment, summary="End an experiment")
async def stop(context: Contextual, permit: MayAdminister, experiment_id: ExperimentId) -> Response:
    """For good; its figures stay."""

    def stopped() -> ChangedExperiment:
        changed = context.experiments.store.stop(experiment_id, who=permit.id)
        context.experiments.look()
        return ChangedExperiment(changed)

    return json_response(await context.workers.run(stopped))


@experiment_router.get("/{experiment_id}/report", response_model=Document, summary="What came of an experiment")
async def report(context: Contextual, _permit: MayAdminister, experiment_id: ExperimentId) -> Response:
    """Each variant's figures, the differences with their intervals, and what they come to; from the tables that were
    last made of events: shelfwise events refresh makes them."""

    def read() -> Document:
        from service.experiments.analysis import stored_report

        return report_document(stored_report(context.engine.root, experiment_id, datetime.now(UTC)))

    return json_response(await context.workers.run(read))
