"""The commands for rules, synonyms, experiments and campaigns: output as text and JSON, changes, refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from shelfwise.retrieval.errors import ExperimentError, SettingError, ShelfwiseError, StoreMissingError
from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.service.curation.document_store import to_microseconds
from shelfwise.service.sponsored.campaign import CampaignStore
from shelfwise.service.sponsored.ledger import Ledger, Offer, seal_offer, text_hash
from tests.learning_stores import record_searches
from tests.unit.service.cli.commands import document, run, shown

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


def test_rules_are_saved_shown_and_deleted(root: Path, file: Path) -> None:
    assert "No rules." in shown("curate", "list", "rules", root)
    assert f"Revision 1: 2 rules are stored. To undo: shelfwise curate restore rules {root} 0" in shown(
        "curate", "put", "rules", root, file, "--by", "m7"
    )
    assert "Nothing changed since revision 1" in shown("curate", "put", "rules", root, file)
    listed = shown("curate", "list", "rules", root)
    assert '{"kind":"pin","products":["d000017","d000018","d000019","d000020"],"position":2}' in listed
    assert '{"query":"return an order","match":"exact"}' in listed
    assert "Revision 2: 1 rule is deleted." in shown("curate", "delete", "rules", root, "returns")
    history = shown("curate", "history", "rules", root).splitlines()
    assert history[1].split()[0] == "2"
    assert "returns  deleted:" in history[1]
    assert any("m7  drills   added:" in line for line in history)
    assert "all rules are now as in revision 1" in shown("curate", "restore", "rules", root, "1")
    assert [each["id"] for each in document("curate", "list", "rules", root)["documents"]] == ["drills", "returns"]


def test_shown_rule_can_be_saved_again(root: Path, file: Path, tmp_path: Path) -> None:
    shown("curate", "put", "rules", root, file)
    saved = tmp_path / "saved.json"
    saved.write_text(shown("curate", "show", "rules", root, "drills"))
    assert document("curate", "put", "rules", root, saved) == {"before": 1, "revision": 1}
    changed = msgspec.json.decode(saved.read_bytes()) | {"priority": 1, "enabled": False}
    saved.write_bytes(msgspec.json.encode(changed))
    assert document("curate", "put", "rules", root, saved) == {"before": 1, "revision": 2}
    assert "priority 5 → 1; enabled null → false" in shown("curate", "history", "rules", root, "drills", "--limit", "1")
    assert "drills   off" in shown("curate", "list", "rules", root)
    (last,) = document("curate", "history", "rules", root, "drills", "--limit", "1")
    assert (last["revision"], last["before"]["priority"], last["after"]["priority"]) == (2, 5, 1)


def test_relevance_settings_are_saved_shown_and_restored(root: Path, tmp_path: Path) -> None:
    settings, saved = tmp_path / "relevance.toml", tmp_path / "saved.json"
    settings.write_text('cutoff = 0.5\ntypo_tolerance = "off"\nsignals = [{ field = "price", weight = 10 }]')
    preview = shown("curate", "preview", "relevance", root, "cordles dril", settings, "--size", "5")
    assert "→" in preview
    assert "correction: 'cordless drill' is searched for before, none after" in preview
    assert f"Revision 1: 1 document is stored. To undo: shelfwise curate restore relevance {root} 0" in shown(
        "curate", "put", "relevance", root, settings, "--by", "m7"
    )
    saved.write_text(shown("curate", "show", "relevance", root))
    assert document("curate", "put", "relevance", root, saved) == {"before": 1, "revision": 1}
    assert "all relevance are now as in revision 0" in shown("curate", "restore", "relevance", root, "0")
    history = shown("curate", "history", "relevance", root)
    assert "m7  relevance  added: cutoff 0.5" in history
    assert 'typo_tolerance "off"' in history


def test_search_shows_the_applied_rules(root: Path, file: Path) -> None:
    shown("curate", "put", "rules", root, file)
    text = shown("search", root, "drill", "--explain")
    assert "rules: drills" in text
    assert "rule drills, bm25" in text
    assert "redirects this search to /returns" in shown("search", root, "return an order")
    assert "rule" not in shown("search", root, "drill", "--no-rules")


@pytest.mark.parametrize(
    ("kind", "name", "content", "error"),
    [
        ("rules", "bad.json", '{"id": "a", "actions": [{"kind": "boost", "filters": "colr = red"}]}', "did you mean"),
        ("synonyms", "bad.txt", "sofa\n", "has no synonym"),
        ("campaigns", "bad.json", '{"id": "a", "advertiser": "acme", "bid": 0}', "campaign 'a': bid: "),
        ("relevance", "bad.toml", "cutoff = 4", "cutoff must be a number from -3 to 3"),
    ],
)
def test_an_invalid_document_is_refused_and_nothing_is_stored(
    root: Path, tmp_path: Path, kind: str, name: str, content: str, error: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ShelfwiseError, match=error):
        shown("curate", "put", kind, root, tmp_path / name)
    with pytest.raises(StoreMissingError):
        shown("curate", "history", kind, tmp_path / "nowhere")
    assert not (root / f"{kind}.sqlite").exists()


def test_exported_synonyms_can_be_imported(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("# ours\nsofa, divano\nhdd => hard disk\n移动电源, 充电宝\n", encoding="utf-8")
    assert document("curate", "put", "synonyms", root, path, "--by", "m7") == {"before": 0, "revision": 1}
    exported = shown("curate", "show", "synonyms", root)
    assert sorted(exported.splitlines()) == ["hdd => hard disk", "sofa, divano", "移动电源, 充电宝"]
    path.write_text(exported, encoding="utf-8")
    assert document("curate", "put", "synonyms", root, path) == {"before": 1, "revision": 1}


SPLIT = 'id = "merging"\nvariants = [{ name = "now" }, { name = "rrf", options = { merge = "rrf" } }]\n'
DRAFT = SPLIT.replace("merging", "draft").replace('merge = "rrf"', 'stage = "merged"') + 'mode = "interleave"\n'


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    (tmp_path / "split.toml").write_text(SPLIT)
    (tmp_path / "draft.toml").write_text(DRAFT)


def test_experiments_are_saved_listed_and_stopped(root: Path, tmp_path: Path) -> None:
    assert "No experiments" in shown("curate", "list", "experiments", root)
    assert "merging is stored" in shown("curate", "put", "experiments", root, tmp_path / "split.toml", "--by", "m7")
    assert document("curate", "put", "experiments", root, tmp_path / "split.toml") == {"changed": False}
    text = shown("curate", "list", "experiments", root)
    assert "running" in text
    assert "now (unchanged); rrf (merge rrf)" in text
    (listed,) = document("curate", "list", "experiments", root)
    assert (listed["experiment"]["id"], listed["state"], listed["who"]) == ("merging", "running", "m7")
    assert document("experiments", "stop", root, "merging") == {"changed": True}
    assert "had already ended" in shown("experiments", "stop", root, "merging")


def test_invalid_experiment_is_refused(root: Path, tmp_path: Path) -> None:
    run("curate", "put", "experiments", root, tmp_path / "split.toml")
    (tmp_path / "split.toml").write_text(SPLIT + "share = 0.5\n")
    for arguments, error in (
        (("curate", "put", "experiments", root, tmp_path / "split.toml"), ExperimentError),
        (("curate", "put", "experiments", root, tmp_path / "nosuch.toml"), ExperimentError),
        (("experiments", "stop", root, "mergin"), ExperimentError),
        (("experiments", "report", root, "nosuch"), ExperimentError),
        (("experiments", "report", root, "merging"), StoreMissingError),
        (("curate", "restore", "experiments", root, "1"), SettingError),
    ):
        with pytest.raises(error):
            run(*arguments)
    with pytest.raises(ShelfwiseError):
        run("curate", "list", "experiments", tmp_path / "nowhere")


def test_report_shows_the_outcome(root: Path, tmp_path: Path) -> None:
    for name in ("split.toml", "draft.toml"):
        run("curate", "put", "experiments", root, tmp_path / name)
    record_searches(root, 40)
    made = document("experiments", "report", root, "merging")
    now, rrf = made["analysis"]["variants"]
    assert (now["name"], now["shoppers"], now["figures"]["click_through"]) == ("now", 20, 0.0)
    assert (rrf["name"], rrf["shoppers"], rrf["figures"]["click_through"]) == ("rrf", 20, 1.0)
    assert made["analysis"]["decisions"][0]["outcome"] == "not yet"
    draft = document("experiments", "report", root, "draft")["analysis"]["draft"]
    assert (draft["wins"], draft["losses"], draft["win_share"]) == (20, 0, 1.0)
    text = shown("experiments", "report", root, "merging")
    assert "not yet" in text
    assert "+100.00 points" in text
    assert "rrf over now" in shown("experiments", "report", root, "draft")
    assert " to 20" in text


CAMPAIGNS = """
[[campaigns]]
id = "drills"
advertiser = "acme"
products = ["d000017", "d000018"]
types = ["cordless drill"]
bid = 0.4
daily_budget = 20

