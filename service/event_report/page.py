"""The report as one HTML page that needs nothing else: no script, no outside resource, plots inside.

Everything that comes of events is escaped, and control characters are replaced: queries are what anybody likes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.quality.templates import drawn, template
from service.event_report import texts
from service.event_report.plots import plots
from service.event_report.queries import LEAST_RISE
from service.event_report.report import EventReport

if TYPE_CHECKING:
    from jinja2 import Template

_MOST_REASONS = 3
"""Of a suspect; most have the same."""
_PAGE = Path(__file__).with_name("page.html.j2")


def html(report: EventReport) -> str:
    """The page; the same report gives the same bytes."""
    drawings = drawn(plots(report))
    return _template().render(report=report, plots=drawings, least_rise=LEAST_RISE, most_reasons=_MOST_REASONS)


@cache
def _template() -> Template:
    told = (texts.share, texts.number, texts.times, texts.interval, texts.day, texts.minute, texts.plural)
    return template(_PAGE, {each.__name__: each for each in told})
