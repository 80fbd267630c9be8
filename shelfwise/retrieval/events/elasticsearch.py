"""The event store in an Elasticsearch cluster, in the schema of User Behavior Insights (UBI 1.3, github.com/o19s/ubi).

There are two indexes a month (UTC), of queries and of other events. Attributes that UBI does not define are below
`event_attributes` or `query_attributes`; what only the store needs is below `shelfwise`.

Ids are unique only within one index, and a resent event may have another time. So an event's key is claimed first, in
an index of the keys of all months, with a digest of the event's content; then the event is written under the key. A
client that is interrupted in between sends again, finds the claim, and continues. Reads follow a refresh, so an
acknowledged event is always found.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import msgspec
import polars as pl
import xxhash

from shelfwise.retrieval.elasticsearch.client import Cluster, IndexState
from shelfwise.retrieval.elasticsearch.documents import (
    BULK_DOCUMENTS,
    CREATED,
    NO_INDEX,
    THERE_ALREADY,
    FoundDocument,
    NewDocument,
    PointInTime,
    batches,
    create,
    drop_empty,
    expunge,
    flush,
    make_index,
    refresh,
    remove,
    search,
    sources,
)
from shelfwise.retrieval.errors import ClusterRefusedError, ClusterUnavailableError, StoreError
from shelfwise.retrieval.events.privacy import prefix
from shelfwise.retrieval.events.store import AppendResult, DayState, check_expected, event_table
from shelfwise.retrieval.events.stored import DAY_MS, EPOCH, StoredEvent, moment
from shelfwise.retrieval.records import EventKind

_SENDERS = 2


@dataclass(frozen=True, slots=True)
class _Claim:
    """The digest of the event that claimed a key, and its time."""

    digest: str
    time: int


class _Call:
    """The events of one append, by key."""

    def __init__(self, cluster: Cluster, indexes: EventIndexes, events: Sequence[StoredEvent]) -> None:
        self._cluster = cluster
        self._indexes = indexes
        self._events = events
        self._digests = [content_digest(event) for event in events]
        self.places: dict[str, list[int]] = {}
        """The positions of the events of each key (in hexadecimal)."""
        for place, event in enumerate(events):
            self.places.setdefault(event.key.hex(), []).append(place)

    def append(self, keys: Sequence[str]) -> AppendResult:
        """Appends the events of some keys."""
        firsts = ((key, self.places[key][0]) for key in keys)
        claimed = self._claim({key: _Claim(self._digests[place], self._events[place].time) for key, place in firsts})
        equal = {key: [p for p in self.places[key] if self._digests[p] == claimed[key].digest] for key in keys}
        differing = {place for key in keys for place in self.places[key]}.difference(*equal.values())
        # An event without a time keeps the time, and so the month, of its first delivery.
        first = {key: self._events[places[0]] for key, places in equal.items() if places}
        added = self._write({key: event._replace(time=claimed[key].time) for key, event in first.items()})
        return AppendResult(added, sum(map(len, equal.values())) - added, tuple(differing))

    def _claim(self, claims: Mapping[str, _Claim]) -> dict[str, _Claim]:
        """Claims keys; returns the stored claim of each, which is this one or an earlier one."""
        index = self._indexes.keys
        statuses = self._indexes.write([(index, key, msgspec.json.encode(each)) for key, each in claims.items()])
        there = [key for key, status in zip(claims, statuses, strict=True) if status == THERE_ALREADY]
        found = sources(self._cluster, index, there) if there else {}
        return {**claims, **{key: _Claim(source["digest"], source["time"]) for key, source in found.items()}}

    def _write(self, events: Mapping[str, StoredEvent]) -> int:
        """Creates events; returns the number of new ones."""
        application = self._indexes.application
        named = [(self._indexes.name_of(event), key, event) for key, event in events.items()]
        statuses = self._indexes.write([(name, key, document(event, application)) for name, key, event in named])
        there = {name for (name, *_), status in zip(named, statuses, strict=True) if status == THERE_ALREADY}
        if there:
            # The process that writes it may not have it on disk yet.
            flush(self._cluster, sorted(there))
        return statuses.count(CREATED)


_MAKER = "shelfwise"
_KEYS_MAPPING: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "digest": {"type": "keyword", "index": False, "doc_values": False},
        "time": {"type": "long", "index": False, "doc_values": False},
    },
}
_SETTINGS: Mapping[str, Any] = {
    "translog.durability": "request",
    # Erased events must leave the files: merges select segments with a single removed document, and a replica that was
    # away requests files instead of the history for which removed documents are kept.
    "merge.policy.expunge_deletes_allowed": 0,
    "soft_deletes.retention_lease.period": "0ms",
}


@dataclass(frozen=True, slots=True)
class MonthIndex:
    """The index of a month's queries, or of its other events. Days are since 1970, inclusive."""

    name: str
    first_day: int
    last_day: int


