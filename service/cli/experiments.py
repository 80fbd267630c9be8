"""The commands for experiments: `shelfwise experiments list, put, stop, report`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import ByOption, IndexOption, JsonOption
from service.experiments.experiment import Experiment, Goal, Variant
from service.experiments.store import StoredExperiment

if TYPE_CHECKING:
    from rich.table import Table

    from rerank.evaluation.statistics import Interval
    from service.experiments.analysis import (
        Comparison,
        DraftFigures,
        ExperimentAnalysis,
        ExperimentReport,
    )
    from service.experiments.store import ExperimentStore


experiments = typer.Typer(
    name="experiments",
    help="Searches answered in two or more ways, by lot or in one list, and what shoppers made of each.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

ExperimentArgument = Annotated[str, typer.Argument(help="An experiment's id.", metavar="EXPERIMENT")]


@experiments.command("list", epilog="Example: shelfwise experiments list --index store")
def list_experiments(index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """List the experiments of an index, and which of them run."""
    import msgspec

    from service.cli.output import write_json
    from service.experiments.analysis import stored_document

    now, listed = datetime.now(UTC), _store(index).read().experiments
    if as_json:
        write_json(msgspec.json.encode([stored_document(each, now) for each in listed]))
    else:
        show_experiments(listed, now)


@experiments.command(epilog="Example: shelfwise experiments put merging.toml --by m7 --index store")
def put(
    file: Annotated[Path, typer.Argument(help="A JSON or TOML file: docs/experiments.md.", metavar="FILE")],
    by: ByOption = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Add an experiment, or replace one that has not begun. A running service takes part within a second."""
    from service.experiments.assignment import check_rankers, stored_problem
    from service.experiments.experiment import read_experiment

    wanted, store = read_experiment(file), _store(index)
    check_rankers(wanted, stored_problem(index))
    changed = store.put(wanted, who=by)
    _tell(changed, f"{wanted.id} is there.", f"{wanted.id} was there already, and is the same.", as_json)


@experiments.command(epilog="Example: shelfwise experiments stop merging --by m7 --index store")
def stop(
    experiment: ExperimentArgument, by: ByOption = "", index: IndexOption = Path("store"), as_json: JsonOption = False
) -> None:
    """End an experiment for good; its figures stay."""
    changed = _store(index).stop(experiment, who=by)
    _tell(changed, f"{experiment} is stopped.", f"{experiment} was over already.", as_json)


@experiments.command(epilog="Example: shelfwise experiments report merging --index store")
def report(experiment: ExperimentArgument, index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """Report what came of an experiment, from what `shelfwise events refresh` made of the events."""
    import msgspec

    from service.cli.output import show_notices, write_json
    from service.experiments.analysis import report_document, stored_report

    _store(index)
    made = stored_report(index, experiment, datetime.now(UTC))
    if as_json:
        write_json(msgspec.json.encode(report_document(made)))
    else:
        show_notices((*made.notices, *made.analysis.warnings))
        show_report(made)


def _store(index: Path) -> ExperimentStore:
    """The experiments of what is found to be an index directory."""
    from retrieval.store.versions import Store
    from service.experiments.store import ExperimentStore

    Store(index).check_ours()
    return ExperimentStore(index)


def _tell(changed: bool, done: str, same: str, as_json: bool) -> None:
    import msgspec

    from service.cli.output import out, write_json

    if as_json:
        write_json(msgspec.json.encode({"changed": changed}))
    else:
        out.print(done if changed else same, highlight=False, soft_wrap=True)


# What the commands for experiments show in a terminal.

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
    from rich.text import Text

    from service.cli.output import out, plain_table

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
    from rich.text import Text

    from service.cli.output import out

    experiment, analysis = report.experiment, report.analysis
    out.print(Text(f"{experiment.id}: {report.state}, {_how(experiment)}", style="bold"))
    until = min(report.last, report.over or report.last)
    out.print(
        f"Events from {max(report.first, report.begins):%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}", highlight=False
    )
    for each in analysis.decisions:
        out.print(Text.assemble((f"{each.outcome}: ", "bold"), each.text))
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


def _figures(analysis: ExperimentAnalysis) -> Table:
    from service.cli.output import plain_table

    table = plain_table("variant", "units", "shoppers", "searches", *(_WORDS[goal] for goal in Goal))
    for each in analysis.variants:
        figures = (_figure(goal, each.figures[goal]) for goal in Goal)
        table.add_row(each.name, f"{each.units:,}", f"{each.shoppers:,}", f"{each.searches:,}", *figures)
    return table


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    from rich.text import Text

    from service.cli.output import plain_table

    table = plain_table("difference", "of", "seen", "relative", "any look, 95%", "one look, 95%")
    for each in comparisons:
        relative = "" if each.relative is None else f"{each.relative:+.1%}"
        style = "bold" if each.decides else ""
        intervals = _interval(each.goal, each.always), _interval(each.goal, each.fixed)
        name = Text(each.variant, style=style)
        table.add_row(name, _WORDS[each.goal], _moved(each.goal, each.difference), relative, *intervals)
    return table


def _drafted(draft: DraftFigures, experiment: Experiment) -> Table:
    from service.cli.output import plain_table, shown

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
