"""The commands for rules, synonyms, experiments and campaigns: output as text and JSON, changes, refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import ExperimentError, ShelfwiseError, StoreMissingError
from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.service.curation.sqlite_file import to_microseconds
from shelfwise.service.sponsored.campaign import CampaignStore
from shelfwise.service.sponsored.ledger import Ledger, Offer, seal_offer, text_hash
from tests.learning_stores import record_searches
from tests.unit.service.cli.commands import document, run, shown

RULES = """
[[rules]]
id = "drills"
when = { query = "drills", match = "contains" }
actions = [{ kind = "pin", products = ["d000017", "d000018"], position = 2 }]

[[rules]]
id = "returns"
when = { query = "return an order", match = "exact" }
actions = [{ kind = "redirect", url = "/returns" }]
"""


def test_preview_of_relevance_settings_shows_moves_and_corrections(root: Path, tmp_path: Path) -> None:
    settings = tmp_path / "relevance.toml"
    settings.write_text('cutoff = 0.5\ntypo_tolerance = "off"\nsignals = [{ field = "price", weight = 10 }]')
    preview = shown("curate", "preview", "relevance", root, "cordles dril", settings, "--size", "5")
    assert "→" in preview
    assert "correction: 'cordless drill' is searched for before, none after" in preview


def test_search_shows_the_applied_rules(root: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    shown("curate", "put", "rules", root, tmp_path / "rules.toml")
    text = shown("search", root, "drill", "--explain")
    assert "rules: drills" in text
    assert "rule drills, bm25" in text
    assert "redirects this search to /returns" in shown("search", root, "return an order")
    assert "rule" not in shown("search", root, "drill", "--no-rules")


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


def test_experiments_are_planned_stopped_and_reported_by_name(root: Path, tmp_path: Path) -> None:
    assert "No experiments" in shown("curate", "list", "experiments", root)
    run("curate", "put", "experiments", root, tmp_path / "split.toml")
    assert shown("curate", "list", "experiments", root).splitlines()[1].split()[:2] == ["merging", "running"]
    (tmp_path / "both.json").write_text('{"experiments": []}')
    for arguments, error in (
        (("experiments", "plan", root, tmp_path / "both.json"), ExperimentError),
        (("experiments", "stop", root, "mergin"), ExperimentError),
        (("experiments", "report", root, "nosuch"), ExperimentError),
        (("experiments", "report", root, "merging"), StoreMissingError),
        (("experiments", "stop", tmp_path / "nowhere", "merging"), ShelfwiseError),
    ):
        with pytest.raises(error):
            run(*arguments)
    assert document("experiments", "stop", root, "merging") == {"before": 1, "revision": 2}
    assert "Nothing changed" in shown("experiments", "stop", root, "merging")
    assert shown("curate", "list", "experiments", root).splitlines()[1].split()[:2] == ["merging", "ended"]


def test_report_shows_the_outcome(root: Path, tmp_path: Path) -> None:
    for name in ("split.toml", "draft.toml"):
        run("curate", "put", "experiments", root, tmp_path / name)
    record_searches(root, 40)
    draft = document("experiments", "report", root, "draft")["analysis"]["draft"]
    assert (draft["wins"], draft["losses"], draft["win_share"]) == (20, 0, 1.0)
    text = shown("experiments", "report", root, "merging")
    assert "not yet" in text
    assert "+100.00 points" in text
    assert "rrf over now" in shown("experiments", "report", root, "draft")


CAMPAIGNS = """
[[campaigns]]
id = "drills"
advertiser = "acme"
products = ["d000017", "d000018"]
bid = 0.4

[[campaigns]]
id = "kettles"
advertiser = "rival"
products = ["d000019"]
bid = 0.3
enabled = false
"""


def test_the_ledger_is_shown_with_reasons(root: Path, tmp_path: Path) -> None:
    assert "No entries." in shown("sponsored", "log", root)
    assert "No sponsored hit was shown" in shown("sponsored", "report", root)
    (tmp_path / "campaigns.toml").write_text(CAMPAIGNS)
    run("curate", "put", "campaigns", root, tmp_path / "campaigns.toml")
    lines = shown("curate", "list", "campaigns", root).splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["drills", "running"], ["kettles", "off"]]
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
    assert document("sponsored", "log", root, "--advertiser", "rival") == []
    assert shown("sponsored", "report", root).splitlines()[1].endswith("fraud 1, repeated 1")
