"""`python -m benchmarks.studies.suggestions suggest`: correct and reproducible figures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.studies import suggestions
from benchmarks.studies.suggestions import TypoFigures, judge_proposals, measure_keystrokes, measure_typos
from retrieval.records import Product
from service.curation.synonym_mining import Proposal
from service.curation.synonyms import SynonymKind
from service.engine.engine import SearchEngine


def test_every_prefix_is_timed() -> None:
    typed: list[str] = []
    measured = measure_keystrokes(typed.append, ["saw", "drill"], count=5)
    assert typed == ["s", "sa", "saw", "d", "dr"]
    assert measured.keystrokes == 5
    assert 0 <= measured.p50 <= measured.p99 <= measured.most


def test_shares_of_correct_suggestions() -> None:
    figures = TypoFigures("1 edit", words=10, right=6, wrong=2, sure_right=5, sure_wrong=1)
    assert figures.recall == 6 / 10
    assert figures.precision == 6 / (6 + 2)
    assert TypoFigures("", 0, 0, 0, 0, 0).precision == 1


def test_typos_are_deterministic_and_unknown_words_are_unknown(engine: SearchEngine) -> None:
    products = engine.snapshot.products
    first, second, third = measure_typos(products, 60, seed=1)
    assert [first, second, third] == measure_typos(products, 60, seed=1)
    assert first != measure_typos(products, 60, seed=2)[0]
    assert first.words == second.words == 60
    assert first.right > 50
    assert third.right == 0


def test_catalog_with_one_title_terminates() -> None:
    figures = measure_typos([Product("1", "drill"), Product("2", "saw")], 10, seed=1)  # type: ignore[arg-type]
    assert [each.words for each in figures] == [0, 0, 0]


def test_command_prints_the_table(demo_index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    suggestions.suggest(demo_index, count=100, words=10, as_json=True)
    report = msgspec.json.decode(capfd.readouterr().out)
    assert (report["products"], report["suggest"]["keystrokes"]) == (600, 100)
    suggestions.suggest(demo_index, count=100, words=10)
    assert "600 products, 100 letters typed: p50 " in capfd.readouterr().out


def proposal(kind: SynonymKind, phrases: tuple[str, ...], to: tuple[str, ...] = ()) -> Proposal:
    return Proposal("", kind, phrases, to, 5, 0.0, 0.5, ())


def test_correct_proposals_name_one_type_and_recall_is_of_searched_synonyms() -> None:
    proposals = [
        proposal(SynonymKind.ONE_WAY, ("Secateurs",), ("pruning shears",)),
        proposal(SynonymKind.TWO_WAY, ("blowdryer", "hair dryer")),
        proposal(SynonymKind.ONE_WAY, ("secateurs",), ("hair dryer",)),
    ]
    found = judge_proposals(proposals, ["secateurs", "hedge clippers", "hair dryer"])
    assert (found.proposals, found.right, found.wrong) == (3, 2, ("secateurs => hair dryer",))
    assert (found.planted, found.found) == (2, 1), "nobody asked for a blowdryer"
    assert (found.precision, found.recall) == (2 / 3, 1 / 2)


def test_without_proposals_none_is_wrong() -> None:
    found = judge_proposals([], ["secateurs"])
    assert (found.precision, found.recall, found.precision_at) == (1, 0, {})
