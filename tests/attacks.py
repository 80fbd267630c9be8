"""Fraud in logs of demo stores: planted schemes, and attacks on query memory and popularity with their gains."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import polars as pl

from shelfwise.rerank.ranker.memory import QueryMemory, product_hashes
from shelfwise.rerank.sessions.bots import score_sessions
from shelfwise.rerank.sessions.cleaning import clean
from shelfwise.rerank.sessions.decay import ACT_PARTIAL
from shelfwise.rerank.sessions.options import DeriveOptions, Window
from shelfwise.rerank.sessions.partitions import Context, add_who
from shelfwise.rerank.sessions.product_tables import scores_before
from shelfwise.rerank.sessions.query_memory import memory_before
from shelfwise.rerank.sessions.query_tables import LIST_PARTIAL, add_own_ids
from shelfwise.retrieval.events.store import EVENT_SCHEMA
from shelfwise.service.demo.generator import DemoFiles, write_demo_store
from shelfwise.service.demo.shoppers import ETA, Truth
from shelfwise.service.training.derived_tables import memory_of, popularity_scores

HONEST = "honest"


def demo_log(folder: Path, seed: int, products: int, sessions: int) -> pl.DataFrame:
    """The labelled log of a demo store."""
    return labelled_log(write_demo_store(folder, seed=seed, products=products, sessions=sessions))


def flagged_shares(log: pl.DataFrame) -> dict[str, float]:
    """The share of the clicks of each scheme, and of honest shoppers, that are in flagged visits."""
    visits = score_sessions(clean(log.drop("scheme"), None).events)
    labelled = visits.join(log.select("session", "scheme").unique(), on="session")
    return {str(scheme): _share(rows, pl.col("is_fraud")) for (scheme,), rows in labelled.group_by("scheme")}


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


def _share(visits: pl.DataFrame, flagged: pl.Expr) -> float:
    """The share of the clicks that are in flagged visits; 0 without clicks."""
    clicks = int(visits["clicks"].sum())
    return int(visits.filter(flagged)["clicks"].sum()) / clicks if clicks else 0.0


# The gain of an attack that makes a given share of all clicks: the order of the attacked queries with and without it in
# the log, by the tables that rankers read, with the bot detector and without. An attack repeats answers of honest
# shoppers, so that it sees what shoppers see.

_QUERIES, _DEPTH = 5, 30
_SHOWN_AT = 6, 20
"""The positions of the product to raise."""


PAUSE = 12.0
"""The median of the seconds between acts, which are distributed lognormally: shoppers' pace."""
CAMOUFLAGE, SLOW = "camouflage", "slow fraud"
"""Attacks that raise a product by a click per session: by an account for three sessions, each of which begins with
everything that an honest shopper did in one; and by an account a session."""


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """The target of an attack: a product, on some queries."""

    product: str
    queries: tuple[str, ...]

    @classmethod
    def of(cls, log: pl.DataFrame) -> AttackPlan:
        """The plan for an honest log: the product that is shown most often at the positions that a seller wants to
        leave, and its queries there."""
        shown = log.filter((pl.col("kind") == "impression") & (pl.col("query") != ""))
        there = shown.filter(pl.col("position").is_between(*_SHOWN_AT)).group_by("product_id", "query").len()
        by_product = there.sort("len", "query", descending=[True, False]).group_by("product_id", maintain_order=True)
        best = by_product.agg(pl.col("query").head(_QUERIES), _total=pl.col("len").head(_QUERIES).sum())
        product, queries, _ = best.sort("_total", "product_id", descending=[True, False]).row(0)
        return cls(product, tuple(queries))


def attacked(log: pl.DataFrame, attack: str, plan: AttackPlan, random: np.random.Generator) -> pl.DataFrame:
    """An honest log with an attack that makes a tenth of all clicks."""
    ordered = log.sort("time", "key")
    shown = ordered.filter((pl.col("kind") == "impression") & pl.col("query").is_in(plan.queries))
    lists = [each for each in shown.partition_by("query_id") if plan.product in each["product_id"]]
    honest = ordered.partition_by("session")
    wanted = int((log["kind"] == "click").sum()) / 9
    made: list[pl.DataFrame] = []
    clicks = number = 0
    while clicks < wanted:
        parts = [honest[random.integers(len(honest))]] if attack == CAMOUFLAGE else []
        answer = lists[random.integers(len(lists))]
        begin = _last_time(parts[0]) if parts else cast(datetime, answer["time"].min())
        shown = answer.with_columns(time=pl.lit(begin, answer.schema["time"]))
        pause = timedelta(seconds=float(random.lognormal(np.log(PAUSE), 0.5)))
        target = shown.filter(pl.col("product_id") == plan.product).head(1)
        click = pl.lit("click", answer.schema["kind"])
        parts += [shown, target.with_columns(kind=click, time=pl.col("time") + pause)]
        session = pl.concat(parts)
        made.append(_renamed(session, f"x{number}", f"x{number // (3 if attack == CAMOUFLAGE else 1)}", random))
        clicks, number = clicks + int((session["kind"] == "click").sum()), number + 1
    return pl.concat([log, pl.concat(made).with_columns(scheme=pl.lit("attack"))])


def _last_time(events: pl.DataFrame) -> datetime:
    return cast(datetime, events["time"].max())


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
    """The result of one attack on one store. A gain is the share of all examinations on the attacked queries that the
    attack moves to its product; `by_memory` where query memory alone orders, `by_popularity`
    likewise."""

    caught: float
    """The share of the attack's clicks in flagged sessions; `honest_flagged` is that of the honest clicks."""
    honest_flagged: float
    by_memory: float
    by_popularity: float


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
        return memory_of(memory_before(self.lists, end, self.context), None)

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


def attack_gains(seed: int, sessions: int, name: str) -> list[AttackGain]:
    """The gains of an attack of a tenth of all clicks on the honest log of a demo store, without the detector and with
    it."""
    with tempfile.TemporaryDirectory() as folder:
        log = demo_log(Path(folder), seed, 600, sessions).filter(pl.col("scheme") == HONEST)
    plan = AttackPlan.of(log)
    planted = attacked(log, name, plan, np.random.default_rng(seed))
    gains = []
    for detector in (False, True):
        before, after = (_Shares.of(each, detector=detector) for each in (log, planted))
        old, new = (np.array(shares.shares_of(log, plan)) for shares in (before, after))
        by_memory, by_popularity = (new - old).tolist()
        gains.append(AttackGain(after.tables.caught, after.tables.honest_flagged, by_memory, by_popularity))
    return gains
