"""Writes a version: records, terms, fingerprints and words of its products, in batches ordered by id."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import xxhash
import zstandard

from shelfwise.indexer.embedding_cache import Keys, key_array
from shelfwise.indexer.incremental import PreviousVersion
from shelfwise.indexer.pipeline import KeywordLineOptions, PublishableBatch, PublishableProduct
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.keyword_documents import KeywordBuilder
from shelfwise.retrieval.index.tantivy import TantivyBuilder
from shelfwise.retrieval.index.vectors import Rows, rows_now
from shelfwise.retrieval.store.manifest import (
    FIELDS_FILE,
    KEYWORD_FOLDER,
    PENDING_UPDATES_FILE,
    WORDS_FOLDER,
    VersionChanges,
    write_fields,
)
from shelfwise.retrieval.store.products import ProductWriter
from shelfwise.retrieval.store.signals import COLUMNS, SignalsWriter
from shelfwise.retrieval.text import units
from shelfwise.retrieval.text.analysis import HAN, chinese_words, contains_chinese, fold
from shelfwise.retrieval.text.vocabulary import (
    COUNTS_FILE,
    CatalogWords,
    VocabularyEntries,
    index_words,
    numbered_postings,
    words_of,
    words_of_folded,
    write_words,
)
from shelfwise.retrieval.updates.changes import PendingUpdate, write_pending_updates


class VersionWriter:
    """Fills the folder of a new version; `builder` makes the keyword index, and one in a cluster is filled later."""

    def __init__(
        self,
        folder: Path,
        previous: PreviousVersion | None,
        options: KeywordLineOptions,
        builder: type[KeywordBuilder] = TantivyBuilder,
        rows_before: Sequence[int] = (),
    ) -> None:
        """`rows_before` grows with the batches: its rows of the previous version are copied; -1 stands for a product of
        a batch."""
        self._folder = folder
        self._previous = previous
        self._rows_before = rows_before
        self._products = ProductWriter(folder)
        self._signals = SignalsWriter(folder)
        self._words = WordsWriter()
        reused = previous.keyword if previous and options.reuses_lines else None
        self._terms = builder(folder / KEYWORD_FOLDER, options.catalog, reused)
        self._digest = xxhash.xxh3_128()
        self._keys = bytearray()
        self._previous_rows = array("q")
        self._unchanged = 0

    def add(self, batch: PublishableBatch) -> None:
        products = batch.products
        starts = np.flatnonzero(np.diff([each.number for each in products], prepend=-2) != 1).tolist()
        for start, end in pairwise([*starts, len(products)]):
            self._copy(products[start].number)
            self._add_run(products[start:end])
        self._unchanged += batch.unchanged

    def _add_run(self, products: Sequence[PublishableProduct]) -> None:
        """Adds products with consecutive rows."""
        lines = [each.line for each in products]
        self._words.add(lines, len(self))
        for each in products:
            self._products.add(each.id, each.line)
            if each.terms:
                self._terms.add_line(each.number, each.terms)
            else:
                self._terms.add_as_before(each.number, each.previous_row)
            self._keys += each.key
            self._previous_rows.append(each.previous_row)
        self._signals.add(lines)
        self._digest.update(b"".join(line + b"\n" for line in lines))

    def _copy(self, end: int) -> None:
        """Copies rows of the previous version up to the row before `end`."""
        if self._previous is None or end == len(self):
            return
        products, keys, signals = self._previous.products, self._previous.text_keys, self._previous.signals
        start = len(self)
        self._unchanged = self._unchanged + end - len(self)
        rows = np.array(self._rows_before[start:end], np.int64)
        for number, row in enumerate(rows.tolist(), start):
            self._terms.add_as_before(number, row)
        bounds = np.flatnonzero(np.diff(rows, prepend=-2, append=-2) != 1)
        for first, last in zip(rows[bounds[:-1]].tolist(), rows[bounds[1:] - 1].tolist(), strict=True):
            self._digest.update(self._products.copy(products, first, last + 1))
        self._signals.copy(signals[rows])
        self._keys += keys[rows].tobytes()
        self._previous_rows.extend(rows.tolist())

    def __len__(self) -> int:
        return len(self._previous_rows)

    def finish(self, fields: FieldCatalog, updates: Iterable[PendingUpdate]) -> None:
        self._copy(len(self._rows_before) or len(self))
        self._products.finish()
        self._signals.finish()
        copied = np.array(self._rows_before, np.int64)
        if self._previous and (copied >= 0).any():
            self._words.take_over(self._previous, copied)
        self._words.finish(self._folder / WORDS_FOLDER)
        self._terms.finish()
        write_fields(fields, self._folder / FIELDS_FILE)
        write_pending_updates(self._folder / PENDING_UPDATES_FILE, updates)

    @property
    def fingerprint(self) -> str:
        """Equal for two catalogs exactly if they have the same products."""
        return self._digest.hexdigest()

    @property
    def keys(self) -> Keys:
        """The fingerprint of each row's text (n, 16)."""
        return key_array(self._keys)

    @property
    def previous_rows(self) -> Rows:
        """The row of each row's product in the previous version, or -1 (n,)."""
        return np.array(self._previous_rows, dtype=np.int64)

    @property
    def changes(self) -> VersionChanges | None:
        """The numbers of new, changed and removed products."""
        if self._previous is None:
            return None
        shared = int((self.previous_rows >= 0).sum())
        return VersionChanges(
            self._previous.manifest.version,
            added=len(self._previous_rows) - shared,
            changed=shared - self._unchanged,
            removed=len(self._previous.products) - shared,
        )


