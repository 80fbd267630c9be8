"""The products that are like one: near to it by their texts, or looked at by the same shoppers.

Candidates are the nearest by text and the product's co-views, each scored by both: the cosine in deviations above that
of unrelated products, as merging has it (`retrieval.merging`), plus a weighted strength of the co-view. A convex
combination with fixed normalisation (Bruch, Gai & Ingber 2023, An Analysis of Fusion Functions for Hybrid Retrieval,
section 3): a product's score depends on nothing else that was found, so a filter never changes the order of what it
leaves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from retrieval.conditions import Condition
from retrieval.keyword import Rows, Selection
from retrieval.records import Hit, Page, StageScore
from retrieval.vectors import Neighbours, Vectors
from service.coviews import NO_COVIEWS, CoViews
from service.merchandising.compiled import CompiledRules
from service.merchandising.effect import NOTHING
from service.searching import condition_of, nearest_to, row_of
from service.snapshot import Snapshot

WEIGHT = 20.0
"""Deviations of the cosine that a co-view of strength 1 is worth: chosen by `shelfwise bench similar`."""
COVIEWS = "coviews"
"""What a hit names the strength of its co-view by, beside "dense", the cosine."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What is mixed with the nearness of texts."""

    coviews: CoViews
    weight: float = WEIGHT


TEXTS_ALONE = Mixture(NO_COVIEWS)


def similar_products(
    snapshot: Snapshot,
    product_id: str,
    size: int,
    filters: str,
    lost: tuple[str, ...] = (),
    rules: CompiledRules | None = None,
    mixture: Mixture = TEXTS_ALONE,
) -> Page:
    """The products most like one, itself and what `rules` keep out left out; raises UnknownProductError where there is
    no such product.

    A score is on the scale of the cosine, which it is for products without co-views.
    """
    row = row_of(snapshot, product_id)
    asked = condition_of(snapshot, filters)
    effect = rules.effect(("",), asked, time.time()) if rules else NOTHING
    where = effect.condition(asked)
    vector = snapshot.vectors.vector(row)
    if not vector.any():
        # It came as a live change while the encoder was lost.
        return Page((), 0, 1, size, degraded=(*lost, "dense"), version=snapshot.manifest.version)
    nearest = nearest_to(snapshot, vector, size + 1, where, is_lost=bool(lost))
    apart = nearest.rows != row
    near = Neighbours(nearest.rows[apart], nearest.scores[apart])
    viewed = _viewed(snapshot, product_id, row, where, mixture.coviews)
    found = _mixed(snapshot, vector, near, viewed, mixture.weight) if viewed else _by_text(near)
    hits = tuple(Hit(snapshot.products[other], score, stages) for other, score, stages in found[:size])
    return Page(hits, len(hits), 1, size, degraded=lost, version=snapshot.manifest.version, rules=effect.kept_out_by)


_Scored = tuple[int, float, Mapping[str, StageScore]]
"""A row, its score, and what that is made of."""


def _viewed(
    snapshot: Snapshot, product_id: str, row: int, where: Condition | None, coviews: CoViews
) -> dict[int, StageScore]:
    """The co-views of a product that are there and that a condition lets through, by row, the strongest first."""
    known = ((snapshot.products.row_of(name), strength) for name, strength in coviews.of(product_id))
    strengths = {other: strength for other, strength in known if other is not None and other != row}
    if where is not None and strengths:
        passed = snapshot.keyword.select(Selection(rows=np.array(sorted(strengths), np.int64), where=where))
        strengths = {other: strength for other, strength in strengths.items() if other in passed}
    return {other: StageScore(rank, strength) for rank, (other, strength) in enumerate(strengths.items(), 1)}


def _by_text(near: Neighbours) -> list[_Scored]:
    pairs = enumerate(zip(near.rows.tolist(), near.scores.tolist(), strict=True), 1)
    return [(row, cosine, {"dense": StageScore(rank, cosine)}) for rank, (row, cosine) in pairs]


def _mixed(
    snapshot: Snapshot, vector: Vectors, near: Neighbours, viewed: Mapping[int, StageScore], weight: float
) -> list[_Scored]:
    """The nearest by text and the co-views in one order, ties by row. What is in neither cannot come before the nearest
    by text."""
    further = np.setdiff1d(np.fromiter(viewed, np.int64, len(viewed)), near.rows)
    texts = {row: stages["dense"] for row, _, stages in _by_text(near)} | _further(snapshot, vector, further)
    # Deviations above the background, put back on the scale of the cosine: the order is the same.
    worth = weight * snapshot.manifest.background.deviation
    scored = (_scored(row, text, viewed.get(row), worth) for row, text in texts.items())
    return sorted(scored, key=lambda each: (-each[1], each[0]))


def _scored(row: int, text: StageScore, coview: StageScore | None, worth: float) -> _Scored:
    """A candidate by both; `worth` is what a co-view of strength 1 adds to the cosine."""
    if coview is None:
        return row, text.score, {"dense": text}
    return row, text.score + worth * coview.score, {"dense": text, COVIEWS: coview}


def _further(snapshot: Snapshot, vector: Vectors, rows: Rows) -> dict[int, StageScore]:
    """The cosines of rows that are not among the nearest."""
    cosines = snapshot.vectors.similarity(vector, rows).tolist() if len(rows) else []
    return {row: StageScore(None, cosine) for row, cosine in zip(rows.tolist(), cosines, strict=True)}
