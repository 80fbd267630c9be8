"""The report as one HTML page that needs nothing else: no script, no outside resource, plots inside."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.quality.templates import drawn, template
from service.event_report import texts
from service.learning import words
from service.learning.plots import plots, shopper_plot
from service.learning.report import LearnReport

if TYPE_CHECKING:
    from jinja2 import Template

_PAGE = Path(__file__).with_name("page.html.j2")


def html(report: LearnReport) -> str:
    """The page; the same report gives the same bytes."""
    drawings = dict(plots(report.findings)) if report.findings else {}
    if report.shoppers:
        drawings["shoppers"] = shopper_plot(report.shoppers.report.curve)
    return _template().render(report=report, plots=drawn(drawings))


@cache
def _template() -> Template:
    told = (
        *(texts.share, texts.day, texts.minute, texts.plural),
        *(words.headline, words.order_name, words.model_name, words.seconds, words.measure, words.difference),
        *(words.judgment, words.left_out),
    )
    return template(_PAGE, {each.__name__: each for each in told})
