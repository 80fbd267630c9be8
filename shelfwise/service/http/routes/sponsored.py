"""Routes of sponsored campaigns, and of the ledger, which advertisers may read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query

from shelfwise.service.http.auth import Permit, Scope
from shelfwise.service.http.context import Contextual, MayAdminister, MayReadLedger, WorkerRouter
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.routes.curation import (
    Document,
    DocumentHistoryResponse,
    DocumentId,
    HistoryOf,
    Limit,
    RevisionResponse,
    document_history,
)
from shelfwise.service.http.schemas import RESPONSES, CampaignsBody, RestoreBody
from shelfwise.service.sponsored.campaign import campaign_document, parse_campaign
from shelfwise.service.sponsored.ledger import CampaignDay, LedgerEntry
from shelfwise.service.sponsored.placement import campaign_states, spent_amounts

router = WorkerRouter(prefix="/v1/campaigns", tags=["sponsored"], responses=RESPONSES)

Advertiser = Annotated[str, Query(max_length=32, description="By default all; for the scope advertiser, its own.")]
CampaignId = Annotated[str, Query(max_length=32, description="Only this campaign.")]


@dataclass(frozen=True, slots=True)
class StoredCampaign:
    """A campaign with its current state."""

    campaign: Document
    """The campaign as in docs/sponsored.md."""
    state: str
    """off, waiting, running, ended or spent (the total or today's budget)."""
    spent: float
    spent_today: float
    fault: str
    """Names the products that the catalog lacks; empty if it has all."""


@dataclass(frozen=True, slots=True)
class CampaignsResponse:
    """All campaigns of a store."""

    revision: int
    enabled: bool
    """Whether searches have sponsored hits: the setting sponsored.enabled, or the switch."""
    campaigns: tuple[StoredCampaign, ...]


@dataclass(frozen=True, slots=True)
class LedgerResponse:
    """Entries of the ledger, oldest first."""

    entries: tuple[LedgerEntry, ...]


@dataclass(frozen=True, slots=True)
class CampaignReportResponse:
    """Counts by campaign and day, newest first."""

    days: tuple[CampaignDay, ...]


@router.get("", summary="All sponsored campaigns")
def campaigns(context: Contextual, _permit: MayAdminister) -> CampaignsResponse:
    """The campaigns by id, with the amounts spent."""
    editor, now = context.engine.campaigns, datetime.now(UTC)
    stored, spending, faults = editor.list(), editor.spending, editor.faults
    states = campaign_states(stored, spending, now)
    return CampaignsResponse(
        editor.revision,
        context.engine.has_sponsored_hits,
        tuple(
            StoredCampaign(
                campaign_document(each), states[each.id], *spent_amounts(each, spending, now), faults.get(each.id, "")
            )
            for each in stored
        ),
    )


@router.put("", summary="Add or replace sponsored campaigns")
def put_campaigns(context: Contextual, permit: MayAdminister, body: CampaignsBody) -> RevisionResponse:
    """Stores all campaigns or none; they apply to searches at once. The history records the key's id."""
    wanted = [parse_campaign(each, f"campaigns[{number}]") for number, each in enumerate(body.campaigns)]
    return RevisionResponse(context.engine.campaigns.put(wanted, who=permit.id))


@router.get("/history", summary="Changes of sponsored campaigns")
def campaign_history(
    context: Contextual, _permit: MayAdminister, campaign: HistoryOf = "", limit: Limit = 100
) -> DocumentHistoryResponse:
    """Every change, with its author and the campaign before and after it."""
    return document_history(context.engine.campaigns.history(campaign or None, limit), campaign_document)


@router.post("/restore", summary="Restore earlier sponsored campaigns")
def restore_campaigns(context: Contextual, permit: MayAdminister, body: RestoreBody) -> RevisionResponse:
    """Restores all campaigns to a revision, as a new change; charges remain."""
    return RevisionResponse(context.engine.campaigns.restore(body.revision, who=permit.id))


@router.get("/log", summary="The ledger of clicks on sponsored hits")
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
    found = context.engine.campaigns.ledger.entries(whose, campaign=campaign, after=after, limit=limit)
    return LedgerResponse(tuple(found))


@router.get("/report", summary="Counts of sponsored campaigns by day")
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


@router.delete("/{campaign_id}", summary="Delete a sponsored campaign")
def delete_campaign(context: Contextual, permit: MayAdminister, campaign_id: DocumentId) -> RevisionResponse:
    """The campaign remains in the history, its charges in the ledger."""
    return RevisionResponse(context.engine.campaigns.delete([campaign_id], who=permit.id))


def _advertiser_of(permit: Permit, advertiser: str) -> str:
    """The advertiser whose entries are requested; raises RequestError (403) if the key is another advertiser's."""
    if Scope.ADMIN in permit.scopes:
        return advertiser
    if advertiser not in ("", permit.name):
        message = f"this key is for the advertiser {permit.name!r} and cannot read the entries of others"
        raise RequestError(403, message, field="advertiser")
    return permit.name
