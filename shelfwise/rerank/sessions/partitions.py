"""Daily partitions of the derived tables: cleaned events, bot scores and partial aggregates, cached as Parquet
files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

import msgspec
import polars as pl
import xxhash
from polars.exceptions import PolarsError

from shelfwise.rerank.sessions.cleaning import CLEAN_SCHEMA, CleaningResult, clean, is_sponsored, shows_answer
from shelfwise.rerank.sessions.options import DeriveOptions, Window
from shelfwise.retrieval.errors import StoreDamagedError, StoreError
from shelfwise.retrieval.events.store import EVENT_SCHEMA, DayState, EventStore
from shelfwise.retrieval.events.stored import DAY_MS, milliseconds, moment
from shelfwise.retrieval.store.files import atomic_folder, read_seal, seal_folder, sealed_problem

RECIPE = 4
"""Increased when cleaning changes, so that cached files of an older program are not used."""
AFTER_WINDOW = "after the window"
"""The reject reason of events whose corrected time is after the end of the window."""
_FACTS = "day.json"


class DayFacts(msgspec.Struct, frozen=True):
    """Counts of a day, stored with its events."""

    events: int
    sessions: int
    needs: int
    rejected: dict[str, int]
    """The number of rejected events by reason."""
    latest: int
    """The time of the day's last event, in milliseconds since 1970; it can be after the window's end."""
    claims: str
    """Fingerprint of the next day's events that belong to this day's sessions."""
    corrected: int
    """The number of events whose time was corrected. The day of a session is that of its uncorrected time."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day of cleaned events, on disk."""

    number: int
    """Days since 1970."""
    folder: Path
    facts: DayFacts

    def events(self) -> pl.DataFrame:
        """The events, a table of `CLEAN_SCHEMA`; sessions and needs are numbered from 0."""
        return read_frame(self.folder / f"events{SUFFIX}")

    def claims(self) -> pl.DataFrame:
        """Keys of the next day's events that belong to this day's sessions."""
        return read_frame(self.folder / f"claims{SUFFIX}")


