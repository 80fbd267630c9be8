"""Whether the catalog that serves has a phrase."""

from __future__ import annotations

from pathlib import Path

from retrieval.catalog_words import CatalogWords, are_current
from retrieval.errors import StoreError
from retrieval.layout import WORDS_FOLDER
from retrieval.published import Store
from retrieval.surface_words import forms, index_words, words_of


def serving_words(root: Path) -> CatalogWords | None:
    """The words of the version that serves; None where none does, or it has no words that can be read."""
    store = Store(root)
    try:
        folder = store.version_folder(store.current()) / WORDS_FOLDER
        return CatalogWords.open(folder) if are_current(folder) else None
    except StoreError:
        return None


def products_with(words: CatalogWords, phrase: str) -> int:
    """In how many texts of a catalog (titles, brands, categories) all words of a phrase stand, in the singular or the
    plural, in any order."""
    wanted = []
    for word in words_of(phrase):
        for part in index_words(word):
            there = next((form for form in forms(part) if form in words), None)
            if there is None:
                return 0
            wanted.append(there)
    return words.together(wanted)
