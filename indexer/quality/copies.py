"""Whether two products are one that was entered twice: compared in full, after their signatures met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from functools import lru_cache

from indexer.quality.gtins import KINDS
from indexer.quality.shingles import guard, jaccard, shingles
from retrieval.fields import fold
from retrieval.records import Product
from retrieval.textfold import identifier_key

LEAST_JACCARD = 0.9
_KINDS = (*KINDS, "mpn", "asin", "model")
_KEPT = 4_096


class Likeness(Enum):
    """How alike two products are."""

    EXACT = "exact"
    NEAR = "near"


class CopyJudge:
    """Compares rows of a catalog; the latest products stay at hand, because candidates come in the order of rows."""

    def __init__(self, product_of: Callable[[int], Product]) -> None:
        @lru_cache(maxsize=_KEPT)
        def known(row: int) -> tuple[Product, frozenset[bytes], bytes]:
            product = product_of(row)
            return product, frozenset(shingles(product)), guard(product)

        self._known = known

    def likeness(self, one: int, other: int) -> Likeness | None:
        """Exact when everything but id, SKU and dates is equal. Near when the words agree by a Jaccard similarity of
        0.9, brand and numbers of the title are the same, and no identifier or attribute says otherwise.
        """
        product, words, numbers = self._known(one)
        second, second_words, second_numbers = self._known(other)
        if numbers != second_numbers or jaccard(words, second_words) < LEAST_JACCARD:
            return None
        if _content(product) == _content(second):
            return Likeness.EXACT
        return None if _says_otherwise(product, second) else Likeness.NEAR


def _content(product: Product) -> Product:
    """A product without what differs between two entries of it."""
    identifiers = {kind: values for kind, values in product.identifiers.items() if kind != "sku"}
    return replace(product, id="", identifiers=identifiers, created=None, updated=None, expires=None)


def _says_otherwise(one: Product, other: Product) -> bool:
    for kind in _KINDS:
        values, seconds = one.identifiers.get(kind), other.identifiers.get(kind)
        if values and seconds and not set(map(identifier_key, values)) & set(map(identifier_key, seconds)):
            return True
    shared = one.attributes.keys() & other.attributes.keys()
    return any(_folded(one.attributes[name]) != _folded(other.attributes[name]) for name in shared)


def _folded(value: object) -> object:
    return fold(value) if isinstance(value, str) else value
