"""The quality report as one HTML page that needs nothing else: no script, no outside resource, plots inside.

The only file that imports jinja2. Everything from a feed is escaped, and control characters are replaced.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from indexer.quality.plots import plots
from indexer.quality.report import QualityReport, share_text

_FOLDER = Path(__file__).parent
# Signs that turn the direction of the text around them could make a row say something else than it does.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def html(report: QualityReport) -> str:
    """The page; the same report gives the same bytes."""
    drawn = {title: Markup(svg) for title, svg in plots(report).items()}  # noqa: S704  # our own plots of numbers
    rejected = sum(counted.count for counted in report.rejected.values())
    return _template().render(report=report, plots=drawn, rejected=rejected)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters |= {
        "count": _count,
        "percent": share_text,
        "capitalize_first": _capitalized,
        "file_name": _file_name,
    }
    return environment.get_template("page.html.j2")


def _harmless(value: object) -> object:
    """A text without characters that a page cannot hold or that would turn its text around."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "".join("\ufffd" if _is_harmful(mark) else mark for mark in value)


def _is_harmful(mark: str) -> bool:
    return (
        mark in _TURNING or (ord(mark) < 32 and mark not in "\t\n") or 0x7F <= ord(mark) < 0xA0 or _is_surrogate(mark)
    )


def _is_surrogate(mark: str) -> bool:
    return 0xD800 <= ord(mark) < 0xE000


def _count(value: int) -> str:
    return f"{value:,}"


def _file_name(path: str) -> str:
    return Path(path).name or path


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
