"""Query memory: the products that shoppers chose for a query before, as features of a ranker, looked up by hash.

Its rows are those of the derived table `query_memory`, which docs/event-report.md describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from shelfwise.retrieval.text.analysis import contains_chinese
from shelfwise.retrieval.text.vocabulary import words_of

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]


class Scope(StrEnum):
    """The lists from which a row of the memory is computed."""

    ALL = "all"
    """The lists of all queries."""
    QUERY = "query"
    """The lists of queries with the same words."""
    WORD = "word"
    """The lists of queries with a word."""


class Kind(StrEnum):
    """The kind of member of a row."""

    PRODUCT = "product"
    CATEGORY = "category"
    """The products of a category, by its whole path."""
    BRAND = "brand"
    PRICE = "price"
    """The products in one quarter of their category's prices, 0 to 3."""


KINDS = tuple(Kind)
RATIOS = ("attraction", "cart", "purchase", "evidence", "strength")
_OF_WORDS = KINDS[:2]
_SCOPED = (*(f"query_{kind}" for kind in KINDS), *(f"words_{kind}" for kind in _OF_WORDS))
_CERTAIN = tuple(name for name in _SCOPED if not name.endswith(Kind.PRODUCT))
MEMORY = (*_SCOPED, *(f"{name}_evidence" for name in _CERTAIN), "query_cart", "query_purchase")
"""The columns of features, in order: logarithms of ratios. If nothing is known, both they and the evidence are 0. The
evidence of the product itself is not among them: it shows what was displayed, and would bury new products. Carts and
purchases are those of the product for the query, or else for all queries."""
_OF_CERTAIN = [_SCOPED.index(name) for name in _CERTAIN]
_MAX_LOGARITHM = 3.0
"""The largest absolute value of a logarithm: twenty times as often, or as rarely, as expected."""


def memory_key(text: str) -> str:
    """The key of a query; queries with the same words have equal keys."""
    return " ".join(sorted(words_of(text)))


