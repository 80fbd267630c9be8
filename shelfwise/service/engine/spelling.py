"""Spelling correction of queries by the words of the catalog.

A filter over letter sets drops words whose letters differ too much; optimal string alignment compares the others (edits
and swaps of neighbours: Boytsov 2011, Indexing Methods for Approximate Dictionary Searching).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import accumulate, groupby, islice
from operator import attrgetter, itemgetter

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from shelfwise.retrieval.filters.ast import Comparison, Exists, Filter, In, format_filter
from shelfwise.retrieval.filters.conditions import AllOf, Condition
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo
from shelfwise.retrieval.index.keyword import Rows, Selection, Sort, SortKey
from shelfwise.retrieval.records import Preference
from shelfwise.retrieval.text.analysis import TermGroup, chinese_words, contains_chinese, identifier_key, word_term
from shelfwise.retrieval.text.preferences import price_bounds
from shelfwise.retrieval.text.translation import translate
from shelfwise.retrieval.text.vocabulary import (
    RAW_WORD,
    SHORTEST,
    CatalogWords,
    Numbers,
    Offsets,
    WordLookup,
    common_words,
    edits_of,
    forms,
    index_words,
    is_correctable,
    language_words,
    letter_set,
    words_of,
)
from shelfwise.service.engine.snapshot import Snapshot

SHORTEST_PART = 3
"""Minimum length of each of two words that were typed as one."""
_FREQUENT = 3
_FREQUENT_IF_SHORT = 20
_FREQUENT_IF_TWICE = 10
"""Minimum frequency of a word for searching it without asking: the rarer it is, the likelier the typed word is another
one, which the catalog lacks. Higher if the typed word has `SHORTEST` letters, or for two edits."""
_MAX_COMPARED = 2_000
_CHECKED = 20
"""Number of best keyword matches of a query among which the one with the most words is sought."""
_MAX_BEGUN, _MAX_COMPLETIONS, _MAX_OF_TEXTS = 32, 4, 0.95
"""Number of words to which a prefix is completed, number of those that are searched together, and the share of all
their texts that is enough."""
_CLEARLY = 3
"""Minimum ratio of the best word's frequency to that of an equally near one for the correction to be certain."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction, and whether it is certain enough to be searched for at once."""

    text: str
    is_sure: bool


@dataclass(frozen=True, slots=True)
class Completion:
    """A text that a query may become while it is typed."""

    text: str
    share: float
    """Share of this word in the texts with any word that the last one begins."""


@dataclass(frozen=True, slots=True)
class _Near:
    word: str
    place: int
    edits: float


