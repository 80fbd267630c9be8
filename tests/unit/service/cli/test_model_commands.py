"""The commands for rankers: output as text and JSON, changes, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shelfwise.rerank.evaluation.promotion import MRR, NDCG, Decision, Slice, decide
from shelfwise.rerank.ranker.spec import ranker_store
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
    slices = (Slice("language zh", np.arange(60) < 5),)
    return decide({NDCG: moved, MRR: moved}, {NDCG: served, MRR: served}, slices=slices)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with two published rankers and a rejected one."""
    root = tmp_path_factory.mktemp("rankers")
    publish_products(root, [Product("1", "cordless drill")])
    registry = ranker_store(root)
    replace = msgspec.structs.replace
    registry.add(building(1), SPEC, replace(REPORT, measures={"nDCG@10": 0.41}, decision=decision_with_gain(0.05)))
    better = replace(
        REPORT, against="ranker-0001", decision=decision_with_gain(0.05), created="2026-11-17T03:12:00+00:00"
    )
    registry.add(building(2), replace(SPEC, mix=0.25, parent="ranker-1"), better)
    worse = decision_with_gain(-0.05)
    report = replace(REPORT, against="ranker-0002", decision=worse, measured_on="sessions from 2026-11-08")
    registry.add(building(3), SPEC, replace(report, rejection_reasons=worse.rejection_reasons))
    return root


@pytest.fixture
def root(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "store"))


class TestList:
    def test_list_is_newest_first_and_marks_the_serving_ranker(self, three: Path) -> None:
        head, *rows = shown("models", "list", three).splitlines()
        assert head.split() == ["ranker", "made", "nDCG@10", "decision", "size"]
        assert rows[0].split()[:5] == ["ranker-0003", "2026-11-10", "03:12", "0.4300", "rejected"]
        assert rows[1].split()[:3] == ["▶", "ranker-0002", "2026-11-17"]
        assert rows[2].split()[3:5] == ["0.4100", "published"]
        assert rows[3].startswith("ranker-0003 was rejected: worse: nDCG@10 -0.0")

    def test_invalid_pointer_is_reported(self, root: Path) -> None:
        (root / "rankers" / CURRENT).write_bytes(b"\x1b[31mgarbage")
        result = shown("models", "list", root)
        assert "\x1b" not in result
        assert "names no ranker" in result
        assert "No ranker serves: " in result


class TestShow:
    def test_card_is_printed_by_default_that_of_the_serving_ranker(self, three: Path) -> None:
        result = shown("models", "show", three)
        assert result.startswith("# Model card: ranker-0002\n")
        assert "compared with: ranker-0001" in result
        assert "- better: nDCG@10 +0.0" in result
        rejected = shown("models", "show", three, "ranker-0003")
        assert "decision: rejected" in rejected
        assert rejected.count("worse: MRR") == 1
        document_of = document("models", "show", three, "ranker-0003")
        assert (document_of["name"], document_of["serves"]) == ("ranker-0003", False)


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
        assert "rankers are switched off: " in shown("models", "list", root)
        assert document("models", "off", root) == {"before": ""}
        assert shown("models", "rollback", root).startswith("ranker-0002 serves")
