"""What to show next to a shopper: products near to those that were chosen last, each of these counting for itself.

The mean of what somebody looked at lies near to none of it where that was a drill and a lamp, so a product is scored by
the one act that it is nearest to (several interests of one user, as in Pal et al. 2020, PinnerSage, section 4).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from retrieval.events.event import EventKind
from retrieval.records import Hit, Page, PastAct, StageScore
from service.merchandising.compiled import CompiledRules
from service.merchandising.effect import NOTHING
from service.searching import condition_of, nearest_to
from service.snapshot import Snapshot

NEWEST = 8
"""Products, the last ones that somebody did something with."""
_FADING = 0.9
"""How much less each older one counts."""
_WORTH: Mapping[EventKind, float] = {EventKind.CART: 1.1, EventKind.PURCHASE: 0.7}
"""Of kinds of acts, others being 1: more for what is wanted, less for what is had."""


def recommended(
    snapshot: Snapshot,
    acts: Sequence[PastAct],
    size: int,
    filters: str,
    lost: tuple[str, ...] = (),
    rules: CompiledRules | None = None,
) -> Page:
    """The best `size` products for who did this, oldest act first; nothing of what they did it with, nor what `rules`
    keep out. A history of products that are not there gives no hits."""
    asked = condition_of(snapshot, filters)
    effect = rules.effect(("",), asked, time.time()) if rules else NOTHING
    where = effect.condition(asked)
    rows = _newest(snapshot, acts)
    left_out = {row for act in acts if (row := snapshot.products.row_of(act.product_id)) is not None}
    best: dict[int, float] = {}
    for row, weight in rows.items():
        found = nearest_to(snapshot, snapshot.vectors.vector(row), size + len(left_out), where, is_lost=bool(lost))
        for other, cosine in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
            if other not in left_out:
                best[other] = max(best.get(other, -1.0), weight * cosine)
    ordered = sorted(best.items(), key=lambda each: (-each[1], each[0]))[:size]
    hits = tuple(
        Hit(snapshot.products[row], score, {"dense": StageScore(rank, score)})
        for rank, (row, score) in enumerate(ordered, 1)
    )
    return Page(hits, len(hits), 1, size, degraded=lost, version=snapshot.manifest.version, rules=effect.kept_out_by)


def _newest(snapshot: Snapshot, acts: Sequence[PastAct]) -> dict[int, float]:
    """The rows of the last products, newest first, each with what its latest act is worth."""
    worth: dict[int, float] = {}
    for act in reversed(acts):
        row = snapshot.products.row_of(act.product_id)
        if row is None or row in worth or not snapshot.vectors.vector(row).any():
            continue
        worth[row] = _WORTH.get(act.kind, 1.0) * _FADING ** len(worth)
        if len(worth) == NEWEST:
            break
    return worth
