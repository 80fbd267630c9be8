"""Queries that shoppers of a store might type, made from its own catalog: what a ranker is distilled on."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import xxhash

from rerank.training.query_attributes import CatalogWords, ProductFacts, Words, read_brand, read_facts, remove_words
from rerank.training.query_text import JOINING, Word, WordKind, phrase, read_words
from retrieval.errors import TrainingError
from retrieval.records import Product
from retrieval.text.analysis import contains_chinese, fold

MAX_WORDS = 10
"""Words of the longest query, divided at spaces."""
TYPO = "+typo"
"""What ends the recipe's name of a query with a typing error in it."""
TYPO_SHARE = 0.05
_SMALLEST_SAMPLE = 20_000
_TRIES = 10
"""A catalog is used up when so many tries for each product and for each query made so far have given no more."""


@dataclass(frozen=True, slots=True)
class SyntheticQuery:
    """A made query: its text, the product that it was made from (others may fit as well), and how it was made."""

    text: str
    product_id: str
    recipe: str
    """A name in RECIPES, with TYPO behind it where a typing error was put in."""


def synthetic_queries(products: Iterable[Product], count: int, seed: int) -> list[SyntheticQuery]:
    """Makes so many queries, no two alike when folded; fewer where the catalog has not so many in it.

    The same catalog and seed give the same queries, whatever order the products come in. They are read once; memory
    holds a sample of as many products as queries are asked for (20,000 at least), and over that sample it is counted
    what words are usual. Of two products with one id the first counts. docs/synthetic-queries.md has the recipes.

    Raises TrainingError where no query is asked for, where there is no product, and where no title has a word.
    """
    if count < 1:
        raise TrainingError(f"{count} synthetic queries were asked for: ask for 1 or more")
    sample = _sample(products, max(count, _SMALLEST_SAMPLE), seed)
    if not sample:
        raise TrainingError(
            "the catalog has no products to make synthetic queries from: rebuild it from its feed first"
        )
    titles = [read_words(product.title) for product in sample]
    catalog = CatalogWords(titles, [read_brand(product) for product in sample])
    facts = [read_facts(product, title, catalog) for product, title in zip(sample, titles, strict=True)]
    made: dict[str, SyntheticQuery] = {}
    tries = 0
    while len(made) < count and tries < _TRIES * (len(made) + len(sample)):
        turn, place = divmod(tries, len(sample))
        product_id = sample[place].id
        random = Random(_hash(f"{seed}/{turn}/{product_id}"))  # noqa: S311  # nothing here is secret
        _make(product_id, QueryWriter(facts[place], catalog, random), made)
        tries += 1
    if not made:
        raise TrainingError(f"none of {len(sample):,} products has a word to ask for it with: give them titles")
    return list(made.values())


def _make(product_id: str, shopper: QueryWriter, made: dict[str, SyntheticQuery]) -> None:
    """Puts one query into `made` (by folded text), from the first recipe drawn that gives a new one, if any does."""
    errs = shopper.random.random() < TYPO_SHARE
    for name in _drawn(shopper.random):
        words = respell(tuple(dict.fromkeys(RECIPES[name].make(shopper))), shopper.catalog, shopper.random)
        typed = mistype(words, shopper.random) if errs else words
        text = " ".join(phrase(typed).split()[:MAX_WORDS])
        key = fold(text)
        if key not in made and (len(text) > 1 or contains_chinese(text)):
            made[key] = SyntheticQuery(text, product_id, name if typed == words else name + TYPO)
            return


def _drawn(random: Random) -> list[str]:
    """The recipes' names in an order drawn by their shares (see `Shopper.telling`)."""
    keys = {name: random.random() ** (1.0 / recipe.share) for name, recipe in RECIPES.items()}
    return sorted(keys, key=keys.__getitem__, reverse=True)


def _sample(products: Iterable[Product], size: int, seed: int) -> list[Product]:
    kept: list[tuple[int, str]] = []
    found: dict[tuple[int, str], Product] = {}
    for product in products:
        key = -_hash(f"{seed}/{product.id}"), product.id
        if key in found:
            continue
        if len(kept) < size:
            heapq.heappush(kept, key)
        elif key > kept[0]:
            del found[heapq.heapreplace(kept, key)]
        else:
            continue
        # Queries are made from nothing of these, and they are most of a product.
        found[key] = replace(product, description="", images=(), variants=())
    return [found[key] for key in sorted(kept, reverse=True)]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


_USUAL_NAME = 3
"""A word asks for a product by itself when it names so many of the sample."""
_NUMBERS_SHARE = 0.12
"""How often the numbers of a title are read too where a recipe takes words from it: shoppers type few of them."""
_EARLY = 4
"""Places behind which a word's weight has halved: titles say what matters first."""