class WordCorrector:
    """Corrects single words by the words of a catalog, whether or not they may be corrected."""

    def __init__(self, words: CatalogWords, is_visible: Callable[[str], bool] = lambda _: True) -> None:
        """Words that are not visible are not used for corrections or completions."""
        self._words = words
        self._is_visible = is_visible

    def correct(self, word: str, companions: Sequence[str] = ()) -> Correction | None:
        """The correction of a folded word; None if no word is near. `companions`, the query's other words, decide
        between equally near words. The correction of a dictionary word is never certain."""
        edits = edits_of(word)
        if not edits:
            return None
        near = self._near(word, edits)
        is_near = bool(near) and near[0].edits == 1
        found = None if is_near else self._two_words(word)
        found = found or (self._best(word, near, companions) if near else None)
        return replace(found, is_sure=False) if found and found.is_sure and word in language_words() else found

    def complete(self, prefix: str) -> str:
        """The most likely word that a misspelled prefix begins; empty if none is near."""
        edits = edits_of(prefix)
        if not edits:
            return ""
        words, size = self._words, len(prefix)
        inside = words.postings.prefix_positions(prefix[0])
        letters = words.letters[inside.start : inside.stop]
        missing = np.bitwise_count(np.uint32(letter_set(prefix)) & ~letters)
        long_enough = words.lengths[inside.start : inside.stop] >= size - edits
        places = inside.start + np.flatnonzero((letters != 0) & long_enough & (missing <= edits))
        begins: dict[str, int] = {}
        frequent = self._frequent(places)
        for rank, word in enumerate(frequent):
            # The length that fits best; among words with the same beginning, the most frequent one.
            for length in range(size - 1, size + 2):
                begins.setdefault(word[:length], rank)
        near = process.extract(prefix, list(begins), scorer=OSA.distance, score_cutoff=edits, limit=None)
        ranked = (frequent[rank] for _, rank in sorted((distance, begins[begin]) for begin, distance, _ in near))
        return next(filter(self._is_visible, ranked), "")

    def words_from(self, prefix: str) -> list[str]:
        """The most frequent words with a prefix."""
        inside = self._words.postings.prefix_positions(prefix)
        return list(filter(self._is_visible, self._frequent(np.arange(inside.start, inside.stop), _MAX_BEGUN)))

    def _near(self, word: str, edits: int) -> list[_Near]:
        """The nearest words within a number of edits."""
        words = self._words
        differing = np.bitwise_count(words.letters ^ np.uint32(letter_set(word)))
        apart = np.abs(words.lengths.astype(np.int16) - len(word))
        places = np.flatnonzero((words.letters != 0) & (differing <= 2 * edits) & (apart <= edits))
        texts = {int(place): words.postings[int(place)] for place in places}
        found = process.extract(word, texts, scorer=OSA.distance, score_cutoff=edits, limit=None)
        near = [_Near(text, place, distance) for text, distance, place in found if len(text) >= SHORTEST_PART]
        for _, nearest in groupby(sorted(near, key=attrgetter("edits")), attrgetter("edits")):
            if visible := [each for each in nearest if self._is_visible(each.word)]:
                return visible
        return []

    def _best(self, word: str, near: list[_Near], companions: Sequence[str]) -> Correction:
        """Among equally near words, the one that occurs with the others; then by first letter, then the more frequent
        one."""

        def rank(each: _Near) -> tuple[int, bool, int, str]:
            together = self._words.count_together([each.word, *companions]) if companions and len(near) > 1 else 0
            return -together, each.word[0] != word[0], -self._words.frequency(each.place), each.word

        ranked = sorted(((rank(each), each) for each in near), key=lambda pair: pair[0])
        (together, _, count, _), best = ranked[0]
        # The counts are negated.
        is_clear = all(
            together <= _CLEARLY * min(other[0], -1) or count <= _CLEARLY * min(other[2], -1) for other, _ in ranked[1:]
        )
        return Correction(best.word, is_clear and -count >= _least_frequent(word, best))

    def _two_words(self, word: str) -> Correction | None:
        """The two words that were typed as one, if products have both."""
        cuts = range(SHORTEST_PART, len(word) - SHORTEST_PART + 1)
        pairs = [(word[:cut], word[cut:]) for cut in cuts if word[:cut] in self._words and word[cut:] in self._words]
        pairs = [pair for pair in pairs if self._is_visible(" ".join(pair))]
        counts = ((-self._words.count_together(pair), " ".join(pair)) for pair in pairs)
        found = [each for each in counts if -each[0] >= _FREQUENT]
        return Correction(min(found)[1], is_sure=True) if found else None

    def _frequent(self, places: Offsets, most: int = _MAX_COMPARED) -> list[str]:
        """The most frequent words among those at some positions, up to a number, more frequent ones first."""
        starts = self._words.postings.starts
        counts = starts[places + 1] - starts[places]
        order = np.argsort(-counts, kind="stable")[:most]
        return [self._words.postings[place] for place in places[order].tolist()]


def _least_frequent(typed: str, correction: _Near) -> float:
    """Minimum frequency of a word for searching it without asking; infinite if two edits changed the beginning."""
    if correction.edits > 1:
        return _FREQUENT_IF_TWICE if correction.word[0] == typed[0] else math.inf
    return _FREQUENT_IF_SHORT if len(typed) <= SHORTEST else _FREQUENT


