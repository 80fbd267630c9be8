"""Synonyms that an engine follows: at once where they are changed, within a second elsewhere, over live changes and new
versions, without another identity of the version."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.build import RebuildOptions, rebuild
from retrieval.errors import SynonymError
from retrieval.progress import NullProgress
from retrieval.records import Page, Product
from retrieval.store.versions import Store
from retrieval.text.analysis import Analyzer
from retrieval.text.synonyms import Synonyms
from service.cli.verify import verify_version
from service.curation.synonyms import Synonym, SynonymKind, SynonymStore
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from tests.conftest import ENCODER
from tests.machine import within

SYNONYMS_STORE = "synonyms.sqlite"

ZORB = Synonym("zorb", SynonymKind.ONE_WAY, ("zorb",), ("drill",))


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture
def opened(root: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(root) as engine:
        yield engine


def found(engine: SearchEngine, text: str) -> set[str]:
    """What the words find."""
    page = engine.search(text, size=200, stage="bm25", correct=False)
    assert page.total <= 200
    return ids(page)


def ids(page: Page) -> set[str]:
    return {hit.product.id for hit in page.hits}


def test_a_search_after_a_change_goes_by_it(opened: SearchEngine) -> None:
    drills = found(opened, "drill")
    assert not found(opened, "zorb")
    opened.synonyms.put([ZORB], who="m7")
    assert found(opened, "zorb") == drills
    assert opened.snapshot is opened.snapshot
    opened.synonyms.put([Synonym("zorb", SynonymKind.ONE_WAY, ("zorb",), ("drill",), enabled=False)])
    assert not found(opened, "zorb")
    opened.synonyms.put([ZORB])
    opened.synonyms.delete(["zorb"])
    assert not found(opened, "zorb")
    assert [change.revision for change in opened.synonyms.history()] == [4, 3, 2, 1]


def test_a_two_way_one_works_from_each_side(opened: SearchEngine) -> None:
    drills, mugs = found(opened, "drill"), found(opened, "mug")
    opened.synonyms.put([Synonym("odd", SynonymKind.TWO_WAY, ("drill", "mug"))])
    assert found(opened, "drill") == found(opened, "mug") == drills | mugs


def test_those_of_the_version_hold_beside_them(opened: SearchEngine) -> None:
    sofas = found(opened, "couch")
    assert sofas == found(opened, "sofa")
    opened.synonyms.put([Synonym("couch", SynonymKind.ONE_WAY, ("couch",), ("kettle",))])
    assert found(opened, "couch") == sofas | found(opened, "kettle")


def test_other_engines_follow_within_a_second(root: Path, opened: SearchEngine) -> None:
    SynonymStore(root).put([ZORB])
    assert within(1, lambda: bool(found(opened, "zorb")))
    with SearchEngine.open(root, follow=False) as still:
        assert not found(still, "zorb"), "it answers from the version as it is"
        still.synonyms.put([Synonym("blurf", SynonymKind.ONE_WAY, ("blurf",), ("drill",))])
        assert not found(still, "blurf")
    assert within(1, lambda: bool(found(opened, "blurf")))


def test_live_changes_and_synonyms_go_together(opened: SearchEngine) -> None:
    opened.synonyms.put([ZORB])
    opened.upsert([Product("p1", "Pillar drill of the newest kind")])
    assert "p1" in found(opened, "zorb")
    opened.delete(["p1"])
    assert "p1" not in found(opened, "zorb")
    assert found(opened, "zorb") == found(opened, "drill")


def test_the_version_stays_what_it_is(root: Path, demo: DemoFiles, cache: Path, opened: SearchEngine) -> None:
    opened.synonyms.put([ZORB])
    before = opened.manifest
    assert opened.snapshot.analyzer.identity != before.analyzer
    opened.refresh()
    assert (opened.manifest, bool(found(opened, "zorb"))) == (before, True)
    assert not verify_version(Store(root), opened.manifest.version, NullProgress()).problems
    report = rebuild(root, RebuildOptions((str(demo.products),), cache, encoder=ENCODER))
    assert report.published
    opened.refresh()
    assert opened.manifest.version != before.version
    assert found(opened, "zorb") == found(opened, "drill")
    assert not found(opened, "settee"), "the new version was built without synonyms"


def test_a_misspelling_is_not_what_a_synonym_is_taken_for(opened: SearchEngine) -> None:
    assert opened.search("dril").corrected
    opened.synonyms.put([Synonym("dril", SynonymKind.ONE_WAY, ("dril",), ("kettle",))])
    page = opened.search("dril", stage="bm25", size=200)
    assert not page.corrected
    assert ids(page) == found(opened, "kettle")


def test_a_phrase_with_synonyms_counts_as_all_of_its_words(opened: SearchEngine) -> None:
    """Half of a query's words must be there; a phrase that became one group counted once, and lost its hits."""
    opened.upsert([Product("p1", "Zagg blurp")])
    assert "p1" in found(opened, "heliotrope quartz zagg blurp")
    scores = {hit.product.id: hit.stages["bm25"].score for hit in opened.search("zagg blurp", stage="bm25").hits}
    opened.synonyms.put([Synonym("zagg", SynonymKind.ONE_WAY, ("zagg blurp",), ("kettle",))])
    assert "p1" in found(opened, "heliotrope quartz zagg blurp")
    after = {hit.product.id: hit.stages["bm25"].score for hit in opened.search("zagg blurp", stage="bm25").hits}
    assert after["p1"] == pytest.approx(scores["p1"], rel=1e-4), "counting is no score"


