"""Small event logs, an event store in memory that counts its reads, and tables derived from both."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.partitions import WHO, TableMaker
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.rerank.sessions.tables import DerivedTables, open_derived
from shelfwise.retrieval.events.privacy import prefix
from shelfwise.retrieval.events.store import AppendResult, DayState, event_table
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent, milliseconds

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = milliseconds(NOW) // DAY_MS
_numbers = itertools.count()


def stored(kind: str, time: datetime, **values: object) -> StoredEvent:
    key = hashlib.blake2b(str(next(_numbers)).encode(), digest_size=16).digest()
    ms = milliseconds(time)
    event = StoredEvent(key, kind, ms, ms, "", "", "", "", "", None, None, None, None)
    return event._replace(**values)  # type: ignore[arg-type]


def search(
    shopper: str, time: datetime, query: str, shown: Sequence[str], *acts: tuple[str, str], **values: object
) -> list[StoredEvent]:
    query_id = f"{shopper}{values.get('session', '')}/{milliseconds(time)}"
    named = {"shopper": shopper, "query_id": query_id, **values}
    events = [stored("query", time, query=query, results=len(shown), **named)]
    events += [
        stored("impression", time, product_id=product, position=position, **named)
        for position, product in enumerate(shown, start=1)
    ]
    for number, (kind, product) in enumerate(acts, start=1):
        at = time + timedelta(seconds=10 * number)
        events.append(stored(kind, at, product_id=product, position=shown.index(product) + 1, **named))
    return events


class MemoryEvents:
    """An event store in memory. A day's mark is computed from its keys; `read_days` has each day that was read."""

    def __init__(self, events: Sequence[StoredEvent] = ()) -> None:
        self.events: dict[bytes, StoredEvent] = {}
        self.read_days: list[int] = []
        self.append(events)

    def append(self, events: Sequence[StoredEvent]) -> AppendResult:
        new = {event.key: event for event in events if event.key not in self.events}
        self.events.update(new)
        return AppendResult(len(new), len(events) - len(new))

    def count(self) -> int:
        return len(self.events)

    def days(self) -> Mapping[int, DayState]:
        counts = Counter(event.day for event in self.events.values())
        return {day: DayState(count, self._mark(day)) for day, count in sorted(counts.items())}

    def _mark(self, day: int) -> str:
        keys = sorted(event.key for event in self.events.values() if event.day == day)
        return hashlib.blake2b(b"".join(keys)).hexdigest()

    def read(self, first_day: int, last_day: int) -> Iterator[pl.DataFrame]:
        self.read_days.extend(range(first_day, last_day + 1))
        ordered = sorted(self.events.values(), key=lambda event: (event.time, event.key))
        yield event_table(event for event in ordered if first_day <= event.day <= last_day)

    def holds(self, shoppers: Collection[str]) -> int:
        return sum(event.shopper in shoppers for event in self.events.values())

    def holds_key(self, name: str) -> bool:
        return any(
            each.startswith(prefix(name)) for event in self.events.values() for each in (event.shopper, event.session)
        )

    def forget(self, shoppers: Collection[str]) -> int:
        before = len(self.events)
        self.events = {key: event for key, event in self.events.items() if event.shopper not in shoppers}
        return before - len(self.events)

    def expire(self, before_day: int, expected: Mapping[int, DayState] | None = None) -> int:
        before = len(self.events)
        self.events = {key: event for key, event in self.events.items() if event.day >= before_day}
        return before - len(self.events)

    def close(self) -> None:
        pass


def scored(events: pl.DataFrame, is_fraud: pl.Expr) -> pl.DataFrame:
    """Sessions in the form of `score_sessions`; those for which the expression over their counts is true are bots."""
    sessions = events.group_by("session_number").agg(
        shopper=pl.col("shopper").max(),
        session=pl.col("session").max(),
        first=pl.col("time").min(),
        events=pl.len().cast(pl.UInt32),
        clicks=(pl.col("kind") == "click").sum().cast(pl.UInt32),
    )
    flagged = sessions.sort("session_number").with_columns(is_fraud=is_fraud)
    reasons = pl.when("is_fraud").then(pl.lit(["many"])).otherwise(pl.lit([], pl.List(pl.String)))
    columns = ("session_number", "shopper", "session", "first", "events", "clicks", "score", "reasons", "is_fraud")
    return flagged.with_columns(score=pl.col("is_fraud").cast(pl.Float32), reasons=reasons).select(columns)


def flag_nothing(events: pl.DataFrame) -> pl.DataFrame:
    return scored(events, pl.lit(False))


def flag_most_active(events: pl.DataFrame) -> pl.DataFrame:
    """A scorer that, like the real one, depends on all sessions that are scored together."""
    return scored(events, pl.col("events") > 2 * pl.col("events").mean())


def derived(
    folder: Path,
    maker: TableMaker,
    events: Sequence[StoredEvent],
    options: DeriveOptions | None = None,
    products: pl.DataFrame | None = None,
    table: str = "",
) -> pl.DataFrame:
    steps = Steps(score_sessions=flag_nothing, tables=(maker,))
    refresh(MemoryEvents(events), folder, products, options, now=NOW, steps=steps)
    return open_derived(folder).table(table or maker.name)


def catalog(categories: Mapping[str, str], created: datetime | None = None) -> pl.DataFrame:
    schema = pl.Schema({"product_id": pl.String(), "category": pl.String(), "created": pl.Datetime("ms", "UTC")})
    table = pl.DataFrame([(*row, created) for row in categories.items()], schema=schema, orient="row")
    return table.with_columns(brand=pl.lit(""), price=pl.lit(None, pl.Float64))


def shoppers_in(folder: Path) -> set[str]:
    """All pseudonyms of shoppers, and of sessions without a known shopper, in any table."""
    frames = map(pl.read_parquet, folder.rglob("*.parquet"))
    return {name for frame in frames for column in {"shopper", WHO} & {*frame.columns} for name in frame[column]} - {""}


def all_tables(opened: DerivedTables) -> dict[str, list[dict[str, object]]]:
    return {name: opened.table(name).to_dicts() for name in sorted(opened.manifest.tables)}
