"""Product types: the kind of product that a title or a query names, by the head of its noun phrase.

"Brunmarck Drill Bit Set for Cordless Drill, 10-Piece" is a drill bit set: brands, numbers, quantities, colours, and
everything after a preposition or a comma are cut, and the last remaining word is the head.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, groupby, islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import format_json, load_array, load_json
from shelfwise.retrieval.text import units
from shelfwise.retrieval.text.analysis import (
    HAN,
    Analyzer,
    Phrase,
    chinese_words,
    contains_chinese,
    dictionary_words,
    fold,
    word_term,
)

PHRASES_FILE = "phrases.json"
ROWS_FILE = "rows.npy"
"""(2, n) int32: the type of each product by its title and by its category."""

MAX_WORDS = 3
"""The most words of a phrase that name a type: with more, every product would be its own type."""
_MAX_SEGMENTS, _MAX_PHRASES = 4, 6
_MAX_MODEL_WORDS = 2
"""The most words after a head that may be a model's name ("Hair Dryer Kelda")."""

_DETAILS = re.compile(
    # Words after a head that describe the product and are not heads:
    "black|white|red|blue|green|yellow|orange|purple|pink|brown|grey|gray|silver|gold|beige|ivory|cream|bronze|brass|"
    "chrome|nickel|copper|clear|tan|navy|almond|bisque|charcoal|titanium|multicolor|assorted|natural|cyan|magenta|"
    "turquoise|violet|platinum|graphite|transparent|opaque|matte?|gloss|glossy|satin|stainless-steel|"
    "original|genuine|compatible|universal|standard|classic|premium|deluxe|professional|pro|ultra|internal|external|"
    "indoor|outdoor|wired|wireless|cordless|portable|foldable|adjustable|rechargeable|disposable|alkaline|freestanding|"
    "built-in|automatic|manual|digital|male|female|managed|unmanaged|shielded|unshielded|ambidextrous|self-adhesive|"
    "small|medium|large|mini|extra|new|refurbished|english|usb|usb-[abc]|type-[abc]|hdmi|vga|bluetooth|wi-fi|rf|ethernet|"
    "class|optical|left-hand|right-hand"
)
_COUNTED = re.compile(r"packs?|pairs?|pieces?|pcs?|count|sheets?|pages?|sizes?|each")
_SEGMENTS = re.compile(r"\s[-|/]\s|[,;:|]|\s\+\s|\.\s|[ -](?:discontinued|refurbished|reconditioned)\b")
_BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|[()\[\]]")
_COMPLEMENT = re.compile(
    r"\s(?:for|with|w/|in|by|from|without|featuring|includes?|including|on|to|at|compatible|fits?|of)\s|"
    r"\s(?:under|below|over|above|up to|less than|about|around)\s(?=[$€£¥]?\s?\d)"
)
_CONTAINER = re.compile(r"^(?:a |the )?(?:set|pack|box|pair|assortment|case|lot|bag|roll|kit)s? of (?:\d+ |x )?")
_RESOLUTION = r"\d{1,7}(?:[.,]\d{1,3})?\s?(?:dpi|ppm|pixels|[mg]bit/s|[mg]bps)"
_QUANTITY = re.compile(rf"(?<![a-z0-9])(?:{_RESOLUTION}|{units.QUANTITIES})(?:\.(?= |$))?")
_WORD = re.compile(rf"[a-z0-9][a-z0-9.'&-]*|[{HAN}]+|•")
_GAP = "•"
"""Replaces a quantity: the words after it name the product ("4 ft. Shop Light")."""


def head_phrases(text: str, brand: str = "") -> list[Phrase]:
    """The noun phrases of a title or query that may name its type, likeliest first, each with all its words."""
    return list(chain.from_iterable(noun_phrases(text, brand)))[:_MAX_PHRASES]


