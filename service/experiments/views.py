"""What the commands for experiments show in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from service.experiments.experiment import Experiment, Goal, Variant
from service.experiments.stored import StoredExperiment
from service.terminal import out, plain_table, shown

if TYPE_CHECKING:
    from service.experiments.analysis import Analysis, Comparison, DraftFigures
    from service.experiments.intervals import Interval
    from service.experiments.report import ExperimentReport

_WORDS = {
    Goal.CLICK_THROUGH: "clicked searches",
    Goal.EMPTY: "empty searches",
    Goal.ABANDONED: "abandoned searches",
    Goal.CARTS: "carts a shopper",
    Goal.PURCHASES: "purchases a shopper",
}
_RATES = frozenset({Goal.CLICK_THROUGH, Goal.EMPTY, Goal.ABANDONED})


def show_experiments(listed: Sequence[StoredExperiment], now: datetime) -> None:
    """A line for each experiment."""
    if not listed:
        out.print("No experiments. To add one: shelfwise experiments put FILE")
        return
    table = plain_table("experiment", "state", "from", "until", "how", "variants")
    for each in listed:
        experiment, over = each.experiment, each.over
        table.add_row(
            Text(experiment.id),
            each.state(now),
            f"{each.begins:%Y-%m-%d %H:%M}" if experiment.enabled else "",
            f"{over:%Y-%m-%d %H:%M}" if over else "",
            _how(experiment),
            Text("; ".join(map(_variant, experiment.variants))),
        )
    out.print(table)


def show_report(report: ExperimentReport) -> None:
    """The verdicts first, then the figures that they go by."""
    experiment, analysis = report.experiment, report.analysis
    out.print(Text(f"{experiment.id}: {report.state}, {_how(experiment)}", style="bold"))
    until = min(report.last, report.over or report.last)
    out.print(
        f"Events from {max(report.first, report.begins):%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}", highlight=False
    )
    for each in analysis.verdicts:
        out.print(Text.assemble((f"{each.standing}: ", "bold"), each.text))
    out.print(_drafted(analysis.draft, experiment) if analysis.draft else _figures(analysis))
    if analysis.comparisons:
        out.print(_comparisons(analysis.comparisons))
    out.print("'any look' holds whenever you look; 'one look' only at an end that was planned before.", highlight=False)


def _how(experiment: Experiment) -> str:
    of_all = "" if experiment.share == 1 else f" of {experiment.share:.0%}"
    return f"{experiment.mode} by {experiment.unit}{of_all}"


def _variant(variant: Variant) -> str:
    given = ", ".join(f"{name} {value}" for name, value in variant.options.given.items())
    return f"{variant.name} ({given or 'as it is'})"


def _figures(analysis: Analysis) -> Table:
    table = plain_table("variant", "units", "shoppers", "searches", *(_WORDS[goal] for goal in Goal))
    for each in analysis.variants:
        figures = (_figure(goal, each.figures[goal]) for goal in Goal)
        table.add_row(each.name, f"{each.units:,}", f"{each.shoppers:,}", f"{each.searches:,}", *figures)
    return table


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    table = plain_table("difference", "of", "seen", "relative", "any look, 95%", "one look, 95%")
    for each in comparisons:
        relative = "" if each.relative is None else f"{each.relative:+.1%}"
        style = "bold" if each.decides else ""
        intervals = _interval(each.goal, each.always), _interval(each.goal, each.fixed)
        name = Text(each.variant, style=style)
        table.add_row(name, _WORDS[each.goal], _moved(each.goal, each.difference), relative, *intervals)
    return table


def _drafted(draft: DraftFigures, experiment: Experiment) -> Table:
    table = plain_table(
        "wins of", "shoppers", "searches", "wins", "losses", "ties", "share", "any look, 95%", "one look, 95%"
    )
    share = "" if draft.win_share is None else f"{draft.win_share:.1%}"
    spans = ("" if each is None else f"{each.low:.1%} to {each.high:.1%}" for each in (draft.always, draft.fixed))
    counts = (f"{each:,}" for each in (draft.shoppers, draft.searches, draft.wins, draft.losses, draft.ties))
    table.add_row(shown(f"{draft.variant} over {experiment.variants[0].name}"), *counts, share, *spans)
    return table


def _figure(goal: Goal, figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:.2%}" if goal in _RATES else f"{figure:.4f}"


def _moved(goal: Goal, difference: float) -> str:
    return f"{100 * difference:+.2f} points" if goal in _RATES else f"{difference:+.4f}"


def _interval(goal: Goal, interval: Interval) -> str:
    return f"{_moved(goal, interval.low).removesuffix(' points')} to {_moved(goal, interval.high)}"
