"""Synthetic queries for distillation, generated from product titles (brand, kind, traits, sizes, model numbers,
complements)."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import xxhash

from shelfwise.rerank.training.query_text import (
    COMPLEMENT_WORDS,
    JOINING,
    MIN_LETTERS,
    UNIT,
    Word,
    WordKind,
    is_plain,
    mistype,
    phrase,
    read_words,
    with_other_units,
)
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.records import AttributeValue, Product
from shelfwise.retrieval.text import units
from shelfwise.retrieval.text.analysis import contains_chinese, fold

_BRAND_TITLES = 3
_BRAND_SHARE = 0.7
"""The minimum number of titles that start with a brand word, and the minimum share of the titles that contain it."""
_LONGEST_BRAND = 3
_TINTS = 3


class CatalogWords:
    """Word counts over the titles of a sample of products; `brands` are the folded brands or empty."""

    def __init__(self, titles: Sequence[Sequence[Word]], brands: Sequence[tuple[str, ...]]) -> None:
        self._titles = len(titles)
        self.frequency: Counter[str] = Counter()
        """The number of titles that have each word."""
        self.heads: Counter[str] = Counter()
        """The number of titles in which each word ends a run of words that may name the product."""
        self._tints: Counter[str] = Counter()
        self._openings: Counter[tuple[str, ...]] = Counter()
        self._sequences: Counter[tuple[str, ...]] = Counter()
        for title in titles:
            self._count_words(title)
        for title, brand in zip(titles, brands, strict=True):
            self._count_names(remove_words(title, brand or self.brand(title)))

    def idf(self, word: str) -> float:
        """ln(1 + titles / titles with the word)."""
        return math.log1p(self._titles / max(self.frequency[word], 1))

    def names_nothing(self, word: str) -> bool:
        """Whether the word only describes: a colour or finish (follows "in" in titles), unit, letter or code."""
        tints = self._tints[word]
        tint = tints >= _TINTS and tints * 4 > self.heads[word]
        return tint or word in units.WORDS or (word.isascii() and len(word) == 1) or any(map(str.isdigit, word))

    def brand(self, title: Sequence[Word]) -> tuple[str, ...]:
        """The longest prefix of a title that begins titles as often as a brand does; may be empty."""
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
        everywhere = self.frequency[words[0]] if len(words) == 1 else self._sequences[words]
        # A frequent continuation is part of the brand; a rare one names a series.
        continues = len(words) == 1 or times >= _BRAND_SHARE * self._openings[words[:-1]]
        return times >= _BRAND_TITLES and times >= _BRAND_SHARE * everywhere and continues

    def _count_words(self, title: Sequence[Word]) -> None:
        texts = tuple(word.text for word in title)
        self.frequency.update(set(texts))
        for length in range(1, min(_LONGEST_BRAND, len(texts)) + 1):
            self._openings[texts[:length]] += 1
        for length in range(2, _LONGEST_BRAND + 1):
            self._sequences.update({texts[at : at + length] for at in range(len(texts) - length + 1)})

    def _count_names(self, title: Sequence[Word]) -> None:
        self.heads.update({head for run in runs(title) for head in run_heads(run)})
        for first, *behind in complements(title):
            if first == "in":
                self._tints[behind[-1]] += 1


def remove_words(title: Sequence[Word], brand: tuple[str, ...]) -> list[Word]:
    """The words of a title without those of the brand."""
    return [word for word in title if word.text not in brand]


def runs(title: Sequence[Word]) -> Iterator[list[Word]]:
    """The runs of plain words of a title that may name the product. A sign, a number, a model number or a joining
    word ends a run; words in brackets or after "with", "for" or "in" are skipped."""
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
    """Words of a run that may name a product: its last, and in Chinese every noun that no noun follows."""
    for word, following in pairwise(run):
        if word.noun and not following.noun:
            yield word.text
    yield run[-1].text


def complements(title: Sequence[Word], longest: int = 3) -> Iterator[tuple[str, ...]]:
    """The phrases after each "for", "with" or "in" up to the next sign or joining word, including that word."""
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
"""Minimum number of sample titles that contain each word of a usable attribute value."""
_KIND_ATTRIBUTES = frozenset({"product type", "item type", "类型", "品类", "产品类型"})
_MODEL_IDENTIFIERS = frozenset({"mpn", "model", "sku"})
_COMPANY_FORMS = frozenset({"ag", "co", "company", "corp", "corporation", "gmbh", "inc", "llc", "ltd"})
_BETWEEN_KINDS = re.compile(r"\s*(?:[&,/>|、]|\band\b)\s*")
_BETWEEN_TRAITS = re.compile(r"\s*[,/;|、]\s*")


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """Parts of queries for one product. Any may be empty."""

    title: tuple[Word, ...]
    """The title's words, including the brand."""
    brand: Words
    kinds: tuple[Words, ...]
    """Names of the product with the words before them in the title: ("wood", "attic", "ladder")."""
    traits: tuple[Words, ...]
    """Colours, materials and similar."""
    sizes: Words
    models: Words
    complements: tuple[Words, ...]
    """Complements, including the joining word."""


