"""From the store page to training: one shopper's events in a browser, and the preferences of three hundred shoppers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from shelfwise.rerank.sessions.cleaning import RejectReason
from shelfwise.rerank.sessions.refresh import RefreshResult
from shelfwise.rerank.sessions.tables import DerivedTables, open_derived
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.settings import Settings
from shelfwise.service.training.derived_tables import DerivedTablesManager
from tests.browsers import Visit, served, visiting
from tests.machine import within

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SETTINGS = Settings(backend="embedded")


@pytest.fixture
def store(demo_index: Path, tmp_path: Path) -> Iterator[SearchEngine]:
    root = Path(shutil.copytree(demo_index, tmp_path / "store"))
    with SearchEngine.open(root, settings=SETTINGS) as engine:
        yield engine


@pytest.fixture
def address(store: SearchEngine) -> Iterator[str]:
    with served(store) as url:
        yield url


def recorded(store: SearchEngine) -> Counter[str]:
    with EventLog.open(store.root, SETTINGS) as log:
        return Counter(kind for table in log.store.read(0, 100_000) for kind in table["kind"].cast(pl.String))


def tables(store: SearchEngine, after: timedelta = timedelta()) -> tuple[RefreshResult, DerivedTables]:
    with EventLog.open(store.root, SETTINGS) as log:
        made = DerivedTablesManager(store.root, log, SETTINGS.events, clock=lambda: datetime.now(UTC) + after)
        return made.refresh(), open_derived(made.folder)


def pseudonym(store: SearchEngine, visit: Visit) -> str:
    name = json.loads(visit.page.evaluate("localStorage.getItem('shelfwise.visitor')"))
    with EventLog.open(store.root, SETTINGS) as log:
        return log.intake.pseudonyms.shopper(name)


def sent_events(visit: Visit, *kinds: str) -> list[dict[str, Any]]:
    visit.settle()  # events of requests arrive only while waiting for the browser
    return [each for body in visit.bodies("/v1/events") for each in body["events"] if each["kind"] in kinds]


def searched(visit: Visit, query: str) -> list[str]:
    visit.page.goto(f"/?q={query}")
    visit.results(f"“{query}”")
    return visit.ids()


def bought(visit: Visit) -> None:
    visit.page.locator("#basket-link").click()
    visit.settle()  # the lines are rendered again when their products arrive
    visit.page.get_by_role("button", name="Buy").click()
    visit.page.get_by_role("heading", name="Thank you").wait_for()


def chosen_and_bought(visit: Visit, query: str, place: int) -> str:
    """Searches, opens the hit at a position, puts it into the basket and buys it; returns its id."""
    product = searched(visit, query)[place - 1]
    visit.page.locator(".hits .card h2 a").nth(place - 1).click()
    visit.page.locator(".product h1").wait_for()
    visit.page.locator(".product-text .add").click()
    bought(visit)
    return product


def rows(table: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return table.select(pl.col(each).cast(pl.String) if each == "kind" else each for each in columns).rows()


def test_page_events_of_a_shopper_are_read_by_learning(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address, consent=True) as visit:
        shown = searched(visit, "set")
        visit.page.get_by_role("link", name="Next").click()
        visit.page.wait_for_url("**page=2")
        visit.results("“set”")
        assert within(60, lambda: visit.ids() != shown)
        deeper = visit.ids()
        visit.page.locator(".hits .card h2 a").nth(1).click()
        visit.page.locator(".product h1").wait_for()
        product = chosen_and_bought(visit, "tent", 3)
        assert within(60, lambda: recorded(store)["purchase"] == 1)
        name = pseudonym(store, visit)
        tent = store.search("tent", size=24, group="variants")
        expected = [(hit.product.id, place) for place, hit in enumerate(tent.hits, 1)]
    refreshed, derived = tables(store)
    lists = derived.lists().filter(pl.col("kind") == "impression")
    by_answer = {key[0]: rows(table, "product_id", "position") for key, table in lists.group_by("query_id")}
    assert sorted(by_answer.values()) == sorted(
        [
            [(each, place) for place, each in enumerate(shown, 1)],
            [(each, place) for place, each in enumerate(deeper, len(shown) + 1)],
            [(each, place) for each, place in expected],
        ]
    )
    acts = derived.lists().filter(pl.col("kind") != "impression")
    answer = next(key for key, found in by_answer.items() if found == expected)
    assert rows(acts.filter(pl.col("query") == "tent"), "query_id", "product_id", "position", "kind", "shopper") == [
        (answer, product, 3, kind, name) for kind in ("click", "cart", "purchase")
    ]
    assert rows(acts.filter(pl.col("query") == "set"), "product_id", "position", "kind") == [
        (deeper[1], len(shown) + 2, "click")
    ]
    history = derived.acts().filter(pl.col("shopper") == name)
    assert rows(history, "product_id", "kind") == [
        (deeper[1], "click"),
        (deeper[1], "consultation"),
        *[(product, kind) for kind in ("click", "consultation", "cart", "purchase")],
    ]
    assert refreshed.rejected == {}
    assert refreshed.flagged_sessions == 0
    assert derived.sessions.height == 1


def test_cart_from_results_is_attributed_to_the_search(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address, consent=True) as visit:
        visit.page.goto("/")
        visit.page.locator("#search input[name=q]").fill("tent")
        visit.results("“tent”")  # typed, but not yet recorded as a search
        product = visit.ids()[4]
        visit.page.locator(".hits .card").nth(4).locator(".add").click()
        bought(visit)
        assert within(60, lambda: recorded(store)["purchase"] == 1)
    refreshed, derived = tables(store)
    acts = derived.lists().filter(pl.col("kind") != "impression")
    assert rows(acts, "query", "product_id", "position", "kind") == [
        ("tent", product, 5, "cart"),
        ("tent", product, 5, "purchase"),
    ]
    assert derived.lists().filter(pl.col("kind") == "impression")["query_id"].unique().to_list() == [
        acts["query_id"][0]
    ]
    assert refreshed.rejected == {}


def test_old_search_is_not_attributed(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address, consent=True) as visit:
        product = searched(visit, "tent")[1]
        visit.page.locator(".hits .card h2 a").nth(1).click()
        visit.page.locator(".product h1").wait_for()
        visit.page.evaluate(
            """() => {
                const origins = JSON.parse(localStorage.getItem("shelfwise.origins"));
                for (const found of origins) found.at -= 25 * 60 * 60 * 1000;
                localStorage.setItem("shelfwise.origins", JSON.stringify(origins));
            }"""
        )
        visit.page.goto(f"/?product={product}")
        visit.page.locator(".product-text .add").click()
        assert within(60, lambda: recorded(store)["cart"] == 1)
        assert ["query_id" in each for each in sent_events(visit, "cart")] == [False]
    refreshed, derived = tables(store)
    assert refreshed.rejected == {RejectReason.SURPLUS: 1}  # the product's page was opened twice
    assert "cart" in derived.acts()["kind"].cast(pl.String).to_list()


@pytest.mark.parametrize("minutes", [-1, pytest.param(4_000, marks=pytest.mark.slow)], ids=["late", "ahead"])
def test_events_of_a_wrong_clock_are_used(browser: Browser, address: str, store: SearchEngine, minutes: int) -> None:
    with visiting(browser, address, consent=True) as visit:
        visit.page.add_init_script(
            f"""globalThis.Date = class extends Date {{
                constructor(...given) {{ if (given.length) super(...given); else super(Date.now()); }}
                static now() {{ return super.now() + {minutes * 60_000}; }}
            }};"""
        )
        product = chosen_and_bought(visit, "tent", 2)
        searched(visit, "lamp")  # with a history by that clock
        assert within(60, lambda: recorded(store)["purchase"] == 1)
    refreshed, derived = tables(store)
    acts = derived.lists().filter(pl.col("kind") != "impression")
    assert rows(acts, "query", "product_id", "position", "kind") == [
        ("tent", product, 2, kind) for kind in ("click", "cart", "purchase")
    ]
    assert refreshed.rejected == {}
    assert derived.sessions.height == 1


def test_long_query_is_recorded(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address, consent=True) as visit:
        visit.page.goto("/")
        visit.page.locator("#search input[name=q]").fill("帐篷" * 490)  # 24 events of 3 KB each
        visit.page.locator(".results:not([aria-busy]) .hits .card").first.wait_for()
        shown = visit.ids()
        visit.page.locator(".hits .card .add").first.click()
        assert within(60, lambda: recorded(store) == {"query": 1, "impression": len(shown), "cart": 1})
