"""The store of events in an Elasticsearch cluster: two indexes a month (UTC), as User Behavior Insights names them.

Nothing is asked before a refresh, so whatever was acknowledged is found.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl

from retrieval.cluster import Cluster
from retrieval.cluster_documents import (
    BULK_DOCUMENTS,
    Found,
    PointInTime,
    drop_empty,
    expunge,
    parts,
    refresh,
    remove,
    search,
)
from retrieval.errors import ClusterUnavailableError, StoreError
from retrieval.events import ubi
from retrieval.events.elasticsearch_append import append
from retrieval.events.elasticsearch_indexes import EventIndexes
from retrieval.events.pseudonyms import prefix
from retrieval.events.store import Appended, DayState, check_expected
from retrieval.events.stored import StoredEvent, event_table

_PAGE = 5_000
_TERMS = 10_000
"""Values of one filter."""
_MOST_DAYS = 65_535
"""Groups that Elasticsearch counts in one answer by default: 179 years."""
_EXPUNGE_SECONDS = 120.0
_NAMED = {"exists": {"field": ubi.SHOPPER}}


class ElasticsearchEvents:
    """The events of a cluster's alias; see `retrieval.events.store.EventStore`. The cluster is closed with it.

    Methods raise ClusterUnavailableError where the cluster does not answer, ClusterRefusedError where it refuses. Then
    nothing of an append is acknowledged, and what was written of it is recognised when it is sent again. With
    `waits_for_files`, `forget` returns once the cluster's files are free of what was removed: in about half a minute.
    """

    def __init__(self, cluster: Cluster, *, waits_for_files: bool = True) -> None:
        self._cluster = cluster
        self._indexes = EventIndexes(cluster)
        self._waits_for_files = waits_for_files
        self._turns = threading.Condition()
        self._appending = 0
        self._closed = False

    def append(self, events: Sequence[StoredEvent]) -> Appended:
        """Takes events, each in two writes that are on the disk of all copies when it returns.

        One whose connection was lost and that was tried on another node may count as repeated although it was new.
        """
        with self._own_turn():
            return append(self._cluster, self._indexes, events)

    def count(self) -> int:
        """How many events there are."""
        self._refresh()
        return self._count({"match_all": {}})

    def days(self) -> Mapping[int, DayState]:
        """The state of each day that has events, ascending."""
        self._refresh()
        sums = {name: {"sum": {"field": name}} for name in ubi.MARKS}
        days = {"terms": {"field": ubi.DAY, "size": _MOST_DAYS, "order": {"_key": "asc"}}, "aggs": sums}
        answer = search(self._cluster, self._indexes.aliases, {"size": 0, "aggs": {"days": days}})
        found = answer.get("aggregations", {}).get("days", {"buckets": [], "sum_other_doc_count": 0})
        if found["sum_other_doc_count"]:
            raise StoreError(f"events of more than {_MOST_DAYS:,} days cannot be told apart; expire the oldest")
        return {
            bucket["key"]: DayState(bucket["doc_count"], "-".join(f"{bucket[name]['value']:.0f}" for name in ubi.MARKS))
            for bucket in found["buckets"]
        }

    def read(self, first_day: int, last_day: int) -> Iterator[pl.DataFrame]:
        """The events of some days, each month as it is when its first event is read."""
        self._refresh()
        months: dict[tuple[int, int], list[str]] = {}
        for month in self._indexes.months():
            if month.first_day <= last_day and month.last_day >= first_day:
                months.setdefault((month.first_day, month.last_day), []).append(month.name)
        for (first, last), indexes in months.items():
            days = _days(max(first, first_day), min(last, last_day))
            with PointInTime(self._cluster, indexes) as now:
                for page in now.pages(days, _PAGE, ubi.FIELDS, (ubi.TIME, ubi.KEY)):
                    yield event_table(ubi.row(found.id, found.sort[0], found.source) for found in page)

    def holds(self, shoppers: Collection[str]) -> int:
        """How many events are under any of these pseudonyms."""
        self._refresh()
        return sum(self._count(_any(ubi.SHOPPER, some)) for some in parts(set(shoppers), _TERMS))

    def holds_key(self, name: str) -> bool:
        """Whether any event is under a pseudonym that a key of this name made."""
        self._refresh()
        begin = [{"prefix": {field: prefix(name)}} for field in (ubi.SHOPPER, ubi.SESSION)]
        return self._count({"bool": {"should": begin}}) > 0

    def forget(self, shoppers: Collection[str]) -> int:
        """Removes a shopper's events, and what was done without a name in the same sessions.

        Raises ClusterUnavailableError where the cluster's files are not free of them in time: forget them again.
        """
        self._refresh()
        theirs = [_any(ubi.SHOPPER, some) for some in parts(set(shoppers), _TERMS)]
        sessions = {
            found.source[ubi.SESSION]
            for query in theirs
            for found in self._found(query, ubi.SESSION)
            if ubi.SESSION in found.source
        }
        nameless = [
            {"bool": {"filter": [_any(ubi.SESSION, some)], "must_not": [_NAMED]}} for some in parts(sessions, _TERMS)
        ]
        # The shopper's own go last: whoever is broken off before finds the sessions again.
        removed = sum(self._remove(query) for query in (*nameless, *theirs))
        is_gone = expunge(self._cluster, self._indexes.aliases, _EXPUNGE_SECONDS if self._waits_for_files else 0)
        if self._waits_for_files and not is_gone:
            raise ClusterUnavailableError(
                f"{removed:,} events were removed, but files of the cluster still hold them; forget them again later"
            )
        return removed

    def expire(self, before_day: int, expected: Mapping[int, DayState] | None = None) -> int:
        """Removes the events of all days before one, and the indexes of months that have none left."""
        if expected is not None:
            check_expected(self.days(), before_day, expected)
        self._refresh()
        count = None if expected is None else sum(state.count for state in expected.values())
        removed = self._remove({"range": {ubi.DAY: {"lt": before_day}}}, count)
        for month in self._indexes.months():
            if month.last_day < before_day:
                drop_empty(self._cluster, month.name)
        return removed

    def close(self) -> None:
        """Ends it and its cluster, once what is under way is written."""
        with self._turns:
            self._closed = True
            self._turns.wait_for(lambda: not self._appending)
        self._cluster.close()

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        """While somebody appends, it is not closed."""
        with self._turns:
            if self._closed:
                raise StoreError("the store of events is closed; open it again")
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

    def _found(self, query: Mapping[str, Any], *fields: str) -> Iterator[Found]:
        with PointInTime(self._cluster, self._indexes.aliases) as now:
            for page in now.pages(query, _PAGE, fields):
                yield from page

    def _remove(self, query: Mapping[str, Any], expected: int | None = None) -> int:
        """Removes the events that there are now; raises StoreError, and removes none, where others came meanwhile."""
        self._indexes.months()  # raises where one is behind our aliases that is not ours
        removed = 0
        with PointInTime(self._cluster, self._indexes.aliases) as now:
            if expected is not None:
                found = now.count(query)
                if found != expected:
                    raise StoreError(f"there are {found:,} events, not {expected:,}: nothing was removed; do it again")
            for page in now.pages(query, BULK_DOCUMENTS):
                # Claims go first: whoever is broken off before the events finds these again.
                remove(self._cluster, [(self._indexes.keys, found.id) for found in page])
                removed += remove(self._cluster, [(found.index, found.id) for found in page])
        self._refresh()
        return removed


def _any(field: str, values: Sequence[str]) -> dict[str, Any]:
    return {"terms": {field: values}}


def _days(first: int, last: int) -> dict[str, Any]:
    return {"range": {ubi.DAY: {"gte": first, "lte": last}}}
