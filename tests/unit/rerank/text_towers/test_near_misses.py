"""Which products near to each other are of another size or type."""

from __future__ import annotations

import pytest

from rerank.text_towers.negatives import is_near_miss, traits_of
from retrieval.records import Product


def misses(one: Product, other: Product) -> bool:
    found = is_near_miss(traits_of(one), traits_of(other))
    assert found == is_near_miss(traits_of(other), traits_of(one))
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Stud 2 in. x 4 in. x 8 ft.", "Stud 2 in. x 4 in. x 10 ft."),
        ("Stud 2 in. x 4 in. x 8 ft.", "Stud 2 in. x 6 in. x 8 ft."),
        ("Rug 8 x 8 ft", "Rug 8 x 10 ft"),
        ("Drill 18V with charger", "Drill, 12-volt"),
        ("Lamp (2-pack)", "Lamp, pack of LED, 4 packs"),
        ("Phone 64GB black", "Phone 128 GB black"),
        ("不锈钢锅 20厘米", "不锈钢锅 24 cm"),
        ('Pan 12" steel', "Pan 1/2 in. steel"),
    ],
)
def test_of_another_size(one: str, other: str) -> None:
    assert misses(Product("a", one), Product("b", other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # The same, spelled in another way.
        ("Stud 1/2 in. x 8 ft.", "Stud 0.5 inch x 8 feet"),
        ("Drill 18V, battery 18V", "Drill 18 volts"),
        # One tells more than the other.
        ("Stud 2 in. x 4 in. x 8 ft.", "Stud 8 ft."),
        ("Stud 2 x 4 x 8 ft.", "Stud 2 in. x 4 in. x 8 ft."),
        ("Drill 18V", "Drill 2.0 Ah"),
        ("Drill 18V", "Drill"),
        # No unit: a model, a year, a share of something.
        ("Drill 2024", "Drill 2025"),
        ("Drill DCD771C2", "Drill DCD796D2"),
        ("Oil 3-in-1", "Oil 2-in-1"),
    ],
)
def test_of_no_other_size(one: str, other: str) -> None:
    assert not misses(Product("a", one), Product("b", other))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("Tools", "Drills"), ("Tools", "Saws"), True),
        (("Tools", "Drills"), ("Garden", "DRILLS"), False),
        (("Tools", "Drills"), ("Tools",), False),
        (("Tools", "Drills"), ("Tools", "Drills", "Cordless"), False),
        (("Tools", "Drills"), (), False),
        ((), (), False),
    ],
)
def test_of_another_type(one: tuple[str, ...], other: tuple[str, ...], expected: bool) -> None:
    assert misses(Product("a", "red", category=one), Product("b", "blue", category=other)) == expected


def test_one_title_is_one_product() -> None:
    assert not misses(Product("a", "Drill 18V", category=("Drills",)), Product("b", "DRILL  18V", category=("Drills",)))
    assert not misses(Product("a", "Drill", category=("Drills",)), Product("b", "DRILL", category=("Saws",)))