MAX_PHRASES = 50_000
MAX_COUNTED = 1_000_000
"""The most phrases that are counted at a time."""
MAX_NAMES = 200_000
"""The most brands, and the most categories, that are kept: those of the most products."""
_LONGEST_PHRASE = 3
"""The most words of a phrase."""
_UNSPACED = "\x1f"
"""Separates Chinese words while phrases are counted."""
_MIN_PRODUCTS = 3
"""The products that must share a run of words for it to be a phrase; a word, or a brand with a category, needs two."""
_PIECE_SHARE = 0.8
"""The share of a phrase's products in one longer phrase from which it is only a part of the longer one."""
_LONGEST_TITLE = 1_000
_LONGEST_NAME = 200

Name = TypeVar("Name", str, tuple[str, ...])

_BREAK = re.compile(r"[,;:|/()\[\]{}!?\"•+&]| [-.] ")
_PHRASE_WORD = re.compile(r"[^\W_]+(?>(?:['-][^\W_]+)*)")
_CHINESE_OR_NOT = re.compile(f"[{HAN}]+|[^{HAN}]+")
_NO_END_LIST = """
a an and are as at be by for from in into is it its of off on or our per the this to up use used via we with without x
you your
"""
_NO_END = frozenset(_NO_END_LIST.split())
"""Words with which no phrase begins or ends."""


class _NamedProduct(msgspec.Struct, frozen=True):
    """The fields of a product that contain words."""

    title: str
    brand: str = ""
    category: tuple[str, ...] = ()
    rating_count: int | None = None


class _Counts(msgspec.Struct, frozen=True):
    """The number of products with each name and each phrase, including rare ones: the next rebuild updates them."""

    phrases: dict[str, int]
    brands: list[tuple[str, int]]
    categories: list[tuple[tuple[str, ...], int]]
    brand_categories: list[tuple[tuple[str, str], int]]


_decoder = msgspec.json.Decoder(_NamedProduct)


