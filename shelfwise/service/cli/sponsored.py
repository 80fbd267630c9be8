"""The ledger of sponsored campaigns: `sponsored log` and `sponsored report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from rich.text import Text
from typer import Option

from shelfwise.retrieval.html_report import printable
from shelfwise.service.cli.options import Index, check_index, command
from shelfwise.service.cli.output import emit, plain_table, say, show_table
from shelfwise.service.sponsored.ledger import CampaignDay, Ledger, LedgerEntry

Advertiser = Annotated[str, Option(help="By default all advertisers.", metavar="ADVERTISER")]
CampaignOption = Annotated[str, Option("--campaign", help="Only this campaign.", metavar="CAMPAIGN")]


@command("sponsored log store --advertiser acme")
def show_ledger(
    index: Index,
    advertiser: Advertiser = "",
    campaign: CampaignOption = "",
    after: Annotated[int, Option(help="Id of the last known entry.", min=0)] = 0,
    limit: Annotated[int, Option(help="Number of entries.", min=1)] = 100,
) -> None:
    """Show the result of each click on sponsored hits with its reason, oldest first: charges, uncharged clicks,
    refunds. No data is about shoppers."""
    check_index(index)
    emit(Ledger(index).entries(advertiser, campaign=campaign, after=after, limit=limit), _show_entries)


@command("sponsored report store --days 7")
def report_campaigns(
    index: Index,
    advertiser: Advertiser = "",
    campaign: CampaignOption = "",
    days: Annotated[int, Option(help="Number of days.", min=1)] = 30,
) -> None:
    """Show sponsored impressions, clicks, charges, amounts and clicks not charged by campaign and day, newest first."""
    check_index(index)
    emit(Ledger(index).days(advertiser, campaign=campaign, days=days), _show_days)


def _show_entries(entries: Sequence[LedgerEntry]) -> None:
    if not entries:
        say("No entries.")
        return
    amounts = ("price", "amount")
    table = plain_table("id", "time", "campaign", "product", *amounts, "reason", right=("id", *amounts))
    for each in entries:
        reason, product = (
            f"{each.reason} ({each.refunds})" if each.refunds else each.reason,
            Text(printable(each.product)),
        )
        figures = f"{each.price:.4f}", f"{each.amount:.4f}"
        table.add_row(str(each.id), f"{each.time:%Y-%m-%d %H:%M:%S}", each.campaign, product, *figures, reason)
    show_table(table)


def _show_days(days: Sequence[CampaignDay]) -> None:
    if not days:
        say("No sponsored hit was shown or clicked in these days.")
        return
    counts = ("shown", "clicks", "charged", "amount")
    table = plain_table("day", "campaign", *counts, "not charged", right=counts)
    for each in days:
        shown, clicks, charged = (f"{count:,}" for count in (each.shown, each.clicks, each.charged))
        others = ", ".join(f"{reason} {count:,}" for reason, count in each.uncharged.items())
        table.add_row(each.day, each.campaign, shown, clicks, charged, f"{each.amount:.2f}", others)
    show_table(table)