def read_brand(product: Product) -> Words:
    """The brand of a product's record, as a shopper types it; may be empty."""
    words = [word.text for word in read_words(product.brand) if word.text not in _COMPANY_FORMS]
    return tuple(words[:_LONGEST_BRAND])


def read_facts(product: Product, title: Sequence[Word], catalog: CatalogWords) -> ProductFacts:
    """Reads the facts of a product; `title` are its title's words."""
    brand = read_brand(product) or catalog.brand(title)
    own = remove_words(title, brand)
    behind = tuple(complements(own))
    finishes = (words[1:] for words in behind if words[0] == "in" and not words[1][0].isdigit())
    traits = tuple(dict.fromkeys((*_attribute_traits(product, catalog), *finishes)))
    models = (word.text for word in own if word.kind is WordKind.MODEL)
    quantities = (word.text for word in own if word.kind is WordKind.QUANTITY)
    return ProductFacts(
        title=tuple(title),
        brand=brand,
        kinds=tuple(dict.fromkeys((*_named_kinds(product), *_title_kinds(own, traits, catalog)))),
        traits=traits,
        sizes=tuple(dict.fromkeys(text for text in quantities if text.strip("0123456789.,/- "))),
        models=tuple(dict.fromkeys((*models, *_model_identifiers(product)))),
        complements=tuple(words for words in behind if words[0] != "in"),
    )


def _attribute_traits(product: Product, catalog: CatalogWords) -> Iterator[Words]:
    for name, value in product.attributes.items():
        if _is_kind(name):
            continue
        for text in _texts(value):
            words = read_words(text)
            plain = all(word.kind is WordKind.WORD and not word.after_break for word in words)
            usual = all(catalog.frequency[word.text] >= _USUAL for word in words)
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
    """The likeliest name of the product in its title: the run whose last word names the most products. In Chinese, all
    names, each with the words after the previous one."""
    described = {text for trait in traits for text in trait}
    names: list[Words] = []
    for run in runs(title):
        texts = [word.text for word in run]
        if any(word.noun for word in run):
            yield from _parted(texts, set(run_heads(run)))
            continue
        while len(texts) > 1 and (texts[-1] in described or catalog.names_nothing(texts[-1])):
            texts.pop()
        names.append(tuple(texts[-_LONGEST_KIND:]))
    if names:
        yield max(names, key=lambda name: (not catalog.names_nothing(name[-1]), catalog.heads[name[-1]]))


def _parted(texts: Sequence[str], heads: AbstractSet[str]) -> Iterator[Words]:
    start = 0
    for end, text in enumerate(texts, 1):
        if text in heads:
            yield tuple(texts[max(start, end - _LONGEST_KIND) : end])
            start = end


