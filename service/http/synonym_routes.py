"""Synonyms over HTTP: read, changed, what was changed by whom, and proposals accepted or declined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from service.http.answers import RESPONSES, json_response
from service.http.bodies import SynonymsBody
from service.http.context import Contextual, MayAdminister
from service.synonyms.proposal import Proposal
from service.synonyms.store import SynonymChange
from service.synonyms.synonym import Synonym

router = APIRouter(prefix="/v1/synonyms", tags=["synonyms"], responses=RESPONSES)

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


@router.get("", response_model=SynonymsAnswer, summary="All synonyms")
async def synonyms(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids."""

    def read() -> SynonymsAnswer:
        held = context.engine.synonyms
        return SynonymsAnswer(held.revision, held.list())

    return json_response(await context.workers.run(read))


@router.put("", response_model=SynonymRevision, summary="Add or replace synonyms")
async def put(context: Contextual, permit: MayAdminister, body: SynonymsBody) -> Response:
    """All of them or none; searches follow at once. The key's id is written down beside the change."""
    made = [each.synonym() for each in body.synonyms]
    revision = await context.workers.run(lambda: context.engine.synonyms.put(made, who=permit.id))
    return json_response(SynonymRevision(revision))


@router.get("/history", response_model=SynonymHistory, summary="What was changed, by whom")
async def history(
    context: Contextual,
    _permit: MayAdminister,
    synonym: Annotated[str, Query(max_length=200, description="Of one synonym alone.")] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Every change there was, with the synonym before and after it."""
    found = await context.workers.run(lambda: context.engine.synonyms.history(synonym or None, limit))
    return json_response(SynonymHistory(tuple(found)))


@router.get("/proposals", response_model=ProposalsAnswer, summary="What shoppers' queries propose")
async def proposals(
    context: Contextual, _permit: MayAdminister, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> Response:
    """Without what was declined, and what is a synonym already; with the evidence of each."""
    found = await context.workers.run(context.engine.synonyms.proposals)
    return json_response(ProposalsAnswer(len(found), found[:limit]))


@router.post("/proposals/{proposal_id}/accept", response_model=AcceptedAnswer, summary="Accept a proposal")
async def accept(context: Contextual, permit: MayAdminister, proposal_id: SynonymId) -> Response:
    """Keeps it as a synonym; searches follow at once."""

    def accepted() -> AcceptedAnswer:
        held = context.engine.synonyms
        kept = held.accept(proposal_id, who=permit.id)
        return AcceptedAnswer(held.revision, kept)

    return json_response(await context.workers.run(accepted))


@router.post("/proposals/{proposal_id}/decline", response_model=DeclinedAnswer, summary="Decline a proposal")
async def decline(context: Contextual, permit: MayAdminister, proposal_id: SynonymId) -> Response:
    """It does not come back."""
    await context.workers.run(lambda: context.engine.synonyms.decline(proposal_id, who=permit.id))
    return json_response(DeclinedAnswer(proposal_id))


@router.delete("/{synonym_id:path}", response_model=SynonymRevision, summary="Take a synonym away")
async def delete(context: Contextual, permit: MayAdminister, synonym_id: SynonymId) -> Response:
    """It stays in the history."""
    revision = await context.workers.run(lambda: context.engine.synonyms.delete([synonym_id], who=permit.id))
    return json_response(SynonymRevision(revision))
