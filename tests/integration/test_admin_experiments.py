"""The Experiments tab of the admin page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.experiments.experiment import Experiment, ExperimentStore, Mode, Unit, Variant, VariantOptions
from shelfwise.service.settings import Settings
from tests.browsers import Visit, serious_faults, served, visiting
from tests.learning_stores import record_searches

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Locator

HOSTILE = "<img src=x onerror=document.title='lost'>"
MERGING = Experiment("merging", (Variant("now"), Variant("rrf", VariantOptions(merge="rrf"))), HOSTILE)
DRAFT = Experiment("draft", (Variant("now"), Variant("merged", VariantOptions("merged"))), mode=Mode.INTERLEAVE)
LATER = replace(MERGING, id="later", starts=datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "store"))


@pytest.fixture
def address(root: Path) -> Iterator[str]:
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as engine, served(engine) as url:
        yield url


def row(visit: Visit, name: str) -> Locator:
    return visit.page.get_by_role("region", name="Experiments").get_by_role("row").filter(has_text=name)


def test_experiment_is_saved_copied_and_stopped(browser: Browser, address: str, root: Path) -> None:
    store = ExperimentStore(root)
    with visiting(browser, address) as visit:
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
    browser: Browser, address: str, root: Path, theme: str, width: int
) -> None:
    store = ExperimentStore(root, clock=lambda: datetime.now(UTC) - timedelta(hours=3))
    for experiment in (MERGING, DRAFT):
        store.put([experiment])
    ExperimentStore(root).put([replace(LATER, variants=(Variant("a"), Variant("b", VariantOptions(rules=False))))])
    record_searches(root, 40)
    with visiting(browser, address, color_scheme=theme, viewport={"width": width, "height": 800}) as visit:
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
