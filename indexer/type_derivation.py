"""The types of a catalog's products, decided over the whole catalog.

The last word of a title is not always its head ("Hair Dryer Kelda"). Of the words that may be, the one is chosen whose
products are alike: of one category where the feed has categories, else close to each other in meaning.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.index.vectors import CHUNK_ROWS, Vectors
from retrieval.records import Product
from retrieval.text.analysis import Phrase
from retrieval.text.named_values import MapProducts
from retrieval.text.product_types import MOST_WORDS, ProductTypes, head_candidates, head_phrases, noun_phrases

FEWEST = 3
"""Products that make a phrase a type, and that a head needs for a mean vector."""
_MORE_KINDS = 5
"""How many times as many kinds of titles have the head before a quantity as the one after it, where it is the head."""
_ROUNDS = 2
_MODEL_PENALTY = 1.0
"""For each word cut, times the share of its phrases that it ends: a word that ends nearly all of them ("kit") is a
head, one that stands anywhere is a model's name."""
_SEGMENT_PENALTY = 0.06
_UNKNOWN_AGREEMENT = 0.15
"""Of a head with too few products."""


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The m phrases that may name the types of all products."""

    phrases: Sequence[Phrase]
    products: NDArray[np.int64]
    """(m,) The product of each, ascending."""
    heads: NDArray[np.int64]
    """(m,) The number of its head."""
    penalties: NDArray[np.float64]
    """(m,)."""
    is_whole: NDArray[np.bool_]
    """(m,) Whether no word was cut."""
    head_count: int


def derive_types(over_products: MapProducts, vectors: Vectors) -> ProductTypes:
    """The types of products with their unit vectors (n, dimension), in the order of their rows."""
    segments: list[Sequence[Sequence[Phrase]]] = []
    leaves: list[str] = []
    # Memory holds each phrase and each name once, however many products have it.
    phrases, names = dict[Phrase, Phrase](), dict[str, str]()
    for read, categories in over_products(_read_titles):
        segments += (tuple(tuple(phrases.setdefault(each, each) for each in part) for part in title) for title in read)
        leaves += (names.setdefault(name, name) for name in categories)
    titles = _phrase_of_each(segments)
    del segments, phrases
    candidates = _candidates(titles)
    count = len(titles)
    del titles
    chosen = np.flatnonzero(candidates.is_whole)
    for _ in range(_ROUNDS):
        agreement = _agreement(candidates, chosen, leaves, vectors) - candidates.penalties
        chosen = _best(candidates.products, agreement)
    best: list[Phrase] = [()] * count
    for at in chosen.tolist():
        best[candidates.products[at]] = candidates.phrases[at]
    of_category = {leaf: head_phrases(leaf) for leaf in set(leaves)}
    return _numbered(best, [of_category[leaf][0] if of_category[leaf] else () for leaf in leaves])


def _read_titles(products: Sequence[Product]) -> tuple[list[list[list[Phrase]]], list[str]]:
    """The noun phrases of each title, and the last name of each category path."""
    titles = [noun_phrases(product.title, product.brand) for product in products]
    return titles, [product.category[-1] if product.category else "" for product in products]


def _phrase_of_each(titles: Sequence[Sequence[Sequence[Phrase]]]) -> list[list[Phrase]]:
    """One noun phrase of each segment of each title: what follows its last quantity, as in "4 ft. shop light", or what
    precedes one, as in "notebook 39 cm 8 GB Windows", where that head has by far more words before it in titles."""
    openings = {title[0][-1][-2:] for title in titles if title}
    kinds = Counter(opening[-1] for opening in openings)

    def choose(phrases: Sequence[Phrase]) -> Phrase:
        best = max(phrases, key=lambda phrase: kinds[phrase[-1]])
        least = max(FEWEST, _MORE_KINDS * kinds[phrases[0][-1]])
        return best if kinds[best[-1]] >= least else phrases[0]

    return [[choose(phrases) for phrases in title] for title in titles]


def _candidates(titles: Sequence[Sequence[Phrase]]) -> _Candidates:
    occurring, ending = Counter[str](), Counter[str]()
    for title in titles:
        for phrase in title:
            occurring.update(set(phrase))
            ending[phrase[-1]] += 1
    numbers: dict[str, int] = {}
    phrases: dict[Phrase, Phrase] = {}
    found: list[Phrase] = []
    products, heads, penalties, is_whole = array("q"), array("q"), array("d"), array("b")
    for row, title in enumerate(titles):
        for phrase, cut, segment in head_candidates(title):
            behind = title[segment][len(phrase) :]
            penalty = sum(ending[word] / occurring[word] for word in behind) * _MODEL_PENALTY
            found.append(phrases.setdefault(phrase, phrase))
            products.append(row)
            heads.append(numbers.setdefault(phrase[-1], len(numbers)))
            penalties.append(penalty + _SEGMENT_PENALTY * segment)
            is_whole.append(cut == 0)
    return _Candidates(
        found,
        np.array(products, np.int64),
        np.array(heads, np.int64),
        np.array(penalties, np.float64),
        np.array(is_whole, bool),
        len(numbers),
    )


def _agreement(
    candidates: _Candidates, chosen: NDArray[np.int64], leaves: Sequence[str], vectors: Vectors
) -> NDArray[np.float64]:
    """How alike each candidate's product is to the products whose head it was last (m,): the share of them in its
    category, or without one the cosine with their mean vector."""
    heads, products = candidates.heads[chosen], candidates.products[chosen]
    counts = np.bincount(heads, minlength=candidates.head_count)
    agreement = _cosines(candidates, heads, products, vectors)
    agreement[counts[candidates.heads] < FEWEST] = _UNKNOWN_AGREEMENT
    _, categories = np.unique(leaves, return_inverse=True)
    has_category = np.array([bool(leaf) for leaf in leaves], bool)
    together = Counter(zip(heads.tolist(), categories[products].tolist(), strict=True))
    for at in np.flatnonzero(has_category[candidates.products]).tolist():
        head = int(candidates.heads[at])
        share = together[head, int(categories[candidates.products[at]])] / max(int(counts[head]), 1)
        agreement[at] = share if counts[head] >= FEWEST else _UNKNOWN_AGREEMENT
    return agreement


def _cosines(
    candidates: _Candidates, heads: NDArray[np.int64], products: NDArray[np.int64], vectors: Vectors
) -> NDArray[np.float64]:
    """The cosine of each candidate's product with the mean of its head's products (m,), the catalog's mean taken off
    first: encoders place all texts near to each other."""
    from scipy.sparse import csr_array

    if not candidates.phrases:
        return np.empty(0)
    sample = np.sort(np.random.default_rng(0).choice(len(vectors), min(len(vectors), CHUNK_ROWS), replace=False))
    mean = np.asarray(vectors[sample], np.float32).mean(axis=0)
    members = csr_array((np.ones(len(heads), np.float32), (heads, products)), (candidates.head_count, len(vectors)))
    sums = np.zeros((candidates.head_count, vectors.shape[1]), np.float32)
    for start in range(0, len(vectors), CHUNK_ROWS):
        part = slice(start, min(start + CHUNK_ROWS, len(vectors)))
        sums += members[:, part] @ _centred(vectors[part], mean)
    sums /= np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9
    cosines = np.empty(len(candidates.phrases))
    for start in range(0, len(cosines), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        own = _centred(vectors[candidates.products[part]], mean)
        cosines[part] = np.einsum("ij,ij->i", own, sums[candidates.heads[part]])
    return cosines


def _centred(vectors: Vectors, mean: Vectors) -> Vectors:
    centred = np.asarray(vectors, np.float32) - mean
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9), np.float32)


def _best(products: NDArray[np.int64], agreement: NDArray[np.float64]) -> NDArray[np.int64]:
    """The places of the best candidate of each product, the earlier of equals."""
    order = np.lexsort((np.arange(len(products)), -agreement, products))
    return order[np.unique(products[order], return_index=True)[1]]


def _numbered(titles: Sequence[Phrase], categories: Sequence[Phrase]) -> ProductTypes:
    """Each product's type: the longest ending of its phrase that enough products share, or else its head."""
    shared = Counter(phrase[-length:] for phrase in titles for length in range(1, min(len(phrase), MOST_WORDS) + 1))
    numbers: dict[Phrase, int] = {}

    def number(phrase: Phrase) -> int:
        if not phrase:
            return -1
        lengths = [n for n in range(2, min(len(phrase), MOST_WORDS) + 1) if shared[phrase[-n:]] >= FEWEST]
        return numbers.setdefault(phrase[-max(lengths, default=1) :], len(numbers))

    by_title = np.array([number(phrase) for phrase in titles], np.int32)
    by_category = np.array([number(phrase) for phrase in categories], np.int32)
    return ProductTypes.of(list(numbers), by_title, by_category)
