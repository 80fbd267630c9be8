"""Products whose variations may stand anywhere behind or before them: both wait on disk until the end of the feed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from indexer.formats.variants import Joined

_PARENT_ID = re.compile(r"id:\s*(\S+)", re.IGNORECASE)
_ITS_OWN = "FROM variations WHERE line NOT IN joined AND ((id = ?1 AND ?1 <> '') OR (sku = ?2 AND ?2 <> ''))"


class Waiting:
    """Products and variations until the end of the feed, on disk where they are many."""

    def __init__(self) -> None:
        import sqlite3

        self._rows = sqlite3.connect("", isolation_level=None)  # a private file, gone with the connection
        self._rows.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000; BEGIN;"
            "CREATE TABLE parents (line INTEGER PRIMARY KEY, id TEXT, sku TEXT, row BLOB);"
            "CREATE TABLE variations (line INTEGER PRIMARY KEY, id TEXT, sku TEXT, row BLOB);"
        )

    def close(self) -> None:
        """Gives the disk back."""
        self._rows.close()

    def add(self, line: int, row: dict[str, str], is_parent: bool) -> None:
        """Keeps a row under its own id and SKU, or under those by which it names its parent."""
        if is_parent:
            insert = "INSERT INTO parents VALUES (?, ?, ?, ?)"
            identity, sku = row.get("ID", "").strip(), row.get("SKU", "").strip()
        else:
            parent = row.get("Parent", "").strip()
            by_id = _PARENT_ID.fullmatch(parent)
            insert = "INSERT INTO variations VALUES (?, ?, ?, ?)"
            identity, sku = (by_id[1], "") if by_id else ("", parent)
        self._rows.execute(insert, (line, identity, sku, msgspec.json.encode(row)))

    def products(self) -> Iterator[Joined]:
        """Each product's own row with those of its variations behind it."""
        self._rows.executescript(
            "CREATE INDEX variations_by_id ON variations (id); CREATE INDEX variations_by_sku ON variations (sku);"
            "CREATE TABLE joined (line INTEGER PRIMARY KEY);"
        )
        for line, identity, sku, content in self._rows.execute("SELECT * FROM parents ORDER BY line"):
            product, names = Joined(line, _row(content)), (identity, sku)
            for (variation,) in self._rows.execute(f"SELECT row {_ITS_OWN} ORDER BY line", names):
                product.add(_row(variation))
                if product.is_full:
                    break
            self._rows.execute(f"INSERT INTO joined SELECT line {_ITS_OWN}", names)
            yield product

    def orphans(self) -> Iterator[tuple[int, dict[str, str]]]:
        """The variations that no product took."""
        orphans = self._rows.execute("SELECT line, row FROM variations WHERE line NOT IN joined ORDER BY line")
        for line, content in orphans:
            yield line, _row(content)


def _row(content: bytes) -> dict[str, str]:
    return msgspec.json.decode(content, type=dict[str, str])
