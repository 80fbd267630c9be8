"""What shoppers may name of one product: brand, kind, traits, sizes, model numbers, what it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from rerank.training.query_catalog import CatalogWords, complements, run_heads, runs, without
from rerank.training.query_words import Kind, Word, read_words
from retrieval.records import AttributeValue, Product
from retrieval.textfold import fold

Words = tuple[str, ...]

_LONGEST_BRAND = 3
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
class Facts:
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


def read_facts(product: Product, title: Sequence[Word], catalog: CatalogWords) -> Facts:
    """Reads a product; `title` are its title's words."""
    brand = read_brand(product) or catalog.brand(title)
    own = without(title, brand)
    behind = tuple(complements(own))
    finishes = (words[1:] for words in behind if words[0] == "in" and not words[1][0].isdigit())
    traits = tuple(dict.fromkeys((*_attribute_traits(product, catalog), *finishes)))
    models = (word.text for word in own if word.kind is Kind.MODEL)
    return Facts(
        title=tuple(title),
        brand=brand,
        kinds=tuple(dict.fromkeys((*_named_kinds(product), *_title_kinds(own, traits, catalog)))),
        traits=traits,
        sizes=tuple(dict.fromkeys(word.text for word in own if _is_size(word))),
        models=tuple(dict.fromkeys((*models, *_model_identifiers(product)))),
        complements=tuple(words for words in behind if words[0] != "in"),
    )


def _is_size(word: Word) -> bool:
    """Whether a quantity says what it counts: a number alone does not."""
    return word.kind is Kind.QUANTITY and bool(word.text.strip("0123456789.,/- "))


def _attribute_traits(product: Product, catalog: CatalogWords) -> Iterator[Words]:
    """The attribute values that are a few usual words."""
    for name, value in product.attributes.items():
        if _is_kind(name):
            continue
        for text in _texts(value):
            words = read_words(text)
            plain = all(word.kind is Kind.WORD and not word.after_break for word in words)
            if 0 < len(words) <= _LONGEST_TRAIT and plain and _are_usual(words, catalog):
                yield tuple(word.text for word in words)


def _are_usual(words: Sequence[Word], catalog: CatalogWords) -> bool:
    return all(catalog.frequency(word.text) >= _USUAL for word in words)


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
    """What the store itself calls the kind: the narrowest category, an attribute."""
    named = [product.category[-1]] if product.category else []
    named += [value for name, value in product.attributes.items() if isinstance(value, str) and _is_kind(name)]
    for text in named:
        for part in _BETWEEN_KINDS.split(text):
            words = tuple(word.text for word in read_words(part) if word.kind is not Kind.JOINING)
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
    """The words up to each head, the head last."""
    start = 0
    for end, text in enumerate(texts, 1):
        if text in heads:
            yield tuple(texts[max(start, end - _LONGEST_KIND) : end])
            start = end


def _names_better(word: str, other: str, catalog: CatalogWords) -> bool:
    if catalog.names_nothing(word) != catalog.names_nothing(other):
        return catalog.names_nothing(other)
    return catalog.heads(word) > catalog.heads(other)
