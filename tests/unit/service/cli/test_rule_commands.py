"""The commands for rules: what they show, change and refuse, for people and as JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from retrieval.errors import RuleError, StoreMissingError
from tests.unit.service.cli.commands import document, shown

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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def test_rules_are_put_shown_and_taken_away(index: Path, file: Path) -> None:
    assert "No rules." in shown("rules", "list", index)
    assert f"Revision 1: 2 rules are in place. To undo: shelfwise rules restore {index} 0" in shown(
        "rules", "put", index, file, "--by", "m7"
    )
    assert "Nothing is other than it was at revision 1" in shown("rules", "put", index, file)
    listed = shown("rules", "list", index)
    assert 'with "drills", until 2099-01-01 00:00 UTC' in listed
    assert "pin d000017, d000018, d000019 and 1 more at 2; hide price > 900" in listed
    assert listed.splitlines()[2].split() == ["returns", "0", '"return', "an", 'order"', "redirect", "to", "/returns"]
    assert "Revision 2: 1 rule is deleted." in shown("rules", "delete", index, "returns")
    history = shown("rules", "history", index).splitlines()
    assert [line.split()[0] for line in history[1:]] == ["2", "1", "1"]
    assert history[1].split()[-2:] == ["returns", "deleted"]
    assert history[2].split()[-3:] == ["m7", "drills", "added"]
    assert "the rules are those of revision 1" in shown("rules", "restore", index, "1")
    assert [each["id"] for each in document("rules", "list", index)["rules"]] == ["drills", "returns"]


def test_what_is_shown_can_be_put_again(index: Path, file: Path, tmp_path: Path) -> None:
    shown("rules", "put", index, file)
    saved = tmp_path / "saved.json"
    saved.write_text(shown("rules", "show", index, "drills"))
    assert document("rules", "put", index, saved) == {"before": 1, "revision": 1}
    changed = msgspec.json.decode(saved.read_bytes()) | {"priority": 1, "enabled": False}
    saved.write_bytes(msgspec.json.encode(changed))
    assert document("rules", "put", index, saved) == {"before": 1, "revision": 2}
    assert "changed priority, enabled" in shown("rules", "history", index, "drills", "--limit", "1")
    assert "drills (off)" in shown("rules", "list", index)
    (last,) = document("rules", "history", index, "drills", "--limit", "1")
    assert (last["revision"], last["before"]["priority"], last["after"]["priority"]) == (2, 5, 1)


def test_a_preview_changes_nothing(index: Path, file: Path) -> None:
    told = shown("rules", "preview", index, "drills", "--put", file, "--size", "5")
    assert "+  → 2" in told
    assert "rules now: none; then: drills" in told
    assert document("rules", "list", index)["revision"] == 0
    found = document("rules", "preview", index, "return an order", "--put", file)
    assert (found["before"]["redirect"], found["after"]["redirect"]) == ("", "/returns")
    assert "The page would be the same." in shown("rules", "preview", index, "mug", "--put", file)
    redirected = shown("rules", "preview", index, "return an order", "--put", file)
    assert "redirect: none now, /returns then" in redirected


def test_a_search_shows_which_rules_took_part(index: Path, file: Path) -> None:
    shown("rules", "put", index, file)
    text = shown("search", index, "drill", "--explain")
    assert "rules: drills" in text
    assert "rule drills, bm25" in text
    assert "redirects this search to /returns" in shown("search", index, "return an order")
    assert "rule" not in shown("search", index, "drill", "--no-rules")


def test_what_cannot_be_used_is_refused(index: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"id": "a", "actions": [{"kind": "boost", "filters": "colr = red"}]}')
    with pytest.raises(RuleError, match="did you mean"):
        shown("rules", "put", index, bad)
    with pytest.raises(RuleError, match="there is no rule 'a'"):
        shown("rules", "show", index, "a")
    with pytest.raises(StoreMissingError):
        shown("rules", "history", tmp_path / "nowhere")
    assert not (index / "rules.sqlite").exists()
