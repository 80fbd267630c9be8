"""Merchandising rules over HTTP: read, changed, tried, and what was changed by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response

from service.http.access.narrowing import all_of
from service.http.answers import RESPONSES, json_response
from service.http.bodies import PreviewBody, RestoreBody, RulesBody
from service.http.context import Contextual, MayAdminister
from service.merchandising.preview import Moved
from service.merchandising.rule_json import rule_document, rule_of
from service.merchandising.store import RuleChange

router = APIRouter(prefix="/v1/rules", tags=["rules"], responses=RESPONSES)

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


@router.get("", response_model=RulesAnswer, summary="All rules")
async def rules(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids, with what is wrong with those that the version that serves cannot follow."""

    def read() -> RulesAnswer:
        held = context.engine.rules
        return RulesAnswer(held.revision, tuple(map(rule_document, held.list())), dict(held.faults))

    return json_response(await context.workers.run(read))


@router.put("", response_model=RevisionAnswer, summary="Add or replace rules")
async def put(context: Contextual, permit: MayAdminister, body: RulesBody) -> Response:
    """All of them or none; searches follow at once. The key's id is written down beside the change."""
    made = [rule_of(each) for each in body.rules]
    return json_response(
        RevisionAnswer(await context.workers.run(lambda: context.engine.rules.put(made, who=permit.id)))
    )


@router.get("/history", response_model=HistoryAnswer, summary="What was changed, by whom")
async def history(
    context: Contextual,
    _permit: MayAdminister,
    rule: Annotated[str, Query(max_length=200, description="Of one rule alone.")] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Every change there was, with the rule before and after it."""
    found = await context.workers.run(lambda: context.engine.rules.history(rule or None, limit))
    return json_response(HistoryAnswer(tuple(map(_told, found))))


@router.post("/restore", response_model=RevisionAnswer, summary="Go back to an earlier revision")
async def restore(context: Contextual, permit: MayAdminister, body: RestoreBody) -> Response:
    """Makes all rules what they were after a revision; that is one more change."""
    made = await context.workers.run(lambda: context.engine.rules.restore(body.revision, who=permit.id))
    return json_response(RevisionAnswer(made))


@router.post("/preview", response_model=PreviewAnswer, summary="What would this change?")
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


@router.patch("/{rule_id}", response_model=RevisionAnswer, summary="Change some fields of a rule")
async def patch(
    context: Contextual,
    permit: MayAdminister,
    rule_id: RuleId,
    values: Annotated[Document, Body(min_length=1, examples=[{"enabled": False}])],
) -> Response:
    """Fields as the rule's document names them."""
    made = await context.workers.run(lambda: context.engine.rules.patch(rule_id, values, who=permit.id))
    return json_response(RevisionAnswer(made))


@router.delete("/{rule_id}", response_model=RevisionAnswer, summary="Take a rule away")
async def delete(context: Contextual, permit: MayAdminister, rule_id: RuleId) -> Response:
    """It stays in the history, and can be restored."""
    made = await context.workers.run(lambda: context.engine.rules.delete([rule_id], who=permit.id))
    return json_response(RevisionAnswer(made))


def _told(change: RuleChange) -> Change:
    before, after = (rule_document(each) if each else None for each in (change.before, change.after))
    return Change(change.revision, change.time, change.who, change.id, before, after)
