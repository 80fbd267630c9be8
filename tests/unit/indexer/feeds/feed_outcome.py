"""Reads feeds in tests: the result of every row, and the error, if any."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from shelfwise.indexer.feeds.base import FeedNote, RejectedRow
from shelfwise.indexer.feeds.mapping import parse_map_flags
from shelfwise.indexer.feeds.reader import NumberedProduct, read_products
from shelfwise.retrieval.errors import FeedError
from shelfwise.retrieval.records import Product

FEEDS = Path(__file__).parent / "data"
"""Small feeds of each format, written by hand from public descriptions of the formats."""
NOW = datetime(2024, 6, 15, tzinfo=UTC)


@dataclass
class Outcome:
    rows: list[NumberedProduct] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    noted: list[FeedNote] = field(default_factory=list)
    read_bytes: list[int] = field(default_factory=list)
    error: str = ""

    @property
    def ids(self) -> list[str]:
        return [row.product.id for row in self.rows]

    @property
    def products(self) -> dict[str, Product]:
        return {row.product.id: row.product for row in self.rows}

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return [(rejected.line, rejected.reason) for rejected in self.rejected]

    @property
    def rejected_file(self) -> bytes:
        return b"".join(msgspec.json.encode(rejected) + b"\n" for rejected in self.rejected)


def read(*paths: Path | str, flags: Iterable[str] = (), format: str = "", now: datetime = NOW) -> Outcome:  # noqa: A002
    outcome = Outcome()
    rows = read_products(
        [str(path) for path in paths],
        parse_map_flags(flags),
        outcome.rejected.append,
        format=format,
        note=outcome.noted.append,
        advance=outcome.read_bytes.append,
        now=now,
    )
    try:
        outcome.rows.extend(rows)
    except FeedError as error:
        outcome.error = str(error)
    return outcome


def read_bytes(folder: Path, content: bytes, flags: Iterable[str] = (), format: str = "") -> Outcome:  # noqa: A002
    path = folder / "feed"
    path.write_bytes(content)
    return read(path, flags=flags, format=format)


def read_rows(folder: Path, *rows: object, flags: Iterable[str] = ()) -> Outcome:
    return read_bytes(folder, "\n".join(map(json.dumps, rows)).encode(), flags)
