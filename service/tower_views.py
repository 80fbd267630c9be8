"""What the commands for shopper towers show in a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from rerank.shoppers.files import StoredTower
from rerank.shoppers.registry import RolledBackTower
from rerank.shoppers.tower_list import TowerEntry, TowerList
from service.model_views import moment, show_gone_back
from service.terminal import out, plain_table, show_notices, shown


def show_towers(listed: TowerList, index: Path) -> None:
    """A table, newest first: the one that serves has a mark; why others do not is said below."""
    if not listed.towers:
        out.print(Text(f"No shopper tower yet. To train one: shelfwise train users --index {index}"), soft_wrap=True)
        return
    table = plain_table("", "shopper tower", "made", "judged by", "nDCG@10", "verdict", right={"judged by", "nDCG@10"})
    for entry in reversed(listed.towers):
        table.add_row(*_row(entry))
    out.print(table)
    for entry in reversed(listed.towers):
        if entry.problem:
            out.print(Text(f"{entry.name} cannot be used: {shown(entry.problem)}", style="red"), soft_wrap=True)
        elif entry.report and entry.report.aside:
            out.print(Text(f"{entry.name} was kept aside: {shown('; '.join(entry.report.aside))}"), soft_wrap=True)
        elif entry.misfit:
            out.print(Text(f"{entry.name} is for another index: {shown(entry.misfit)}"), soft_wrap=True)
    show_notices(tuple(map(shown, listed.notices)))
    if not listed.serving:
        out.print("None serves: recommendations do without one.")


def show_judged(tower: StoredTower, *, serves: bool) -> None:
    """What every way of recommending reached, among all shoppers and some of them, and whether the tower serves."""
    report = tower.report
    table = plain_table("of whom", "way", "HR@10", "nDCG@10", right=("HR@10", "nDCG@10"))
    for part, ways in ({"all shoppers": report.ways} | dict(report.slices)).items():
        for number, way in enumerate(ways):
            table.add_row("" if number else part, way.name, f"{way.hit_rate:.4f}", f"{way.ndcg:.4f}")
    out.print(table)
    verdict = f"was kept aside: {'; '.join(report.aside)}" if report.aside else "serves" if serves else "served before"
    out.print(Text(f"{tower.name}, judged by {report.shoppers:,} shoppers, {verdict}"), soft_wrap=True)


def show_tower(tower: StoredTower, *, serves: bool) -> None:
    """What a tower is, and how it was judged."""
    spec = tower.spec
    out.print(Text(f"{tower.name}, made {moment(tower.report.created)}, for the encoder {shown(spec.encoder)}"))
    told = ", ".join(f"{name} {value}" for name, value in spec.trained_on.items())
    out.print(Text(f"trained on {shown(told)}"), soft_wrap=True)
    if spec.beside_weight:
        count = f"count {spec.beside_weight:g}, an older product {spec.beside_fading:g} of the next newer one"
        if spec.beside_options and spec.beside_options.half_life:
            count += f", and a choice half after {spec.beside_options.half_life:g} days"
        out.print(Text(f"what the same shoppers chose counts in it: neighbours {count}"), soft_wrap=True)
    show_judged(tower, serves=serves)


def show_tower_rollback(done: RolledBackTower, index: Path) -> None:
    """What serves now, and how to undo it."""
    show_gone_back(done.tower.name, done.before, done.tower.report.created, index)


def _row(entry: TowerEntry) -> tuple[str | Text, ...]:
    mark = Text("▶", style="bold green") if entry.serves else ""
    report = entry.report
    if report is None:
        return mark, entry.name, "", "", "", Text("unusable", style="red")
    reached = f"{report.ways[0].ndcg:.4f}" if report.ways else ""
    verdict = Text("kept aside", style="yellow") if report.aside else Text("published")
    return mark, entry.name, moment(report.created), f"{report.shoppers:,} shoppers", reached, verdict
