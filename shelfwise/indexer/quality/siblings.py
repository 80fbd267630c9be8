"""Product groups: variants and near copies of one product, found over the whole catalog.

Variants share the words of their titles except those for a size, a colour, a capacity or a count: "Torvane Hose, 50 ft,
Red" and "Torvane Hose, 25 ft, Green". Groups that a feed names itself (Google's `item_group_id`) are used as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text import units
from shelfwise.retrieval.text.analysis import HAN, fold

GROUP_ATTRIBUTE = "item_group_id"
FEWEST_WORDS = 3
"""The fewest words that variants share, including those of the brand: fewer name a kind of product. Two Chinese
characters count as a word."""
MIN_AGREEMENT = 0.4
"""The least Jaccard similarity of variants' words, including descriptions: below it, two models share a title."""
_MAX_LEADERS = 50
"""The number of products of a run with which others are compared."""

_OPTION_LIST = "color colour size pattern material flavor flavour scent"
_OPTIONS = frozenset(_OPTION_LIST.split())
"""Words in the names of attributes whose values distinguish variants."""
_UNIT_LIST = "in ft yd mm cm m km sqft sqin sqm cuft cuin gal qt pt floz oz lb kg g mg l ml cl kb mb gb tb mah ah"
_UNITS = frozenset((*_UNIT_LIST.split(), "pack", "piece", "ct"))
"""Units of sizes, capacities and counts. Volts, watts and hertz distinguish models unless the title names one."""
_MODEL = re.compile(r"(?<![a-z0-9-])[a-z]{1,5}-?[0-9]{3,}[a-z0-9]*")
_COLOUR_LIST = """
black white red blue green yellow orange purple pink brown grey gray silver gold beige ivory cream bronze brass chrome
nickel copper clear transparent tan navy almond bisque charcoal titanium multicolor assorted natural cyan magenta teal
turquoise violet lavender khaki olive taupe graphite maroon espresso cherry walnut oak mahogany
"""
_COLOURS = frozenset(_COLOUR_LIST.split())
_SHADE_LIST = """
light dark bright pale deep matte matt gloss glossy satin brushed polished antique oil rubbed rose royal sky venetian
aged hot lime metallic
"""
_SHADES = frozenset(_SHADE_LIST.split())
"""Words that belong to a colour that follows them."""
_SIZE_LIST = "xs s m l xl xxl xxxl 2xl 3xl 4xl small medium large x-large xx-large king queen twin full"
_SIZES = frozenset(_SIZE_LIST.split())
_SKIPPED_LIST = """
a an and by in of the for with w x & - to pack packs pair pairs piece pieces pcs count each size color colour
"""
_SKIPPED = frozenset(_SKIPPED_LIST.split())
_QUANTITY = re.compile(rf"(?<![a-z0-9])(?<![a-z0-9]-)(?:{units.QUANTITIES})(?:\.(?= |$))?")
_COUNT = re.compile(
    r"(?:size|(?:pack|set|box|bag|case) of) [0-9]+(?![0-9a-z.])|"
    r"(?<![a-z0-9])[0-9]+[ -](?:person|seater|pack|count|piece|sheet|page|roll|tablet|capsule)s?(?![a-z])|"
    rf"(?:[0-9]+-)?[0-9.]+[ -]?(?:米|寸|颗粒|[个片本支只包袋盒瓶罐双条张件块人位]装?)(?![{HAN}])|"
    "[0-9a-z]+码|[超加特]?[大中小均]号"
)
_HAN_COLOUR = re.compile(f"[{HAN}]{{0,3}}[色黑白红蓝绿灰黄紫粉棕金银]")
_WORD = re.compile(rf"\"[a-z]\"|[a-z0-9][a-z0-9.'&/#-]*|[{HAN}]+")


def variant_hashes(products: Sequence[Product]) -> NDArray[np.uint64]:
    """Hashes (n, 2) of the words that each product (row) shares with its variants, and of its own words.

    The first is 0 for a title of too few words; the second is 0 if the feed names the group.
    """
    return np.array([_hashes(product) for product in products], np.uint64).reshape(-1, 2)


