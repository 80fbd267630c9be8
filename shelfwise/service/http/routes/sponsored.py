"""Routes of the ledger of sponsored campaigns, which advertisers may read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from shelfwise.service.http.auth import Permit, Scope
from shelfwise.service.http.context import Contextual, MayReadLedger, WorkerRouter
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.routes.curation import Limit
from shelfwise.service.http.schemas import RESPONSES
from shelfwise.service.sponsored.ledger import CampaignDay, LedgerEntry

router = WorkerRouter(prefix="/v1/campaigns", tags=["sponsored"], responses=RESPONSES)

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


def _advertiser_of(permit: Permit, advertiser: str) -> str:
    """The advertiser whose entries are requested; raises RequestError (403) if the key is another advertiser's."""
    if Scope.ADMIN in permit.scopes:
        return advertiser
    if advertiser not in ("", permit.name):
        message = f"this key is for the advertiser {permit.name!r} and cannot read the entries of others"
        raise RequestError(403, message, field="advertiser")
    return permit.name
