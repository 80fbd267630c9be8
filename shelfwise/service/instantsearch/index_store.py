"""The protocol's own state of an index: its name, settings that exist nowhere else, and temporary indexes."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import link_or_copy, sync
from shelfwise.retrieval.store.manifest import CURRENT, MARKER
from shelfwise.retrieval.store.products import product_from_json, product_to_json
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from shelfwise.service.curation.document_store import Layout, SqliteFile
from shelfwise.service.events.hot_reload import ReloadedFile
from shelfwise.service.instantsearch.objects import Write, WritePlan
from shelfwise.service.instantsearch.request import ViewSettings

FILE = "protocol.sqlite"
_LAYOUT = Layout(
    "settings of the InstantSearch protocol",
    0x53575049,
    2,
    """
CREATE TABLE settings (one INTEGER PRIMARY KEY CHECK (one = 1), document TEXT NOT NULL);
CREATE TABLE temporary (name TEXT PRIMARY KEY, created REAL NOT NULL, filters TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE products (name TEXT NOT NULL, id TEXT NOT NULL, line BLOB NOT NULL, PRIMARY KEY (name, id)) WITHOUT ROWID;
""",
)
_ABANDONED_SECONDS = 86_400.0
"""Seconds after which a temporary index that was never moved is deleted."""


class IndexSettings(ViewSettings, frozen=True):
    """Settings of an index that only the protocol has, and those of its replicas, which are views of it."""

    name: str = ""
    """Name of the index, set by the first write; empty before."""
    replicas: tuple[str, ...] = ()
    """`replicas`, as set."""
    views: Mapping[str, ViewSettings] = {}
    """Settings of each replica by name."""

    def renamed(self, name: str) -> IndexSettings:
        """The settings under another name of the index."""
        views = {each: msgspec.structs.replace(view, primary=name) for each, view in self.views.items()}
        return msgspec.structs.replace(self, name=name, views=views)

    def view(self, index: str) -> str:
        """The name of a replica; empty for any other name, which is that of the index itself."""
        return index if index in self.views else ""

    def of(self, index: str) -> ViewSettings:
        """The settings of a replica, or of the index itself for any other name."""
        return self.views.get(index, self)


class ProtocolStore:
    """The protocol's file in an index directory. Threads and processes may share it; it is created by the first change,
    and changes are durable when the method returns."""

    def __init__(self, root: Path) -> None:
        self._file = SqliteFile(root / FILE, _LAYOUT, private=True)
        failure = "changes of the protocol's settings are not loaded"
        self._settings: ReloadedFile[IndexSettings] = ReloadedFile(
            root / FILE, lambda _: self._read_settings(), IndexSettings(), failure, keeps_value=True
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """The reason why the latest settings are not loaded."""
        self._settings.current()
        return self._settings.notices

    @property
    def settings(self) -> IndexSettings:
        """The settings, reloaded when they change."""
        return self._settings.current()

    def change_settings(self, change: Callable[[IndexSettings], IndexSettings]) -> IndexSettings:
        """Changes the settings with the function `change`."""
        with self._file.writing() as cursor:
            row = cursor.execute("SELECT document FROM settings").fetchone()
            changed = change(_decoded(row[0]) if row else IndexSettings())
            document = msgspec.json.encode(changed).decode()
            cursor.execute("INSERT OR REPLACE INTO settings VALUES (1, ?)", (document,))
        self._settings.reload_if_changed()
        return changed

    def adopt_name(self, name: str) -> None:
        """Gives the index the name of a write, unless it has a name or the name is that of a temporary index."""
        if not self.settings.name and not self.is_temporary(name):
            self.change_settings(lambda known: known if known.name else msgspec.structs.replace(known, name=name))

    def _read_settings(self) -> IndexSettings:
        with self._file.reading() as cursor:
            row = cursor.execute("SELECT document FROM settings").fetchone() if cursor else None
        return _decoded(row[0]) if row else IndexSettings()

    def temporary(self) -> Mapping[str, int]:
        """The temporary indexes by name, with their numbers of products."""
        query = "SELECT name, (SELECT count(*) FROM products AS held WHERE held.name = temporary.name) FROM temporary"
        with self._file.reading() as cursor:
            return dict(cursor.execute(query).fetchall()) if cursor else {}

    def is_temporary(self, name: str) -> bool:
        """Whether a name is that of a temporary index."""
        return self.filters_of(name) is not None

    def filters_of(self, name: str) -> str | None:
        """The filter of the key that created a temporary index; None if it does not exist."""
        with self._file.reading() as cursor:
            query = "SELECT filters FROM temporary WHERE name = ?"
            row = cursor.execute(query, (name,)).fetchone() if cursor else None
        return row[0] if row else None

    def create_temporary(self, name: str, filters: str = "") -> None:
        """Creates an empty temporary index unless it exists, and deletes abandoned ones."""
        now = time.time()
        with self._file.writing() as cursor:
            old = "SELECT name FROM temporary WHERE created < ?"
            for (each,) in cursor.execute(old, (now - _ABANDONED_SECONDS,)).fetchall():
                cursor.execute("DELETE FROM temporary WHERE name = ?", (each,))
                cursor.execute("DELETE FROM products WHERE name = ?", (each,))
            cursor.execute("INSERT OR IGNORE INTO temporary VALUES (?, ?, ?)", (name, now, filters))

    def delete_temporary(self, name: str) -> None:
        """Deletes a temporary index, if it exists."""
        with self._file.writing() as cursor:
            cursor.execute("DELETE FROM temporary WHERE name = ?", (name,))
            cursor.execute("DELETE FROM products WHERE name = ?", (name,))

    def write_temporary(self, name: str, writes: Iterable[Write]) -> None:
        """Applies writes to a temporary index, all or none; raises like `WritePlan.add_all`."""
        with self._file.writing() as cursor:

            def find(product_id: str) -> Product | None:
                query = "SELECT line FROM products WHERE name = ? AND id = ?"
                row = cursor.execute(query, (name, product_id)).fetchone()
                return None if row is None else product_from_json(row[0])

            def ids() -> list[str]:
                found = cursor.execute("SELECT id FROM products WHERE name = ?", (name,)).fetchall()
                return [each for (each,) in found]

            plan = WritePlan(find, ids)
            plan.add_all(writes)
            gone = [(name, each) for each, product in plan.outcome.items() if product is None]
            put = [(name, each, product_to_json(product)) for each, product in plan.outcome.items() if product]
            cursor.executemany("DELETE FROM products WHERE name = ? AND id = ?", gone)
            cursor.executemany("INSERT OR REPLACE INTO products VALUES (?, ?, ?)", put)

    def temporary_products(self, name: str) -> Sequence[Product] | None:
        """The products of a temporary index, ordered by id; None if it does not exist."""
        if not self.is_temporary(name):
            return None
        with self._file.reading() as cursor:
            query = "SELECT line FROM products WHERE name = ? ORDER BY id"
            rows = cursor.execute(query, (name,)).fetchall() if cursor else []
        return [product_from_json(line) for (line,) in rows]


_DOCUMENTS = ("rules", "synonyms", "relevance", "relations", "answers", "protocol")
"""Files of documents that belong to a copy of an index."""


def copy_index(source: Path, target: Path, replica: str = "") -> None:
    """Copies the products, settings, rules, synonyms and rankers of an index, without events, tasks, keys and replicas;
    files that are never changed are linked. The copy of a replica has the settings of that view. Raises
    StoreLockedError during a rebuild."""
    store = Store(source)
    with store.lock("copy"):
        for folder in (store.version_folder(store.current()), store.encoders, source / "rankers"):
            if folder.is_dir():
                shutil.copytree(folder, target / folder.relative_to(source), copy_function=link_or_copy)
        # A second copy of the same file: both have the same end, while another process appends to the original ones.
        for name, original in ((MARKER, MARKER), (CURRENT, CURRENT), (JOURNAL, JOURNAL), (COPY, JOURNAL)):
            if (source / original).is_file():
                shutil.copyfile(source / original, target / name)
        for each in (source / f"{name}.sqlite" for name in _DOCUMENTS):
            if each.is_file():
                with closing(sqlite3.connect(each)) as stored, closing(sqlite3.connect(target / each.name)) as copy:
                    stored.backup(copy)
    protocol = ProtocolStore(target)
    for name in protocol.temporary():
        protocol.delete_temporary(name)
    view = protocol.settings.of(replica)
    own = {name: getattr(view, name) for name in ViewSettings.__struct_fields__} | {"primary": ""}
    protocol.change_settings(lambda known: msgspec.structs.replace(known, **own, name="", replicas=(), views={}))
    for path in (*target.rglob("*"), target):
        sync(path)


def _decoded(document: str) -> IndexSettings:
    try:
        return msgspec.json.decode(document, type=IndexSettings)
    except msgspec.MsgspecError as error:
        raise StoreDamagedError(f"{FILE} holds settings that cannot be read: {error}") from error
