"""Spellings of brands and category levels: counted in parts, merged, and normalised to the most frequent spelling.

Memory is bounded by sampling, not by arrival: if there are too many spellings, those are kept whose key has a hash with
more and more leading zeros (adaptive sampling: Flajolet 1990, On Adaptive Sampling). So the counted spellings depend
only on the catalog, not on the order of its products or on how it was split, and the spellings of one key stay
together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
from xxhash import xxh3_64_intdigest

from shelfwise.indexer.cleaning.cleaner import CleaningResult, drop_repeats
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import fold

MAX_SPELLINGS = 200_000
_HASH_BITS = 64


class SpellingCounter:
    """The spellings of one kind of value with the number of products that have each; mergeable and bounded."""

    def __init__(self, key: Callable[[str], str], most: int = MAX_SPELLINGS) -> None:
        self._key = key
        self._most = most
        self.counts: dict[str, int] = {}
        """The number of products of each counted spelling."""
        self.depth = 0
        """The number of leading zero bits that the hash of a counted key needs; 0 counts all."""

    def add(self, spelling: str, products: int = 1) -> None:
        if spelling in self.counts:
            self.counts[spelling] += products
        elif self._is_counted(spelling):
            self.counts[spelling] = products
            while len(self.counts) > self._most and self.depth < _HASH_BITS:
                self.depth += 1
                self._drop_uncounted()

    def merge(self, other: SpellingCounter) -> None:
        if other.depth > self.depth:
            self.depth = other.depth
            self._drop_uncounted()
        for spelling, products in other.counts.items():
            self.add(spelling, products)

    def variants(self) -> dict[str, str]:
        """Maps each spelling that is not the most frequent of its key to the one that is; of equal ones, the first."""
        groups: dict[str, list[str]] = {}
        for spelling in self.counts:
            groups.setdefault(self._key(spelling), []).append(spelling)
        winners: dict[str, str] = {}
        for spellings in groups.values():
            if len(spellings) > 1:
                winner = min(spellings, key=lambda spelling: (-self.counts[spelling], spelling))
                winners.update((spelling, winner) for spelling in spellings if spelling != winner)
        return dict(sorted(winners.items()))

    def _is_counted(self, spelling: str) -> bool:
        return not self.depth or depth_of(self._key(spelling)) >= self.depth

    def _drop_uncounted(self) -> None:
        self.counts = {spelling: count for spelling, count in self.counts.items() if self._is_counted(spelling)}


def depth_of(key: str) -> int:
    """The number of leading zero bits in a key's hash."""
    return _HASH_BITS - xxh3_64_intdigest(key.encode("utf-8", "surrogatepass")).bit_length()


class SpellingCensus:
    """The spellings of brands and of category levels of a whole catalog."""

    def __init__(self, most: int = MAX_SPELLINGS) -> None:
        self.brands = SpellingCounter(brand_key, most)
        self.levels = SpellingCounter(level_key, most)

    def add(self, product: Product) -> None:
        if product.brand:
            self.brands.add(product.brand)
        for level in product.category:
            self.levels.add(level)

    def merge(self, other: SpellingCensus) -> None:
        self.brands.merge(other.brands)
        self.levels.merge(other.levels)

    def normalizer(self) -> SpellingNormalizer:
        """The normaliser that writes each brand and level in its most frequent spelling."""
        return SpellingNormalizer(self.brands.variants(), self.levels.variants())


class SpellingNormalizer(msgspec.Struct, frozen=True):
    """Spellings that change, each with its replacement.

    Normalising twice changes nothing more; a product that needs no change is returned as the same object.
    """

    brands: dict[str, str]
    """Maps other spellings of a brand to the most frequent one."""
    levels: dict[str, str]
    """Maps other spellings of a category level to the most frequent one."""

    def normalize(self, product: Product) -> Product:
        """The product in the catalog's spelling."""
        brand = self.brands.get(product.brand, product.brand)
        category = product.category
        if self.levels and not self.levels.keys().isdisjoint(category):
            category = drop_repeats(tuple(self.levels.get(level, level) for level in category))
        if brand is product.brand and category is product.category:
            return product
        return replace(product, brand=brand, category=category)

    def normalize_all(self, products: Sequence[Product]) -> CleaningResult:
        """The products in the catalog's spelling, and the numbers of brands and categories that were changed."""
        settled = [self.normalize(product) for product in products]
        changed = [(before, after) for before, after in zip(products, settled, strict=True) if before is not after]
        counts = Counter(
            {
                "brand-spelling": sum(before.brand != after.brand for before, after in changed),
                "category-spelling": sum(before.category != after.category for before, after in changed),
            }
        )
        return CleaningResult(settled, dict(sorted((+counts).items())))


_LEGAL_FORMS = (
    "gmbh|mbh|ag|kg|kgaa|ohg|ug|ev|inc|incorporated|ltd|limited|llc|llp|plc|co|corp|corporation|company|sa|sas|sarl|srl"
    "|spa|sl|slu|bv|nv|ab|oy|oyj|as|aps|pty|pte|kk|sp zoo|sp z oo|zoo|sro|sdn bhd|lda|ltda|eood|ood|doo"
)
_LEGAL = re.compile(rf"(?<=\S)(?: and)? (?:{_LEGAL_FORMS})(?: and)?$")
_CHINESE_LEGAL = re.compile("(?<=.)(?:股份有限公司|有限责任公司|有限公司|公司|株式会社)$|^株式会社(?=.)")
_AND = re.compile(r"\s*[&+]\s*")
_JOINED = re.compile(r"[.'’]|(?<=\ba)/(?=s\b)")
_APART = re.compile(r"[\s,_\-/:;!()\[\]\"]+")


def brand_key(brand: str) -> str:
    """A brand without case, accents, punctuation, blanks and legal forms: "Bosch GmbH" and "BOSCH" are "bosch".

    "&" and "+" become "and", other signs stay ("C#"). A brand of only punctuation or legal form is its own key.
    """
    words = _words(brand)
    while (shorter := _LEGAL.sub("", words)) != words:
        words = shorter
    joined = words.replace(" ", "")
    return _CHINESE_LEGAL.sub("", joined) or joined or brand


def level_key(level: str) -> str:
    """A category level without case, accents, punctuation and blanks: "Power Tools" and "power-tools" are one."""
    return _words(level).replace(" ", "") or level


def _words(text: str) -> str:
    return _APART.sub(" ", _JOINED.sub("", _AND.sub(" and ", fold(text)))).strip()
