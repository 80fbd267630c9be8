"""Planted fraud: how much of it is flagged, and how many honest clicks with it, over stores and mixtures."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl
from rich.table import Table

from benchmarks.fraud_mixtures import HONEST, MIXTURES
from benchmarks.tables import plain_table
from rerank.behaviour.cleaning import clean
from rerank.behaviour.robots import score_visits
from retrieval.events.stored import EVENT_SCHEMA
from service.demo.store import DemoFiles, write_demo_store
from service.demo.truth import Truth

SEEDS = (1, 2, 3, 4, 5)
"""The stores that figures are reported on. The detector was made on those of seeds 101 to 105."""
SIZES = ((600, 300), (2000, 3000), (2000, 10_000))
"""Products and honest sessions."""
MOST_HONEST = 0.01
"""The share of honest clicks that may be flagged."""


@dataclass(frozen=True, slots=True)
class FraudFigures:
    """One log. `caught`: by scheme the share of its clicks in flagged visits; `plain` the same of the plain rule
    "more than `plain_clicks` clicks a visit", the strictest that flags at most 1% of the honest clicks.
    """

    seed: int
    sessions: int
    mixture: str
    fraud_clicks: int
    honest_clicks: int
    caught: Mapping[str, float]
    caught_in_all: float
    honest_flagged: float
    plain_clicks: int
    plain: Mapping[str, float]
    plain_in_all: float


def measure_fraud(
    seeds: Iterable[int] = SEEDS,
    sizes: Sequence[tuple[int, int]] = SIZES,
    mixtures: Iterable[str] = tuple(MIXTURES),
) -> Iterator[FraudFigures]:
    """Makes a demo store for each seed and size, and scores its log in each mixture (names of `MIXTURES`)."""
    names = tuple(mixtures)
    for products, sessions in sizes:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                log = labelled_log(write_demo_store(folder, seed=seed, products=products, sessions=sessions))
            for name in names:
                mixed = MIXTURES[name](log, np.random.default_rng(seed))
                yield _figures(seed, sessions, name, _scored(mixed))


def labelled_log(files: DemoFiles) -> pl.DataFrame:
    """The log of a demo store, as one that is imported a day after its end, with the column `scheme`."""
    truth = msgspec.json.decode(files.truth.read_bytes(), type=Truth)
    with gzip.open(files.events) as packed:
        rows = pl.read_ndjson(io.BytesIO(packed.read()))
    time = pl.col("time").str.to_datetime("%+", time_unit="ms", time_zone="UTC")
    rows = rows.with_columns(time=time, key=pl.col("event_id").cast(pl.Binary))
    rows = rows.with_columns(received=pl.col("time").max() + pl.duration(days=1, time_unit="ms"))
    rows = rows.with_columns(pl.lit(None).alias(name) for name in EVENT_SCHEMA if name not in rows.columns)
    planted = [(session, scheme) for scheme, fraud in truth.fraud.items() for session in fraud.sessions]
    schemes = pl.DataFrame(planted, schema={"session": pl.String, "scheme": pl.String}, orient="row")
    table = rows.select(pl.col(name).cast(kind) for name, kind in EVENT_SCHEMA.items())
    return table.join(schemes, on="session", how="left").with_columns(pl.col("scheme").fill_null(HONEST))


def _scored(log: pl.DataFrame) -> pl.DataFrame:
    visits = score_visits(clean(log.drop("scheme"), None).events)
    return visits.join(log.select("session", "scheme").unique(), on="session").filter(pl.col("clicks") > 0)


def _figures(seed: int, sessions: int, mixture: str, visits: pl.DataFrame) -> FraudFigures:
    honest, fraud = visits.filter(pl.col("scheme") == HONEST), visits.filter(pl.col("scheme") != HONEST)
    most = _plain_rule(honest)
    flagged, plain = pl.col("is_fraud"), pl.col("clicks") > most
    return FraudFigures(
        seed=seed,
        sessions=sessions,
        mixture=mixture,
        fraud_clicks=int(fraud["clicks"].sum()),
        honest_clicks=int(honest["clicks"].sum()),
        caught=_by_scheme(fraud, flagged),
        caught_in_all=_share(fraud, flagged),
        honest_flagged=_share(honest, flagged),
        plain_clicks=most,
        plain=_by_scheme(fraud, plain),
        plain_in_all=_share(fraud, plain),
    )


def _plain_rule(honest: pl.DataFrame) -> int:
    counts = range(int(honest["clicks"].max() or 0) + 1)  # type: ignore[arg-type]
    return next(most for most in counts if _share(honest, pl.col("clicks") > most) <= MOST_HONEST)


def _share(visits: pl.DataFrame, flagged: pl.Expr) -> float:
    """Of the clicks, those in flagged visits; nothing is flagged of nothing."""
    clicks = int(visits["clicks"].sum())
    return int(visits.filter(flagged)["clicks"].sum()) / clicks if clicks else 0.0


def _by_scheme(fraud: pl.DataFrame, flagged: pl.Expr) -> dict[str, float]:
    return {str(scheme): _share(visits, flagged) for (scheme,), visits in sorted(fraud.group_by("scheme"))}


def fraud_tables(measured: Sequence[FraudFigures]) -> Iterator[Table]:
    """For each size the mixtures by what was flagged; over several seeds the mean, and the worst."""
    schemes = sorted({scheme for each in measured for scheme in each.caught})
    columns = ["mixture", *(scheme.rpartition("_")[2] for scheme in schemes), "all", "worst", "honest", "worst", "rule"]
    for sessions in dict.fromkeys(each.sessions for each in measured):
        table = plain_table(columns, f"{sessions:,} sessions: % of clicks in flagged visits, and by the plain rule")
        of_size = [each for each in measured if each.sessions == sessions]
        for mixture in dict.fromkeys(each.mixture for each in of_size):
            table.add_row(mixture, *_cells([each for each in of_size if each.mixture == mixture], schemes))
        yield table


def _cells(group: Sequence[FraudFigures], schemes: Sequence[str]) -> Iterator[str]:
    planted = [each for each in group if each.fraud_clicks]
    for scheme in schemes:
        yield _mean([each.caught[scheme] for each in planted if scheme in each.caught])
    yield _mean([each.caught_in_all for each in planted])
    yield f"{100 * min(each.caught_in_all for each in planted):.1f}" if planted else ""
    yield _mean([each.honest_flagged for each in group])
    yield f"{100 * max(each.honest_flagged for each in group):.2f}"
    yield _mean([each.plain_in_all for each in planted])


def _mean(shares: Sequence[float]) -> str:
    return f"{100 * np.mean(shares):.1f}" if shares else ""
