"""The types of a catalog's products, decided over the whole catalog.

The last word of a title is not always its head ("Hair Dryer Kelda"). Of the words that may be the head, the one is
chosen whose products are most alike: of one category if the feed has categories, else close to each other in meaning.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from shelfwise.retrieval.index.vectors import CHUNK_ROWS, Rows, Vectors, rows_now
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.text.analysis import Phrase
from shelfwise.retrieval.text.named_values import MapProducts
from shelfwise.retrieval.text.product_types import MAX_WORDS, ProductTypes, head_candidates, head_phrases, noun_phrases

FEWEST = 3
"""The number of products that make a phrase a type, and that a head needs for a mean vector."""
_MORE_KINDS = 5
"""A head before a quantity with this many times as many kinds of titles as the one after it is the head."""
_ROUNDS = 2
_MODEL_PENALTY = 1.0
"""The penalty of each word that is cut, times the share of its phrases that it ends. A word that ends nearly all of its
phrases ("kit") is a head; one that occurs anywhere is a model's name."""
_SEGMENT_PENALTY = 0.06
_UNKNOWN_AGREEMENT = 0.15
"""The agreement of a head with too few products."""


_TITLES_FILE, _LEAVES_FILE, _NAMES_FILE = "titles.npy", "leaves.npy", "titles.msgpack.zst"
_TITLE = np.dtype([("row", "<u4"), ("segment", "u1"), ("phrase", "<u4")])
Numbers = NDArray[np.int64]


class _Names(msgspec.Struct, frozen=True):
    phrases: list[tuple[str, ...]]
    leaves: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class TitlePhrases:
    """The noun phrases of the titles of n products. The next rebuild reads only the titles that changed."""

    names: _Names
    """The distinct phrases and last names of category paths."""
    table: NDArray[np.void]
    """The phrases of each segment of each title, in order."""
    leaves: NDArray[np.uint32]
    """(n,): the category of each product."""

    @classmethod
    def load(cls, folder: Path) -> TitlePhrases:
        """Loads the phrases that `save` wrote."""
        names = msgspec.msgpack.decode(zstandard.decompress((folder / _NAMES_FILE).read_bytes()), type=_Names)
        return cls(names, load_array(folder / _TITLES_FILE), load_array(folder / _LEAVES_FILE))

    def save(self, folder: Path) -> None:
        """Writes the phrases into the folder of a version's types."""
        (folder / _NAMES_FILE).write_bytes(zstandard.compress(msgspec.msgpack.encode(self.names), 1))
        np.save(folder / _TITLES_FILE, self.table)
        np.save(folder / _LEAVES_FILE, self.leaves)


class TitleReader:
    """Collects the noun phrases of titles; memory holds each distinct phrase and name once."""

    def __init__(self, before: TitlePhrases | None = None, rows_before: Rows | None = None) -> None:
        """`rows_before` (n,) has the row of each product in the previous version, or -1 for products that are read."""
        self._phrases: dict[Phrase, int] = {}
        self._leaves: dict[str, int] = {}
        self._table, self._read_rows, self._read_leaves = array("L"), array("L"), array("L")
        self._parts: list[NDArray[np.void]] = []
        self._old_rows = np.empty((2, 0), np.int64)
        if before is None or rows_before is None:
            return
        now_at = rows_now(rows_before, len(before.leaves))
        rows = np.flatnonzero(rows_before >= 0)
        table = before.table[now_at[before.table["row"]] >= 0]
        table["row"] = now_at[table["row"]]
        used, table["phrase"] = np.unique(table["phrase"], return_inverse=True)
        self._phrases = {before.names.phrases[at]: number for number, at in enumerate(used.tolist())}
        self._parts = [table]
        used, leaves = np.unique(before.leaves[rows_before[rows]], return_inverse=True)
        self._leaves = {before.names.leaves[at]: number for number, at in enumerate(used.tolist())}
        self._old_rows = np.array([rows, leaves])

    def add(self, rows: Sequence[int], titles: Sequence[Sequence[Sequence[Phrase]]], leaves: Sequence[str]) -> None:
        """Adds products at some rows, with the phrases of their titles and their categories."""
        for row, title, leaf in zip(rows, titles, leaves, strict=True):
            self._read_rows.append(row)
            self._read_leaves.append(self._leaves.setdefault(leaf, len(self._leaves)))
            for segment, phrases in enumerate(title):
                for phrase in phrases:
                    self._table.extend((row, segment, self._phrases.setdefault(phrase, len(self._phrases))))

    def finish(self) -> TitlePhrases:
        """The phrases of all products, ordered by row."""
        read = np.array(self._table, np.int64).reshape(-1, 3)
        table = np.empty(len(read), _TITLE)
        table["row"], table["segment"], table["phrase"] = read.T
        table = np.concatenate([*self._parts, table])
        table = table[np.argsort(table["row"], kind="stable")]
        rows = np.concatenate([self._old_rows[0], np.array(self._read_rows, np.int64)])
        leaves = np.empty(len(rows), np.uint32)
        leaves[rows] = np.concatenate([self._old_rows[1], np.array(self._read_leaves, np.int64)])
        return TitlePhrases(_Names(list(self._phrases), list(self._leaves)), table, leaves)