MAX_WORDS = 10
"""Maximum words of a query, split at spaces."""
TYPO = "+typo"
"""Suffix of the recipe name of a query with a typing error."""
TYPO_SHARE = 0.05
_SMALLEST_SAMPLE = 20_000
_TRIES = 10
"""Tries per product and per query so far without a new query after which generation ends."""


@dataclass(frozen=True, slots=True)
class SyntheticQuery:
    """A synthetic query, the product that it was made from (others may match as well), and its recipe."""

    text: str
    product_id: str
    recipe: str
    """A name in RECIPES, with the suffix TYPO for a typing error."""


def synthetic_queries(products: Iterable[Product], count: int, seed: int) -> list[SyntheticQuery]:
    """Generates `count` queries that differ when folded; fewer if the catalog is exhausted. The result depends on
    the catalog and the seed, not on the order of the products. Products are read once; memory holds a sample as
    large as the number of queries (at least 20,000), on which word statistics are computed. Of two products with the
    same id, the first counts. docs/rankers.md has the recipes. Raises TrainingError if no query is
    requested, or there is no product or no title with a word."""
    if count < 1:
        raise TrainingError(f"{count} synthetic queries were requested: request 1 or more")
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
        raise TrainingError(f"none of {len(sample):,} products has a word for a query: add titles")
    return list(made.values())


def _make(product_id: str, shopper: QueryWriter, made: dict[str, SyntheticQuery]) -> None:
    """Adds one query to `made` (by folded text), from the first drawn recipe that makes a new one."""
    errs = shopper.random.random() < TYPO_SHARE
    # In random order, weighted by their shares.
    keys = {name: shopper.random.random() ** (1.0 / recipe.share) for name, recipe in RECIPES.items()}
    for name in sorted(keys, key=keys.__getitem__, reverse=True):
        words = respell(tuple(dict.fromkeys(RECIPES[name].make(shopper))), shopper.catalog, shopper.random)
        typed = mistype(words, shopper.random) if errs else words
        text = " ".join(phrase(typed).split()[:MAX_WORDS])
        key = fold(text)
        if key not in made and (len(text) > 1 or contains_chinese(text)):
            made[key] = SyntheticQuery(text, product_id, name if typed == words else name + TYPO)
            return


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
        # Queries do not use these fields, which are the largest part of a product.
        found[key] = replace(product, description="", images=(), variants=())
    return [found[key] for key in sorted(kept, reverse=True)]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


_USUAL_NAME = 3
"""Minimum number of sample products of a word that is a query by itself."""
_NUMBERS_SHARE = 0.12
"""Probability that recipes use the numbers of a title."""
_EARLY = 4
"""Half-life of a word's weight in positions: titles put important words first."""


@dataclass(frozen=True, slots=True)
class QueryWriter:
    """Draws the parts of a query for one product."""

    facts: ProductFacts
    catalog: CatalogWords
    random: Random

    def number(self, *shares: float) -> int:
        """A number from 1 on, drawn by the shares."""
        return self.random.choices(range(1, len(shares) + 1), shares)[0]

    def kind(self, *shares: float) -> Words:
        """The product's name, with the number of words drawn by the shares; at least two for an unusual name."""
        if not self.facts.kinds:
            return ()
        words = self.number(*shares)
        kind = self.random.choice(self.facts.kinds)
        if words == 1 and self.catalog.heads[kind[-1]] < _USUAL_NAME:
            words = 2
        return kind[-words:]

    def title(self) -> list[Word]:
        """Meaningful words of the title, mostly without those that have digits."""
        numbers = self.random.random() < _NUMBERS_SHARE
        words = [word for word in self.facts.title if word.kind is not WordKind.JOINING]
        return [word for word in words if numbers or word.kind is WordKind.WORD] or words

    def draw_words(self, words: Sequence[Word], count: int) -> Words:
        """Draws different words by idf and position, in title order; none of one character."""
        # Weighted sampling without replacement by the largest u^(1/weight): Efraimidis & Spirakis 2006.
        drawn: dict[str, float] = {}
        for place, word in enumerate(words):
            # Initials and fragments of Chinese words are rare and would be drawn often.
            if len(word.text) == 1:
                continue
            weight = self.catalog.idf(word.text) / (place + _EARLY)
            drawn.setdefault(word.text, self.random.random() ** (1.0 / weight))
        best = sorted(drawn, key=drawn.__getitem__, reverse=True)[:count]
        return tuple(text for text in drawn if text in best)


