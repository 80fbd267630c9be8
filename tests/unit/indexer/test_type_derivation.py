"""Derivation of types from a whole catalog: a model's name after the head is no type."""

from __future__ import annotations

import numpy as np
import pytest

from shelfwise.indexer.type_derivation import TitlePhrases, TitleReader, derive_types, read_titles
from shelfwise.retrieval.records import Product

KINDS = ("Hair Dryer", "Frying Pan", "Desk Lamp")
MODELS = ("Kelda", "Ivara", "Ulver", "Hollis")


def titles_of(products: list[Product]) -> TitlePhrases:
    return read_titles(lambda work: [work(products)], range(len(products)), TitleReader())


def catalog(*, with_categories: bool) -> list[Product]:
    """Each kind in each model, with the model's name before or after it."""
    products: list[Product] = []
    for kind in KINDS:
        for model in MODELS:
            for title in (f"{kind} {model}", f"{model} {kind}", f"{model} Red {kind} for Home"):
                category = ("Home", f"{kind}s") if with_categories else ()
                products.append(Product(str(len(products)), title, category=category))
    return products


@pytest.mark.parametrize("with_categories", [True, False])
def test_head_is_the_word_with_similar_products(with_categories: bool) -> None:
    products = catalog(with_categories=with_categories)
    random = np.random.default_rng(3)
    kinds = np.repeat(np.eye(len(KINDS), 16), len(products) // len(KINDS), axis=0)
    vectors = (kinds + random.normal(0, 0.05, kinds.shape)).astype(np.float32)
    types = derive_types(titles_of(products), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    named = [types.name_of(row).split()[-1] for row in range(len(products))]
    assert named == ["dryer"] * 12 + ["pan"] * 12 + ["lamp"] * 12
    by_category = [types.phrases[number] if number >= 0 else () for number in types.by_category.tolist()]
    assert by_category[0] == (("hair", "dryer") if with_categories else ())


def test_titles_without_a_noun_have_no_type() -> None:
    types = derive_types(titles_of([Product("a", "12"), Product("b", "7")]), np.eye(2, 8, dtype=np.float32))
    assert [types.name_of(row) for row in (0, 1)] == ["", ""]


def test_head_before_quantities_is_the_one_of_many_titles() -> None:
    models = ("Kelda", "Ivara", "Ulver", "Hollis", "Brisk", "Ottar")
    titles = [f'{model} Notebook Black 39.6 cm (15.6") 8 GB Windows 10 Home' for model in models]
    titles += [f"{model} 4 ft. Shop Light" for model in models]
    types = derive_types(titles_of([Product(title, title) for title in titles]), np.eye(len(titles), dtype=np.float32))
    assert {types.name_of(row).split()[-1] for row in range(6)} == {"notebook"}
    assert {types.name_of(row) for row in range(6, 12)} == {"shop light"}
