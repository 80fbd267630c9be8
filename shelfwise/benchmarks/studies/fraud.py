"""Fraud planted in demo stores of several sizes and mixtures, and what the detector flags of it."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar, cast

import msgspec
import numpy as np
import polars as pl
import typer
from rich.table import Table

from shelfwise.benchmarks.quality import Run, ndcg, run_stage
from shelfwise.benchmarks.studies import run_study
from shelfwise.benchmarks.tables import figure_table
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.events.importer import import_events
from shelfwise.rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from shelfwise.rerank.ranker.memory import QueryMemory, product_hashes
from shelfwise.rerank.ranker.spec import AddedRanker, ranker_store
from shelfwise.rerank.sessions.bots import BotOptions, score_sessions
from shelfwise.rerank.sessions.cleaning import clean
from shelfwise.rerank.sessions.decay import ACT_PARTIAL
from shelfwise.rerank.sessions.options import DeriveOptions, Window
from shelfwise.rerank.sessions.partitions import Context, add_who
from shelfwise.rerank.sessions.product_tables import scores_before
from shelfwise.rerank.sessions.query_memory import memory_before
from shelfwise.rerank.sessions.query_tables import LIST_PARTIAL, add_own_ids
from shelfwise.rerank.training.trainer import CURVE_FILE
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.events.privacy import utc_now
from shelfwise.retrieval.events.store import EVENT_SCHEMA
from shelfwise.retrieval.judgments import Judgments, read_judgments
from shelfwise.retrieval.progress import Progress
from shelfwise.service.cli.options import command
from shelfwise.service.cli.output import TerminalProgress, emit, show_table
from shelfwise.service.cli.train import ClickTrainingOptions
from shelfwise.service.demo.generator import DemoFiles, write_demo_store
from shelfwise.service.demo.shoppers import ETA, Truth
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog, rejects_path
from shelfwise.service.reports.training import RecordedSteps
from shelfwise.service.settings import Settings, cache_folder
from shelfwise.service.training.derived_tables import memory_of as memory_rows
from shelfwise.service.training.derived_tables import popularity_scores
from shelfwise.service.training.learn import learn_words
from shelfwise.service.training.training_session import fresh_tables, ranker_from_tables

# Logs with less planted fraud, more, or better disguised fraud, and logs in which honest shoppers behave unusually.
#
# Each makes one labelled log of another: the columns of `EVENT_SCHEMA`, and `scheme`, the planted scheme or "honest".
# They change what a detector could rely on: that fraud is fast, that its accounts return, that few honest shoppers
# hurry or click a lot.

HONEST = "honest"
Mixture = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]

_IS_HONEST = pl.col("scheme") == HONEST
_HURRIED = 0.1
_WHOLESALE = 0.01


def as_planted(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """The log unchanged."""
    return log


def none(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """The log without the fraud."""
    return log.filter(_IS_HONEST)


def tenth(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """The log with one in ten of the sessions of fraud, at least one of each scheme."""
    sessions = log.filter(~_IS_HONEST).select("scheme", "session").unique().sort("scheme", "session")
    order = sessions.with_columns(_draw=pl.Series(random.random(len(sessions)))).sort("_draw")
    place = pl.int_range(pl.len()).over("scheme")
    kept = order.filter(place < pl.max_horizontal(pl.len().over("scheme") // 10, pl.lit(1)))
    return log.filter(_IS_HONEST | pl.col("session").is_in(kept["session"].implode()))


def fourfold(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """The log with only a quarter of the honest shoppers, so that fraud has four times the share."""
    return log.filter(~_IS_HONEST | pl.col("shopper").is_in(_some(log, "shopper", 0.25, random).implode()))


def slow(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """The log with fraud at shoppers' pace: each pause about fifteen times as long, with variation."""
    return _paced(log, ~_IS_HONEST, random.lognormal(np.log(15), 0.6, len(log)))