@dataclass(frozen=True, slots=True)
class QueryWriter:
    """Someone who looks for one product: what is known of it and of its catalog, and the draws that are made."""

    facts: ProductFacts
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
        words = [word for word in self.facts.title if word.kind is not WordKind.JOINING]
        return [word for word in words if numbers or word.kind is WordKind.WORD] or words

    def draw_words(self, words: Sequence[Word], count: int) -> Words:
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


Make = Callable[[QueryWriter], Words]
"""Makes the words of one query; none where the product lacks what the recipe needs."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to ask, and its share of the queries were every product and every text good for it."""

    share: float
    make: Make


def _only_word(shopper: QueryWriter) -> Words:
    usual = [word for word in shopper.title() if shopper.catalog.frequency(word.text) >= _USUAL_NAME]
    return shopper.draw_words([word for word in usual if not shopper.catalog.names_nothing(word.text)], 1)


def _brand_kind(shopper: QueryWriter) -> Words:
    kind = shopper.kind(0.35, 0.5, 0.15)
    return (*shopper.facts.brand, *kind) if shopper.facts.brand and kind else ()


def _trait_kind(shopper: QueryWriter) -> Words:
    kind = shopper.kind(0.3, 0.5, 0.2)
    traits = [trait for trait in shopper.facts.traits if not set(trait) & set(kind)]
    if not traits or not kind:
        return ()
    trait = shopper.random.choice(traits)
    return (*kind, *trait) if shopper.random.random() < 0.15 else (*trait, *kind)


def _size_kind(shopper: QueryWriter) -> Words:
    kind = shopper.kind(0.3, 0.5, 0.2)
    if not shopper.facts.sizes or not kind:
        return ()
    size = shopper.random.choice(shopper.facts.sizes[:2])
    return (*kind, size) if shopper.random.random() < 0.35 else (size, *kind)


def _kind_complement(shopper: QueryWriter) -> Words:
    kind = shopper.kind(0.4, 0.5, 0.1)
    if not shopper.facts.complements or not kind:
        return ()
    joining, *behind = shopper.random.choice(shopper.facts.complements)
    return (*kind, joining, *behind[: shopper.number(0.4, 0.4, 0.2)])


def _model(shopper: QueryWriter) -> Words:
    if not shopper.facts.models:
        return ()
    model = shopper.random.choice(shopper.facts.models)
    companion = shopper.random.choices((shopper.facts.brand, shopper.kind(0.6, 0.4), ()), (0.35, 0.25, 0.4))[0]
    return (*companion, model)


def _modified_kind(shopper: QueryWriter) -> Words:
    kind = shopper.kind(0.5, 0.5)
    own = remove_words(shopper.title(), (*shopper.facts.brand, *kind))
    chosen = shopper.draw_words(own, shopper.number(0.7, 0.3))
    return (*chosen, *kind) if chosen and kind else ()


def _some_words(shopper: QueryWriter) -> Words:
    return shopper.draw_words(shopper.title(), 1 + shopper.number(0.4, 0.4, 0.2))


def _shuffled_words(shopper: QueryWriter) -> Words:
    words = list(_some_words(shopper))
    shopper.random.shuffle(words)
    return tuple(words)


def _span(shopper: QueryWriter) -> Words:
    words = remove_words(shopper.title(), shopper.facts.brand) or shopper.title()
    if not words:
        return ()
    length = min(1 + shopper.number(0.5, 0.35, 0.15), len(words))
    start = shopper.random.randint(0, len(words) - length)
    return tuple(word.text for word in words[start : start + length])


def _opening(shopper: QueryWriter) -> Words:
    return tuple(word.text for word in shopper.title()[: 1 + shopper.number(0.4, 0.4, 0.2)])


RECIPES: Mapping[str, Recipe] = {
    "kind": Recipe(0.26, lambda shopper: shopper.kind(0.35, 0.45, 0.2)),
    "brand": Recipe(0.02, lambda shopper: shopper.facts.brand),
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
    "most-words": Recipe(
        0.02, lambda shopper: shopper.draw_words(shopper.title(), 3 + shopper.number(0.4, 0.3, 0.2, 0.1))
    ),
    "opening": Recipe(0.01, _opening),
}
"""Name to recipe. A kind with a word or two before it, which shoppers type most, is tried most often."""


