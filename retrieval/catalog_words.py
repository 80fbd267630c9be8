"""The words of a catalog, as a version has them: in how many products each stands, and the phrases, brands, categories
and products that it leads to. indexer/words.py makes them; suggestions and corrections are made of them.

One numbering goes over all that a word can lead to: first the phrases, then brands, categories and products, each kind
with the best known first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import load_array
from retrieval.errors import StoreDamagedError
from retrieval.surface_words import is_spelled, letter_set
from retrieval.word_postings import Numbers, WordPostings

FORMAT = 1
"""Goes up whenever the same catalog would give other files; a rebuild then makes them anew."""
ENTRIES_FILE = "entries.json"
_WORDS_FILE = "words.txt"
_ARRAYS = ("ends", "starts", "texts", "rows", "letters", "lengths")
_LONGEST = 255


class Entries(msgspec.Struct, frozen=True):
    """What words lead to, products aside; each kind best known first."""

    format: int
    phrases: tuple[tuple[str, int], ...]
    """A phrase that a shopper might type, and in how many products it stands."""
    brands: tuple[tuple[str, int], ...]
    categories: tuple[tuple[tuple[str, ...], int], ...]
    """A whole path, and how many products are in it or below."""
    products: int

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Where the brands, the categories and the products begin in the one numbering, and where that ends."""
        brands = len(self.phrases)
        categories = brands + len(self.brands)
        products = categories + len(self.categories)
        return brands, categories, products, products + self.products


class _Format(msgspec.Struct, frozen=True):
    format: int


class CatalogWords:
    """Opened words. Arrays are mapped; reading is safe from many threads.

    `letters` (words,) has the letter set of each word that can be what a misspelling meant, 0 for others; `lengths`
    (words,) its characters; `rows` (products,) the row of each product, best known first.
    """

    def __init__(self, entries: Entries, postings: WordPostings, arrays: dict[str, NDArray[Any]]) -> None:
        self.entries = entries
        self.postings = postings
        self.rows: Numbers = np.asarray(arrays["rows"], np.uint32)
        self.letters: Numbers = np.asarray(arrays["letters"], np.uint32)
        self.lengths: NDArray[np.uint8] = np.asarray(arrays["lengths"], np.uint8)

    @classmethod
    def open(cls, folder: Path) -> CatalogWords:
        """Opens what `write_words` wrote; raises StoreDamagedError for anything else."""
        try:
            entries = msgspec.json.decode((folder / ENTRIES_FILE).read_bytes(), type=Entries)
            words = (folder / _WORDS_FILE).read_bytes()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamagedError(f"{folder} cannot be read ({error}); rebuild the index") from error
        arrays = {name: load_array(folder / f"{name}.npy", mapped=True) for name in _ARRAYS}
        size = entries.bounds[-1]
        ends, starts, texts = (arrays[name] for name in ("ends", "starts", "texts"))
        agrees = len(ends) == len(starts) == len(arrays["letters"]) + 1 == len(arrays["lengths"]) + 1
        if not agrees or ends[-1] != len(words) or starts[-1] != len(texts) or len(arrays["rows"]) != entries.products:
            raise StoreDamagedError(f"{folder}: its files do not fit each other; rebuild the index")
        return cls(entries, WordPostings(words, ends, starts, texts, size), arrays)

    def __contains__(self, word: str) -> bool:
        return self.postings.place(word) is not None

    def products_with(self, word: str) -> int:
        """In how many products a folded word stands, in title or brand."""
        place = self.postings.place(word)
        return 0 if place is None else self._products_at(place)

    def _products_at(self, place: int) -> int:
        texts = self.postings.with_word(place)
        return len(texts) - int(np.searchsorted(texts, self.entries.bounds[2]))

    def frequency(self, place: int) -> int:
        """How often the word at a place is there: the products that have it and all else that it leads to."""
        return int(self.postings.starts[place + 1] - self.postings.starts[place])

    def together(self, words: Sequence[str]) -> int:
        """How many texts have all of these words; those that are in none are passed over."""
        known = [place for place in map(self.postings.place, words) if place is not None]
        if not known:
            return 0
        common = self.postings.with_word(known[0])
        for place in known[1:]:
            common = np.intersect1d(common, self.postings.with_word(place), assume_unique=True)
        return len(common)


def write_words(folder: Path, entries: Entries, postings: WordPostings, rows: Sequence[int] | Numbers) -> None:
    """Writes the words of a version to be."""
    folder.mkdir()
    words = [postings[place] for place in range(len(postings))]
    letters = [letter_set(word) if is_spelled(word) else 0 for word in words]
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


def are_current(folder: Path) -> bool:
    """Whether a version has words, such as this program makes them."""
    try:
        return msgspec.json.decode((folder / ENTRIES_FILE).read_bytes(), type=_Format).format == FORMAT
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
