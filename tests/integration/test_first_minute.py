"""The first searches of a new user: products of a kind before its accessories, and words that titles lack."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from shelfwise.retrieval.records import Page, Product
from shelfwise.service.curation.synonyms import Synonym, SynonymKind
from shelfwise.service.engine.engine import SearchEngine
from tests.clusters import moved, settings_for

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
def office(build_index: Callable[..., Path]) -> Iterator[SearchEngine]:
    """A store whose titles say notebook, and laptop only for accessories."""
    titles = enumerate([*_NOTEBOOKS, *_OTHERS])
    products = [Product(f"p{at:03}", title, brand=title.split()[0], price=10.0 + at) for at, title in titles]
    with SearchEngine.open(build_index(products), follow=False) as engine:
        yield engine


@pytest.fixture
def first_titles(build_index: Callable[..., Path]) -> Callable[..., list[str]]:
    """The titles of the first hits of a query, merged, in a store with products of given titles."""

    def search(products: Sequence[str], query: str, size: int, filters: str = "") -> list[str]:
        index = build_index(Product(f"p{at:03}", title) for at, title in enumerate(products))
        with SearchEngine.open(index, follow=False) as engine:
            return titles(engine.search(query, size=size, stage="merged", filters=filters))

    return search


FirstTitles = Callable[..., list[str]]


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


def test_many_accessories_nearest_to_a_query_do_not_change_its_type(first_titles: FirstTitles) -> None:
    """Short titles that repeat the query are nearer to it than those of the products that it names."""
    drills = [f"Kelda {number} Cordless Drill with Keyless Chuck, Belt Clip and Lamp, Ruby" for number in range(12)]
    batteries = [f"Cordless Drill Battery {number}Ah" for number in range(1, 25)]
    assert all("Kelda" in title for title in first_titles(batteries + drills, "cordless drill", 8))


@pytest.mark.parametrize("query", ["15.6 inch laptop", "laptop 15.6 inch"])
def test_a_size_that_accessories_have_does_not_hide_the_kind(
    query: str, first_titles: FirstTitles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the nearest products were laptop bags and a "Desktop/Laptop" protector of the size, not notebooks."""
    monkeypatch.setattr("shelfwise.service.engine.candidates.DENSE_DEPTH", 20)
    others = [title for title in _OTHERS if "Desktop/Laptop" not in title]
    store = [*_NOTEBOOKS, *others, "15.6 in. Protector Desktop/Laptop", "15.6 in. Filter Desktop/Laptop"]
    assert all("Notebook" in title for title in first_titles(store, query, 5))


