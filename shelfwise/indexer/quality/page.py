"""The quality report as one HTML page without scripts or external resources.

Everything from a feed is escaped, and characters that could be harmful in a page are replaced. The same report gives
the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from shelfwise.indexer.quality.report import QualityReport
from shelfwise.indexer.quality.rules import Measure
from shelfwise.retrieval.html_report import share_text

if TYPE_CHECKING:
    from jinja2 import Template

_PAGE = Path(__file__).with_name("page.html.j2")
_MAX_LANGUAGES = 8
_MAX_CURRENCIES = 3
# Signs that change the direction of text could make a row appear to say something else.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FILTERS: Mapping[str, Callable[..., Any]] = {
    "file_name": lambda path: Path(path).name or path,
    "capitalize_first": lambda text: text[:1].upper() + text[1:],
    "count": "{:,}".format,
    "share": share_text,
}


def html(report: QualityReport) -> str:
    """The page; the same report gives the same bytes."""
    rejected = sum(counted.count for counted in report.rejected.values())
    charts = {title: rows for title, rows in _charts(report) if rows}
    return _template().render(charts=charts, report=report, rejected=rejected)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_PAGE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_replace_harmful,
    )
    environment.filters |= _FILTERS
    return environment.get_template(_PAGE.name)


def _replace_harmful(value: object) -> object:
    """A text without characters that a page cannot contain or that would change its direction."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "".join("\ufffd" if _is_harmful(mark) else mark for mark in value)


def _is_harmful(mark: str) -> bool:
    code = ord(mark)
    is_control = (code < 32 and mark not in "\t\n") or 0x7F <= code < 0xA0
    return is_control or mark in _BIDI_CONTROLS or 0xD800 <= code < 0xE000


class Bar(NamedTuple):
    """A row of a bar chart."""

    label: str
    length: float
    """In percent of the longest possible bar."""
    text: str


def _charts(report: QualityReport) -> Iterator[tuple[str, list[Bar]]]:
    """The bar charts by title; those without data have no rows."""
    charts = report.charts
    measures: Counter[str] = Counter(dict.fromkeys((each.value for each in Measure), 0))
    for finding in report.findings:
        measures[finding.measure.value] += finding.count
    yield "Findings by measure", _bars(measures)
    filled = charts.filled if report.products else {}
    yield "Fields that are filled", [Bar(name, 100 * share, share_text(share)) for name, share in filled.items()]
    frequent = sorted(charts.prices.items(), key=lambda item: -sum(one.count for one in item[1]))
    for currency, bins in frequent[:_MAX_CURRENCIES]:
        ranges = {f"{one.low:,.2f} to {one.high:,.2f}": one.count for one in bins}
        yield f"Prices, {currency or 'no currency'}", _bars(ranges)
    yield "Time since the last update, up to", _bars(charts.ages)
    languages = {code or "unknown": count for code, count in charts.languages.items()}
    yield "Languages", _bars(languages)[:_MAX_LANGUAGES]


def _bars(counts: Mapping[str, int]) -> list[Bar]:
    """Counts as bars; none if all are 0."""
    longest = max(counts.values(), default=0)
    return [Bar(name, 100 * count / longest, f"{count:,}") for name, count in counts.items()] if longest else []
