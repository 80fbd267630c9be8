"""`python -m benchmarks.studies.first_minute`: unfinished and misspelled words, judged queries in both modes, and
meaningless queries."""

from __future__ import annotations

from benchmarks.studies.first_minute import (
    count_corrections,
    cutoff_curve,
    paired_quality,
    random_letters,
    unfinished_words,
    without_intent,
)
from retrieval.judgments import Judgments
from service.engine.engine import SearchEngine


def test_prefixes_find_completed_words(engine: SearchEngine) -> None:
    found = unfinished_words(engine, 20, 4, seed=1)
    assert found.words == 20
    assert found.prefix > max(found.as_typed, 0.9)


def test_a_higher_cutoff_leaves_more_queries_without_a_hit(engine: SearchEngine) -> None:
    letters = random_letters(10, seed=1)
    assert letters == random_letters(10, seed=1)
    curve = cutoff_curve(engine, letters, ["visa application form"], {"cordless drill": 3, "steel pan": 1})
    assert [each.shift for each in curve] == sorted(each.shift for each in curve)
    assert [each.letters for each in curve] == sorted(each.letters for each in curve)
    assert (curve[0].letters, curve[-1].letters, curve[2].lost) == (0.0, 1.0, 0.0)


def test_right_words_stay_and_misspelled_words_are_corrected(engine: SearchEngine) -> None:
    found = count_corrections(engine, 300, 40, seed=1)
    assert (found.dictionary, found.catalog, found.typos) == (300, 300, 40)
    assert (found.dictionary_changed, found.catalog_changed) == (0, 0)
    assert [each.kind for each in found.corrected] == [
        "alone, checked",
        "alone, not checked",
        "with two words of its title, checked",
        "with two words of its title, not checked",
    ]
    assert all(each.right > 25 for each in found.corrected)
    assert all(each.wrong < 3 for each in found.corrected)


def test_paired_quality_compares_searches_with_and_without_intent(engine: SearchEngine) -> None:
    query = "cordless drill"

    def ids() -> list[str]:
        return [hit.product.id for hit in engine.search(query, size=100, stage="merged", rules=False).hits]

    on = ids()
    with without_intent():
        off = ids()
    assert on == ids() != off
    relevant = {on[0], off[-1]}
    judgments = Judgments({query: dict.fromkeys(relevant, 1) | {on[1]: 0}, "steel pan": {"nowhere": 1}}, 0)
    found = paired_quality(engine, list(judgments.grades), judgments)
    gain, recall = (each for each in found.quality if each.stage == "merged")
    assert (gain.measure, recall.measure) == ("nDCG@10", "R@100")
    expected = [len(relevant.intersection(order)) / len(relevant) / 2 for order in (on, off)]
    assert [recall.mean, recall.without] == expected
    assert recall.difference.mean == expected[0] - expected[1]
    assert all(min(spent) > 0 for spent in found.p50.values())
