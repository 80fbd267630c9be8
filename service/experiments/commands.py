"""The commands for experiments: `shelfwise experiments list, put, stop, report`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import ByOption, IndexOption, JsonOption

if TYPE_CHECKING:
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

    from service.experiments.documents import stored_document
    from service.experiments.views import show_experiments
    from service.terminal import write_json

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
    from service.experiments.experiment_json import read_experiment
    from service.experiments.rankers import check_rankers, stored_problem

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

    from service.experiments.documents import report_document
    from service.experiments.report import stored_report
    from service.experiments.views import show_report
    from service.terminal import show_notices, write_json

    _store(index)
    made = stored_report(index, experiment, datetime.now(UTC))
    if as_json:
        write_json(msgspec.json.encode(report_document(made)))
    else:
        show_notices((*made.notices, *made.analysis.warnings))
        show_report(made)


def _store(index: Path) -> ExperimentStore:
    """The experiments of what is found to be an index directory."""
    from retrieval.published import Store
    from service.experiments.store import ExperimentStore

    Store(index).check_ours()
    return ExperimentStore(index)


def _tell(changed: bool, done: str, same: str, as_json: bool) -> None:
    import msgspec

    from service.terminal import out, write_json

    if as_json:
        write_json(msgspec.json.encode({"changed": changed}))
    else:
        out.print(done if changed else same, highlight=False, soft_wrap=True)
