"""The first searches of a new user: products of a kind before its accessories, no hits for meaningless queries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.records import Page, Product
from shelfwise.service.engine.engine import SearchEngine
from tests.catalogs import write_feed
from tests.conftest import ENCODER

_NOTEBOOKS = [
    f"{maker} {line} Notebook PC Black {size} cm Intel Core {core} {memory} GB"
    for maker, line, size, core, memory in itertools.product(
        ("Arvano", "Belnor"), ("Pro 440", "Air 13", "Note 15"), (33.8, 39.6), ("i3", "i5", "i7"), (8, 16)
    )
]
_OTHERS = [
    f"{maker} {kind}"
    for maker, kind in itertools.product(
        ("Kessel", "Urbano", "Targa", "Mofix", "Lindor", "Parvo"),
        (
            "Neoprene Laptop Sleeve 15.6 in. Black",
            "Laptop Backpack 17.3 in. Gray",
            "Laptop Lock with Key",
            "Laptop Privacy Filter 15 in.",
            "Laser Printer 28 ppm 1200 dpi",
            "Inkjet Photo Printer A4",
            "Black Toner Cartridge for Laser Printer, 3000 pages",
            "Printer Cable USB 2 m",
            "Internal Solid State Drive 2.5 in. 480 GB",
            "Hard Drive 3.5 in. 2 TB",
            "Wireless Mouse 1600 dpi",
            "Mechanical Keyboard, Backlit",
            "24 in. Monitor Full HD",
            "Anti-glare Screen Protector Desktop/Laptop Universal",
            "Monitor Stand with Drawer",
            "Garden Hose 20 m",
            "Hose Nozzle with 8 Patterns",
            "Cordless Drill 18 V",
            "Drill Bit Set for Cordless Drill, 10 pieces",
            "Stainless Steel Pan 24 cm",
            "Glass Lid for Pan 24 cm",
            "Hiking Backpack 40 L",
            "Rain Cover for Backpack",
            "Ball Point Pen, blue",
        ),
    )
]


@pytest.fixture(scope="module")
def office(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    """A store whose titles say notebook, and laptop only for accessories."""
    folder = tmp_path_factory.mktemp("office")
    titles = [*_NOTEBOOKS, *_OTHERS]
    feed = write_feed(
        folder / "products.jsonl",
        [Product(f"p{at:03}", title, brand=title.split()[0], price=10.0 + at) for at, title in enumerate(titles)],
    )
    rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER))
    with SearchEngine.open(folder / "index", follow=False) as engine:
        yield engine


def titles(page: Page) -> list[str]:
    return [hit.product.title for hit in page.hits]


@pytest.mark.parametrize("stage", ["merged", "ranked"])
@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("laptop", "Notebook"),
        ("i7 laptop", "Notebook"),
        ("arvano laptop 15 inch", "Notebook"),
        ("17 inch gaming laptop", "Notebook"),
        ("cheap laptop", "Notebook"),
        ("printer", "Printer"),
        ("laser printer", "Laser Printer"),
        ("toner for laser printer", "Toner"),
        ("cordless drill", "Cordless Drill 18"),
        ("drill bits for cordless drill", "Drill Bit"),
        ("laptop sleeve", "Sleeve"),
    ],
)
def test_a_kind_of_product_comes_before_its_accessories(
    office: SearchEngine, query: str, kind: str, stage: str
) -> None:
    found = titles(office.search(query, size=5, stage=stage))
    assert [kind in title for title in found] == [True] * 5, found


def test_many_accessories_nearest_to_a_query_do_not_change_its_type(cache: Path, tmp_path: Path) -> None:
    """Short titles that repeat the query are nearer to it than those of the products that it names."""
    drills = [f"Kelda {number} Cordless Drill with Keyless Chuck, Belt Clip and Lamp, Ruby" for number in range(12)]
    made = [f"Cordless Drill Battery {number}Ah" for number in range(1, 25)] + drills
    feed = write_feed(tmp_path / "products.jsonl", [Product(f"p{at:03}", title) for at, title in enumerate(made)])
    rebuild(tmp_path / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER))
    with SearchEngine.open(tmp_path / "index", follow=False) as engine:
        assert all("Kelda" in title for title in titles(engine.search("cordless drill", size=8, stage="merged")))


@pytest.mark.parametrize("query", ["15.6 inch laptop", "laptop 15.6 inch"])
def test_a_size_that_accessories_have_does_not_hide_the_kind(
    query: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the nearest products were laptop bags and a "Desktop/Laptop" protector of the size, not notebooks."""
    monkeypatch.setattr("shelfwise.service.engine.candidates.DENSE_DEPTH", 20)
    others = [title for title in _OTHERS if "Desktop/Laptop" not in title]
    made = [*_NOTEBOOKS, *others, "15.6 in. Protector Desktop/Laptop", "15.6 in. Filter Desktop/Laptop"]
    feed = write_feed(tmp_path / "products.jsonl", [Product(f"p{at:03}", title) for at, title in enumerate(made)])
    rebuild(tmp_path / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER))
    with SearchEngine.open(tmp_path / "index", follow=False) as engine:
        assert all("Notebook" in title for title in titles(engine.search(query, size=5, stage="merged")))


def test_products_of_a_type_are_candidates_behind_many_accessories(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.service.engine.candidates.KEYWORD_DEPTH", 20)
    monkeypatch.setattr("shelfwise.service.engine.candidates.DENSE_DEPTH", 20)
    mice = [f"Kelda {number} Wireless Ergonomic Mouse with Silent Click, Large, Grey" for number in range(12)]
    made = [f"Mouse Pad for Computer Mouse {number}" for number in range(50)] + mice
    feed = write_feed(tmp_path / "products.jsonl", [Product(f"p{at:03}", title) for at, title in enumerate(made)])
    rebuild(tmp_path / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER))
    with SearchEngine.open(tmp_path / "index", follow=False) as engine:
        assert all("Kelda" in title for title in titles(engine.search("mouse", size=10, stage="merged")))
        found = engine.search("mouse", size=10, stage="merged", filters='id != "p055"')
        assert sum("Kelda" in title for title in titles(found)) == 10


def test_totals_count_fitting_products_and_cheapest_drill_is_a_drill(office: SearchEngine) -> None:
    page = office.search("cordless drill", size=50)
    assert page.total < 30
    assert not any("Pan" in title or "Pen" in title for title in titles(page))
    cheapest = office.search("cordless drill", sort="price")
    assert cheapest.product_type == "cordless drill"
    assert sorted(titles(cheapest)) == sorted(title for title in titles(page) if "Cordless Drill 18" in title)
