"""The derived tables of an index directory, refreshed with its catalog and settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.ranker.memory import RATIOS, MemoryRows, QueryMemory
from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.product_tables import NEIGHBOURS, product_table
from shelfwise.rerank.sessions.query_memory import catalog_members
from shelfwise.rerank.sessions.refresh import TABLES, RefreshResult, Steps, refresh
from shelfwise.rerank.sessions.relations import RelationCatalog, relation_maker
from shelfwise.rerank.sessions.tables import count_of, open_derived
from shelfwise.retrieval.errors import StoreDamagedError, StoreMissingError
from shelfwise.retrieval.events.privacy import utc_now
from shelfwise.retrieval.events.stored import DAY_MS, milliseconds, moment
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.records import Relation, RelationEvidence, RelationKind
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.events.event_log import DERIVED_FOLDER, EventLog
from shelfwise.service.events.popular_queries import popular_queries, write_popular_queries
from shelfwise.service.events.signals import Pair, Relations, type_node, write_memory, write_popularity, write_relations
from shelfwise.service.settings import EventsSettings
from shelfwise.service.sponsored.ledger import Ledger


class DerivedTablesManager:
    """Refreshes the derived tables of a store's events; `progress` is called at each step."""

    def __init__(
        self,
        root: Path,
        log: EventLog,
        settings: EventsSettings,
        *,
        progress: Progress | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.folder = log.folder / DERIVED_FOLDER
        self._root = root
        self._log = log
        self._settings = settings
        self._progress = progress
        self._clock = clock
        self.later_days = 0
        """Number of days with events after the window of the last refresh, too few for another window."""
        self.earlier_days = 0
        """Number of days with events before that window."""
        self.refunds = 0
        """Number of charged clicks on sponsored hits that the last refresh classified as fraud."""

    def refresh(self, days: int | None = None, *, purge: bool = False) -> RefreshResult:
        """Updates the tables and the engines' files; `days` is the length of the window, which ends now or with the
        last day of the last full window of events."""
        now = self._clock()
        settings = self._settings
        options = DeriveOptions(least_shoppers=settings.minimum_shoppers)
        if days is not None:
            options = replace(options, days=days)
        active = np.array(sorted(self._log.store.days()), np.int64)
        last_day, self.later_days = last_full_day(active, options.days)
        ends = now if last_day is None else min(now, moment((last_day + 1) * DAY_MS - 1))
        options = replace(options, until=ends)
        first_day = milliseconds(options.window(now).first) // DAY_MS
        self.earlier_days = int(np.searchsorted(active, first_day))
        products = catalog(self._root)
        done = refresh(
            self._log.store,
            self.folder,
            products,
            options,
            now=now,
            progress=self._progress,
            purge=purge,
            steps=self._steps(),
        )
        self._write_engine_files(products)
        ledger = Ledger(self._root, clock=self._clock)
        since = now - timedelta(days=min(settings.retention_days or _REFUND_DAYS, _REFUND_DAYS))
        self.refunds = refund_fraud(ledger, open_derived(self.folder).sessions, since)
        ledger.forget(before=since)
        return done

    def _steps(self) -> Steps:
        """The steps of a refresh, including the relations between the products of the serving version."""
        try:
            products = RelationCatalog.of_version(Store(self._root))
        except StoreMissingError:
            products = RelationCatalog.empty()
        tables = (*(each for each in TABLES if each is not NEIGHBOURS), relation_maker(products))
        return Steps(tables=tables)

    def _write_engine_files(self, products: pl.DataFrame | None) -> None:
        """Writes what engines read of the tables, since they open without a table library."""
        derived = open_derived(self.folder)
        write_popularity(self._root, popularity_scores(derived.popularity), derived.made)
        write_relations(
            self._root, relations_of(derived.neighbours, derived.relations, derived.relation_types), derived.made
        )
        write_memory(self._root, memory_of(derived.query_memory, products), derived.made)
        write_popular_queries(self._root, popular_queries(derived), derived.made)

    def label_weights(self) -> pl.DataFrame:
        return open_derived(self.folder).label_weights

    def purge(self) -> None:
        """Recreates existing tables over the same window, and removes earlier ones, after a shopper was erased."""
        if not self.folder.is_dir():
            return
        days = None
        with suppress(StoreMissingError, StoreDamagedError):
            days = int(open_derived(self.folder).manifest.options["days"])
        self.refresh(days, purge=True)

    def rows_of(self, pseudonyms: Collection[str]) -> int:
        """Number of values with any of these pseudonyms in all files."""
        return count_of(self.folder, pseudonyms) if self.folder.is_dir() else 0


_REFUND_DAYS = 180
"""Days after which a charged click can no longer be refunded, and has no pseudonym."""
_OF_SESSION = ("shopper", "session", "first", "is_fraud")
_LATE = timedelta(minutes=1)
"""Maximum time by which a charged click may precede the first event of its session, since clients' clocks differ."""


def refund_fraud(ledger: Ledger, sessions: pl.DataFrame, since: datetime) -> int:
    """Refunds clicks on sponsored hits since a time whose sessions, in the derived table of that name, are a bot's or
    click fraud; returns their number."""
    clicks = ledger.charged(since)
    owners = {click.shopper or click.session for click in clicks}
    by_owner: dict[str, list[tuple[datetime, bool]]] = defaultdict(list)
    for shopper, session, first, is_fraud in sessions.sort("first").select(*_OF_SESSION).iter_rows():
        for name in owners.intersection((shopper, session)):
            by_owner[name].append((first.replace(tzinfo=UTC) - _LATE, is_fraud))
    fraud = []
    for click in clicks:
        begun = [is_fraud for first, is_fraud in by_owner[click.shopper or click.session] if first <= click.time]
        fraud += [click.id] if begun and begun[-1] else []
    return ledger.refund(fraud)


_FULL = 0.5
"""A window is full if it has this share of the days with events in the fullest window."""


def last_full_day(active: NDArray[np.int64], days: int) -> tuple[int | None, int]:
    """The last of the days with events (n,), ascending, that ends a full window of the given length, and the number of
    later days with events. Otherwise a few new events after a long pause would leave the tables empty."""
    if not len(active):
        return None, 0
    covered = np.arange(1, len(active) + 1) - np.searchsorted(active, active - days + 1)
    place = int(np.flatnonzero(covered >= _FULL * covered.max())[-1])
    return int(active[place]), len(active) - 1 - place


def popularity_scores(table: pl.DataFrame) -> dict[str, float]:
    """The score of each product of a table with product_id and score."""
    return dict(zip(table["product_id"].to_list(), table["score"].to_list(), strict=True))


_PAIR_COLUMNS = ("kind", "evidence", "strength", "shoppers")


def relations_of(neighbours: pl.DataFrame, relations: pl.DataFrame, relation_types: pl.DataFrame) -> Relations:
    """The views of the derived table `neighbours`, and the tables `relations` and `relation_types`, for engines."""
    viewed = neighbours.filter(pl.col("kind") == "view")
    pairs: list[Pair] = [
        (*each, None) for each in viewed.select("product_id", "neighbour_id", "similarity").iter_rows()
    ]
    for one, other, *values in relations.select("product_id", "other_id", *_PAIR_COLUMNS).iter_rows():
        pairs.append((one, other, values[2], _relation(*values)))
    for one, other, *values in relation_types.select("type", "other", *_PAIR_COLUMNS).iter_rows():
        pairs.append((type_node(one), type_node(other), values[2], _relation(*values)))
    return Relations.of_pairs(pairs)


def _relation(kind: str, evidence: str, strength: float, shoppers: int) -> Relation:
    return Relation(RelationKind(kind), RelationEvidence(evidence), strength, shoppers)


def memory_of(table: pl.DataFrame, products: pl.DataFrame | None) -> QueryMemory:
    """The query memory of the derived table of that name, for a catalog (see `catalog`)."""
    scopes, keys, kinds, members = (table[name].to_list() for name in ("scope", "key", "kind", "member"))
    rows = MemoryRows(scopes, keys, kinds, members, [table[name].to_numpy() for name in RATIOS])
    return QueryMemory.of_rows(rows, catalog_members(products).rows())


def catalog(root: Path) -> pl.DataFrame | None:
    """The products of the serving version; None if nothing is published yet."""
    try:
        return product_table(Store(root))
    except StoreMissingError:
        return None
