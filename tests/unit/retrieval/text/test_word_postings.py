"""Texts found by their words, against looking at every text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieval.text.vocabulary import WordLookup, forms, postings_of

WORDS = st.sampled_from(("drill", "drills", "drip", "bit", "电钻", "钻", "é", "zoo"))
TEXTS = st.lists(st.lists(WORDS, max_size=5), max_size=12)
LOOKUPS = st.lists(
    st.builds(WordLookup, st.one_of(WORDS, st.sampled_from(("d", "dr", "", "q"))), st.booleans()), max_size=3
)


def has(text: list[str], lookup: WordLookup) -> bool:
    begun = lookup.is_prefix and any(word.startswith(lookup.word) for word in text)
    return begun or any(word in forms(lookup.word) for word in text)


@given(TEXTS, LOOKUPS)
def test_it_finds_what_looking_at_every_text_finds(texts: list[list[str]], lookups: list[WordLookup]) -> None:
    found = postings_of(texts).matching(lookups).tolist()
    assert found == [at for at, text in enumerate(texts) if all(has(text, lookup) for lookup in lookups)]


@given(TEXTS)
def test_words_stand_in_their_order_and_are_found(texts: list[list[str]]) -> None:
    postings = postings_of(texts)
    words = [postings[place] for place in range(len(postings))]
    assert words == sorted({word for text in texts for word in text})
    assert [postings.position(word) for word in words] == list(range(len(words)))
    assert [postings.texts_with(place).tolist() for place in range(len(words))] == [
        [at for at, text in enumerate(texts) if word in text] for word in words
    ]


def test_a_lone_surrogate_is_no_word() -> None:
    postings = postings_of([["drill"]])
    assert postings.position("\ud800") is None
    assert not postings.prefix_positions("\ud800")
    assert not postings_of([]).matching([WordLookup("a")]).size
