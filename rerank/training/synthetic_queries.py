"""Queries that shoppers of a store might type, made from its own catalog: what a ranker is distilled on."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

import xxhash

from rerank.training.query_catalog import CatalogWords
from rerank.training.query_facts import read_brand, read_facts
from rerank.training.query_recipes import RECIPES, Shopper
from rerank.training.query_spelling import mistype, respell
from rerank.training.query_words import phrase, read_words
from retrieval.errors import TrainingError
from retrieval.records import Product
from retrieval.textfold import contains_chinese, fold

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
        _make(product_id, Shopper(facts[place], catalog, random), made)
        tries += 1
    if not made:
        raise TrainingError(f"none of {len(sample):,} products has a word to ask for it with: give them titles")
    return list(made.values())


def _make(product_id: str, shopper: Shopper, made: dict[str, SyntheticQuery]) -> None:
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
    """The `size` products whose ids hash lowest, in that order: a sample that no order of reading changes."""
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
