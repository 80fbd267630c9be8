"""Planted fraud and attacks in logs of demo stores are found, and gain nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks import CAMOUFLAGE, HONEST, SLOW, attack_gains, demo_log, flagged_shares

SCHEMES = {"burying", "click_farm", "crawler"}


@pytest.mark.slow
def test_planted_fraud_is_detected_and_shoppers_are_not_flagged(tmp_path: Path) -> None:
    shares = flagged_shares(demo_log(tmp_path, seed=7, products=2_000, sessions=3_000))
    assert shares.keys() == {HONEST, *SCHEMES}
    assert min(shares[scheme] for scheme in SCHEMES) >= 0.95
    assert shares[HONEST] < 0.01


@pytest.mark.parametrize(("name", "seed", "sessions"), [(SLOW, 21, 300), (CAMOUFLAGE, 201, 1_500)])
def test_detector_takes_the_gain_of_an_attack(name: str, seed: int, sessions: int) -> None:
    unseen, seen = attack_gains(seed, sessions, name)
    assert unseen.by_memory > 0.05 < unseen.by_popularity
    assert seen.caught == 1.0
    # A store of few shoppers, most of whom use the attacked queries.
    assert seen.honest_flagged < 0.02
    assert max(seen.by_memory, seen.by_popularity) < 0.01
