"""The blocks of the README: commands parse, and blocks run as they stand in a folder of their own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from shelfwise.service.cli.main import app
from tests.services import serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SHELL = [block for language, block in _BLOCKS if not language]
COMMANDS = [
    shlex.split(line.partition("shelfwise ")[2], comments=True)
    for block in SHELL
    for line in block.splitlines()
    if re.match(r"\S*\bshelfwise ", line)
]
_BIN = Path(sys.prefix, "bin")


def block(beginning: str) -> str:
    """The only block with this text."""
    found: str
    (found,) = (each for _, each in _BLOCKS if beginning in each)
    return found


def run(folder: Path, script: str) -> str:
    """The output of the lines of a block for the shell, with the programs of this environment; stops at a failure."""
    environment = {**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    command = ["/bin/sh", "-e", "-c", script]
    return subprocess.check_output(command, cwd=folder, env=environment, text=True)  # noqa: S603 - our own document


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the catalog and the index of the block for a package."""
    folder = tmp_path_factory.mktemp("readme")
    lines = block("cat > products.csv").splitlines(keepends=True)
    printed = run(folder, "".join(line for line in lines if not line.startswith(("uv ", ". "))))
    assert "Cordless Drill 18V" in printed.split("is published and serves")[1]
    return folder


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_parses(arguments: list[str], shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    for each in arguments:
        if each.startswith("demo-store/"):
            Path(each).parent.mkdir(exist_ok=True)
            Path(each).touch()
    command = get_command(app)
    context = command.make_context("shelfwise", [], resilient_parsing=True)
    while hasattr(command, "resolve_command"):
        _, command, arguments = command.resolve_command(context, arguments)
        context = command.make_context(command.name, list(arguments), parent=context, resilient_parsing=True)


def test_it_is_short_and_names_commands() -> None:
    assert len(README.split()) <= 700
    assert len(COMMANDS) >= 9


def test_the_python_block_runs(shop: Path) -> None:
    command = [sys.executable, "-c", block("from shelfwise import")]
    printed = subprocess.check_output(command, cwd=shop, text=True)  # noqa: S603 - our own document
    assert "Cordless Drill 18V" in printed


def test_the_service_answers_curl(shop: Path) -> None:
    (request,) = re.findall(r"^curl .*$", README, re.MULTILINE)
    with serving([str(_BIN / "shelfwise")], shop / "log", str(shop / "store")) as running:
        assert "Cordless Drill 18V" in run(shop, request.replace("http://127.0.0.1:8080", running.address))


@pytest.mark.slow
def test_the_block_about_learning_runs(tmp_path: Path) -> None:
    assert "nDCG@10" in run(tmp_path, block("shelfwise learn"))
