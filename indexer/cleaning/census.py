"""How a catalog spells its brands and category levels: counted in parts, added up, settled on the commonest spelling.

Memory is bounded by sampling, not by arrival: when there are too many spellings, those stay whose key has a hash with
ever more leading zeros (adaptive sampling: Flajolet 1990, On Adaptive Sampling). So the spellings that are counted
depend on the catalog alone, never on the order of its products or on how it was split, and those of one key stay
together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from xxhash import xxh3_64_intdigest

from indexer.cleaning.settler import Settler
from indexer.cleaning.spellings import brand_key, level_key
from retrieval.records import Product

MOST_SPELLINGS = 200_000
_HASH_BITS = 64


class SpellingCounter:
    """The spellings of one kind of value with the number of products that have each; mergeable and bounded."""

    def __init__(self, key: Callable[[str], str], most: int = MOST_SPELLINGS) -> None:
        self._key = key
        self._most = most
        self._counts: dict[str, int] = {}
        self.depth = 0
        """How many leading zero bits the hash of a key needs to be counted; 0 counts all."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Each spelling that is counted to its number of products."""
        return MappingProxyType(self._counts)

    def add(self, spelling: str, products: int = 1) -> None:
        """Counts a spelling in so many more products."""
        if spelling in self._counts:
            self._counts[spelling] += products
        elif self._is_counted(spelling):
            self._counts[spelling] = products
            if len(self._counts) > self._most:
                self._thin()

    def merge(self, other: SpellingCounter) -> None:
        """Adds what another one counted."""
        if other.depth > self.depth:
            self.depth = other.depth
            self._drop_uncounted()
        for spelling, products in other._counts.items():
            self.add(spelling, products)

    def variants(self) -> dict[str, str]:
        """Each spelling that is not the commonest of its key to the one that is; of equally common ones the first."""
        groups: dict[str, list[str]] = {}
        for spelling in self._counts:
            groups.setdefault(self._key(spelling), []).append(spelling)
        found: dict[str, str] = {}
        for spellings in groups.values():
            if len(spellings) > 1:
                winner = min(spellings, key=lambda spelling: (-self._counts[spelling], spelling))
                found.update((spelling, winner) for spelling in spellings if spelling != winner)
        return dict(sorted(found.items()))

    def _is_counted(self, spelling: str) -> bool:
        return not self.depth or depth_of(self._key(spelling)) >= self.depth

    def _thin(self) -> None:
        while len(self._counts) > self._most and self.depth < _HASH_BITS:
            self.depth += 1
            self._drop_uncounted()

    def _drop_uncounted(self) -> None:
        self._counts = {spelling: count for spelling, count in self._counts.items() if self._is_counted(spelling)}


def depth_of(key: str) -> int:
    """The number of leading zero bits in a key's hash."""
    return _HASH_BITS - xxh3_64_intdigest(key.encode("utf-8", "surrogatepass")).bit_length()


class Census:
    """What settling needs to know of a whole catalog: the spellings of brands and of category levels."""

    def __init__(self, most: int = MOST_SPELLINGS) -> None:
        self.brands = SpellingCounter(brand_key, most)
        self.levels = SpellingCounter(level_key, most)

    def add(self, product: Product) -> None:
        """Takes one more cleaned product into account."""
        if product.brand:
            self.brands.add(product.brand)
        for level in product.category:
            self.levels.add(level)

    def merge(self, other: Census) -> None:
        """Takes what another one counted into account."""
        self.brands.merge(other.brands)
        self.levels.merge(other.levels)

    def settler(self) -> Settler:
        """What writes each brand and category level in its commonest spelling."""
        return Settler(self.brands.variants(), self.levels.variants(), self.brands.depth, self.levels.depth)
