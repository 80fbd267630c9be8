"""One Elasticsearch cluster: its connections, deadlines, retries and errors. The only file that imports elasticsearch.

Requests that are safe to repeat are retried on another node. If the cluster keeps failing, requests to it are paused
for a while, so that searches without it do not wait for a deadline; after that, one request at a time tries it again.
Live changes that it cannot accept do not affect searches.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import elastic_transport
import elasticsearch
from circuitbreaker import STATE_HALF_OPEN, CircuitBreaker
from elasticsearch import Elasticsearch, helpers

from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.errors import ClusterError, ClusterRefusedError, ClusterUnavailableError, StoreDamagedError

_CONFLICT = 409
_NOT_FOUND = 404
_FAILURES_TO_OPEN = 3
_REST_SECONDS = 2
"""The pause after the cluster failed."""
_SLOW_SECONDS = 60.0
"""The deadline of requests other than searches."""
_CONNECTIONS = 16
"""The number of open connections to each node."""
_WRITE_SECONDS = 5.0
_BULK_DOCUMENTS = 1_000
_BULK_BYTES = 8 * 1024 * 1024
_BULK_RETRIES = 8
_SENDERS = 2
"""Parallel bulk requests: a shard processes one with one thread."""
_FOREIGN = frozenset({400, 404, 405, 406, 501})
"""Statuses of a server that is not Elasticsearch."""

T = TypeVar("T")
Document = tuple[str, int, bytes | None]
"""An id, a version, and the document as JSON; None deletes the document."""
Body = Mapping[str, Any] | list[bytes] | None


@dataclass(frozen=True, slots=True)
class IndexState:
    """The state of an index in the cluster."""

    name: str
    meta: Mapping[str, Any]
    """The `_meta` of its mapping."""
    aliases: frozenset[str]


class Cluster:
    """A cluster. Thread-safe.

    Every method raises ClusterUnavailableError if the cluster does not respond in time, and ClusterRefusedError if it
    refuses.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self._circuit = _Circuit()
        self._changing = _Circuit()
        """The circuit breaker of live changes: a cluster that is too busy for them can still be searched."""
        urls = list(map(_with_port, settings.urls))
        secrets: dict[str, Any] = {}
        if settings.api_key:
            secrets["api_key"] = settings.api_key
        elif settings.username:
            secrets["basic_auth"] = (settings.username, settings.password)
        if settings.ca_certificate:
            secrets["ca_certs"] = str(settings.ca_certificate)
        self._client = Elasticsearch(
            urls,
            connections_per_node=_CONNECTIONS,
            request_timeout=_SLOW_SECONDS,
            max_retries=2 + len(urls),
            retry_on_status=(502, 503, 504),
            **secrets,
        )
        self.round_trips = 0
        """The number of search requests; approximate with several threads."""
        self._search = self._client.options(request_timeout=settings.deadline, max_retries=len(urls))

    def search(self, index: str, searches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The responses to several searches of one index, in one round trip and before the deadline."""
        lines: list[Mapping[str, Any]] = []
        for body in searches:
            lines += [{}, body]
        kind = "dfs_query_then_fetch" if self.settings.shards > 1 else "query_then_fetch"

        def ask() -> list[dict[str, Any]]:
            self.round_trips += 1
            answer = self._search.msearch(
                index=index,
                searches=lines,
                search_type=kind,
                filter_path="responses.hits.hits.sort,responses.hits.total.value,responses.aggregations,"
                "responses.timed_out,responses._shards.failed,responses.error,responses.status",
            )
            found: list[dict[str, Any]] = answer["responses"]
            for each in found:
                check_whole(each)
            return found

        return self._guarded(ask)

    def count(self, index: str) -> int:
        return self._guarded(lambda: int(self._client.count(index=index)["count"]))

    def state(self, index: str) -> IndexState | None:
        """The state of an index, or None if it does not exist; within the deadline of a search."""
        states = self._states(index, self._search)
        return next((state for state in states if state.name == index), None)

    def states(self, pattern: str) -> list[IndexState]:
        """The states of the indexes that match a pattern such as `shelfwise-*`, or that have an alias."""
        return self._states(pattern, self._client)

    def _states(self, pattern: str, client: Elasticsearch) -> list[IndexState]:
        def ask() -> list[IndexState]:
            found = client.options(ignore_status=404).indices.get(
                index=pattern, allow_no_indices=True, ignore_unavailable=True, filter_path="*.mappings._meta,*.aliases"
            )
            if found.meta.status == 404:
                return []
            return [
                IndexState(name, each.get("mappings", {}).get("_meta", {}), frozenset(each.get("aliases", {})))
                for name, each in sorted(found.body.items())
            ]

        return self._guarded(ask)

    def check_index(self, index: str, made_of: Mapping[str, object]) -> None:
        """Raises StoreDamagedError unless there is an index of this name with the metadata `made_of`."""
        state = self.state(index)
        if state is None:
            raise StoreDamagedError(f"the cluster has no index {index}")
        differing = [key for key, value in made_of.items() if state.meta.get(key) != value]
        if differing:
            differences = ", ".join(f"{key} is {state.meta.get(key)!r}, not {made_of[key]!r}" for key in differing)
            raise StoreDamagedError(f"the cluster's index {index} is a different one: {differences}")

    def check_server(self) -> None:
        """Raises ClusterRefusedError for a server that is too old or not Elasticsearch."""

        def ask() -> str:
            found = self._client.nodes.info(node_id="_local", metric="_none", filter_path="nodes.*.version")
            return next((str(node["version"]) for node in found.body.get("nodes", {}).values()), "")

        try:
            version = self._guarded(ask)
        except ClusterRefusedError as error:
            if isinstance(error.__cause__, elasticsearch.AuthorizationException):
                return  # users who may not read node information may still read and write indexes
            raise
        parts = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if parts and parts < OLDEST_SERVER:
            wanted = ".".join(map(str, OLDEST_SERVER))
            raise ClusterRefusedError(f"{self._place()} runs Elasticsearch {version}; {wanted} or newer is needed")

    def check_writable(self, index: str, document_id: str) -> None:
        """Raises an error unless documents of an index can be written; writes nothing."""

        def ask() -> None:
            self._search.options(ignore_status=404).update(index=index, id=document_id, doc={}, refresh=False)

        self._guarded(ask, self._changing)

    def create(self, index: str, settings: Mapping[str, Any], mappings: Mapping[str, Any]) -> None:
        """Creates an index; an existing one of this name is removed first."""
        self.delete([index])
        self._guarded(lambda: self._client.indices.create(index=index, settings=settings, mappings=mappings))

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._guarded(lambda name=name: self._client.options(ignore_status=404).indices.delete(index=name))  # type: ignore[misc]

    def configure(self, index: str, settings: Mapping[str, Any]) -> None:
        self._guarded(lambda: self._client.indices.put_settings(index=index, settings=settings))

    def describe(self, index: str, meta: Mapping[str, Any]) -> None:
        """Replaces the metadata of an index."""
        self._guarded(lambda: self._client.indices.put_mapping(index=index, meta=meta))

    def settle(self, index: str) -> None:
        """Refreshes and flushes an index."""
        self._guarded(lambda: self._client.indices.refresh(index=index))
        self._guarded(lambda: self._client.indices.flush(index=index))

    def wait_for_copies(self, index: str, seconds: float) -> bool:
        """Waits until every shard has its replicas; returns whether this succeeded in time."""
        try:
            health = self._guarded(
                lambda: self._client.options(request_timeout=seconds + 5, ignore_status=408).cluster.health(
                    index=index, wait_for_status="green", timeout=f"{seconds:g}s"
                )
            )
        except ClusterRefusedError:
            return False  # not every user may request it
        return bool(health.body.get("status") == "green")

    def point_alias(self, alias: str, index: str) -> None:
        """Moves an alias to one index, atomically."""
        removal: dict[str, Any] = {"index": "*", "alias": alias, "must_exist": False}
        actions = [{"remove": removal}, {"add": {"index": index, "alias": alias}}]
        self._guarded(lambda: self._client.indices.update_aliases(actions=actions))

    def load(self, index: str, documents: Iterable[Document]) -> Iterator[int]:
        """Writes documents in bulk and yields the number of further ones written; waits if the cluster is busy.

        A document whose version already exists counts as written.
        """
        client, rest = self._client.options(retry_on_timeout=True), iter(documents)
        with ThreadPoolExecutor(_SENDERS, thread_name_prefix="shelfwise-load") as senders:
            under_way: deque[Future[int]] = deque()
            while part := list(islice(rest, _BULK_DOCUMENTS)):
                under_way.append(senders.submit(self._sent, index, part, client))
                if len(under_way) > _SENDERS:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()

    def _sent(self, index: str, documents: Sequence[Document], client: Elasticsearch) -> int:
        for ok, item in self._bulk(index, documents, client, _BULK_RETRIES, refresh=False):
            self._check_written(index, ok, item, _CONFLICT)
        return len(documents)

    def write(self, index: str, documents: Sequence[Document]) -> None:
        """Writes documents, which searches find when it returns; older versions are ignored.

        A user without write access succeeds if another process has written them.
        """
        client = self._client.options(request_timeout=_WRITE_SECONDS, max_retries=len(self.settings.urls))
        try:
            results = self._guarded(lambda: list(self._bulk(index, documents, client, 2, refresh=True)), self._changing)
            for ok, item in results:
                self._check_written(index, ok, item, _CONFLICT, _NOT_FOUND)
        except ClusterRefusedError:
            if not self._holds(index, documents):
                raise

    def _holds(self, index: str, documents: Sequence[Document]) -> bool:
        """Whether each document exists in this version or a later one, or is deleted as it should be."""
        wanted = {name: (version, content) for name, version, content in documents}
        found = self._guarded(lambda: self._client.mget(index=index, ids=list(wanted), source=False).body["docs"])
        return all(
            each["_version"] >= wanted[each["_id"]][0] if each.get("found") else wanted[each["_id"]][1] is None
            for each in found
        )

    def request(
        self,
        method: str,
        path: str,
        body: Body = None,
        params: Mapping[str, str] | None = None,
        *,
        fine: Sequence[int] = (),
        is_write: bool = False,
        seconds: float = _SLOW_SECONDS,
    ) -> dict[str, Any]:
        """The response to an idempotent request; statuses in `fine` are not errors.

        A list is sent as lines, as in bulk requests.
        """
        kind = "application/x-ndjson" if isinstance(body, list) else "application/json"
        headers = {"accept": "application/json", "content-type": kind}
        tries = len(self.settings.urls)
        client = self._client.options(ignore_status=tuple(fine), max_retries=tries, request_timeout=seconds)

        def ask() -> dict[str, Any]:
            answer: dict[str, Any] = client.perform_request(
                method, path, params=params, headers=headers, body=body
            ).body
            return answer

        return self._guarded(ask, self._changing if is_write else None)

    def close(self) -> None:
        self._client.close()

    def _bulk(
        self, index: str, documents: Iterable[Document], client: Elasticsearch, max_retries: int, *, refresh: bool
    ) -> Iterator[tuple[bool, dict[str, Any]]]:
        # The helper's types allow documents only as dicts, but it also accepts bytes.
        actions: Any = documents
        expand: Any = _action
        with self._translate_errors():
            yield from helpers.streaming_bulk(
                client,
                actions,
                index=index,
                chunk_size=_BULK_DOCUMENTS,
                max_chunk_bytes=_BULK_BYTES,
                expand_action_callback=expand,
                initial_backoff=0.5,
                max_backoff=20,
                # Not 503: after the loss of a shard, the server has already waited for the time of `timeout`.
                retry_on_status=BUSY,
                raise_on_error=False,
                timeout="30s",
                filter_path="took,errors,items.*.status,items.*.error",
                max_retries=max_retries,
                refresh=refresh,
            )

    def _check_written(self, index: str, ok: bool, item: Mapping[str, Any], *fine: int) -> None:
        result = next(iter(item.values()))
        if not ok and result["status"] not in fine:
            raise status_error(self._place(), f"{index}: {error_reason(result.get('error'))}", result["status"])

    def _guarded(self, work: Callable[[], T], circuit: _Circuit | None = None) -> T:
        with (circuit or self._circuit).through(self._place()), self._translate_errors():
            return work()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except ClusterError:
            raise
        except elasticsearch.ApiError as error:
            if error.status_code in _FOREIGN and "x-elastic-product" not in error.meta.headers:
                raise self._foreign() from error
            raise status_error(self._place(), error_reason(error.body), error.status_code) from error
        except elasticsearch.UnsupportedProductError as error:
            raise self._foreign() from error
        except elastic_transport.TlsError as error:
            cure = "its certificate is not trusted ({}); set elasticsearch.ca_certificate"
            if "WRONG_VERSION_NUMBER" in str(error.message):
                cure = "it does not use TLS ({}); elasticsearch.url should begin with http://"
            raise ClusterRefusedError(f"{self._place()}: {cure.format(error.message)}") from error
        except elastic_transport.TransportError as error:
            cure = ""
            if "Remote end closed connection" in str(error) and any(map(_is_plain, self.settings.urls)):
                cure = "; if it uses TLS, elasticsearch.url must begin with https://"
            message = f"{self._place()} does not respond: {abbreviate(str(error))}{cure}"
            raise ClusterUnavailableError(message) from error

    def _foreign(self) -> ClusterRefusedError:
        return ClusterRefusedError(f"{self._place()} does not respond like Elasticsearch; is elasticsearch.url right?")

    def _place(self) -> str:
        return f"Elasticsearch at {', '.join(self.settings.urls)}"


class _Circuit:
    """A circuit breaker: open while the cluster keeps failing, then one trial request at a time."""

    def __init__(self) -> None:
        self._breaker = CircuitBreaker(_FAILURES_TO_OPEN, _REST_SECONDS, ClusterUnavailableError, "elasticsearch")
        self._trial = threading.Lock()

    @contextmanager
    def through(self, place: str) -> Iterator[None]:
        """Runs a request; raises ClusterUnavailableError while the circuit is open."""
        is_trial = self._breaker.state == STATE_HALF_OPEN
        if self._breaker.opened or (is_trial and not self._trial.acquire(blocking=False)):
            last = self._breaker.last_failure
            raise ClusterUnavailableError(
                f"{place} failed {_FAILURES_TO_OPEN} times, so requests to it are paused: {last}"
            )
        try:
            with self._breaker:
                yield
        finally:
            if is_trial:
                self._trial.release()


def _with_port(url: str) -> str:
    place = re.match(r"https?://[^/]+", url)
    if place is None or re.search(r":\d+$", place[0]):
        return url
    return f"{place[0]}:{9200 if _is_plain(url) else 443}{url[place.end() :]}"


def _is_plain(url: str) -> bool:
    return url.startswith("http:")


def _action(document: Document) -> tuple[dict[str, Any], bytes | None]:
    name, version, content = document
    what = "delete" if content is None else "index"
    return {what: {"_id": name, "version": version, "version_type": "external"}}, content


# The meaning of a cluster's error responses: the error for each, and what to do about it.

OLDEST_SERVER = (8, 19)
BUSY = 429
_FLOOD = "read-only-allow-delete"
_LONGEST_REASON = 300


def check_whole(answer: Mapping[str, Any]) -> None:
    """Raises an error for a response from only some of the shards, which would miss documents."""
    if "error" in answer:
        status = int(answer.get("status", 500))
        raise status_error("Elasticsearch", error_reason(answer), status)
    if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
        raise ClusterUnavailableError("Elasticsearch responds from only a part of its shards")


def status_error(place: str, reason: str, status: int) -> ClusterError:
    """The error for a status, with what to do about it."""
    is_full = _FLOOD in reason  # the status is that of a busy cluster, but waiting does not help
    if not is_full and (status in (408, BUSY) or status >= 500):
        return ClusterUnavailableError(f"{place} cannot answer now ({status}): {reason}")
    cure = ""
    if status == 401:
        cure = "; check elasticsearch.username and elasticsearch.password, or elasticsearch.api_key"
    elif is_full:
        cure = "; its disk is nearly full, so it only allows deletes: free some space on it"
    elif "block" in reason and status == 403:
        cure = "; the index or the cluster is read-only: lift its block"
    elif status == 403:
        cure = "; grant this user the privilege"
    elif status == 406 or "media_type_header" in reason:
        cure = f"; the server is too old, {'.'.join(map(str, OLDEST_SERVER))} or newer is needed"
    return ClusterRefusedError(f"{place} refuses ({status}): {reason.rstrip('; ')}{cure}")


def error_reason(body: object) -> str:
    """The reason in an error response, on one line."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(error, Mapping):
        causes = error.get("root_cause") or [error]
        cause = error.get("caused_by") or {}
        reasons = [str(each.get("reason") or each.get("type")) for each in causes[:1]]
        if cause.get("reason"):
            reasons.append(str(cause["reason"]))
        return abbreviate(": ".join(dict.fromkeys(reasons)))
    return abbreviate(str(error))


def abbreviate(text: str) -> str:
    """A text on one line, cut if it is long."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."
