"""Commands that train towers share their options, defined by one dataclass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import pytest
import typer
from typer.testing import CliRunner

from shelfwise.retrieval.errors import SettingError
from shelfwise.service.cli.options import TowerTrainingOptions, command

if TYPE_CHECKING:
    from shelfwise.rerank.text_towers.task import TextTowerOptions

CALLS: list[tuple[str, TextTowerOptions]] = []


@command("example", json=False)
def train(place: Annotated[str, typer.Argument()], how: TowerTrainingOptions) -> None:
    """A command with another argument."""
    CALLS.append((place, how.options()))


def call(*arguments: str) -> tuple[str, TextTowerOptions]:
    app = typer.Typer()
    app.command()(train)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return CALLS.pop()


def test_command_has_its_own_and_all_training_options() -> None:
    place, options = call("here", "--margin", "0.2", "--typos", "0.1", "--matryoshka", "64,128")
    assert (place, options.loss.margin, options.loss.dimensions) == ("here", 0.2, (128, 64))
    assert options.augment.typos == 0.1


def test_defaults_are_those_of_the_dataclass() -> None:
    _, options = call("here")
    assert options == TowerTrainingOptions().options()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ranks", "500-101"), "--ranks: '500-101' is not a range of ranks"),
        (("--matryoshka", "64,x"), "--matryoshka: '64,x' is not a list of dimensions"),
        (("--loss", "pointwise", "--margin", "0.1"), "--loss pointwise, which has no margin"),
    ],
)
def test_contradictory_options_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        call("here", *arguments)
