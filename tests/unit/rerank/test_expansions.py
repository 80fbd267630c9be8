"""Learned query expansion: its training, and the files of a table."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import pytest

from shelfwise.rerank.expansions import (
    EXPANSION_MODELS,
    ExpansionSpec,
    RelevantPair,
    expansion_store,
    learn_expansions,
    serving_expansions,
    write_expansions,
)
from shelfwise.rerank.model_card import ModelReport
from shelfwise.retrieval.errors import ModelDamagedError, ModelMismatchError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import NO_EXPANSIONS, Expansion, Expansions
from tests.versions import publish_products

TABLE: Expansions = {"sofa": (Expansion("couch", 0.5), Expansion("sectional", 0.25))}


def pairs(*texts: tuple[str, str], count: int = 3) -> list[RelevantPair]:
    return [RelevantPair(query.split(), title.split(), 1.0) for query, title in texts for _ in range(count)]


def test_a_word_is_learned_from_terms_of_all_its_products() -> None:
    found = learn_expansions(pairs(("sofa", "red couch"), ("sofa", "blue couch"), ("lamp", "red light")))
    assert found["sofa"][0].term == "couch"
    assert found["lamp"][0].term == "light"


def test_one_term_of_one_word_has_all_but_the_smoothing() -> None:
    """After one round each of the two candidates, the term and the term of every product, explains half of the word;
    both stay equal in all rounds, so the strength is 1.5 / (1.5 + 0.5)."""
    (found,) = learn_expansions(pairs(("sofa", "couch")))["sofa"]
    assert found.term == "couch"
    assert found.strength == pytest.approx((3 / 2) / (3 / 2 + 0.5), abs=1e-3)


def test_the_word_itself_is_no_expansion_and_explains_its_share() -> None:
    found = learn_expansions(
        pairs(("sofa", "sofa red"), ("sofa", "sofa blue"), ("rug", "blue rug"), ("mat", "red mat"))
    )
    strength = {each.term: each.strength for each in found.get("sofa", ())}
    assert "sofa" not in strength and max(strength.values(), default=0.0) < 0.5


def test_a_word_of_two_pairs_is_left_out() -> None:
    assert learn_expansions(pairs(("sofa", "couch"), count=2)) == {}
    assert learn_expansions([]) == {}


def test_a_relevant_pair_counts_by_its_weight() -> None:
    strong = RelevantPair(["sofa"], ["couch"], 1.0)
    weak = RelevantPair(["sofa"], ["stool"], 0.1)
    found = {each.term: each.strength for each in learn_expansions([strong] * 3 + [weak] * 3)["sofa"]}
    assert found["couch"] > 2 * found.get("stool", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish_products(tmp_path / "store", [Product("1", "cordless drill")])
    return tmp_path / "store"


def add(root: Path, spec: ExpansionSpec | None = None, reasons: tuple[str, ...] = ()) -> str:
    report = ModelReport(created="", rejection_reasons=reasons)
    build = partial(write_expansions, expansions=TABLE)
    return expansion_store(root).add(build, spec or ExpansionSpec(), report).model.name


def test_the_published_table_is_served(root: Path) -> None:
    assert serving_expansions(root) == (NO_EXPANSIONS, ())
    assert add(root) == "expansion-0001"
    add(root, reasons=("not surely better",))
    assert serving_expansions(root) == (TABLE, ())
    expansion_store(root).off()
    assert serving_expansions(root) == (NO_EXPANSIONS, ())


def test_another_text_analysis_is_refused(root: Path) -> None:
    with pytest.raises(ModelMismatchError, match=r"is of the text analysis terms-0, this program's is .*; train it"):
        add(root, ExpansionSpec(rules="terms-0"))


def test_a_damaged_table_is_not_served_and_gives_a_notice(root: Path) -> None:
    path = root / EXPANSION_MODELS.folder / add(root) / "expansions.json"
    path.write_bytes(msgspec.json.encode({"sofa": []}))
    found, notices = serving_expansions(root)
    assert found == NO_EXPANSIONS
    assert "expansions.json" in notices[0] and "words match only by themselves" in notices[0]
    with pytest.raises(ModelDamagedError):
        expansion_store(root).open("expansion-0001")
