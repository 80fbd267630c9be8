"""The store page in a real browser: its functions, and the events that it records."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import expect

from shelfwise.retrieval.records import Availability, Product, RelationKind, Variant
from shelfwise.service.curation.relations import RelationCorrection
from shelfwise.service.curation.switches import SwitchedPart
from shelfwise.service.demo.looks import STRIPES, Look
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings, Settings, SourcedSettings, StoreSettings
from shelfwise.service.sponsored.campaign import Campaign
from tests import pictured_store
from tests.browsers import PIXEL, Visit, serious_faults, served, visiting
from tests.catalogs import ids
from tests.machine import build_once, within
from tests.services import recorded_events

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

HOSTILE = Product(
    "<b>evil</b>/1",
    'Wombat <img src=x onerror="window.hacked=1"> lamp',
    description="</p><script>window.hacked=1</script>{{7*7}}",
    brand='"><svg onload="window.hacked=1">',
    category=("<i>Odd</i>", "javascript:window.hacked=1"),
    price=12.5,
    currency="XXX",
    images=('https://["onerror="window.hacked=1', "https://[<script>window.hacked=1</script>"),
    attributes={"<u>colour</u>": "<script>window.hacked=1</script>", "color": "url(https://elsewhere.example/x)"},
    variants=(
        Variant("v1", {"<s>Size</s>": "<img src=x onerror=window.hacked=1>"}, 12.5),
        Variant("v2", {"Size": "L"}, 20.0),
    ),
)


PICTURED = Product(
    "pictured",
    "Quokka Kettle",
    price=12.5,
    currency="USD",
    images=("http://pictures.example/a.gif", "http://pictures.example/b.gif"),
    attributes={"regular_price": 20.0},
)
JACKET = Product(
    "jacket",
    "Quokka Rain Jacket",
    price=49.0,
    currency="USD",
    variants=(
        Variant("red-s", {"Color": "Red", "Size": "S"}, 49.0, Availability.IN_STOCK),
        Variant("red-m", {"Color": "Red", "Size": "M"}, 52.0, Availability.OUT_OF_STOCK),
        Variant("navy-m", {"Color": "Navy", "Size": "M"}, 55.0, Availability.IN_STOCK),
    ),
)


STRIPS = ("Goes with this", "Alternatives", "Similar products")


@pytest.fixture(scope="module")
def store(store: SearchEngine) -> SearchEngine:
    store.upsert([HOSTILE, PICTURED, JACKET])
    return store


def test_results_update_while_typing(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address) as visit:
        visit.page.goto("/")
        field = visit.page.get_by_role("combobox", name="Search")
        field.press_sequentially("cordless drill", delay=20)
        visit.results("“cordless drill”")
        visit.expect_ids([hit.product.id for hit in store.search("cordless drill", size=24, group="variants").hits])
        expect(visit.page).to_have_url(re.compile(r"/\?q=cordless\+drill$"))
        visit.page.go_back()  # letters typed in sequence are one step of the history
        visit.page.wait_for_url(f"{address}/")
        visit.page.get_by_role("heading", name="What are you looking for?").wait_for()


@pytest.mark.slow
def test_a_suggestion_is_chosen_by_keyboard(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        visit.page.goto("/")
        field = visit.page.get_by_role("combobox", name="Search")
        field.press_sequentially("drill", delay=20)
        options = visit.page.get_by_role("option")
        options.first.wait_for()
        expect(field).to_have_attribute("aria-expanded", "true")
        field.press("ArrowDown")
        active = options.and_(visit.page.locator("[aria-selected=true]"))
        expect(field).to_have_attribute("aria-activedescendant", str(active.get_attribute("id")))
        chosen = active.inner_text()
        field.press("Enter")
        visit.results(f"“{chosen}”")
        expect(field).to_have_value(chosen)
        field.press("ArrowDown")
        options.first.wait_for()
        field.press("Escape")
        expect(visit.page.get_by_role("listbox")).to_be_hidden()


@pytest.mark.slow
def test_store_has_the_name_and_texts_of_the_settings(browser: Browser, store: SearchEngine) -> None:
    name = '<img src=x onerror="window.hacked=1"> & Sons'
    look = StoreSettings(name=name, footer="{count} <b>lamps</b>", colour="#ffee00", language="en")
    with (
        served(store, ServiceSettings(), SourcedSettings(Settings(store=look))) as url,
        visiting(browser, url, consent=None, locale="zh-CN") as visit,
    ):
        visit.page.goto("/")
        visit.page.get_by_text("{count} <b>lamps</b>").wait_for()
        expect(visit.page.locator(".home-link")).to_have_text(name)
        expect(visit.page).to_have_title(name)
        expect(visit.page.get_by_role("button", name="中文")).to_have_count(0)
        visit.page.goto("/?q=lamp")
        visit.results("“lamp”")
        visit.settle()
        assert serious_faults(visit.page) == []
        assert visit.page.evaluate("window.hacked") is None
        bottom, top = visit.page.evaluate(
            """[document.querySelector("#consent").getBoundingClientRect().bottom,
                document.querySelector(".hits .card").getBoundingClientRect().top]"""
        )
        assert bottom <= top, "the question covers no product"


def test_facets_match_hits_and_keep_alternatives(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        visit.page.goto("/?q=drill")
        visit.results("“drill”")
        brands = visit.page.get_by_role("group", name="Brand").get_by_role("listitem")
        before = brands.count()
        name, count = brands.first.inner_text().split("\n")
        brands.first.get_by_role("checkbox").check()
        visit.results(f"{count} products for")
        expect(brands).to_have_count(before)
        assert set(visit.page.locator(".hits .brand").all_inner_texts()) == {name}
        assert parse_qs(visit.page.evaluate("location.search.slice(1)"))["brand"] == [name]
        category = visit.page.get_by_role("group", name="Category").get_by_role("button").first
        total = re.findall(r"\d+", category.inner_text())[-1]
        category.click()
        visit.results(f"{total} product")
        visit.page.get_by_role("button", name=f"Remove {name}").click()
        visit.page.wait_for_url(lambda url: "brand" not in url)
        visit.page.go_back()
        visit.results(f"{total} product")
        visit.page.reload()
        visit.results(f"{total} product")


@pytest.mark.slow
def test_options_of_variants_are_chosen_and_bought_as_one_product(
    browser: Browser, address: str, store: SearchEngine
) -> None:
    with visiting(browser, address, consent=True) as visit:
        visit.page.goto("/?product=jacket")
        colours, sizes = (visit.page.get_by_role("group", name=name) for name in ("Color", "Size"))
        cost = visit.page.locator(".cost")
        expect(colours.get_by_role("radio", name="Red")).to_be_checked()
        sizes.get_by_role("radio", name="M").check()
        expect(cost).to_have_text("$52.00 ")
        expect(visit.page.locator(".product-text .add"), "it is sold out").to_be_disabled()
        colours.get_by_role("radio", name="Navy").check()
        expect(cost).to_have_text("$55.00 ")
        sizes.get_by_role("radio", name="S").check()
        expect(colours.get_by_role("radio", name="Red"), "there is no small one in navy").to_be_checked()
        visit.page.locator(".product-text .add").click()
        colours.get_by_role("radio", name="Navy").check()
        visit.page.locator(".product-text .add").click()
        visit.page.get_by_role("link", name="Basket, 2 items").click()
        visit.page.get_by_text("Red, S").wait_for()
        visit.page.get_by_role("button", name="Buy").click()
        visit.page.get_by_role("heading", name="Thank you").wait_for()
        bought = {"kind": "purchase", "product_id": "jacket"}
        assert within(60, lambda: any(bought.items() <= row.items() for row in recorded_events(store.root)))
    assert [row["quantity"] for row in recorded_events(store.root) if bought.items() <= row.items()] == [2]


@pytest.mark.slow
def test_siblings_are_chosen_by_their_differences(browser: Browser, address: str, store: SearchEngine) -> None:
    found = store.search("backpack", size=24, group="variants").hits
    hit = next(hit for hit in found if hit.group_size > 3)
    others = [store.product(each) for each in hit.siblings]
    wanted = next(each for each in others if each.attributes["volume_l"] != hit.product.attributes["volume_l"])
    with visiting(browser, address) as visit:
        visit.page.goto("/?q=backpack")
        visit.results("“backpack”")
        visit.expect_ids([each.product.id for each in found])
        card = visit.page.locator(f".hits [data-product='{hit.product.id}']")
        card.get_by_role("link", name=f"{hit.group_size} variants").click()
        volumes = visit.page.get_by_role("region", name="Volume, l").get_by_role("link")
        volumes.first.wait_for()
        values = {each.attributes["volume_l"] for each in (hit.product, *others)}
        assert [float(each) for each in volumes.all_inner_texts()] == sorted(values)
        expect(visit.page.get_by_role("region", name="Package weight, kg")).to_have_count(0)
        volumes.get_by_text(f"{wanted.attributes['volume_l']:g}", exact=True).click()
        visit.page.get_by_role("heading", level=1).and_(visit.page.get_by_text(wanted.title)).wait_for()


@pytest.mark.slow
def test_price_order_and_page_are_in_the_url(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address) as visit:
        visit.page.goto("/?all=1")
        visit.results("products")
        visit.page.get_by_label("From", exact=True).fill("20")
        visit.page.get_by_label("To", exact=True).fill("60")
        visit.page.get_by_role("button", name="Apply").click()
        visit.page.locator("a[rel=next][href*='price=20..60']").wait_for()
        visit.page.get_by_label("Sort by").select_option("price")
        # The previous hits and their links stay until there is a response.
        visit.page.locator("a[rel=next][href*='sort=price']").click()
        visit.page.wait_for_url(re.compile(r"page=2"))
        visit.results("products")
        found = store.search("", size=24, page=2, sort="price", filters="price >= 20 AND price <= 60", group="variants")
        visit.expect_ids([hit.product.id for hit in found.hits])


@pytest.mark.slow
def test_values_of_a_facet_are_found_by_a_part_of_their_name(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        visit.page.goto("/?all=1")
        visit.results("products")
        brands = visit.page.get_by_role("group", name="Brand")
        brands.get_by_role("searchbox", name="Find in Brand").fill("sshol")
        brands.get_by_role("checkbox", name="Kessholt").check()
        visit.page.wait_for_url(re.compile("brand=Kessholt"))
        visit.results("products")
        expect(brands.get_by_role("searchbox")).to_have_value("sshol")
        expect(brands.get_by_role("checkbox")).to_have_count(1)
        brands.get_by_role("searchbox").fill("<b>")
        brands.get_by_text("Nothing found").wait_for()


@pytest.mark.slow
def test_page_in_one_language_shows_its_categories(browser: Browser, address: str) -> None:
    for locale, hidden in (("en-US", "[\u4e00-\u9fff]"), ("zh-CN", "[A-Za-z]{2}")):
        with visiting(browser, address, locale=locale) as visit:
            visit.page.goto("/?all=1")
            visit.page.locator(".group").first.wait_for()
            names = visit.page.locator(".group >> nth=0").locator(".choice span").all_inner_texts()
            visit.page.goto("/")
            tiles = visit.page.locator(".tile > span")
            tiles.first.wait_for()
            names += tiles.all_inner_texts()
            assert len(names) > 10
            assert [name for name in names if re.search(hidden, name) and "<i>" not in name] == []


@pytest.mark.slow
def test_recent_and_popular_searches_are_suggested_before_typing(browser: Browser, address: str) -> None:
    popular = {"queries": [{"text": "yoga mat", "source": "popular", "spans": []}]}
    nothing = {"categories": [], "brands": [], "products": [], "corrected": "", "degraded": []}
    with visiting(browser, address, consent=True) as visit:
        visit.page.route("**/v1/suggest?size=6", lambda route: route.fulfill(json=popular | nothing))
        visit.page.goto("/?q=lamp")
        visit.results("“lamp”")
        visit.page.keyboard.press("/")
        field = visit.page.get_by_role("combobox", name="Search")
        expect(field).to_be_focused()
        field.fill("tent")
        field.press("Enter")
        visit.results("“tent”")
        visit.page.goto("/")
        visit.page.get_by_role("heading", name="What are you looking for?").wait_for()
        visit.page.keyboard.press("/")
        visit.page.get_by_role("group", name="Popular searches").get_by_role("option", name="yoga mat").wait_for()
        recent = visit.page.get_by_role("group", name="Recent searches").get_by_role("option")
        expect(recent).to_have_text(["tent", "Clear recent searches"])
        assert serious_faults(visit.page) == []
        recent.last.click()
        expect(visit.page.get_by_role("listbox")).to_be_hidden()
        assert visit.page.evaluate("localStorage.getItem('shelfwise.recent')") is None
        field.press("ArrowDown")
        visit.page.get_by_role("option", name="yoga mat").wait_for()
        field.press("ArrowDown")
        field.press("Enter")
        visit.results("“yoga mat”")


def test_acts_are_recorded_with_their_search(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address, consent=True) as visit:
        visit.page.goto("/?q=tent")
        visit.results("“tent”")
        third = visit.ids()[2]
        visit.page.locator(".hits .card h2 a").nth(2).click()
        visit.page.locator(".product h1").wait_for()
        visit.page.get_by_role("region", name="Similar products").get_by_role("listitem").first.wait_for()
        visit.page.locator(".product-text").get_by_role("button").click()
        visit.page.get_by_role("link", name="Basket, 1 item").click()
        visit.settle()
        for quantity in ("2", "1"):
            visit.page.get_by_role("spinbutton", name="Quantity of").fill(quantity)
            visit.page.get_by_role("spinbutton", name="Quantity of").press("Enter")
        visit.page.get_by_role("button", name="Buy").click()
        visit.page.get_by_role("heading", name="Thank you").wait_for()

        def of_third() -> dict[str, dict[str, Any]]:
            return {row["kind"]: row for row in recorded_events(store.root) if row["product_id"] == third}

        kinds = {"impression", "click", "consultation", "cart", "removal", "purchase"}
        assert within(60, lambda: kinds <= set(of_third()))
        assert len({row["query_id"] for row in of_third().values()}) == 1
        visit.page.goto("/")
        own = visit.page.get_by_role("region", name="For you").get_by_role("article")
        own.first.wait_for()
        assert third not in own.evaluate_all("each => each.map(one => one.dataset.product)")
        visit.page.get_by_role("region", name="Recently viewed").locator(f"[data-product='{third}']").wait_for()


@pytest.mark.slow
def test_intermediate_queries_are_not_recorded(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address, consent=True) as visit:
        visit.page.clock.install()
        visit.page.goto("/")
        visit.page.get_by_role("heading", name="What are you looking for?").wait_for()
        # The page's clock stops here, so that the time of typing does not depend on the machine.
        visit.page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
        field = visit.page.get_by_role("combobox", name="Search")
        for typed in ("garden", "garden hose"):
            field.fill(typed)
            visit.page.clock.run_for(1_000)
            visit.results(f"“{typed}”")
        visit.page.clock.run_for(2_000)

        def searched() -> list[str]:
            return [
                row["query"]
                for row in recorded_events(store.root)
                if row["kind"] == "query" and row["query"].startswith("garden")
            ]

        assert within(60, lambda: bool(searched()))  # recorded as it was shown for a while
        assert searched() == ["garden hose"]
        field.press("Enter")  # the server records this one itself
        assert within(60, lambda: searched() == ["garden hose", "garden hose"])


@pytest.mark.slow
def test_click_on_the_sponsored_strip_is_charged(browser: Browser, demo_index: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(demo_index, tmp_path / "store"))
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as engine, served(engine) as url:
        engine.switches.put(SwitchedPart.SPONSORED, on=True)
        drills = tuple(hit.product.id for hit in engine.search("cordless drill", size=30).hits)
        engine.campaigns.put([Campaign("drills", "acme", drills, 0.5)])
        (sponsored,) = engine.search("cordless drill", sponsored=True).sponsored
        with visiting(browser, url, consent=True) as visit:
            visit.page.goto("/?q=cordless+drill")
            visit.results("“cordless drill”")
            strip = visit.page.get_by_role("region", name="Sponsored")
            expect(strip).to_contain_text("acme")
            strip.get_by_role("link").first.click()
            visit.page.locator(".product h1").wait_for()
            visit.page.get_by_role("region", name="Similar products").wait_for()
            expect(strip).to_contain_text("acme")
            assert within(60, lambda: bool(engine.campaigns.ledger.entries("acme")))
            visit.settle()
        (entry,) = engine.campaigns.ledger.entries("acme")
        assert (entry.reason, entry.product, entry.place) == ("charged", sponsored.product.id, 1)


@pytest.mark.slow
def test_product_page_shows_complements_and_substitutes(browser: Browser, related_store: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(related_store, tmp_path / "store"))
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as engine:
        product, goes_with, instead = _related_product(engine)
        similar = [each for each in ids(engine.similar(product, size=8)) if each not in instead]
        with served(engine) as url, visiting(browser, url) as visit:
            visit.page.goto(f"/?product={product}")
            for name, expected in zip(STRIPS, (goes_with, instead, similar), strict=True):
                cards = visit.page.get_by_role("region", name=name).locator(".card[data-product]")
                expect(cards).to_have_count(len(expected))
                assert cards.evaluate_all("each => each.map(one => one.dataset.product)") == expected
            assert visit.page.locator(".row h2").all_inner_texts() == [*STRIPS]
            visit.page.get_by_role("region", name=STRIPS[0]).get_by_role("link").first.click()
            visit.page.locator(".product h1", has_text=engine.product(goes_with[0]).title).wait_for()
            visit.settle()
            engine.relations.put(
                [RelationCorrection(RelationKind.SUBSTITUTE, product, other, removed=True) for other in instead]
            )
            visit.page.goto(f"/?product={product}")
            visit.page.get_by_role("region", name=STRIPS[2]).wait_for()
            assert visit.page.get_by_role("region", name=STRIPS[1]).count() == 0


def _related_product(engine: SearchEngine) -> tuple[str, list[str], list[str]]:
    """A product with both strips of related products, and their ids."""
    for name in engine.ids().rest:
        goes_with, instead = (ids(engine.relations.of(name, kind=kind, size=8)) for kind in ("goes_with", "substitute"))
        if goes_with and instead:
            return name, goes_with, instead
    raise AssertionError("no product has both")


def test_nothing_is_sent_or_stored_without_consent(browser: Browser, address: str) -> None:
    with visiting(browser, address, consent=None) as visit:
        visit.page.goto("/?q=tent")
        visit.results("“tent”")
        visit.page.get_by_role("button", name="Decline").click()
        visit.page.locator(".hits .card a").first.click()
        visit.page.locator(".product-text").get_by_role("button").click()
        visit.page.get_by_role("link", name="Basket, 1 item").click()
        visit.settle()
        visit.page.get_by_role("button", name="Buy").click()
        visit.page.get_by_role("heading", name="Thank you").wait_for()
        visit.page.goto("/?q=lamp")
        visit.results("“lamp”")
        assert visit.bodies("/v1/events") == []
        searches = [each for body in visit.bodies("/v1/multi-search") for each in body["searches"]]
        assert searches
        assert not any(each.get("shopper") or each.get("session") or each.get("history") for each in searches)
        kept = visit.page.evaluate("Object.keys(localStorage)")
        assert set(kept) == {"shelfwise.consent", "shelfwise.basket"}


def test_privacy_signal_suppresses_the_consent_banner(browser: Browser, address: str) -> None:
    with visiting(browser, address, consent=True) as visit:
        visit.page.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})")
        visit.page.goto("/?q=tent")
        visit.results("“tent”")
        visit.page.locator(".hits .card a").first.click()
        visit.page.locator(".product h1").wait_for()
        expect(visit.page.locator("#consent")).to_be_hidden()
        visit.page.get_by_role("button", name="Privacy choices").click()
        visit.page.get_by_text("Your browser requests privacy").wait_for()
        assert visit.bodies("/v1/events") == []


def test_hostile_product_is_shown_as_text(browser: Browser, address: str) -> None:
    with visiting(browser, address, consent=True) as visit:
        visit.page.goto("/")
        visit.page.locator("#search input[name=q]").fill("wombat lamp")
        visit.results("“wombat lamp”")
        visit.page.get_by_role("link", name=HOSTILE.title).click()
        visit.page.get_by_role("heading", name=HOSTILE.title).wait_for()
        visit.page.get_by_text("</p><script>window.hacked=1</script>{{7*7}}").wait_for()
        visit.page.get_by_role("radio").nth(1).check()
        visit.page.locator(".product-text .add").click()
        visit.page.get_by_role("link", name="Basket, 1 item").click()
        visit.page.get_by_role("button", name="Buy").wait_for()
        assert visit.page.evaluate("window.hacked") is None
        expect(visit.page.locator("main script, main [onerror], main [onload], a[href^='javascript']")).to_have_count(0)
        assert not [each.url for each in visit.sent if "elsewhere.example" in each.url]


@pytest.mark.slow
def test_picture_at_http_is_sent_by_the_service_and_drawn_if_it_fails(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        visit.page.route("**/pictures/0?*", lambda route: route.fulfill(body=PIXEL, content_type="image/gif"))
        visit.page.route("**/pictures/1?*", lambda route: route.fulfill(status=404))
        visit.page.goto("/?product=pictured")
        visit.page.locator(".photo img").wait_for()
        visit.page.locator(".thumbnails .drawn path").first.wait_for()
        expect(visit.page.locator(".cost")).to_have_text("$12.50 Regular price $20.00−38%")
        visit.settle()
        start = f"{address}/v1/products/pictured/pictures/"
        sent = {each.url.removeprefix(start) for each in visit.sent if each.url.startswith(start)}
        assert sent == {"0?width=640", "0?width=160", "1?width=160"}
        assert not [each.url for each in visit.sent if "pictures.example" in each.url]
        visit.faults = [each for each in visit.faults if "404" not in each]


@pytest.fixture(scope="module")
def pictured_index(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    with ThreadPoolExecutor(1) as thread:  # the browser's event loop runs in this thread, so pictures need another
        work = partial(build_once, tmp_path_factory, "pictured-store", partial(pictured_store.build, cache=cache))
        return thread.submit(work).result() / "index"


@pytest.fixture(scope="module")
def pictured_address(pictured_index: Path) -> Iterator[str]:
    with SearchEngine.open(pictured_index, follow=False) as engine, served(engine) as url:
        yield url


def upload(visit: Visit, name: str, content: bytes) -> None:
    """Chooses a file by the camera button, as a shopper does."""
    with visit.page.expect_file_chooser() as chosen:
        visit.page.get_by_role("button", name="Search by a picture").click()
    chosen.value.set_files({"name": name, "mimeType": "image/jpeg", "buffer": content})


def photo(side: int) -> bytes:
    """A photo of a striped red shirt like a camera's: a large JPEG with noise."""
    output = io.BytesIO()
    with Image.open(io.BytesIO(pictured_store.picture_of("T-Shirt", Look("Red", STRIPES), 99))) as drawn:
        large = drawn.convert("RGB").resize((side, side))
    Image.blend(large, Image.effect_noise((side, side), 90).convert("RGB"), 0.2).save(output, "JPEG", quality=98)
    return output.getvalue()


