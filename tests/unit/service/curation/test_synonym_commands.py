"""The commands for synonyms: what they show, change and refuse, for people and as JSON."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from retrieval.errors import ShelfwiseError, StoreMissingError, SynonymError
from service.cli import output
from service.cli.main import app
from service.curation.synonym_mining import Example, Proposal, write_proposals
from service.curation.synonyms import SynonymKind

SYNONYMS_STORE = "synonyms.sqlite"

PROPOSAL = Proposal(
    "0a1b2c3d4e5f",
    SynonymKind.ONE_WAY,
    ("divano",),
    ("sofa",),
    7,
    0.5,
    0.61,
    (Example("grey divano", "grey sofa", 7, 0.5, 0.61),),
)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "out", Console(width=200))


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["synonyms", *map(str, arguments)])
    if isinstance(done.exception, ShelfwiseError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def document(*arguments: str | Path) -> Any:  # noqa: ANN401 - JSON
    return msgspec.json.decode(CliRunner().invoke(app, ["synonyms", *map(str, arguments), "--json"]).stdout)


@pytest.mark.parametrize(
    "command", ["list", "put", "delete", "history", "import", "export", "proposals", "accept", "decline"]
)
def test_each_command_shows_its_example(command: str) -> None:
    assert f"Example: shelfwise synonyms {command} " in " ".join(run(command, "--help").split())


def test_they_are_put_listed_and_taken_away(root: Path) -> None:
    assert "No synonyms." in run("list", "--index", root)
    assert "Revision 1: 1 synonym is in place." in run("put", "sofa, divano", "--by", "m7", "--index", root)
    assert "Nothing is other than it was at revision 1" in run("put", "sofa,  divano", "--index", root)
    assert document("put", "hdd => hard disk", "--id", "disk", "--off", "--index", root) == {"before": 1, "revision": 2}
    lines = [line.split() for line in run("list", "--index", root).splitlines()[1:]]
    assert lines == [["disk", "(off)", "hdd", "=>", "hard", "disk"], ["sofa-divano", "sofa,", "divano"]]
    listed = document("list", "--index", root)
    assert (listed["revision"], [each["enabled"] for each in listed["synonyms"]]) == (2, [False, True])
    run("put", "hdd => hard disk", "--id", "disk", "--index", root)
    run("put", "hdd => hard drive", "--id", "disk", "--index", root)
    assert "Revision 5: 1 synonym is gone." in run("delete", "disk", "--index", root)
    history = [line.split(maxsplit=4)[-1] for line in run("history", "--index", root).splitlines()[1:]]
    assert "deleted: hdd => hard drive" in history[0]
    assert "hdd => hard disk became hdd => hard drive" in history[1]
    assert "turned on" in history[2]
    assert "added: hdd => hard disk" in history[3]
    (first,) = document("history", "sofa-divano", "--index", root)
    assert (first["revision"], first["who"], first["before"]) == (1, "m7", None)


def test_what_is_exported_can_be_imported(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("# ours\nsofa, divano\nhdd => hard disk\n移动电源, 充电宝\n", encoding="utf-8")
    assert document("import", path, "--by", "m7", "--index", root) == {"before": 0, "revision": 1}
    exported = run("export", "--index", root)
    assert sorted(exported.splitlines()) == ["hdd => hard disk", "sofa, divano", "移动电源, 充电宝"]
    path.write_text(exported, encoding="utf-8")
    assert document("import", path, "--index", root) == {"before": 1, "revision": 1}


def test_proposals_are_accepted_and_declined(root: Path) -> None:
    assert "No proposals." in run("proposals", "--index", root)
    write_proposals(root, [PROPOSAL], datetime(2026, 11, 20, tzinfo=UTC))
    told = run("proposals", "--index", root)
    assert '"grey divano", "grey sofa"; 50% went on and chose; choices alike 0.61' in told
    assert document("proposals", "--index", root)[0]["id"] == PROPOSAL.id
    assert "Revision 1: divano => sofa, with the id divano-to-sofa." in run("accept", PROPOSAL.id, "--index", root)
    assert document("proposals", "--index", root) == []
    run("delete", "divano-to-sofa", "--index", root)
    assert len(document("proposals", "--index", root)) == 1, "it is proposed again"
    assert "It will not come back." in run("decline", PROPOSAL.id, "--by", "m7", "--index", root)
    assert document("proposals", "--index", root) == []


def test_what_cannot_be_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SynonymError, match="nothing to be a synonym of"):
        run("put", "sofa", "--index", root)
    with pytest.raises(SynonymError, match="there is no proposal 'nowhere'"):
        run("accept", "nowhere", "--index", root)
    with pytest.raises(SynonymError, match="cannot be read"):
        run("import", tmp_path / "none.txt", "--index", root)
    with pytest.raises(StoreMissingError):
        run("list", "--index", tmp_path / "nowhere")
    assert not (root / SYNONYMS_STORE).exists()
