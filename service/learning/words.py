"""Names and numbers of a run as the page and the terminal tell them."""

from __future__ import annotations

from collections.abc import Mapping

from rerank.clicks.models import BASELINES
from rerank.gate.bootstrap import Difference
from rerank.gate.verdict import Comparison
from rerank.ranker.spec import MERGED, NAIVE, NEW, SERVED
from service.learning.report import Decision, Gain, LearnReport

_ORDERS: Mapping[str, str] = {
    MERGED: "merged order",
    SERVED: "served before",
    NAIVE: "clicks as they are",
    NEW: "new ranker",
}
_LONGEST_NAME = 24
_BASELINES: Mapping[str, str] = {
    "ctr": "each product's click rate, whatever its position",
    "position": "each position's click rate, whatever stands there",
}
HEADLINES: Mapping[Decision, str] = {
    Decision.SERVES: "A better ranker serves",
    Decision.SWITCHED_OFF: "A better ranker is ready; rankers are switched off",
    Decision.ASIDE: "The new ranker is kept aside",
    Decision.REFUSED: "No ranker was trained",
}


def order_name(order: str) -> str:
    """What an order is, in words."""
    return _ORDERS.get(order, order)


def model_name(model: str) -> str:
    """What a click model supposes; the name of one that is no plain rate."""
    return _BASELINES[model] if model in BASELINES and model in _BASELINES else f"click model {model}"


def slice_name(name: str) -> str:
    """A slice's name for a plot, which takes text as it is: a language's is what the feed says."""
    plain = "".join(mark if mark.isprintable() else "\ufffd" for mark in name)
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"


def headline(report: LearnReport) -> str:
    """The decision in a few words."""
    return HEADLINES[report.decision]


def seconds(value: float) -> str:
    """A duration."""
    minutes, rest = divmod(value, 60)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{value:.1f} s"


def measure(value: float | None) -> str:
    """A measure, or a dash where it is not known."""
    return "–" if value is None else f"{value:.4f}"


def difference(found: Difference | Gain | None) -> str:
    """By how much one is better than the other, with the interval."""
    return "too few to tell" if found is None else f"{found.mean:+z.4f} ({found.low:+z.4f} to {found.high:+z.4f})"


def judgment(comparison: Comparison) -> str:
    """What the gate makes of a comparison."""
    if comparison.difference is None:
        return "does not count"
    return "better" if comparison.is_better else "worse" if comparison.is_worse else "no sure difference"


def left_out(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by what they are of, without those of nothing."""
    return {_LEFT_OUT.get(name, name.replace("_", " ")): count for name, count in counts.items() if count}


_LEFT_OUT: Mapping[str, str] = {
    "unclicked_queries": "queries that were shown and never clicked",
    "gone_products": "pairs of query and product whose product is gone",
    "lost_candidates": "pairs whose product is not among its query's candidates any more",
    "unanswered_queries": "queries that leave nothing to choose from",
}