class WordsWriter:
    """Counts the vocabulary, phrases, brands and categories of products, ordered by row, then writes them.

    Phrases are runs of up to three words that several titles share, and brands with their categories. Memory holds the
    numbers of each title's words, but only the newer ones of rare phrases.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._words = array("I")
        self._rows = array("I")
        """The row of each word."""
        self._rated_rows = array("q")
        self._rating_counts = array("q")
        """The number of ratings of the product at each rated row."""
        self._phrases = PhraseCounter()
        self._brands: Counter[str] = Counter()
        self._categories: Counter[tuple[str, ...]] = Counter()
        self._brand_categories: Counter[tuple[str, str]] = Counter()

    def add(self, lines: Iterable[bytes], first: int = 0) -> None:
        """Adds products in the format of `product_to_json`, at rows from `first` on."""
        for row, line in enumerate(lines, first):
            product = _decoder.decode(line)
            title, brand = fold(product.title[:_LONGEST_TITLE]), product.brand[:_LONGEST_NAME]
            words = [*words_of_folded(title), *(words_of(brand) if brand else ())]
            numbers = self._word_numbers(words)
            self._words.extend(numbers)
            self._rows.extend([row] * len(numbers))
            self._rated_rows.append(row)
            self._rating_counts.append(product.rating_count or 0)
            self._phrases.add(title)
            self._count_names(brand, product.category)

    def take_over(self, previous: PreviousVersion, rows_before: Rows) -> None:
        """Adds the products of the previous version that are in this one; `rows_before` (n,) has -1 for other rows."""
        before = CatalogWords.open(previous.folder / WORDS_FOLDER)
        now_at = rows_now(rows_before, len(previous.products))
        # First subtract what is gone, then add the remaining counts.
        gone = WordsWriter()
        gone.add(previous.products.line(row) for row in np.flatnonzero(now_at < 0).tolist())
        self._add_counts(previous.folder / WORDS_FOLDER, gone)
        first = before.entries.bounds[2]
        postings = before.postings
        words = np.repeat(np.arange(len(postings)), np.diff(postings.starts))
        is_product = postings.texts >= first
        rows = now_at[before.rows[postings.texts[is_product] - first]]
        numbers = [self._numbers.setdefault(postings[index], len(self._numbers)) for index in range(len(postings))]
        self._words.frombytes(np.array(numbers, np.uint32)[words[is_product][rows >= 0]].tobytes())
        self._rows.frombytes(rows[rows >= 0].astype(np.uint32).tobytes())
        rating_counts = np.nan_to_num(previous.signals[now_at >= 0, COLUMNS.index("rating_count")])
        self._rated_rows.frombytes(now_at[now_at >= 0].tobytes())
        self._rating_counts.frombytes(rating_counts.astype(np.int64).tobytes())

    def _add_counts(self, folder: Path, gone: WordsWriter) -> None:
        packed = zstandard.decompress((folder / COUNTS_FILE).read_bytes())
        counts = msgspec.msgpack.decode(packed, type=_Counts)
        for name, counted in zip(_Counts.__struct_fields__, msgspec.structs.astuple(counts), strict=True):
            own: Counter[Any] = getattr(self, f"_{name}") if name != "phrases" else self._phrases.counts
            own.update(dict(counted))
            own.subtract(getattr(gone, f"_{name}") if name != "phrases" else gone._phrases.counts)
            for each in [each for each, count in own.items() if count <= 0]:
                del own[each]

    def _word_numbers(self, words: Iterable[str]) -> set[int]:
        numbers: set[int] = set()
        for word in words:
            number = self._numbers.get(word)
            if number is None or not word.isascii():
                numbers.update(self._numbers.setdefault(part, len(self._numbers)) for part in index_words(word))
            else:
                numbers.add(number)
        return numbers

    def _count_names(self, brand: str, category: tuple[str, ...]) -> None:
        if brand:
            self._brands[brand] += 1
        self._categories.update(category[:depth] for depth in range(1, len(category) + 1))
        if brand and category:
            self._brand_categories[brand, category[-1]] += 1

    def finish(self, folder: Path) -> None:
        """Writes the files into a folder, which is created."""
        entries = VocabularyEntries(
            tuple(_most_common(self._all_phrases(), MAX_PHRASES)),
            tuple(_most_common(self._brands, MAX_NAMES)),
            tuple(_most_common(self._categories, MAX_NAMES)),
            len(self._rated_rows),
        )
        named = chain((text for text, _ in entries.phrases), (name for name, _ in entries.brands))
        texts = chain(named, (" ".join(path) for path, _ in entries.categories))
        numbers = [self._word_numbers(words_of(text)) for text in texts]
        # In 32 bits, like the signals.
        rating_counts = np.zeros(len(self._rated_rows), np.float32)
        rating_counts[np.array(self._rated_rows, np.int64)] = np.array(self._rating_counts)
        rows = np.argsort(-rating_counts, kind="stable")
        ranks = np.empty(len(rows), np.int64)
        ranks[rows] = np.arange(len(rows))
        named_positions = np.fromiter(chain.from_iterable(numbers), np.uint32)
        named_texts = np.repeat(np.arange(len(numbers)), [len(each) for each in numbers])
        positions = np.concatenate([named_positions, np.array(self._words, np.uint32)])
        numbered = np.concatenate([named_texts, len(numbers) + ranks[np.array(self._rows, np.int64)]])
        # Words that no longer occur in a product are left out.
        used, positions = np.unique(positions, return_inverse=True)
        words = list(self._numbers)
        postings = numbered_postings([words[at] for at in used], positions, numbered, len(numbers) + len(rows))
        write_words(folder, entries, postings, rows.astype(np.uint32))
        brands, categories = list(self._brands.items()), list(self._categories.items())
        counts = _Counts(self._phrases.counts, brands, categories, list(self._brand_categories.items()))
        packed = msgspec.msgpack.encode(counts)
        (folder / COUNTS_FILE).write_bytes(zstandard.compress(packed, 1))

    def _all_phrases(self) -> Counter[str]:
        phrases = self._phrases.common()
        for (brand, category), count in self._brand_categories.items():
            if count > 1:
                named = " ".join(words_of(f"{brand} {category}"))
                phrases[named] = max(phrases[named], count)
        return phrases


class PhraseCounter:
    """Counts phrases in bounded memory: if too many are counted, the rarest are dropped (lossy counting: Manku &
    Motwani 2002, Approximate Frequency Counts over Data Streams). The result depends only on the order of products."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, title: str) -> None:
        """Counts each phrase of a folded title once."""
        self.counts.update(_phrases(title))
        least = 1
        while len(self.counts) > MAX_COUNTED:
            self.counts = Counter({text: count for text, count in self.counts.items() if count > least})
            least += 1

    def common(self) -> Counter[str]:
        """The phrases of enough products, with their counts. Phrases that hardly occur outside of one longer phrase are
        left out: "oil rubbed bronze" is kept, "oil rubbed" is not."""
        counts = {
            text: count
            for text, count in self.counts.items()
            if count >= (_MIN_PRODUCTS if _words_of_phrase(text) > 1 else 2)
        }
        longer: Counter[str] = Counter()
        for text, count in counts.items():
            between = _UNSPACED if _UNSPACED in text else " "
            for piece in (text.partition(between)[2], text.rpartition(between)[0]):
                longer[piece] = max(longer[piece], count)
        phrases: Counter[str] = Counter()
        for text, count in counts.items():
            words = _words_of_phrase(text)
            if words == 1 or (words <= _LONGEST_PHRASE and longer[text] < _PIECE_SHARE * count):
                # Chinese may be segmented in two ways, but is counted in one.
                written = text.replace(_UNSPACED, "")
                phrases[written] = max(phrases[written], count)
        return phrases