@pytest.mark.slow
def test_picture_finds_the_products_that_look_like_it(
    browser: Browser, pictured_address: str, pictured_index: Path
) -> None:
    large = photo(2_400)
    assert len(large) > ServiceSettings().body_bytes
    with visiting(browser, pictured_address) as visit:
        visit.page.goto("/?q=backpack")
        visit.results("backpack")
        for content in (photo(300), large):
            upload(visit, "shirt.jpg", content)
            expect(visit.page.get_by_role("heading", level=1)).to_have_text("Products that look like your picture")
            expect(visit.page.locator(".hits .card[data-product]").first).to_have_attribute("data-product", "t1")
            assert visit.page.get_by_alt_text("Your picture").evaluate("each => each.complete && each.naturalWidth > 0")
        assert len(visit.ids()) == 18
        assert serious_faults(visit.page) == []
        visit.page.locator(".hits .card[data-product] a").first.click()
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("T-Shirt T1")
        alike = visit.page.get_by_role("region", name="Looks like this").locator("[data-product]")
        expect(alike.first).to_be_visible()
        with SearchEngine.open(pictured_index, follow=False) as engine:
            similar, looks = (engine.similar("t1", size=8, by=by).hits for by in ("text", "looks"))
        others = [hit.product.id for hit in looks if hit.product.id not in {each.product.id for each in similar}]
        assert alike.evaluate_all("each => each.map(one => one.dataset.product)") == others != []
        for content in (b"", b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hacked=1'/>"):
            upload(visit, "shirt.jpg", content)
            expect(visit.page.get_by_role("alert")).to_contain_text("it is not JPEG, PNG, WebP or GIF, or")
            expect(visit.page.get_by_alt_text("Your picture")).to_have_count(0)
        assert visit.page.evaluate("window.hacked") is None
        visit.faults = [each for each in visit.faults if "400" not in each]


@pytest.mark.slow
def test_a_question_is_answered_above_the_hits_and_the_next_keeps_its_product(
    browser: Browser, address: str, store: SearchEngine
) -> None:
    product = next(hit.product for hit in store.search("drill").hits if "voltage_v" in hit.product.attributes)
    asked = f"What is the voltage of the {product.title}?"
    found = store.answer(asked)
    with visiting(browser, address) as visit:
        visit.page.goto("/")
        field = visit.page.get_by_role("combobox", name="Search")
        answer = visit.page.get_by_role("region", name="Answer")

        def ask(text: str) -> None:
            field.fill(text)
            field.press("Enter")

        ask(asked)
        expect(answer.locator("blockquote p").first).to_have_text(found.quotes[0].text)
        expect(answer.locator(".source").first).to_have_text("Details")
        expect(answer.get_by_role("link", name=found.about.title)).to_be_visible()
        above = visit.page.locator(".found .answer, .found .hits").first
        expect(above).to_have_class("answer")
        ask("How much is it?")
        expect(answer.locator("blockquote p").first).to_have_text(f"Price: {product.price:,.2f} {product.currency}")
        expect(answer.get_by_role("link", name=found.about.title)).to_be_visible()
        assert visit.bodies("/v1/answer")[-1]["about"]["product_id"] == found.about.product_id
        ask("Is it vegan?")
        expect(answer).to_contain_text("No text of the store answers this.")
        answer.get_by_role("button", name="Not about this").click()
        expect(answer.get_by_role("link", name=found.about.title)).to_have_count(0)
        ask("Do you sell drills?")
        expect(answer).to_contain_text("Yes.")
        expect(answer.locator("blockquote a").first).to_have_attribute("href", re.compile("product="))
        visit.settle()
        assert serious_faults(visit.page) == []
        ask("do drills have a cup holder")
        expect(answer).to_have_count(0)
        ask("drill")
        expect(answer).to_have_count(0)


@pytest.mark.slow
def test_a_question_submitted_while_the_first_view_loads_keeps_its_answer(browser: Browser, address: str) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    with visiting(browser, address) as visit:
        for pattern in ("**/assets/store.json", "**/v1/multi-search"):
            visit.page.route(pattern, hold)
        with visit.page.expect_request("**/assets/store.json"):
            visit.page.goto("/")
        field = visit.page.get_by_role("combobox", name="Search")
        field.fill("Do you sell drills?")
        assert within(30, lambda: visit.page.evaluate("1") and len(held) == 1)
        with visit.page.expect_request("**/v1/multi-search"):
            held.pop().continue_()
        with visit.page.expect_request("**/v1/multi-search"):
            field.press("Enter")
        visit.page.unroute("**/v1/multi-search")
        for route in held:
            route.continue_()
        answer = visit.page.get_by_role("region", name="Answer")
        expect(answer).to_contain_text("Yes.")
        visit.page.wait_for_timeout(500)  # text typed before the page was ready is searched for after a pause
        visit.settle()
        expect(answer).to_contain_text("Yes.")


@pytest.mark.slow
def test_a_question_on_a_products_page_is_about_it(browser: Browser, address: str, store: SearchEngine) -> None:
    product = next(hit.product for hit in store.search("drill").hits if "voltage_v" in hit.product.attributes)
    with visiting(browser, address, consent=True, viewport={"width": 320, "height": 800}) as visit:
        visit.page.goto(f"/?product={product.id}")
        field = visit.page.get_by_label("A question about this product")
        field.fill("voltage")
        field.press("Enter")
        answer = visit.page.locator("form.answer")
        expect(answer.locator("blockquote p").first).to_have_text(f"Voltage: {product.attributes['voltage_v']:g} V")
        answer.locator(".related button").first.click()
        expect(answer.locator("blockquote p").first).not_to_have_text(re.compile("Voltage"))
        field.fill("<img src=x onerror=window.hacked=1> is it vegan?")
        visit.page.get_by_role("button", name="Ask", exact=True).click()
        expect(answer).to_contain_text("No text of the store answers this.")
        nearest = store.answer("<img src=x onerror=window.hacked=1> is it vegan?", product.id).nearest
        expect(answer.locator("blockquote p")).to_have_text([nearest.text] if nearest else [])
        assert visit.page.evaluate("window.hacked") is None
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert serious_faults(visit.page) == []
    events = [each for each in recorded_events(store.root) if each["query"] == "voltage"]
    assert [each["product_id"] for each in events] == [product.id]


VIEWS = (
    "/",
    "/?q=drill&brand=Kessholt",
    "/?q=zzqqxx&price=1..2",
    "/?product={id}",
    "/?product=nosuch",
    "/?show=basket",
)


@pytest.mark.parametrize(
    ("language", "theme", "width"),
    [("zh-CN", "dark", 320), pytest.param("en-US", "light", 1_440, marks=pytest.mark.slow)],
)
def test_every_view_is_accessible_and_fits(
    browser: Browser, address: str, store: SearchEngine, language: str, theme: str, width: int
) -> None:
    product = store.search("drill").hits[0].product.id
    with visiting(
        browser, address, consent=None, locale=language, color_scheme=theme, viewport={"width": width, "height": 800}
    ) as visit:
        for number, view in enumerate(VIEWS):
            visit.page.goto(view.format(id=product))
            visit.page.locator("#view-title").wait_for()
            visit.settle()
            if number == 1:
                visit.page.locator(".hits .add:enabled").first.click()
                visit.page.locator("#search input[name=q]").press_sequentially(" ")
                visit.page.get_by_role("option").first.wait_for()
            visit.settle()
            assert serious_faults(visit.page) == [], view
            assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            if number == 0:
                visit.page.locator("#consent button").first.click()
        visit.faults = [each for each in visit.faults if "404" not in each]  # of the missing product


@pytest.mark.slow
def test_api_description_needs_no_other_server(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        policy = visit.page.goto("/docs").headers["content-security-policy"]  # type: ignore[union-attr]
        assert "script-src" not in policy and policy.startswith("default-src 'self'")
        visit.page.locator(".opblock-summary-path", has_text="/v1/multi-search").wait_for(timeout=30_000)
        visit.page.locator("#operations-search-search_v1_search_get .opblock-summary-control").click()
        visit.page.get_by_text("The shopper's query; empty browses all products.").first.wait_for()
        visit.page.locator(".opblock >> nth=20").wait_for()
        assert all(urlsplit(each.url).netloc in ("", urlsplit(address).netloc) for each in visit.sent)
