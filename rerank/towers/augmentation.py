"""Other spellings of what is trained on, so that less of it is learned by heart. All of it is off by default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from rerank.training.query_spelling import mistype
from rerank.training.query_words import phrase, read_words
from retrieval.records import Product

_LEAST_LEFT = 3
"""Words that a title keeps: of fewer nothing could be told."""


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """Shares of examples, each drawn on its own."""

    typos: float = 0.0
    """Whose query gets a typing error, where it has a word of four English letters."""
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

    def query(self, text: str) -> str:
        """A query as it is read this time."""
        if self._random.random() >= self._options.typos:
            return text
        return " ".join(mistype(tuple(text.split()), self._random))

    def positive(self, query: str, product: Product) -> Product:
        """What answers it, as it is read this time."""
        if self._random.random() < self._options.fields:
            product = self._without_fields(product)
        return _unlike(query, product) if self._random.random() < self._options.unlike else product

    def _without_fields(self, product: Product) -> Product:
        keeps = [self._random.random() < 0.5 for _ in range(3)]
        return replace(
            product,
            brand=product.brand if keeps[0] else "",
            category=product.category if keeps[1] else (),
            description=product.description if keeps[2] else "",
        )


def _unlike(query: str, product: Product) -> Product:
    asked = {word.text for word in read_words(query)}
    left = [word.text for word in read_words(product.title) if word.text not in asked]
    return replace(product, title=phrase(left)) if len(left) >= _LEAST_LEFT else product