def _words_of_phrase(phrase: str) -> int:
    return 1 + phrase.count(" ") + phrase.count(_UNSPACED)


def _phrases(title: str) -> set[str]:
    phrases: set[str] = set()
    for part in _BREAK.split(title):
        if part.isascii():
            _add_runs(phrases, _PHRASE_WORD.findall(part), " ")
            continue
        for run in _CHINESE_OR_NOT.findall(part):
            if contains_chinese(run):
                _add_runs(phrases, chinese_words(run), _UNSPACED)
            else:
                _add_runs(phrases, _PHRASE_WORD.findall(run), " ")
    return phrases


def _add_runs(phrases: set[str], words: list[str], between: str) -> None:
    """Adds the runs of a few words that begin and end with suitable words and contain no number. They may be one word
    longer than phrases, to detect which phrases are parts of longer ones."""
    can_end = list(map(_can_end, words))
    for start, word in enumerate(words):
        if not can_end[start]:
            continue
        if len(word) > 1:
            phrases.add(word)
        phrase = word
        for end in range(start + 1, min(start + _LONGEST_PHRASE + 1, len(words))):
            phrase = f"{phrase}{between}{words[end]}"
            if can_end[end]:
                phrases.add(phrase)
            elif words[end] not in _NO_END:
                break


@lru_cache(maxsize=1 << 16)
def _can_end(word: str) -> bool:
    """Whether a phrase can begin and end with a word: it has only letters, and is not just a link or a unit."""
    is_of_letters = word.isalpha() or all(part.isalpha() for part in re.split("['-]", word))
    return is_of_letters and word not in _NO_END and word not in units.WORDS and (len(word) > 1 or not word.isascii())


def _most_common(counts: Counter[Name], most: int) -> list[tuple[Name, int]]:
    """The names of the most products, in an order that does not depend on how they were counted."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:most]
