"""What a run trains beside the ranker: the shopper tower, and before both, where that is asked for, the encoder.

One that comes to nothing says why, and the run goes on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.shoppers.training import ShopperTowerOptions
from retrieval.errors import (
    ClusterError,
    EncoderError,
    ShopperTowerError,
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    StoreMissingError,
    TrainingError,
)
from service.learning.report import Recommends, TextTowers
from service.learning.steps import SHOPPERS, TOWERS, Outcome, RecordedSteps
from service.settings import Settings
from service.training.shopper_acts import ShopperActs
from service.training.shopper_tower import tower_of_acts
from service.training.training import FreshTables

if TYPE_CHECKING:
    from service.training.encoder_gate import EncoderReport
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


def train_encoder(root: Path, settings: Settings, request: TowersRequest, steps: RecordedSteps) -> TextTowers | None:
    """Trains the encoder on clicks and lets it serve where it is better; None where there is too little to learn from,
    nothing better came of it, or it could not be written or published, as the index is being rebuilt, the disk is full
    or the cluster does not answer: the next run goes on with what was trained.

    Raises what `train_text_towers` does of events and of the index.
    """
    with steps.under(TOWERS):
        # Takes seconds to import, and few runs ask for it.
        from service.training.towers import train_text_towers

        try:
            return _trained(root, train_text_towers(root, settings, replace(request, publish=True), steps), steps)
        except (StoreMissingError, StoreForeignError, StoreDamagedError):
            raise
        except (TrainingError, EncoderError, StoreError, ClusterError) as error:
            steps.leave(Outcome.NOT_TRAINED, str(error))
            return None


def leave_encoder(root: Path, queries: int, steps: RecordedSteps) -> TextTowers:
    """Says on how many queries that clicks have labelled it could be trained, and how."""
    with steps.under(TOWERS):
        could = TextTowers(queries, (f"shelfwise learn --towers --index {root}",))
        steps.leave(
            Outcome.LEFT,
            f"{queries:,} queries that clicks have labelled could train it. As that encodes every product anew, it is "
            f"done only when asked for: {could.next[0]}",
        )
        return could


def _trained(root: Path, done: WrittenTowers, steps: RecordedSteps) -> TextTowers:
    serves = done.published.version if done.published and done.published.serves else ""
    report = done.published.report if done.published else None
    judging = report.queries if report else 0
    queries = done.spec.trained_on["training queries"] + done.spec.trained_on["validation queries"] + judging
    use = () if serves else (f"shelfwise rebuild --index {root} --encoder {done.folder}",)
    made = TextTowers(queries, use, str(done.folder), done.spec.curve[0].validation, done.spec.validation, serves)
    steps.begin("verdict", None, "")
    steps.end(
        f"{done.folder}: nDCG@10 {made.before:.4f} before and {made.after:.4f} after, of queries that chose when to "
        f"stop. {_served(made, report)}"
    )
    return made


def _served(made: TextTowers, report: EncoderReport | None) -> str:
    if made.version:
        return f"It serves as {made.version}, and all that is trained next reads its vectors"
    why = "; ".join(report.aside) if report else ""
    return f"It is kept aside: {why}. To use it all the same: {made.next[0]}"


def _verdict(found: Recommends) -> str:
    verdict = "serves" if found.serves else f"is kept aside: {'; '.join(found.report.aside)}"
    told = "; ".join(f"{way.name} HR@10 {way.hit_rate:.4f}, nDCG@10 {way.ndcg:.4f}" for way in found.report.ways)
    earlier = "" if found.is_new else ", trained on the same acts before,"
    return f"{found.tower}{earlier} {verdict}. Of {found.report.shoppers:,} shoppers: {told}"
