"""The fault harness reports planted errors of an index."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from tests.faults.index_faults import FAULTS, Life, Tally, UnexpectedStateError, check_index, check_verified, run_faults
from tests.faults.processes import Call, Truth, write_encoder
from tests.versions import reseal, write_products

SEED = 11


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("faults")
    encoders = [write_encoder(folder / name, name, size) for name, size in (("one", 16), ("two", 24))]
    life = Life(folder / "life", encoders, Tally())
    life.begin(random.Random(1))
    return life


@pytest.fixture
def root(begun: Life, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun.root, tmp_path / "index"))


@pytest.fixture
def truth(begun: Life) -> Truth:
    return begun.truth.copy()


def found(root: Path, truth: Truth) -> str:
    return "; ".join(check_index(root, [truth], random.Random(1))[1])


class TestPlantedErrors:
    def test_untouched_index_passes(self, root: Path, truth: Truth) -> None:
        assert found(root, truth) == ""
        check_verified(root)

    def test_lost_acknowledged_change_is_reported(self, root: Path, truth: Truth) -> None:
        for name in (JOURNAL, COPY):
            (root / name).unlink()
        with pytest.raises(UnexpectedStateError, match=r"products are wrong: p\d+ is "):
            found(root, truth)

    def test_mixed_version_is_reported(self, root: Path, truth: Truth) -> None:
        """The mixed version has valid checksums, as if it had been published."""
        names = sorted(truth.versions)
        older, folder = ProductStore(root / "versions" / names[0]), root / "versions" / truth.serving
        before = {older.id_of(row): older[row] for row in range(len(older))}
        served = ProductStore(folder)
        products = [served[row] for row in range(len(served))]
        mixed = [before.get(each.id, each) if place % 2 else each for place, each in enumerate(products)]
        assert mixed != products
        write_products(mixed, folder)
        reseal(root, truth.serving)
        with pytest.raises(UnexpectedStateError, match=r"\d+ products are wrong: p\d+ is "):
            found(root, truth)

    def test_remaining_damage_is_reported(self, root: Path, truth: Truth) -> None:
        (Store(root).version_folder(truth.serving) / "synonyms.txt").write_text("changed")
        with pytest.raises(UnexpectedStateError, match="verify: versions/"):
            check_verified(root)


@pytest.mark.slow
def test_round_with_a_problem_is_reported_with_its_seed(tmp_path: Path) -> None:
    life = Life(tmp_path / "life", [write_encoder(tmp_path / "one", "one", 16)], Tally())
    life.begin(random.Random(1))
    life.truth.calls.append(Call("delete", ((next(iter(life.truth.served(life.truth.serving))), {}),)))
    with pytest.raises(UnexpectedStateError, match=r"seed 5, .*products are wrong"):
        life.run_round(5)


@pytest.mark.slow
def test_index_serves_a_whole_version_with_all_acknowledged_changes_after_faults(tmp_path: Path) -> None:
    report = run_faults(tmp_path, 50, SEED)
    assert report.faults.total() == 50
    assert report.faults.keys() == set(FAULTS)
    assert report.killed >= 10
    assert report.refused >= 1
    assert report.changes > 50
