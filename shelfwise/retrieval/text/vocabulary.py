"""The vocabulary of a catalog: words with the phrases, brands, categories and products that contain them.

indexer/version_writer.py writes it; suggestions and corrections read it. Its words are folded and not stemmed. Texts
are numbered from 0: phrases, then brands, categories and products, the best known first within each kind.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.store.files import load_array, load_json
from shelfwise.retrieval.text.analysis import HAN, contains_chinese, fold

Numbers = NDArray[np.uint32]
Offsets = NDArray[np.int64]

_AFTER_ALL = b"\xff"
"""Sorts after every word in UTF-8."""


@cache
def language_words() -> frozenset[str]:
    """The 82,834 words of `english_words.txt.zst`, and the parts of words with an apostrophe. None of them is a typing
    error, even if the catalog does not have it."""
    entries = frequent_words()
    return frozenset([*entries, *chain.from_iterable(words_of(entry) for entry in entries if "'" in entry)])


COMMON = 30_000
"""The number of most frequent words of that list that, when typed, are almost always intended."""


@cache
def common_words() -> frozenset[str]:
    """The most frequent words of that list."""
    return frozenset(frequent_words()[:COMMON])


def frequent_words() -> list[str]:
    """The words of that list, most frequent first."""
    compressed = (files("shelfwise.retrieval.text") / "english_words.txt.zst").read_bytes()
    return zstandard.decompress(compressed).decode().splitlines()


@dataclass(frozen=True, slots=True)
class WordLookup:
    """A condition on a text: a word, in the singular or the plural, or a prefix."""

    word: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class WordPostings:
    """An inverted index of texts; words are ordered by their UTF-8. May be memory-mapped; read-only."""

    words: bytes
    """All words, concatenated."""
    ends: Offsets
    """(words + 1,): word i is `words[ends[i]:ends[i + 1]]`."""
    starts: Offsets
    """(words + 1,): the texts of word i are `texts[starts[i]:starts[i + 1]]`, ascending."""
    texts: Numbers
    size: int
    """The number of texts."""

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, place: int) -> str:
        return self._bytes(place).decode()

    def position(self, word: str) -> int | None:
        """The index of a word, or None."""
        wanted = _encoded(word)
        at = bisect.bisect_left(range(len(self)), wanted, key=self._bytes)
        return at if at < len(self) and self._bytes(at) == wanted else None

    def prefix_positions(self, prefix: str) -> range:
        """The indices of all words with this prefix."""
        wanted = _encoded(prefix)
        first = bisect.bisect_left(range(len(self)), wanted, key=self._bytes)
        return range(first, bisect.bisect_left(range(len(self)), wanted + _AFTER_ALL, lo=first, key=self._bytes))

    def texts_with(self, place: int) -> Numbers:
        """The texts that contain a word."""
        return self.texts[self.starts[place] : self.starts[place + 1]]

    def matching(self, lookups: Iterable[WordLookup]) -> Offsets:
        """The texts that match all lookups, ascending; without lookups, all texts."""
        alive = np.ones(self.size, dtype=bool)
        for lookup in lookups:
            found = self._found(lookup)
            if not len(found):
                return np.empty(0, dtype=np.int64)
            here = np.zeros(self.size, dtype=bool)
            here[found] = True
            alive &= here
        return np.flatnonzero(alive)

    def _found(self, lookup: WordLookup) -> Numbers:
        found = [self.texts_with(place) for place in map(self.position, forms(lookup.word)) if place is not None]
        if lookup.is_prefix:
            places = self.prefix_positions(lookup.word)
            found.append(self.texts[self.starts[places.start] : self.starts[places.stop]])
        return np.concatenate(found) if found else self.texts[:0]

    def _bytes(self, place: int) -> bytes:
        return self.words[self.ends[place] : self.ends[place + 1]]


def postings_of(texts: Sequence[Sequence[str]]) -> WordPostings:
    """The postings of texts, each given as its words, best text first."""
    numbers = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    words = list(chain.from_iterable(texts))
    known = {word: at for at, word in enumerate(dict.fromkeys(words))}
    places = np.fromiter((known[word] for word in words), np.int64, len(words))
    return numbered_postings(list(known), places, numbers, len(texts))


def numbered_postings(
    words: Sequence[str], places: NDArray[np.integer], texts: NDArray[np.integer], size: int
) -> WordPostings:
    """The postings of pairs (p,) of a word, as an index in distinct words, and a text."""
    encoded = [_encoded(word) for word in words]
    order = sorted(range(len(words)), key=encoded.__getitem__)
    rank = np.empty(len(words), np.int64)
    rank[order] = np.arange(len(words))
    pairs = np.sort(rank[places] * max(size, 1) + texts.astype(np.int64)) if len(places) else np.empty(0, np.int64)
    # Not np.unique, whose hashing takes 70 times as long.
    pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
    lengths = [len(encoded[at]) for at in order]
    return WordPostings(
        b"".join(encoded[at] for at in order),
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        np.searchsorted(pairs, np.arange(len(words) + 1) * max(size, 1)).astype(np.int64),
        (pairs % max(size, 1)).astype(np.uint32),
        size,
    )


def _encoded(word: str) -> bytes:
    # A lone surrogate becomes bytes that no stored word contains.
    return word.encode("utf-8", "surrogatepass")


SHORTEST = 4
"""The fewest letters of a word that is corrected: shorter ones are one edit away from too many words."""
SHORTEST_TWICE = 7
"""The fewest letters of a word in which two edits are corrected; with fewer, two edits make another word."""
LONGEST_WORD = 40
"""The longest indexed word in characters."""

_LETTER = rf"(?:[^\W_{HAN}]|[\u0300-\u036f])"
RAW_WORD = re.compile(rf"[{HAN}]+|{_LETTER}+(?:['’]s(?!{_LETTER}))?")
"""The words of a text, folded or not: a run of Chinese is one word, and so is "men's"."""

_SHORTEST_PLURAL = 3
_LAST_OF_ALPHABETS = "\u0590"
"""The scripts before it, in which words are spelled letter by letter: Latin, Greek, Cyrillic and Armenian."""


def words_of(text: str) -> list[str]:
    """The folded words of a text in order, with runs of Chinese whole; "men's" is "mens", as many type it."""
    return words_of_folded(fold(text))


def words_of_folded(folded: str) -> list[str]:
    """The words of a text that `fold` returned."""
    found: list[str] = RAW_WORD.findall(folded)
    return [word.replace("'", "") for word in found] if "'" in folded else found


def forms(word: str) -> tuple[str, ...]:
    """A folded word, and its plural or singular in s."""
    if len(word) < _SHORTEST_PLURAL or not (word.isascii() and word.isalpha()):
        return (word,)
    return (word, word[:-1]) if word.endswith("s") else (word, f"{word}s")


def index_words(word: str) -> list[str]:
    """The keys of a word: the word itself, or, for a run of Chinese, each pair of neighbours and the last character, so
    that every part of it is found."""
    if not contains_chinese(word):
        return [word] if len(word) <= LONGEST_WORD else []
    return [word[at : at + 2] for at in range(len(word))]


def is_correctable(word: str) -> bool:
    """Whether a folded word can be corrected by edits: it has only letters, of an alphabet."""
    return word.isalpha() and max(word) < _LAST_OF_ALPHABETS


def edits_of(word: str) -> int:
    """The number of edits to correct in a folded word; 0 if it is never corrected, because it has a digit, is Chinese
    or is short."""
    if not SHORTEST <= len(word) <= LONGEST_WORD or not is_correctable(word):
        return 0
    return 1 if len(word) < SHORTEST_TWICE else 2


def letter_set(word: str) -> int:
    """The letters of a word as 32 bits. An edit changes at most two, so words whose sets differ in more need not be
    compared."""
    bits = 0
    for letter in word:
        code = ord(letter) - 97
        bits |= 1 << (code if 0 <= code < 26 else 26 + ord(letter) % 6)
    return bits


ENTRIES_FILE = "entries.json"
COUNTS_FILE = "counts.msgpack.zst"
"""The counts from which the entries were chosen, for the next rebuild."""
_WORDS_FILE = "words.txt"
_ARRAYS = ("ends", "starts", "texts", "rows", "letters", "lengths")
_LONGEST = 255
_FEW_CHINESE = 0.01
"""The share of Chinese words up to which a catalog is not Chinese."""


class VocabularyEntries(msgspec.Struct, frozen=True):
    """The texts of the vocabulary except products; best known first within each kind."""

    phrases: tuple[tuple[str, int], ...]
    """Phrases that shoppers might type, with their numbers of products."""
    brands: tuple[tuple[str, int], ...]
    categories: tuple[tuple[tuple[str, ...], int], ...]
    """Whole paths, with their numbers of products, including those of subcategories."""
    products: int

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """The first numbers of brands, categories and products, and the end."""
        brands = len(self.phrases)
        categories = brands + len(self.brands)
        products = categories + len(self.categories)
        return brands, categories, products, products + self.products


class CatalogWords:
    """The opened vocabulary, memory-mapped and thread-safe.

    `letters` (words,) has the letter set of each correctable word, 0 for others; `lengths` (words,) the number of
    characters; `rows` (products,) the row of each product, best known first.
    """

    def __init__(self, entries: VocabularyEntries, postings: WordPostings, arrays: dict[str, NDArray[Any]]) -> None:
        self.entries = entries
        self.postings = postings
        self.rows: Numbers = np.asarray(arrays["rows"], np.uint32)
        self.letters: Numbers = np.asarray(arrays["letters"], np.uint32)
        self.lengths: NDArray[np.uint8] = np.asarray(arrays["lengths"], np.uint8)

    @classmethod
    def open(cls, folder: Path) -> CatalogWords:
        """Opens the files of `write_words`; raises StoreDamagedError for other contents."""
        entries = load_json(folder / ENTRIES_FILE, VocabularyEntries)
        try:
            words = (folder / _WORDS_FILE).read_bytes()
        except OSError as error:
            raise StoreDamagedError(f"{folder} cannot be read ({error}); rebuild the index") from error
        arrays = {name: load_array(folder / f"{name}.npy", mapped=True) for name in _ARRAYS}
        size = entries.bounds[-1]
        ends, starts, texts = (arrays[name] for name in ("ends", "starts", "texts"))
        agrees = len(ends) == len(starts) == len(arrays["letters"]) + 1 == len(arrays["lengths"]) + 1
        if not agrees or ends[-1] != len(words) or starts[-1] != len(texts) or len(arrays["rows"]) != entries.products:
            raise StoreDamagedError(f"{folder}: its files do not match each other; rebuild the index")
        return cls(entries, WordPostings(words, ends, starts, texts, size), arrays)

    def __contains__(self, word: str) -> bool:
        return self.postings.position(word) is not None

    @cached_property
    def is_chinese(self) -> bool:
        """Whether a notable share of the words is Chinese: of a store that writes in Chinese, too."""
        words = (self.postings[place] for place in range(len(self.postings)))
        return sum(map(contains_chinese, words)) > _FEW_CHINESE * len(self.postings)

    def frequency(self, place: int) -> int:
        """The number of texts that contain a word."""
        return int(self.postings.starts[place + 1] - self.postings.starts[place])

    def count_together(self, words: Sequence[str]) -> int:
        """The number of texts with all of these words; unknown words are ignored."""
        known = [place for place in map(self.postings.position, words) if place is not None]
        if not known:
            return 0
        common = self.postings.texts_with(known[0])
        for place in known[1:]:
            common = np.intersect1d(common, self.postings.texts_with(place), assume_unique=True)
        return len(common)


def write_words(
    folder: Path, entries: VocabularyEntries, postings: WordPostings, rows: Sequence[int] | Numbers
) -> None:
    """Writes the words of a version that is being built."""
    folder.mkdir()
    words = [postings[place] for place in range(len(postings))]
    letters = [letter_set(word) if is_correctable(word) else 0 for word in words]
    arrays: dict[str, NDArray[Any]] = {
        "ends": postings.ends,
        "starts": postings.starts,
        "texts": postings.texts,
        "rows": np.asarray(rows, np.uint32),
        "letters": np.array(letters, np.uint32),
        "lengths": np.array([min(len(word), _LONGEST) for word in words], np.uint8),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / _WORDS_FILE).write_bytes(postings.words)
    (folder / ENTRIES_FILE).write_bytes(msgspec.json.encode(entries))
