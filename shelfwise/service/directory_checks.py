"""Checks of the files of an index directory that belong to no version: documents, keys, events, tables, models."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from shelfwise.indexer.checkpoint import unfinished_problems
from shelfwise.rerank.model_store import ModelStore
from shelfwise.rerank.sessions.tables import CACHES, DERIVED, open_derived
from shelfwise.retrieval.errors import ShelfwiseError, StoreDamagedError, StoreMissingError
from shelfwise.retrieval.events.addresses import AddressPseudonyms
from shelfwise.retrieval.events.privacy import KEYS_FILE as PSEUDONYM_KEYS
from shelfwise.retrieval.events.privacy import Pseudonyms
from shelfwise.retrieval.events.sqlite import EVENTS_FILE, find_damage
from shelfwise.retrieval.events.wal import damaged_copies, log_problem
from shelfwise.retrieval.store.files import SEAL_FILE, checksum, read_json, read_seal, sealed_problem
from shelfwise.retrieval.store.manifest import (
    CURRENT,
    EVENTS_FOLDER,
    MEMORY_FILE,
    POPULAR_QUERIES_FILE,
    POPULARITY_FILE,
    PROPOSALS_FILE,
    QUALITY_FILE,
    RELATIONS_FILE,
)
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.journal import lock_folder
from shelfwise.service.answers.faq import FaqStore
from shelfwise.service.curation.document_store import DocumentStore, content_problem
from shelfwise.service.curation.relations import RelationStore
from shelfwise.service.curation.relevance import RelevanceStore
from shelfwise.service.curation.rules import RuleStore
from shelfwise.service.curation.switches import SwitchStore
from shelfwise.service.curation.synonym_mining import read_proposals
from shelfwise.service.curation.synonyms import SynonymStore
from shelfwise.service.engine.models import MODEL_STORES
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.popular_queries import read_popular_queries
from shelfwise.service.events.signals import CURE, read_memory, read_popularity, read_relations
from shelfwise.service.experiments.store import ExperimentStore
from shelfwise.service.http.auth import KEYS_FILE, AdminToken, KeyFile
from shelfwise.service.sponsored.campaign import CampaignStore
from shelfwise.service.sponsored.ledger import Ledger

_DOCUMENTS: tuple[type[DocumentStore[Any]], ...] = (
    RuleStore,
    RelationStore,
    RelevanceStore,
    FaqStore,
    SynonymStore,
    ExperimentStore,
    CampaignStore,
    SwitchStore,
)
_TABLES: dict[str, Callable[[Path], object]] = {
    POPULARITY_FILE: read_popularity,
    RELATIONS_FILE: read_relations,
    MEMORY_FILE: read_memory,
    POPULAR_QUERIES_FILE: read_popular_queries,
    PROPOSALS_FILE: read_proposals,
}
"""Files that each refresh writes in addition to the derived tables."""
_MOST_REPORT_BYTES = 1 << 30
_RESTORE = "restore it from a backup"


def directory_problems(store: Store) -> Iterator[tuple[str, str]]:
    """Each damaged file that belongs to no version, relative to the directory, with the problem and the remedy.

    SQLite stores no checksums: its files are checked for structure and the sum of the hashes of their rows, documents
    for agreement with their history, charges of sponsored hits for their chain of hashes, events for their checksums.
    """
    root = store.root
    for path in sorted(root.glob("*.sqlite")):
        yield from _problem(root, path, partial(_check_sqlite, path))
    for kind in _DOCUMENTS:
        documents = kind(root)
        yield from _problem(root, documents.path, documents.check)
    ledger = Ledger(root)
    yield from _problem(root, ledger.path, ledger.check)
    yield from _problem(root, root / KEYS_FILE, KeyFile(root / KEYS_FILE).keys)
    if (token := AdminToken(root)).path.exists():
        yield from _problem(root, token.path, token.read)
    if (root / EVENTS_FOLDER / EVENTS_FILE).exists():
        yield from _problem(
            root, root / EVENTS_FOLDER / EVENTS_FILE, partial(_check_events, root / EVENTS_FOLDER / EVENTS_FILE)
        )
        for log, problem in damaged_copies(root / EVENTS_FOLDER / EVENTS_FILE).items():
            yield log.relative_to(root).as_posix(), problem
        keys = root / EVENTS_FOLDER / PSEUDONYM_KEYS
        yield from _problem(root, keys, partial(Pseudonyms, keys, make=False))
    salt = AddressPseudonyms(root / EVENTS_FOLDER)
    yield from _problem(root, salt.path, salt.check)
    yield from _table_problems(root)
    for open_models in MODEL_STORES:
        models = open_models(root)
        yield from _problem(root, models.folder / CURRENT, partial(_check_pointer, models))
        for name in models.names():
            yield from _problem(root, models.folder / name, partial(models.open, name))
    yield from _report_problems(store)
    yield from unfinished_problems(store)


def _problem(root: Path, path: Path, check: Callable[[], object]) -> Iterator[tuple[str, str]]:
    try:
        check()
    except (ShelfwiseError, OSError, ValueError) as error:
        yield path.relative_to(root).as_posix(), str(error)


def _check_pointer(models: ModelStore[Any, Any]) -> None:
    """Raises ValueError if the pointer names a model that does not exist."""
    if (name := models.current()) and name not in models.names():
        raise ValueError(f"it names {name}, which does not exist; make another one serve: shelfwise models rollback")


def _check_sqlite(path: Path) -> None:
    """Raises StoreDamagedError if SQLite finds damage; a file that does not exist is not damaged."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if found == "ok":
                found = content_problem(connection) or found
    except sqlite3.DatabaseError as error:
        found, tables = str(error), 1
    if found != "ok" or not tables:
        raise StoreDamagedError(f"{path} is damaged ({found if tables else 'it is empty'}); {_RESTORE}")


