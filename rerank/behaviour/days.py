"""Cleaned events by the day (UTC) that their visits begin in: kept as files, made again only where they would differ.

A day's folder is named by the day and by everything that it was made from: the states of its events, of the next day's
and of those of the day before, among which answers are looked up; what the day before has claimed; the rules; and what
the catalog says of its products.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import polars as pl
import xxhash

from rerank.behaviour.cleaning import Cleaned, CleaningOptions
from rerank.behaviour.faults import telling_of_answers
from rerank.behaviour.folders import SUFFIX, read_frame, write_folder
from rerank.behaviour.midnight import OwnVisits, own_visits, related
from rerank.behaviour.options import Window
from retrieval.errors import StoreDamagedError
from retrieval.events.store import DayState, EventStore
from retrieval.events.stored import DAY_MS, EVENT_SCHEMA, milliseconds, moment

RECIPE = 2
"""Counts up when cleaning changes, so that what an older program made is made again."""
AFTER_WINDOW = "after the window"
"""The reason of events that a corrected clock puts past the window's end."""
_FACTS = "day.json"
_NO_CLAIMS = pl.DataFrame(schema={"key": EVENT_SCHEMA["key"]})


class Clean(Protocol):
    """What cleans a day, as `cleaning.clean` does."""

    def __call__(
        self,
        events: pl.DataFrame,
        products: pl.DataFrame | None,
        options: CleaningOptions,
        *,
        told: pl.DataFrame | None = None,
    ) -> Cleaned:
        """Cleans events of `EVENT_SCHEMA`; `told` are earlier ones, of which answers are known."""
        ...


class DayFacts(msgspec.Struct, frozen=True):
    """What is told of a day without reading its events."""

    events: int
    visits: int
    needs: int
    aside: dict[str, int]
    """Reason to how many events were set aside for it."""
    latest: int
    """Milliseconds since 1970 of the last event that had a part in it, or, where it was cut, would have had one."""
    claims: str
    """Fingerprint of the events of the day after that its visits hold."""
    corrected: int
    """How many events had their time corrected. A visit's day is that of the time as it was told."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day of cleaned events, on disk."""

    number: int
    """Days since 1970."""
    folder: Path
    facts: DayFacts

    def events(self) -> pl.DataFrame:
        """Of `CLEAN_SCHEMA`; visits and needs are numbered from 0."""
        return read_frame(self.folder / f"events{SUFFIX}")

    def claims(self) -> pl.DataFrame:
        """Keys of the events of the day after that its visits hold."""
        return read_frame(self.folder / f"claims{SUFFIX}")


@dataclass(frozen=True, slots=True, eq=False)
class DaySource:
    """What days are made from."""

    store: EventStore
    products: pl.DataFrame | None
    """product_id and created, or None where the catalog is not known."""
    clean: Clean
    options: CleaningOptions
    window: Window


