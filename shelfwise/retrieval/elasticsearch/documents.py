"""Documents in Elasticsearch that are written once: bulk creation, reading from a point in time, permanent removal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import msgspec

from shelfwise.retrieval.elasticsearch.client import BUSY, Cluster, check_whole, error_reason, status_error
from shelfwise.retrieval.errors import ClusterError

CREATED = 201
THERE_ALREADY = 409
NO_INDEX = 404
BULK_DOCUMENTS = 1_000
_OK = 200
_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Pauses while the cluster is too busy, in seconds."""
_KEEP_ALIVE = "10m"
"""The time a reader may take for one page."""
_WRITE_SECONDS = 30.0
_MERGE_SECONDS = 3_600.0
_LOOK_SECONDS = 1.0
_IF_THERE = {"ignore_unavailable": "true"}


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document as read; `sort` has its sort values."""

    id: str
    sort: Sequence[Any]
    source: Mapping[str, Any]


def make_index(
    cluster: Cluster,
    index: str,
    settings: Mapping[str, Any],
    mappings: Mapping[str, Any],
    aliases: Mapping[str, Mapping[str, Any]],
) -> None:
    """Creates an index with its aliases, atomically, unless it exists."""
    body = {"settings": settings, "mappings": mappings, "aliases": aliases}
    answer = cluster.request("PUT", f"/{index}", body, fine=[400], is_write=True)
    error = answer.get("error")
    if error and error.get("type") != "resource_already_exists_exception":
        raise status_error("Elasticsearch", f"{index}: {error_reason(answer)}", 400)


def create(cluster: Cluster, alias: str, documents: Iterable[tuple[str, bytes]]) -> list[int]:
    """Creates documents, given by id and as JSON, durably in the one index of an alias; returns CREATED, THERE_ALREADY
    or NO_INDEX for each.

    It never creates indexes. THERE_ALREADY may be the result of a retry after a lost connection.
    """
    lines = [
        [msgspec.json.encode({"create": {"_index": alias, "_id": name, "require_alias": True}}), content]
        for name, content in documents
    ]
    return _sent(cluster, lines, (CREATED, THERE_ALREADY, NO_INDEX))


def remove(cluster: Cluster, index: str, ids: Iterable[str]) -> int:
    """Removes documents of an index, durably; returns the number that existed."""
    lines = [[msgspec.json.encode({"delete": {"_index": index, "_id": name}})] for name in ids]
    return _sent(cluster, lines, (_OK, NO_INDEX)).count(_OK)


def sources(cluster: Cluster, index: str, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Documents by id in their latest state; missing ones are left out."""
    found = cluster.request("POST", f"/{index}/_mget", {"ids": ids}, {"filter_path": "docs._id,docs._source"})
    return {each["_id"]: each["_source"] for each in found.get("docs", ()) if "_source" in each}


def _sent(cluster: Cluster, lines: Sequence[list[bytes]], fine: tuple[int, ...]) -> list[int]:
    """The status of each action of a bulk request; actions that a busy cluster rejected are retried."""
    statuses = [BUSY] * len(lines)
    params = {"timeout": "20s", "filter_path": "items.*.status,items.*.error"}
    for pause in (*_PAUSES, None):
        waiting = [place for place, status in enumerate(statuses) if status == BUSY]
        if not waiting:
            break
        body = [line for place in waiting for line in lines[place]]
        answer = cluster.request("POST", "/_bulk", body, params, is_write=True, seconds=_WRITE_SECONDS)
        for place, item in zip(waiting, answer["items"], strict=True):
            (result,) = item.values()
            statuses[place] = result["status"]
            # A full disk has the same status as a busy cluster.
            is_busy = result["status"] == BUSY and result["error"]["type"] == "es_rejected_execution_exception"
            if not (result["status"] in fine or (is_busy and pause)):
                raise status_error("Elasticsearch", error_reason(result.get("error")), result["status"])
        if BUSY in statuses and pause:
            time.sleep(pause)
    return statuses


class PointInTime:
    """A point in time of indexes. Missing indexes count as empty."""

    def __init__(self, cluster: Cluster, indexes: Sequence[str]) -> None:
        self._cluster = cluster
        self._indexes = indexes

    def __enter__(self) -> Self:
        path = f"/{','.join(self._indexes)}/_pit"
        self._id = str(self._cluster.request("POST", path, params={"keep_alive": _KEEP_ALIVE, **_IF_THERE})["id"])
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ClusterError):  # it also expires by itself
            self._cluster.request("DELETE", "/_pit", {"id": self._id}, fine=[404])

    def count(self, query: Mapping[str, Any]) -> int:
        found = self._search({"query": query, "size": 0, "track_total_hits": True})
        return int(found["total"]["value"])

    def pages(
        self, query: Mapping[str, Any], size: int, fields: Sequence[str] = (), sort: Sequence[str] = ("_shard_doc",)
    ) -> Iterator[list[FoundDocument]]:
        """All documents in ascending order, `size` at a time, with some fields."""
        body: dict[str, Any] = {
            "query": query,
            "size": size,
            "sort": list(sort),
            "_source": list(fields) or False,
            "track_total_hits": False,
        }
        while hits := self._search(body)["hits"]:
            yield [FoundDocument(hit["_id"], hit["sort"], hit.get("_source", {})) for hit in hits]
            if len(hits) < size:
                return
            body["search_after"] = hits[-1]["sort"]

    def _search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._cluster.request("POST", "/_search", {**body, "pit": {"id": self._id, "keep_alive": _KEEP_ALIVE}})
        check_whole(answer)
        self._id = answer["pit_id"]
        hits: dict[str, Any] = answer["hits"]
        return hits


def search(cluster: Cluster, indexes: Sequence[str], body: Mapping[str, Any]) -> dict[str, Any]:
    """The response to a search of indexes; missing ones count as empty."""
    answer = cluster.request("POST", f"/{','.join(indexes)}/_search", body, params=_IF_THERE)
    check_whole(answer)
    return answer


def refresh(cluster: Cluster, indexes: Sequence[str]) -> None:
    """Refreshes indexes."""
    check_whole(cluster.request("POST", f"/{','.join(indexes)}/_refresh", params=_IF_THERE))


def flush(cluster: Cluster, indexes: Sequence[str]) -> None:
    """Flushes indexes to disk."""
    check_whole(cluster.request("POST", f"/{','.join(indexes)}/_flush", params=_IF_THERE))


def expunge(cluster: Cluster, indexes: Sequence[str], seconds: float) -> bool:
    """Rewrites the files that still contain removed documents; returns whether it succeeded in time.

    Elasticsearch keeps removed documents until no replica may need them, which it checks every 30 seconds.
    """
    until = time.monotonic() + seconds
    while True:
        flush(cluster, indexes)
        path = f"/{','.join(indexes)}/_forcemerge"
        merged = cluster.request(
            "POST", path, params={"only_expunge_deletes": "true", **_IF_THERE}, seconds=_MERGE_SECONDS
        )
        check_whole(merged)
        stats = cluster.request("GET", f"/{','.join(indexes)}/_stats/docs", params=_IF_THERE)
        if not stats["_all"]["total"].get("docs", {}).get("deleted", 0):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_SECONDS)


def batches(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    """Ids in lists of at most `size`."""
    rest = iter(ids)
    while part := list(islice(rest, size)):
        yield part