def _check_events(path: Path) -> None:
    """Raises StoreDamagedError if the write-ahead log is damaged, SQLite finds damage, or an event has changed."""
    with lock_folder(path.parent, None, "the events"):
        found = log_problem(path)
    if found:
        raise StoreDamagedError(f"{path} is damaged: {found}")
    _check_sqlite(path)
    if found := find_damage(path):
        raise StoreDamagedError(f"{path} is damaged ({found}); {_RESTORE}")


def _table_problems(root: Path) -> Iterator[tuple[str, str]]:
    folder = root / EVENTS_FOLDER / DERIVED_FOLDER
    for name, read in _TABLES.items():
        yield from _problem(root, root / name, partial(read, root))
        if (folder / DERIVED).exists() and not (root / name).exists():
            yield name, f"{root / name} is missing; {CURE}"
    try:
        tables = open_derived(folder)
    except StoreMissingError:
        if any(folder.glob("tables-*")):
            yield f"{EVENTS_FOLDER}/{DERIVED_FOLDER}/{DERIVED}", f"it is missing; {CURE}"
    except ShelfwiseError as error:
        yield (folder / DERIVED).relative_to(root).as_posix(), str(error)
    else:
        for name in tables.manifest.tables:
            yield from _problem(root, folder / tables.manifest.folder / name, partial(tables.table, name))
        for name in tables.manifest.days.values():
            if not (folder / "parts" / name).is_dir():
                yield f"{EVENTS_FOLDER}/{DERIVED_FOLDER}/parts/{name}", f"it is missing; {CURE}"
    for each in sorted(path for cache in CACHES for path in (folder / cache).glob("*") if path.is_dir()):
        yield from _problem(root, each, partial(_check_seal, each, CURE))


def _check_seal(folder: Path, cure: str) -> None:
    """Raises ValueError if a sealed folder does not contain the files with which it was sealed."""
    try:
        for name, entry in read_seal(folder).items():
            if problem := sealed_problem(folder / name, entry):
                raise ValueError(f"{name} {problem}")
    except ValueError as error:
        raise ValueError(f"{error}; remove the folder: {cure}") from error


def _report_problems(store: Store) -> Iterator[tuple[str, str]]:
    """The quality report of the last rebuild must be a copy of its version's."""
    entries = {entry.xxh3 for manifest in store.manifests() for entry in manifest.files.values()}
    for name in (QUALITY_FILE, Path(QUALITY_FILE).with_suffix(".html").name):
        path = store.root / name
        if path.exists() and checksum(path) not in entries:
            yield name, f"{path} is not the report of a version; copy that of the newest one"
    for sealed in sorted(path.parent for path in (store.root / "training").glob(f"**/{SEAL_FILE}")):
        yield from _problem(store.root, sealed, partial(_check_seal, sealed, "train again"))
    for path in sorted((store.root / "training").glob("**/*.json")):
        yield from _problem(store.root, path, partial(read_json, path, object, _MOST_REPORT_BYTES))
