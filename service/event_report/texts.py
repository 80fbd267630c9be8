"""Numbers as the page and the terminal tell them."""

from __future__ import annotations

from datetime import datetime

from indexer.quality.report import share_text
from service.event_report.intervals import Estimate

NOTHING = "–"


def share(value: float | None) -> str:
    """A share in percent; a dash where there is nothing of which it could be one."""
    return share_text(value)


def number(value: float | None) -> str:
    """A number with one decimal, or a dash."""
    return NOTHING if value is None else f"{value:,.1f}"


def times(value: float) -> str:
    """How many times as much."""
    return f"×{value:.2f}"


def interval(estimate: Estimate) -> str:
    """The ends of an interval in percent, or a dash."""
    if estimate.lower is None or estimate.upper is None:
        return NOTHING
    if estimate.lower == estimate.upper:
        return "by definition"
    return f"{share(estimate.lower).rstrip('%')} to {share(estimate.upper)}"


def day(moment: datetime | None) -> str:
    """The date, UTC, or a dash."""
    return NOTHING if moment is None else f"{moment:%Y-%m-%d}"


def minute(moment: datetime) -> str:
    """The date and time of day, UTC."""
    return f"{moment:%Y-%m-%d %H:%M}"


def plural(count: int, one: str) -> str:
    """A count with its noun."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"
