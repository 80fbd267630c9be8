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
from shelfwise.service.cli.options import By, Index, SettingsFile, check_index, command
from shelfwise.service.cli.output import TerminalProgress, emit, say, show_notices, show_rows
from shelfwise.service.experiments.analysis import (
    DraftFigures,
    ExperimentReport,
    VariantComparison,
    VariantFigures,
    report_document,
    stored_report,
)
from shelfwise.service.experiments.assignment import check_rankers, stored_problem
from shelfwise.service.experiments.experiment import Experiment, Goal, Variant, experiment_document, read_experiment
from shelfwise.service.experiments.store import ExperimentStore, StoredExperiment, stored_document
from shelfwise.service.settings import load_settings

if TYPE_CHECKING:
    from shelfwise.service.reports.experiment_plan import ExperimentPlan, VariantPlan

ExperimentFile = Annotated[Path, Argument(help="A JSON or TOML file: docs/experiments.md.", metavar="FILE")]
ExperimentId = Annotated[str, Argument(help="Id of an experiment.", metavar="EXPERIMENT")]


@command("experiments list store")
def list_experiments(index: Index) -> None:
    """List the experiments of an index, and their states."""
    now, stored = datetime.now(UTC), _store(index).read().documents
    emit(stored, _show_experiments, now, document=[stored_document(each, now) for each in stored])


@command("experiments put store merging.toml --by m7")
def put(index: Index, file: ExperimentFile, by: By = "") -> None:
    """Add an experiment, or replace one that has not started. Searches take part at once."""
    experiment, store = read_experiment(file), _store(index)
    check_rankers(experiment, stored_problem(index))
    _emit_change(store.put(experiment, who=by), f"{experiment.id} is stored.", f"{experiment.id} is unchanged.")


@command("experiments plan store merging.toml")
def plan(index: Index, file: ExperimentFile, settings: SettingsFile = None) -> None:
    """Estimate from the log, before an experiment runs, the effect of each variant and the shoppers that it needs."""
    check_index(index)
    experiment = read_experiment(file)
    # Imports the training of rankers, which other commands do not need.
    from shelfwise.service.reports.experiment_plan import plan_experiment

    with TerminalProgress() as progress:
        found = plan_experiment(index, load_settings(settings), experiment, progress)
    document = msgspec.to_builtins(found) | {"experiment": experiment_document(experiment)}
    emit(found, _show_plan, document=document)


@command("experiments stop store merging --by m7")
def stop(index: Index, experiment: ExperimentId, by: By = "") -> None:
    """End an experiment permanently; its results are kept."""
    changed = _store(index).stop(experiment, who=by)
    _emit_change(changed, f"{experiment} is stopped.", f"{experiment} had already ended.")


@command("experiments report store merging")
def report(index: Index, experiment: ExperimentId) -> None:
    """Report the results of an experiment, from the tables of the last shelfwise events refresh."""
    check_index(index)
    found = stored_report(index, experiment, datetime.now(UTC))
    emit(found, _show_report, document=report_document(found))


def _store(index: Path) -> ExperimentStore:
    check_index(index)
    return ExperimentStore(index)


def _emit_change(changed: bool, done: str, same: str) -> None:
    emit({"changed": changed}, lambda _: say(done if changed else same))


_WORDS = {
    Goal.CLICK_THROUGH: "clicked searches",
    Goal.EMPTY: "empty searches",
    Goal.ABANDONED: "abandoned searches",
    Goal.CARTS: "carts a shopper",
    Goal.PURCHASES: "purchases a shopper",
}
_RATES = frozenset({Goal.CLICK_THROUGH, Goal.EMPTY, Goal.ABANDONED})


def _show_experiments(listed: Sequence[StoredExperiment], now: datetime) -> None:
    rows = [
        (
            each.experiment.id,
            each.state(now),
            each.begins if each.experiment.enabled else None,
            each.over,
            _how(each.experiment),
            "; ".join(map(_variant, each.experiment.variants)),
        )
        for each in listed
    ]
    names = "experiment", "state", "from", "until", "mode", "variants"
    show_rows(names, rows, empty="No experiments. To add one: shelfwise experiments put INDEX FILE")


def _show_report(report: ExperimentReport) -> None:
    experiment, analysis = report.experiment, report.analysis
    show_notices((*report.notices, *analysis.warnings))
    say(f"{experiment.id}: {report.state}, {_how(experiment)}", style="bold")
    begin, end = max(report.first, report.begins), min(report.last, report.over or report.last)
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
        show_rows(names, map(_variant_row, analysis.variants))
    names = "variant", "measure", "difference", "relative", "anytime-valid, 95%", "fixed-sample, 95%"
    show_rows(names, map(_comparison, analysis.comparisons))
    say("Anytime-valid intervals hold at every look; fixed-sample ones only at an end that was planned in advance.")


def _show_plan(found: ExperimentPlan) -> None:
    experiment = found.experiment
    say(f"{experiment.id}: {_how(experiment)}, before it runs", style="bold")
    say(
        f"Lists from {found.begins:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} of the {found.queries:,} most "
        f"frequent queries, {found.share:.0%} of all"
    )
    for each in found.variants:
        say(f"{each.text}.")
    names = "variant", "per search", found.control, "with it", "difference", "95%", "overlap"
    show_rows(names, (row for each in found.variants for row in _estimate_rows(each)))
    if found.shoppers is not None:
        days = f"{found.shoppers / found.shoppers_a_day:,.0f} days at {found.shoppers_a_day:,.0f} shoppers a day"
        least = f"{experiment.least_effect:.1%} in {_WORDS[experiment.goal]}"
        say(f"An A/B test detects a difference of {least} with about {found.shoppers:,} shoppers: {days}.")
    for each in found.variants:
        if each.shoppers is not None:
            say(f"If variant {each.variant} changes them as much as clicks: about {each.shoppers:,} shoppers.")


def _how(experiment: Experiment) -> str:
    of_all = "" if experiment.share == 1 else f" of {experiment.share:.0%}"
    return f"{experiment.mode} by {experiment.unit}{of_all}"


def _variant(variant: Variant) -> str:
    given = ", ".join(f"{name} {value}" for name, value in variant.options.given.items())
    return f"{variant.name} ({given or 'unchanged'})"


def _estimate_rows(plan: VariantPlan) -> Iterator[tuple[str | float, ...]]:
    for row in plan.estimate.outcomes:
        interval = f"{row.low:+.4f} to {row.high:+.4f}"
        figures = row.outcome, row.before, row.after, f"{row.difference:+.4f}", interval
        yield plan.variant, *figures, f"{plan.estimate.overlap:.0%}"


def _variant_row(each: VariantFigures) -> tuple[str | int, ...]:
    figures = (_figure(goal, each.figures[goal]) for goal in Goal)
    return each.name, each.units, each.shoppers, each.searches, *figures


def _comparison(each: VariantComparison) -> tuple[str | Text, ...]:
    name = Text(each.variant, style="bold" if each.decides else "")
    relative = "" if each.relative is None else f"{each.relative:+.1%}"
    intervals = _interval(each.goal, each.always), _interval(each.goal, each.fixed)
    return name, _WORDS[each.goal], _moved(each.goal, each.difference), relative, *intervals


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