def noun_phrases(text: str, brand: str = "") -> list[list[Phrase]]:
    """The noun phrases of each segment of a title or query: the part after its last quantity, then the one before."""
    folded = _BRACKETED.sub(" ", _CONTAINER.sub("", fold(text)))
    folded = _QUANTITY.sub(lambda found: found[0] if found[0].isdigit() else f" {_GAP} ", folded)
    own = fold(brand).split()
    segments: list[list[Phrase]] = []
    for segment in _SEGMENTS.split(folded):
        words = _WORD.findall(_COMPLEMENT.split(f" {segment} ")[0])
        if contains_chinese(segment):
            # Without spaces the last word of each run is the head.
            runs = (chinese_words(word) for word in words if contains_chinese(word))
            segments += [[tuple(word for word in run if len(word) > 1)] for run in runs]
        else:
            segments.append(_english(words, own))
    named = ([phrase for phrase in phrases if phrase] for phrases in segments)
    return [phrases for phrases in named if phrases][:_MAX_SEGMENTS]


def type_phrase(name: str) -> Phrase:
    """The phrase of the type that a name denotes; empty if it denotes several, or has words that types leave out, as in
    "drill for kids"."""
    phrases = head_phrases(name)
    is_whole = ["".join(map(word_term, fold(name).split()))] == ["".join(phrase) for phrase in phrases]
    return phrases[0] if is_whole and len(phrases[0]) <= MAX_WORDS else ()


def without_numbers(text: str) -> str:
    """A folded text without quantities and other words with digits: "laptop" of "15 inch i7 laptop"."""
    words = _QUANTITY.sub(" ", fold(text)).split()
    return " ".join(word for word in words if not any(character.isdigit() for character in word))


def compound_head(text: str) -> str:
    """The second of the two words of a Chinese compound, which says what it is: 背包 of 防水背包. Empty for other
    texts, and for a word of one character, whose meaning depends on the first."""
    if not contains_chinese(text):
        return ""
    words = dictionary_words(text)
    return words[1] if len(words) == 2 and len(words[1]) > 1 else ""


def _english(words: Sequence[str], brand: Sequence[str]) -> list[Phrase]:
    stripped = [word for word in (word.strip(".'&-") for word in words) if word]
    if brand and stripped[: len(brand)] == list(brand):
        stripped = stripped[len(brand) :]
    parts = [list(part) for is_gap, part in groupby(stripped, _GAP.__eq__) if not is_gap]
    for part in parts:
        while part and _is_no_head(part[-1]):
            part.pop()
    return [tuple(map(word_term, part)) for part in reversed(parts)]


def _is_no_head(word: str) -> bool:
    is_listed = _DETAILS.fullmatch(word) or _COUNTED.fullmatch(word)
    return len(word) < 2 or bool(is_listed) or any(character.isdigit() for character in word)


def head_candidates(phrases: Sequence[Phrase]) -> list[tuple[Phrase, int, int]]:
    """Each phrase, whole and without its last words, with the number of words cut and the number of its segment: a
    title may end with a model's name."""
    return [
        (phrase[: len(phrase) - cut], cut, segment)
        for segment, phrase in enumerate(phrases)
        for cut in range(min(_MAX_MODEL_WORDS + 1, len(phrase)))
    ]


@dataclass(frozen=True, slots=True)
class WantedTypes:
    """The types of product that a query asks for."""

    agreement: Mapping[int, float]
    """Agreement of each type (by number) with the request; 0 for types that are missing."""
    is_sure: bool = False
    """Whether all words of the query name a type of the catalog."""
    is_voted: bool = False
    """Whether the nearest products named the type, not the query."""
    is_covered: bool = False
    """Whether many products have all words of the query, most of them of these types."""


