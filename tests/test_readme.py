"""The commands and the Python of the README: all are parsed, and those that take seconds run on a demo store."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from retrieval.records import Product
from retrieval.store.products import product_to_json
from service.cli.main import app
from service.demo import DemoFiles
from tests.conftest import ENCODER
from tests.unit.service.cli import commands

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line.partition("shelfwise ")[2], comments=True)
    for language, block in _BLOCKS
    if not language
    for line in block.splitlines()
    if "shelfwise " in line.partition("#")[0]
]
PRINTED = {
    ("rebuild", "store", "products.jsonl.gz"): "v000001 serves",
    ("search",): "Cordless Drill",
    ("check",): "completeness",
    ("index", "patch"): "1 product changed",
    ("index", "upsert"): "1 product added",
    ("index", "delete"): "2 products deleted",
    ("index", "versions"): "v000001",
    ("index", "verify"): "605 products against",
    ("index", "prune"): "Nothing to remove",
    ("keys", "create"): "only this once",
    ("rules", "preview"): "rules now: none; then: week",
    ("rules", "put"): "1 rule is in place",
    ("evaluate",): "nDCG@10",
}
"""The commands that run, by their first words, and what they print. The others serve until they are stopped, train,
need a cluster, a second version or events, or measure for minutes; the tests of each run them."""


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
    """A folder with the files that the README's commands name; its products have the ids of the README."""
    folder = tmp_path_factory.mktemp("readme")
    named = ["p000001", "p000002", "p000003", "3920564", "1187"]
    lines = gzip.decompress(demo.products.read_bytes()).splitlines(keepends=True)
    more = [product_to_json(Product(each, "Cordless Drill 12V", brand="Bosch", price=99.0)) + b"\n" for each in named]
    (folder / "products.jsonl.gz").write_bytes(gzip.compress(b"".join(lines + more)))
    shutil.copy(demo.judgments, folder / "judgments.tsv")
    (folder / "new-products.csv").write_text("id,title,price\nn1,Cordless Drill 40V,99\n")
    (folder / "week.toml").write_text("""[[rules]]
id = "week"
when = { query = "cordless drill", match = "contains" }
actions = [{ kind = "pin", products = ["p000001"] }]
""")
    return folder


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