class EventIndexes:
    """The indexes of a store: `ubi_events-ALIAS-2026-11`, `ubi_queries-ALIAS-2026-11` and `ubi_keys-ALIAS`.

    The aliases `ubi_events-ALIAS` and `ubi_queries-ALIAS` cover all months. Each index is written through its own
    alias, so that Elasticsearch never recreates a removed index with a guessed mapping.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        alias = cluster.settings.alias
        self.application = alias
        self.events, self.queries, self.keys = f"ubi_events-{alias}", f"ubi_queries-{alias}", f"ubi_keys-{alias}"
        self.aliases = (self.events, self.queries)
        self._name = re.compile(rf"(?:{re.escape(self.events)}|{re.escape(self.queries)})-(\d{{4}})-(\d\d)")

    def name_of(self, event: StoredEvent) -> str:
        """The index of an event."""
        return f"{self.queries if event.kind == EventKind.QUERY else self.events}-{_month(event.day)}"

    def write(self, documents: Sequence[tuple[str, str, bytes]]) -> list[int]:
        """Creates documents, given by index, id and content, and missing indexes; see `create`.

        Raises ClusterRefusedError for an index of this name that does not belong to this store.
        """
        new = [NewDocument(_written_by(index), name, content) for index, name, content in documents]
        statuses = create(self._cluster, new)
        missing = [place for place, status in enumerate(statuses) if status == NO_INDEX]
        if missing:
            for index in sorted({documents[place][0] for place in missing}):
                self._make(index)
            again = create(self._cluster, [new[place] for place in missing])
            for place, status in zip(missing, again, strict=True):
                if status == NO_INDEX:
                    raise ClusterRefusedError(
                        f"there is an index {documents[place][0]} that was not created here: remove it if nothing "
                        f"needs it, or set elasticsearch.alias to another name"
                    )
                statuses[place] = status
        return statuses

    def months(self) -> list[MonthIndex]:
        """The existing indexes by month; raises ClusterRefusedError if one of them does not belong to this store."""
        states = self._cluster.states(",".join(self.aliases))
        return sorted((self._month_index(state) for state in states), key=lambda month: (month.first_day, month.name))

    def _month_index(self, state: IndexState) -> MonthIndex:
        named = self._name.fullmatch(state.name)
        if named is None or state.meta.get("made_by") != _MAKER:
            raise ClusterRefusedError(f"the index {state.name} is not an event index; remove its event alias")
        if state.meta.get("schema") != SCHEMA:
            raise ClusterRefusedError(f"the index {state.name} is of another version of Shelfwise: use that one")
        year, month = int(named[1]), int(named[2])
        after = date(year + month // 12, month % 12 + 1, 1)
        return MonthIndex(state.name, _day(date(year, month, 1)), _day(after) - 1)

    def _make(self, index: str) -> None:
        self._cluster.check_server()
        settings = {**_SETTINGS, "number_of_shards": self._cluster.settings.shards, **self._cluster.settings.copies}
        aliases: dict[str, dict[str, Any]] = {_written_by(index): {"is_hidden": True}}
        mapping = _KEYS_MAPPING
        if index == self.keys:
            settings["hidden"] = True
        else:
            of = self.queries if index.startswith(f"{self.queries}-") else self.events
            aliases[of] = {}
            mapping = QUERIES_MAPPING if of == self.queries else EVENTS_MAPPING
        made_by = {"made_by": _MAKER, "schema": SCHEMA, "application": self.application}
        make_index(self._cluster, index, settings, {**mapping, "_meta": made_by}, aliases)


def _written_by(index: str) -> str:
    return f"{index}-write"


@lru_cache(maxsize=4_096)
def _month(day: int) -> str:
    return moment(day * DAY_MS).strftime("%Y-%m")


def _day(of: date) -> int:
    return (of - EPOCH.date()).days


SCHEMA = 2
"""The schema of the documents, in the mapping of each index."""
DAY, KEY, TIME, SHOPPER, SESSION = "shelfwise.day", "shelfwise.key", "timestamp", "client_id", "session_id"
MARKS = ("shelfwise.mark_low", "shelfwise.mark_high")
"""Hashes of an event below 2^24: their sums over up to 2^29 events are exact in floats."""
FIELDS = (
    "action_name",
    SHOPPER,
    SESSION,
    "query_id",
    "user_query",
    "event_attributes",
    "query_attributes",
    "shelfwise.received",
    "shelfwise.address",
)
"""The fields from which an event is read, in addition to time and key."""

_ACTIONS = {kind.value: kind.value for kind in EventKind} | {
    EventKind.CART.value: "add_to_cart",
    EventKind.REMOVAL.value: "remove_from_cart",
}
"""The names of kinds in UBI."""
_KINDS = {action: kind for kind, action in _ACTIONS.items()}

_KEYWORD = {"type": "keyword"}
_ATTRIBUTES = {
    "properties": {
        "object": {"properties": {"object_id": _KEYWORD}},
        "position": {"properties": {"ordinal": {"type": "integer"}}},
        "quantity": {"type": "integer"},
        "rating": {"type": "double"},
        "results": {"type": "integer"},
    }
}
_COMMON = {
    "application": _KEYWORD,
    "timestamp": {"type": "date"},
    "query_id": _KEYWORD,
    "client_id": _KEYWORD,
    "session_id": _KEYWORD,
    "shelfwise": {
        "properties": {
            "key": _KEYWORD,
            "day": {"type": "integer"},
            "received": {"type": "date"},
            "mark_low": {"type": "integer"},
            "mark_high": {"type": "integer"},
            "address": _KEYWORD,
        }
    },
}
_TEXT = {"type": "text", "fields": {"keyword": _KEYWORD}}
EVENTS_MAPPING: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {**_COMMON, "action_name": _KEYWORD, "user_query": _KEYWORD, "event_attributes": _ATTRIBUTES},
}
QUERIES_MAPPING: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {**_COMMON, "user_query": _TEXT, "query_attributes": _ATTRIBUTES},
}


def document(event: StoredEvent, application: str) -> bytes:
    """The document of an event as JSON, without empty fields."""
    digest = xxhash.xxh3_64_intdigest(msgspec.json.encode(_plain(event)))
    ubi: dict[str, Any] = {
        "application": application,
        "timestamp": moment(event.time).isoformat(timespec="milliseconds"),
        "shelfwise": {
            "key": event.key.hex(),
            "day": event.day,
            "received": event.received,
            "mark_low": digest & 0xFFFFFF,
            "mark_high": digest >> 24 & 0xFFFFFF,
            **({"address": event.address} if event.address else {}),
        },
    }
    ids = (SHOPPER, event.shopper), (SESSION, event.session), ("query_id", event.query_id), ("user_query", event.query)
    ubi |= {name: value for name, value in ids if value}
    if event.kind == EventKind.QUERY:
        ubi["query_attributes"] = _attributes(event)
    else:
        ubi["action_name"] = _ACTIONS[event.kind]
        ubi["event_attributes"] = _attributes(event)
    return msgspec.json.encode(ubi)


def row(key: str, time: int, source: Mapping[str, Any]) -> tuple[object, ...]:
    """An event as a row of `event_table`, from its key in hexadecimal, time and document."""
    is_query = "action_name" not in source
    attributes = source["query_attributes" if is_query else "event_attributes"]
    return (
        bytes.fromhex(key),
        EventKind.QUERY.value if is_query else _KINDS[source["action_name"]],
        time,
        source["shelfwise"]["received"],
        source.get(SHOPPER, ""),
        source.get(SESSION, ""),
        source.get("query_id", ""),
        source.get("user_query", ""),
        attributes.get("object", {}).get("object_id", ""),
        attributes.get("position", {}).get("ordinal"),
        attributes.get("quantity"),
        attributes.get("rating"),
        attributes.get("results"),
        source["shelfwise"].get("address", ""),
    )


def content_digest(event: StoredEvent) -> str:
    """A digest of the content that the client sent; it distinguishes two events with the same key."""
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(_plain(event).content))


def _plain(event: StoredEvent) -> StoredEvent:
    """The event with its rating as a float, so that 5 and 5.0 are equal."""
    return event if event.rating is None else event._replace(rating=float(event.rating))


def _attributes(event: StoredEvent) -> dict[str, Any]:
    attributes = {
        "object": {"object_id": event.product_id} if event.product_id else None,
        "position": None if event.position is None else {"ordinal": event.position},
        "quantity": event.quantity,
        "rating": event.rating,
        "results": event.results,
    }
    return {name: value for name, value in attributes.items() if value is not None}


_PAGE = 5_000
_TERMS = 10_000
"""The most values of one filter."""
_MOST_DAYS = 65_535
"""The most buckets of one response by default: 179 years."""
_EXPUNGE_SECONDS = 120.0
_NAMED = {"exists": {"field": SHOPPER}}


class ElasticsearchEvents:
    """The events of a cluster's alias; see `shelfwise.retrieval.events.store.EventStore`. Closing it closes the
    cluster.

    A failed append acknowledges nothing, and a retry recognises what was written. With `waits_for_files`, `forget`
    returns once the cluster's files no longer contain the removed events, after about half a minute.
    """

    def __init__(self, cluster: Cluster, *, waits_for_files: bool = True) -> None:
        self._cluster = cluster
        self._indexes = EventIndexes(cluster)
        self._waits_for_files = waits_for_files
        self._turns = threading.Condition()
        self._appending = 0
        self._closed = False

    def append(self, events: Sequence[StoredEvent]) -> AppendResult:
        """Appends events; they are durable in all replicas when it returns.

        After a retry because of a lost connection, a new event may be counted as a duplicate.
        """
        call = _Call(self._cluster, self._indexes, events)
        with self._own_turn(), ThreadPoolExecutor(_SENDERS, thread_name_prefix="shelfwise-events") as senders:
            each = list(senders.map(call.append, batches(call.places, BULK_DOCUMENTS)))
        conflicts = sorted(place for one in each for place in one.conflicts)
        return AppendResult(sum(one.added for one in each), sum(one.duplicates for one in each), tuple(conflicts))

    def count(self) -> int:
        self._refresh()
        return self._count({"match_all": {}})

    def days(self) -> Mapping[int, DayState]:
        self._refresh()
        sums = {name: {"sum": {"field": name}} for name in MARKS}
        days = {"terms": {"field": DAY, "size": _MOST_DAYS, "order": {"_key": "asc"}}, "aggs": sums}
        answer = search(self._cluster, self._indexes.aliases, {"size": 0, "aggs": {"days": days}})
        found = answer.get("aggregations", {}).get("days", {"buckets": [], "sum_other_doc_count": 0})
        if found["sum_other_doc_count"]:
            raise StoreError(f"events of more than {_MOST_DAYS:,} days cannot be listed; expire the oldest")
        return {
            bucket["key"]: DayState(bucket["doc_count"], "-".join(f"{bucket[name]['value']:.0f}" for name in MARKS))
            for bucket in found["buckets"]
        }

    def read(self, first_day: int, last_day: int) -> Iterator[pl.DataFrame]:
        self._refresh()
        months: dict[tuple[int, int], list[str]] = {}
        for month in self._indexes.months():
            if month.first_day <= last_day and month.last_day >= first_day:
                months.setdefault((month.first_day, month.last_day), []).append(month.name)
        for (first, last), indexes in months.items():
            days = _days(max(first, first_day), min(last, last_day))
            with PointInTime(self._cluster, indexes) as now:
                for page in now.pages(days, _PAGE, FIELDS, (TIME, KEY)):
                    yield event_table(row(found.id, found.sort[0], found.source) for found in page)

    def holds(self, shoppers: Collection[str]) -> int:
        self._refresh()
        return sum(self._count(_any(SHOPPER, some)) for some in batches(set(shoppers), _TERMS))

    def holds_key(self, name: str) -> bool:
        self._refresh()
        begin = [{"prefix": {field: prefix(name)}} for field in (SHOPPER, SESSION)]
        return self._count({"bool": {"should": begin}}) > 0

    def forget(self, shoppers: Collection[str]) -> int:
        """Removes a shopper's events, and the nameless ones of the same sessions.

        Raises ClusterUnavailableError if the cluster's files still contain them; call it again then.
        """
        self._refresh()
        theirs = [_any(SHOPPER, some) for some in batches(set(shoppers), _TERMS)]
        found = (each.source.get(SESSION, "") for query in theirs for each in self._found(query, SESSION))
        sessions = set(found) - {""}
        nameless = [
            {"bool": {"filter": [_any(SESSION, some)], "must_not": [_NAMED]}} for some in batches(sessions, _TERMS)
        ]
        # The shopper's own events are removed last: after an interruption, the sessions can be found again.
        removed = sum(self._remove(query) for query in (*nameless, *theirs))
        is_gone = expunge(self._cluster, self._indexes.aliases, _EXPUNGE_SECONDS if self._waits_for_files else 0)
        if self._waits_for_files and not is_gone:
            raise ClusterUnavailableError(
                f"{removed:,} events were removed, but files of the cluster still contain them; erase them again later"
            )
        return removed

    def expire(self, before_day: int, expected: Mapping[int, DayState] | None = None) -> int:
        if expected is not None:
            check_expected(self.days(), before_day, expected)
        self._refresh()
        count = None if expected is None else sum(state.count for state in expected.values())
        removed = self._remove({"range": {DAY: {"lt": before_day}}}, count)
        for month in self._indexes.months():
            if month.last_day < before_day:
                drop_empty(self._cluster, month.name)
        return removed

    def close(self) -> None:
        with self._turns:
            self._closed = True
            self._turns.wait_for(lambda: not self._appending)
        self._cluster.close()

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        """Delays `close` during an append."""
        with self._turns:
            if self._closed:
                raise StoreError("the event store is closed; open it again")
            self._appending += 1
        try:
            yield
        finally:
            with self._turns:
                self._appending -= 1
                self._turns.notify_all()

    def _refresh(self) -> None:
        refresh(self._cluster, self._indexes.aliases)

    def _count(self, query: Mapping[str, Any]) -> int:
        body = {"query": query, "size": 0, "track_total_hits": True}
        return int(search(self._cluster, self._indexes.aliases, body)["hits"]["total"]["value"])

    def _found(self, query: Mapping[str, Any], *fields: str) -> Iterator[FoundDocument]:
        with PointInTime(self._cluster, self._indexes.aliases) as now:
            for page in now.pages(query, _PAGE, fields):
                yield from page

    def _remove(self, query: Mapping[str, Any], expected: int | None = None) -> int:
        """Removes the events of a query; raises StoreError and removes none if their number is not `expected`."""
        self._indexes.months()  # raises an error if our aliases have a foreign index
        removed = 0
        with PointInTime(self._cluster, self._indexes.aliases) as now:
            if expected is not None:
                found = now.count(query)
                if found != expected:
                    raise StoreError(f"there are {found:,} events, not {expected:,}; nothing was removed; try again")
            for page in now.pages(query, BULK_DOCUMENTS):
                # Claims are removed first: after an interruption, the events can be found again.
                remove(self._cluster, [(self._indexes.keys, found.id) for found in page])
                removed += remove(self._cluster, [(found.index, found.id) for found in page])
        self._refresh()
        return removed


def _any(field: str, values: Sequence[str]) -> dict[str, Any]:
    return {"terms": {field: values}}


def _days(first: int, last: int) -> dict[str, Any]:
    return {"range": {DAY: {"gte": first, "lte": last}}}
