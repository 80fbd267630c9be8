"""Products that a merchandiser's rules keep out are not suggested, on the demo store and in Chinese."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indexer.build import RebuildOptions, rebuild
from retrieval.records import Product
from service.curation.rules import Hide, Match, Pin, Restrict, Rule, When
from service.engine.engine import SearchEngine
from service.engine.spelling import TypedText
from tests.catalogs import write_feed
from tests.conftest import ENCODER

CATALOG = (
    Product("both", "Drill driver", brand="Bosch", rating_count=9),
    Product("bit", "Drill bit set", brand="Makita", rating_count=8),
    Product("drill", "Cordless drill", brand="Bosch", rating_count=7),
    Product("driver", "Impact driver", brand="Makita", rating_count=6),
    Product("cn", "无线电钻", brand="牧田", rating_count=5),
    Product("set", "Socket set", brand="Bosch", rating_count=4),
)


@pytest.fixture(scope="module")
def index(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hidden")
    feed = write_feed(folder / "products.jsonl", CATALOG)
    rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER))
    return folder / "index"


@pytest.fixture
def store(index: Path, tmp_path: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(shutil.copytree(index, tmp_path / "index")) as opened:
        yield opened


def suggested(store: SearchEngine, text: str) -> list[str]:
    return [each.product.id for each in store.suggest(text, size=20).products]


def hide(store: SearchEngine, *products: str, when: When | None = None) -> None:
    store.rules.put([Rule("hide", (Hide(products),), when or When())])


def test_what_is_hidden_everywhere_is_not_suggested(store: SearchEngine) -> None:
    assert suggested(store, "dri") == ["both", "bit", "drill", "driver"]
    hide(store, "both", "bit")
    assert suggested(store, "dri") == ["drill", "driver"]
    store.rules.patch("hide", {"enabled": False})
    assert suggested(store, "dri") == ["both", "bit", "drill", "driver"]


def test_a_hidden_product_makes_room_for_the_next(store: SearchEngine) -> None:
    hide(store, "both")
    assert [each.product.id for each in store.suggest("dri", size=2).products] == ["bit"]


@pytest.mark.parametrize("typed", ["d", "dri", "drill", "Drills", "drill ", "drlil"])
def test_a_query_hides_before_it_is_typed_to_its_end(store: SearchEngine, typed: str) -> None:
    hide(store, "bit", when=When("drill", Match.CONTAINS))
    assert "drill" in suggested(store, typed)
    assert "bit" not in suggested(store, typed)


def test_an_exact_query_hides_too(store: SearchEngine) -> None:
    hide(store, "bit", "drill", when=When("drill", Match.EXACT))
    assert suggested(store, "dril") == ["both"]
    assert suggested(store, "cordless dril") == ["drill"], "that query is another one"


def test_another_query_hides_nothing(store: SearchEngine) -> None:
    """The title has the words of the rule, but nobody types them."""
    hide(store, "bit", when=When("drill", Match.CONTAINS))
    assert suggested(store, "set") == ["bit", "set"]
    assert suggested(store, "bit s") == ["bit"]
    assert suggested(store, "bit set dr") == []


def test_each_word_that_may_be_typed_counts(store: SearchEngine) -> None:
    hide(store, "both", when=When("driver", Match.CONTAINS))
    assert suggested(store, "dri") == ["bit", "drill", "driver"]
    assert suggested(store, "drill") == ["both", "bit", "drill"]


def test_what_a_rule_restricts_a_query_to_is_suggested_alone(store: SearchEngine) -> None:
    store.rules.put([Rule("bosch", (Restrict("brand = Bosch"),), When("drill", Match.CONTAINS))])
    assert suggested(store, "drill") == ["both", "drill"]
    assert suggested(store, "driv") == ["both", "driver"]


def test_a_filter_hides_by_what_a_product_is_now(store: SearchEngine) -> None:
    store.rules.put([Rule("gone", (Hide(filters="availability = out_of_stock"),))])
    assert suggested(store, "cordless") == ["drill"]
    store.patch("drill", availability="out_of_stock")
    assert suggested(store, "cordless") == []
    store.patch("drill", availability="in_stock")
    assert suggested(store, "cordless") == ["drill"]


@pytest.mark.parametrize("typed", ["电", "电钻", "线电"])
def test_a_chinese_query_hides_before_it_is_typed_to_its_end(store: SearchEngine, typed: str) -> None:
    assert suggested(store, typed) == ["cn"]
    hide(store, "cn", when=When("电钻", Match.CONTAINS))
    assert suggested(store, typed) == []
    assert suggested(store, "牧") == ["cn"]


def test_the_rules_of_what_was_typed_and_of_what_was_meant_hold(store: SearchEngine) -> None:
    assert store.suggest("impcat dri").corrected == "impact dri"
    assert suggested(store, "impcat dri") == ["driver"]
    hide(store, "driver", when=When("impact driver", Match.EXACT))
    assert suggested(store, "impcat dri") == []
    hide(store, "driver", when=When("impcat", Match.CONTAINS))
    assert suggested(store, "impcat dri") == []
    assert suggested(store, "impact dri") == ["driver"]


def test_rules_that_have_ended_and_pins_change_nothing(store: SearchEngine) -> None:
    over = When(ends=datetime.now(UTC) - timedelta(days=1))
    store.rules.put([Rule("over", (Hide(("both",)),), over), Rule("pin", (Pin(("driver",)),))])
    assert suggested(store, "dri") == ["both", "bit", "drill", "driver"]


@pytest.mark.parametrize(
    ("typed", "text", "queries"),
    [
        ("cordless dri", "Cordless Drill driver", ("cordless drill", "cordless driver")),
        ("dri ", "Drill", ()),
        ("hammer", "Drill", ()),
        ("d", "da db dc dd de", ("da", "db", "dc", "dd")),
        ("线电", "无线电钻充电", ("线电钻",)),
        ("", "Drill", ()),
    ],
)
def test_what_a_text_may_become_by_another(typed: str, text: str, queries: tuple[str, ...]) -> None:
    assert TypedText(typed).completed_by(text) == queries