class DayMaker:
    """Gives the days of a window, those that are kept as they are and those that are missing made; counts both."""

    def __init__(self, source: DaySource, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._until = milliseconds(source.window.last)
        self._raw: dict[int, tuple[pl.DataFrame, int]] = {}
        self._standing = _Standing(source.products)
        self._rules = f"{RECIPE} {source.options!r}"
        self.made = 0
        self.kept = 0

    def days(self) -> Iterator[Day]:
        """The days that have events, in order: each depends on what the one before has claimed."""
        window = self._source.window
        states = {
            day: state
            for day, state in self._source.store.days().items()
            if window.first_day <= day <= window.last_day and state.count
        }
        before: Day | None = None
        for number in sorted(states):
            follows = before is not None and before.number == number - 1
            before = self._day(number, states, before if follows else None)
            yield before

    def _day(self, number: int, states: Mapping[int, DayState], before: Day | None) -> Day:
        made_from = (
            str(states[number]),
            str(states.get(number + 1)),
            str(states.get(number - 1)),
            before.facts.claims if before else _digest_of(_NO_CLAIMS),
            self._rules,
        )
        name = f"{moment(number * DAY_MS).date()}-{_digest(*made_from)}"
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
            if folder.name == f"{name}-catalog-{self._standing.digest(ids)}":
                return Day(number, folder, _read_facts(folder / _FACTS))
        return None

    def _made(self, number: int, name: str, states: Mapping[int, DayState], before: Day | None) -> Day:
        earlier = self._events(number - 1)[0] if number - 1 in states else None
        own, latest = self._events(number)
        own = own.join(before.claims(), on="key", how="anti", maintain_order="left") if before else own
        following, next_latest = self._events(number + 1) if number + 1 in states else (own.clear(), 0)
        following = related(own, following)
        together = pl.concat([own, following])
        told = None if earlier is None else answers_of(together, earlier)
        cleaned = self._source.clean(together, self._source.products, self._source.options, told=told)
        latest = max(latest, next_latest, _latest(cleaned.events))
        visits = own_visits(own, following, _until(cleaned, self._source.window))
        ids = together["product_id"].unique().sort()
        named = name if latest <= self._until else f"{name}-until-{self._until}"
        return self._written(number, f"{named}-catalog-{self._standing.digest(ids)}", visits, (ids, latest))

    def _written(self, number: int, name: str, visits: OwnVisits, seen: tuple[pl.Series, int]) -> Day:
        ids, latest = seen
        facts = DayFacts(
            events=visits.events.height,
            visits=_count(visits.events["visit"]),
            needs=_count(visits.events["need"]),
            aside=dict(sorted(visits.aside.group_by("reason").len().iter_rows())),
            latest=latest,
            claims=_digest_of(visits.claims),
            corrected=visits.corrected,
        )
        frames = {"events": visits.events, "aside": visits.aside, "claims": visits.claims}
        folder = self._folder / name
        write_folder(folder, {**frames, "products": ids.to_frame()}, {_FACTS: msgspec.json.encode(facts)}, {})
        return Day(number, folder, facts)

    def _events(self, number: int) -> tuple[pl.DataFrame, int]:
        """The events of a day up to the window's end, and the time of the last one of the day; each is read once."""
        if number not in self._raw:
            tables = list(self._source.store.read(number, number))
            events = pl.concat(tables) if tables else pl.DataFrame(schema=EVENT_SCHEMA)
            seen = events.filter(pl.col("time") <= self._source.window.last)
            self._raw = {day: kept for day, kept in self._raw.items() if day == number - 1}
            self._raw[number] = seen, _latest(events)
        return self._raw[number]


def answers_of(events: pl.DataFrame, earlier: pl.DataFrame) -> pl.DataFrame:
    """What earlier events tell of the answers that events name."""
    return earlier.filter(telling_of_answers()).join(events, on="query_id", how="semi", maintain_order="left")


class _Standing:
    """What the catalog says of products, in short: days whose products it says the same of need not be made again."""

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


def _until(cleaned: Cleaned, window: Window) -> Cleaned:
    """Without the events that a corrected clock puts past the end of the window."""
    late = cleaned.events.filter(pl.col("time") > window.last)
    if late.is_empty():
        return cleaned
    told = late.with_columns(reason=pl.lit(AFTER_WINDOW), detail=pl.lit("its clock was slow"))
    aside = pl.concat([cleaned.aside, told.select(cleaned.aside.columns)])
    return Cleaned(cleaned.events.filter(pl.col("time") <= window.last), aside)


def _read_facts(path: Path) -> DayFacts:
    try:
        return msgspec.json.decode(path.read_bytes(), type=DayFacts)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); remove its folder and refresh again") from error


def _latest(events: pl.DataFrame) -> int:
    return int(events["time"].cast(pl.Int64).max() or 0)  # type: ignore[arg-type]


def _count(numbers: pl.Series) -> int:
    """How many there are of numbers that are dense from 0."""
    return 0 if numbers.is_empty() else int(numbers.max()) + 1  # type: ignore[arg-type]


def _digest_of(claims: pl.DataFrame) -> str:
    return _digest(*claims["key"])


def _digest(*parts: str | bytes) -> str:
    digest = xxhash.xxh3_64()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