def read_titles(over_products: MapProducts, rows: Iterable[int], reader: TitleReader) -> TitlePhrases:
    """The phrases of all titles: `over_products` iterates over those at `rows`, and `reader` has the others."""
    remaining = iter(rows)
    for titles, leaves in over_products(_read_titles):
        reader.add([next(remaining) for _ in titles], titles, leaves)
    return reader.finish()


def _read_titles(products: Sequence[Product]) -> tuple[list[list[list[Phrase]]], list[str]]:
    """The noun phrases of each title, and the last name of each category path."""
    titles = [noun_phrases(product.title, product.brand) for product in products]
    return titles, [product.category[-1] if product.category else "" for product in products]


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The m phrases that may name the types of all products."""

    names: Sequence[Phrase]
    phrases: Numbers
    """(m,): the number of each phrase among the names."""
    products: Numbers
    """(m,): the product of each phrase, ascending."""
    heads: Numbers
    """(m,): the number of its head."""
    penalties: NDArray[np.float64]
    """(m,): the penalties of its cut words."""
    is_whole: NDArray[np.bool_]
    """(m,): whether no word was cut."""
    head_count: int


def derive_types(titles: TitlePhrases, vectors: Vectors) -> ProductTypes:
    """The types of products with unit vectors (n, dimension), ordered by row."""
    candidates = _candidates(titles.names.phrases, _phrase_of_each(titles))
    chosen = np.flatnonzero(candidates.is_whole)
    for _ in range(_ROUNDS):
        agreement = _agreement(candidates, chosen, titles, vectors) - candidates.penalties
        # The best candidate of each product; of equal ones, the first.
        order = np.lexsort((np.arange(len(agreement)), -agreement, candidates.products))
        chosen = order[np.unique(candidates.products[order], return_index=True)[1]]
    best = np.full(len(titles.leaves), -1, np.int64)
    best[candidates.products[chosen]] = candidates.phrases[chosen]
    return _numbered(candidates.names, best, titles)


def _phrase_of_each(titles: TitlePhrases) -> NDArray[np.void]:
    """One noun phrase for each segment of each title: the part after its last quantity, as in "4 ft. shop light", or
    the part before one, as in "notebook 39 cm 8 GB Windows", if that head has far more kinds of titles."""
    table, phrases = titles.table, titles.names.phrases
    segments = table["row"].astype(np.int64) * 256 + table["segment"]
    starts = np.flatnonzero(np.diff(segments, prepend=-1))
    lasts = np.r_[starts[1:], len(table)][: len(starts)] - 1
    opening = lasts[table["segment"][lasts] == 0]
    openings = {phrases[at][-2:] for at in np.unique(table["phrase"][opening], return_counts=True)[0].tolist()}
    by_head = Counter(each[-1] for each in openings)
    kinds = np.array([by_head[phrase[-1]] for phrase in phrases], np.int64)[table["phrase"]]
    most = np.maximum.reduceat(kinds, starts) if len(starts) else kinds
    sizes = np.diff(np.r_[starts, len(table)])
    # The first of those with most kinds; the part after the last quantity, unless it has far fewer.
    at_most = np.flatnonzero(kinds == np.repeat(most, sizes))
    best = at_most[np.searchsorted(at_most, starts)]
    is_other = most >= np.maximum(FEWEST, _MORE_KINDS * kinds[starts])
    return table[np.where(is_other, best, starts)]


def _candidates(phrases: Sequence[Phrase], chosen: NDArray[np.void]) -> _Candidates:
    of = chosen["phrase"]
    counts = np.bincount(chosen["phrase"], minlength=len(phrases)).tolist()
    occurring, ending = Counter[str](), Counter[str]()
    for phrase, count in zip(phrases, counts, strict=True):
        occurring.update(dict.fromkeys(phrase, count))
        ending[phrase[-1]] += count
    names = {phrase: number for number, phrase in enumerate(phrases)}
    heads: dict[str, int] = {}
    # The candidates are computed once per phrase, however many titles have it.
    entries = list[tuple[int, int, float, bool]]()
    starts = array("q", (0,))
    for phrase, count in zip(phrases, counts, strict=True):
        for candidate, cut, _ in head_candidates([phrase]) if count else ():
            behind = phrase[len(candidate) :]
            penalty = sum(ending[word] / occurring[word] for word in behind) * _MODEL_PENALTY
            number, head = names.setdefault(candidate, len(names)), heads.setdefault(candidate[-1], len(heads))
            entries.append((number, head, penalty, cut == 0))
        starts.append(len(entries))
    first = np.array(starts)
    sizes = (first[1:] - first[:-1])[of]
    positions = np.repeat(first[of] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    number, head, penalty, is_whole = np.array(entries, np.float64).reshape(-1, 4)[positions].T
    return _Candidates(
        list(names),
        number.astype(np.int64),
        np.repeat(chosen["row"], sizes).astype(np.int64),
        head.astype(np.int64),
        penalty + _SEGMENT_PENALTY * np.repeat(chosen["segment"], sizes),
        is_whole.astype(bool),
        len(heads),
    )


def _agreement(candidates: _Candidates, chosen: Numbers, titles: TitlePhrases, vectors: Vectors) -> NDArray[np.float64]:
    """Similarity (m,) of each candidate's product to the products that chose its head last: the share of them in its
    category, or, without categories, the cosine with their mean vector."""
    heads, products = candidates.heads[chosen], candidates.products[chosen]
    counts = np.bincount(heads, minlength=candidates.head_count)
    categories = titles.leaves.astype(np.int64)
    kinds = max(len(titles.names.leaves), 1)
    together, members = np.unique(heads * kinds + categories[products], return_counts=True)
    wanted = candidates.heads * kinds + categories[candidates.products]
    at = np.searchsorted(together, wanted).clip(max=max(len(together) - 1, 0))
    share = np.where(together[at] == wanted, members[at], 0) / np.maximum(counts[candidates.heads], 1)
    nameless = titles.names.leaves.index("") if "" in titles.names.leaves else -1
    alone = np.flatnonzero(categories[candidates.products] == nameless)
    share[alone] = _cosines(candidates, alone, heads, products, vectors)
    share[counts[candidates.heads] < FEWEST] = _UNKNOWN_AGREEMENT
    return np.asarray(share, np.float64)


def _cosines(
    candidates: _Candidates, wanted: Numbers, heads: Numbers, products: Numbers, vectors: Vectors
) -> NDArray[np.float64]:
    """The cosine of each wanted candidate's product with the mean of its head's products (w,), after subtracting the
    catalog's mean, since encoders place all texts close together."""
    from scipy.sparse import csr_array

    if not len(wanted):
        return np.empty(0)
    sample = np.sort(np.random.default_rng(0).choice(len(vectors), min(len(vectors), CHUNK_ROWS), replace=False))
    mean = np.asarray(vectors[sample], np.float32).mean(axis=0)
    members = csr_array((np.ones(len(heads), np.float32), (heads, products)), (candidates.head_count, len(vectors)))
    sums = np.zeros((candidates.head_count, vectors.shape[1]), np.float32)
    for start in range(0, len(vectors), CHUNK_ROWS):
        part = slice(start, min(start + CHUNK_ROWS, len(vectors)))
        sums += members[:, part] @ _centred(vectors[part], mean)
    sums /= np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9
    cosines = np.empty(len(wanted))
    for start in range(0, len(cosines), CHUNK_ROWS):
        some = wanted[start : start + CHUNK_ROWS]
        own = _centred(vectors[candidates.products[some]], mean)
        cosines[start : start + CHUNK_ROWS] = np.einsum("ij,ij->i", own, sums[candidates.heads[some]])
    return cosines


