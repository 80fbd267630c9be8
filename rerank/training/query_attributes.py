"""Attributes that shoppers may name of a product: brand, kind, traits, sizes, model numbers, complements."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from rerank.training.query_text import COMPLEMENT_WORDS, Word, WordKind, read_words
from retrieval.records import AttributeValue, Product
from retrieval.text import units
from retrieval.text.analysis import fold

_BRAND_TITLES = 3
_BRAND_SHARE = 0.7
"""Words begin brands where at least so many titles begin with them, and so much of the titles that have them."""
_LONGEST_BRAND = 3
_TINTS = 3


class CatalogWords:
    """Counts over the titles of a sample of products; `brands` has each one's brand, folded, or nothing."""

    def __init__(self, titles: Sequence[Sequence[Word]], brands: Sequence[tuple[str, ...]]) -> None:
        self._titles = len(titles)
        self._frequency: Counter[str] = Counter()
        self._heads: Counter[str] = Counter()
        self._tints: Counter[str] = Counter()
        self._openings: Counter[tuple[str, ...]] = Counter()
        self._sequences: Counter[tuple[str, ...]] = Counter()
        for title in titles:
            self._count_words(title)
        for title, brand in zip(titles, brands, strict=True):
            self._count_names(remove_words(title, brand or self.brand(title)))

    def frequency(self, word: str) -> int:
        """The number of titles that have the word."""
        return self._frequency[word]

    def heads(self, word: str) -> int:
        """The number of titles in which the word ends a run of words that may name the product."""
        return self._heads[word]

    def idf(self, word: str) -> float:
        """ln(1 + titles / titles with the word)."""
        return math.log1p(self._titles / max(self._frequency[word], 1))

    def names_nothing(self, word: str) -> bool:
        """Whether the word only describes: a colour or finish (what titles have behind "in"), unit, letter or code."""
        tints = self._tints[word]
        tint = tints >= _TINTS and tints * 4 > self._heads[word]
        return tint or word in units.WORDS or (word.isascii() and len(word) == 1) or any(map(str.isdigit, word))

    def brand(self, title: Sequence[Word]) -> tuple[str, ...]:
        """The longest words at a title's beginning that begin titles as a brand does; empty where none do."""
        texts = []
        for word in title[: min(_LONGEST_BRAND, len(title) - 1)]:
            if word.kind is not WordKind.WORD or word.after_break:
                break
            texts.append(word.text)
        for length in range(len(texts), 0, -1):
            if self._opens(tuple(texts[:length])):
                return tuple(texts[:length])
        return ()

    def _opens(self, words: tuple[str, ...]) -> bool:
        times = self._openings[words]
        everywhere = self._frequency[words[0]] if len(words) == 1 else self._sequences[words]
        # What continues a brand in every title belongs to it; what seldom does is the name of a series.
        continues = len(words) == 1 or times >= _BRAND_SHARE * self._openings[words[:-1]]
        return times >= _BRAND_TITLES and times >= _BRAND_SHARE * everywhere and continues

    def _count_words(self, title: Sequence[Word]) -> None:
        texts = tuple(word.text for word in title)
        self._frequency.update(set(texts))
        for length in range(1, min(_LONGEST_BRAND, len(texts)) + 1):
            self._openings[texts[:length]] += 1
        for length in range(2, _LONGEST_BRAND + 1):
            self._sequences.update({texts[at : at + length] for at in range(len(texts) - length + 1)})

    def _count_names(self, title: Sequence[Word]) -> None:
        self._heads.update({head for run in runs(title) for head in run_heads(run)})
        for first, *behind in complements(title):
            if first == "in":
                self._tints[behind[-1]] += 1


def remove_words(title: Sequence[Word], brand: tuple[str, ...]) -> list[Word]:
    """The words of a title less those of the brand."""
    return [word for word in title if word.text not in brand]


def runs(title: Sequence[Word]) -> Iterator[list[Word]]:
    """The runs of plain words of a title that may name the product.

    A sign, a number, a model number or a joining word ends a run; what stands in brackets or behind "with", "for" or
    "in" names something else.
    """
    run: list[Word] = []
    for place, word in enumerate(title):
        plain = word.kind is WordKind.WORD and not word.in_brackets
        if run and (not plain or word.after_break):
            yield run
            run = []
        if place and word.text in COMPLEMENT_WORDS:
            return
        if plain:
            run.append(word)
    if run:
        yield run


def run_heads(run: Sequence[Word]) -> Iterator[str]:
    """The words of a run that may name a product: its last, and in Chinese every noun that no other noun follows."""
    for word, following in pairwise(run):
        if word.noun and not following.noun:
            yield word.text
    yield run[-1].text


def complements(title: Sequence[Word], longest: int = 3) -> Iterator[tuple[str, ...]]:
    """What stands behind each "for", "with" or "in" up to the next sign or joining word, that word first."""
    for place, word in enumerate(title):
        if word.text not in COMPLEMENT_WORDS:
            continue
        behind: list[str] = []
        for following in title[place + 1 : place + 1 + longest]:
            if following.kind is WordKind.JOINING or (following.after_break and behind):
                break
            behind.append(following.text)
        if behind:
            yield ("with" if word.text == "w" else word.text, *behind)


