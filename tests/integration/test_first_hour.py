"""An owner's first hour by the pages alone, in a real browser, from the link that `serve` prints: a key, a rule, a
synonym, an experiment, a feed and a campaign. Nothing is read elsewhere, and no id, setting or command is typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browsers import Visit, serious_faults, visiting
from tests.services import service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

FEED = """Artikelnummer;Bezeichnung;brand;Preis;color
L1;Aurora Desk Lamp with Dimmer;Lumo;39,90 €;black
L2;Aurora Floor Lamp with Dimmer;Lumo;89,00 €;white
L3;Zephyr Bedside Lamp;Nordlys;24,50 €;white
L4;Zephyr Reading Lamp with Clip;Nordlys;on request;black
"""
COLUMNS = "id=Artikelnummer, title=Bezeichnung, price=Preis"
REBUILD_MS = 180_000


class Owner:
    """What an owner does on the pages; each step leaves a screenshot."""

    def __init__(self, visit: Visit, pictures: Path) -> None:
        self.page, self._visit, self._pictures = visit.page, visit, pictures
        self.page.on("dialog", lambda dialog: dialog.accept())

    def open(self, tab: str) -> None:
        self._visit.settle()
        if self.page.locator("#menu").is_visible():
            self.page.locator("#menu").click()
        self.page.get_by_role("navigation").get_by_role("link", name=tab, exact=True).click()
        self._visit.settle()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True)

    def look(self, name: str) -> None:
        """Takes a screenshot of the whole page, which must be accessible and no wider than the window."""
        self._visit.settle()
        self.page.screenshot(path=self._pictures / f"{name}.png", full_page=True)
        assert serious_faults(self.page) == [], name
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name

    def search(self, query: str) -> None:
        """Searches in the store, as a shopper."""
        self.page.goto("/")
        self.page.get_by_role("combobox", name="Search").fill(query)
        self.page.get_by_role("combobox", name="Search").press("Enter")
        self._visit.results(query)

    def pick(self, words: str) -> str:
        """Picks the first product that is offered for some words; returns its title."""
        self.page.get_by_role("searchbox", name="Products").fill(words)
        offer = self.page.locator(".offers button").first
        title = (offer.text_content() or "").rpartition(" (")[0]
        offer.click()
        return title


@pytest.mark.parametrize("width", [1_280, pytest.param(390, marks=pytest.mark.slow)])
def test_the_first_hour_by_the_pages_alone(browser: Browser, root: Path, tmp_path: Path, width: int) -> None:
    feed = tmp_path / "lamps.csv"
    feed.write_text(FEED)
    with service(root, tmp_path / "log") as running:
        printed = running.log.read_text("utf-8")
        (link,) = re.findall(r"http://\S+/admin\?token=\S+", printed)
        with visiting(browser, running.address, viewport={"width": width, "height": 900}) as visit:
            owner = Owner(visit, tmp_path)
            owner.page.goto(link)
            create_key(owner)
            create_rule(owner)
            add_synonym(owner)
            start_experiment(owner)
            publish_feed(owner, feed)
            create_campaign(owner)
            visit.faults = [each for each in visit.faults if "status of 4" not in each]


def create_key(owner: Owner) -> None:
    owner.open("Keys")
    owner.press("New key")
    owner.field("Name").fill("web shop")
    owner.look("key-form")
    owner.press("Create the key")
    expect(owner.page.get_by_role("region", name="The new key").locator("code")).to_contain_text("sw")
    owner.look("key")
    owner.search("drill")  # the store page goes on serving
    owner.page.goto("/admin")


def create_rule(owner: Owner) -> None:
    owner.open("Rules")
    owner.press("New rule")
    owner.field("Query").fill("tent")
    owner.press("Save")
    owner.page.get_by_role("alert").filter(has_text="there is none; add one").wait_for()
    owner.press("Add")
    title = owner.pick("sleeping bag")
    owner.look("rule-form")
    owner.press("What would this change?")
    owner.page.get_by_role("region", name="What would change").get_by_role("row").filter(has_text=title).wait_for()
    owner.look("rule-preview")
    owner.press("Save")
    owner.page.get_by_role("button", name="Switch off tent").wait_for()
    owner.look("rules")
    owner.search("tent")
    expect(owner.page.locator(".hits .card[data-product]").first).to_contain_text(title)
    owner.look("rule-in-the-store")
    owner.search("drill")
    expect(owner.page.locator(".hits .card[data-product]").first).not_to_contain_text(title)
    owner.page.goto("/admin")


def add_synonym(owner: Owner) -> None:
    owner.open("Synonyms")
    owner.press("New synonym")
    owner.field("Words, separated by commas").fill("tent, zorbling")
    owner.press("Save")
    owner.page.get_by_role("button", name="Switch off tent, zorbling").wait_for()
    owner.look("synonym")
    owner.search("zorbling")
    owner.page.goto("/admin")


def start_experiment(owner: Owner) -> None:
    owner.open("Experiments")
    owner.press("New experiment")
    owner.field("Id").fill("without-rules")
    owner.press("Save")
    owner.page.get_by_role("alert").filter(has_text="equals 'now'").wait_for()
    owner.look("experiment-form")
    owner.page.get_by_role("group", name="Variant 2").get_by_label("Rules").select_option("without rules")
    owner.press("Save")
    owner.page.get_by_role("region", name="Experiments").get_by_text("running").wait_for()
    owner.look("experiment")


def publish_feed(owner: Owner, feed: Path) -> None:
    owner.open("Feeds")
    owner.look("feeds-off")
    owner.press("Switch uploads on")
    owner.field("File").set_input_files(feed)
    owner.press("Upload and check")
    owner.page.get_by_role("alert").filter(has_text="no column is the id").wait_for(timeout=REBUILD_MS)
    expect(owner.field("Columns of the file, as field=column")).to_have_value(COLUMNS)
    owner.look("feed-columns")
    owner.press("Check again")
    owner.page.get_by_role("button", name="Publish", exact=True).wait_for(timeout=REBUILD_MS)
    expect(owner.page.get_by_role("region", name="Rejected rows of lamps.csv")).to_contain_text("broken price")
    owner.look("feed-checked")
    owner.press("Publish")
    owner.page.get_by_role("alert").filter(has_text="were rejected").wait_for(timeout=REBUILD_MS)
    owner.look("feed-refused")
    owner.page.get_by_role("checkbox", name="Publish anyway, even if many rows are rejected or products lost").check()
    owner.press("Publish")
    owner.page.get_by_role("row", name=re.compile("lamps.csv.*yes")).wait_for(timeout=REBUILD_MS)
    owner.look("feed-published")
    owner.page.get_by_text("Rebuild without an upload").click()
    owner.press("Rebuild")  # with the columns of the upload
    owner.page.get_by_role("alert").filter(has_text="were rejected").wait_for(timeout=REBUILD_MS)
    owner.search("lamp")
    expect(owner.page.locator(".hits .card[data-product]")).to_have_count(3)
    owner.page.goto("/admin")


def create_campaign(owner: Owner) -> None:
    owner.open("Sponsored")
    owner.press("Switch sponsored hits on")
    owner.press("New campaign")
    title = owner.pick("bedside lamp")
    owner.field("Advertiser").fill("nordlys")
    owner.field("Bid per click").fill("0.30")
    owner.look("campaign-form")
    owner.press("Save")
    owner.page.get_by_role("region", name="Campaigns").get_by_text("running").wait_for()
    owner.look("campaign")
    owner.search("lamp")
    expect(owner.page.get_by_role("region", name="Sponsored")).to_contain_text(title)
    owner.look("campaign-in-the-store")
