"""What a run decided and why, in a few sentences for whoever minds the shop and not the program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rerank.gate.verdict import ALL_QUERIES, NDCG, Comparison
from rerank.ranker.spec import NAIVE
from rerank.training.click_training import Way
from service.learning.report import Decision, EventsRead, Findings, Recommends, TextTowers
from service.training.tower_gate import TOWER

_NAIVE_WAY: Way = "naive"


def told(decision: Decision, ranker: str, against: str, found: Findings, events: EventsRead | None) -> tuple[str, ...]:
    """Of a run that came to its end; `against` is what the new ranker was judged against."""
    return tuple(_sentences(decision, ranker, against, found, events))


def refused(why: str, stage: str) -> tuple[str, ...]:
    """Of a run that stopped in a stage."""
    return f"No ranker was trained: {why}.", f"It stopped at: {stage}. What served before serves on."


def recommending(found: Recommends | None) -> tuple[str, ...]:
    """Of the shopper tower, where there is one."""
    if found is None:
        return ()
    new, before = (next(way for way in found.report.ways if way.name == name) for name in (TOWER, found.report.against))
    verdict = "recommends" if found.serves else f"does not recommend: {'; '.join(found.report.aside)}"
    if not found.is_new:
        verdict = f"was trained on the same acts before, and {verdict}"
    elif found.serves:
        verdict += " from now on"
    return (
        f"The shopper tower, {found.tower}, {verdict}. What a shopper chose next is among its first ten for "
        f"{new.hit_rate:.1%} of {found.report.shoppers:,} shoppers; by {before.name}, for {before.hit_rate:.1%} "
        f"(nDCG@10 {new.ndcg:.4f} and {before.ndcg:.4f}).",
    )


def encoding(found: TextTowers | None) -> tuple[str, ...]:
    """Of the encoder, where one was trained."""
    if found is None or not found.folder:
        return ()
    verdict = f"serves from now on, as {found.version}" if found.version else "is kept aside"
    return (f"The encoder that was trained on {found.queries:,} clicked queries {verdict}.",)


def _sentences(
    decision: Decision, ranker: str, against: str, found: Findings, events: EventsRead | None
) -> Iterator[str]:
    if decision is Decision.SERVES:
        yield f"The new ranker, {ranker}, serves from now on. It was found better than {against}, which served before."
    elif decision is Decision.SWITCHED_OFF:
        yield f"The new ranker, {ranker}, may serve: it was found better than {against}. Rankers are switched off."
    else:
        yield f"The new ranker, {ranker}, does not serve; {against} serves on. {_why_not(found.comparisons)}"
    yield from _reached(against, found)
    robots = f" Robots and fraud are left out: {events.flagged_visits:,} visits." if events else ""
    yield f"It learned from {found.lists:,} lists that shoppers were shown, of {found.queries:,} queries.{robots}"
    yield from _beside_naive(found)


def _why_not(comparisons: Sequence[Comparison]) -> str:
    if worse := [each for each in comparisons if each.is_worse]:
        named = (each.measure if each.slice == ALL_QUERIES else f"{each.measure} on {each.slice}" for each in worse)
        return f"It is surely worse in {', '.join(named)}."
    whole = _whole(comparisons)
    if whole is None or whole.difference is None:
        return f"Only {whole.queries if whole else 0:,} queries of the last lists can judge it: too few to decide."
    return "It is not surely better: the difference may be chance."


def _reached(against: str, found: Findings) -> Iterator[str]:
    whole = _whole(found.comparisons)
    if whole is not None and whole.challenger is not None and whole.served is not None:
        yield (
            f"On the last {found.judging_lists:,} lists, which it had not seen, it puts what shoppers clicked and "
            f"bought at {whole.challenger:.1%} of the best possible order, {against} at {whole.served:.1%} ({NDCG})."
        )


def _beside_naive(found: Findings) -> Iterator[str]:
    """Where the way that was asked for is not that one itself."""
    reached = {each.order: each.ndcg for each in found.orders}
    gain = found.above_naive
    if gain is None or NAIVE not in reached or found.curves[0].way == _NAIVE_WAY:
        return
    sure = "surely less" if gain.low > 0 else "surely more" if gain.high < 0 else "no sure difference"
    yield (
        "Learning from clicks as they are, as if shoppers looked at every position alike, would have reached "
        f"{reached[NAIVE]:.1%}: {sure}."
    )


def _whole(comparisons: Sequence[Comparison]) -> Comparison | None:
    """nDCG@10 over all queries."""
    return next((each for each in comparisons if (each.measure, each.slice) == (NDCG, ALL_QUERIES)), None)
