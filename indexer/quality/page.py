"""The quality report as one HTML page that needs nothing else: no script, no outside resource, plots inside.

Everything from a feed is escaped, and control characters are replaced.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.quality.plots import plots
from indexer.quality.report import QualityReport, share_text
from indexer.quality.templates import drawn, template

if TYPE_CHECKING:
    from jinja2 import Template

_PAGE = Path(__file__).with_name("page.html.j2")


def html(report: QualityReport) -> str:
    """The page; the same report gives the same bytes."""
    rejected = sum(counted.count for counted in report.rejected.values())
    return _template().render(report=report, plots=drawn(plots(report)), rejected=rejected)


@cache
def _template() -> Template:
    return template(_PAGE, {"percent": share_text, "capitalize_first": _capitalized, "file_name": _file_name})


def _file_name(path: str) -> str:
    return Path(path).name or path


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
