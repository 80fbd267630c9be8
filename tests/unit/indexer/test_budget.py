"""The encoder and the vector index that a rebuild chooses within a budget."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import shelfwise.indexer.build
from shelfwise.indexer.budget import (
    FEWEST,
    RATES_FILE,
    Budget,
    Estimate,
    choose_index,
    choose_static,
    estimate,
    phases_left,
    remember_phases,
)
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.html_report import size_text
from shelfwise.retrieval.index.faiss import VectorIndexKind, vector_bytes
from shelfwise.retrieval.records import Product
from tests.progress import StoppedProgress
from tests.unit.indexer.conftest import Shop
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, make_encoder

SLOW = Estimate(1_000_000, "a network, 300 texts a second", seconds=4_000.0, distilled=400.0)
TABLE = Estimate(1_000_000, "a table, 30,000 texts a second", seconds=40.0, distilled=math.inf)


@pytest.mark.parametrize(
    ("made", "limit", "is_static", "is_free", "chosen", "reason"),
    [
        (SLOW, None, False, True, False, "about 66 min 40 s in all .*; about 6 min 40 s with --encoder static"),
        (SLOW, None, False, False, False, r"about 66 min 40 s in all \(1,000,000 texts by a network, 300 texts a .*\)"),
        (SLOW, 5_000.0, False, True, False, "about 66 min 40 s"),
        (
            SLOW,
            600.0,
            False,
            True,
            True,
            "6 min 40 s with --encoder static; without, about 66 .*, more than the budget",
        ),
        (SLOW, 600.0, True, False, True, "about 6 min 40 s"),
        (TABLE, 60.0, False, False, False, "about 40.0 s"),
        (SLOW, 60.0, False, True, None, "--budget 1 min 0 s cannot be met: .* a budget of 66 min 40 s, or about 6 min"),
        (SLOW, 600.0, False, False, None, "cannot be met: .* 6 min 40 s with --encoder static, which replaces"),
        (SLOW, 60.0, True, False, None, "what can be: a budget of 6 min 40 s$"),
        (TABLE, 10.0, False, False, None, "what can be: a budget of 40.0 s$"),
    ],
)
def test_a_static_encoder_is_chosen_only_where_the_encoder_is_free_and_the_budget_needs_it(
    made: Estimate, limit: float | None, is_static: bool, is_free: bool, chosen: bool | None, reason: str
) -> None:
    if chosen is None:
        with pytest.raises(SettingError, match=reason):
            choose_static(made, limit, is_static=is_static, is_free=is_free)
        return
    found, why = choose_static(made, limit, is_static=is_static, is_free=is_free)
    assert found is chosen
    assert re.search(reason, why), why
    assert ("static" in why) is (is_free and limit != 5_000.0)


def test_distillation_pays_only_for_a_large_catalog() -> None:
    small, large = (estimate(texts, "model", 0.003, 10.0, is_table=False) for texts in (2_000, 1_000_000))
    assert small.seconds < small.distilled
    assert large.distilled < large.seconds / 10
    assert large.seconds == 10.0 + 0.003 * 1_000_000
    assert estimate(1_000_000, "table", 3e-5, 10.0, is_table=True).distilled == math.inf


@pytest.mark.parametrize(
    ("memory", "before", "kind"),
    [
        (10**9, "", VectorIndexKind.EXACT),
        (10**9, "quantised", VectorIndexKind.EXACT),
        (None, "exact", VectorIndexKind.EXACT),
        (6 * 10**7, "exact", VectorIndexKind.QUANTISED),
        (6 * 10**7, "quantised", VectorIndexKind.QUANTISED),
    ],
)
def test_memory_decides_the_index_and_a_change_gives_a_notice(
    memory: int | None, before: str, kind: VectorIndexKind
) -> None:
    chosen, reason = choose_index(50_000, 384, memory, before)
    assert chosen is kind
    assert reason.endswith(f"; it was {before} before") is (before not in ("", kind))


def test_a_larger_catalog_gets_another_index_with_a_notice() -> None:
    kind, reason = choose_index(50_001, 384, None, "exact")
    assert kind is VectorIndexKind.QUANTISED
    assert reason.endswith("; it was exact before")


def test_too_little_memory_is_refused_with_the_memory_that_would_do() -> None:
    needed = 2 * 150_000 * vector_bytes(VectorIndexKind.QUANTISED, 384)
    message = rf"--memory 1.0 MB cannot be met: 150,000 vectors of 384 columns need {size_text(needed)}"
    with pytest.raises(SettingError, match=message):
        choose_index(150_000, 384, 1_000_000)
    assert choose_index(150_000, 384, needed)[0] is VectorIndexKind.QUANTISED


def test_rates_of_an_earlier_build_replace_those_of_reading(tmp_path: Path) -> None:
    guessed = phases_left(tmp_path, {"read": 2.0}, 10_000)
    assert guessed == pytest.approx(2.0 * (3.0 + 0.4 + 1.2 + 0.4))
    took = {"read": 1.0, "index": 4.0, "report": 1.0, "encode": 99.0, "types": 2.0, "publish": 3.0}
    remember_phases(tmp_path / "cache", took, 1_000)
    assert phases_left(tmp_path / "cache", {"read": 1.0}, 2_000) == pytest.approx(2 * (4 + 1 + 2 + 3))
    assert phases_left(tmp_path / "cache", {"read": 1.0, "index": 1.0, "report": 1.0}, 2_000) == pytest.approx(10)
    (tmp_path / "cache" / RATES_FILE).write_text("{")
    assert phases_left(tmp_path / "cache", {"read": 2.0}, 10_000) == pytest.approx(guessed)


def test_a_first_build_takes_a_static_encoder_and_later_ones_change_nothing_silently(
    fresh: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelfwise.indexer.build, "DEFAULT_MODEL", str(make_encoder(tmp_path / "tiny")))
    monkeypatch.setattr(
        shelfwise.indexer.build, "estimate", lambda texts, *_, **__: Estimate(texts, "tiny", 400.0, 40.0)
    )
    progress = StoppedProgress()
    report = fresh.rebuild(PRODUCTS, encoder="", runtime="torch", budget=Budget(60.0), progress=progress)
    assert report.encoder == f"static:{tmp_path / 'tiny'}"
    assert report.encoder_reason.endswith("to keep to the budget")
    assert (report.index, report.encoded) == ("exact", len(PRODUCTS))
    assert any("more than the budget" in each for each in progress.summaries)
    more = [*PRODUCTS, Product("new", "blue carpet")]
    with pytest.raises(SettingError, match=r"--budget 1 min 0 s cannot be met: .*\(1 texts by"):
        fresh.rebuild(more, encoder="", runtime="auto", budget=Budget(60.0))
    assert (fresh.store.current(), list(fresh.root.glob("versions/.*"))) == ("v000001", [])
    later = fresh.rebuild(more, encoder="", runtime="auto")
    assert (later.encoder, later.encoder_reason) == (report.encoder, "as for the previous version")
    assert len(PRODUCTS) < FEWEST
