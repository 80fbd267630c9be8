"""Looks of the demo store: in pictures and queries, not in texts."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shelfwise.service.demo.catalog import make_catalog
from shelfwise.service.demo.drawings import COLOURS, DOTS, PLAIN, STRIPES, Look, draw, drawing_of
from shelfwise.service.demo.grammar import GRAMMARS
from shelfwise.service.demo.looks import look_of, make_look_queries, picture_of

CATALOG = make_catalog(7, 400)
LOOKS = {item.product.id: look_of(item, 7) for item in CATALOG.products}


def test_every_kind_has_a_drawing() -> None:
    assert all(drawing_of(kind.names) for grammar in GRAMMARS for kind in grammar.types)
    with pytest.raises(KeyError, match="there is no drawing of Zeppelin"):
        drawing_of(("Zeppelin",))


def test_drawing_shows_colour_and_pattern() -> None:
    def middle(look: Look) -> np.ndarray:
        return np.asarray(draw(("T-Shirt",), look, np.random.default_rng(3)))[70:110, 65:95].reshape(-1, 3)

    plain = middle(Look("Red"))
    assert np.abs(plain.mean(0) - COLOURS["Red"]).max() < 40
    assert plain.std(0).max() < 3
    assert all(middle(Look("Red", pattern)).std(0).max() > 20 for pattern in (STRIPES, DOTS))


def test_no_text_names_a_pattern() -> None:
    assert sum(look.pattern != PLAIN for look in LOOKS.values()) > 50
    texts = " ".join(f"{item.product.title} {item.product.description}" for item in CATALOG.products).lower()
    assert not [word for word in ("striped", "polka", "checkered", "zigzag", "条纹", "波点") if word in texts]


def test_queries_match_pictures() -> None:
    queries = make_look_queries(CATALOG, LOOKS, 7)
    assert {each.query.split for each in queries} == {"train", "dev", "test"}
    for each in queries:
        best = [
            CATALOG.products[at]
            for at, grade in zip(each.judged.positions, each.judged.grades, strict=True)
            if grade == 3
        ]
        assert best, each.query.text
        for requirement in each.query.intent.requirements:
            assert all(requirement.is_met(item) for item in best)


def test_pictures_are_the_same_each_time() -> None:
    item = CATALOG.products[0]
    first, second = (picture_of(item, LOOKS[item.product.id], 7) for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (160, 160))
