"""Commands that train towers share their options, defined by one dataclass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import pytest
import typer
from typer.testing import CliRunner

from shelfwise.retrieval.errors import SettingError
from shelfwise.service.cli.options import TowerTrainingOptions, command

if TYPE_CHECKING:
    from shelfwise.rerank.text_towers.options import TextTowerOptions

CALLS: list[tuple[str, str, TextTowerOptions]] = []


@command("example", json=False)
def train(place: Annotated[str, typer.Argument()], how: TowerTrainingOptions) -> None:
    """A command with another argument."""
    CALLS.append((place, how.teacher, how.options()))


def call(*arguments: str) -> tuple[str, str, TextTowerOptions]:
    app = typer.Typer()
    app.command()(train)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return CALLS.pop()


def test_command_has_its_own_and_all_training_options() -> None:
    place, teacher, options = call(
        "here", "--margin", "0.2", "--teacher", "t", "--typos", "0.1", "--matryoshka", "64,128"
    )
    assert (place, teacher) == ("here", "t")
    assert (options.loss.margin, options.loss.teacher, options.loss.dimensions) == (0.2, "margin", (128, 64))
    assert options.augment.typos == 0.1


def test_defaults_are_those_of_the_dataclass() -> None:
    *_, options = call("here")
    assert options == TowerTrainingOptions().options()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ranks", "500-101"), "--ranks: '500-101' is not a range of ranks"),
        (("--matryoshka", "64,x"), "--matryoshka: '64,x' is not a list of dimensions"),
        (("--near-misses", "0.5", "--negatives", "0"), "--near-misses 0.5 with --negatives 0"),
        (("--teacher", "t", "--negatives", "0"), "--teacher with --negatives 0: it needs hard negatives"),
        (("--loss", "pointwise", "--margin", "0.1"), "--loss pointwise, which has no margin"),
    ],
)
def test_contradictory_options_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        call("here", *arguments)