class DayMaker:
    """Provides the days of a window, from the cache if their inputs are unchanged; counts the cached and the new ones.

    The name of a day's folder contains the day and a fingerprint of its inputs: the states of its events, of those of
    the next day, and of those of the previous day (answers are looked up there); the claims of the previous day;
    the rules of cleaning; and the catalog's entries of its products.
    """

    def __init__(self, store: EventStore, context: Context, folder: Path) -> None:
        self._store = store
        self._window = context.window
        self._products = context.products
        self._folder = folder
        self._until = milliseconds(context.window.last)
        self._raw: dict[int, tuple[pl.DataFrame, int]] = {}
        self._catalog = _CatalogFingerprint(context.products)
        self.made = 0
        self.kept = 0

    def days(self) -> Iterator[Day]:
        """The days that have events, in order, since each depends on the claims of the previous one."""
        in_window = range(self._window.first_day, self._window.last_day + 1)
        states = {day: state for day, state in self._store.days().items() if day in in_window and state.count}
        before: Day | None = None
        for number in sorted(states):
            before = self._day(number, states, before if before and before.number == number - 1 else None)
            yield before

    def _day(self, number: int, states: Mapping[int, DayState], before: Day | None) -> Day:
        events = (str(states.get(day)) for day in (number, number + 1, number - 1))
        claims = before.facts.claims if before else _digest()
        name = f"{moment(number * DAY_MS).date()}-{_digest(*events, claims, str(RECIPE))}"
        cut = f"{name}-until-{self._until}"
        for kept in (self._found(number, name), self._found(number, cut)):
            if kept and (kept.facts.latest <= self._until or kept.folder.name.startswith(cut)):
                self.kept += 1
                return kept
        self.made += 1
        return self._made(number, name, states, before)

    def _found(self, number: int, name: str) -> Day | None:
        for folder in self._folder.glob(f"{name}-catalog-*"):
            ids = read_frame(folder / f"products{SUFFIX}")["product_id"]
            if folder.name == f"{name}-catalog-{self._catalog.digest(ids)}":
                path = folder / _FACTS
                try:
                    return Day(number, folder, msgspec.json.decode(path.read_bytes(), type=DayFacts))
                except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                    cure = "remove its folder and refresh again"
                    raise StoreDamagedError(f"{path} cannot be read ({error}); {cure}") from error
        return None

    def _made(self, number: int, name: str, states: Mapping[int, DayState], before: Day | None) -> Day:
        earlier = self._events(number - 1)[0] if number - 1 in states else None
        own, latest = self._events(number)
        own = own.join(before.claims(), on="key", how="anti", maintain_order="left") if before else own
        following, next_latest = self._events(number + 1) if number + 1 in states else (own.clear(), 0)
        following = related(own, following)
        together = pl.concat([own, following])
        if earlier is not None:
            # The queries and impressions of the previous day to which these events refer.
            earlier = earlier.filter(shows_answer()).join(together, on="query_id", how="semi", maintain_order="left")
        cleaned = clean(together, self._products, earlier=earlier)
        latest = max(latest, next_latest, _latest(cleaned.events))
        sessions = day_sessions(own, following, _until(cleaned, self._window))
        ids = together["product_id"].unique().sort()
        named = name if latest <= self._until else f"{name}-until-{self._until}"
        return self._written(number, f"{named}-catalog-{self._catalog.digest(ids)}", sessions, (ids, latest))

    def _written(self, number: int, name: str, sessions: DaySessions, seen: tuple[pl.Series, int]) -> Day:
        ids, latest = seen
        facts = DayFacts(
            events=sessions.events.height,
            sessions=_count(sessions.events["session_number"]),
            needs=_count(sessions.events["need"]),
            rejected=dict(sorted(sessions.rejected.group_by("reason").len().iter_rows())),
            latest=latest,
            claims=_digest(*sessions.claims["key"]),
            corrected=sessions.corrected,
        )
        frames = {"events": sessions.events, "rejected": sessions.rejected, "claims": sessions.claims}
        folder = self._folder / name
        write_folder(folder, {**frames, "products": ids.to_frame()}, {_FACTS: msgspec.json.encode(facts)}, {})
        return Day(number, folder, facts)

    def _events(self, number: int) -> tuple[pl.DataFrame, int]:
        """A day's events up to the window's end, and the time of the day's last event; each day is read once."""
        if number not in self._raw:
            tables = list(self._store.read(number, number))
            events = pl.concat(tables) if tables else pl.DataFrame(schema=EVENT_SCHEMA)
            seen = events.filter(pl.col("time") <= self._window.last)
            self._raw = {day: kept for day, kept in self._raw.items() if day == number - 1}
            self._raw[number] = seen, _latest(events)
        return self._raw[number]


class _CatalogFingerprint:
    """Fingerprints of the catalog's entries of products."""

    def __init__(self, products: pl.DataFrame | None) -> None:
        self._catalog = None
        if products is not None:
            created = pl.col("created").cast(pl.Int64).fill_null(-1)
            self._catalog = products.select("product_id", created=created).unique("product_id", keep="first")

    def digest(self, ids: pl.Series) -> str:
        if self._catalog is None:
            return "none"
        found = ids.to_frame().join(self._catalog, on="product_id", how="left", maintain_order="left")
        return _digest("\x1f".join(ids), found["created"].fill_null(-2).to_numpy().tobytes())


def _until(cleaned: CleaningResult, window: Window) -> CleaningResult:
    """Rejects the events whose corrected time is after the end of the window."""
    late = cleaned.events.filter(pl.col("time") > window.last)
    if late.is_empty():
        return cleaned
    rejected = late.with_columns(reason=pl.lit(AFTER_WINDOW), detail=pl.lit("its clock was slow"))
    rejected = pl.concat([cleaned.rejected, rejected.select(cleaned.rejected.columns)])
    return CleaningResult(cleaned.events.filter(pl.col("time") <= window.last), rejected)


def _latest(events: pl.DataFrame) -> int:
    return int(events["time"].cast(pl.Int64).max() or 0)  # type: ignore[arg-type]


def _count(numbers: pl.Series) -> int:
    """The number of distinct values in numbers that have no gaps from 0."""
    return 0 if numbers.is_empty() else int(numbers.max()) + 1  # type: ignore[arg-type]


def _digest(*parts: str | bytes) -> str:
    digest = xxhash.xxh3_64()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