_PLURAL_SHARE = 0.08
_COMPOUND_SHARE = 0.08
_BARE_SHARE = 0.2
"""How often another form is typed where there is one; of codes, how often their signs are left out."""
_KNOWN = 3
"""A half or a whole of a compound is a word when so many titles of the sample have it."""
_SHORTEST = 4
"""Letters of a word that gets a typing error or another number."""
_METRIC = ("mm", "cm", "m", "kg", "g", "ml", "l", "ah", "mah", "w", "kw", "v", "mb", "gb", "tb", "hz", "mhz", "ghz")
"""Units that are written close to their number or apart from it, and in no other way."""
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "in": (" in", " inch", "in", '"', ""),
    "ft": (" ft", " foot", "ft", "'", ""),
    "gal": (" gal", " gallon", "gal"),
    "lb": (" lb", " lbs", "lb"),
    "oz": (" oz", " ounce", "oz"),
    "volt": (" volt", "v", " v"),
    "amp": (" amp", " amps", "amp"),
    "watt": (" watt", "w", " watts"),
    **{unit: (f" {unit}", unit) for unit in _METRIC},
}
"""A unit as titles have it to its spellings behind a number."""
_SAME = {"inch": "in", '"': "in", "foot": "ft", "'": "ft", "gallon": "gal"}
_UNIT = re.compile(rf"""(?<=[0-9])[ -]?(?:(["'])|({"|".join((*_SPELLINGS, *filter(str.isalpha, _SAME)))})\b)\.?""")
_SPACE_BEFORE_UNIT = re.compile("(?<=[0-9]) (?=[a-z])")
"""What nobody types between Chinese words."""
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def respell(words: Words, catalog: CatalogWords, random: Random) -> Words:
    """Spells the words as a shopper may, without an error."""
    spelled = tuple(_number(word, random) if any(map(str.isdigit, word)) else word for word in words)
    if any(map(contains_chinese, words)):
        spelled = tuple(_SPACE_BEFORE_UNIT.sub("", word) for word in spelled)
    if random.random() < _COMPOUND_SHARE:
        spelled = _other_compound(spelled, catalog, random)
    if random.random() < _PLURAL_SHARE:
        spelled = _other_plural(spelled, catalog)
    return spelled


def mistype(words: Words, random: Random) -> Words:
    """Puts one typing error into one word of English letters; the words as they are where there is none."""
    places = [place for place, word in enumerate(words) if _is_plain(word) and len(word) >= _SHORTEST]
    if not places:
        return words
    place = random.choice(places)
    return (*words[:place], _typo(words[place], random), *words[place + 1 :])


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalpha()


def _number(word: str, random: Random) -> str:
    """A quantity or a model number as a shopper writes it."""
    if _UNIT.search(word) or " " in word:
        return with_other_units(word, random)
    if random.random() >= _BARE_SHARE:
        return word
    return word.replace(",", "").replace("-", " " if word[0].isdigit() else "")


def with_other_units(text: str, random: Random) -> str:
    """A text with the units behind its numbers spelled as another shopper may."""
    # One choice for the whole, so that both sides of "24 in. x 80 in." are spelled alike.
    choice = random.random()

    def unit(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        spellings = _SPELLINGS[_SAME.get(name, name)]
        return spellings[int(choice * len(spellings))]

    spelled = _UNIT.sub(unit, text)
    return spelled if choice < 0.5 else re.sub("(?<=[0-9\"']) x (?=[0-9])", "x", spelled)


def _other_compound(words: Words, catalog: CatalogWords, random: Random) -> Words:
    """One compound of the query taken apart, or two neighbours made one, where titles have that too."""
    choices = [*_apart(words, catalog), *_together(words, catalog)]
    return random.choice(choices) if choices else words


def _apart(words: Words, catalog: CatalogWords) -> Iterator[Words]:
    for place, word in enumerate(words):
        for cut in range(3, len(word) - 2):
            halves = word[:cut], word[cut:].lstrip("-")
            if word.isascii() and all(catalog.frequency(half) >= _KNOWN and half not in JOINING for half in halves):
                yield (*words[:place], *halves, *words[place + 1 :])


def _together(words: Words, catalog: CatalogWords) -> Iterator[Words]:
    for place in range(len(words) - 1):
        whole = words[place] + words[place + 1]
        if _is_plain(whole) and catalog.frequency(whole) >= _KNOWN:
            yield (*words[:place], whole, *words[place + 2 :])


def _other_plural(words: Words, catalog: CatalogWords) -> Words:
    """The last word in singular for plural or the other way, where titles have that."""
    *before, last = words or ("",)
    if not _is_plain(last) or len(last) < _SHORTEST:
        return words
    for other in (last.removesuffix("es"), last.removesuffix("s"), f"{last}s", f"{last}es"):
        if other != last and catalog.frequency(other):
            return (*before, other)
    return words


def _typo(word: str, random: Random) -> str:
    at = random.randrange(1, len(word))
    before, letter, behind = word[:at], word[at], word[at + 1 :]
    others = (
        before + behind,
        before + letter + letter + behind,
        before[:-1] + letter + before[-1] + behind,
        before + random.choice(_adjacent_keys(letter)) + behind,
    )
    return random.choice(others)


def _adjacent_keys(letter: str) -> str:
    if letter.isupper():
        return _adjacent_keys(letter.lower()).upper()
    row = next(row for row in _ROWS if letter in row)
    at = row.index(letter)
    return row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
