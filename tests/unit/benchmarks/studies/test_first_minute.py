"""`python -m benchmarks.studies.first_minute`: unfinished words, and queries that nothing fits."""

from __future__ import annotations

from benchmarks.studies.first_minute import cutoff_curve, random_letters, unfinished_words
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