class _VisibleFields(Mapping[str, FieldInfo]):
    """The fields of a catalog that some visible products have, each looked up when it is named."""

    def __init__(self, fields: Mapping[str, FieldInfo], is_visible: Callable[[str], bool]) -> None:
        self._fields = fields
        self._is_visible = cache(is_visible)

    def __getitem__(self, name: str) -> FieldInfo:
        info = self._fields[name]
        if not self._is_visible(name):
            raise KeyError(name)
        return info

    def __iter__(self) -> Iterator[str]:
        return filter(self._is_visible, self._fields)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class VisibleCatalog:
    """The products that pass a filter; corrections, completions, suggestions and messages only use their words, values
    and fields."""

    def __init__(self, snapshot: Snapshot, where: Condition | None = None) -> None:
        self._snapshot = snapshot
        self.where = where

    def has_words(self, text: str) -> bool:
        """Whether a product matches a text, and each of its words occurs in a product; synonyms do not count."""
        if self.where is None:
            return True
        groups = tuple(TermGroup(group.alternatives) for group in self._snapshot.analyzer.groups(text))
        wanted = dict.fromkeys([*((group,) for group in groups), groups])
        return all(self._snapshot.keyword.search(each, 1, self.where).total for each in wanted)

    def count_value(self, field: str, value: str, total: int) -> int:
        """The number of products with a value of a field; `total` is that of the whole catalog."""
        return total if self.where is None else self._count(Comparison(field, "=", value), self.where)

    def preferences(self, found: Iterable[Preference]) -> Iterator[Preference]:
        """The preferences of a query, with the values that these products have; those without any are left out."""
        for each in found:
            values = tuple(value for value in each.values if self.count_value(each.field, value, 1))
            if values:
                yield replace(each, values=values, filter=format_filter(In(each.field, values)))
            elif not each.values:
                yield each

    @cached_property
    def fields(self) -> FieldCatalog:
        """The fields that these products have."""
        catalog, where = self._snapshot.catalog, self.where
        if where is None:
            return catalog
        return replace(
            catalog, fields=_VisibleFields(catalog.fields, lambda name: self._count(Exists(name), where) > 0)
        )

    def _count(self, tree: Filter, where: Condition) -> int:
        selected = Selection(where=AllOf((where, self._snapshot.catalog.compile(tree))), everything=True)
        return self._snapshot.keyword.sort(selected, Sort((SortKey("rating_count"),), limit=0)).total

    def visible_rows(self, rows: Rows) -> frozenset[int]:
        """The rows among `rows` (n,) whose products pass."""
        if self.where is not None and len(rows):
            rows = self._snapshot.keyword.select(Selection(rows=np.sort(rows), where=self.where))
        return frozenset(rows.tolist())

    def visible_ids(self, ids: Iterable[str]) -> frozenset[str]:
        """The ids among `ids` whose products pass."""
        rows = {row: each for each in ids if (row := self._snapshot.products.row_of(each)) is not None}
        return frozenset(rows[row] for row in self.visible_rows(np.array(list(rows), np.int64)))

    def best_match(self, text: str) -> tuple[int, float]:
        """The most words of a query in any of its best keyword matches, and the highest BM25; 0 without any. A price
        does not count."""
        bounds = price_bounds(text)
        text = bounds.text if bounds else text
        keyword, groups = self._snapshot.keyword, self._snapshot.analyzer.groups(text)
        words = tuple(replace(group, is_enough=True) for group in groups if not group.is_character)
        found = keyword.search(words, _CHECKED, self.where)
        if not len(found.rows):
            return 0, 0.0
        counts = np.sum([keyword.score(found.rows, (word,)).scores > 0 for word in words], axis=0)
        return int(counts.max()), float(found.scores.max())


