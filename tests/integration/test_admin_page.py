"""The admin page in a real browser, on services without keys and with keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from shelfwise.service.curation.relevance import Relevance, Signal, TypoTolerance
from shelfwise.service.curation.rules import Pin
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.popular_queries import PopularQuery, write_popular_queries
from shelfwise.service.experiments.experiment import Experiment, ExperimentStore, Mode, Unit, Variant, VariantOptions
from shelfwise.service.http.auth import KeyFile, Scope
from shelfwise.service.settings import ServiceSettings, Settings
from tests.browsers import Visit, serious_faults, served, visiting
from tests.learning_stores import record_searches
from tests.services import add_key

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_a_search_explains_each_hit(browser: Browser, address: str, store: SearchEngine) -> None:
    with visiting(browser, address) as visit:
        visit.page.goto("/admin")
        visit.page.get_by_label("Query").fill("cordless drill")
        visit.page.get_by_role("button", name="Search").click()
        first = visit.page.locator(".explained > li").first
        hit = store.search("cordless drill", size=10, explain=True).hits[0]
        first.get_by_role("link", name=hit.product.title).wait_for()
        assert hit.explanation is not None
        for stage, given in hit.stages.items():
            expect(first).to_contain_text(f"{stage} {given.score:.3f}")
        expect(first).to_contain_text(hit.explanation.contributions[0].name)
        expect(first).to_contain_text(f"type {hit.product_type}")
        assert serious_faults(visit.page) == []


@pytest.mark.slow
def test_product_is_found_and_changed(browser: Browser, address: str, store: SearchEngine) -> None:
    product = store.search("tent").hits[0].product
    with visiting(browser, address) as visit:
        visit.page.goto(f"/admin#products/{product.id}")
        visit.page.get_by_role("heading", name=product.title).wait_for()
        visit.page.get_by_text(f"Type: {store.rules.product_types(product.id).by_title} (by its title)").wait_for()
        visit.page.get_by_label("Price").fill("1.25")
        visit.page.get_by_label("Availability").select_option("preorder")
        visit.page.get_by_role("button", name="Change").click()
        visit.page.get_by_text("Changed").wait_for()
        visit.settle()
        now = store.product(product.id)
        assert (now.price, now.availability) == (1.25, "preorder")
        visit.page.get_by_label("Product id").fill("nosuch")
        visit.page.get_by_role("button", name="Look up").click()
        visit.page.get_by_role("alert").filter(has_text="nosuch").wait_for()
        visit.faults = [each for each in visit.faults if "404" not in each]


@pytest.mark.slow
def test_relevance_settings_are_previewed_saved_and_restored(
    browser: Browser, address: str, store: SearchEngine
) -> None:
    with visiting(browser, address) as visit:
        visit.page.on("dialog", lambda dialog: dialog.accept())
        visit.page.goto("/admin#relevance")
        visit.page.get_by_label("Spelling corrections").select_option("offer")
        visit.page.get_by_role("button", name="Add a signal").click()
        visit.page.get_by_label("Field", exact=True).fill("brand")
        visit.page.get_by_label("Try it on").fill("drill")
        visit.page.get_by_role("button", name="What would this change?").click()
        visit.page.get_by_role("alert").filter(has_text="has text").wait_for()
        visit.page.get_by_label("Field", exact=True).fill("price")
        visit.page.get_by_label("Weight").fill("10")
        visit.page.get_by_role("button", name="What would this change?").click()
        visit.page.get_by_role("region", name="What would change").wait_for()
        assert store.relevance.revision == 0
        assert serious_faults(visit.page) == []
        visit.page.get_by_role("button", name="Save", exact=True).click()
        visit.page.get_by_role("cell", name="added").wait_for()
        assert store.relevance.get() == Relevance(typo_tolerance=TypoTolerance.OFFER, signals=(Signal("price", 10),))
        store.relevance.restore(0)
        visit.page.reload()
        visit.page.get_by_role("button", name="Restore revision 1").click()
        visit.page.get_by_role("cell", name="3", exact=True).wait_for()
        assert store.relevance.get().signals == (Signal("price", 10),)
        store.relevance.restore(0)
        visit.faults = [each for each in visit.faults if "400" not in each]


def test_rule_is_previewed_saved_disabled_and_restored(browser: Browser, address: str, store: SearchEngine) -> None:
    last = store.search("drill", size=15).hits[-1].product
    with visiting(browser, address) as visit:
        visit.page.on("dialog", lambda dialog: dialog.accept())
        visit.page.goto("/admin#rules")
        visit.page.get_by_role("button", name="New rule").click()
        visit.page.get_by_label("Query", exact=True).fill("drill")
        expect(visit.page.get_by_label("When the query")).to_have_value("contains")
        visit.page.get_by_label("Name", exact=True).fill("Drills first")
        visit.page.get_by_role("button", name="Add", exact=True).click()
        visit.page.get_by_role("searchbox", name="Products").fill(last.title)
        visit.page.get_by_role("button", name=f"({last.id})").click()
        visit.page.get_by_label("Try it on").fill("drill")
        visit.page.get_by_role("button", name="What would this change?").click()
        rows = visit.page.get_by_role("region", name="What would change").get_by_role("row")
        rows.filter(has_text=last.title).filter(has_text="15").filter(has_text="drill").first.wait_for()
        assert serious_faults(visit.page) == []
        assert store.search("drill").hits[0].product.id != last.id
        visit.page.get_by_role("button", name="Save").click()
        visit.page.get_by_role("button", name="Switch off drills-first").wait_for()
        assert store.search("drill").hits[0].product.id == last.id
        visit.page.get_by_role("button", name="Edit drills-first").click()
        visit.page.get_by_role("button", name="As JSON").click()
        text = visit.page.get_by_label("The rule as JSON")
        expect(text).to_have_value(re.compile('"kind": "pin"'))
        text.fill(text.input_value().replace('"pin"', '"pinn"'))
        visit.page.get_by_role("button", name="Save").click()
        visit.page.get_by_role("alert").filter(has_text="did you mean pin?").wait_for()
        visit.page.get_by_role("button", name="Close").click()
        visit.page.get_by_role("button", name="Switch off drills-first").click()
        visit.page.get_by_role("button", name="Switch on drills-first").wait_for()
        assert store.search("drill").hits[0].product.id != last.id
        visit.settle()
        visit.page.get_by_role("button", name="Restore revision 1").click()
        visit.page.get_by_role("button", name="Switch off drills-first").wait_for()
        visit.settle()
        visit.page.get_by_role("button", name="Remove drills-first").click()
        visit.page.get_by_text("There are no rules yet.").wait_for()
        visit.faults = [each for each in visit.faults if "400" not in each]


@pytest.mark.slow
def test_pinned_products_are_picked_and_moved(browser: Browser, address: str, store: SearchEngine) -> None:
    one, other = (store.search("tent", size=15).hits[place].product for place in (2, -1))
    with visiting(browser, address, timezone_id="Asia/Tokyo") as visit:
        visit.page.goto("/admin#rules")
        visit.page.get_by_role("button", name="New rule").click()
        visit.page.get_by_label("Id", exact=True).fill("tents")
        visit.page.get_by_label("Until", exact=True).fill("2100-01-31T12:00")
        visit.page.get_by_role("button", name="Add", exact=True).click()
        picker = visit.page.get_by_role("searchbox", name="Products")
        picker.fill(one.title)
        visit.page.get_by_role("button", name=f"({one.id})").click()
        picker.fill(other.id)
        picker.press("Enter")
        visit.page.get_by_role("button", name=f"Up: {other.title}").click()
        assert serious_faults(visit.page) == []
        visit.page.get_by_role("button", name="Save").click()
        visit.page.get_by_role("button", name="Edit tents").click()
        visit.page.get_by_text(f"{other.title} ({other.id})").wait_for()
        expect(visit.page.get_by_label("Until", exact=True)).to_have_value("2100-01-31T12:00")
    rule = store.rules.get("tents")
    assert (rule.actions, rule.when.ends) == ((Pin((other.id, one.id)),), datetime(2100, 1, 31, 3, tzinfo=UTC))
    store.rules.delete(["tents"])


@pytest.mark.slow
def test_an_unanswered_question_is_answered_in_place(browser: Browser, address: str, store: SearchEngine) -> None:
    product = store.search("tent").hits[0].product
    queries = [PopularQuery("is it vegan?", 12, pages=((product.id, 12),)), PopularQuery("do you ship on sundays?", 9)]
    write_popular_queries(store.root, queries, datetime.now(UTC))
    with visiting(browser, address, viewport={"width": 320, "height": 800}) as visit:
        page = visit.page
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto("/admin#answers")
        page.get_by_role("cell", name=product.title).wait_for()
        page.get_by_role("button", name="Answer is it vegan?").click()
        expect(page.get_by_label("Product ids")).to_have_value(product.id)
        page.get_by_label("Answer", exact=True).fill(" ")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("alert").filter(has_text="is empty").wait_for()
        page.get_by_label("Answer", exact=True).fill("Yes,\nwholly <b>vegan</b>.")
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Edit is it vegan?").wait_for()
        expect(page.get_by_role("button", name="Answer is it vegan?")).to_have_count(0)
        assert store.answer("Is it vegan?", product.id).quotes[0].text == "Yes, wholly vegan."
        page.get_by_role("button", name="Edit is it vegan?").click()
        page.get_by_label("Answer", exact=True).fill("No.")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("cell", name="No.", exact=True).wait_for()
        page.get_by_label("Find a text").fill("nosuch")
        page.get_by_role("button", name="Find").click()
        page.get_by_text("No text has these words.").wait_for()
        page.get_by_label("Find a text").fill("VEGAN")
        page.get_by_role("button", name="Find").click()
        page.get_by_role("button", name="Remove is it vegan?").click()
        page.get_by_role("button", name="Answer is it vegan?").wait_for()
        assert store.answers.list() == ()
        visit.faults = [each for each in visit.faults if "400" not in each]
    write_popular_queries(store.root, [], datetime.now(UTC))


@pytest.mark.parametrize(("theme", "width"), [pytest.param("light", 1_280, marks=pytest.mark.slow), ("dark", 320)])
def test_every_tab_is_accessible_and_fits(browser: Browser, address: str, theme: str, width: int) -> None:
    with visiting(browser, address, color_scheme=theme, viewport={"width": width, "height": 800}) as visit:
        visit.page.goto("/admin")
        tabs = visit.page.locator("#tabs a")
        visit.page.get_by_role("heading", name="Search, explained").wait_for()
        names = tabs.all_text_contents()
        assert {"Search", "Rules", "Relevance", "Feeds", "Versions", "Keys"} <= set(names)
        is_folded, menu = width < 720, visit.page.locator("#menu")
        assert is_folded == menu.is_visible()
        assert is_folded or len(set(tabs.evaluate_all("all => all.map((each) => each.offsetTop)"))) == 1, "in one line"
        for name in names:
            if is_folded:
                expect(menu).to_have_attribute("aria-expanded", "false")
                menu.click()
                visit.settle()
                assert serious_faults(visit.page) == [], "the menu"
            visit.page.get_by_role("navigation").get_by_role("link", name=name).click()
            expect(visit.page).to_have_title(f"{name} · Shelfwise admin")
            visit.settle()
            assert serious_faults(visit.page) == [], name
            assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        visit.faults = [each for each in visit.faults if "status of" not in each]  # there are no tables of events


def test_api_key_is_requested_and_stored_for_the_tab_only(
    browser: Browser, store: SearchEngine, tmp_path: Path
) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    admin, search = add_key(keys, Scope.ADMIN), add_key(keys, Scope.SEARCH, Scope.EVENTS)
    with (
        served(store, ServiceSettings(keys=tmp_path / "keys.json", page_key=search)) as url,
        visiting(browser, url, is_owner=False) as visit,
    ):
        visit.page.goto("/?q=drill")
        visit.results("“drill”")  # the store page has its public key
        visit.page.goto("/admin")
        visit.page.get_by_text("Open the link that shelfwise serve printed").wait_for()
        key = visit.page.get_by_label("Key with the scope admin")
        key.fill(search)
        key.press("Enter")
        visit.page.get_by_role("alert").filter(has_text="lacks the scope admin").wait_for()
        key.fill(admin)
        key.press("Enter")
        visit.page.get_by_role("heading", name="Search, explained").wait_for()
        assert admin not in visit.page.evaluate("JSON.stringify(localStorage)")
        visit.page.reload()
        visit.page.get_by_role("heading", name="Search, explained").wait_for()
        visit.faults = [each for each in visit.faults if "status of 40" not in each]


@pytest.mark.slow
def test_store_page_goes_on_working_when_keys_are_created_and_withdrawn(
    browser: Browser, store: SearchEngine, tmp_path: Path
) -> None:
    """Regression: the first key took the store page offline, and shoppers read the name of a setting."""
    keys = KeyFile(tmp_path / "keys.json")
    with (
        served(store, ServiceSettings(keys=keys.path)) as url,
        visiting(browser, url, is_owner=False) as shopper,
        visiting(browser, url) as owner,
    ):
        shopper.page.goto("/?q=drill")
        shopper.results("“drill”")
        owner.page.on("dialog", lambda dialog: dialog.accept())
        owner.page.goto("/admin#keys")
        owner.page.get_by_text("There are no keys: anyone may search").wait_for()
        owner.page.get_by_role("button", name="New key").click()
        owner.page.get_by_role("textbox", name="Name").fill("erp")
        owner.page.get_by_role("button", name="Create the key").click()
        owner.page.get_by_role("heading", name="The key erp").wait_for()
        for query, change in (("tent", None), ("lamp", "Withdraw store page")):
            if change:
                owner.page.get_by_role("button", name=change).click()
                owner.page.get_by_text("store page is withdrawn").wait_for()
            shopper.page.locator("#search input[name=q]").fill(query)  # on the page that was open before
            shopper.page.keyboard.press("Enter")
            shopper.results(f"“{query}”")
            assert serious_faults(owner.page) == []
        shopper.page.reload()
        shopper.results("“lamp”")
        shopper.faults = [each for each in shopper.faults if "status of 401" not in each]


@pytest.mark.slow
def test_shopper_reads_no_name_of_a_setting(browser: Browser, store: SearchEngine, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    settings = ServiceSettings(keys=keys.path, page_key=add_key(keys, Scope.ADMIN))
    with served(store, settings) as url, visiting(browser, url, is_owner=False) as visit:
        visit.page.goto("/?q=drill")
        visit.page.get_by_role("alert").filter(has_text="cannot be searched at the moment").wait_for()
        assert not re.search(r"service\.|key", visit.page.locator("main").inner_text())
        visit.faults = [each for each in visit.faults if "status of 401" not in each]


if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Locator

HOSTILE = "<img src=x onerror=document.title='lost'>"
MERGING = Experiment("merging", (Variant("now"), Variant("rrf", VariantOptions(merge="rrf"))), HOSTILE)
DRAFT = Experiment("draft", (Variant("now"), Variant("merged", VariantOptions("merged"))), mode=Mode.INTERLEAVE)
LATER = replace(MERGING, id="later", starts=datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def experiments_address(root: Path) -> Iterator[str]:
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as engine, served(engine) as url:
        yield url


def row(visit: Visit, name: str) -> Locator:
    return visit.page.get_by_role("region", name="Experiments").get_by_role("row").filter(has_text=name)


def test_experiment_is_saved_copied_and_stopped(browser: Browser, experiments_address: str, root: Path) -> None:
    store = ExperimentStore(root)
    with visiting(browser, experiments_address) as visit:
        asked: list[str] = []

        def accept(dialog: Dialog) -> None:
            asked.append(dialog.message)
            dialog.accept()

        visit.page.on("dialog", accept)
        visit.page.goto("/admin#experiments")
        visit.page.get_by_text("There are no experiments yet.").wait_for()
        visit.page.get_by_role("button", name="New experiment").click()
        visit.page.get_by_label("Id", exact=True).fill("order")
        visit.page.get_by_label("Assign by").select_option("session")
        visit.page.get_by_label("Share of all shoppers").fill("0.5")
        second = visit.page.get_by_role("group", name="Variant 2")
        refused(visit, second.get_by_label("Name"), "equals 'now', so they cannot be compared")
        second.get_by_label("Name").fill("merged")
        second.get_by_label("Ranker").select_option("off")
        visit.page.get_by_role("button", name="Add a variant").click()
        expect(visit.page.get_by_role("group", name="Variant 3").get_by_label("Name")).to_be_focused()
        visit.page.get_by_role("button", name="Remove: Variant 3").click()
        assert serious_faults(visit.page) == []
        visit.page.get_by_role("button", name="Save").click()
        row(visit, "order").get_by_text("running").wait_for()
        (stored,) = store.read().documents
        variants = Variant("now"), Variant("merged", VariantOptions(ranker="off"))
        assert stored == Experiment("order", variants, unit=Unit.SESSION, share=0.5, starts=stored.starts)
        for each in ("split by session of 50.0%", "now: unchanged", "merged: ranker off"):
            expect(row(visit, "order")).to_contain_text(each)
        visit.page.get_by_role("button", name="Copy order").click()
        visit.page.get_by_label("Id", exact=True).fill("order-2")
        visit.page.get_by_role("checkbox", name="Enabled").uncheck()
        visit.page.get_by_role("button", name="Save").click()
        row(visit, "order-2").get_by_text("draft").wait_for()
        assert store.get("order-2").variants == stored.variants
        visit.page.get_by_role("button", name="Stop order", exact=True).click()
        row(visit, "order").get_by_text("ended").wait_for()
        assert asked == ["Stop order permanently? Its results are kept."]
        assert store.get("order").ends is not None


def refused(visit: Visit, field: Locator, message: str) -> None:
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_role("alert")).to_contain_text(message)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(visit.page.locator(f"#{field.get_attribute('aria-describedby')}")).to_contain_text(message)
    visit.faults = [each for each in visit.faults if "400" not in each]


@pytest.mark.parametrize(("theme", "width"), [("light", 1_280), ("dark", 320)])
def test_report_shows_result_in_words_and_figures(
    browser: Browser, experiments_address: str, root: Path, theme: str, width: int
) -> None:
    store = ExperimentStore(root, clock=lambda: datetime.now(UTC) - timedelta(hours=3))
    for experiment in (MERGING, DRAFT):
        store.put([experiment])
    ExperimentStore(root).put([replace(LATER, variants=(Variant("a"), Variant("b", VariantOptions(rules=False))))])
    record_searches(root, 40)
    with visiting(browser, experiments_address, color_scheme=theme, viewport={"width": width, "height": 800}) as visit:
        page = visit.page
        page.goto("/admin#experiments")
        page.get_by_role("button", name="Edit later").wait_for()
        expect(row(visit, "merging")).to_contain_text(HOSTILE)
        page.get_by_role("button", name="Report on merging").click()
        report = page.get_by_role("region", name="Report")
        report.get_by_text("not yet:").wait_for()
        rrf = (
            report.get_by_role("region", name="Variants").get_by_role("row").filter(has_text="rrf").get_by_role("cell")
        )
        for place, figure in enumerate(["rrf", "20", "20", "20", "100.0%"]):
            expect(rrf.nth(place)).to_have_text(figure)
        seen = report.get_by_role("region", name="Differences").get_by_role("row").filter(has_text="clicked searches")
        expect(seen).to_contain_text("+100.00 points")
        visit.settle()
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("button", name="Report on draft").click()
        wins = report.get_by_role("region", name="Wins").get_by_role("row").filter(has_text="merged over now")
        expect(wins).to_contain_text("100.0%")
        expect(page).to_have_title("Experiments · Shelfwise admin")
        page.get_by_role("button", name="Edit later").click()
        shown = page.get_by_label("From", exact=True)
        assert shown.evaluate("input => new Date(input.value).toISOString()") == "2100-01-01T00:00:00.000Z"
        expect(page.get_by_label("Id", exact=True)).to_have_attribute("readonly", "")
        visit.settle()
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
