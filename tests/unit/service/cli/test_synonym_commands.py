"""The commands for synonyms: what they show, change and refuse, for people and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from retrieval.errors import StoreMissingError, SynonymError
from service.curation.synonym_mining import Example, Proposal, write_proposals
from service.curation.synonyms import SynonymKind
from tests.unit.service.cli.commands import document, shown

EXAMPLE = Example("grey divano", "grey sofa", 7, 0.5, 0.61)
PROPOSAL = Proposal("0a1b2c3d4e5f", SynonymKind.ONE_WAY, ("divano",), ("sofa",), 7, 0.5, 0.61, (EXAMPLE,))


def test_they_are_put_listed_and_taken_away(root: Path) -> None:
    assert "No synonyms." in shown("synonyms", "list", root)
    assert "Revision 1: 1 synonym is in place." in shown("synonyms", "put", root, "sofa, divano", "--by", "m7")
    assert "Nothing is other than it was at revision 1" in shown("synonyms", "put", root, "sofa,  divano")
    assert document("synonyms", "put", root, "hdd => hard disk", "--id", "disk", "--off") == {
        "before": 1,
        "revision": 2,
    }
    lines = [line.split() for line in shown("synonyms", "list", root).splitlines()[1:]]
    assert lines == [["disk", "(off)", "hdd", "=>", "hard", "disk"], ["sofa-divano", "sofa,", "divano"]]
    listed = document("synonyms", "list", root)
    assert (listed["revision"], [each["enabled"] for each in listed["synonyms"]]) == (2, [False, True])
    shown("synonyms", "put", root, "hdd => hard disk", "--id", "disk")
    shown("synonyms", "put", root, "hdd => hard drive", "--id", "disk")
    assert "Revision 5: 1 synonym is deleted." in shown("synonyms", "delete", root, "disk")
    history = [line.split(maxsplit=4)[-1] for line in shown("synonyms", "history", root).splitlines()[1:]]
    assert "deleted: hdd => hard drive" in history[0]
    assert "hdd => hard disk became hdd => hard drive" in history[1]
    assert "turned on" in history[2]
    assert "added: hdd => hard disk" in history[3]
    (first,) = document("synonyms", "history", root, "sofa-divano")
    assert (first["revision"], first["who"], first["before"]) == (1, "m7", None)


def test_what_is_exported_can_be_imported(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("# ours\nsofa, divano\nhdd => hard disk\n移动电源, 充电宝\n", encoding="utf-8")
    assert document("synonyms", "import", root, path, "--by", "m7") == {"before": 0, "revision": 1}
    exported = shown("synonyms", "export", root)
    assert sorted(exported.splitlines()) == ["hdd => hard disk", "sofa, divano", "移动电源, 充电宝"]
    path.write_text(exported, encoding="utf-8")
    assert document("synonyms", "import", root, path) == {"before": 1, "revision": 1}


def test_proposals_are_accepted_and_declined(root: Path) -> None:
    assert "No proposals." in shown("synonyms", "proposals", root)
    write_proposals(root, [PROPOSAL], datetime(2026, 11, 20, tzinfo=UTC))
    told = shown("synonyms", "proposals", root)
    assert '"grey divano", "grey sofa"; 50% went on and chose; choices alike 0.61' in told
    assert document("synonyms", "proposals", root)[0]["id"] == PROPOSAL.id
    assert "Revision 1: divano => sofa, with the id divano-to-sofa." in shown("synonyms", "accept", root, PROPOSAL.id)
    assert document("synonyms", "proposals", root) == []
    shown("synonyms", "delete", root, "divano-to-sofa")
    assert len(document("synonyms", "proposals", root)) == 1, "it is proposed again"
    assert "It will not be proposed again." in shown("synonyms", "decline", root, PROPOSAL.id, "--by", "m7")
    assert document("synonyms", "proposals", root) == []


def test_what_cannot_be_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SynonymError, match="nothing to be a synonym of"):
        shown("synonyms", "put", root, "sofa")
    with pytest.raises(SynonymError, match="there is no proposal 'nowhere'"):
        shown("synonyms", "accept", root, "nowhere")
    with pytest.raises(SynonymError, match="cannot be read"):
        shown("synonyms", "import", root, tmp_path / "none.txt")
    with pytest.raises(StoreMissingError):
        shown("synonyms", "list", tmp_path / "nowhere")
    assert not (root / "synonyms.sqlite").exists()
