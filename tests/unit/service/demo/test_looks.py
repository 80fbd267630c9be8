"""Looks of the demo store: in pictures and queries, not in texts."""

from __future__ import annotations

import pytest

from shelfwise.service.demo.catalog import make_catalog
from shelfwise.service.demo.drawings import PLAIN, drawing_of
from shelfwise.service.demo.grammar import GRAMMARS
from shelfwise.service.demo.looks import look_of, make_look_queries

CATALOG = make_catalog(7, 400)
LOOKS = {item.product.id: look_of(item, 7) for item in CATALOG.products}


def test_every_kind_has_a_drawing() -> None:
    assert all(drawing_of(kind.names) for grammar in GRAMMARS for kind in grammar.types)
    with pytest.raises(KeyError, match="there is no drawing of Zeppelin"):
        drawing_of(("Zeppelin",))


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
