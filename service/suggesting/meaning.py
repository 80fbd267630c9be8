"""What a whole query was meant to be: which of its words may be corrected, and to what.

A word stays as it is where it stands in the catalog, even once and in any field that is searched, or is a synonym of
one that does; where it is an identifier; where it has a digit; and where shoppers bought through a query with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from retrieval.analysis import identifier_key
from retrieval.catalog_words import CatalogWords
from retrieval.chunks import word_term
from service.snapshot import Snapshot
from service.suggesting.corrections import Corrections, Meant, edits_of
from service.suggesting.typed import Typed


class Meanings:
    """Tells what queries were meant to be, by one catalog's words."""

    def __init__(self, snapshot: Snapshot, words: CatalogWords, sold: Collection[str]) -> None:
        """`sold` are words that shoppers bought through."""
        self._snapshot = snapshot
        self._words = words
        self._corrections = Corrections(words)
        self._sold = sold

    def of_query(self, text: str) -> Meant | None:
        """What a query was meant to be; None where it may well be meant as it stands."""
        typed = Typed(text)
        if typed.is_too_long:
            return None
        found = self._replacements(typed, len(typed.words), is_offer=False)
        if not found or (len(typed.words) > 1 and self._is_identifier(text)):
            return None
        words = {at: each.text for at, each in found.items()}
        return Meant(typed.replaced(words), all(each.is_sure for each in found.values()))

    def of_beginning(self, text: str) -> Iterator[str]:
        """The same of a query that is still being typed, whose last word may be the beginning of one: the likeliest
        first, none where it may be meant as it stands. Words that sell are no exception here: these are offers, where
        nothing begins as typed."""
        typed = Typed(text)
        if typed.is_too_long or not typed.words:
            return
        whole = len(typed.words) - typed.is_within_word
        words = {at: each.text for at, each in self._replacements(typed, whole, is_offer=True).items()}
        if typed.is_within_word:
            for last in self._begun(typed, words):
                yield typed.replaced({**words, whole: last})
        if words:
            yield typed.replaced(words)

    def _begun(self, typed: Typed, words: Mapping[int, str]) -> Iterator[str]:
        """What the last word may be, or become, where the others are put right so."""
        last = typed.words[-1].word
        if not self._is_unknown(last) or self._words.postings.places(last) or self._stands(last):
            return
        meant = self._corrections.meant(last, self._beside(typed, len(typed.words) - 1, words))
        if meant and meant.is_sure:
            yield meant.text
        if begun := self._corrections.begun(last):
            yield begun
        if meant and not meant.is_sure:
            yield meant.text

    def is_misspelled(self, text: str) -> bool:
        """Whether a word of it is none of the catalog's, and near to one that is."""
        return any(
            self._may_correct(each.word) and self._corrections.meant(each.word) is not None
            for each in Typed(text).words
        )

    def _replacements(self, typed: Typed, end: int, *, is_offer: bool) -> dict[int, Meant]:
        """By their places, the words before `end` that were meant to be others. In an offer that may also be another
        form of the same word, which the search would find and suggestions do not."""
        may_correct = self._is_unknown if is_offer else self._may_correct
        found: dict[int, Meant] = {}
        for at, each in enumerate(typed.words[:end]):
            if may_correct(each.word) and not self._is_half(typed, at):
                meant = self._corrections.meant(each.word, self._beside(typed, at, {}))
                is_form = is_offer and meant is not None and word_term(meant.text) == word_term(each.word)
                # Asked last: in a cluster it is a journey.
                if meant and (is_form or not self._stands(each.word)):
                    found[at] = meant
        return found

    def _may_correct(self, word: str) -> bool:
        return word not in self._sold and self._is_unknown(word)

    def _is_unknown(self, word: str) -> bool:
        """To titles, brands and categories, so that it may be a misspelling."""
        return bool(edits_of(word)) and word not in self._words

    def _beside(self, typed: Typed, at: int, words: Mapping[int, str]) -> list[str]:
        """The other words, some of them put right, as far as the catalog has them."""
        others = (words.get(place, each.word) for place, each in enumerate(typed.words) if place != at)
        return [word for word in others if word in self._words]

    def _is_half(self, typed: Typed, at: int) -> bool:
        """Whether the catalog writes it as one word with a neighbour: the search finds that."""
        pairs = (typed.words[max(at - 1, 0) : at + 1], typed.words[at : at + 2])
        return any(len(pair) == 2 and pair[0].word + pair[1].word in self._words for pair in pairs)

    def _stands(self, word: str) -> bool:
        """Whether the search finds the word in anything, live changes among it."""
        # In a cluster one journey for both.
        found = self._snapshot.keyword.retrieve(self._snapshot.analyzer.groups(word), identifier_key(word), 1, None)
        return found.matches.total > 0 or len(found.identified) > 0

    def _is_identifier(self, text: str) -> bool:
        return len(self._snapshot.keyword.identified(identifier_key(text))) > 0
