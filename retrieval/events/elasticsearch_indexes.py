"""The indexes that hold events in a cluster: their names, how they are made, and which there are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from retrieval.cluster import Cluster, IndexState
from retrieval.cluster_documents import NO_INDEX, NewDocument, create, make_index
from retrieval.errors import ClusterRefusedError
from retrieval.events.event import EventKind
from retrieval.events.stored import DAY_MS, EPOCH, StoredEvent, moment
from retrieval.events.ubi import EVENTS_MAPPING, QUERIES_MAPPING, SCHEMA

_MAKER = "shelfwise"
_KEYS_MAPPING: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "said": {"type": "keyword", "index": False, "doc_values": False},
        "time": {"type": "long", "index": False, "doc_values": False},
    },
}
_SETTINGS: Mapping[str, Any] = {
    "translog.durability": "request",
    # So that what is forgotten leaves the files: a merge takes segments with a single removed document, and a copy
    # that was away asks for files instead of for the history that removed documents are kept for.
    "merge.policy.expunge_deletes_allowed": 0,
    "soft_deletes.retention_lease.period": "0ms",
}


@dataclass(frozen=True, slots=True)
class MonthIndex:
    """The index of a month's searches, or of its other events. Days are since 1970, both included."""

    name: str
    first_day: int
    last_day: int


class EventIndexes:
    """The indexes of one store's events: `ubi_events-ALIAS-2026-11`, `ubi_queries-ALIAS-2026-11` and `ubi_keys-ALIAS`.

    Those of all months are behind the aliases `ubi_events-ALIAS` and `ubi_queries-ALIAS`. Each has one more alias, by
    which it is written: told to write to an alias only, Elasticsearch never makes an index that was removed in the
    meantime anew, with a mapping that it guessed.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        alias = cluster.settings.alias
        self.application = alias
        self.events, self.queries, self.keys = f"ubi_events-{alias}", f"ubi_queries-{alias}", f"ubi_keys-{alias}"
        self.aliases = (self.events, self.queries)
        self._name = re.compile(rf"(?:{re.escape(self.events)}|{re.escape(self.queries)})-(\d{{4}})-(\d\d)")

    def name_of(self, event: StoredEvent) -> str:
        """The index that an event belongs to."""
        return f"{self.queries if event.kind == EventKind.QUERY else self.events}-{_month(event.day)}"

    def write(self, documents: Sequence[tuple[str, str, bytes]]) -> list[int]:
        """Writes documents, given by index, id and content, unless there are any with their ids; see `create`.

        An index that is not there is made. Raises ClusterRefusedError where there is one that somebody else made.
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
                        f"there is an index {documents[place][0]} that was not made here: remove it if nothing needs "
                        f"it, or set elasticsearch.alias to another name"
                    )
                statuses[place] = status
        return statuses

    def months(self) -> list[MonthIndex]:
        """The indexes that there are, by month; raises ClusterRefusedError where one of them is not ours."""
        states = self._cluster.states(",".join(self.aliases))
        return sorted((self._month_index(state) for state in states), key=lambda month: (month.first_day, month.name))

    def _month_index(self, state: IndexState) -> MonthIndex:
        named = self._name.fullmatch(state.name)
        if named is None or state.meta.get("made_by") != _MAKER:
            raise ClusterRefusedError(f"the index {state.name} is no index of events; remove its alias of events")
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
