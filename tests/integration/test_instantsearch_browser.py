"""InstantSearch pages as shops write them, in a real browser on a real service: only host and timeouts differ."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from shelfwise.retrieval.records import EventKind, Hit, Product
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.settings import ServiceSettings, Settings
from tests.browser import PackagesUnavailableError
from tests.browser.packages import bundle, node_modules
from tests.browser.page_server import page_server
from tests.browsers import WAIT_MS, opened_browser, served
from tests.machine import within
from tests.servers.skips import skip_for
from tests.services import add_key, events_of_query

HOSTILE = "<img src=x onerror='window.hacked=1'> __ais-highlight__ <b>Ladder</b> \"quoted\" & done"
CLIENTS = ("v5", "v4")
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Shop:
    engine: SearchEngine
    address: str
    page: str
    key: str
    browser: Browser

    def open(self, client: str) -> Page:
        shown = self.browser.new_page()
        product = self.engine.search("lamp").hits[0].product.id
        parameters = {"client": client, "host": self.address, "key": self.key, "product": product}
        shown.goto(f"{self.page}/shop.html?{urlencode(parameters)}")
        expect(shown.locator("#hits article").first).to_be_visible(timeout=60_000)
        shown.set_default_timeout(WAIT_MS)
        return shown


@pytest.fixture(scope="module")
def shop(demo_index: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    try:
        packages, missing = node_modules(cache), ""
    except PackagesUnavailableError as error:
        packages, missing = cache, str(error)
    # Outside of the except clause, or pytest would print the reason twice.
    if missing:
        skip_for(missing)
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("shop") / "store"))
    key = add_key(KeyFile(root / KEYS_FILE), Scope.SEARCH, Scope.EVENTS)
    react = tmp_path_factory.mktemp("react")
    shutil.copy(EXAMPLES / "react/index.html", react)
    bundle(packages, EXAMPLES / "react/shop.jsx", react / "shop.js")
    with (
        SearchEngine.open(root, settings=Settings(backend="embedded")) as engine,
        served(engine, ServiceSettings(cors_origins=("*",))) as address,
        page_server(npm=packages, react=react) as page,
        opened_browser() as browser,
    ):
        engine.upsert([Product("hostile", HOSTILE, price=1.0, attributes={"url": '/"onclick="window.hacked=1'})])
        yield Shop(engine, urlsplit(address).netloc, page, key, browser)


def searched(page: Page, text: str) -> None:
    page.locator("#searchbox input").fill(text)
    expect(page.locator("#hits article h2 mark").first).to_be_visible()


def expect_ids(page: Page, hits: Sequence[Hit]) -> None:
    """Waits until these hits are shown in this order."""
    wanted = [hit.product.id for hit in hits]

    def ids() -> list[str]:
        shown: list[str] = page.locator("#hits article").evaluate_all("each => each.map(one => one.dataset.id)")
        return shown

    within(WAIT_MS / 1_000, lambda: ids() == wanted)
    assert ids() == wanted


def prices_of(page: Page) -> list[float]:
    shown = page.locator("#hits article").evaluate_all("each => each.map(one => one.dataset.price)")
    return [float(price) for price in shown]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_shopper_searches_refines_pages_and_sorts(shop: Shop, client: str) -> None:
    page = shop.open(client)
    searched(page, "garden")
    found = shop.engine.search("garden", size=8, facets=["brand"])
    expect_ids(page, found.hits)
    expect(page.locator("#stats .ais-Stats-text")).to_have_text(str(found.total))
    assert {each.lower().rstrip("s") for each in page.locator("#hits h2 mark").all_inner_texts()} == {"garden"}

    # A facet value has as many hits as announced, and the other values remain selectable.
    first = page.locator("#brand li").first
    announced = int(first.locator(".ais-RefinementList-count").inner_text())
    first.locator("input").check()
    expect(page.locator("#stats .ais-Stats-text")).to_have_text(str(announced))
    second = page.locator("#brand li").nth(1)
    more = int(second.locator(".ais-RefinementList-count").inner_text())
    second.locator("input").check()
    expect(page.locator("#stats .ais-Stats-text")).to_have_text(str(announced + more))
    expect(page.locator("#current .ais-CurrentRefinements-category")).to_have_count(2)
    page.locator("#clear button").click()
    expect(page.locator("#stats .ais-Stats-text")).to_have_text(str(found.total))

    page.locator("#pages a", has_text="2").first.click()
    second_page = shop.engine.search("garden", size=8, page=2)
    expect(page.locator(f"#hits article[data-id='{second_page.hits[0].product.id}']")).to_be_visible()
    expect_ids(page, second_page.hits)

    page.locator("#sort select").select_option("products_price_asc")
    cheapest = shop.engine.search("garden", size=8, sort="price").hits[0].product.id
    expect(page.locator("#hits article").first).to_have_attribute("data-id", cheapest)
    expect_ids(page, shop.engine.search("garden", size=8, sort="price").hits)
    assert page.evaluate("window.failed") is None


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_categories_open_by_level_and_prices_narrow(shop: Shop, client: str) -> None:
    page = shop.open(client)
    top = page.locator("#menu a").first
    announced = int(top.locator(".ais-HierarchicalMenu-count").inner_text().replace(",", ""))
    top.click()
    expect(page.locator("#stats .ais-Stats-text")).to_have_text(str(announced))
    below = page.locator("#menu .ais-HierarchicalMenu-list--child a").first
    announced = int(below.locator(".ais-HierarchicalMenu-count").inner_text())
    below.click()
    expect(page.locator("#stats .ais-Stats-text")).to_have_text(str(announced))
    page.locator("#price .ais-RangeInput-input--max").fill("50")
    page.locator("#price .ais-RangeInput-submit").click()
    expect(page.locator("#current")).to_contain_text("50")
    # The page shows the new filter before its hits.
    assert within(60, lambda: 0 < max(prices_of(page), default=0) <= 50)
    assert page.evaluate("window.failed") is None


def test_a_question_is_answered_by_the_widget_of_the_manual(shop: Shop) -> None:
    """The snippet of docs/answers.md works unchanged in an ordinary page."""
    manual = (Path(__file__).parents[2] / "docs/answers.md").read_text("utf-8")
    (snippet,) = (each for each in re.findall(r"```js\n(.*?)```", manual, re.DOTALL) if "addWidgets" in each)
    product = next(hit.product for hit in shop.engine.search("drill").hits if "voltage_v" in hit.product.attributes)
    asked = f"What is the voltage of the {product.title}?"
    for client in CLIENTS:
        page = shop.open(client)
        placed = snippet.replace("https://search.example.com", f"http://{shop.address}").replace("KEY", f"'{shop.key}'")
        page.add_script_tag(content=placed)
        field, quote = page.locator("#searchbox input"), page.locator("#answer blockquote")
        field.fill(asked)
        found = shop.engine.answer(asked)
        expect(quote).to_have_text([each.text for each in found.quotes])
        expect(page.locator("#answer cite").first).to_have_text(found.quotes[0].title)
        field.fill("How much is it?")  # the product remains the subject
        expect(quote.first).to_have_text(shop.engine.answer("How much is it?", about=found.about).quotes[0].text)
        page.get_by_role("button", name=found.about.title).click()
        expect(quote).to_have_count(0)
        field.fill("drill")
        expect(page.locator("#hits article h2 mark").first).to_be_visible()
        expect(page.locator("#answer *")).to_have_count(0)
        assert page.evaluate("window.failed") is None


@pytest.mark.parametrize("client", CLIENTS)
def test_hostile_title_is_shown_as_text(shop: Shop, client: str) -> None:
    page = shop.open(client)
    searched(page, "ladder quoted done")
    title = page.locator("#hits article[data-id='hostile'] h2")
    expect(title).to_be_visible()
    expect(title).to_contain_text("<img src=x onerror=")
    expect(title.locator("img, b")).to_have_count(0)
    expect(title.locator("mark").get_by_text("Ladder", exact=True)).to_be_visible()
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("client", CLIENTS)
def test_click_is_recorded_with_query_and_position(shop: Shop, client: str) -> None:
    page = shop.open(client)
    searched(page, "drill")
    chosen = page.locator("#hits article").nth(2)
    product = str(chosen.get_attribute("data-id"))
    with page.expect_response(lambda each: "/1/events" in each.url and product in (each.request.post_data or "")):
        chosen.locator("button").first.click()
    with page.expect_response(lambda each: "addToCart" in (each.request.post_data or "")) as sent:
        chosen.locator("button.buy").click()
    (event,) = json.loads(sent.value.request.post_data or "")["events"]
    rows = events_of_query(shop.engine.root, event["queryID"], wanted=11)  # the query, 8 impressions and 2 acts
    events = {row["kind"]: row for row in rows if row["product_id"] in (product, "")}
    click, cart = events[EventKind.CLICK], events[EventKind.CART]
    assert click["position"] is None
    assert cart["quantity"] == 2
    # Recorded by the service itself: the query of this answer, and the product's position.
    assert click["query_id"] == cart["query_id"] == events[EventKind.IMPRESSION]["query_id"]
    assert events[EventKind.IMPRESSION]["position"] == 3
    assert events[EventKind.QUERY]["query"] == "drill"
    assert len({events[kind]["shopper"] for kind in events}) == 1


@pytest.mark.slow
def test_the_example_on_react_searches_refines_and_sorts(shop: Shop) -> None:
    page = shop.browser.new_page()
    page.set_default_timeout(WAIT_MS)
    parameters = {"service": f"http://{shop.address}", "key": shop.key}
    page.goto(f"{shop.page}/react/index.html?{urlencode(parameters)}")
    expect(page.locator("article").first).to_be_visible()  # the library loses text typed before its first search
    page.get_by_placeholder("Search products").fill("garden")
    first = shop.engine.search("garden", size=12).hits[0].product.id
    expect(page.locator("article").first).to_have_attribute("data-id", first)
    brand = page.locator(".ais-RefinementList-item").first
    announced = brand.locator(".ais-RefinementList-count").inner_text()
    named = brand.locator(".ais-RefinementList-labelText").inner_text()
    brand.locator("input").check()
    expect(page.locator(".ais-Stats-text")).to_contain_text(f"{announced} results")
    page.locator(".ais-SortBy select").select_option("products_price_asc")
    cheapest = shop.engine.search("garden", size=1, sort="price", filters=f'brand = "{named}"').hits[0].product.id
    expect(page.locator("article").first).to_have_attribute("data-id", cheapest)
    with page.expect_response(lambda each: "/1/events" in each.url and '"click"' in (each.request.post_data or "")):
        page.locator("article button").first.click()
