"""Without the libraries of the extras: what works, and the errors of what does not."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import MissingExtraError
from shelfwise.retrieval.extras import EXTRAS, optional_imports

_WITHOUT = (
    "import sys\nfrom importlib.machinery import PathFinder\nfrom shelfwise.retrieval.extras import EXTRAS\n"
    "absent, find = {name for names in EXTRAS.values() for name in names}, PathFinder.find_spec\n"
    "PathFinder.find_spec = lambda name, *more: None if name.partition('.')[0] in absent else find(name, *more)\n"
)
"""Python that leaves a program without the libraries of all extras."""


def run_without_extras(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _WITHOUT + program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("extra", "module"), [(extra, module) for extra, names in EXTRAS.items() for module in names])
def test_a_missing_library_is_reported_with_the_command_that_installs_it(
    extra: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    expected = re.escape(f"this needs {module}, which is not installed: pip install 'shelfwise[{extra}]'")
    with pytest.raises(MissingExtraError, match=expected), optional_imports():
        __import__(f"{module}.more")


def test_the_extras_are_those_of_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg", "utf-8")
    assert set(EXTRAS) == set(setup["options.extras_require"]) - {"gpu", "test"}


def test_a_missing_library_of_no_extra_stays_as_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_library"), optional_imports():
        __import__("no_such_library")


def test_commands_help_and_service_are_imported_without_extras() -> None:
    done = run_without_extras(
        "import shelfwise.indexer.build, shelfwise.rerank.sessions.refresh, shelfwise.service.app\n"
        "from shelfwise.service.cli.main import app\napp(['--help-all'])"
    )
    assert done.returncode == 0, done.stderr
    assert "shelfwise train" in done.stdout


def test_the_first_index_has_the_shipped_table(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("id,title\n1,cordless drill\n2,steel kettle\n3,garden hose\n4,hiking boots\n5,desk lamp\n")
    built = _shelfwise("rebuild", str(tmp_path / "index"), str(feed), "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["encoder"] == "english-table"
    assert "pip install 'shelfwise[train]', then rebuild --encoder all-MiniLM-L6-v2" in built.stdout
    for query, title in (("shoes for walking", "hiking boots"), ("light for my table", "desk lamp")):
        page = json.loads(_shelfwise("search", str(tmp_path / "index"), query, "--json").stdout)
        assert page["hits"][0]["product"]["title"] == title


def _shelfwise(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_without_extras(
        f"from shelfwise.service.cli.main import main\nsys.argv = {['shelfwise', *arguments]}\nmain()"
    )


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("mcp index", "mcp"),
        ("demo --products 300 --sessions 0 --pictures", "demo"),
        ("rebuild index feed.csv --runtime torch", "train"),
        ("rebuild index feed.csv --backend elasticsearch", "elasticsearch"),
        ("rebuild index feed.csv --ray local", "ray"),
        ("rebuild index feed.parquet", "parquet"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(
    command: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHELFWISE_ELASTICSEARCH__URL", "http://localhost:1")
    Path("feed.csv").write_text("id,title\n1,kettle\n")
    Path("feed.parquet").write_bytes(b"PAR1")
    done = _shelfwise(*command.split())
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"which is not installed: pip install 'shelfwise[{extra}]'")
    assert "Traceback" not in done.stderr