class Corrector:
    """Corrects queries by the words of one catalog.

    A word is kept if a searched field of a product has it or a synonym of it, if it is an identifier or has a digit, if
    shoppers bought something after a query with it, or if the store never corrects it. Chinese that no product has is
    translated.
    """

    def __init__(
        self,
        visible: VisibleCatalog,
        snapshot: Snapshot,
        words: CatalogWords,
        sold: Collection[str] = (),
        protected: Collection[str] = (),
    ) -> None:
        """Corrections only use words of `visible`. `sold` are words of queries that led to purchases, `protected` those
        that the store never corrects, folded."""
        self._visible = visible
        self._snapshot = snapshot
        self._words = words
        self._corrections = WordCorrector(words, visible.has_words)
        self._sold = sold
        self._protected = protected

    def correct_query(self, text: str) -> Correction | None:
        """The correction of a query; None if it may be right."""
        typed = TypedText(text)
        if typed.is_too_long:
            return None
        found = self._replacements(typed, len(typed.words), is_offer=False)
        identified = self._snapshot.keyword.find_identifier
        if not found or (len(typed.words) > 1 and self._visible.visible_rows(identified(identifier_key(text)))):
            return None
        kept = {at: each for at, each in found.items() if not self._is_intended(typed, at, found)}
        words = {at: each.text for at, each in kept.items()}
        return Correction(typed.replaced(words), all(each.is_sure for each in kept.values())) if kept else None

    def _is_intended(self, typed: TypedText, at: int, found: Mapping[int, Correction]) -> bool:
        """Whether a word is a common one that the catalog lacks: "printer" is not a misspelled planter. It is corrected
        if other words occur in a product together with the correction: "dill bit"."""
        if typed.words[at].word not in common_words():
            return False
        corrected = typed.replaced({place: each.text for place, each in found.items()})
        words = [group for group in self._snapshot.analyzer.groups(corrected) if not group.is_character]
        return len(words) < 2 or self._visible.best_match(corrected)[0] < len(words)

    def finds_better(self, corrected: str, typed: str) -> bool:
        """Whether a product has more words of the corrected query than any has of the typed one, or a higher BM25."""
        (words, score), (fewer, lower) = map(self._visible.best_match, (corrected, typed))
        return words > fewer or score > lower

    def completions(self, text: str) -> tuple[Completion, ...]:
        """The queries that a text may become while its last word is still being typed: completed by the catalog's words
        that begin with it, most frequent first, as many as cover most of their texts, and unchanged if it is a word
        itself. Empty if the text is complete, or begins no word."""
        typed = TypedText(text)
        if typed.is_too_long or not typed.is_within_word or not is_correctable(typed.words[-1].word):
            return ()
        last = typed.words[-1].word
        companions = self._companions(typed, len(typed.words) - 1, {})
        counts: dict[str, tuple[int, str]] = {}
        for word in self._corrections.words_from(last):
            known, first = counts.get(word_term(word), (0, word))
            counts[word_term(word)] = (known + self._words.count_together([word, *companions]), first)
        ranked = sorted((pair for pair in counts.values() if pair[0]), key=itemgetter(0), reverse=True)
        total = sum(count for count, _ in ranked)
        before = accumulate((count for count, _ in ranked), initial=0)
        likely = (pair for pair, seen in zip(ranked, before, strict=False) if seen < _MAX_OF_TEXTS * total)
        kept = list(islice((pair for pair in likely if self._visible.has_words(pair[1])), _MAX_COMPLETIONS))
        own = counts.get(word_term(last), (0, last))
        if own[0] and own not in kept:
            kept.append(own)
        at = len(typed.words) - 1
        return tuple(Completion(typed.replaced({at: word}), count / total) for count, word in kept)

    def correct_prefix(self, text: str) -> Iterator[str]:
        """Corrections of a query that is still being typed, whose last word may be a prefix, likeliest first; none if
        it may be right. Words that sell are corrected, too: these are offers for a text that begins no suggestion."""
        typed = TypedText(text)
        if typed.is_too_long or not typed.words:
            return
        whole = len(typed.words) - typed.is_within_word
        words = {at: each.text for at, each in self._replacements(typed, whole, is_offer=True).items()}
        if typed.is_within_word:
            for last in self._begun(typed, words):
                yield typed.replaced({**words, whole: last})
        if words:
            yield typed.replaced(words)

    def _begun(self, typed: TypedText, words: Mapping[int, str]) -> Iterator[str]:
        """Corrections and completions of the last word, where `words` replace the others."""
        last = typed.words[-1].word
        if not self._is_unknown(last) or self._words.postings.prefix_positions(last) or self._stands(last):
            return
        correction = self._corrections.correct(last, self._companions(typed, len(typed.words) - 1, words))
        found = [self._corrections.complete(last)]
        if correction:
            found.insert(0 if correction.is_sure else 1, correction.text)
        yield from (text for text in found if text and self._visible.has_words(text))

    def is_misspelled(self, text: str) -> bool:
        """Whether a word of it is unknown and near to a word of the catalog."""
        return any(
            self._may_correct(each.word) and self._corrections.correct(each.word) is not None
            for each in TypedText(text).words
        )

    def correct_unknown(self, text: str) -> str:
        """The text with every unknown word corrected, also those of queries that led to purchases."""
        typed = TypedText(text)
        unknown = {at: each.word for at, each in enumerate(typed.words) if self._is_unknown(each.word)}
        found = {at: self._corrections.correct(word) for at, word in unknown.items()}
        return typed.replaced({at: each.text for at, each in found.items() if each}) if any(found.values()) else text

    def _replacements(self, typed: TypedText, end: int, *, is_offer: bool) -> dict[int, Correction]:
        """Corrections of the words before `end`, by their positions. In an offer this may also be another form of the
        same word, which the search finds and suggestions do not."""
        may_correct = self._is_unknown if is_offer else self._may_correct
        found: dict[int, Correction] = {}
        for at, each in enumerate(typed.words[:end]):
            if contains_chinese(each.word):
                if translation := self._translation(typed, each):
                    found[at] = translation
            elif may_correct(each.word) and not self._is_half(typed, at):
                correction = self._corrections.correct(each.word, self._companions(typed, at, {}))
                is_form = is_offer and correction is not None and word_term(correction.text) == word_term(each.word)
                # Last, since these are requests in a cluster.
                raw = typed.text[each.start : each.end]
                if correction and (is_form or not self._stands(raw)) and self._visible.has_words(correction.text):
                    found[at] = correction
        return found

    def _translation(self, typed: TypedText, run: TypedWord) -> Correction | None:
        """A run of Chinese in words of a catalog that is not Chinese, if no product has its own; except a price."""
        bounds = price_bounds(typed.text)
        first, end = bounds.span if bounds else (0, 0)
        start = min(max(run.start, end), run.end) if first <= run.start else run.start
        kept, word = typed.text[run.start : start], typed.text[start : run.end]
        before, after = typed.text[:start][-1:], typed.text[run.end :][:1]
        if not word or self._words.is_chinese or {word} & {*self._protected, *self._sold} or self._stands(word):
            return None
        text = translate(word, self._texts_with, is_after_number=before.isdigit())
        if not text or not all(map(self._visible.has_words, text.split())):
            return None
        return Correction(f"{kept}{' ' * before.isalnum()}{text}{' ' * after.isalnum()}", is_sure=True)

    def _texts_with(self, word: str) -> Numbers:
        """The texts that have any form of a word, ascending."""
        postings = self._words.postings
        places = [place for place in map(postings.position, forms(word)) if place is not None]
        return np.unique(np.concatenate([np.zeros(0, np.uint32), *map(postings.texts_with, places)]))

    def _may_correct(self, word: str) -> bool:
        return word not in self._sold and self._is_unknown(word)

    def _is_unknown(self, word: str) -> bool:
        """Whether titles, brands and categories lack a word, so that it may be misspelled."""
        return bool(edits_of(word)) and not self._is_known(word) and word not in self._protected

    def _is_known(self, word: str) -> bool:
        return word in self._words and self._visible.has_words(word)

    def _companions(self, typed: TypedText, at: int, words: Mapping[int, str]) -> list[str]:
        """The other words, some of them corrected, that the catalog has."""
        others = (words.get(place, each.word) for place, each in enumerate(typed.words) if place != at)
        return [word for word in others if self._is_known(word)]

    def _is_half(self, typed: TypedText, at: int) -> bool:
        """Whether the catalog writes a word and a neighbour as one word, which the search finds."""
        pairs = (typed.words[max(at - 1, 0) : at + 1], typed.words[at : at + 2])
        return any(len(pair) == 2 and self._is_known(pair[0].word + pair[1].word) for pair in pairs)

    def _stands(self, word: str) -> bool:
        """Whether the search finds the word in any product, including live changes."""
        # One request for both in a cluster.
        groups, where = self._snapshot.analyzer.groups(word), self._visible.where
        found = self._snapshot.keyword.retrieve(groups, identifier_key(word), 1, where)
        return found.matches.total > 0 or bool(self._visible.visible_rows(found.identifier_rows))


