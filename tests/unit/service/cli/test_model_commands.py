"""The commands for rankers: output as text and JSON, changes, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shelfwise.rerank.evaluation.promotion import Decision, QueryMeasures, Slice, decide
from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.retrieval.errors import StoreMissingError, UnknownModelError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import CURRENT
from tests.rankers import REPORT, SPEC, building
from tests.unit.service.cli.commands import document, shown
from tests.versions import publish_products


def decision_with_gain(gain: float) -> Decision:
    """The decision on 60 queries with a mean gain of `gain` for the challenger."""
    random = np.random.default_rng(1)
    served = random.uniform(0.2, 0.8, 60)
    moved = served + gain + random.normal(0, 0.01, 60)
    unknown = np.full(60, np.nan)
    slices = (Slice("language zh", np.arange(60) < 5),)
    return decide(QueryMeasures(moved, moved, unknown), QueryMeasures(served, served, unknown), slices=slices)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with two published rankers and a rejected one."""
    root = tmp_path_factory.mktemp("rankers")
    publish_products(root, [Product("1", "cordless drill")])
    registry = ranker_store(root)
    replace = msgspec.structs.replace
    registry.publish(building(1), SPEC, replace(REPORT, measures={"nDCG@10": 0.41}, decision=decision_with_gain(0.05)))
    better = replace(
        REPORT, against="ranker-0001", decision=decision_with_gain(0.05), created="2026-11-17T03:12:00+00:00"
    )
    registry.publish(building(2), replace(SPEC, mix=0.25, parent="ranker-1"), better)
    worse = decision_with_gain(-0.05)
    report = replace(REPORT, against="ranker-0002", decision=worse, measured_on="sessions from 2026-11-08")
    registry.add_rejected(building(3), SPEC, report, worse.reasons)
    return root


@pytest.fixture
def root(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "store"))


class TestList:
    def test_list_is_newest_first_and_marks_the_serving_ranker(self, three: Path) -> None:
        head, *rows, rejected, _, _ = shown("models", "list", three).splitlines()
        assert head.split() == ["ranker", "made", "kind", "nDCG@10", "decision", "size"]
        last = "ranker-0003 2026-11-10 03:12 features head, fp32 0.4300 rejected"
        assert rows[0].split()[:8] == last.split()
        assert rows[1].split()[:3] == ["▶", "ranker-0002", "2026-11-17"]
        assert rows[2].split()[6:8] == ["0.4100", "published"]
        assert rejected.startswith("ranker-0003 was rejected: worse: nDCG@10 -0.0")
        assert f"; 1 more: shelfwise models show {three} ranker-0003" in rejected

    def test_as_json(self, three: Path) -> None:
        listed = document("models", "list", three)
        assert (listed["serving"], listed["is_off"], listed["notices"]) == ("ranker-0002", False, [])
        assert [each["name"] for each in listed["rankers"]] == ["ranker-0001", "ranker-0002", "ranker-0003"]
        assert [each["serves"] for each in listed["rankers"]] == [False, True, False]
        assert listed["rankers"][2]["report"]["rejection_reasons"][0].startswith("worse: nDCG@10")

    def test_list_of_an_index_without_rankers(self, tmp_path: Path) -> None:
        publish_products(tmp_path, [Product("1", "cordless drill")])
        assert "This index has no ranker yet. To train one: shelfwise train ranker" in shown("models", "list", tmp_path)
        assert document("models", "list", tmp_path)["rankers"] == []

        with pytest.raises(StoreMissingError):
            shown("models", "list", tmp_path / "none")

    def test_list_shows_a_damaged_ranker_and_its_replacement(self, root: Path) -> None:
        (root / "rankers/ranker-0002" / MODEL_FILE).write_bytes(b"")
        result = shown("models", "list", root)
        (row,) = (line for line in result.splitlines() if line.startswith("▶"))
        assert "ranker-0001" in row
        assert "unusable" in result
        assert "ranker-0002 cannot be used: " in result
        assert "ranker-0001 serves in its place" in result
        assert document("models", "list", root)["serving"] == "ranker-0001"

    def test_invalid_pointer_is_reported(self, root: Path) -> None:
        (root / "rankers" / CURRENT).write_bytes(b"\x1b[31mgarbage")
        result = shown("models", "list", root)
        assert "\x1b" not in result
        assert "names no ranker" in result
        assert "No ranker serves: results keep the merged order." in result


class TestShow:
    def test_serving_ranker_is_shown_with_reasons_and_comparisons(self, three: Path) -> None:
        result = shown("models", "show", three)
        assert "ranker-0002, made 2026-11-17 03:12" in result
        assert "continued from ranker-1" in result
        assert "network + 0.25 of the merged score" in result
        assert "sigmoid(1.5 × score -0.5)" in result
        assert "published against ranker-0001\n  better: nDCG@10 +0.0" in result
        assert "�" not in result
        (zh,) = (line.split() for line in result.splitlines() if line.startswith("nDCG@10") and "zh" in line)
        assert zh[3] == "5"
        assert zh[-4:] == ["too", "few", "to", "decide"]

    def test_rejected_ranker_is_shown_by_name(self, three: Path) -> None:
        result = shown("models", "show", three, "ranker-0003")
        assert "rejected against ranker-0002\n  worse: nDCG@10 -0.0" in result
        assert result.count("worse: MRR") == 1

    def test_unknown_ranker_error_lists_the_rankers(self, three: Path) -> None:
        with pytest.raises(UnknownModelError, match="no ranker 'ranker-9'; it holds ranker-0001, ranker-0002"):
            shown("models", "show", three, "ranker-9")


class TestRollbackAndOff:
    def test_rollback_and_forward(self, root: Path) -> None:
        result = shown("models", "rollback", root)
        assert result.startswith("ranker-0001 serves: made 2026-11-10 03:12.\nranker-0002 is kept; to go back to it: ")
        back = {"before": "ranker-0001", "ranker": "ranker-0002", "passed_over": []}
        assert document("models", "rollback", root, "ranker-0002") == back
        assert shown("models", "rollback", root, "ranker-0002") == "ranker-0002 already serves.\n"

    def test_off_says_how_to_undo_it(self, root: Path) -> None:
        result = shown("models", "off", root)
        assert f"shelfwise models rollback {root} ranker-0002" in result
        assert "Rankers are switched off: results keep the merged order" in shown("models", "list", root)
        assert document("models", "off", root) == {"before": ""}
        assert shown("models", "rollback", root).startswith("ranker-0002 serves")
