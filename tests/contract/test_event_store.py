"""The contract of every event store, left open or reopened for each call. `BACKENDS` lists the stores."""

from __future__ import annotations

import multiprocessing
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.events.store import EVENT_SCHEMA, AppendResult, DayState, EventStore, event_table
from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.retrieval.records import EventKind
from tests.event_stores import DECEMBER, Folder, Place, aliased, any_events, at, event

EVER = (-(1 << 24), 1 << 24)  # days before and after all others
ANNA, BERT = "k1~anna", "k1~bert"


class Reopened:
    def __init__(self, place: Place) -> None:
        self._place = place

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            with closing(self._place.open()) as store:
                found = getattr(store, name)(*arguments, **named)
                return list(found) if name == "read" else found

        return call


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of store. `place` creates one without events; `examples` is its number of drawn examples."""

    place: Callable[[], AbstractContextManager[Place]]
    examples: int
    reopens: bool = False

    @contextmanager
    def opened(self) -> Iterator[EventStore]:
        with self.place() as place:
            if self.reopens:
                yield cast(EventStore, Reopened(place))
            else:
                with closing(place.open()) as store:
                    yield store


@contextmanager
def folder() -> Iterator[Place]:
    with TemporaryDirectory() as made:
        yield Folder(Path(made))


def sqlite(_: pytest.FixtureRequest, *, reopens: bool) -> Backend:
    return Backend(folder, settings().max_examples, reopens)


def clustered(request: pytest.FixtureRequest, *, reopens: bool) -> Backend:
    # Each example creates up to five indexes.
    return Backend(
        partial(aliased, request.getfixturevalue("elasticsearch").url), settings().max_examples // 4, reopens
    )


BACKENDS = [
    pytest.param(partial(make, reopens=reopens), id=f"{make.__name__}{' reopened' * reopens}", marks=marks)
    for make, reopens, marks in (
        (sqlite, False, ()),
        (sqlite, True, ()),
        (clustered, False, pytest.mark.elasticsearch),
        (clustered, True, (pytest.mark.elasticsearch, pytest.mark.slow)),
    )
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = request.param(request)
    return made


@pytest.fixture
def store(backend: Backend) -> Iterator[EventStore]:
    with backend.opened() as opened:
        yield opened


def table(events: Collection[StoredEvent]) -> pl.DataFrame:
    ordered: list[StoredEvent] = sorted(events, key=lambda each: (each.time, each.key))
    return event_table(ordered)


def read(store: EventStore, first_day: int = EVER[0], last_day: int = EVER[1]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *store.read(first_day, last_day)])


def changed(before: Mapping[int, DayState], after: Mapping[int, DayState]) -> set[int]:
    return {day for day in before.keys() | after.keys() if before.get(day) != after.get(day)}


class TestAppend:
    def test_repeated_event_is_stored_once(self, store: EventStore) -> None:
        events = [event(number, rating=4.5) for number in range(3)]
        store.append(events)
        again = [each._replace(received=each.received + 1) for each in events]
        assert store.append([*again, event(3)]) == AppendResult(1, 3)
        assert store.count() == 3 + 1
        assert read(store, DECEMBER).filter(pl.col("rating") == 4.5)["received"].dt.epoch("ms").to_list() == [7, 7, 7]

    def test_repeated_event_is_stored_once_after_pseudonym_key_rotation(self, store: EventStore) -> None:
        store.append([event(1, shopper="k1~a", session="k1~b")])
        assert store.append([event(1, shopper="k2~c", session="k2~d")]) == AppendResult(0, 1)

    def test_event_without_time_may_be_repeated_later(self, store: EventStore) -> None:
        store.append([event(1, time=at(0), received=at(0))])
        assert store.append([event(1, time=at(1), received=at(1))]) == AppendResult(0, 1)
        assert store.append([event(1, time=at(1), received=at(2))]).conflicts == (0,)

    def test_duplicate_events_in_one_call_are_stored_once(self, store: EventStore) -> None:
        assert store.append([event(1), event(2), event(1)]) == AppendResult(2, 1)
        assert store.count() == 2

    @pytest.mark.parametrize(
        "other", [{"product_id": "other"}, {"time": at(1, 1)}, {"time": at(0)}, {"kind": "query"}, {"position": 1}]
    )
    def test_different_event_with_known_id_is_rejected(self, store: EventStore, other: dict[str, object]) -> None:
        """The other event may be in another month, and so in another index."""
        store.append([event(1)])
        differing = event(1)._replace(**other)  # type: ignore[arg-type]
        assert store.append([event(2), differing, event(1), differing]) == AppendResult(1, 1, (1, 3))
        assert read(store).equals(table([event(1), event(2)]))

    def test_append_of_twenty_thousand_events(self, store: EventStore) -> None:
        kinds = [kind.value for kind in EventKind]
        events = [event(n, kind=kinds[n % len(kinds)], time=at(n % 3, n % 1_000)) for n in range(20_000)]
        assert store.append(events) == AppendResult(20_000, 0)
        assert store.append(events[:100]) == AppendResult(0, 100)
        assert [state.count for state in store.days().values()] == [6_667, 6_667, 6_666]
        assert read(store).equals(table(events))


def test_removal_changes_the_mark_of_the_day(store: EventStore) -> None:
    store.append([event(1, time=at(0), shopper=ANNA), event(2, time=at(0)), event(3), event(4, kind="query")])
    before = store.days()
    store.forget([ANNA])
    assert changed(before, between := store.days()) == {DECEMBER - 1}
    store.append([event(7, time=at(0))])
    after = store.days()
    assert after[DECEMBER - 1].count == before[DECEMBER - 1].count
    assert changed(before, after) == changed(between, after) == {DECEMBER - 1}


class TestRead:
    def test_read_orders_events_by_time_and_key(self, store: EventStore) -> None:
        times = [at(-40), at(0), at(0, 86_399_999), at(1), at(1), at(2, -1), at(2), at(40)]
        events = [event(len(times) - place, time=time) for place, time in enumerate(times)]
        store.append(events)
        assert read(store).equals(table(events))
        assert read(store, DECEMBER - 1, DECEMBER).equals(table(events[1:6]))
        assert read(store, DECEMBER, DECEMBER).equals(table(events[3:6]))
        assert read(store, DECEMBER + 1, DECEMBER).is_empty()

    def test_reading_may_stop_early(self, store: EventStore) -> None:
        store.append([event(1), event(2, time=at(-40))])
        next(iter(store.read(*EVER)))
        assert store.append([event(3)]) == AppendResult(1, 0)


def test_pseudonym_keys_in_use_are_listed(store: EventStore) -> None:
    store.append([event(1, shopper="k1~anna"), event(2, session="k20~s", kind="query")])
    assert [name for name in ("k", "k1", "k2", "k20", "k200", "anna") if store.holds_key(name)] == ["k1", "k20"]


class TestErase:
    def test_erasure_covers_all_pseudonyms_and_anonymous_events_of_their_sessions(self, store: EventStore) -> None:
        gone = [
            event(1, shopper=ANNA, session="k1~s"),
            event(2, shopper="k2~anna", time=at(-3)),
            event(3, session="k1~s", time=at(2)),
            event(4, session="k1~s", kind="query", time=at(-3)),
        ]
        kept = [event(5, shopper=BERT, session="k1~s"), event(6, session="k1~t"), event(7), event(8, shopper=BERT)]
        store.append([*gone, *kept])
        assert store.holds([ANNA, "k2~anna"]) == 2
        assert store.forget([ANNA, "k2~anna"]) == 4
        assert store.holds([ANNA, "k2~anna"]) == 0
        assert store.holds([BERT]) == 2
        assert read(store).equals(table(kept))

    def test_erasure_finds_anonymous_events_after_those_of_the_shopper(self, store: EventStore) -> None:
        store.append([event(1, shopper=ANNA, session="k1~s"), event(2, session="k1~s", time=at(2)), event(3)])
        assert store.forget([ANNA]) == 2
        assert read(store).equals(table([event(3)]))

    def test_erased_event_id_may_be_used_again(self, store: EventStore) -> None:
        store.append([event(1, shopper=ANNA)])
        store.forget([ANNA])
        assert store.append([event(1, time=at(0))]) == AppendResult(1, 0)
        assert store.count() == 1


class TestExpire:
    DAYS = (-70, -70, -1, 0, 1, 2, 3, 4)

    def test_expire_removes_all_days_before_a_date(self, store: EventStore) -> None:
        events = [event(n, time=at(day), kind="query" if n % 3 else "click") for n, day in enumerate(self.DAYS)]
        store.append(events)
        for before in (at(-50), at(1), at(3)):
            kept = [each for each in events if each.time >= before]
            gone = store.count() - len(kept)
            assert store.expire(before // 86_400_000) == gone
            assert read(store).equals(table(kept))
        assert store.append(events) == AppendResult(len(events) - len(kept), len(kept))

    def test_expire_removes_nothing_where_the_mark_changed(self, store: EventStore) -> None:
        store.append([event(1, shopper=ANNA), event(2, time=at(3))])
        there = store.days()
        store.forget([ANNA])
        store.append([event(7)])
        with pytest.raises(StoreError, match="nothing was removed"):
            store.expire(DECEMBER + 1, expected={DECEMBER: there[DECEMBER]})
        assert store.count() == 2
        assert store.expire(DECEMBER + 1, expected={DECEMBER: store.days()[DECEMBER]}) == 1
        assert store.count() == 1


class TestConcurrency:
    THREADS = 8

    def test_threads_store_each_event_once(self, store: EventStore) -> None:
        shared = [event(n, time=at(n % 2)) for n in range(20)]
        own = [[event(1_000 * thread + n, kind="query") for n in range(10)] for thread in range(1, self.THREADS + 1)]
        ready = threading.Barrier(self.THREADS)

        def append(mine: list[StoredEvent]) -> list[AppendResult]:
            ready.wait()
            return [store.append([*shared[step::2], *mine[step::2]]) for step in range(2)]

        with ThreadPoolExecutor(self.THREADS) as threads:
            appended = [one for each in threads.map(append, own) for one in each]
        everything = [*shared, *(each for mine in own for each in mine)]
        assert sum(one.added for one in appended) == len(everything) == 20 + self.THREADS * 10
        assert sum(one.duplicates for one in appended) == (self.THREADS - 1) * 20
        assert not any(one.conflicts for one in appended)
        assert read(store).equals(table(everything))

    def test_threads_with_conflicting_events_store_one(self, store: EventStore) -> None:
        """The events of each thread differ under the same ids, in two months."""
        batches = [[event(n, time=at(who % 2), position=who + 1) for n in range(10)] for who in range(self.THREADS)]
        ready = threading.Barrier(self.THREADS)

        def append(mine: list[StoredEvent]) -> AppendResult:
            ready.wait()
            return store.append(mine)

        with ThreadPoolExecutor(self.THREADS) as threads:
            appended = list(threads.map(append, batches))
        assert sum(one.added for one in appended) == 10
        assert sum(len(one.conflicts) for one in appended) == (self.THREADS - 1) * 10
        heard = [
            mine[n] for mine, one in zip(batches, appended, strict=True) for n in range(10) if n not in one.conflicts
        ]
        assert read(store).equals(table(heard))

    @pytest.mark.parametrize("backend", BACKENDS[::2], indirect=True)
    def test_processes_store_each_event_once(self, backend: Backend) -> None:
        shared = [event(n, time=at(n % 2)) for n in range(200)]
        own = [[event(1_000 * process + n) for n in range(100)] for process in (1, 2)]
        spawned = multiprocessing.get_context("spawn")
        with backend.place() as place, ProcessPoolExecutor(2, spawned) as processes:
            parts = [[*shared, *mine] for mine in own]
            appended = list(processes.map(partial(append_in_steps, place), parts))
            with closing(place.open()) as store:
                assert sum(appended) == store.count() == 200 + 2 * 100
                assert read(store).equals(table([*shared, *own[0], *own[1]]))


def append_in_steps(place: Place, events: Sequence[StoredEvent]) -> int:
    with closing(place.open()) as store:
        return sum(store.append(events[start : start + 20]).added for start in range(0, len(events), 20))


class Oracle:
    def __init__(self) -> None:
        self.events: dict[bytes, StoredEvent] = {}

    def append(self, events: Sequence[StoredEvent]) -> AppendResult:
        taken, repeated, differing = 0, 0, []
        for place, each in enumerate(events):
            if each.key not in self.events:
                self.events[each.key] = each
                taken += 1
            elif self.events[each.key].content == each.content:
                repeated += 1
            else:
                differing.append(place)
        return AppendResult(taken, repeated, tuple(differing))

    def forget(self, shoppers: Collection[str]) -> int:
        sessions = {each.session for each in self.events.values() if each.shopper in shoppers} - {""}
        return self._remove(lambda each: each.shopper in shoppers or (not each.shopper and each.session in sessions))

    def expire(self, before_day: int) -> int:
        return self._remove(lambda each: each.day < before_day)

    def _remove(self, goes: Callable[[StoredEvent], bool]) -> int:
        kept = {key: each for key, each in self.events.items() if not goes(each)}
        gone = len(self.events) - len(kept)
        self.events = kept
        return gone

    def by_day(self) -> dict[int, set[StoredEvent]]:
        days: dict[int, set[StoredEvent]] = defaultdict(set)
        for each in self.events.values():
            days[each.day].add(each)
        return days


EVENTS = any_events(
    st.integers(0, 9).map(lambda number: number.to_bytes(16, "big")) | st.binary(min_size=16, max_size=16),
    st.sampled_from([at(0), at(1) - 1, at(1)]) | st.integers(at(0), at(3) - 1),
    st.sampled_from(["", ANNA, BERT]),
    st.sampled_from(["", "k1~s", "k1~t"]),
)
STEPS = st.lists(
    st.tuples(st.just("append"), st.lists(EVENTS, max_size=12))
    | st.tuples(st.just("forget"), st.lists(st.sampled_from([ANNA, BERT, "k1~nobody"]), min_size=1))
    | st.tuples(st.just("expire"), st.integers(DECEMBER - 1, DECEMBER + 2)),
    min_size=1,
    max_size=5,
)


def test_random_operations_match_a_dictionary(backend: Backend) -> None:
    @settings(max_examples=backend.examples)
    @given(STEPS)
    def check(steps: list[tuple[str, object]]) -> None:
        with backend.opened() as store:
            oracle = Oracle()
            for what, value in steps:
                days, events = store.days(), oracle.by_day()
                assert getattr(store, what)(value) == getattr(oracle, what)(value)
                after = oracle.by_day()
                assert read(store).equals(table(oracle.events.values()))
                assert [(day, state.count) for day, state in store.days().items()] == [
                    (day, len(after[day])) for day in sorted(after)
                ]
                moved = {day for day in events.keys() | after.keys() if events.get(day) != after.get(day)}
                assert changed(days, store.days()) == moved

    check()