MAX_WORDS = 16
"""Maximum number of words, or Chinese characters, of a text that is completed or corrected."""
_MAX_ENDINGS = 4
"""Maximum number of words of another text to which an incomplete word is completed."""


@dataclass(frozen=True, slots=True)
class TypedWord:
    """A word of a text, folded, with its position; a run of Chinese is one word."""

    start: int
    end: int
    word: str


@dataclass(frozen=True)
class TypedText:
    """A text that may end within a word."""

    text: str

    @cached_property
    def words(self) -> tuple[TypedWord, ...]:
        return tuple(_words(self.text))

    @cached_property
    def is_within_word(self) -> bool:
        return bool(self.words) and self.words[-1].end == len(self.text)

    @cached_property
    def is_too_long(self) -> bool:
        return sum(len(each.word) if contains_chinese(each.word) else 1 for each in self.words) > MAX_WORDS

    @property
    def lookups(self) -> Iterator[WordLookup]:
        """The words and prefixes that a text must have."""
        last = len(self.words) - 1
        for at, each in enumerate(self.words):
            if not contains_chinese(each.word):
                yield WordLookup(each.word, is_prefix=at == last and self.is_within_word)
            elif len(each.word) == 1:
                # Whatever follows it.
                yield WordLookup(each.word, is_prefix=True)
            else:
                yield from (WordLookup(pair) for pair in index_words(each.word)[:-1])

    def replaced(self, words: Mapping[int, str]) -> str:
        """The text with other words at some positions of `words`, without lone surrogates, so that it is encodable."""
        pieces, done = [], 0
        for at in sorted(words):
            pieces += [self.text[done : self.words[at].start], words[at]]
            done = self.words[at].end
        return "".join([*pieces, self.text[done:]]).encode("utf-8", "ignore").decode()

    def completed_by(self, text: str) -> tuple[str, ...]:
        """The queries that this may become by the words of another text, several of which its last word may begin."""
        if not self.is_within_word:
            return ()
        last = self.words[-1]
        ends = dict.fromkeys(end for other in words_of(text) if (end := _completion(last, other)))
        return tuple(self.replaced({len(self.words) - 1: end}) for end in islice(ends, _MAX_ENDINGS))

    def spans_in(self, text: str, *, partly: bool = False) -> Spans | None:
        """The spans of the typed words in a text; None if one is missing, unless `partly`."""
        there = list(_words(text))
        found: set[tuple[int, int]] = set()
        last = len(self.words) - 1
        for at, each in enumerate(self.words):
            may_go_on = at == last and self.is_within_word
            wanted = forms(each.word)
            here = [span for other in there if (span := _span(each, wanted, other, may_go_on=may_go_on))]
            if not here and not partly:
                return None
            found.update(here)
        return _apart(sorted(found))


