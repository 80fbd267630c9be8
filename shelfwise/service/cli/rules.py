"""Merchandising rules and sponsored campaigns, for `curate`; `sponsored log` and `report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Generic

import msgspec
from rich.text import Text
from typer import Option

from shelfwise.retrieval.html_report import printable
from shelfwise.service.cli.options import Index, check_index, command
from shelfwise.service.cli.output import (
    count_text,
    emit,
    emit_revision,
    plain_table,
    say,
    show_history,
    show_moves,
    show_table,
    write_json,
)
from shelfwise.service.cli.search import PageOptions, open_engine
from shelfwise.service.curation.document_store import DocumentChange, EditableStore, Entry
from shelfwise.service.curation.rules import (
    Action,
    Boost,
    Bury,
    Classify,
    Data,
    Exposure,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
    RuleStore,
    When,
    read_rules,
    rule_document,
)
from shelfwise.service.engine.editors import DocumentEditor, Preview, RuleExposure
from shelfwise.service.sponsored.campaign import Campaign, CampaignStore, campaign_document, read_campaigns
from shelfwise.service.sponsored.ledger import CampaignDay, Ledger, LedgerEntry
from shelfwise.service.sponsored.placement import CampaignState, campaign_states


@dataclass(frozen=True, slots=True)
class DocumentCommands(Generic[Entry]):
    """Shared implementation of `curate` for rules and for campaigns."""

    kind: str
    """Name of the kind in commands."""
    store_of: type[EditableStore[Entry]]
    document_of: Callable[[Entry], dict[str, object]]

    def store(self, index: Path) -> EditableStore[Entry]:
        check_index(index)
        return self.store_of(index)

    def put(
        self, index: Path, editor: EditableStore[Entry] | DocumentEditor[Entry], entries: Sequence[Entry], by: str
    ) -> None:
        before = self.store(index).revision()
        after = editor.put(entries, who=by)
        self._emit(index, before, after, f"{self._counted(len(entries))} stored")

    def delete(self, index: Path, ids: Sequence[str], by: str) -> None:
        store = self.store(index)
        before = store.revision()
        self._emit(index, before, store.delete(ids, who=by), f"{self._counted(len(set(ids)))} deleted")

    def restore(self, index: Path, revision: int, by: str) -> None:
        store = self.store(index)
        before = store.revision()
        done = f"the {store.kind.many} are now those of revision {revision}"
        self._emit(index, before, store.restore(revision, who=by), done)

    def history(self, index: Path, name: str, limit: int) -> None:
        store = self.store(index)
        changes = store.history(name or None, limit)
        emit(changes, show_history, store.kind.one, self._difference, document=[*map(self._change, changes)])

    def _counted(self, count: int) -> str:
        return count_text(count, self.store_of.kind.one, "is")

    def _emit(self, index: Path, before: int, after: int, done: str) -> None:
        emit_revision(before, after, done, undo=f"shelfwise curate restore {self.kind} {index}")

    def _change(self, change: DocumentChange[Entry]) -> dict[str, object]:
        was, became = (each and self.document_of(each) for each in (change.before, change.after))
        made = {"revision": change.revision, "time": change.time, "who": change.who, "id": change.id}
        return made | {"before": was, "after": became}

    def _difference(self, change: DocumentChange[Entry]) -> str:
        if change.before is None:
            return "added"
        if change.after is None:
            return "deleted"
        was, became = self.document_of(change.before), self.document_of(change.after)
        return "changed " + ", ".join(name for name in {**was, **became} if was.get(name) != became.get(name))


RULES = DocumentCommands("rules", RuleStore, rule_document)
CAMPAIGNS = DocumentCommands("campaigns", CampaignStore, campaign_document)


def list_rules(index: Path) -> None:
    """Prints the rules of an index, and marks those that its catalog cannot apply."""
    with open_engine(index, models=False) as engine:
        revision, rules, faults = engine.rules.revision, engine.rules.list(), engine.rules.faults
        exposure_goals = engine.rules.exposure_goals()
    listed: dict[str, object] = {"revision": revision, "rules": [rule_document(each) for each in rules]}
    document = listed | {"faults": faults, "exposure_goals": [asdict(each) for each in exposure_goals]}
    emit(rules, _show_rules, faults, exposure_goals, document=document)


def show_rule(index: Path, rule: str) -> None:
    """Prints one rule as JSON for put."""
    write_json(msgspec.json.format(msgspec.json.encode(rule_document(RULES.store(index).get(rule)))))


def put_rules(index: Path, file: Path, by: str) -> None:
    """Adds or replaces the rules of a file, all or none."""
    rules = read_rules(file)
    with open_engine(index, models=False) as engine:
        RULES.put(index, engine.rules, rules, by)


def preview_rules(index: Path, query: str, file: Path | None, delete: Sequence[str], which: PageOptions) -> None:
    """Prints the effect of rule changes on a page of a search."""
    rules = read_rules(file) if file else []
    with open_engine(index) as engine:
        found = engine.rules.preview(query, rules, delete=delete, **asdict(which))
    emit(found, _show_preview)


Advertiser = Annotated[str, Option(help="By default all advertisers.", metavar="ADVERTISER")]
CampaignOption = Annotated[str, Option("--campaign", help="Only this campaign.", metavar="CAMPAIGN")]


def list_campaigns(index: Path) -> None:
    """Prints the sponsored campaigns with their states and amounts spent."""
    campaigns = CAMPAIGNS.store(index).read().documents
    states = campaign_states(campaigns, Ledger(index).spending(), datetime.now(UTC))
    listed = [{"campaign": campaign_document(each), **asdict(states[each.id])} for each in campaigns]
    emit(campaigns, _show_campaigns, states, document=listed)


def put_campaigns(index: Path, file: Path, by: str) -> None:
    """Adds or replaces the campaigns of a file, all or none."""
    CAMPAIGNS.put(index, CAMPAIGNS.store(index), read_campaigns(file), by)


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


def _show_campaigns(campaigns: Sequence[Campaign], states: Mapping[str, CampaignState]) -> None:
    if not campaigns:
        say("No campaigns. To add some: shelfwise curate put campaigns INDEX FILE")
        return
    amounts = ("bid", "spent", "today", "budget")
    table = plain_table("campaign", "state", "advertiser", *amounts, "about", right=amounts)
    for each in campaigns:
        state = states[each.id]
        spent, today = f"{state.spent:.2f}", f"{state.spent_today:.2f}"
        budget = f"{each.budget:.2f}" if each.budget else f"{each.daily_budget:.2f} a day" if each.daily_budget else ""
        about = Text(printable(", ".join((*each.queries, *each.types)[:_MOST_NAMED])) or "any query")
        table.add_row(each.id, state.state, each.advertiser, f"{each.bid:.2f}", spent, today, budget, about)
    show_table(table)


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


_MOST_NAMED = 3


def _show_rules(rules: Sequence[Rule], faults: Mapping[str, str], exposure_goals: Sequence[RuleExposure]) -> None:
    if not rules:
        say("No rules. To add some: shelfwise curate put rules INDEX FILE")
        return
    table = plain_table("rule", "priority", "when", "does", right=("priority",))
    for rule in rules:
        name = Text(printable(rule.id), style="" if rule.enabled else "dim")
        name.append("" if rule.enabled else " (off)")
        if rule.id in faults:
            name.append("\nignored", style="bold yellow")
        when, does = Text(printable(_when_text(rule.when))), Text(printable("; ".join(map(_action_text, rule.actions))))
        table.add_row(name, str(rule.priority), when, does)
    show_table(table)
    for each in exposure_goals:
        limit = f"at least {each.at_least:.2%}" if each.at_least else f"at most {each.at_most or 0:.2%}"
        reached = f"{each.share:.2%} of attention today ({each.searches:,} counted), {limit}"
        say(f"{printable(each.rule)}: {printable(each.filters)}: {reached}; offset {each.strength:+.2f} deviations")


def _when_text(when: When) -> str:
    condition = {Match.ANY: "always", Match.EXACT: f'"{when.query}"', Match.CONTAINS: f'with "{when.query}"'}[
        when.match
    ]
    parts = [condition]
    if when.filters:
        parts.append(f"within {when.filters}")
    if when.contexts:
        parts.append(f"in {' or '.join(when.contexts)}")
    if when.starts:
        parts.append(f"from {when.starts:%Y-%m-%d %H:%M %Z}")
    if when.ends:
        parts.append(f"until {when.ends:%Y-%m-%d %H:%M %Z}")
    return ", ".join(parts)


def _action_text(action: Action) -> str:
    match action:
        case Pin(products, position):
            return f"pin {_products_text(products)} at {position}"
        case Boost(filters, strength):
            return f"boost {filters} by {strength:g}"
        case Bury(filters, strength):
            return f"bury {filters} by {strength:g}"
        case Hide(products, filters):
            return f"hide {' and '.join(part for part in (_products_text(products), filters) if part)}"
        case Restrict(filters):
            return f"only {filters}"
        case Exposure(filters, at_least, at_most):
            limit = f"at least {at_least:.2%}" if at_least else f"at most {at_most or 0:.2%}"
            return f"show {filters} {limit} of attention"
        case Redirect(url):
            return f"redirect to {url}"
        case Data(values):
            return f"data {', '.join(values)}"
        case Classify(name, products, filters):
            return f"type {name} for {' and '.join(part for part in (_products_text(products), filters) if part)}"


def _show_preview(preview: Preview) -> None:
    before, after = preview.before, preview.after
    show_moves(preview)
    counts = f"{before.total:,} products before, {after.total:,} after"
    say(f"{counts}; rules before: {_names(before.rules)}; after: {_names(after.rules)}")
    if after.redirect != before.redirect:
        say(f"redirect: {printable(before.redirect) or 'none'} before, {printable(after.redirect) or 'none'} after")


def _products_text(products: Sequence[str]) -> str:
    more = len(products) - _MOST_NAMED
    return ", ".join(products[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _names(rules: Sequence[str]) -> str:
    return printable(", ".join(rules)) or "none"
