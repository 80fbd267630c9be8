"""Imports of event logs in tests: stored events, rejected rows, and the end of the command."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shelfwise.indexer.events.event_mapping import EventMapping, event_mapping
from shelfwise.indexer.events.importer import ImportOptions, ImportReport, import_events
from shelfwise.retrieval.errors import FeedError
from shelfwise.retrieval.events.privacy import EventIntake, Masker, Pseudonyms
from shelfwise.retrieval.events.sqlite import SqliteEvents
from tests.progress import StoppedProgress

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
CLICK: dict[str, Any] = {
    "kind": "click",
    "time": "2024-06-01T10:00:00Z",
    "shopper": "ann",
    "session": "s1",
    "query_id": "q1",
    "query": "cordless drill",
    "product_id": "B1",
    "position": 3,
    "event_id": "e1",
}  # a valid row
UBI_EVENT: dict[str, Any] = {
    "action_name": "product_click",
    "query_id": "q1",
    "client_id": "ann",
    "session_id": "s1",
    "timestamp": "2024-06-01T10:00:00Z",
    "user_query": "cordless drill",
    "event_attributes": {"object": {"object_id": "B1", "object_id_field": "sku"}, "position": {"ordinal": 3}},
}
UBI_QUERY: dict[str, Any] = {
    "query_id": "q1",
    "user_query": "cordless drill",
    "client_id": "ann",
    "timestamp": "2024-06-01T10:00:00Z",
    "query_response_id": "r1",
    "query_response_hit_ids": ["B7", 8, "B9"],
    "query_attributes": {"ip": "10.1.2.3"},
}


@dataclass
class Log:
    folder: Path
    progress: StoppedProgress = field(default_factory=StoppedProgress)
    error: str = ""

    def __post_init__(self) -> None:
        self.intake = EventIntake(Pseudonyms(self.folder / "keys.json"), Masker())

    def write(self, content: bytes | str | Iterable[object], name: str = "events.jsonl") -> Path:
        path = self.folder / name
        if isinstance(content, bytes | str):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        return path

    def take(
        self,
        *paths: Path | str,
        mapping: EventMapping | Mapping[str, object] | None = None,
        format: str = "",  # noqa: A002  # as the option is called
        batch: int = 7,
    ) -> ImportReport:
        chosen = mapping if isinstance(mapping, EventMapping) else event_mapping(mapping or {}, "mapping")
        store = SqliteEvents(self.folder)
        try:
            return import_events(
                [str(path) for path in paths],
                store,
                self.intake,
                ImportOptions(chosen, format, lambda: NOW, batch, workers=1),
                rejected=self.folder / "rejected.jsonl",
                progress=self.progress,
            )
        finally:
            store.close()

    def take_broken(self, *paths: Path | str) -> str:
        try:
            self.take(*paths)
        except FeedError as error:
            return str(error)
        raise AssertionError("it did not end with an error")

    @property
    def stored(self) -> list[dict[str, Any]]:
        store = SqliteEvents(self.folder)
        try:
            tables = list(store.read(0, 100_000))
        finally:
            store.close()
        rows = [row for table in tables for row in table.iter_rows(named=True)]
        return [{name: value for name, value in row.items() if value not in ("", None)} for row in rows]

    @property
    def rejects(self) -> list[dict[str, Any]]:
        path = self.folder / "rejected.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return [(row["line"], row["reason"]) for row in self.rejects]
