"""The recipes: the ways in which a shopper may ask for a product, each with how often it is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from rerank.training.query_catalog import CatalogWords, without
from rerank.training.query_facts import Facts, Words
from rerank.training.query_words import Kind, Word

_USUAL_NAME = 3
"""A word asks for a product by itself when it names so many of the sample."""
_NUMBERS_SHARE = 0.12
"""How often the numbers of a title are read too where a recipe takes words from it: shoppers type few of them."""
_EARLY = 4
"""Places behind which a word's weight has halved: titles say what matters first."""


@dataclass(frozen=True, slots=True)
class Shopper:
    """Someone who looks for one product: what is known of it and of its catalog, and the draws that are made."""

    facts: Facts
    catalog: CatalogWords
    random: Random

    def number(self, *shares: float) -> int:
        """A number from 1 on, drawn by the shares."""
        return self.random.choices(range(1, len(shares) + 1), shares)[0]

    def kind(self, *shares: float) -> Words:
        """What the product is, in so many words as drawn by the shares; two rather than one that is no usual name."""
        if not self.facts.kinds:
            return ()
        words = self.number(*shares)
        kind = self.random.choice(self.facts.kinds)
        if words == 1 and self.catalog.heads(kind[-1]) < _USUAL_NAME:
            words = 2
        return kind[-words:]

    def title(self) -> list[Word]:
        """The words of the title that mean something, mostly without those that have digits."""
        numbers = self.random.random() < _NUMBERS_SHARE
        told = [word for word in self.facts.title if word.kind is not Kind.JOINING]
        return [word for word in told if numbers or word.kind is Kind.WORD] or told

    def telling(self, words: Sequence[Word], count: int) -> Words:
        """So many different words in their order, drawn by their idf and for standing early; none of one character."""
        # Efraimidis & Spirakis 2006: the largest u^(1/weight) are a weighted sample without replacement.
        drawn: dict[str, float] = {}
        for place, word in enumerate(words):
            # Initials, and pieces of Chinese words that no dictionary knows: rare, so they would be drawn often.
            if len(word.text) == 1:
                continue
            weight = self.catalog.idf(word.text) / (place + _EARLY)
            drawn.setdefault(word.text, self.random.random() ** (1.0 / weight))
        best = sorted(drawn, key=drawn.__getitem__, reverse=True)[:count]
        return tuple(text for text in drawn if text in best)


Make = Callable[[Shopper], Words]
"""Makes the words of one query; none where the product lacks what the recipe needs."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to ask, and its share of the queries were every product and every text good for it."""

    share: float
    make: Make


def _only_kind(shopper: Shopper) -> Words:
    return shopper.kind(0.35, 0.45, 0.2)


def _only_brand(shopper: Shopper) -> Words:
    return shopper.facts.brand


def _only_word(shopper: Shopper) -> Words:
    """A word of the title that several products have: a series, a material, a use."""
    usual = [word for word in shopper.title() if shopper.catalog.frequency(word.text) >= _USUAL_NAME]
    return shopper.telling([word for word in usual if not shopper.catalog.names_nothing(word.text)], 1)


def _brand_kind(shopper: Shopper) -> Words:
    kind = shopper.kind(0.35, 0.5, 0.15)
    return (*shopper.facts.brand, *kind) if shopper.facts.brand and kind else ()


def _trait_kind(shopper: Shopper) -> Words:
    kind = shopper.kind(0.3, 0.5, 0.2)
    traits = [trait for trait in shopper.facts.traits if not set(trait) & set(kind)]
    if not traits or not kind:
        return ()
    trait = shopper.random.choice(traits)
    return (*kind, *trait) if shopper.random.random() < 0.15 else (*trait, *kind)


def _size_kind(shopper: Shopper) -> Words:
    kind = shopper.kind(0.3, 0.5, 0.2)
    if not shopper.facts.sizes or not kind:
        return ()
    size = shopper.random.choice(shopper.facts.sizes[:2])
    return (*kind, size) if shopper.random.random() < 0.35 else (size, *kind)


def _kind_complement(shopper: Shopper) -> Words:
    kind = shopper.kind(0.4, 0.5, 0.1)
    if not shopper.facts.complements or not kind:
        return ()
    joining, *behind = shopper.random.choice(shopper.facts.complements)
    return (*kind, joining, *behind[: shopper.number(0.4, 0.4, 0.2)])


def _model(shopper: Shopper) -> Words:
    if not shopper.facts.models:
        return ()
    model = shopper.random.choice(shopper.facts.models)
    beside = shopper.random.choices((shopper.facts.brand, shopper.kind(0.6, 0.4), ()), (0.35, 0.25, 0.4))[0]
    return (*beside, model)


def _modified_kind(shopper: Shopper) -> Words:
    """What the product is, behind one or two telling words of its title."""
    kind = shopper.kind(0.5, 0.5)
    own = without(shopper.title(), (*shopper.facts.brand, *kind))
    chosen = shopper.telling(own, shopper.number(0.7, 0.3))
    return (*chosen, *kind) if chosen and kind else ()


def _some_words(shopper: Shopper) -> Words:
    """Two to four telling words in the title's order."""
    return shopper.telling(shopper.title(), 1 + shopper.number(0.4, 0.4, 0.2))


def _shuffled_words(shopper: Shopper) -> Words:
    words = list(_some_words(shopper))
    shopper.random.shuffle(words)
    return tuple(words)


def _most_words(shopper: Shopper) -> Words:
    """Four to seven words of the title: what someone types who knows the product."""
    return shopper.telling(shopper.title(), 3 + shopper.number(0.4, 0.3, 0.2, 0.1))


def _span(shopper: Shopper) -> Words:
    """Neighbours in the title."""
    words = without(shopper.title(), shopper.facts.brand) or shopper.title()
    if not words:
        return ()
    length = min(1 + shopper.number(0.5, 0.35, 0.15), len(words))
    start = shopper.random.randint(0, len(words) - length)
    return tuple(word.text for word in words[start : start + length])


def _opening(shopper: Shopper) -> Words:
    return tuple(word.text for word in shopper.title()[: 1 + shopper.number(0.4, 0.4, 0.2)])


RECIPES: Mapping[str, Recipe] = {
    "kind": Recipe(0.26, _only_kind),
    "brand": Recipe(0.02, _only_brand),
    "word": Recipe(0.1, _only_word),
    "brand-kind": Recipe(0.12, _brand_kind),
    "trait-kind": Recipe(0.1, _trait_kind),
    "modified-kind": Recipe(0.14, _modified_kind),
    "size-kind": Recipe(0.05, _size_kind),
    "kind-complement": Recipe(0.05, _kind_complement),
    "model": Recipe(0.02, _model),
    "span": Recipe(0.05, _span),
    "words": Recipe(0.04, _some_words),
    "shuffled-words": Recipe(0.02, _shuffled_words),
    "most-words": Recipe(0.02, _most_words),
    "opening": Recipe(0.01, _opening),
}
"""Name to recipe. A kind with a word or two before it, which shoppers type most, is tried most often."""