def _hashes(product: Product) -> tuple[int, int]:
    if group := product.attributes.get(GROUP_ATTRIBUTE):
        return xxhash.xxh3_64_intdigest(f"{GROUP_ATTRIBUTE}\0{group}".encode(errors="replace")), 0
    shared, own = split_title(product)
    if sum(1 if word.isascii() else max(1, len(word) // 2) for word in shared) < FEWEST_WORDS:
        return 0, 0
    return _hash(sorted(shared)), _hash(sorted(own))


def _hash(words: Sequence[str]) -> int:
    return xxhash.xxh3_64_intdigest(" ".join(words).encode(errors="replace"))


def split_title(product: Product) -> tuple[frozenset[str], Sequence[str]]:
    """The words that a product shares with its variants, including those of the brand, and its own ones."""
    own: list[str] = []
    text = fold(product.title)
    has_model = bool(_MODEL.search(text))

    def cut(match: re.Match[str]) -> str:
        own.append(match[0].strip())
        return " "

    def cut_size(match: re.Match[str]) -> str:
        named = [quantity.unit for quantity in units.quantities(match[0])]
        is_size = bool(named and named[-1]) and (has_model or all(unit in _UNITS for unit in named if unit))
        return cut(match) if is_size else match[0]

    text = _QUANTITY.sub(cut_size, _COUNT.sub(cut, text))
    named = {name: value for name, value in product.attributes.items() if not _OPTIONS.isdisjoint(name.split("_"))}
    options = {word for value in named.values() if isinstance(value, str) for word in fold(value).split()}
    shared: list[str] = []
    for word in (word.strip(".'&-/") for word in _WORD.findall(text)):
        if word in _COLOURS or _HAN_COLOUR.fullmatch(word):
            while shared and shared[-1] in _SHADES:
                own.append(shared.pop())
            own.append(word)
        elif word in _SIZES or word in options:
            own.append(word)
        elif word and word not in _SKIPPED:
            shared.append(word)
    return frozenset((*shared, *fold(product.brand).split())), own


NO_LEADER = -1


@dataclass(frozen=True, slots=True, eq=False)
class KnownLeaders:
    """The leaders in another catalog, for products that are in both."""

    leaders: NDArray[np.int32]
    """(n,): by row of the other catalog."""
    rows: NDArray[np.int64]
    """(n,): the row of each product in this catalog, ascending, or -1."""
    changed: NDArray[np.uint64]
    """The first hashes of products that only one of the catalogs has, sorted."""

    def fill(self, shared: NDArray[np.uint64], leaders: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Sets the leaders of products whose hash in `shared` (m,) no changed product has; returns which (m,)."""
        positions = np.searchsorted(self.changed, shared).clip(max=max(len(self.changed) - 1, 0))
        is_known = self.changed[positions] != shared if len(self.changed) else np.ones(len(shared), bool)
        is_here = self.rows >= 0
        led = np.where(self.leaders[is_here] < 0, NO_LEADER, self.rows[self.leaders[is_here]])
        row_leaders = np.full(len(shared), NO_LEADER, np.int32)
        row_leaders[self.rows[is_here]] = led
        leaders[is_known] = row_leaders[is_known]
        return is_known


def group_products(leaders: NDArray[np.int32], copies: Sequence[tuple[int, int]]) -> NDArray[np.int32]:
    """The group of each product, as the first row in it (n,).

    `leaders` (n,) are those of variants, `copies` are pairs of rows that are copies.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    led = np.flatnonzero(leaders >= 0)
    pairs = np.concatenate([np.array(copies, np.int64).reshape(-1, 2), np.column_stack([led, leaders[led]])])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (len(leaders), len(leaders)))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return np.asarray(first[labels], np.int32)


def variant_leaders(
    hashes: NDArray[np.uint64], words_of: Callable[[int], frozenset[bytes]], known_leaders: KnownLeaders | None = None
) -> NDArray[np.int32]:
    """The row of an earlier variant that represents each product's group, or NO_LEADER (n,).

    `hashes` (n, 2) are `variant_hashes`; `words_of` returns the words of a row.
    """
    leaders = np.full(len(hashes), NO_LEADER, np.int32)
    is_known = known_leaders.fill(hashes[:, 0], leaders) if known_leaders else np.zeros(len(hashes), bool)
    order = np.argsort(hashes[:, 0], kind="stable")
    order = order[~is_known[order]]
    shared, own = hashes[order].T
    bounds = np.flatnonzero(np.r_[True, shared[1:] != shared[:-1], True])
    for at in np.flatnonzero(np.diff(bounds) > 1).tolist():
        start, end = bounds[at : at + 2].tolist()
        rows = order[start:end]
        if not shared[start]:
            continue
        if not own[start]:
            leaders[rows[1:]] = rows[0]
        # Equal titles without an option are copies, or two products of one name.
        elif (own[start:end] != own[start]).any():
            for row, leader in _agreeing(rows.tolist(), words_of):
                leaders[row] = leader
    return leaders


def _agreeing(rows: Sequence[int], words_of: Callable[[int], frozenset[bytes]]) -> Iterator[tuple[int, int]]:
    """Each row with the first earlier row whose words agree."""
    leaders: list[tuple[int, frozenset[bytes]]] = []
    for row in rows:
        words = words_of(row)
        match = next((leader for leader, others in leaders if jaccard(words, others) >= MIN_AGREEMENT), None)
        if match is not None:
            yield row, match
        elif len(leaders) < _MAX_LEADERS:
            leaders.append((row, words))


def jaccard(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    """The share of common shingles among all; 1 if neither has any."""
    common = len(one & other)
    return common / (len(one) + len(other) - common) if one or other else 1.0