def test_damage_leaves_those_that_were_read(root: Path, opened: SearchEngine) -> None:
    opened.synonyms.put([ZORB])
    kept = (root / SYNONYMS_STORE).read_bytes()
    for damage in (b"no database " * 200, b""):
        (root / SYNONYMS_STORE).write_bytes(damage)
        assert within(10, lambda: any("changes of the synonyms are not loaded" in each for each in opened.notices))
        assert found(opened, "zorb")
    (root / SYNONYMS_STORE).write_bytes(kept)
    assert within(10, lambda: not opened.notices)
    (root / SYNONYMS_STORE).unlink()
    assert within(10, lambda: not found(opened, "zorb"))


def test_searches_go_on_while_synonyms_change(opened: SearchEngine) -> None:
    drills, failures, over = found(opened, "drill"), list[str](), threading.Event()

    def search() -> None:
        while not over.is_set():
            if found(opened, "zorb") not in (drills, set()):
                failures.append("neither with nor without")

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        opened.synonyms.put([ZORB])
        assert found(opened, "zorb") == drills
        opened.synonyms.delete(["zorb"])
        assert not found(opened, "zorb")
    over.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_what_is_no_list_is_refused(opened: SearchEngine) -> None:
    with pytest.raises(SynonymError, match=r"\[synonym\]"):
        opened.synonyms.put(ZORB)  # type: ignore[arg-type]
    with pytest.raises(SynonymError, match=r"\['zorb'\]"):
        opened.synonyms.delete("zorb")
    with pytest.raises(SynonymError, match="there is no proposal '0a'"):
        opened.synonyms.accept("0a")
    assert opened.synonyms.proposals() == ()


WORDS = st.sampled_from(["drill", "cordless", "red", "mug", "350ml", "hose", "sofa", "zorb", "耳机", "蓝牙", "pan lid"])
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)


@settings(max_examples=60)
@given(st.lists(st.tuples(PHRASES, PHRASES), max_size=4), PHRASES)
def test_a_synonym_never_loses_a_hit(engine: SearchEngine, pairs: list[tuple[str, str]], query: str) -> None:
    lines = [f"{one} => {other}" for one, other in pairs if one != other]
    keyword = engine.snapshot.keyword
    without, expanded = (
        keyword.search(analyzer.groups(query), 600) for analyzer in (Analyzer(), Analyzer(Synonyms.parse(lines)))
    )
    assert without.total == len(without.rows)
    assert set(without.rows.tolist()) <= set(expanded.rows.tolist())
