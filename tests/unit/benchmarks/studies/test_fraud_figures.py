from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from shelfwise.benchmarks.studies.fraud import (
    ATTACKS,
    HONEST,
    MIXTURES,
    AttackPlan,
    AttackStudy,
    FraudFigures,
    attacked,
    fraud_tables,
    labelled_log,
    measure_attacks,
    measure_fraud,
    short_visits,
)
from shelfwise.service.demo.generator import write_demo_store

SCHEMES = {"burying", "click_farm", "crawler"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder: Path = tmp_path_factory.mktemp("demo")
    return labelled_log(write_demo_store(folder, seed=21, products=600, sessions=600))


def mixed(log: pl.DataFrame, name: str) -> pl.DataFrame:
    return MIXTURES[name](log, np.random.default_rng(1))


def sessions(log: pl.DataFrame, honest: bool) -> int:
    return log.filter((pl.col("scheme") == HONEST) == honest)["session"].n_unique()


@pytest.mark.slow
def test_planted_fraud_is_detected_and_shoppers_are_not_flagged() -> None:
    (figures,) = measure_fraud([7], [(2_000, 3_000)], ["as planted"])
    assert figures.caught.keys() == SCHEMES
    assert min(figures.caught.values()) >= 0.95
    assert figures.honest_flagged < 0.01
    assert figures.plain_in_all < figures.caught_in_all


def test_total_share_is_of_all_clicks() -> None:
    none, planted = measure_fraud([3], [(600, 300)], ["no fraud", "as planted"])
    assert (none.fraud_clicks, none.caught, none.caught_in_all) == (0, {}, 0.0)
    assert none.honest_flagged < 0.01
    assert planted.honest_clicks == none.honest_clicks


def test_log_has_the_true_labels(log: pl.DataFrame) -> None:
    assert set(log["scheme"]) == {HONEST, *SCHEMES}
    assert sessions(log, honest=True) <= 600
    assert log.filter(pl.col("received") <= pl.col("time")).is_empty()


def test_mixtures_change_how_much_fraud_there_is(log: pl.DataFrame) -> None:
    assert set(mixed(log, "no fraud")["scheme"]) == {HONEST}
    tenth = mixed(log, "a tenth of it")
    assert set(tenth["scheme"]) == {HONEST, *SCHEMES}
    assert sessions(tenth, honest=False) <= sessions(log, honest=False) / 10 + len(SCHEMES)
    fourfold = mixed(log, "four times as much")
    assert sessions(fourfold, honest=False) == sessions(log, honest=False)
    assert 0.15 < sessions(fourfold, honest=True) / sessions(log, honest=True) < 0.35


def pause(log: pl.DataFrame, honest: bool) -> float:
    clicks = log.filter((pl.col("kind") == "click") & ((pl.col("scheme") == HONEST) == honest))
    gaps = clicks.sort("session", "time").select(pl.col("time").diff().over("session").dt.total_milliseconds())
    return float(gaps["time"].drop_nulls().quantile(0.05 if honest else 0.5) or 0)


def test_mixtures_change_the_pace(log: pl.DataFrame) -> None:
    assert pause(mixed(log, "at shoppers' pace"), honest=False) > 5 * pause(log, honest=False)
    assert pause(mixed(log, "at shoppers' pace"), honest=True) == pause(log, honest=True)
    assert pause(mixed(log, "beside hurried shoppers"), honest=True) < 0.5 * pause(log, honest=True)


def test_throwaway_accounts_have_one_session_each(log: pl.DataFrame) -> None:
    fraud = mixed(log, "an account a session").filter(pl.col("scheme") != HONEST)
    assert fraud["shopper"].n_unique() == fraud["session"].n_unique()


def test_wholesale_buyers_are_additional(log: pl.DataFrame) -> None:
    more = mixed(log, "beside wholesale buyers").join(log, on="key", how="anti")
    assert set(more["scheme"]) == {HONEST}
    assert set(more["kind"]) == {"click", "purchase"}
    assert more["key"].is_unique().all()


@pytest.mark.parametrize(("name", "seed", "sessions"), [("slow fraud", 21, 300), ("camouflage", 201, 1_500)])
def test_detector_takes_the_gain_of_an_attack(name: str, seed: int, sessions: int) -> None:
    unseen, seen = measure_attacks(AttackStudy([seed], products=600, sessions=sessions), [name])
    assert unseen.by_memory > 0.05 < unseen.by_popularity
    assert seen.caught == 1.0
    # A store of few shoppers, most of whom use the attacked queries.
    assert seen.honest_flagged < 0.02
    assert max(seen.by_memory, seen.by_popularity) < 0.01


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_a_tenth_of_the_clicks(log: pl.DataFrame, name: str) -> None:
    honest = mixed(log, "no fraud")
    attack, random = ATTACKS[name], np.random.default_rng(1)
    planted = attacked(honest, attack, AttackPlan.of(honest, attack.promotes), 0.1, random)
    clicks = planted.filter(pl.col("kind") == "click")
    assert 0.1 <= int((clicks["scheme"] != HONEST).sum()) / len(clicks) < 0.12
    assert planted["key"].is_unique().all()
    assert planted.filter(pl.col("scheme") == HONEST).equals(honest)
    mine = planted.filter(pl.col("scheme") != HONEST)
    assert mine["shopper"].n_unique() == -(-mine["session"].n_unique() // attack.sessions)


def test_every_second_shopper_of_short_visits_clicks_once(log: pl.DataFrame) -> None:
    acts = short_visits(mixed(log, "no fraud"), np.random.default_rng(1)).filter(pl.col("kind") == "click")
    assert (acts["shopper"].value_counts()["count"] == 1).sum() > 0.4 * acts["shopper"].n_unique()


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_are_the_same_for_a_seed(log: pl.DataFrame, name: str) -> None:
    assert mixed(log, name).equals(mixed(log, name))


def test_the_table_shows_the_worst_of_several() -> None:
    def figures(caught: float, honest: float) -> FraudFigures:
        return FraudFigures(1, 300, "as planted", 10, 10, {"crawler": caught}, caught, honest, 9, {"crawler": 0.5}, 0.5)

    console = Console(record=True, width=160)
    console.print(*fraud_tables([figures(1.0, 0.0), figures(0.8, 0.02)]))
    text = console.export_text()
    assert all(cell in text for cell in ("90.0", "80.0", "1.0", "2.00", "50.0"))