[[campaigns]]
id = "kettles"
advertiser = "rival"
products = ["d000019"]
bid = 0.3
enabled = false
"""


def test_sponsored_campaigns_are_saved_listed_changed_and_restored(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "campaigns.toml"
    file.write_text(CAMPAIGNS)
    assert "No campaigns. To add some" in shown("curate", "list", "campaigns", root)
    assert f"2 campaigns are stored. To undo: shelfwise curate restore campaigns {root} 0" in shown(
        "curate", "put", "campaigns", root, file, "--by", "m7"
    )
    lines = shown("curate", "list", "campaigns", root).splitlines()
    assert lines[1].split()[:4] == ["drills", "running", "advertiser", '"acme",']
    assert lines[2].split()[:2] == ["kettles", "off"]
    states = document("curate", "list", "campaigns", root)["details"]["states"]
    assert [each["state"] for each in states.values()] == ["running", "off"]


def test_the_ledger_is_shown_with_reasons(root: Path, tmp_path: Path) -> None:
    assert "No entries." in shown("sponsored", "log", root)
    assert "No sponsored hit was shown" in shown("sponsored", "report", root)
    (tmp_path / "campaigns.toml").write_text(CAMPAIGNS)
    run("curate", "put", "campaigns", root, tmp_path / "campaigns.toml")
    store = CampaignStore(root)
    key, campaigns = store.ensure_key(), {each.id: each for each in store.read().documents}
    now = to_microseconds(datetime.now(UTC))
    offer = Offer("drills", "acme", text_hash("d000017"), 1, 250_000, 6, now)
    clicks = [
        StoredEvent(
            name, "click", now, now, "k1~ann", "", seal_offer(offer, "q1", key), "", "d000017", None, None, None, None
        )
        for name in (b"one", b"two")
    ]
    Ledger(root).charge(clicks, campaigns, key)
    Ledger(root).refund([1])
    lines = shown("sponsored", "log", root, "--advertiser", "acme").splitlines()
    assert [line.split()[3:] for line in lines[1:]] == [
        ["drills", "d000017", "0.2500", "0.2500", "charged"],
        ["drills", "d000017", "0.2500", "0.0000", "repeated"],
        ["drills", "d000017", "0.2500", "-0.2500", "fraud", "(1)"],
    ]
    assert [each["id"] for each in document("sponsored", "log", root, "--after", "1", "--limit", "1")] == [2]
    assert document("sponsored", "log", root, "--advertiser", "rival") == []
    assert shown("sponsored", "report", root).splitlines()[1].split(maxsplit=6)[1:] == [
        *("drills", "0", "2", "0", "0.00"),
        "fraud 1, repeated 1",
    ]
