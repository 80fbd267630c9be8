"""What a run trains beside the ranker, on the same tables: the shopper tower, and the encoder where that is asked for.

One that comes to nothing says why, and the run goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.shoppers.training import ShopperTowerOptions
from rerank.towers.material import JudgedQuery
from retrieval.errors import EncoderError, ShopperTowerError, TrainingError
from service.learning.report import Recommends, TextTowers
from service.learning.steps import SHOPPERS, TOWERS, Outcome, RecordedSteps
from service.snapshot import Snapshot
from service.training.shopper_acts import ShopperActs
from service.training.shopper_tower import tower_of_acts
from service.training.training import FreshTables

if TYPE_CHECKING:
    from service.training.towers import TowersRequest, WrittenTowers


def train_shoppers(
    tables: FreshTables, acts: ShopperActs, options: ShopperTowerOptions, steps: RecordedSteps
) -> Recommends | None:
    """Trains the shopper tower and lets it serve where it is better; None where there is too little to learn from, or
    the tower that serves cannot be read.

    What an earlier run has made of the same acts is taken as it is: also of one that was killed later.
    """
    with steps.under(SHOPPERS):
        try:
            done = tower_of_acts(tables, acts, options, steps, again=False)
        except (TrainingError, ShopperTowerError) as error:
            steps.leave(Outcome.NOT_TRAINED, str(error))
            return None
        steps.begin("verdict", None, "")
        found = Recommends(done.tower.name, done.serves, done.is_new, done.tower.report)
        steps.end(_verdict(found))
        return found


def train_encoder(
    root: Path,
    snapshot: Snapshot,
    work: Path,
    labelled: Sequence[JudgedQuery],
    request: TowersRequest | None,
    steps: RecordedSteps,
) -> TextTowers:
    """Trains the encoder into a folder of its own, in one that nobody else works in, where there is a request; says
    what to do with it, or how to get there."""
    with steps.under(TOWERS):
        steps.begin(TOWERS, None, "")
        could = TextTowers(len(labelled), _to_train(root))
        if request is None:
            steps.leave(Outcome.LEFT, _left(could))
            return could
        steps.end(f"{len(labelled):,} queries that clicks have labelled")
        try:
            # Takes seconds to import, and few runs ask for it.
            from service.training.towers import towers_of_queries

            return _told(root, len(labelled), towers_of_queries(snapshot, work, labelled, request, steps), steps)
        except (TrainingError, EncoderError) as error:
            steps.leave(Outcome.NOT_TRAINED, str(error))
            return could


def _told(root: Path, queries: int, done: WrittenTowers, steps: RecordedSteps) -> TextTowers:
    curve = {epoch.number: epoch.validation for epoch in done.spec.curve}
    use = _to_use(root, done.folder)
    made = TextTowers(queries, use, str(done.folder), curve[0], curve[done.spec.best])
    steps.begin("written", None, "")
    steps.end(
        f"{done.folder}: nDCG@10 {made.before:.4f} before and {made.after:.4f} after, of queries that chose when to "
        f"stop; nothing that serves is changed. To use it: {', then '.join(use)}"
    )
    return made


def _left(towers: TextTowers) -> str:
    return (
        f"{towers.queries:,} queries that clicks have labelled could train it. As that changes every product's vector, "
        f"it is done only when asked for, with --towers or: {', then '.join(towers.next)}"
    )


def _to_train(root: Path) -> tuple[str, ...]:
    return f"shelfwise train towers --index {root}", f"shelfwise learn --index {root}"


def _to_use(root: Path, folder: Path) -> tuple[str, ...]:
    """What was trained on the vectors of one encoder does not serve those of another."""
    return f"shelfwise rebuild --index {root} --encoder {folder}", f"shelfwise learn --index {root}"


def _verdict(found: Recommends) -> str:
    verdict = "serves" if found.serves else f"is kept aside: {'; '.join(found.report.aside)}"
    told = "; ".join(f"{way.name} HR@10 {way.hit_rate:.4f}, nDCG@10 {way.ndcg:.4f}" for way in found.report.ways)
    earlier = "" if found.is_new else ", trained on the same acts before,"
    return f"{found.tower}{earlier} {verdict}. Of {found.report.shoppers:,} shoppers: {told}"
