"""The commands `experiments`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from rich.text import Text
from typer import Argument

from shelfwise.rerank.evaluation.statistics import Interval
from shelfwise.retrieval.errors import ExperimentError
from shelfwise.service.cli.options import By, PublishedIndex, SettingsFile, command
from shelfwise.service.cli.output import (
    Cell,
    Column,
    TerminalProgress,
    emit,
    emit_revision,
    say,
    show_notices,
    show_objects,
    show_rows,
)
from shelfwise.service.curation.document_store import plain_document, read_entries
from shelfwise.service.experiments.analysis import DraftFigures, ExperimentReport, report_document, stored_report
from shelfwise.service.experiments.experiment import Experiment, ExperimentStore, Goal
from shelfwise.service.settings import load_settings

if TYPE_CHECKING:
    from shelfwise.service.reports.experiment_plan import ExperimentPlan, VariantPlan

ExperimentFile = Annotated[Path, Argument(help="A JSON or TOML file: docs/experiments.md.", metavar="FILE")]
ExperimentId = Annotated[str, Argument(help="Id of an experiment.", metavar="EXPERIMENT")]


@command("experiments plan store merging.toml")
def plan(index: PublishedIndex, file: ExperimentFile, settings: SettingsFile = None) -> None:
    """Estimate from the log, before an experiment runs, the effect of each variant and the shoppers that it needs."""
    experiments = [ExperimentStore.kind.validate(each) for each in read_entries(file, ExperimentStore.kind)]
    if len(experiments) != 1:
        raise ExperimentError(f"{file} has {len(experiments)} experiments; name a file with the one to plan")
    experiment = experiments[0]
    # Imports the training of rankers, which other commands do not need.
    from shelfwise.service.reports.experiment_plan import plan_experiment

    with TerminalProgress() as progress:
        estimates = plan_experiment(index, load_settings(settings), experiment, progress)
    document = msgspec.to_builtins(estimates) | {"experiment": plain_document(experiment)}
    emit(estimates, _show_plan, document=document)


@command("experiments stop store merging --by m7")
def stop(index: PublishedIndex, experiment: ExperimentId, by: By = "") -> None:
    """Switch an experiment off: a running one ends permanently, and its results are kept."""
    store = ExperimentStore(index)
    before = store.revision()
    emit_revision(before, store.patch(experiment, {"enabled": False}, who=by), f"{experiment} is switched off")


@command("experiments report store merging")
def report(index: PublishedIndex, experiment: ExperimentId) -> None:
    """Report the results of an experiment, from the tables of the last shelfwise events refresh."""
    figures = stored_report(index, experiment, datetime.now(UTC))
    emit(figures, _show_report, document=report_document(figures))


_WORDS = {
    Goal.CLICK_THROUGH: "clicked searches",
    Goal.EMPTY: "empty searches",
    Goal.ABANDONED: "abandoned searches",
    Goal.CARTS: "carts a shopper",
    Goal.PURCHASES: "purchases a shopper",
}
_RATES = frozenset({Goal.CLICK_THROUGH, Goal.EMPTY, Goal.ABANDONED})


def _show_report(report: ExperimentReport) -> None:
    experiment, analysis = report.experiment, report.analysis
    show_notices((*report.notices, *analysis.warnings))
    say(f"{experiment.id}: {report.state}, {_how(experiment)}", style="bold")
    begin = max(report.first, report.begins)
    end = min(report.last, report.over or report.last)
    if end < begin:
        say(f"No events since {begin:%Y-%m-%d %H:%M}; to count new ones: shelfwise events refresh INDEX")
    else:
        say(f"Events from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}")
    for each in analysis.decisions:
        say((f"{each.outcome}: ", "bold"), each.text)
    if analysis.draft:
        _show_draft(analysis.draft, experiment)
    else:
        names = "variant", "units", "shoppers", "searches", *(_WORDS[goal] for goal in Goal)
        rows: list[Sequence[Cell]] = [
            (each.name, each.units, each.shoppers, each.searches, *(_figure(goal, each.figures[goal]) for goal in Goal))
            for each in analysis.variants
        ]
        show_rows(names, rows)
    columns: dict[str, Column] = {
        "variant": lambda each: Text(each.variant, style="bold" if each.decides else ""),
        "measure": lambda each: _WORDS[each.goal],
        "difference": lambda each: _moved(each.goal, each.difference),
        "relative": lambda each: "" if each.relative is None else f"{each.relative:+.1%}",
        "anytime-valid, 95%": lambda each: _interval(each.goal, each.always),
        "fixed-sample, 95%": lambda each: _interval(each.goal, each.fixed),
    }
    show_objects(analysis.comparisons, columns)
    say("Anytime-valid intervals hold at every look; fixed-sample ones only at an end that was planned in advance.")


def _show_plan(plan: ExperimentPlan) -> None:
    experiment = plan.experiment
    say(f"{experiment.id}: {_how(experiment)}, before it runs", style="bold")
    say(
        f"Lists from {plan.begins:%Y-%m-%d %H:%M} to {plan.until:%Y-%m-%d %H:%M} of the {plan.queries:,} most "
        f"frequent queries, {plan.share:.0%} of all"
    )
    for each in plan.variants:
        say(f"{each.text}.")
    names = "variant", "per search", plan.control, "with it", "difference", "95%", "overlap"
    show_rows(names, (row for each in plan.variants for row in _estimate_rows(each)))
    if plan.shoppers is not None:
        days = f"{plan.shoppers / plan.shoppers_a_day:,.0f} days at {plan.shoppers_a_day:,.0f} shoppers a day"
        least = f"{experiment.least_effect:.1%} in {_WORDS[experiment.goal]}"
        say(f"An A/B test detects a difference of {least} with about {plan.shoppers:,} shoppers: {days}.")
    for each in plan.variants:
        if each.shoppers is not None:
            say(f"If variant {each.variant} changes them as much as clicks: about {each.shoppers:,} shoppers.")


def _how(experiment: Experiment) -> str:
    of_all = "" if experiment.share == 1 else f" of {experiment.share:.0%}"
    return f"{experiment.mode} by {experiment.unit}{of_all}"


def _estimate_rows(plan: VariantPlan) -> Iterator[tuple[str | float, ...]]:
    for row in plan.estimate.outcomes:
        interval = f"{row.low:+.4f} to {row.high:+.4f}"
        figures = row.outcome, row.before, row.after, f"{row.difference:+.4f}", interval
        yield plan.variant, *figures, f"{plan.estimate.overlap:.0%}"


def _show_draft(draft: DraftFigures, experiment: Experiment) -> None:
    names = (
        "wins of",
        "shoppers",
        "searches",
        "wins",
        "losses",
        "ties",
        "share",
        "anytime-valid, 95%",
        "fixed-sample, 95%",
    )
    label = f"{draft.variant} over {experiment.variants[0].name}"
    share = "" if draft.win_share is None else f"{draft.win_share:.1%}"
    spans = ("" if each is None else f"{each.low:.1%} to {each.high:.1%}" for each in (draft.always, draft.fixed))
    show_rows(names, [(label, draft.shoppers, draft.searches, draft.wins, draft.losses, draft.ties, share, *spans)])


def _figure(goal: Goal, figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:.2%}" if goal in _RATES else f"{figure:.4f}"


def _moved(goal: Goal, difference: float) -> str:
    return f"{100 * difference:+.2f} points" if goal in _RATES else f"{difference:+.4f}"


def _interval(goal: Goal, interval: Interval) -> str:
    return f"{_moved(goal, interval.low).removesuffix(' points')} to {_moved(goal, interval.high)}"
