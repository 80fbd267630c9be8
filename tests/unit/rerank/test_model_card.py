"""Model cards: the content of a spec and a report as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from shelfwise.rerank.evaluation.promotion import ALL_QUERIES, NDCG, Decision, MeasureComparison
from shelfwise.rerank.evaluation.statistics import Difference
from shelfwise.rerank.model_card import CARD_FILE, option_values, read_card
from shelfwise.rerank.ranker.spec import ranker_store
from tests.rankers import REPORT, SPEC, building


@dataclass(frozen=True, slots=True)
class Loop:
    epochs: int = 8


@dataclass(frozen=True, slots=True)
class Options:
    loop: Loop = field(default_factory=Loop)
    seed: int = 3


def test_options_are_named_by_dots() -> None:
    assert option_values(Options()) == {"loop.epochs": "8", "seed": "3"}
    assert option_values({"loss": {"teacher": "none"}}) == {"loss.teacher": "none"}


def test_training_writes_a_sealed_card(tmp_path: Path) -> None:
    (tmp_path / "shelfwise.json").write_text('{"schema": 1}')
    gain = Difference(0.02, 0.01, 0.03, 0.99, 120)
    comparisons = (
        MeasureComparison(NDCG, ALL_QUERIES, 120, 0.62, 0.6, gain),
        MeasureComparison(NDCG, "tail queries", 30, 0.5, 0.51),
    )
    report = msgspec.structs.replace(
        REPORT,
        created="2026-11-30T10:00:00+00:00",
        against="ranker-0001",
        measured_on="300 lists",
        measures={NDCG: 0.62},
        decision=Decision(True, ("better: nDCG@10",), comparisons),
        options=option_values(Options()),
    )
    spec = msgspec.structs.replace(
        SPEC, trained_on={"events": 12_000, "events from": "2026-10-01", "note": "a|b <b>\nc"}
    )
    added = ranker_store(tmp_path).add(building(), spec, report)
    card = read_card(added.model.folder)
    assert card.startswith("# Model card: ranker-0001\n")
    assert "- decision: published\n- compared with: ranker-0001" in card
    assert "- events: 12,000\n- events from: 2026-10-01\n- note: a\\|b &lt;b> c" in card
    assert "- loop.epochs: 8" in card
    assert "| nDCG@10 | all queries | 120 | 0.6200 | 0.6000 | +0.0200 | +0.0100 to +0.0300 |" in card
    assert "| nDCG@10 | tail queries | 30 | 0.5000 | 0.5100 |  |  |" in card
    assert "## Not to be used for" in card
    assert ranker_store(tmp_path).open("ranker-0001").name == "ranker-0001"
    with (added.model.folder / CARD_FILE).open("a") as file:
        file.write("It is perfect.")
    assert "card.md" in str(ranker_store(tmp_path).serving().notices)
