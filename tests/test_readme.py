"""The commands and the Python of the README: all are parsed, and those that take seconds run on a demo store."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from shelfwise.service.cli.main import app
from shelfwise.service.demo import DemoFiles
from tests.conftest import ENCODER
from tests.unit.service.cli import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line.partition("shelfwise ")[2], comments=True)
    for language, block in _BLOCKS
    if not language
    for line in block.splitlines()
    if "shelfwise " in line.partition("#")[0]
]
PRINTED = {
    ("rebuild", "store", "products.jsonl.gz"): "is published and serves",
    ("search",): "Cordless Drill",
    ("check",): "completeness",
    ("index", "patch"): "1 product changed",
    ("index", "upsert"): "1 product added",
    ("index", "delete"): "2 products deleted",
    ("index", "versions"): "v000001",
    ("index", "compare"): "added      1: n1",
    ("index", "rollback"): "v000001 serves",
    ("index", "verify"): "600 products against",
    ("index", "prune"): "Nothing to remove",
    ("keys", "create"): "only shown once",
    ("rules", "preview"): "rules before: none; after: week",
    ("rules", "put"): "1 rule is stored",
    ("evaluate",): "nDCG@10",
}
"""Commands that run, by their first words, and a part of their output. The others serve until they are stopped, train,
need a cluster or events, or measure for minutes; other tests run them."""

_JUDGMENTS = 200
"""Lines of the demo store's judgments: few queries, as `evaluate` searches for each in three stages."""


def _parse(arguments: list[str]) -> None:
    command = get_command(app)
    context = command.make_context("shelfwise", [], resilient_parsing=True)
    while hasattr(command, "resolve_command"):
        _, found, arguments = command.resolve_command(context, arguments)
        command = found
        if hasattr(command, "resolve_command"):
            context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
    command.make_context(command.name, arguments, parent=context)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_parses(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for each in arguments:
        if "." in each and not each.startswith("-"):
            Path(each.partition("=")[2] or each).parent.mkdir(parents=True, exist_ok=True)
            Path(each.partition("=")[2] or each).touch()
    _parse(arguments)


def test_the_readme_names_commands() -> None:
    assert len(COMMANDS) > 30
    assert all(any(each[: len(start)] == list(start) for each in COMMANDS) for start in PRINTED)


@pytest.fixture(scope="module")
def shop(demo: DemoFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder next to the demo store, with the files that commands of the README create."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(demo.products.parent, folder / "demo-store")
    (folder / "demo-store/events.jsonl.gz").touch()  # the tests' demo store has no sessions
    judgments = folder / "demo-store/judgments.tsv"
    judgments.write_text("".join(judgments.read_text("utf-8").splitlines(keepends=True)[:_JUDGMENTS]), "utf-8")
    makers = re.findall(r"^(?:cp|printf) [^\n]*|^cat > .*?^END$", README, re.MULTILINE | re.DOTALL)
    for command in makers:
        subprocess.run(["/bin/sh", "-c", command], cwd=folder, check=True)  # noqa: S603 - our own document
    assert len(makers) == 3
    return folder


def test_every_file_that_a_command_reads_is_there(shop: Path) -> None:
    named = {each.partition("=")[2] or each for arguments in COMMANDS for each in arguments if not each.startswith("-")}
    files = {each for each in named if re.fullmatch(r"[\w/-]+\.(tsv|csv|toml|jsonl)(\.gz)?", each)}
    assert len(files) > 5
    made = {"store/rejected.jsonl"}  # written by an earlier rebuild
    assert not [each for each in files - made if not (shop / each).exists() and not (ROOT / each).exists()]


def test_fast_commands_print_the_expected_output(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    for arguments in COMMANDS:
        start = next((start for start in PRINTED if tuple(arguments[: len(start)]) == start), None)
        if start is not None:
            printed = commands.shown(*arguments, *(["--encoder", ENCODER] if start[0] == "rebuild" else []))
            assert PRINTED[start] in printed, arguments


def test_python_examples_run(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(shop)
    (code,) = (block for language, block in _BLOCKS if language == "python")
    yesterday = "from datetime import UTC, datetime, timedelta\nyesterday = datetime.now(UTC) - timedelta(days=1)\n"
    names: dict[str, Any] = {}
    exec(compile(yesterday + code, "README.md", "exec"), names)  # noqa: S102 - our own document
    names["engine"].close()
    assert "Cordless Drill" in capsys.readouterr().out
