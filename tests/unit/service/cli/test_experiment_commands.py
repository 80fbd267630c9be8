"""The commands for experiments: what they show, change and refuse, for people and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.errors import ExperimentError, ShelfwiseError, StoreMissingError
from tests.learning_stores import record_searches
from tests.unit.service.cli.commands import document, run, shown

SPLIT = 'id = "merging"\nvariants = [{ name = "now" }, { name = "rrf", options = { merge = "rrf" } }]\n'
DRAFT = SPLIT.replace("merging", "draft").replace('merge = "rrf"', 'stage = "merged"') + 'mode = "interleave"\n'


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    (tmp_path / "split.toml").write_text(SPLIT)
    (tmp_path / "draft.toml").write_text(DRAFT)


def test_experiments_are_put_listed_and_stopped(root: Path, tmp_path: Path) -> None:
    assert "No experiments" in shown("experiments", "list", root)
    assert "merging is stored" in shown("experiments", "put", root, tmp_path / "split.toml", "--by", "m7")
    assert document("experiments", "put", root, tmp_path / "split.toml") == {"changed": False}
    text = shown("experiments", "list", root)
    assert "running" in text
    assert "now (as it is); rrf (merge rrf)" in text
    (listed,) = document("experiments", "list", root)
    assert (listed["experiment"]["id"], listed["state"], listed["who"]) == ("merging", "running", "m7")
    assert document("experiments", "stop", root, "merging") == {"changed": True}
    assert "was over already" in shown("experiments", "stop", root, "merging")


def test_what_cannot_be_is_refused(root: Path, tmp_path: Path) -> None:
    run("experiments", "put", root, tmp_path / "split.toml")
    (tmp_path / "split.toml").write_text(SPLIT + "share = 0.5\n")
    for arguments, error in (
        (("put", tmp_path / "split.toml"), ExperimentError),
        (("put", tmp_path / "nosuch.toml"), ExperimentError),
        (("stop", "mergin"), ExperimentError),
        (("report", "nosuch"), ExperimentError),
        (("report", "merging"), StoreMissingError),
    ):
        with pytest.raises(error):
            run("experiments", arguments[0], root, *arguments[1:])
    with pytest.raises(ShelfwiseError):
        run("experiments", "list", tmp_path / "nowhere")


def test_a_ranker_that_the_index_lacks_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "order.toml").write_text(SPLIT.replace('merge = "rrf"', 'ranker = "ranker-0001"'))
    with pytest.raises(ExperimentError, match=r"ranker: .* has no ranker 'ranker-0001'"):
        run("experiments", "put", root, tmp_path / "order.toml")
    (tmp_path / "order.toml").write_text(SPLIT.replace('merge = "rrf"', 'ranker = "off"'))
    assert "merging is stored" in shown("experiments", "put", root, tmp_path / "order.toml")
    assert "rrf (ranker off)" in shown("experiments", "list", root)


def test_a_report_says_what_came_of_it(root: Path, tmp_path: Path) -> None:
    for name in ("split.toml", "draft.toml"):
        run("experiments", "put", root, tmp_path / name)
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
