"""Small logs for the tests of cleaning, with events at given seconds and few other fields."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from shelfwise.retrieval.events.store import EVENT_SCHEMA
from shelfwise.retrieval.records import EventKind

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def event(seconds: float, kind: str = "click", **values: Any) -> dict[str, Any]:  # noqa: ANN401
    """One event, received when it happened, or `late` seconds later."""
    late = timedelta(seconds=values.pop("late", 0))
    texts = dict.fromkeys(("shopper", "session", "query_id", "query", "product_id"), "")
    return {**texts, "kind": kind, "time": at(seconds), "received": at(seconds) + late, **values}


def log(events: Iterable[dict[str, object]]) -> pl.DataFrame:
    rows = [{"key": f"{number}".encode(), **each} for number, each in enumerate(events)]
    plain = {name: pl.String if name == "kind" else kind for name, kind in EVENT_SCHEMA.items()}
    return pl.DataFrame(rows, schema=plain).cast(EVENT_SCHEMA)


def shown(seconds: float, products: str, **values: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    kind = EventKind.IMPRESSION.value
    return [event(seconds, kind, product_id=each, position=place, **values) for place, each in enumerate(products, 1)]


def in_order(table: pl.DataFrame, column: str) -> list[Any]:
    return table.with_columns(_at=pl.col("key").cast(pl.String).cast(pl.Int32)).sort("_at")[column].to_list()