def _centred(vectors: Vectors, mean: Vectors) -> Vectors:
    centred = np.asarray(vectors, np.float32) - mean
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9), np.float32)


def _numbered(names: Sequence[Phrase], titles: Numbers, read: TitlePhrases) -> ProductTypes:
    """Each product's type: the longest ending of its phrase that enough products share, or else its head. `titles` (n,)
    are the numbers of the titles' phrases, -1 for none."""
    used, by_title = np.unique(titles, return_inverse=True)
    counts = np.bincount(by_title, minlength=len(used)).tolist()
    phrases = [names[at] if at >= 0 else () for at in used.tolist()]
    shared = Counter[Phrase]()
    for phrase, count in zip(phrases, counts, strict=True):
        for length in range(1, min(len(phrase), MAX_WORDS) + 1):
            shared[phrase[-length:]] += count
    leaf_phrases = [next(iter(head_phrases(leaf)), ()) for leaf in read.names.leaves]

    def ending(phrase: Phrase) -> Phrase:
        lengths = [n for n in range(2, min(len(phrase), MAX_WORDS) + 1) if shared[phrase[-n:]] >= FEWEST]
        return phrase[-max(lengths, default=1) :]

    # Types are numbered in the order of rows, those of titles first.
    numbers: dict[Phrase, int] = {}
    columns = []
    for own, of in ((phrases, by_title), (leaf_phrases, read.leaves)):
        present, first = np.unique(of, return_index=True)
        types = np.full(len(own), -1, np.int32)
        for at in present[np.argsort(first)].tolist():
            if own[at]:
                types[at] = numbers.setdefault(ending(own[at]), len(numbers))
        columns.append(types[of])
    return ProductTypes.of(list(numbers), *columns)
