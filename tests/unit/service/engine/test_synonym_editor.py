"""Synonyms that an engine follows: at once where they are changed, within a second elsewhere, over live changes and new
versions, without another identity of the version."""

from __future__ import annotations

import threading
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


def found(engine: SearchEngine, text: str) -> set[str]:
    """What the words find."""
    page = engine.search(text, size=200, stage="bm25", correct=False)
    assert page.total <= 200
    return ids(page)


def ids(page: Page) -> set[str]:
    return {hit.product.id for hit in page.hits}


def test_a_search_after_a_change_goes_by_it(live: SearchEngine) -> None:
    drills = found(live, "drill")
    assert not found(live, "zorb")
    live.synonyms.put([ZORB], who="m7")
    assert found(live, "zorb") == drills
    assert live.snapshot is live.snapshot
    live.synonyms.put([Synonym("zorb", SynonymKind.ONE_WAY, ("zorb",), ("drill",), enabled=False)])
    assert not found(live, "zorb")
    live.synonyms.put([ZORB])
    live.synonyms.delete(["zorb"])
    assert not found(live, "zorb")
    assert [change.revision for change in live.synonyms.history()] == [4, 3, 2, 1]


def test_a_two_way_one_works_from_each_side(live: SearchEngine) -> None:
    drills, mugs = found(live, "drill"), found(live, "mug")
    live.synonyms.put([Synonym("odd", SynonymKind.TWO_WAY, ("drill", "mug"))])
    assert found(live, "drill") == found(live, "mug") == drills | mugs


def test_those_of_the_version_hold_beside_them(live: SearchEngine) -> None:
    sofas = found(live, "couch")
    assert sofas == found(live, "sofa")
    live.synonyms.put([Synonym("couch", SynonymKind.ONE_WAY, ("couch",), ("kettle",))])
    assert found(live, "couch") == sofas | found(live, "kettle")


def test_other_engines_follow_within_a_second(root: Path, live: SearchEngine) -> None:
    SynonymStore(root).put([ZORB])
    assert within(1, lambda: bool(found(live, "zorb")))
    with SearchEngine.open(root, follow=False) as still:
        assert not found(still, "zorb"), "it answers from the version as it is"
        still.synonyms.put([Synonym("blurf", SynonymKind.ONE_WAY, ("blurf",), ("drill",))])
        assert not found(still, "blurf")
    assert within(1, lambda: bool(found(live, "blurf")))


def test_live_changes_and_synonyms_go_together(live: SearchEngine) -> None:
    live.synonyms.put([ZORB])
    live.upsert([Product("p1", "Pillar drill of the newest kind")])
    assert "p1" in found(live, "zorb")
    live.delete(["p1"])
    assert "p1" not in found(live, "zorb")
    assert found(live, "zorb") == found(live, "drill")


def test_the_version_stays_what_it_is(root: Path, demo: DemoFiles, cache: Path, live: SearchEngine) -> None:
    live.synonyms.put([ZORB])
    before = live.manifest
    assert live.snapshot.analyzer.identity != before.analyzer
    live.refresh()
    assert (live.manifest, bool(found(live, "zorb"))) == (before, True)
    assert not verify_version(Store(root), live.manifest.version, NullProgress()).problems
    report = rebuild(root, RebuildOptions((str(demo.products),), cache, encoder=ENCODER))
    assert report.published
    live.refresh()
    assert live.manifest.version != before.version
    assert found(live, "zorb") == found(live, "drill")
    assert not found(live, "settee"), "the new version was built without synonyms"


def test_a_misspelling_is_not_what_a_synonym_is_taken_for(live: SearchEngine) -> None:
    assert live.search("dril").corrected
    live.synonyms.put([Synonym("dril", SynonymKind.ONE_WAY, ("dril",), ("kettle",))])
    page = live.search("dril", stage="bm25", size=200)
    assert not page.corrected
    assert ids(page) == found(live, "kettle")


def test_a_phrase_with_synonyms_counts_as_all_of_its_words(live: SearchEngine) -> None:
    """Half of a query's words must be there; a phrase that became one group counted once, and lost its hits."""
    live.upsert([Product("p1", "Zagg blurp")])
    assert "p1" in found(live, "heliotrope quartz zagg blurp")
    scores = {hit.product.id: hit.stages["bm25"].score for hit in live.search("zagg blurp", stage="bm25").hits}
    live.synonyms.put([Synonym("zagg", SynonymKind.ONE_WAY, ("zagg blurp",), ("kettle",))])
    assert "p1" in found(live, "heliotrope quartz zagg blurp")
    after = {hit.product.id: hit.stages["bm25"].score for hit in live.search("zagg blurp", stage="bm25").hits}
    assert after["p1"] == pytest.approx(scores["p1"], rel=1e-4), "counting is no score"


def test_searches_go_on_while_synonyms_change(live: SearchEngine) -> None:
    drills, failures, over = found(live, "drill"), list[str](), threading.Event()

    def search() -> None:
        while not over.is_set():
            if found(live, "zorb") not in (drills, set()):
                failures.append("neither with nor without")

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        live.synonyms.put([ZORB])
        assert found(live, "zorb") == drills
        live.synonyms.delete(["zorb"])
        assert not found(live, "zorb")
    over.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_what_is_no_list_is_refused(live: SearchEngine) -> None:
    with pytest.raises(SynonymError, match=r"\[synonym\]"):
        live.synonyms.put(ZORB)  # type: ignore[arg-type]
    with pytest.raises(SynonymError, match=r"\['zorb'\]"):
        live.synonyms.delete("zorb")
    with pytest.raises(SynonymError, match="there is no proposal '0a'"):
        live.synonyms.accept("0a")
    assert live.synonyms.proposals() == ()


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