def test_products_of_a_type_are_candidates_behind_many_accessories(
    first_titles: FirstTitles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.service.engine.candidates.KEYWORD_DEPTH", 20)
    monkeypatch.setattr("shelfwise.service.engine.candidates.DENSE_DEPTH", 20)
    mice = [f"Kelda {number} Wireless Ergonomic Mouse with Silent Click, Large, Grey" for number in range(12)]
    store = [f"Mouse Pad for Computer Mouse {number}" for number in range(50)] + mice
    for filters in ("", 'id != "p055"'):
        assert sum("Kelda" in title for title in first_titles(store, "mouse", 10, filters=filters)) == 10


def test_totals_count_fitting_products_and_cheapest_drill_is_a_drill(office: SearchEngine) -> None:
    page = office.search("cordless drill", size=50)
    assert page.total < 30
    assert not any("Pan" in title or "Pen" in title for title in titles(page))
    cheapest = office.search("cordless drill", sort="price")
    assert cheapest.product_type == "cordless drill"
    assert sorted(titles(cheapest)) == sorted(title for title in titles(page) if "Cordless Drill 18" in title)


NOTEBOOKS = (
    "HP Compaq 615 Notebook PC 39.6 cm (15.6) 1366 x 768 pixels AMD Athlon 2 GB DDR2-SDRAM 160 GB",
    "HP EliteBook 6930p Notebook PC",
    "HP ProBook 4510s Notebook PC",
    "HP Compaq 6715b AMD Turion 64 X2 TL-58 1024M/160G 15.4 WXGA DVD+/-RW DL WVST Bus Notebook PC",
    "DELL Inspiron 3583 Notebook Black 39.6 cm (15.6) 1366 x 768 pixels 8th gen Intel® Core™ i5 8 GB DDR4-SDRAM",
    "MSI Gaming GE75 10SFS-212CA Raider Notebook Black 43.9 cm (17.3) 1920 x 1080 pixels",
    "ASUSPRO P2540FA-C73P-CA notebook Black 39.6 cm (15.6) 1920 x 1080 pixels 10th gen Intel® Core™ i7",
    "Gigabyte AERO 17 XB-7US1130SH Notebook Black 43.9 cm (17.3) 1920 x 1080 pixels 10th gen Intel® Core™ i7",
)
OTHERS = (
    "Kensington Saddlebag Sport Laptop Backpack - 17/43.3cm",
    "Kensington MicroSaver® Duo Ultra Laptop Lock",
    "Kensington Simply Portable 15.6'' Laptop Sleeve- Black",
    "Urban Factory Neoprene Laptop Sleeve 18.4 Black",
    "Targus Laptop privacy filter screen 15",
    "Targus TSS075EU notebook case 22.6 cm (8.9) Sleeve case Beige",
    "Targus TBC002EU notebook case 40.6 cm (16) Briefcase Black",
    "HP KU533AA notebook spare part Battery",
    "Targus AWE04EU notebook stand Gray, Silver 43.2 cm (17)",
    "Targus 17” Laptop Slip Case notebook case 43.2 cm (17) Briefcase Black",
    "HP L1506 15-inch LCD Monitor",
    "HP LaserJet P2055dn Printer",
)


@pytest.fixture(scope="module")
def index(build_index: Callable[..., Path]) -> Path:
    return build_index(Product(f"p{at:02}", title) for at, title in enumerate((*OTHERS, *NOTEBOOKS)))


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)])
def engine(index: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SearchEngine]:
    with contextlib.ExitStack() as stack:
        settings, index = None, Path(shutil.copytree(index, tmp_path / "index"))
        if request.param == "elasticsearch":
            settings = settings_for(request.getfixturevalue("elasticsearch"))
            index = stack.enter_context(moved(index, tmp_path / "moved", settings))
        yield stack.enter_context(SearchEngine.open(index, settings=settings))


def notebooks(engine: SearchEngine, query: str) -> int:
    """Number of notebooks among the first eight hits."""
    hits = engine.search(query, size=8, stage="merged", correct=False).hits
    return sum(hit.product.title in NOTEBOOKS for hit in hits)


def test_synonym_of_a_rarer_word_leaves_other_query_unchanged(engine: SearchEngine) -> None:
    """Regression: `laptop` was unchanged, and `notebook` found laptop cases: the rarer word decided both orders."""
    before = {query: notebooks(engine, query) for query in ("laptop", "notebook")}
    engine.synonyms.put([Synonym("laptop", SynonymKind.TWO_WAY, ("laptop", "notebook"))])
    assert notebooks(engine, "laptop") > before["laptop"]
    assert notebooks(engine, "notebook") >= before["notebook"] >= 6


def test_synonym_frequencies_are_requested_once(engine: SearchEngine) -> None:
    engine.synonyms.put([Synonym("laptop", SynonymKind.TWO_WAY, ("laptop", "notebook pc"))])
    counts = [engine.connection.round_trips]
    for query in ("laptop", "laptop sleeve", "red laptop"):
        engine.search(query, correct=False, stage="merged")
        counts.append(engine.connection.round_trips)
    first, *others = np.diff(counts).tolist()
    # If few products have both words, those with one word are also requested.
    assert (first, others) in ((2, [2, 2]), (0, [0, 0]))
