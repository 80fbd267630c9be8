"""Duplicates and siblings in quality reports."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.quality import duplicates as module
from shelfwise.indexer.quality.rules import QualityCheck, QualityRule
from shelfwise.retrieval.records import Product
from tests.quality_rows import failing, judged, rule

EXACT = rule("product", QualityCheck.NO_COPIES)
NEAR = rule("product", QualityCheck.NO_NEAR_COPIES)
WORDS = "light oak table with four legs and a drawer for cutlery made by hand in a small shop near the sea since 1950"
TABLE = Product(
    "a",
    "Oak table 120",
    WORDS,
    brand="Holz",
    price=100.0,
    identifiers={"sku": ("1",), "ean": ("4006381333931",)},
    attributes={"colour": "Oak"},
)


def both(one: Product, other: Product, folder: Path) -> tuple[list[str], list[str]]:
    products = [one, replace(other, id="b")]
    return failing(products, EXACT, folder / "exact"), failing(products, NEAR, folder / "near")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "exact"),
        ({"identifiers": {"sku": ("2",), "ean": ("4006381333931",)}}, "exact"),
        ({"price": 101.0}, "near"),
        ({"brand": "HOLZ"}, "near"),
        ({"description": WORDS + " now"}, "near"),
        ({"title": "Table, oak: 120"}, "near"),
        ({"identifiers": {}}, "near"),
        ({"attributes": {"colour": "oak", "legs": 4.0}}, "near"),
        ({"description": WORDS + " and far more than that, which nobody would call the same"}, ""),
        ({"title": "Oak table 140"}, ""),
        ({"brand": "Wood"}, ""),
        ({"attributes": {"colour": "Walnut"}}, ""),
        ({"identifiers": {"ean": ("4006381333948",)}}, ""),
    ],
)
def test_duplicates_are_exact_near_or_none(changes: dict[str, object], expected: str, tmp_path: Path) -> None:
    found = both(TABLE, replace(TABLE, **changes), tmp_path)  # type: ignore[arg-type]
    assert found == {"exact": (["b"], []), "near": ([], ["b"]), "": ([], [])}[expected]


def test_later_product_is_the_duplicate_and_names_the_first(tmp_path: Path) -> None:
    products = [replace(TABLE, id=name) for name in "cab"]
    _, found = judged(products, [EXACT], tmp_path)
    failures = found.failures[EXACT.name]
    assert [(one.id, one.line, one.value) for one in failures.examples] == [("b", 3, "like a"), ("c", 1, "like a")]
    assert (failures.count, found.groups[EXACT.name]) == (2, 1)


def test_chinese_duplicates_are_found(tmp_path: Path) -> None:
    pan = Product(
        "a",
        "红木茶几客厅小户型",
        "纯手工打造，结实耐用，适合小客厅使用，送货上门并免费安装，质保三年，支持七天无理由退货。",
    )
    assert both(pan, replace(pan, description=f"{pan.description}好"), tmp_path) == ([], ["b"])
    assert both(pan, replace(pan, title="白色电脑椅办公室用"), tmp_path / "other") == ([], [])


def test_comparisons_of_equal_products_are_bounded(tmp_path: Path) -> None:
    _, found = judged([replace(TABLE, id=f"{at:04d}") for at in range(1_000)], [EXACT, NEAR], tmp_path)
    assert found.failures[EXACT.name].count == 999
    assert NEAR.name not in found.failures
    assert found.pairs < 6_000


def test_pairs_beyond_the_bound_are_counted_as_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS", 10)
    _, found = judged([replace(TABLE, id=f"{at:04d}") for at in range(100)], [EXACT], tmp_path)
    assert found.pairs == 10
    assert found.unchecked > 300


def products() -> st.SearchStrategy[list[tuple[str, ...]]]:
    numbers = st.sampled_from(("1", "01", "2", "3-4", "34", "", "A b"))
    return st.lists(st.lists(numbers, max_size=3).map(tuple), max_size=30)


@given(products(), st.integers(1, 40))
def test_shared_values_match_a_brute_force_oracle(numbers: list[tuple[str, ...]], batch: int) -> None:
    import tempfile

    one = rule("identifiers.mpn", QualityCheck.UNIQUE)
    rows = [Product(f"{at:03d}", "T", identifiers={"mpn": each}) for at, each in enumerate(numbers)]
    holders: dict[str, set[str]] = defaultdict(set)
    for product in rows:
        for value in product.identifiers["mpn"]:
            key = "".join(filter(str.isalnum, value)).lower().lstrip("0")
            if key:
                holders[key].add(product.id)
    expected = sorted(set().union(*(held for held in holders.values() if len(held) > 1)))
    with tempfile.TemporaryDirectory() as folder:
        _, found = judged(rows, [one], Path(folder), batch=batch)
    failures = found.failures.get(one.name)
    assert (failures.count if failures else 0) == len(expected)
    assert [example.id for example in failures.examples] == expected[:10] if failures else not expected


@pytest.mark.parametrize(
    ("one", "first", "second", "meet"),
    [
        (rule("title", QualityCheck.UNIQUE), Product("a", "Oak  Table"), Product("b", "oak table"), True),
        (rule("title", QualityCheck.UNIQUE), Product("a", "Oak Table"), Product("b", "Oak Tables"), False),
        (
            rule("gtin", QualityCheck.UNIQUE),
            Product("a", "A", identifiers={"upc": ("036000291452",)}),
            Product("b", "B", identifiers={"ean": ("0036000291452",)}),
            True,
        ),
        (
            rule("attributes.slug", QualityCheck.UNIQUE),
            Product("a", "A", attributes={"slug": "x"}),
            Product("b", "B", attributes={"slug": "x"}),
            True,
        ),
    ],
)
def test_spellings_of_a_value_are_equal(
    one: QualityRule, first: Product, second: Product, meet: bool, tmp_path: Path
) -> None:
    assert failing([first, second], one, tmp_path) == (["a", "b"] if meet else [])


def test_repeated_identifier_in_one_product_is_not_shared(tmp_path: Path) -> None:
    product = Product("a", "A", identifiers={"ean": ("4006381333931",), "gtin": ("04006381333931",)})
    assert failing([product], rule("gtin", QualityCheck.UNIQUE), tmp_path) == []


def lamps(seed: int, count: int) -> dict[str, Product]:
    """Variants, copies and near copies of lamps, by id."""
    drawn, made = random.Random(seed), {}
    for number in range(count):
        title = f"Holz {drawn.choice(['Oslo', 'Bergen'])} Desk Lamp {drawn.choice(['120', '140'])}"
        colour = drawn.choice(["", " Red", " Green"])
        described = f"{WORDS} {drawn.choice(['now', 'then', ''])}"
        made[f"{number:03d}"] = Product(f"{number:03d}", title + colour, described, brand="Holz")
    return made


@given(seed=st.integers(0, 1_000), changes=st.integers(0, 12))
def test_earlier_comparisons_are_reused(seed: int, changes: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, drawn = tmp_path_factory.mktemp("catalogs"), random.Random(seed)
    before = lamps(seed, 30)
    now = dict(before)
    for number in drawn.sample(range(34), changes):
        one = f"{number:03d}"
        if now.pop(one, None) is None or drawn.random() < 0.5:
            now[one] = lamps(seed + 1, 34)[one]
    earlier, later = list(before.values()), list(now.values())
    judged(earlier, [EXACT, NEAR], folder / "before")
    _, fresh = judged(later, [EXACT, NEAR], folder / "fresh")
    _, taken = judged(later, [EXACT, NEAR], folder / "taken", before=(earlier, folder / "before"))
    assert taken.siblings.tolist() == fresh.siblings.tolist()
    assert (taken.failures, taken.groups, taken.pairs) == (fresh.failures, fresh.groups, fresh.pairs)
    for name in ("pairs.npy", "leaders.npy"):
        assert np.load(folder / "taken" / name).tolist() == np.load(folder / "fresh" / name).tolist()


def groups(titles: Sequence[str | Product], folder: Path) -> list[int]:
    """The group of each product; products are numbered in the order of the titles."""
    products = [
        replace(each, id=f"{at:03d}") if isinstance(each, Product) else Product(f"{at:03d}", each)
        for at, each in enumerate(titles)
    ]
    found: list[int] = judged(products, [rule("product", QualityCheck.NO_COPIES)], folder)[1].siblings.tolist()
    return found


@pytest.mark.parametrize(
    "titles",
    [
        ("Prepac 36 in. Wall-Mounted Coat Rack in White", "Prepac 60 in. Wall-Mounted Coat Rack in Black"),
        ("Delta Vero Bath Faucet in Oil Rubbed Bronze", "Delta Vero Bath Faucet, Chrome"),
        ("Gorilla Original Glue, 8 ounce Bottle", "Gorilla Original Glue, 2 ounce Bottle"),
        (
            "Formufit PVC Furniture Cross (8-Pack)",
            "Formufit PVC Furniture Cross",
            "Formufit PVC Furniture Cross 10 pcs",
        ),
        ("Runner's Trail Shoe - Size 6", "Runner's Trail Shoe, Size 11"),
        ("Crystal Heart Beaded Small", "BEADED CRYSTAL HEART LARGE"),
        ("Torvane Drill TV2481 (20V)", "Torvane Drill TV2481 (12V)"),
        ("步岚 半夏 连帽卫衣 M码 曜石黑", "步岚 半夏 连帽卫衣 XL码 白色"),
        (
            Product("", "Tomcat Fish Recipe", brand="Purr", attributes={"flavor": "Fish"}),
            Product("", "Tomcat Duck Recipe", brand="Purr", attributes={"flavor": "Duck"}),
        ),
        (
            Product("", "one", attributes={"item_group_id": "g1"}),
            Product("", "quite another title", attributes={"item_group_id": "g1"}),
        ),
    ],
)
def test_variants_form_a_group(titles: Sequence[str | Product], tmp_path: Path) -> None:
    assert groups(["Unrelated Garden Gnome Statue", *titles], tmp_path) == [0] + [1] * len(titles)


@pytest.mark.parametrize(
    "titles",
    [
        ("HP 122A Original Toner Black", "HP 123A Original Toner Cyan"),
        ("Lexmark 40X3698 spare part Roller", "Lexmark 40X2822 spare part Roller"),
        ("Canon 8X25 IS binocular Porro", "Canon 15x50 IS binocular Porro"),
        ("Greatest Hits - CD Album", "Greatest Hits - CD Album, Vol. II"),
        ("Lexmark Return Roller 001A-7", "Lexmark Return Roller 002A-7"),
        ("Sharp Sensor Microwave 1000 Watt", "Sharp Sensor Microwave 1200 Watt"),
        ("Acme Mug, Red", "Acme Mug, Blue"),
        ('LETTER "A" BLING KEY RING', 'LETTER "L" BLING KEY RING'),
        (
            Product("", "Sony Earbud Headphones, Black", "neodymium magnets, 13.5mm drivers and a gold plated plug"),
            Product("", "Sony Earbud Headphones, White", "rechargeable sport model that clips behind both ears"),
        ),
        (
            Product("", "same title, 5 ft", attributes={"item_group_id": "g1"}),
            Product("", "same title, 6 ft", attributes={"item_group_id": "g2"}),
        ),
    ],
)
def test_different_products_form_no_group(titles: Sequence[str | Product], tmp_path: Path) -> None:
    assert groups(titles, tmp_path) == [0, 1]


def test_equal_titles_are_a_group_only_where_the_products_are_copies(tmp_path: Path) -> None:
    album = Product("", "Greatest Hits - CD Album", identifiers={"ean": ("4006381333931",)})
    other = replace(album, identifiers={"ean": ("9780201379624",)})
    assert groups([album, album, other], tmp_path) == [0, 0, 2]


def test_duplicates_join_the_groups_of_variants(tmp_path: Path) -> None:
    red = Product("", "Torvane Magnetic Tape Measure, Red")
    assert groups([red, replace(red, title="Torvane Magnetic Tape Measure, Blue"), red, "Other"], tmp_path) == [
        0,
        0,
        0,
        3,
    ]