NO_TYPES = WantedTypes(MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class TypeNames:
    """The types of one product, in words; empty if it has none."""

    by_title: str = ""
    by_category: str = ""
    by_rule: str = ""
    """The type that a rule gives; if there is one, it is the only type."""

    @property
    def name(self) -> str:
        """The type to display, if only one is displayed."""
        return self.by_rule or self.by_title or self.by_category


@dataclass(frozen=True, slots=True, eq=False)
class ProductTypes:
    """The types of a catalog's products. Read-only, thread-safe."""

    phrases: Sequence[Phrase]
    by_title: NDArray[np.int32]
    """(n,): the type of each product by its title; -1 for none."""
    by_category: NDArray[np.int32]
    """(n,): the type of each product by the last name of its category path; -1 for none."""
    members: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    """The rows of products by the number of their type by title: products without a type first, and within each type
    the best known first."""
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    """(types + 1,): the bounds of each type in `members`."""
    changed: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Both types of products that live changes replaced or added, by row."""
    heads: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """The numbers of the types by the term of their head."""
    given: Mapping[int, str] = field(default_factory=dict)
    """The names of the types that rules give to products, by row."""

    @classmethod
    def open(cls, folder: Path, ratings: NDArray[np.float32]) -> ProductTypes:
        """Reads the types of a version of n products; `ratings` (n,) are their numbers of ratings: more means better
        known. Raises StoreDamagedError if the number of products differs."""
        products = len(ratings)
        phrases = load_json(folder / PHRASES_FILE, list[str])
        by_row = load_array(folder / ROWS_FILE, mapped=True)
        if by_row.shape != (2, products) or by_row.max(initial=-1) >= len(phrases):
            raise StoreDamagedError(
                f"{folder} has types of {by_row.shape[-1]} products, not {products}; rebuild the index"
            )
        types = cls.of([tuple(phrase.split(" ")) for phrase in phrases], *by_row)
        members = np.lexsort((-np.nan_to_num(ratings), types.by_title))
        starts = np.searchsorted(types.by_title[members], np.arange(len(phrases) + 1))
        return replace(types, members=members.astype(np.uint32), starts=starts)

    def write(self, folder: Path) -> None:
        """Writes the types of a version into a folder, which is created."""
        folder.mkdir()
        (folder / PHRASES_FILE).write_bytes(format_json([" ".join(phrase) for phrase in self.phrases]))
        np.save(folder / ROWS_FILE, np.array([self.by_title, self.by_category], np.int32))

    @classmethod
    def of(cls, phrases: Sequence[Phrase], by_title: NDArray[np.int32], by_category: NDArray[np.int32]) -> ProductTypes:
        """The types of a version."""
        heads: dict[str, list[int]] = defaultdict(list)
        for number, phrase in enumerate(phrases):
            heads[phrase[-1]].append(number)
        return cls(phrases, by_title, by_category, heads=heads)

    def with_changes(self, products: Mapping[int, Product | None]) -> ProductTypes:
        """These types with those of changed products; a product that is gone, or of a new type, has none."""
        found = {row: (-1, -1) if product is None else self._classify(product) for row, product in products.items()}
        return replace(self, changed=MappingProxyType({**self.changed, **found}))

    def with_given(self, names: Mapping[int, str]) -> ProductTypes:
        """These types, with those that rules give to products, by row, in place of their own. A name must be one that
        `type_phrase` accepts; the catalog need not have the type."""
        phrases, heads, numbers = [*self.phrases], {**self.heads}, dict[str, int]()
        for name in dict.fromkeys(names.values()):
            phrase = type_phrase(name)
            same = [number for number in heads.get(phrase[-1], ()) if phrases[number] == phrase]
            numbers[name] = same[0] if same else len(phrases)
            if not same:
                heads[phrase[-1]] = (*heads.get(phrase[-1], ()), len(phrases))
                phrases.append(phrase)
        changed = {**self.changed, **{row: (numbers[name], -1) for row, name in names.items()}}
        return replace(self, phrases=phrases, heads=heads, changed=MappingProxyType(changed), given=names)

    def named(
        self, query: str, words: int, synonyms: Mapping[Phrase, Sequence[Phrase]] = MappingProxyType({})
    ) -> WantedTypes | None:
        """The types that a query of `words` words names, or their `synonyms`; None if none of its heads is that of a
        type.

        The agreement falls with the square of the share of the query's words that name the type: a long query asks for
        more than a type.
        """
        for phrase in head_phrases(query):
            share = min(1.0, min(len(phrase), MAX_WORDS) / max(words, 1)) ** 2
            found: dict[int, float] = defaultdict(float)
            for named in (phrase, *_rewritten(phrase, synonyms)):
                for number in self.heads.get(named[-1], ()):
                    found[number] = max(found[number], share * _agreement(named, self.phrases[number]))
            if found:
                return WantedTypes(found, max(found.values()) == 1)
        return None

    def voted(
        self,
        query: str,
        nearest: Mapping[int, str],
        similarity: NDArray[np.float64],
        gain: float,
        *,
        is_named: bool = False,
    ) -> WantedTypes:
        """The types on which the nearest products agree, for a query without a known head: "laptop" asks for notebooks
        in a catalog in which no title ends with laptop.

        `nearest` has the titles of n products by row; `similarity` (n,) is their similarity to the query, in
        deviations. A product votes for its types and for the heads in its title; `gain` is the agreement with all
        votes. If the query names a type (`is_named`), products whose titles have its words do not vote: they are of the
        type, or its accessories.
        """
        weights = np.exp(similarity - similarity.max(initial=-np.inf))
        votes: defaultdict[str, float] = defaultdict(float)
        own = _terms(query)
        types = self._at(np.array(list(nearest), np.int64)).T.tolist()
        for title, numbers, weight in zip(nearest.values(), types, (weights / weights.sum()).tolist(), strict=True):
            terms = _terms(title)
            if is_named and own <= terms:
                continue
            heads = {self.phrases[number][-1] for number in numbers if number >= 0}
            for head in heads | {term for term in terms - own if term in self.heads}:
                votes[head] += weight
        least = max(_MIN_VOTE, _LEADING * max(votes.values(), default=0.0))
        agreed = {head: gain * vote for head, vote in votes.items() if vote >= least}
        return WantedTypes({number: vote for head, vote in agreed.items() for number in self.heads[head]})

    def agreements(self, wanted: WantedTypes, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The agreement of the products at `rows` (n,): the better one of title and category."""
        by_type = np.zeros(len(self.phrases) + 1)  # the last entry is for products without a type
        by_type[list(wanted.agreement)] = list(wanted.agreement.values())
        return np.asarray(by_type[self._at(rows)].max(axis=0))

    def count(self, wanted: WantedTypes) -> int:
        """The number of products of these types by title, without live changes."""
        is_wanted = np.zeros(len(self.phrases) + 1, bool)  # the last entry is for products without a type
        is_wanted[list(wanted.agreement)] = True
        return int(np.count_nonzero(is_wanted[self.by_title]))

    def strongest(self, wanted: WantedTypes) -> NDArray[np.int64]:
        """The numbers of the types that a query asks for most."""
        most = max(wanted.agreement.values(), default=np.inf)
        return np.array([number for number, share in wanted.agreement.items() if share == most], np.int64)

    def with_types(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the products that are of some types by their titles, live changes aside."""
        return np.flatnonzero(np.isin(self.by_title, numbers))

    def are_of(self, rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the products at `rows` (n,) are of some types by their titles."""
        return np.isin(self._at(rows)[0], numbers)

    def best_known(self, wanted: WantedTypes, count: int) -> NDArray[np.int64]:
        """At most `count` products of the types with full agreement, alternating between types, the best known of each
        first. Products that live changes added, changed or removed are left out."""
        numbers = [number for number, share in wanted.agreement.items() if share >= 1 and number + 1 < len(self.starts)]
        parts = [self.members[self.starts[number] : self.starts[number + 1]][:count] for number in numbers]
        rows = np.concatenate([np.empty(0, np.int64), *parts])
        places = np.concatenate([np.empty(0, np.int64), *(np.arange(len(part)) for part in parts)])
        first = rows[np.argsort(places, kind="stable")[:count]].astype(np.int64)
        return first[[row not in self.changed for row in first.tolist()]] if self.changed else first

    def members_of(self, name: str) -> NDArray[np.int64]:
        """The rows of the products whose type by title has this name (see `name_of`), ascending; they may include
        products that live changes removed."""
        phrase = tuple(name.split(" "))
        number = next((each for each in self.heads.get(phrase[-1], ()) if self.phrases[each] == phrase), None)
        if number is None:
            return np.empty(0, np.int64)
        rows = np.flatnonzero(self.by_title == number)
        if not self.changed:
            return rows
        kept = [row for row in rows.tolist() if row not in self.changed]
        now = [row for row, numbers in self.changed.items() if numbers[0] == number]
        return np.array(sorted({*kept, *now}), np.int64)

    def number_of(self, category: str) -> int:
        """The number of the type of products in a category of this name; -1 for none."""
        return self._known(head_phrases(category))

    def name_of(self, row: int) -> str:
        """The type of a product as terms; empty if it has none."""
        number = self._numbers(row)[0]
        return " ".join(self.phrases[number]) if number >= 0 else ""

    def names_of(self, row: int, product: Product) -> TypeNames:
        """The types of the product at a row, in its own words."""
        if row in self.given:
            return TypeNames(by_rule=self.given[row])
        texts = product.title, product.category[-1] if product.category else ""
        pairs = zip(self._numbers(row), texts, strict=True)
        return TypeNames(*(_in_words(self.phrases[number], text) if number >= 0 else "" for number, text in pairs))

    def _numbers(self, row: int) -> tuple[int, int]:
        """The types of a product by title and by category."""
        if row in self.changed or row >= len(self.by_title):
            return self.changed.get(row, (-1, -1))
        return int(self.by_title[row]), int(self.by_category[row])

    def _at(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """The types of products by title and by category (2, n)."""
        found = np.full((2, len(rows)), -1, np.int32)
        is_stored = rows < len(self.by_title)
        found[0, is_stored], found[1, is_stored] = self.by_title[rows[is_stored]], self.by_category[rows[is_stored]]
        for place, row in enumerate(rows.tolist()) if self.changed else ():
            if row in self.changed:
                found[:, place] = self.changed[row]
        return found

    def _classify(self, product: Product) -> tuple[int, int]:
        leaf = product.category[-1] if product.category else ""
        return self._known(head_phrases(product.title, product.brand or "")), self.number_of(leaf)

    def _known(self, phrases: Sequence[Phrase]) -> int:
        """The number of the longest type that one of these phrases ends with; -1 for none."""
        for phrase, *_ in head_candidates(phrases):
            numbers = [
                at for at in self.heads.get(phrase[-1], ()) if phrase[-len(self.phrases[at]) :] == self.phrases[at]
            ]
            if numbers:
                return max(numbers, key=lambda number: len(self.phrases[number]))
        return -1


@lru_cache(maxsize=2**14)
def _in_words(phrase: Phrase, text: str) -> str:
    """The words of a text with the terms of a type, such as "washing machine"; the terms if it has no such words."""
    words = [word.strip(".'&-") for word in _WORD.findall(fold(text))]
    terms, count = tuple(map(word_term, words)), len(phrase)
    found = (" ".join(words[at : at + count]) for at in range(len(words)) if terms[at : at + count] == phrase)
    return next(found, " ".join(phrase))


@lru_cache(maxsize=8)
def type_synonyms(analyzer: Analyzer) -> Mapping[Phrase, Sequence[Phrase]]:
    """The synonyms of queries as phrases that name types."""
    found: dict[Phrase, list[Phrase]] = defaultdict(list)
    for rule in analyzer.synonyms.rules:
        for phrase in head_phrases(rule.phrase)[:1]:
            found[phrase] += chain.from_iterable(head_phrases(other)[:1] for other in rule.others)
    return found


def _rewritten(phrase: Phrase, synonyms: Mapping[Phrase, Sequence[Phrase]]) -> list[Phrase]:
    """The phrases made by replacing the longest ending that has synonyms by each of them."""
    endings = (start for start in range(len(phrase)) if phrase[start:] in synonyms)
    return [(*phrase[:start], *other) for start in islice(endings, 1) for other in synonyms[phrase[start:]]]


_SAME_HEAD, _SHORTER = 0.4, 0.7
"""The agreement of a type with the requested head and a different word before it ("inkjet printer" for "laser
printer"), and of a type that is only the head ("printer")."""
_MIN_VOTE, _LEADING = 0.3, 0.9
"""The share of votes that a head needs, and its least share of the leading head's votes."""


@lru_cache(maxsize=2**12)
def _terms(text: str) -> frozenset[str]:
    """The terms of a text, without quantities."""
    found = _WORD.findall(_QUANTITY.sub(" ", fold(text)))
    words = (word for each in found for word in (chinese_words(each) if contains_chinese(each) else (each,)))
    return frozenset(word_term(word.strip(".'&-")) for word in words if len(word) > 1)


def _agreement(query: Phrase, named: Phrase) -> float:
    """1 if a type ends with the query's whole phrase, less for each of its words that the type lacks or replaces."""
    wanted = query[-MAX_WORDS:]
    shared = 0
    for one, other in zip(reversed(wanted), reversed(named), strict=False):
        if one != other:
            break
        shared += 1
    least, rest = _SHORTER if shared == len(named) else _SAME_HEAD, len(wanted) - 1
    return least + (1 - least) * (shared - 1) / rest if rest else 1.0