def _words(text: str) -> Iterator[TypedWord]:
    for raw in RAW_WORD.finditer(text):
        # One character can be several words: a fraction.
        yield from (TypedWord(raw.start(), raw.end(), word) for word in words_of(raw[0]))


def _span(typed: TypedWord, wanted: tuple[str, ...], other: TypedWord, *, may_go_on: bool) -> tuple[int, int] | None:
    """The part of another text's word that was typed, in one of the `wanted` forms; the whole word if folding changed
    its length."""
    at = 0
    if contains_chinese(typed.word):
        at = other.word.find(typed.word) if contains_chinese(other.word) else -1
    elif other.word not in wanted and not (may_go_on and other.word.startswith(typed.word)):
        return None
    if at < 0:
        return None
    if len(other.word) != other.end - other.start or len(other.word) < at + len(typed.word):
        return other.start, other.end
    return other.start + at, other.start + at + len(typed.word)


def _completion(typed: TypedWord, other: str) -> str:
    """The word that a typed one begins; in a run of Chinese, up to the end of a word."""
    if not contains_chinese(typed.word):
        return other if other.startswith(typed.word) else ""
    at = other.find(typed.word)
    if at < 0:
        return ""
    rest = other[at:]
    return rest[: next(end for end in accumulate(map(len, chinese_words(rest))) if end >= len(typed.word))]


def _apart(spans: list[tuple[int, int]]) -> Spans:
    """Ascending spans, merged if they overlap."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


Spans = tuple[tuple[int, int], ...]
"""Spans of the typed words in a text: start and end in characters, ascending and disjoint; pages show them bold."""
