"""A shopper's history in a search: checked as a caller gives it, and made into what a ranker reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from operator import itemgetter

import numpy as np

from rerank.ranker.inputs import ACT_KINDS, MOST_ACTS, History
from retrieval.errors import QueryError
from retrieval.events.event import EventKind
from retrieval.records import PastAct
from service.snapshot import Snapshot

MOST_GIVEN = 1_000
"""Acts of a history; longer ones are refused rather than cut."""
UNREAD = "the history counts for nothing: no ranker serves that reads one"
"""What to say to who gave one where `SearchEngine.reads_history` is false."""
_KINDS = ", ".join(ACT_KINDS[:-1]) + f" or {ACT_KINDS[-1]}"
_LONGEST = timedelta(days=36_500)
_AHEAD = timedelta(days=1)
"""By how much a shop's clock may be ahead of ours."""
_DAY = 86_400.0


def checked_history(history: Sequence[PastAct], now: datetime) -> tuple[PastAct, ...]:
    """The acts as a query holds them; raises QueryError, which names the act, for what is no history."""
    if isinstance(history, str) or not isinstance(history, Sequence):
        raise QueryError(f"history is {type(history).__name__}, it must be a list such as [PastAct('B0042')]")
    if len(history) > MOST_GIVEN:
        raise QueryError(f"the history has {len(history):,} acts, at most {MOST_GIVEN:,} are taken; give the newest")
    for number, act in enumerate(history, 1):
        if problem := _problem(act, now):
            raise QueryError(f"act {number} of the history {problem}")
    return tuple(history)


def _problem(act: PastAct, now: datetime) -> str:
    """What is wrong with an act, or nothing; a caller without a type checker is told as clearly as one with it."""
    if not isinstance(act, PastAct):
        return f"is {type(act).__name__}, it must be PastAct"
    if not isinstance(act.product_id, str) or not act.product_id:
        return f"is of the product {act.product_id!r}, a product's id must be a text that is not empty"
    if not isinstance(act.kind, str) or act.kind not in ACT_KINDS:
        return f"is of the kind {act.kind!r}, it can be {_KINDS}"
    return "" if act.at is None else _time_problem(act.at, now)


def _time_problem(at: datetime, now: datetime) -> str:
    if not isinstance(at, datetime):
        return f"has the time {at!r}, it must be a datetime"
    if at.utcoffset() is None:
        return f"is at {at.isoformat()}, a time needs a zone, such as +00:00"
    if not -_AHEAD <= now - at <= _LONGEST:
        return f"is at {at.isoformat()}, it can be a hundred years ago and a day ahead of now at most"
    return ""


def parsed_history(text: str) -> tuple[PastAct, ...]:
    """The acts in a text such as "B0042,B0007:cart", oldest first: ids of products, with a kind where it is no click.

    Raises QueryError, which says what it should be, for anything else.
    """
    return tuple(_parsed(part.strip(), text) for part in text.split(",")) if text.strip() else ()


def _parsed(part: str, text: str) -> PastAct:
    product_id, colon, kind = part.rpartition(":")
    if not colon:
        product_id, kind = part, EventKind.CLICK
    if not product_id:
        raise QueryError(f"history is {text!r}, which has an act without a product; it is like B0042,B0007:cart")
    if kind not in ACT_KINDS:
        raise QueryError(f"history has {part!r}; behind an id's last colon stands {_KINDS}, as in B0007:cart")
    return PastAct(product_id, EventKind(kind))


def by_time(acts: Sequence[PastAct], now: float) -> list[tuple[float, PastAct]]:
    """Acts with their times in seconds since 1970, oldest first; those without one are of `now`, and acts of the same
    time stand in the order in which they were given."""
    timed = [(now if act.at is None else act.at.timestamp(), act) for act in acts]
    return sorted(timed, key=itemgetter(0))


def unknown_products(snapshot: Snapshot, acts: Sequence[PastAct]) -> tuple[str, ...]:
    """A warning that names the products of acts that are none of the catalog's and count for nothing, if there are."""
    gone = dict.fromkeys(act.product_id for act in acts if snapshot.products.row_of(act.product_id) is None)
    named = ", ".join(islice(gone, 5)) + (f" and {len(gone) - 5:,} more" if len(gone) > 5 else "")
    return (f"no product has the id {named}: what was done with it counts for nothing",) if gone else ()


def read_history(snapshot: Snapshot, acts: Sequence[PastAct], now: float) -> History:
    """The newest acts whose products the catalog has, as a ranker reads them; `now` is in seconds since 1970.

    A product without a vector, which came as a live change while the encoder was lost, is passed over, too.
    """
    newest_first = reversed(by_time(acts, now))
    placed = ((snapshot.products.row_of(act.product_id), time, act.kind) for time, act in newest_first)
    known = list(islice(((row, time, kind) for row, time, kind in placed if row is not None), MOST_ACTS))[::-1]
    vectors = snapshot.vectors.gather(np.array([row for row, _, _ in known], np.int64))
    kinds = np.array([ACT_KINDS.index(kind) for _, _, kind in known], np.int64)
    gaps = np.array([max(0.0, now - time) / _DAY for _, time, _ in known], np.float32)
    has_vector = vectors.any(axis=1)
    return History(vectors[has_vector], kinds[has_vector], gaps[has_vector])