Make = Callable[[QueryWriter], Words]
"""Returns the words of one query; none if the product lacks what the recipe needs."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A query pattern, and its share of the queries if it always succeeded."""

    share: float
    make: Make


def _only_word(shopper: QueryWriter) -> Words:
    usual = [word for word in shopper.title() if shopper.catalog.frequency[word.text] >= _USUAL_NAME]
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
    "opening": Recipe(
        0.01, lambda shopper: tuple(word.text for word in shopper.title()[: 1 + shopper.number(0.4, 0.4, 0.2)])
    ),
}
"""Recipes by name. A kind with a word or two before it is the most common."""


_PLURAL_SHARE = 0.08
_COMPOUND_SHARE = 0.08
_BARE_SHARE = 0.2
"""Probability of another spelling; for codes, of leaving out their signs."""
_KNOWN = 3
"""Minimum number of sample titles for a word from splitting or joining a compound."""
_SPACE_BEFORE_UNIT = re.compile("(?<=[0-9]) (?=[a-z])")
"""Separators omitted between Chinese words."""


def respell(words: Words, catalog: CatalogWords, random: Random) -> Words:
    """Spells the words in another correct form."""
    spelled = tuple(_number(word, random) if any(map(str.isdigit, word)) else word for word in words)
    if any(map(contains_chinese, words)):
        spelled = tuple(_SPACE_BEFORE_UNIT.sub("", word) for word in spelled)
    if random.random() < _COMPOUND_SHARE:
        spelled = _other_compound(spelled, catalog, random)
    if random.random() < _PLURAL_SHARE:
        spelled = _other_plural(spelled, catalog)
    return spelled


def _number(word: str, random: Random) -> str:
    if UNIT.search(word) or " " in word:
        return with_other_units(word, random)
    if random.random() >= _BARE_SHARE:
        return word
    return word.replace(",", "").replace("-", " " if word[0].isdigit() else "")


def _other_compound(words: Words, catalog: CatalogWords, random: Random) -> Words:
    """Splits one compound or joins two words, if titles have that form too."""
    choices = [*_apart(words, catalog), *_together(words, catalog)]
    return random.choice(choices) if choices else words


def _apart(words: Words, catalog: CatalogWords) -> Iterator[Words]:
    for place, word in enumerate(words):
        for cut in range(3, len(word) - 2):
            halves = word[:cut], word[cut:].lstrip("-")
            if word.isascii() and all(catalog.frequency[half] >= _KNOWN and half not in JOINING for half in halves):
                yield (*words[:place], *halves, *words[place + 1 :])


def _together(words: Words, catalog: CatalogWords) -> Iterator[Words]:
    for place in range(len(words) - 1):
        whole = words[place] + words[place + 1]
        if is_plain(whole) and catalog.frequency[whole] >= _KNOWN:
            yield (*words[:place], whole, *words[place + 2 :])


def _other_plural(words: Words, catalog: CatalogWords) -> Words:
    """Changes the number of the last word, if titles have that form."""
    *before, last = words or ("",)
    if not is_plain(last) or len(last) < MIN_LETTERS:
        return words
    for other in (last.removesuffix("es"), last.removesuffix("s"), f"{last}s", f"{last}es"):
        if other != last and catalog.frequency[other]:
            return (*before, other)
    return words
