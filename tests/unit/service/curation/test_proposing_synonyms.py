"""Synonym proposals: mined from events, accepted or declined."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shelfwise.retrieval.records import Event
from shelfwise.retrieval.store.manifest import PROPOSALS_FILE
from shelfwise.service.curation.synonym_mining import (
    Example,
    Proposal,
    align,
    are_spellings,
    joined,
    proposal_id,
    read_proposals,
    split,
    write_proposals,
)
from shelfwise.service.curation.synonyms import Synonym, SynonymKind
from shelfwise.service.engine.engine import SearchEngine
from tests.unit.service.engine.demo_visits import MADE, refresh_tables, visit

ENOUGH = 6


class TestAlignment:
    @pytest.mark.parametrize(
        ("one", "other", "differing"),
        [
            ("couch cover", "sofa cover", ("couch", "sofa", False)),
            ("grey couches", "sofa grey", ("couches", "sofa", False)),
            ("白色移动电源", "白色充电宝", ("移动电源", "充电宝", False)),
            ("skillet", "Frying Pan", ("skillet", "frying pan", True)),
        ],
    )
    def test_differing_words_are_aligned(self, one: str, other: str, differing: tuple[str, str, bool]) -> None:
        found = align(split(one), split(other))
        assert found is not None
        assert (joined(found.one), joined(found.other), found.is_whole) == differing

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("drill", "cordless drill"),
            ("drills", "drill"),
            ("red sofa bed", "couch sofa leather"),
            ("sofa 3 seats", "couch"),
            ("cut the grass", "lawn mower"),
            ("a b c d", "mower"),
            ("", "mower"),
        ],
    )
    def test_pairs_that_are_not_synonyms(self, one: str, other: str) -> None:
        assert align(split(one), split(other)) is None

    @pytest.mark.parametrize(
        ("one", "other", "same_word"),
        [
            ("wireless speaker", "wireles speaker", True),
            ("earbuds case", "ear buds case", True),
            ("drill bits", "bit drills", True),
            ("沙发", "沙法", True),
            ("移动电源", "移动电原", True),
            ("couch", "sofa", False),
            ("小刀", "菜刀", False),
            ("洗面奶", "洁面乳", False),
            ("pan lid", "skillet lid", False),
        ],
    )
    def test_spelling_variants_are_not_synonyms(self, one: str, other: str, same_word: bool) -> None:
        assert are_spellings(split(one), split(other)) == same_word


class TestFile:
    STORED = (
        Proposal(
            "0a", SynonymKind.ONE_WAY, ("couch",), ("sofa",), 7, 0.5, 0.61, (Example("couch", "sofa", 7, 0.5, 0.61),)
        ),
        Proposal("0b", SynonymKind.TWO_WAY, ("pot", "saucepan"), (), 9, 0.0, 0.4, ()),
    )

    def test_proposals_round_trip(self, tmp_path: Path) -> None:
        assert read_proposals(tmp_path) == ()
        write_proposals(tmp_path, self.STORED, MADE)
        assert read_proposals(tmp_path) == self.STORED
        assert self.STORED[0].synonym == Synonym("couch-to-sofa", SynonymKind.ONE_WAY, ("couch",), ("sofa",))

    def test_id_does_not_depend_on_order(self) -> None:
        assert proposal_id("couch", "sofa") == proposal_id("sofa", "couch") != proposal_id("couch", "settee")


PAIRS = (
    ("divano cover", "sofa cover", ENOUGH),
    ("grey divano", "grey sofa", ENOUGH),
    ("hair zapper", "hair dryer", ENOUGH),
    ("couch", "sofa", ENOUGH),
    ("kettle", "kettl", ENOUGH),
    ("grobble", "frabble", ENOUGH),
    ("anna svensson", "camping tent", 2),
)
"""Pairs of queries with the same choices, and the number of their shoppers."""


def visits(products: Sequence[str]) -> Iterator[Event]:
    """Events of shoppers who reword their queries; one pair of queries has no hits at first."""
    for place, (one, other, shoppers) in enumerate(PAIRS):
        chosen = products[5 * place : 5 * place + 5]
        for number in range(shoppers):
            begin = MADE - timedelta(days=1 + place, hours=number)
            for step, query in enumerate((one, other)):
                who = f"{place}-{number}-{step}"
                yield from visit(who, query, chosen, begin + timedelta(hours=step / 2))
    for number in range(ENOUGH):
        begin = MADE - timedelta(days=20, hours=number)
        yield from visit(f"none-{number}", "random orbit zagg", (), begin)
        yield from visit(f"none-{number}", "random orbit sander", products[50:53], begin + timedelta(seconds=30))


@pytest.fixture(scope="module")
def tables_root(engine: SearchEngine, demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with tables derived from `visits`."""
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("proposing") / "index"))
    refresh_tables(root, visits([engine.snapshot.products.id_of(row) for row in range(60)]))
    return root


def by_words(proposals: Sequence[Proposal]) -> dict[str, Proposal]:
    return {each.synonym.line: each for each in proposals}


class TestMining:
    def test_proposals_have_their_evidence(self, tables_root: Path) -> None:
        found = by_words(read_proposals(tables_root))
        assert set(found) == {
            "divano => sofa",
            "hair zapper => hair dryer",
            "couch => sofa",
            "random orbit zagg => random orbit sander",
        }
        divano = found["divano => sofa"]
        assert {(each.query, each.to_query) for each in divano.examples} == {
            ("divano cover", "sofa cover"),
            ("grey divano", "grey sofa"),
        }
        assert (divano.shoppers, divano.share) == (ENOUGH, 0)
        assert divano.alike == pytest.approx(5 / (5 + 2), abs=0.001)
        # A query without a choice is judged by the next query.
        sander = found["random orbit zagg => random orbit sander"]
        assert (sander.share, sander.alike, sander.shoppers) == (1, 0, ENOUGH)
        (example,) = sander.examples
        assert (example.query, example.to_query) == ("random orbit zagg", "random orbit sander")
        assert "svensson" not in (tables_root / PROPOSALS_FILE).read_text("utf-8"), "rare queries are nowhere"

    def test_engine_omits_known_and_declined_proposals(self, tables_root: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(tables_root, tmp_path / "index"))
        with SearchEngine.open(root) as engine:
            found = by_words(engine.synonyms.proposals())
            assert "couch => sofa" not in found, "the version was built with it"
            assert len(found) == 3
            kept = engine.synonyms.accept(found["divano => sofa"].id, who="m7")
            assert (kept.id, engine.synonyms.history()[0].who) == ("divano-to-sofa", "m7")
            assert engine.search("divano", stage="bm25").total == engine.search("divano sofa", stage="bm25").total > 0
            engine.synonyms.decline(found["hair zapper => hair dryer"].id, who="m7")
            assert list(by_words(engine.synonyms.proposals())) == ["random orbit zagg => random orbit sander"]
            refresh_tables(root)
            assert list(by_words(engine.synonyms.proposals())) == ["random orbit zagg => random orbit sander"]
            engine.synonyms.put([replace(kept, enabled=False)])
            assert "divano => sofa" not in by_words(engine.synonyms.proposals()), "it is known, though off"

    def test_erasure_recomputes_proposals(self, tables_root: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(tables_root, tmp_path / "index"))
        refresh_tables(root, erased=["shopper-none-0", "shopper-none-1"])
        assert "random orbit zagg => random orbit sander" not in by_words(read_proposals(root))
