"""Product groups: variants and copies are grouped, two models of a maker are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from shelfwise.indexer.quality.rules import QualityCheck
from shelfwise.retrieval.records import Product
from tests.quality_rows import judged, rule


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


def test_groups_do_not_depend_on_batches(tmp_path: Path) -> None:
    products = [Product(f"{at:03d}", f"Torvane Garden Hose {at % 7} {at} ft") for at in range(40)]
    checks = [rule("product", QualityCheck.NO_COPIES)]
    whole, parts = (judged(products, checks, tmp_path / str(size), batch=size)[1].siblings for size in (100, 7))
    assert whole.tolist() == parts.tolist() == [at % 7 for at in range(40)]
