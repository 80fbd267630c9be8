"""The event store in an Elasticsearch cluster, in the schema of User Behavior Insights (UBI 1.3, github.com/o19s/ubi).

One index has all events, each under its key, so that a resent one exists already; two filtered aliases show the queries
and the other events. Attributes that UBI does not define are below `event_attributes` or `query_attributes`; what only
the store needs is below `shelfwise`, such as a digest of the content, by which a resent event and a different one with
the same id differ. Reads follow a refresh, so an acknowledged event is always found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import polars as pl
import xxhash

from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.elasticsearch.documents import (
    BULK_DOCUMENTS,
    CREATED,
    NO_INDEX,
    THERE_ALREADY,
    FoundDocument,
    PointInTime,
    batches,
    create,
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
from shelfwise.retrieval.events.store import AppendResult, DayState, EventStore, check_expected, event_table
from shelfwise.retrieval.events.stored import StoredEvent, moment
from shelfwise.retrieval.records import EventKind

_SENDERS = 8
"""The number of parallel bulk requests of all appends."""


_MAKER = "shelfwise"
_SETTINGS: Mapping[str, Any] = {
    "translog.durability": "request",
    # Erased events must leave the files: merges select segments with a single removed document, and a replica that was
    # away requests files instead of the history for which removed documents are kept.
    "merge.policy.expunge_deletes_allowed": 0,
    "soft_deletes.retention_lease.period": "0ms",
}


SCHEMA = 3
"""The schema of the documents, in the mapping of the index."""
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
            "digest": {"type": "keyword", "index": False, "doc_values": False},
            "day": {"type": "integer"},
            "received": {"type": "date"},
            "mark_low": {"type": "integer"},
            "mark_high": {"type": "integer"},
            "address": _KEYWORD,
        }
    },
}
MAPPING: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {
        **_COMMON,
        "action_name": _KEYWORD,
        "user_query": {**_KEYWORD, "fields": {"text": {"type": "text"}}},
        "event_attributes": _ATTRIBUTES,
        "query_attributes": _ATTRIBUTES,
    },
}


def document(event: StoredEvent, application: str) -> bytes:
    """The document of an event as JSON, without empty fields."""
    digest = xxhash.xxh3_64_intdigest(msgspec.json.encode(event))
    ubi: dict[str, Any] = {
        "application": application,
        "timestamp": moment(event.time).isoformat(timespec="milliseconds"),
        "shelfwise": {
            "key": event.key.hex(),
            "digest": content_digest(event),
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
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(event.content))


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
_MAX_DAYS = 65_535
"""The most buckets of one response by default: 179 years."""
_EXPUNGE_SECONDS = 120.0


class ElasticsearchEvents(EventStore):
    """The events of a cluster's alias; see `shelfwise.retrieval.events.store.EventStore`. Closing it closes the
    cluster.

    A failed append acknowledges nothing, and a retry recognises what was written. With `waits_for_files`, `forget`
    returns once the cluster's files no longer contain the removed events, after about half a minute.
    """

    def __init__(self, cluster: Cluster, *, waits_for_files: bool = True) -> None:
        self._cluster = cluster
        self.application = cluster.settings.alias
        self.index = f"ubi-{self.application}"
        self.events, self.queries = f"ubi_events-{self.application}", f"ubi_queries-{self.application}"
        self._waits_for_files = waits_for_files
        self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="shelfwise-events")

    def append(self, events: Sequence[StoredEvent]) -> AppendResult:
        """Appends events; they are durable in all replicas when it returns.

        After a retry because of a lost connection, a new event may be counted as a duplicate.
        """
        places: dict[str, list[int]] = {}
        for place, event in enumerate(events):
            places.setdefault(event.key.hex(), []).append(place)
        parts = ({key: places[key] for key in keys} for keys in batches(places, BULK_DOCUMENTS))
        try:
            results = self._senders.map(lambda part: self._append(events, part), parts)
        except RuntimeError as error:
            raise StoreError("the event store is closed; open it again") from error
        each = list(results)
        conflicts = sorted(place for one in each for place in one.conflicts)
        return AppendResult(sum(one.added for one in each), sum(one.duplicates for one in each), tuple(conflicts))

    def _append(self, events: Sequence[StoredEvent], places: Mapping[str, Sequence[int]]) -> AppendResult:
        """Appends events; `places` has the positions of those with each key (in hexadecimal)."""
        firsts = {key: events[positions[0]] for key, positions in places.items()}
        statuses = self._create([(key, document(event, self.application)) for key, event in firsts.items()])
        digests = {key: content_digest(event) for key, event in firsts.items()}
        there = [key for key, status in zip(firsts, statuses, strict=True) if status == THERE_ALREADY]
        if there:
            stored = sources(self._cluster, self.index, there)
            if len(stored) < len(there):
                raise ClusterUnavailableError("some of these events were removed in the meantime; send them again")
            digests |= {key: source["shelfwise"]["digest"] for key, source in stored.items()}
            # The process that writes it may not have it on disk yet.
            flush(self._cluster, [self.index])
        pairs = [(place, content_digest(events[place]) == digests[key]) for key in places for place in places[key]]
        added, differing = statuses.count(CREATED), tuple(place for place, is_equal in pairs if not is_equal)
        return AppendResult(added, len(pairs) - len(differing) - added, differing)

    def _create(self, documents: Sequence[tuple[str, bytes]]) -> list[int]:
        """Creates documents by id, and the index if it is missing; see `create`.

        They are written through an alias, so that Elasticsearch never recreates a removed index with a guessed mapping.
        Raises ClusterRefusedError for an index of this name that does not belong to this store.
        """
        statuses = create(self._cluster, self.events, documents)
        if NO_INDEX in statuses:
            self._make_index()
            statuses = create(self._cluster, self.events, documents)
        if NO_INDEX in statuses:
            raise ClusterRefusedError(
                f"there is an index {self.index} that was not created here: remove it if nothing needs it, or set "
                f"elasticsearch.alias to another name"
            )
        return statuses

    def _make_index(self) -> None:
        self._cluster.check_server()
        settings = {**_SETTINGS, "number_of_shards": self._cluster.settings.shards, **self._cluster.settings.copies}
        is_event = {"exists": {"field": "action_name"}}
        aliases = {
            self.events: {"filter": is_event, "is_write_index": True},
            self.queries: {"filter": {"bool": {"must_not": [is_event]}}, "is_write_index": True},
        }
        made_by = {"made_by": _MAKER, "schema": SCHEMA, "application": self.application}
        make_index(self._cluster, self.index, settings, {**MAPPING, "_meta": made_by}, aliases)

    def _check_ours(self) -> None:
        """Raises ClusterRefusedError for an index of this name that this program did not create."""
        state = self._cluster.state(self.index)
        if state is not None and (state.meta.get("made_by"), state.meta.get("schema")) != (_MAKER, SCHEMA):
            raise ClusterRefusedError(
                f"the index {self.index} is not an event index of this version of Shelfwise: remove it, or set "
                f"elasticsearch.alias to another name"
            )

    def days(self) -> Mapping[int, DayState]:
        self._refresh()
        sums = {name: {"sum": {"field": name}} for name in MARKS}
        days = {"terms": {"field": DAY, "size": _MAX_DAYS, "order": {"_key": "asc"}}, "aggs": sums}
        answer = search(self._cluster, [self.index], {"size": 0, "aggs": {"days": days}})
        found = answer.get("aggregations", {}).get("days", {"buckets": [], "sum_other_doc_count": 0})
        if found["sum_other_doc_count"]:
            raise StoreError(f"events of more than {_MAX_DAYS:,} days cannot be listed; expire the oldest")
        return {
            bucket["key"]: DayState(bucket["doc_count"], "-".join(f"{bucket[name]['value']:.0f}" for name in MARKS))
            for bucket in found["buckets"]
        }

    def read(self, first_day: int, last_day: int) -> Iterator[pl.DataFrame]:
        self._refresh()
        self._check_ours()
        days = {"range": {DAY: {"gte": first_day, "lte": last_day}}}
        with PointInTime(self._cluster, [self.index]) as now:
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
        is_named = {"exists": {"field": SHOPPER}}
        nameless = [
            {"bool": {"filter": [_any(SESSION, some)], "must_not": [is_named]}} for some in batches(sessions, _TERMS)
        ]
        # The shopper's own events are removed last: after an interruption, the sessions can be found again.
        removed = sum(self._remove(query) for query in (*nameless, *theirs))
        is_gone = expunge(self._cluster, [self.index], _EXPUNGE_SECONDS if self._waits_for_files else 0)
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
        return self._remove({"range": {DAY: {"lt": before_day}}}, count)

    def close(self) -> None:
        self._senders.shutdown()
        self._cluster.close()

    def _refresh(self) -> None:
        refresh(self._cluster, [self.index])

    def _count(self, query: Mapping[str, Any]) -> int:
        body = {"query": query, "size": 0, "track_total_hits": True}
        return int(search(self._cluster, [self.index], body)["hits"]["total"]["value"])

    def _found(self, query: Mapping[str, Any], *fields: str) -> Iterator[FoundDocument]:
        with PointInTime(self._cluster, [self.index]) as now:
            for page in now.pages(query, _PAGE, fields):
                yield from page

    def _remove(self, query: Mapping[str, Any], expected: int | None = None) -> int:
        """Removes the events of a query; raises StoreError and removes none if their number is not `expected`."""
        self._check_ours()
        removed = 0
        with PointInTime(self._cluster, [self.index]) as now:
            if expected is not None:
                found = now.count(query)
                if found != expected:
                    raise StoreError(f"there are {found:,} events, not {expected:,}; nothing was removed; try again")
            for page in now.pages(query, BULK_DOCUMENTS):
                removed += remove(self._cluster, self.index, [found.id for found in page])
        self._refresh()
        return removed


def _any(field: str, values: Sequence[str]) -> dict[str, Any]:
    return {"terms": {field: values}}