def memory_words(text: str) -> list[str]:
    """The words under which a query is remembered, without repetitions: folded and singular; for a run of Chinese, each
    pair of neighbouring characters."""
    found: list[str] = []
    for word in words_of(text):
        if contains_chinese(word):
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        else:
            found.append(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word)
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, eq=False)
class MemoryRows:
    """Rows (n,) of the memory, in any order."""

    scopes: Sequence[str]
    keys: Sequence[str]
    kinds: Sequence[str]
    members: Sequence[str]
    """The product's id, or the category, brand or price band."""
    ratios: Sequence[NDArray[np.floating]]
    """`RATIOS`, each (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Posteriors:
    """The gamma distributions of the attraction of c products for a query."""

    shape: NDArray[np.float64]
    """(c,): the shape of each gamma distribution."""
    rate: NDArray[np.float64]
    """(c,): the mean is `shape / rate`."""
    evidence: NDArray[np.float64]
    """(c,): 0 to 1, how much the clicks of all queries say about each product."""


@dataclass(frozen=True, slots=True, eq=False)
class QueryMemory:
    """The ratios of k keys and n rows, and the members of p products. Read-only; may be memory-mapped."""

    keys: Hashes
    """(k,): hashes of scopes and their keys, ascending."""
    starts: NDArray[np.int64]
    """(k + 1,): the rows of key i are `members[starts[i]:starts[i + 1]]`."""
    members: Hashes
    """(n,): hashes of kinds and their members, ascending within each key."""
    attraction: Floats
    """(n,): clicks per examined impression, relative to the query's other products."""
    cart: Floats
    """(n,): carts per click, relative to the query's other products."""
    purchase: Floats
    """(n,): purchases per click, relative to the query's other products."""
    evidence: Floats
    """(n,): 0 to 1, how much of the attraction comes from the key's own clicks."""
    strength: Floats
    """(n,): the weight of the attraction's prior, in expected clicks."""
    products: Hashes
    """(p,): hashes of the catalog's products, ascending."""
    category: Hashes
    """(p,): the hash of each product's category; 0 if it has none."""
    brand: Hashes
    price: Hashes

    @classmethod
    def of_rows(cls, rows: MemoryRows, catalog: Sequence[tuple[str, str, str]] = ()) -> Self:
        """The memory of rows, given triples of a catalog product's id, a kind, and its member of that kind."""
        hashes: dict[tuple[str, str], int] = {}
        named = zip(rows.scopes, rows.keys, strict=True)
        of_row = np.array([hashes.setdefault(each, _hash(*each)) for each in named], np.uint64)
        members = _hashes(rows.kinds, rows.members)
        order = np.lexsort((members, of_row))
        found, starts = np.unique(of_row[order], return_index=True)
        product_of = {name: _hash(Kind.PRODUCT, name) for name, _, _ in catalog}
        products = np.array(sorted(product_of.values()), np.uint64)
        place = {name: number for number, name in enumerate(products.tolist())}
        columns = {kind: np.zeros(len(products), np.uint64) for kind in KINDS[1:]}
        for name, kind, member in (each for each in catalog if each[1] != Kind.PRODUCT):
            columns[Kind(kind)][place[product_of[name]]] = _hash(kind, member)
        ends = np.append(starts, len(order)).astype(np.int64)
        attraction, cart, purchase, evidence, strength = (np.asarray(each, np.float32)[order] for each in rows.ratios)
        ratios = attraction, cart, purchase, evidence, strength
        return cls(found, ends, members[order], *ratios, products, *columns.values())

    def __len__(self) -> int:
        return len(self.members)

    def features(self, text: str, products: Hashes) -> Floats:
        """The columns `MEMORY` (c, 12) of products for a query; `products` (c,) are hashes."""
        count = len(products)
        made = np.zeros((len(MEMORY), count), np.float32)
        if not (len(self) and count):
            return made.T
        wanted = np.concatenate([products, *self._belonging(products)])
        # In the order of the columns of `_SCOPED`, concatenated, as `wanted` has their members.
        own, behind = len(KINDS) * count, len(_SCOPED) * count
        ratios, evidence = made.reshape(-1)[:behind], np.zeros(behind, np.float32)
        for scope, key, sought in ((Scope.ALL, "", products), (Scope.QUERY, memory_key(text), wanted)):
            known, at = self._rows(scope, key, sought)
            if scope is Scope.QUERY:
                ratios[known], evidence[known] = _logarithm(self.attraction[at]), self.evidence[at]
                known, at = known[known < count], at[known < count]
            made[-2, known], made[-1, known] = _logarithm(self.cart[at]), _logarithm(self.purchase[at])
        sought, weight = wanted[: behind - own], np.zeros(behind - own, np.float32)
        for word in memory_words(text):
            known, at = self._rows(Scope.WORD, word, sought)
            certain = self.evidence[at]
            ratios[own + known] += certain * _logarithm(self.attraction[at])
            weight[known] += certain
            evidence[own + known] = np.maximum(evidence[own + known], certain)
        ratios[own:] /= np.maximum(weight, 1e-9)
        made[len(_SCOPED) : -2] = evidence.reshape(-1, count)[_OF_CERTAIN]
        return made.T

    def posteriors(self, text: str, products: Hashes) -> Posteriors:
        """The distributions of the attraction of products (c,) for a query."""
        count = len(products)
        everywhere, at = self._rows(Scope.ALL, "", products)
        evidence, mean = np.zeros(count), np.ones(count)
        evidence[everywhere], mean[everywhere] = self.evidence[at], self.attraction[at]
        known, own = self._rows(Scope.QUERY, memory_key(text), products)
        prior = next((float(self.strength[rows[0]]) for rows in (own, at) if len(rows)), 1.0)
        rate = np.full(count, prior)
        rate[known], mean[known] = self.strength[own] / (1 - self.evidence[own]).clip(1e-6), self.attraction[own]
        return Posteriors((rate * mean).clip(1e-3), rate, evidence)

    def chosen(self, text: str, products: Hashes) -> NDArray[np.bool_]:
        """(c,): whether shoppers with this query chose the product more often than its other products, by the query's
        own clicks."""
        found, mean = np.zeros(len(products), np.bool_), np.ones(len(products))
        everywhere, at = self._rows(Scope.ALL, "", products)
        mean[everywhere] = self.attraction[at]
        known, at = self._rows(Scope.QUERY, memory_key(text), products)
        # The attraction is the mean of the query's own ratio and the prior, weighted by the evidence.
        own = self.evidence[at]
        found[known] = self.attraction[at] - (1 - own) * mean[known] > own
        return found

    def share_in_catalog(self) -> float:
        """The share of products shown to shoppers that were in the catalog when the memory was made; 1 for an empty
        memory."""
        seen = self.members[self._place(Scope.ALL, "")]
        return float(np.isin(seen, self.products).mean()) if len(seen) else 1.0

    def share_known(self, products: Hashes) -> float:
        """The share of these products (c,) that were in the catalog when the memory was made; 1 for an empty memory."""
        return float(np.isin(products, self.products).mean()) if len(self) and len(products) else 1.0

    def _belonging(self, products: Hashes) -> list[Hashes]:
        """The category, brand and price band of products, (c,) each; 0 for products that are not in the catalog."""
        columns = self.category, self.brand, self.price
        at = np.searchsorted(self.products, products)
        known = np.flatnonzero(at < len(self.products))
        known = known[self.products[at[known]] == products[known]]
        found = [np.zeros(len(products), np.uint64) for _ in columns]
        for members, column in zip(found, columns, strict=True):
            members[known] = column[at[known]]
        return found

    def _rows(self, scope: Scope, key: str, wanted: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The members (m,) that a key has, as indices, and their rows."""
        place = self._place(scope, key)
        held = self.members[place]
        if not len(held):
            return _NONE, _NONE
        at = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
        known = np.flatnonzero(held[at] == wanted)
        return known, at[known] + place.start

    def _place(self, scope: Scope, key: str) -> slice:
        """The rows of a key; an empty slice if it has none."""
        name = np.uint64(_hash(scope, key))
        at = int(np.searchsorted(self.keys, name))
        is_known = at < len(self.keys) and self.keys[at] == name
        return slice(int(self.starts[at]), int(self.starts[at + 1])) if is_known else slice(0, 0)

    def problem(self) -> str:
        """The reason why the arrays are invalid, or ""."""
        if len(self.starts) != len(self.keys) + 1 or self.starts[0] != 0 or self.starts[-1] != len(self.members):
            return "has bounds that do not match its rows"
        if (np.diff(self.starts) < 1).any() or (self.keys[1:] <= self.keys[:-1]).any():
            return "has keys that are not in order"
        columns = (self.attraction, self.cart, self.purchase, self.evidence, self.strength)
        if any(len(each) != len(self.members) for each in columns):
            return "has different numbers of members and ratios"
        if any(len(each) != len(self.products) for each in (self.category, self.brand, self.price)):
            return "has different numbers of products, categories, brands and prices"
        is_right = all(bool(((each >= 0) & np.isfinite(each)).all()) for each in columns)
        return "" if is_right else "has ratios that are negative or not finite"


_NONE = np.empty(0, np.int64)


def product_hashes(ids: Sequence[str]) -> Hashes:
    """The hashes (c,) by which products are looked up."""
    return _hashes([Kind.PRODUCT] * len(ids), ids)


def _hashes(kinds: Sequence[str], members: Sequence[str]) -> Hashes:
    return np.array([_hash(*each) for each in zip(kinds, members, strict=True)], np.uint64)


def _hash(kind: str, name: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{kind} {name}".encode("utf-8", "surrogatepass"))


def _logarithm(ratios: Floats) -> Floats:
    least = np.exp(-_MAX_LOGARITHM)
    return np.asarray(np.log(ratios.clip(least, 1 / least)), np.float32)


NO_MEMORY = QueryMemory.of_rows(MemoryRows((), (), (), (), [np.empty(0)] * len(RATIOS)))
"""The memory of a store without events, or one that may not be used."""
