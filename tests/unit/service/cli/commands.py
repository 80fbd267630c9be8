"""Runs commands of the program in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from typer.testing import CliRunner

from shelfwise.retrieval.errors import ShelfwiseError
from shelfwise.retrieval.records import Product
from shelfwise.service.cli.main import app
from tests.catalogs import write_feed

CATALOG = (
    Product("1", "cordless drill 18 V", brand="Bosch", price=89.0),
    Product("2", "hammer drill", brand="Makita", price=129.0),
    Product("3", "garden hose 20 m", brand="Gardena", price=25.5),
    Product("4", "无线电钻", brand="Bosch", price=75.0),
)


def write_small_feed(folder: Path) -> Path:
    """Writes a feed of `CATALOG` and a row without a title."""
    feed = write_feed(folder / "feed.jsonl", CATALOG)
    with feed.open("a") as file:
        file.write('{"id": "5"}\n')
    return feed


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    def document(self) -> Any:  # noqa: ANN401 - JSON
        """The only JSON document of standard output."""
        assert self.out.count("\n") == 1, self.out + self.err
        return msgspec.json.decode(self.out)


def run(*arguments: object) -> Done:
    """Runs a command; raises its ShelfwiseError."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, ShelfwiseError):
        raise done.exception
    assert not done.exception or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def document(*arguments: object) -> Any:  # noqa: ANN401 - JSON
    """The JSON document that a command prints."""
    return run(*arguments, "--json").document()


def shown(*arguments: object) -> str:
    """The output of a successful command, including warnings."""
    done = run(*arguments)
    assert done.code == 0, done
    return done.out + done.err
