"""Other spellings of what is trained on, so that less of it is learned by heart. All of it is off by default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from rerank.training.query_spelling import mistype, with_other_units
from rerank.training.query_words import phrase, read_words
from retrieval.records import Product
from retrieval.textfold import fold

_LEAST_LEFT = 3
"""Words that a title keeps: of fewer nothing could be told."""


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """Shares of examples, each drawn on its own."""

    typos: float = 0.0
    """Whose query gets a typing error, where it has a word of four English letters."""
    units: float = 0.0
    """Whose query has the units behind its numbers spelled in another way, where it has such."""
    brands: float = 0.0
    """Whose query is asked without its positive's brand, where it names that and something else."""
    fields: float = 0.0
    """Whose positive is read without its brand, category or description, each being left out every other time."""
    unlike: float = 0.0
    """Whose positive is read without the words of its query, so that its other words have to tell (the inverse cloze
    task: Lee et al. 2019, Latent Retrieval for Weakly Supervised Open Domain Question Answering, section 4)."""


class Augmentation:
    """Draws for one example after the other, from a seed."""

    def __init__(self, options: AugmentOptions, seed: str) -> None:
        self._options = options
        self._random = Random(seed)  # noqa: S311 - nothing here is secret

    def query(self, text: str, product: Product) -> str:
        """A query as it is read this time, `product` being what answers it."""
        if self._is_drawn(self._options.brands):
            text = _without_brand(text, product.brand)
        if self._is_drawn(self._options.units):
            text = with_other_units(text, self._random)
        return " ".join(mistype(tuple(text.split()), self._random)) if self._is_drawn(self._options.typos) else text

    def positive(self, query: str, product: Product) -> Product:
        """What answers it, as it is read this time."""
        if self._is_drawn(self._options.fields):
            product = self._without_fields(product)
        return _unlike(query, product) if self._is_drawn(self._options.unlike) else product

    def _is_drawn(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    def _without_fields(self, product: Product) -> Product:
        keeps = [self._random.random() < 0.5 for _ in range(3)]
        return replace(
            product,
            brand=product.brand if keeps[0] else "",
            category=product.category if keeps[1] else (),
            description=product.description if keeps[2] else "",
        )


def _without_brand(query: str, brand: str) -> str:
    """A query that has all words of a brand without them; as it is where nothing else would be left."""
    named, words = set(fold(brand).split()), query.split()
    left = [word for word in words if fold(word) not in named]
    return " ".join(left) if left and named and named <= set(fold(query).split()) else query


def _unlike(query: str, product: Product) -> Product:
    asked = {word.text for word in read_words(query)}
    left = [word.text for word in read_words(product.title) if word.text not in asked]
    return replace(product, title=phrase(left)) if len(left) >= _LEAST_LEFT else product