def throwaway(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """The log with a separate account for each session of fraud."""
    return log.with_columns(shopper=pl.when(_IS_HONEST).then("shopper").otherwise("u" + pl.col("session")))


def hurried(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """The log with one in ten honest shoppers opening results in tabs, a second or two apart."""
    chosen = pl.col("shopper").is_in(_some(log, "shopper", _HURRIED, random).implode())
    return _paced(log, _IS_HONEST & chosen, random.uniform(0.02, 0.06, len(log)))


def wholesale(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """The log with one in a hundred honest sessions also opening most of the shown products, and buying some."""
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
"""All mixtures, by the names that the figures have."""


def _some(log: pl.DataFrame, column: str, share: float, random: np.random.Generator) -> pl.Series:
    found = log.filter(_IS_HONEST)[column].unique().sort()
    return found.filter(pl.Series(random.random(len(found)) < share))


def _paced(log: pl.DataFrame, whose: pl.Expr, factors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pl.DataFrame:
    """The log with the pauses of some sessions multiplied by a factor each."""
    ordered = log.sort("session", "time", "key").with_columns(_factor=pl.Series(factors))
    pause = pl.col("time").diff().over("session").dt.total_milliseconds().fill_null(0) * pl.col("_factor")
    since = pl.duration(milliseconds=pause.cum_sum().over("session").cast(pl.Int64), time_unit="ms")
    moved = pl.col("time").first().over("session") + since
    return ordered.with_columns(time=pl.when(whose).then(moved).otherwise("time")).drop("_factor")


def _added(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    key = pl.concat_str(pl.col("key").cast(pl.String), pl.lit(f"+{kind}")).cast(pl.Binary)
    time = pl.col("_end") + pl.duration(milliseconds="_at", time_unit="ms")
    return rows.with_columns(key=key, kind=pl.lit(kind, rows.schema["kind"]), time=time)


# Planted fraud: how much of it is flagged, and how many honest clicks with it, by store and mixture.

SEEDS = (1, 2, 3, 4, 5)
"""The stores of the reported figures. The detector was made on those of seeds 101 to 105."""
SIZES = ((600, 300), (2000, 3000), (2000, 10_000))
"""Numbers of products and honest sessions."""
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
    """The log of a demo store, as if imported a day after its end, with the column `scheme`."""
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
    """The share of the clicks that are in flagged visits; 0 without clicks."""
    clicks = int(visits["clicks"].sum())
    return int(visits.filter(flagged)["clicks"].sum()) / clicks if clicks else 0.0


def _by_scheme(fraud: pl.DataFrame, flagged: pl.Expr) -> dict[str, float]:
    return {str(scheme): _share(visits, flagged) for (scheme,), visits in sorted(fraud.group_by("scheme"))}


def fraud_tables(measured: Sequence[FraudFigures]) -> Iterator[Table]:
    """A table for each number of sessions, mixtures as rows; for several seeds the mean, and the worst."""
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


# The gain of an attack that makes a given share of all clicks: the order of the attacked queries with and without it in
# the log, by the tables that rankers read, with the bot detector and without. An attack repeats answers of honest
# shoppers, so that it sees what shoppers see.

_QUERIES, _DEPTH = 5, 30
_SHOWN_AT = {True: (6, 20), False: (1, 3)}
"""The positions of the product to raise, and of the one to bury."""


@dataclass(frozen=True, slots=True)
class Attack:
    """Behaviour of the accounts of one attack; `pause` is in seconds, the median of a lognormal distribution."""

    promotes: bool = True
    """Whether it raises a product by clicks on it; otherwise it buries one, by clicks on half of those beside it."""
    searches: int = 1
    """Searches per session."""
    sessions: int = 1
    """Sessions per account."""
    pause: float = 12.0
    buys: bool = False
    """Whether it puts what it clicks into the cart, and buys it."""
    camouflage: bool = False
    """Whether each session begins with everything that an honest shopper did in one."""
    patient: bool = False
    """Whether it clicks a product only as often as shoppers examine its position."""


ATTACKS: Mapping[str, Attack] = {
    "click farm": Attack(searches=3, sessions=6, pause=1.5),
    "burying": Attack(promotes=False, searches=4, sessions=8, pause=1.5),
    "farm at shoppers' pace": Attack(searches=3, sessions=6),
    "an account a session": Attack(searches=3, pause=1.5),
    "fake purchases": Attack(buys=True),
    "camouflage": Attack(sessions=3, camouflage=True),
    "slow fraud": Attack(),
    "slow burying": Attack(promotes=False),
    "burying in camouflage": Attack(promotes=False, sessions=3, camouflage=True),
    "burying in camouflage by an account a session": Attack(promotes=False, camouflage=True),
    "patient camouflage": Attack(sessions=3, camouflage=True, patient=True),
    "patient burying": Attack(promotes=False, sessions=3, camouflage=True, patient=True),
}
"""Attacks by the names that the figures have."""


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """The target of an attack: a product, on some queries."""

    product: str
    queries: tuple[str, ...]

    @classmethod
    def of(cls, log: pl.DataFrame, promotes: bool) -> AttackPlan:
        """The plan for an honest log: the product that is shown most often at the positions that a seller wants to
        leave, or a rival wants to clear, and its queries there."""
        first, last = _SHOWN_AT[promotes]
        shown = log.filter((pl.col("kind") == "impression") & (pl.col("query") != ""))
        there = shown.filter(pl.col("position").is_between(first, last)).group_by("product_id", "query").len()
        by_product = there.sort("len", "query", descending=[True, False]).group_by("product_id", maintain_order=True)
        best = by_product.agg(pl.col("query").head(_QUERIES), _total=pl.col("len").head(_QUERIES).sum())
        product, queries, _ = best.sort("_total", "product_id", descending=[True, False]).row(0)
        return cls(product, tuple(queries))


def short_visits(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """An honest log in which every second shopper clicks at most once, as many do in stores that are found by search
    engines; there, accounts that click only one product are harder to detect."""
    chosen = _some(log, "shopper", 0.5, random)
    acts = log.filter(pl.col("shopper").is_in(chosen.implode()) & (pl.col("kind") != "impression")).sort("time", "key")
    return log.join(acts.filter(pl.col("key") != pl.col("key").first().over("shopper")), on="key", how="anti")


def attacked(
    log: pl.DataFrame, attack: Attack, plan: AttackPlan, share: float, random: np.random.Generator
) -> pl.DataFrame:
    """An honest log with an attack that makes `share` of all clicks."""
    ordered = log.sort("time", "key")
    shown = ordered.filter((pl.col("kind") == "impression") & pl.col("query").is_in(plan.queries))
    lists = [each for each in shown.partition_by("query_id") if plan.product in each["product_id"]]
    honest = ordered.partition_by("session")
    wanted = int((log["kind"] == "click").sum()) * share / (1 - share)
    made: list[pl.DataFrame] = []
    clicks = number = 0
    while clicks < wanted:
        parts = [honest[random.integers(len(honest))]] if attack.camouflage else []
        answers = [lists[random.integers(len(lists))] for _ in range(attack.searches)]
        begin = _last_time(parts[0]) if parts else cast(datetime, answers[0]["time"].min())
        for answer in answers:
            part = _acted(answer, attack, plan.product, begin, random)
            begin = _last_time(part) + timedelta(seconds=float(random.lognormal(np.log(attack.pause), 0.5)))
            parts.append(part)
        session = pl.concat(parts)
        made.append(_renamed(session, f"x{number}", f"x{number // attack.sessions}", random))
        clicks, number = clicks + int((session["kind"] == "click").sum()), number + 1
    return pl.concat([log, pl.concat(made).with_columns(scheme=pl.lit("attack"))])


def _last_time(events: pl.DataFrame) -> datetime:
    return cast(datetime, events["time"].max())


def _acted(
    answer: pl.DataFrame, attack: Attack, product: str, begin: datetime, random: np.random.Generator
) -> pl.DataFrame:
    """An answer that is shown at a time, and the actions on it."""
    shown = answer.with_columns(time=pl.lit(begin, answer.schema["time"]))
    is_target = pl.col("product_id") == product
    half = pl.Series(random.random(len(shown)) < 0.5)
    chosen = shown.filter(is_target).head(1) if attack.promotes else shown.filter(~is_target & half).head(5)
    if attack.patient:
        chosen = chosen.filter(random.random() < pl.col("position").cast(pl.Float64) ** -ETA)
    parts, seconds = [shown], 0.0
    for row in range(len(chosen)):
        for kind in ("click", "cart", "purchase") if attack.buys else ("click",):
            seconds += float(random.lognormal(np.log(attack.pause), 0.5))
            at = pl.col("time") + timedelta(seconds=seconds)
            parts.append(chosen[row].with_columns(kind=pl.lit(kind, answer.schema["kind"]), time=at))
    return pl.concat(parts)


def _renamed(session: pl.DataFrame, name: str, account: str, random: np.random.Generator) -> pl.DataFrame:
    """The session as one of another account, with separate answer and event ids, at another time of the same day."""
    later = timedelta(seconds=float(random.uniform(60, 3_600)))
    rows = session.with_row_index("_row")
    return rows.with_columns(
        pl.when(pl.col("query_id") != "")
        .then(pl.format(f"{name}-{{}}", "query_id"))
        .otherwise(pl.lit(""))
        .alias("query_id"),
        pl.format(f"{name}-{{}}", "_row").cast(pl.Binary).alias("key"),
        pl.lit(name).alias("session"),
        pl.lit(account).alias("shopper"),
        pl.col("time") + later,
    ).drop("_row")


@dataclass(frozen=True, slots=True)
class AttackGain:
    """One attack on one store. A gain is the share of all examinations on the attacked queries that the attack moves to
    its product, or away from its victim; `by_memory` where query memory alone orders, `by_popularity` likewise."""

    seed: int
    attack: str
    detector: bool
    caught: float
    """The share of the attack's clicks in flagged sessions; `honest_flagged` is that of the honest clicks."""
    honest_flagged: float
    by_memory: float
    by_popularity: float


@dataclass(frozen=True, slots=True)
class AttackStudy:
    """The attacked stores, and the size of the attack."""

    seeds: Sequence[int]
    products: int = 2_000
    sessions: int = 3_000
    share: float = 0.1
    """The attack's share of all clicks."""
    short: bool = False
    """Whether honest shoppers make `short_visits`."""


def measure_attacks(study: AttackStudy, attacks: Iterable[str] = tuple(ATTACKS)) -> Iterator[AttackGain]:
    """Makes a demo store for each seed, and attacks its honest log in each way (names of `ATTACKS`)."""
    names = tuple(attacks)
    for seed in study.seeds:
        with tempfile.TemporaryDirectory() as folder:
            files = write_demo_store(folder, seed=seed, products=study.products, sessions=study.sessions)
            log = labelled_log(files).filter(_IS_HONEST)
        log = short_visits(log, np.random.default_rng(seed)) if study.short else log
        before = {detector: _Shares.of(log, detector=detector) for detector in (False, True)}
        for name in names:
            attack = ATTACKS[name]
            plan = AttackPlan.of(log, attack.promotes)
            planted = attacked(log, attack, plan, study.share, np.random.default_rng(seed))
            for detector, honest in before.items():
                after = _Shares.of(planted, detector=detector)
                (memory, popularity), (old_memory, old_popularity) = (
                    shares.shares_of(log, plan) for shares in (after, honest)
                )
                sign = 1 if attack.promotes else -1
                gains = sign * (memory - old_memory), sign * (popularity - old_popularity)
                yield AttackGain(seed, name, detector, after.tables.caught, after.tables.honest_flagged, *gains)


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """The inputs of the derived tables."""

    lists: pl.DataFrame
    acts: pl.DataFrame
    context: Context
    caught: float
    """The share of the attack's clicks in flagged sessions; `honest_flagged` is that of the honest clicks."""
    honest_flagged: float

    @classmethod
    def of(cls, log: pl.DataFrame, *, detector: bool) -> _Tables:
        cleaned = clean(log.drop("scheme"), None).events
        caught = honest_flagged = 0.0
        if detector:
            visits = score_sessions(cleaned).join(log.select("session", "scheme").unique(), on="session")
            caught = _share(visits.filter(pl.col("scheme") != HONEST), pl.col("is_fraud"))
            honest_flagged = _share(visits.filter(pl.col("scheme") == HONEST), pl.col("is_fraud"))
            flagged = visits.filter("is_fraud")["session_number"]
            cleaned = cleaned.filter(~pl.col("session_number").is_in(flagged.implode()))
        events = add_who(cleaned)
        end = _last_time(events) + timedelta(milliseconds=1)
        context = Context(Window(cast(datetime, events["time"].min()), end), DeriveOptions(), None)
        day = pl.col("time").dt.epoch("d").cast(pl.Int32)
        lists = add_own_ids(LIST_PARTIAL.make(events).with_columns(day=pl.lit(0, pl.Int32)))
        return cls(lists, ACT_PARTIAL.make(events).with_columns(day=day), context, caught, honest_flagged)

    def memory(self, end: datetime) -> QueryMemory:
        return memory_rows(memory_before(self.lists, end, self.context), None)

    def popularity(self, end: datetime) -> Mapping[str, float]:
        return popularity_scores(scores_before(self.acts, end, self.context))


@dataclass(frozen=True, slots=True, eq=False)
class _Shares:
    """The shares of examinations by the derived tables of a log."""

    memory: QueryMemory
    popularity: Mapping[str, float]
    tables: _Tables

    @classmethod
    def of(cls, log: pl.DataFrame, *, detector: bool) -> _Shares:
        tables = _Tables.of(log, detector=detector)
        end = tables.context.window.last
        return cls(tables.memory(end), tables.popularity(end), tables)

    def shares_of(self, log: pl.DataFrame, plan: AttackPlan) -> tuple[float, float]:
        """The product's share of the examinations on the queries, in the order of memory and of popularity."""
        shown = log.filter((pl.col("kind") == "impression") & pl.col("query").is_in(plan.queries))
        pairs = shown.filter(pl.col("position") <= _DEPTH).group_by("query", "product_id")
        places = pairs.agg(pl.col("position").mean(), pl.len()).sort("query", "position", "product_id")
        found = np.zeros((2, 2))
        for (query,), group in places.group_by("query", maintain_order=True):
            ids = group["product_id"].to_list()
            known = self.memory.posteriors(str(query), product_hashes(ids))
            popular = np.array([self.popularity.get(name, 0.0) for name in ids])
            for at, scores in enumerate((known.shape / known.rate, popular)):
                place = np.argsort(np.argsort(-scores, kind="stable"), kind="stable") + 1.0
                seen = cast(int, group["len"].max()) * place**-ETA
                found[at] += seen[ids.index(plan.product)], seen.sum()
        return float(found[0, 0] / found[0, 1]), float(found[1, 0] / found[1, 1])


def gain_table(measured: Sequence[AttackGain], study: AttackStudy) -> Table:
    """Gains by attack and detector: the mean over stores, and the worst."""
    title = f"Attacks of {study.share:.0%} of all clicks: points of the examinations on the attacked queries"
    columns = ["attack", "detector", "caught", "honest", "by memory", "worst", "by popularity", "worst"]
    table = figure_table(columns, title)
    for name, detector in dict.fromkeys((each.attack, each.detector) for each in measured):
        group = [each for each in measured if (each.attack, each.detector) == (name, detector)]
        cells = [_mean([each.caught for each in group]), f"{100 * max(each.honest_flagged for each in group):.2f}"]
        for gains in ([each.by_memory for each in group], [each.by_popularity for each in group]):
            cells += [_mean(gains), f"{100 * max(gains):.1f}"]
        table.add_row(name, "on" if detector else "off", *cells)
    return table


# The same in whole searches, after a night of `shelfwise learn` on the attacked log: its tables, its ranker if the
# gate lets it serve, or in any case, and its query expansion.

TRAINED_STORE = 2_000, 10_000
"""Products and honest sessions of a store with a trained ranker: the gate rejects most rankers of smaller stores."""
NO_ATTACK, OTHER_SEED = "none", "none, another seed"
"""The honest log, and the honest log with another training seed, whose gains are chance."""
_TRAINED_QUERIES, _EPOCHS = 500, 2
"""The number of most frequent queries, and the epochs of learning: fewer than `shelfwise learn` uses."""
_SETTINGS = Settings(backend="embedded")


@dataclass(frozen=True, slots=True)
class TrainedGain:
    """One attack on one store, after a night."""

    seed: int
    attack: str
    detector: bool
    flagged: int
    """The number of flagged sessions."""
    serves: bool
    """Whether the gate lets the new ranker serve."""
    served: float
    """The gain, as in `AttackGain`, in the order that then serves."""
    trained: float
    """The gain if the new ranker serves in any case."""
    served_ndcg: float | None
    """nDCG@10 of the judged test queries, by their grades; None with an attack."""
    trained_ndcg: float | None


def measure_trained(study: AttackStudy, attacks: Iterable[str], progress: Progress) -> Iterator[TrainedGain]:
    """Makes a demo store and its index for each seed, and learns from its honest log and from attacks on it."""
    names = tuple(attacks)
    for seed in study.seeds:
        with tempfile.TemporaryDirectory() as folder:
            store = _TrainedStore.make(Path(folder), seed, study, progress)
            honest = store.nights(store.log)
            plans = {promotes: AttackPlan.of(store.log, promotes) for promotes in (True, False)}
            rival = store.learn(store.log, 1, detector=True)
            for detector, night in honest.items():
                yield night.gain(seed, NO_ATTACK, night, plans[True], detector=detector)
            for promotes, plan in plans.items():
                yield rival.gain(seed, OTHER_SEED, honest[True], plan, promotes=promotes, detector=True)
            for name in names:
                attack = ATTACKS[name]
                plan = plans[attack.promotes]
                planted = attacked(store.log, attack, plan, study.share, np.random.default_rng(seed))
                for detector, night in store.nights(planted).items():
                    yield night.gain(seed, name, honest[detector], plan, promotes=attack.promotes, detector=detector)


@dataclass(frozen=True, slots=True, eq=False)
class _Night:
    """The hits of searches after a night of learning, by the serving ranker and by the new one: for the attacked
    queries, and after honest logs for the judged ones."""

    flagged: int
    serves: bool
    served: Run
    trained: Run
    store: _TrainedStore

    def gain(
        self, seed: int, name: str, before: _Night, plan: AttackPlan, *, detector: bool, promotes: bool = True
    ) -> TrainedGain:
        """The gain of an attack, compared with a night `before`."""
        sign = 1 if promotes else -1
        pairs = (self.served, before.served), (self.trained, before.trained)
        gains = [sign * (self._share(run, plan) - self._share(old, plan)) for run, old in pairs]
        by_grades = [self._ndcg(run) for run, _ in pairs]
        return TrainedGain(seed, name, detector, self.flagged, self.serves, *gains, *by_grades)

    def _share(self, run: Run, plan: AttackPlan) -> float:
        """The product's share of the examinations of the first hits of its queries."""
        found = np.zeros(2)
        for query in plan.queries:
            ids = run[query][:_DEPTH]
            seen = self.store.traffic[query] * np.arange(1.0, len(ids) + 1) ** -ETA
            found += float(seen[[each == plan.product for each in ids]].sum()), float(seen.sum())
        return float(found[0] / found[1])

    def _ndcg(self, run: Run) -> float | None:
        judgments = self.store.judgments
        if not judgments.grades.keys() <= run.keys():
            return None
        return float(np.mean([ndcg(run[query], judged, judgments) for query, judged in judgments.grades.items()]))


@dataclass(frozen=True, slots=True, eq=False)
class _TrainedStore:
    """A demo store with its index, before any learning."""

    index: Path
    log: pl.DataFrame
    """The log of its honest shoppers."""
    judgments: Judgments
    """The judgments of the test queries."""
    attacked: Sequence[str]
    """The queries of all plans."""
    traffic: Mapping[str, int]
    """The number of searches of each query."""
    progress: Progress

    @classmethod
    def make(cls, folder: Path, seed: int, study: AttackStudy, progress: Progress) -> _TrainedStore:
        files = write_demo_store(folder / "demo", seed=seed, products=study.products, sessions=study.sessions)
        options = RebuildOptions((str(files.products),), cache_folder(), synonyms=files.synonyms)
        rebuild(folder / "index", options, progress)
        # With the same pseudonym key, every night learns from the same halves of the honest shoppers.
        EventLog.open(folder / "index", _SETTINGS).close()
        log, judgments = labelled_log(files).filter(_IS_HONEST), read_judgments(files.judgments_test)
        searches = log.filter(pl.col("query") != "").group_by("query").agg(pl.col("query_id").n_unique())
        planned = [query for promotes in (True, False) for query in AttackPlan.of(log, promotes).queries]
        return cls(folder / "index", log, judgments, planned, dict(searches.iter_rows()), progress)

    def nights(self, log: pl.DataFrame) -> Mapping[bool, _Night]:
        """A night on a log with the bot detector, and one without; the same night if it flags nobody."""
        with_detector = self.learn(log, 0, detector=True)
        without = self.learn(log, 0, detector=False) if with_detector.flagged else with_detector
        return {False: without, True: with_detector}

    def learn(self, log: pl.DataFrame, seed: int, *, detector: bool) -> _Night:
        """A night on a log, with the bot detector or without."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(shutil.copytree(self.index, Path(folder) / "index"))
            events = Path(folder) / "events.jsonl"
            _written(log).write_ndjson(events)
            with EventLog.open(root, _SETTINGS) as stored:
                rejects = rejects_path(stored.folder, utc_now())
                import_events([str(events)], stored.store, stored.intake, rejected=rejects, progress=self.progress)
            scorer = score_sessions if detector else _call_nobody
            with fresh_tables(root, _SETTINGS, self.progress, scorer) as tables:
                options = ClickTrainingOptions(queries=_TRAINED_QUERIES, epochs=_EPOCHS, seed=seed).from_clicks()
                added = ranker_from_tables(tables, options, self.progress).added
                learn_words(tables, RecordedSteps(self.progress))
                flagged = tables.refreshed.flagged_sessions
            queries = [*dict.fromkeys((*self.attacked, *(self.judgments.grades if log is self.log else ())))]
            served = _hits(root, queries)
            if not added.serves:
                let_serve(root, added)
            trained = served if added.serves else _hits(root, queries)
        return _Night(flagged, added.serves, served, trained, self)


def _hits(root: Path, queries: Sequence[str]) -> Run:
    with SearchEngine.open(root) as engine:
        return run_stage(engine, queries, "ranked")


def _call_nobody(events: pl.DataFrame, options: BotOptions) -> pl.DataFrame:
    return score_sessions(events, replace(options, threshold=2.0))


def _written(log: pl.DataFrame) -> pl.DataFrame:
    """A log as an imported one."""
    names = "kind", "query_id", "query", "shopper", "session", "product_id", "position"
    key, time = pl.col("key").cast(pl.String).alias("event_id"), pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    return log.sort("time", "key").select(key, time, pl.col("kind").cast(pl.String), *names[1:])


def let_serve(root: Path, added: AddedRanker) -> None:
    """Adds a ranker that the gate rejected once more, without the gate."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (MODEL_FILE, WEIGHTS_FILE, CURVE_FILE):
            shutil.copy(added.model.folder / name, folder)
        report = msgspec.structs.replace(added.model.report, rejection_reasons=())
        ranker_store(root).add(Path(folder), added.model.spec, report)


def trained_table(measured: Sequence[TrainedGain], study: AttackStudy) -> Table:
    """Gains by attack and detector: the mean over stores, and the worst."""
    title = f"After a night of learning, attacks of {study.share:.0%} of all clicks: points of the examinations"
    columns = ["attack", "detector", "new serves", "served", "worst", "new ranker", "worst", "nDCG@10", "new ranker"]
    table = figure_table(columns, title)
    for name, detector in dict.fromkeys((each.attack, each.detector) for each in measured):
        group = [each for each in measured if (each.attack, each.detector) == (name, detector)]
        cells = [f"{sum(each.serves for each in group)}/{len(group)}"]
        for gains in ([each.served for each in group], [each.trained for each in group]):
            cells += [_mean(gains), f"{100 * max(gains):.1f}"]
        for values in ([each.served_ndcg for each in group], [each.trained_ndcg for each in group]):
            known = [value for value in values if value is not None]
            cells.append(f"{np.mean(known):.4f}" if known else "")
        table.add_row(name, "on" if detector else "off", *cells)
    return table


@command("fraud --seeds 1,2")
def fraud(
    seeds: Annotated[str, typer.Option(help="Seeds of the stores to plant fraud in.")] = "1,2,3,4,5",
    gains: Annotated[float, typer.Option(help="Measure the gains of attacks with this share of all clicks.")] = 0.0,
    short: Annotated[bool, typer.Option("--short", help="For gains: half of the shoppers click at most once.")] = False,
    attacks: Annotated[str, typer.Option(help="Attacks to measure; by default all.")] = ",".join(ATTACKS),
    trained: Annotated[
        bool, typer.Option("--trained", help="For gains: in searches, after a night of `shelfwise learn`.")
    ] = False,
) -> None:
    """Plant fraud in demo stores of several sizes and mixtures, and count what is flagged of it and of the rest; or
    measure the gains of attacks in the order of results."""
    numbers, chosen = [int(seed) for seed in seeds.split(",")], attacks.split(",")
    if unknown := {*chosen} - {*ATTACKS}:
        raise SettingError(f"--attacks: {sorted(unknown)[0]!r} is not an attack; it can be {', '.join(ATTACKS)}")
    with TerminalProgress() as progress:
        if gains and trained:
            study = AttackStudy(numbers, *TRAINED_STORE, share=gains)
            nights = [*measure_trained(study, chosen, progress)]
            emit(nights, lambda _: show_table(trained_table(nights, study)))
            return
        if gains:
            study = AttackStudy(numbers, share=gains, short=short)
            progress.begin("attacks", 2 * len(numbers) * len(chosen), "logs")
            found = _counted(measure_attacks(study, chosen), progress)
            emit(found, lambda _: show_table(gain_table(found, study)))
            return
        progress.begin("fraud", len(numbers) * len(SIZES) * len(MIXTURES), "logs")
        measured = _counted(measure_fraud(numbers), progress)
    emit(measured, lambda _: show_table(*fraud_tables(measured)))


_Figures = TypeVar("_Figures")


def _counted(figures: Iterable[_Figures], progress: Progress) -> list[_Figures]:
    found = []
    for each in figures:
        found.append(each)
        progress.advance(1)
    progress.end(f"{len(found)} logs")
    return found


if __name__ == "__main__":
    run_study(fraud)
