"""What to show next to a shopper: by the shopper tower where one serves; else products near to those that were chosen
last, each of these counting for itself.

The mean of what somebody looked at lies near to none of it where that was a drill and a lamp, so a product is scored by
the one act that it is nearest to (several interests of one user, as in Pal et al. 2020, PinnerSage, section 4).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from retrieval.conditions import Condition
from retrieval.errors import ShopperTowerError
from retrieval.events.event import EventKind
from retrieval.records import Hit, Page, PastAct, StageScore
from service.merchandising.compiled import CompiledRules
from service.merchandising.effect import NOTHING
from service.past_acts import by_time
from service.searching import condition_of, nearest_to
from service.served_tower import OpenedTower
from service.snapshot import Snapshot
from service.tower_recommending import ShopperVectors

NEWEST = 8
"""Products, the last ones that somebody did something with."""
FADING = 0.9
"""How much less each older one counts."""
WORTH: Mapping[EventKind, float] = {EventKind.CART: 1.1, EventKind.PURCHASE: 0.7}
"""Of kinds of acts, others being 1: more for what is wanted, less for what is had."""

TOWER = "shopper tower"
"""What a page names among what is missing where the tower that serves could not answer."""


def recommended(
    snapshot: Snapshot,
    acts: Sequence[PastAct],
    size: int,
    filters: str,
    lost: tuple[str, ...] = (),
    rules: CompiledRules | None = None,
    tower: OpenedTower | None = None,
    *,
    include_seen: bool = False,
) -> Page:
    """The best `size` products for who did this, the acts by their times, those without one last, as they stand:
    nothing that `rules` keep out, nor, unless `include_seen` is True, of what they did it with. A history of products
    that are not there gives no hits."""
    now = time.time()
    acts = [act for _, act in by_time(acts, now)]
    asked = condition_of(snapshot, filters)
    effect = rules.effect(("",), asked, now) if rules else NOTHING
    where = effect.condition(asked)
    past = {row for act in acts if (row := snapshot.products.row_of(act.product_id)) is not None}
    hidden = frozenset() if include_seen else frozenset(past)
    is_lost, degraded = bool(lost), lost
    found: list[tuple[int, float]] | None = None
    if tower is not None:
        try:
            shopper = ShopperVectors(snapshot, tower, acts, now)
            found = shopper.best(size, hidden, where, is_lost=is_lost) if shopper.is_known else []
        except ShopperTowerError:
            degraded = (*lost, TOWER)
    if found is None:
        found = _near(snapshot, acts, size, hidden, where, is_lost=is_lost)
    hits = tuple(
        Hit(snapshot.products[row], score, {"dense": StageScore(rank, score)})
        for rank, (row, score) in enumerate(found, 1)
    )
    version = snapshot.manifest.version
    return Page(hits, len(hits), 1, size, degraded=degraded, version=version, rules=effect.kept_out_by)


def _near(
    snapshot: Snapshot,
    acts: Sequence[PastAct],
    size: int,
    hidden: Collection[int],
    where: Condition | None,
    *,
    is_lost: bool,
) -> list[tuple[int, float]]:
    """Rows with their scores, the best first."""
    best: dict[int, float] = {}
    for row, weight in _newest(snapshot, acts).items():
        found = nearest_to(snapshot, snapshot.vectors.vector(row), size + len(hidden), where, is_lost=is_lost)
        for other, cosine in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
            if other not in hidden:
                best[other] = max(best.get(other, -1.0), weight * cosine)
    return sorted(best.items(), key=lambda each: (-each[1], each[0]))[:size]


def _newest(snapshot: Snapshot, acts: Sequence[PastAct]) -> dict[int, float]:
    """The rows of the last products, newest first, each with what its latest act is worth."""
    worth: dict[int, float] = {}
    for act in reversed(acts):
        row = snapshot.products.row_of(act.product_id)
        if row is None or row in worth or not snapshot.vectors.vector(row).any():
            continue
        worth[row] = WORTH.get(act.kind, 1.0) * FADING ** len(worth)
        if len(worth) == NEWEST:
            break
    return worth
