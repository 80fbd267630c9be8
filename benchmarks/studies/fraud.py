"""Fraud planted in demo stores of several sizes and mixtures, and what the detector flags of it."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
import typer
from rich.table import Table

from benchmarks.studies import run_study
from benchmarks.tables import figure_table
from rerank.sessions.bots import score_sessions
from rerank.sessions.cleaning import clean
from retrieval.events.store import EVENT_SCHEMA
from service.cli.options import command
from service.cli.output import TerminalProgress, emit, show_table
from service.demo.generator import DemoFiles, write_demo_store
from service.demo.shoppers import Truth

# Logs in which planted fraud is rarer, more, or better disguised, and in which honest shoppers behave oddly.
#
# Each makes one labelled log of another: the columns of `EVENT_SCHEMA`, and `scheme`, the planted scheme or "honest".
# They change what a detector could lean on: that fraud is fast, that its accounts come again, that few honest shoppers
# hurry or click a lot.

HONEST = "honest"
Mixture = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]

_IS_HONEST = pl.col("scheme") == HONEST
_HURRIED = 0.1
_WHOLESALE = 0.01


def as_planted(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """The log as it is."""
    return log


def none(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """Without the fraud."""
    return log.filter(_IS_HONEST)


def tenth(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in ten of the sessions of fraud, at least one of each scheme."""
    sessions = log.filter(~_IS_HONEST).select("scheme", "session").unique().sort("scheme", "session")
    order = sessions.with_columns(_draw=pl.Series(random.random(len(sessions)))).sort("_draw")
    place = pl.int_range(pl.len()).over("scheme")
    kept = order.filter(place < pl.max_horizontal(pl.len().over("scheme") // 10, pl.lit(1)))
    return log.filter(_IS_HONEST | pl.col("session").is_in(kept["session"].implode()))


def fourfold(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With a quarter of the honest shoppers only, so that fraud weighs four times as much."""
    return log.filter(~_IS_HONEST | pl.col("shopper").is_in(_some(log, "shopper", 0.25, random).implode()))


def slow(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With fraud at shoppers' pace: each pause some fifteen times as long, unevenly."""
    return _paced(log, ~_IS_HONEST, random.lognormal(np.log(15), 0.6, len(log)))


def throwaway(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """With an account for each session of fraud."""
    return log.with_columns(shopper=pl.when(_IS_HONEST).then("shopper").otherwise("u" + pl.col("session")))


def hurried(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in ten honest shoppers opening results in tabs, a second or two apart."""
    chosen = pl.col("shopper").is_in(_some(log, "shopper", _HURRIED, random).implode())
    return _paced(log, _IS_HONEST & chosen, random.uniform(0.02, 0.06, len(log)))


def wholesale(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in a hundred honest sessions going on to open most of what they were shown, and to buy a part of it."""
    chosen = _some(log, "session", _WHOLESALE, random)
    mine = log.filter(pl.col("session").is_in(chosen.implode()))
    shown = mine.filter(pl.col("kind") == "impression").sort("session", "time", "position", "key")
    shown = shown.join(mine.group_by("session").agg(_end=pl.col("time").max()), on="session", maintain_order="left")
    shown = shown.filter(pl.Series(random.random(len(shown)) < 0.7))
    pauses = 10_000 + (1_000 * pl.Series(random.lognormal(np.log(15), 0.7, len(shown)))).cast(pl.Int64)
    clicks = shown.with_columns(_pause=pauses).with_columns(_at=pl.col("_pause").cum_sum().over("session"))
    bought = clicks.filter(pl.Series(random.random(len(clicks)) < 0.3))
    checkout = bought.with_columns(_at=pl.col("_pause").sum().over("session") + 3_600_000 // 4)
    parts = (log, _added(clicks, "click"), _added(checkout, "purchase"))
    return pl.concat([part.select(log.columns) for part in parts])


MIXTURES: Mapping[str, Mixture] = {
    "as planted": as_planted,
    "no fraud": none,
    "a tenth of it": tenth,
    "four times as much": fourfold,
    "at shoppers' pace": slow,
    "an account a session": throwaway,
    "beside hurried shoppers": hurried,
    "beside wholesale buyers": wholesale,
}
"""All of them, by the names that the figures are under."""


def _some(log: pl.DataFrame, column: str, share: float, random: np.random.Generator) -> pl.Series:
    found = log.filter(_IS_HONEST)[column].unique().sort()
    return found.filter(pl.Series(random.random(len(found)) < share))


def _paced(log: pl.DataFrame, whose: pl.Expr, factors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pl.DataFrame:
    """With the pauses of some sessions made longer or shorter by a factor each."""
    ordered = log.sort("session", "time", "key").with_columns(_factor=pl.Series(factors))
    pause = pl.col("time").diff().over("session").dt.total_milliseconds().fill_null(0) * pl.col("_factor")
    since = pl.duration(milliseconds=pause.cum_sum().over("session").cast(pl.Int64), time_unit="ms")
    moved = pl.col("time").first().over("session") + since
    return ordered.with_columns(time=pl.when(whose).then(moved).otherwise("time")).drop("_factor")


def _added(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    key = pl.concat_str(pl.col("key").cast(pl.String), pl.lit(f"+{kind}")).cast(pl.Binary)
    time = pl.col("_end") + pl.duration(milliseconds="_at", time_unit="ms")
    return rows.with_columns(key=key, kind=pl.lit(kind, rows.schema["kind"]), time=time)


# Planted fraud: how much of it is flagged, and how many honest clicks with it, over stores and mixtures.

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
    seeds: Iterable[int] = SEEDS, sizes: Sequence[tuple[int, int]] = SIZES, mixtures: Iterable[str] = tuple(MIXTURES)
) -> Iterator[FraudFigures]:
    """Makes a demo store for each seed and size, and scores its log in each mixture (names of `MIXTURES`)."""
    names = tuple(mixtures)
    for products, sessions in sizes:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                log = labelled_log(write_demo_store(folder, seed=seed, products=products, sessions=sessions))
            for name in names:
                mixed = MIXTURES[name](log, np.random.default_rng(seed))
                yield _fraud_figures(seed, sessions, name, _scored(mixed))


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
    visits = score_sessions(clean(log.drop("scheme"), None).events)
    return visits.join(log.select("session", "scheme").unique(), on="session").filter(pl.col("clicks") > 0)


def _fraud_figures(seed: int, sessions: int, mixture: str, visits: pl.DataFrame) -> FraudFigures:
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
        table = figure_table(columns, f"{sessions:,} sessions: % of clicks in flagged visits, and by the plain rule")
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


@command("fraud --seeds 1,2")
def fraud(
    seeds: Annotated[str, typer.Option(help="The stores to plant fraud in, by their seeds.")] = "1,2,3,4,5",
) -> None:
    """Plant fraud in demo stores of several sizes and mixtures, and count what is flagged of it and of the rest."""
    numbers = [int(seed) for seed in seeds.split(",")]
    measured = []
    with TerminalProgress() as progress:
        progress.begin("fraud", len(numbers) * len(SIZES) * len(MIXTURES), "logs")
        for each in measure_fraud(numbers):
            measured.append(each)
            progress.advance(1)
        progress.end(f"{len(measured)} logs")
    emit(measured, lambda _: show_table(*fraud_tables(measured)))


if __name__ == "__main__":
    run_study(fraud)
