"""The report of a run as a page and in a terminal: safe whatever the events say, and nothing left unsaid."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from service.reports.training import Findings, LearnReport, RunDecision
from service.reports.training_page import html, show_learned
from service.training.user_tower import NEAR
from tests.reports import findings, learn_report, recommends

HOSTILE = '<script>alert(1)</script>"onmouseover="x" &amp; \x07\x1b[2J\u202egnp.exe {{ 7*7 }} $x^2$ [red]b[/]'


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def elements(report: LearnReport) -> _Elements:
    found = _Elements()
    found.feed(html(report))
    return found


def shown(report: LearnReport, width: int = 100) -> str:
    file = io.StringIO()
    show_learned(report, Path("store/training/learn.html"), Path("store"), Console(file=file, width=width))
    return file.getvalue()


def test_hostile_text_stays_text_on_the_page() -> None:
    page, found = html(learn_report(HOSTILE)), elements(learn_report(HOSTILE))
    assert "script" not in found.tags
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    assert found.tags == elements(learn_report("plain")).tags


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page, found = html(learn_report()), elements(learn_report())
    links = [value or "" for name, value in found.attributes if name in ("href", "src", "xlink:href")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "url(http" not in page
    labels = re.findall('svg role="img" aria-label="([^"]*)"', page)
    assert labels == [
        "nDCG@10 of each order on the last lists, with 95% intervals",
        "nDCG@10 gained over what serves, by slice, with 95% intervals",
        "nDCG@10 on the validation lists, by epoch",
        "Mean loss of each epoch",
        "Examination and click rate of each position",
        "nDCG@10 of what shoppers chose next, by epoch",
    ]


def test_every_stage_and_count_stands_on_the_page() -> None:
    page = html(learn_report())
    for said in ("1 min 11 s", "left as it is", "not trained", "stopped here", "did not end"):
        assert said in page
    assert "queries that were shown and never clicked" in page
    assert "pairs of query and product whose product is gone" not in page  # there are none
    assert ">worse<" in page


@pytest.mark.parametrize("events", [True, False])
def test_one_that_was_refused_has_no_plots(events: bool) -> None:
    refused = learn_report(
        decision=RunDecision.REFUSED, findings=None, shoppers=None, ranker="", against="", removed=()
    )
    page = html(refused if events else replace(refused, events=None))
    assert "<svg" not in page
    assert "No ranker was trained" in page
    assert ("Excluded data" in page) == events


@pytest.mark.parametrize("found", [findings(), None])
def test_what_recommends_has_its_figures_beside_what_serves(found: Findings | None) -> None:
    page = html(learn_report(findings=found))
    for said in ("tower-0003", "rejected: ", "What 400 shoppers chose first", NEAR, "0.2500", "0.1250", "0.2000"):
        assert said in page
    serving = html(learn_report(shoppers=recommends(is_new=False)))
    assert "serves; it is that of an earlier run on the same acts." in serving


def test_a_training_that_measured_nothing_still_has_a_page() -> None:
    nothing = findings(orders=(), above_naive=None, comparisons=(), positions=())
    page = html(learn_report(findings=nothing))
    assert "No clicked product of the last lists is among the current candidates." in page


def test_the_same_report_gives_the_same_bytes() -> None:
    assert html(learn_report()) == html(learn_report())


def test_json_is_the_report_again() -> None:
    report = learn_report(HOSTILE)
    assert msgspec.json.decode(report.to_json(), type=LearnReport) == report


def test_the_terminal_says_it_in_short() -> None:
    text = shown(learn_report())
    assert text.splitlines()[0] == "The new ranker is rejected"
    assert "left as it is" not in text  # it says more
    assert text.count("nothing was clicked") >= 4
    assert "stopped here" in text
    assert "merged order" in text
    assert text.splitlines()[-1] == "The whole report: store/training/learn.html"


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = shown(learn_report(HOSTILE))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_how_to_go_back_is_said_where_another_ranker_served() -> None:
    text = shown(learn_report(decision=RunDecision.SERVES, against="ranker-0001"))
    assert "to go back to it: shelfwise models rollback store" in text
