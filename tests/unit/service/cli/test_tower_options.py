"""Commands that train towers have the same options, and read them alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.studies.model_commands import towers as bench_towers
from retrieval.errors import SettingError
from service.cli.options import TowerTeacherOption, takes_tower_options, tower_options
from service.cli.training import towers as train_towers

if TYPE_CHECKING:
    from rerank.text_towers.options import TextTowerOptions

SAID: list[tuple[str, str, TextTowerOptions]] = []


@takes_tower_options
def command(
    place: Annotated[str, typer.Argument()],
    *,
    teacher: TowerTeacherOption = "",
    options: Callable[[], TextTowerOptions],
) -> None:
    """A command with an argument of its own, and an option that it wants to read, too."""
    SAID.append((place, teacher, options()))


def said(*arguments: str) -> tuple[str, str, TextTowerOptions]:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return SAID.pop()


def test_a_command_has_its_own_options_and_all_of_training() -> None:
    place, teacher, options = said(
        "here", "--margin", "0.2", "--teacher", "t", "--typos", "0.1", "--matryoshka", "64,128"
    )
    assert (place, teacher) == ("here", "t")
    assert (options.loss.margin, options.loss.teacher, options.loss.dimensions) == (0.2, "margin", (128, 64))
    assert options.augment.typos == 0.1


def test_what_is_not_said_is_as_ever() -> None:
    *_, options = said("here")
    assert options == tower_options()


@pytest.mark.parametrize("of", [train_towers, bench_towers])
def test_both_commands_begin_with_the_same(of: object) -> None:
    given = inspect.signature(of).parameters  # type: ignore[arg-type]
    shared = inspect.signature(tower_options).parameters
    assert {name: given[name].default for name in shared} == {name: each.default for name, each in shared.items()}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--ranks", "500-101"), "--ranks: '500-101' is no window of ranks"),
        (("--matryoshka", "64,x"), "--matryoshka: '64,x' is no list of dimensions"),
        (("--near-misses", "0.5", "--negatives", "0"), "a near miss is a hard negative"),
        (("--teacher", "t", "--negatives", "0"), "a teacher tells a positive from its hard negatives"),
        (("--loss", "pointwise", "--margin", "0.1"), "--loss pointwise, which has none"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        said("here", *arguments)
