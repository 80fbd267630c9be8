"""Fraud in logs of demo stores: planted schemes, and attacks that raise a product."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import polars as pl

from shelfwise.rerank.sessions.bots import score_sessions
from shelfwise.rerank.sessions.cleaning import clean
from shelfwise.retrieval.events.store import EVENT_SCHEMA
from shelfwise.service.demo.generator import write_demo_store

HONEST = "honest"


def demo_log(folder: Path, seed: int, products: int, sessions: int) -> pl.DataFrame:
    """The log of a demo store, as if imported a day after its end, with the column `scheme`."""
    files = write_demo_store(folder, seed=seed, products=products, sessions=sessions)
    truth = msgspec.json.decode(files.truth.read_bytes())
    with gzip.open(files.events) as packed:
        rows = pl.read_ndjson(io.BytesIO(packed.read()))
    time = pl.col("time").str.to_datetime("%+", time_unit="ms", time_zone="UTC")
    rows = rows.with_columns(time=time, key=pl.col("event_id").cast(pl.Binary))
    rows = rows.with_columns(received=pl.col("time").max() + pl.duration(days=1, time_unit="ms"))
    rows = rows.with_columns(pl.lit(None).alias(name) for name in EVENT_SCHEMA if name not in rows.columns)
    planted = [(session, scheme) for scheme, fraud in truth["fraud"].items() for session in fraud["sessions"]]
    schemes = pl.DataFrame(planted, schema={"session": pl.String, "scheme": pl.String}, orient="row")
    table = rows.select(pl.col(name).cast(kind) for name, kind in EVENT_SCHEMA.items())
    return table.join(schemes, on="session", how="left").with_columns(pl.col("scheme").fill_null(HONEST))


def flagged_shares(log: pl.DataFrame) -> dict[str, float]:
    """The share of the clicks of each scheme, and of honest shoppers, that are in flagged visits."""
    visits = score_sessions(clean(log.drop("scheme"), None).events)
    labelled = visits.join(log.select("session", "scheme").unique(), on="session")
    clicks = labelled.group_by("scheme").agg(
        pl.col("clicks").filter("is_fraud").sum() / pl.max_horizontal(pl.col("clicks").sum(), 1)
    )
    return dict(clicks.iter_rows())


# An attack repeats answers of honest shoppers, so that it sees what shoppers see.

_QUERIES = 5
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
        begin = cast(datetime, parts[0]["time"].max() if parts else answer["time"].min())
        shown = answer.with_columns(time=pl.lit(begin, answer.schema["time"]))
        pause = timedelta(seconds=float(random.lognormal(np.log(PAUSE), 0.5)))
        target = shown.filter(pl.col("product_id") == plan.product).head(1)
        click = pl.lit("click", answer.schema["kind"])
        parts += [shown, target.with_columns(kind=click, time=pl.col("time") + pause)]
        session = pl.concat(parts)
        made.append(_renamed(session, f"x{number}", f"x{number // (3 if attack == CAMOUFLAGE else 1)}", random))
        clicks, number = clicks + int((session["kind"] == "click").sum()), number + 1
    return pl.concat([log, pl.concat(made).with_columns(scheme=pl.lit("attack"))])


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
