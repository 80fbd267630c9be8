"""The commands for rules: what they show, change and refuse, for people and as JSON."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from retrieval.errors import RuleError, ShelfwiseError, StoreMissingError
from service.cli import output
from service.cli.main import app

RULES = """
[[rules]]
id = "drills"
name = "Drills of the week"
priority = 5
when = { query = "drills", match = "contains", ends = 2099-01-01T00:00:00Z }

[[rules.actions]]
kind = "pin"
products = ["d000017", "d000018", "d000019", "d000020"]
position = 2

[[rules.actions]]
kind = "hide"
filters = "price > 900"

[[rules]]
id = "returns"
when = { query = "return an order", match = "exact" }
actions = [{ kind = "redirect", url = "/returns" }]
"""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "out", Console(width=200))


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, ShelfwiseError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def document(*arguments: str | Path) -> Any:  # noqa: ANN401 - JSON
    return msgspec.json.decode(CliRunner().invoke(app, [*map(str, arguments), "--json"]).stdout)


def test_rules_are_put_shown_and_taken_away(root: Path, file: Path) -> None:
    assert "No rules." in run("rules", "list", root)
    assert f"Revision 1: 2 rules are in place. To undo: shelfwise rules restore {root} 0" in run(
        "rules", "put", root, file, "--by", "m7"
    )
    assert "Nothing is other than it was at revision 1" in run("rules", "put", root, file)
    listed = run("rules", "list", root)
    assert 'with "drills", until 2099-01-01 00:00 UTC' in listed
    assert "pin d000017, d000018, d000019 and 1 more at 2; hide price > 900" in listed
    assert listed.splitlines()[2].split() == ["returns", "0", '"return', "an", 'order"', "redirect", "to", "/returns"]
    assert "Revision 2: 1 rule is deleted." in run("rules", "delete", root, "returns")
    history = run("rules", "history", root).splitlines()
    assert [line.split()[0] for line in history[1:]] == ["2", "1", "1"]
    assert history[1].split()[-2:] == ["returns", "deleted"]
    assert history[2].split()[-3:] == ["m7", "drills", "added"]
    assert "the rules are those of revision 1" in run("rules", "restore", root, "1")
    assert [each["id"] for each in document("rules", "list", root)["rules"]] == ["drills", "returns"]


def test_what_is_shown_can_be_put_again(root: Path, file: Path, tmp_path: Path) -> None:
    run("rules", "put", root, file)
    saved = tmp_path / "saved.json"
    saved.write_text(run("rules", "show", root, "drills"))
    assert document("rules", "put", root, saved) == {"before": 1, "revision": 1}
    changed = msgspec.json.decode(saved.read_bytes()) | {"priority": 1, "enabled": False}
    saved.write_bytes(msgspec.json.encode(changed))
    assert document("rules", "put", root, saved) == {"before": 1, "revision": 2}
    assert "changed priority, enabled" in run("rules", "history", root, "drills", "--limit", "1")
    assert "drills (off)" in run("rules", "list", root)
    (last,) = document("rules", "history", root, "drills", "--limit", "1")
    assert (last["revision"], last["before"]["priority"], last["after"]["priority"]) == (2, 5, 1)


def test_a_preview_changes_nothing(root: Path, file: Path) -> None:
    told = run("rules", "preview", root, "drills", "--put", file, "--size", "5")
    assert "+  → 2" in told
    assert "rules now: none; then: drills" in told
    assert document("rules", "list", root)["revision"] == 0
    found = document("rules", "preview", root, "return an order", "--put", file)
    assert (found["before"]["redirect"], found["after"]["redirect"]) == ("", "/returns")
    assert "The page would be the same." in run("rules", "preview", root, "mug", "--put", file)
    redirected = run("rules", "preview", root, "return an order", "--put", file)
    assert "redirect: none now, /returns then" in redirected


def test_a_search_shows_which_rules_took_part(root: Path, file: Path) -> None:
    run("rules", "put", root, file)
    shown = run("search", root, "drill", "--explain")
    assert "rules: drills" in shown
    assert "rule drills, bm25" in shown
    assert "redirects this search to /returns" in run("search", root, "return an order")
    assert "rule" not in run("search", root, "drill", "--no-rules")


def test_what_cannot_be_used_is_refused(root: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"id": "a", "actions": [{"kind": "boost", "filters": "colr = red"}]}')
    with pytest.raises(RuleError, match="did you mean"):
        run("rules", "put", root, bad)
    with pytest.raises(RuleError, match="there is no rule 'a'"):
        run("rules", "show", root, "a")
    with pytest.raises(StoreMissingError):
        run("rules", "history", tmp_path / "nowhere")
    assert not (root / "rules.sqlite").exists()