WHO = "who"
"""The column that distinguishes shoppers: the session's shopper, or else its session id, or else its query id. A
session without a shopper counts as a separate shopper."""
EMPTY = pl.DataFrame(schema={**CLEAN_SCHEMA, WHO: pl.String()})


@dataclass(frozen=True, slots=True)
class DailyPartial:
    """A partial aggregate of one day: `make` takes the day's events (`CLEAN_SCHEMA` and `who`), by session and time."""

    name: str
    make: Callable[[pl.DataFrame], pl.DataFrame]
    version: int = 1
    """Increased when `make` changes."""


PartialReader = Callable[[DailyPartial], pl.DataFrame]
"""Reads all rows of a partial over the days of the window, in order, with `day` (Int32, days since 1970)."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """The inputs of tables other than their partials."""

    window: Window
    options: DeriveOptions
    products: pl.DataFrame | None
    """product_id, category (path, such as "Tools > Drills"), created, brand, price; None without a catalog."""


@dataclass(frozen=True, slots=True)
class TableMaker:
    """One derived table, or several that are made together, and the partials that they need."""

    name: str
    parts: tuple[DailyPartial, ...]
    make: Callable[[PartialReader, Context], pl.DataFrame | Mapping[str, pl.DataFrame]]
    """Makes the table, or several tables by name."""


class DailyPartials:
    """The partials of all days of a window; counts the partials that were not cached."""

    def __init__(self, folder: Path, parts: Mapping[str, DailyPartial]) -> None:
        self._folder = folder
        self._parts = parts
        self._versions = " ".join(f"{name}:{part.version}" for name, part in sorted(parts.items()))
        self.folders: dict[int, Path] = {}
        self.made = 0

    def add(self, day: Day, flagged: Sequence[int]) -> None:
        """Adds the next day, without the flagged sessions (the day's own numbers, ascending)."""
        left_out = xxhash.xxh3_64_hexdigest(" ".join(map(str, (self._versions, *flagged))).encode())
        folder = self._folder / f"{day.folder.name}-parts-{left_out}"
        if not folder.exists():
            self.made += 1
            events = add_who(day.events().filter(~pl.col("session_number").is_in(flagged) & ~is_sponsored()))
            write_folder(folder, {part.name: part.make(events) for part in self._parts.values()}, {}, {})
        self.folders[day.number] = folder


def read_partial(part: DailyPartial, folders: Mapping[int, Path]) -> pl.DataFrame:
    """All rows of a partial from the folders of the days, in order, with `day`."""
    empty = part.make(EMPTY).with_columns(day=pl.lit(0, pl.Int32))
    tables = [
        read_frame(folder / f"{part.name}{SUFFIX}").with_columns(day=pl.lit(day, pl.Int32))
        for day, folder in folders.items()
    ]
    return pl.concat([empty, *tables])


def add_who(events: pl.DataFrame) -> pl.DataFrame:
    """The events with `who`, and with the shopper of their session if they do not name one."""
    shopper = pl.col("shopper").max().over("session_number")
    session = pl.col("session").max().over("session_number")
    named = events.with_columns(
        shopper=shopper, _session=session, _query=pl.col("query_id").max().over("session_number")
    )
    who = (
        pl.when(shopper_is_known()).then("shopper").when(pl.col("_session") != "").then("_session").otherwise("_query")
    )
    return named.with_columns(who.alias(WHO)).drop("_session", "_query")


def shopper_is_known() -> pl.Expr:
    """Whether the shopper's pseudonym is present."""
    return pl.col("shopper") != ""


SUFFIX = ".parquet"


def write_folder(
    folder: Path, frames: Mapping[str, pl.DataFrame], facts: Mapping[str, bytes], metadata: Mapping[str, str]
) -> None:
    """Writes a folder with a Parquet file per frame and a file per fact; all are on disk before it gets its name.

    `metadata` is written into each Parquet file. An existing folder of this name is replaced. Raises StoreError if the
    folder cannot be written.
    """
    try:
        with atomic_folder(folder, replace=True) as scratch:
            for name, frame in frames.items():
                frame.write_parquet(scratch / f"{name}{SUFFIX}", metadata=dict(metadata))
            for name, content in facts.items():
                (scratch / name).write_bytes(content)
            seal_folder(scratch, {})
    except (OSError, PolarsError) as error:
        raise StoreError(f"{folder} cannot be written ({error}); check the disk and its permissions") from error


def read_frame(path: Path) -> pl.DataFrame:
    """Reads a Parquet file of `write_folder`; raises StoreDamagedError if it cannot be read or is not as written."""
    try:
        if problem := sealed_problem(path, read_seal(path.parent)[path.name]):
            raise ValueError(problem)
        return pl.read_parquet(path)
    except (OSError, ValueError, KeyError, PolarsError) as error:
        message = f"{path} cannot be read ({error}); remove its folder and refresh to compute it again from the events"
        raise StoreDamagedError(message) from error


def remove_others(parent: Path, kept: frozenset[str]) -> None:
    """Removes all other folders, including unfinished ones."""
    for folder in parent.iterdir() if parent.is_dir() else ():
        if folder.is_dir() and folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


_WHOSE = ("session", "shopper", "query_id")
_NEAR = timedelta(minutes=30)
"""The longest time after a session's last event at which a rejected event still belongs to it."""


@dataclass(frozen=True, slots=True, eq=False)
class DaySessions:
    """The events of a day's sessions (numbered from 0), the rejected events, and the keys that the day claims.

    A session belongs, as a whole, to the day (UTC) on which it begins. A day is cleaned with those events of the next
    day that may continue its sessions. Those that do are claimed, and the next day is cleaned without them. So each
    event belongs to one day, and a day depends only on the events of two days and on the claims of the previous day.
    """

    events: pl.DataFrame
    rejected: pl.DataFrame
    claims: pl.DataFrame
    corrected: int


def related(own: pl.DataFrame, following: pl.DataFrame) -> pl.DataFrame:
    """The next day's events that share a session, shopper or query with the day's own, directly or indirectly."""
    known = {column: _names(own, column) for column in _WHOSE}
    found = following.clear()
    while True:
        shares = pl.any_horizontal(pl.col(column).is_in(names.implode()) for column, names in known.items())
        more = following.filter(shares)
        if more.height == found.height:
            return found
        found = more
        known = {column: pl.concat([names, _names(found, column)]).unique() for column, names in known.items()}


def day_sessions(own: pl.DataFrame, following: pl.DataFrame, cleaned: CleaningResult) -> DaySessions:
    """The part of a cleaning result that belongs to the day; `own` and `following` are the uncleaned events."""
    begun = cleaned.events.join(own, on="key", how="semi").select("session_number").unique()
    events = cleaned.events.join(begun, on="session_number", how="semi", maintain_order="left")
    beyond = _rejected_in(begun, following, cleaned)
    rejected = pl.concat([cleaned.rejected.join(own, on="key", how="semi", maintain_order="left"), beyond])
    claims = pl.concat([events.join(own, on="key", how="anti").select("key"), beyond.select("key")])
    times = pl.concat([each.select("key", "time") for each in (events, rejected)])
    recorded = pl.concat([each.select("key", _recorded="time") for each in (own, following)])
    corrected = times.join(recorded, on="key").filter(pl.col("time") != pl.col("_recorded")).height
    dense = (pl.col(column).rank("dense").cast(pl.UInt32) - 1 for column in ("session_number", "need"))
    return DaySessions(events.with_columns(*dense), rejected.sort("time", "key"), claims.sort("key"), corrected)


def _rejected_in(begun: pl.DataFrame, following: pl.DataFrame, cleaned: CleaningResult) -> pl.DataFrame:
    """The rejected events of the next day in sessions that began on this day: double clicks and reloads."""
    rejected = following.join(cleaned.rejected, on="key", how="semi").select("key", "time", whose=_whose())
    if rejected.is_empty():
        return cleaned.rejected.clear()
    acts = cleaned.events.select("time", "session_number", whose=_whose()).sort("time")
    found = rejected.sort("time").join_asof(acts, on="time", by="whose", tolerance=_NEAR, check_sortedness=False)
    keys = found.join(begun, on="session_number", how="semi").select("key")
    return cleaned.rejected.join(keys, on="key", how="semi", maintain_order="left")


def _whose() -> pl.Expr:
    return pl.coalesce(pl.when(pl.col(column) != "").then(pl.col(column)) for column in _WHOSE)


def _names(events: pl.DataFrame, column: str) -> pl.Series:
    names = events[column].unique()
    return names.filter(names != "")


_PLACES = {"day": pl.Int32, "place": pl.UInt32}

ScoreSessions = Callable[[pl.DataFrame], pl.DataFrame]


class Scorer:
    """Scores the sessions of days, one group of days at a time; counts the sessions that were not cached.

    A baseline needs many sessions, but each new event would require scoring the whole window again. So the window is
    cut into groups of days with enough sessions; a store with few sessions has one group.
    """

    def __init__(self, folder: Path, score_sessions: ScoreSessions) -> None:
        self._folder = folder
        self._score_sessions = score_sessions
        self.folders: list[Path] = []
        self.scored = 0

    def score(self, days: Sequence[Day], together: int) -> pl.DataFrame:
        """One row a session, in order: the columns of `score_sessions`, with the session's `day` (days since 1970) and
        `place` (its number within the day). At least about `together` sessions are scored together."""
        tables = [self._stretch(stretch) for stretch in stretches(days, together)] or [self._scores(())]
        return pl.concat(tables).sort("day", "place").with_row_index("session_number")

    def _stretch(self, days: Sequence[Day]) -> pl.DataFrame:
        made_from = xxhash.xxh3_64_hexdigest("\n".join((str(RECIPE), *(day.folder.name for day in days))).encode())
        folder = self._folder / f"{_date(days[0])}-{made_from}"
        self.folders.append(folder)
        if not folder.exists():
            self.scored += sum(day.facts.sessions for day in days)
            write_folder(folder, {"sessions": self._scores(days)}, {}, {})
        return read_frame(folder / f"sessions{SUFFIX}")

    def _scores(self, days: Sequence[Day]) -> pl.DataFrame:
        tables, numbers = [pl.DataFrame(schema=CLEAN_SCHEMA)], [pl.DataFrame(schema=_PLACES)]
        sessions = needs = 0
        for day in days:
            moved = (pl.col("session_number") + pl.lit(sessions, pl.UInt32), pl.col("need") + pl.lit(needs, pl.UInt32))
            tables.append(day.events().with_columns(*moved))
            numbers.append(pl.DataFrame({"day": day.number, "place": range(day.facts.sessions)}, schema=_PLACES))
            sessions, needs = sessions + day.facts.sessions, needs + day.facts.needs
        places = pl.concat(numbers).with_row_index("session_number")
        return self._score_sessions(pl.concat(tables)).join(places, on="session_number").drop("session_number")


def stretches(days: Sequence[Day], together: int) -> list[list[Day]]:
    """Cuts days into groups of equal length, a power of two, with about `together` sessions or more each.

    Groups begin at multiples of their length since 1970, so that yesterday's window has the same groups as today's.
    """
    if not days:
        return []
    sessions = sum(day.facts.sessions for day in days)
    span = days[-1].number - days[0].number + 1
    length = 1
    while length < span and sessions * length < together * span:
        length *= 2
    if length >= span:
        return [list(days)]
    return [list(stretch) for _, stretch in groupby(days, lambda day: day.number // length)]


def flagged_by_day(sessions: pl.DataFrame) -> Mapping[int, tuple[int, ...]]:
    """The sessions flagged as bots by day, as ascending numbers within the day; days without any are left out."""
    flagged = sessions.filter("is_fraud").group_by("day", maintain_order=True).agg("place")
    return {day: tuple(places) for day, places in flagged.iter_rows()}


def session_table(sessions: pl.DataFrame) -> pl.DataFrame:
    """The sessions as published: the day on which a session begins becomes a date."""
    return sessions.drop("place").with_columns(pl.col("day").cast(pl.Date))


def rejected_table(days: Sequence[Day]) -> pl.DataFrame:
    """The number of rejected events by day and reason."""
    counts = [(_date(day), reason, count) for day in days for reason, count in day.facts.rejected.items()]
    return pl.DataFrame(counts, schema={"day": pl.Date, "reason": pl.String, "events": pl.UInt32}, orient="row")


def _date(day: Day) -> date:
    return moment(day.number * DAY_MS).date()