Words = tuple[str, ...]
_LONGEST_KIND = 4
_LONGEST_TRAIT = 3
_LONGEST_CODE = 40
_USUAL = 3
"""An attribute's value is a shopper's word when so many titles of the sample have each of its words."""
_KIND_ATTRIBUTES = frozenset({"product type", "item type", "类型", "品类", "产品类型"})
_MODEL_IDENTIFIERS = frozenset({"mpn", "model", "sku"})
_COMPANY_FORMS = frozenset({"ag", "co", "company", "corp", "corporation", "gmbh", "inc", "llc", "ltd"})
_BETWEEN_KINDS = re.compile(r"\s*(?:[&,/>|、]|\band\b)\s*")
_BETWEEN_TRAITS = re.compile(r"\s*[,/;|、]\s*")


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """The parts that queries for one product are made of. Any may be empty."""

    title: tuple[Word, ...]
    """The title's words, the brand among them where it is there."""
    brand: Words
    kinds: tuple[Words, ...]
    """What the product is, each with the words before its name as the title has them: ("wood", "attic", "ladder")."""
    traits: tuple[Words, ...]
    """Colours, materials and such."""
    sizes: Words
    models: Words
    complements: tuple[Words, ...]
    """What it is for or comes with, the joining word first."""


def read_brand(product: Product) -> Words:
    """The brand that a product's record names, as a shopper types it; empty where it names none."""
    words = [word.text for word in read_words(product.brand) if word.text not in _COMPANY_FORMS]
    return tuple(words[:_LONGEST_BRAND])


def read_facts(product: Product, title: Sequence[Word], catalog: CatalogWords) -> ProductFacts:
    """Reads a product; `title` are its title's words."""
    brand = read_brand(product) or catalog.brand(title)
    own = remove_words(title, brand)
    behind = tuple(complements(own))
    finishes = (words[1:] for words in behind if words[0] == "in" and not words[1][0].isdigit())
    traits = tuple(dict.fromkeys((*_attribute_traits(product, catalog), *finishes)))
    models = (word.text for word in own if word.kind is WordKind.MODEL)
    return ProductFacts(
        title=tuple(title),
        brand=brand,
        kinds=tuple(dict.fromkeys((*_named_kinds(product), *_title_kinds(own, traits, catalog)))),
        traits=traits,
        sizes=tuple(dict.fromkeys(word.text for word in own if _is_size(word))),
        models=tuple(dict.fromkeys((*models, *_model_identifiers(product)))),
        complements=tuple(words for words in behind if words[0] != "in"),
    )


def _is_size(word: Word) -> bool:
    return word.kind is WordKind.QUANTITY and bool(word.text.strip("0123456789.,/- "))


def _attribute_traits(product: Product, catalog: CatalogWords) -> Iterator[Words]:
    for name, value in product.attributes.items():
        if _is_kind(name):
            continue
        for text in _texts(value):
            words = read_words(text)
            plain = all(word.kind is WordKind.WORD and not word.after_break for word in words)
            usual = all(catalog.frequency(word.text) >= _USUAL for word in words)
            if 0 < len(words) <= _LONGEST_TRAIT and plain and usual:
                yield tuple(word.text for word in words)


def _is_kind(attribute: str) -> bool:
    return attribute.replace("_", " ").casefold() in _KIND_ATTRIBUTES


def _texts(value: AttributeValue) -> Iterator[str]:
    for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
        yield from _BETWEEN_TRAITS.split(text)


def _model_identifiers(product: Product) -> Iterator[str]:
    for name, values in product.identifiers.items():
        if name in _MODEL_IDENTIFIERS:
            folded = (" ".join(fold(value).split()) for value in values)
            yield from (code for code in folded if 0 < len(code) <= _LONGEST_CODE)


def _named_kinds(product: Product) -> Iterator[Words]:
    named = [product.category[-1]] if product.category else []
    named += [value for name, value in product.attributes.items() if isinstance(value, str) and _is_kind(name)]
    for text in named:
        for part in _BETWEEN_KINDS.split(text):
            words = tuple(word.text for word in read_words(part) if word.kind is not WordKind.JOINING)
            if 0 < len(words) <= _LONGEST_KIND:
                yield words


def _title_kinds(title: Sequence[Word], traits: Sequence[Words], catalog: CatalogWords) -> Iterator[Words]:
    """The likeliest name of the product in its title: the run whose last word names the most products.

    Of a Chinese title every name, each with the words between it and the one before: such titles list several.
    """
    described = {text for trait in traits for text in trait}
    best: Words = ()
    for run in runs(title):
        texts = [word.text for word in run]
        if any(word.noun for word in run):
            yield from _parted(texts, set(run_heads(run)))
            continue
        while len(texts) > 1 and (texts[-1] in described or catalog.names_nothing(texts[-1])):
            texts.pop()
        if not best or _names_better(texts[-1], best[-1], catalog):
            best = tuple(texts[-_LONGEST_KIND:])
    if best:
        yield best


def _parted(texts: Sequence[str], heads: AbstractSet[str]) -> Iterator[Words]:
    start = 0
    for end, text in enumerate(texts, 1):
        if text in heads:
            yield tuple(texts[max(start, end - _LONGEST_KIND) : end])
            start = end


def _names_better(word: str, other: str, catalog: CatalogWords) -> bool:
    if catalog.names_nothing(word) != catalog.names_nothing(other):
        return catalog.names_nothing(other)
    return catalog.heads(word) > catalog.heads(other)
