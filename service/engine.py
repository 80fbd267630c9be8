"""The engine: opens a published index and answers searches from Python. What `shelfwise.SearchEngine` names."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from retrieval.conditions import Condition
from retrieval.errors import QueryError, ShelfwiseError, UnknownProductError
from retrieval.filters import parse_filter
from retrieval.keyword import Rows, Selection
from retrieval.merging import DEFAULT, METHODS
from retrieval.published import CURRENT, Manifest, Store
from retrieval.records import Candidate, Facet, Hit, Page, Product, Query, StageScore
from service.ranking import STAGES, Ranker, Ranking, Request
from service.snapshot import Snapshot, open_snapshot

MOST_TEXT = 10_000
"""Characters of a query; longer ones are refused rather than cut."""
MOST_SIZE = 1_000
DEEPEST = 100_000
"""The last place that a page may reach."""
MOST_FACETS = 50
FACET_VALUES = 100
_LOOK_SECONDS = 1.0


class SearchEngine:
    """A store's search: opened from an index directory, safe to share between threads, swapped to new versions by
    itself.

    >>> engine = SearchEngine.open("store/")
    >>> page = engine.search("cordless drill", size=20, filters="price < 100 AND brand = Bosch", facets=["brand"])
    >>> page.hits[0].product.title, page.total, page.facets["brand"].counts
    """

    def __init__(self, store: Store, snapshot: Snapshot, *, follow: bool = True) -> None:
        self._store = store
        self._follow = follow
        self._closed = False
        self._trouble = ""
        self._snapshot = snapshot
        self._executor = ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1), thread_name_prefix="shelfwise")
        self._swap = threading.Lock()
        self._seen = _stamp(store)
        self._looked = time.monotonic()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, follow: bool = True) -> Self:
        """Opens the version that serves, every file of it verified.

        Unless `follow` is False, versions that are published later are taken up by themselves, within a second of the
        next search.

        Raises StoreMissingError, StoreForeignError or StoreDamagedError for a directory that cannot serve, EncoderError
        where the model cannot be loaded or makes other vectors.
        """
        store = Store(Path(path))
        return cls(store, open_snapshot(store), follow=follow)

    @property
    def manifest(self) -> Manifest:
        """What the version being served is made of."""
        return self._snapshot.manifest

    @property
    def snapshot(self) -> Snapshot:
        """The opened version itself, for benchmarks and tools that look at its parts."""
        return self._snapshot

    @property
    def notices(self) -> tuple[str, ...]:
        """What is wrong although searches are answered, such as a newer version that is damaged."""
        return self._snapshot.notices + ((self._trouble,) if self._trouble else ())

    def search(
        self,
        text: str,
        *,
        size: int = 20,
        page: int = 1,
        filters: str = "",
        facets: Sequence[str] = (),
        sort: str = "",
        stage: str = "merged",
        merge: str = DEFAULT,
    ) -> Page:
        """The products for a query, one page of them, with counts over all of them.

        `filters` is an expression such as `price < 100 AND brand IN (Bosch, Makita)`; `facets` are fields to count;
        `sort` is a numeric field, "-" before it for descending; `stage` is "bm25", "dense" or "merged"; `merge` names
        one of `retrieval.merging.METHODS`. An empty text browses everything that the filter lets through.

        Raises QueryError, FilterError or UnknownFieldError for what cannot be answered.
        """
        if isinstance(facets, str):
            raise QueryError(f"facets must be a list of field names, such as [{facets!r}]")
        query = Query(text, size, page, filters, tuple(facets), sort, stage)
        _check(query, merge)
        self._look_for_newer()
        return _Search(self._snapshot, self._executor, query, merge).page()

    def similar(self, product_id: str, *, size: int = 20, filters: str = "") -> Page:
        """The products nearest to one, itself left out; raises UnknownProductError where there is no such product."""
        _check(Query("", size, 1, filters), DEFAULT)
        self._look_for_newer()
        snapshot = self._snapshot
        row = _row_of(snapshot, product_id)
        where = _condition(snapshot, filters)
        allowed = None if where is None else snapshot.keyword.select(Selection(where=where, everything=True))
        nearest = snapshot.vectors.search(snapshot.vectors.vector(row), size + 1, allowed)
        pairs = [
            (other, float(score)) for other, score in zip(nearest.rows, nearest.scores, strict=True) if other != row
        ]
        hits = tuple(
            Hit(snapshot.products[other], score, {"dense": StageScore(rank, score)})
            for rank, (other, score) in enumerate(pairs[:size], 1)
        )
        return Page(hits, len(hits), 1, size, version=snapshot.manifest.version)

    def product(self, product_id: str) -> Product:
        """One product; raises UnknownProductError where there is none of this id."""
        snapshot = self._snapshot
        return snapshot.products[_row_of(snapshot, product_id)]

    def refresh(self) -> bool:
        """Swaps to the version that is published now; returns whether that is another one.

        Searches under way keep the version they began with. If the new version cannot be opened, the old one serves on
        and the error is raised.
        """
        with self._swap:
            self._seen = _stamp(self._store)
            newer = open_snapshot(self._store, encoder=self._snapshot.encoder)
            changed = newer.manifest.version != self._snapshot.manifest.version
            self._snapshot, self._trouble = newer, ""
            return changed

    def close(self) -> None:
        """Ends the engine's threads; searches under way are finished first, later ones are refused."""
        self._closed = True
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look_for_newer(self) -> None:
        """Once a second, starts opening a newly published version beside the one that serves."""
        if self._closed:
            raise QueryError("the engine is closed; open it again with SearchEngine.open")
        now = time.monotonic()
        if not self._follow or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if _stamp(self._store) != self._seen and not self._swap.locked():
            threading.Thread(target=self._follow_store, name="shelfwise-refresh", daemon=True).start()

    def _follow_store(self) -> None:
        """A version that cannot be opened is not asked for again until another is published; `notices` says why."""
        try:
            self.refresh()
        except ShelfwiseError as error:
            version = self._snapshot.manifest.version
            self._trouble = f"{version} serves on: the newly published version cannot be opened: {error}"


class _Search:
    """One search of one snapshot."""

    def __init__(self, snapshot: Snapshot, executor: ThreadPoolExecutor, query: Query, merge: str) -> None:
        self._snapshot = snapshot
        self._query = query
        self._facets = {name: snapshot.catalog.known(name, "count").name for name in query.facets}
        self._sort = snapshot.catalog.sortable(query.sort.removeprefix("-")).name if query.sort else ""
        where = _condition(snapshot, query.filters)
        groups = snapshot.analyzer.groups(query.text)
        self._request = Request(query.text, groups, where, query.stage, METHODS[merge])
        self._ranker = Ranker(snapshot, executor)

    def page(self) -> Page:
        """The answer."""
        if not self._query.text.strip():
            return self._browsed()
        if not self._request.groups:
            return self._answer((), 0, Selection())
        ranking = self._ranker.rank(self._request)
        if self._sort:
            rows = self._snapshot.keyword.sort(ranking.selection, self._sort, self._query.sort.startswith("-"))
        else:
            rows = self._ranker.further(self._request, ranking, self._query.page * self._query.size)
        return self._answer(self._hits(rows, ranking), ranking.total, ranking.selection, ranking)

    def _browsed(self) -> Page:
        """Everything that the filter lets through: the best known products first, unless asked otherwise."""
        selection = Selection(where=self._request.where, everything=True)
        sort = self._sort or "rating_count"
        descending = self._query.sort.startswith("-") or not self._sort
        rows = self._snapshot.keyword.sort(selection, sort, descending)
        hits = tuple(Hit(self._snapshot.products[row], 0.0, {}) for row in self._cut(rows))
        return self._answer(hits, len(rows), selection)

    def _cut(self, rows: Rows) -> list[int]:
        start = (self._query.page - 1) * self._query.size
        return [int(row) for row in rows[start : start + self._query.size]]

    def _hits(self, rows: Rows, ranking: Ranking) -> tuple[Hit, ...]:
        return tuple(self._hit(ranking.candidate(row), ranking) for row in self._cut(rows))

    def _hit(self, candidate: Candidate, ranking: Ranking) -> Hit:
        identifier = self._query.text.strip() if candidate.row in ranking.identified else ""
        return Hit(self._snapshot.products[candidate.row], candidate.score, candidate.stages, identifier)

    def _answer(self, hits: tuple[Hit, ...], total: int, selection: Selection, ranking: Ranking | None = None) -> Page:
        return Page(
            hits,
            total,
            self._query.page,
            self._query.size,
            self._counted(Selection() if ranking and ranking.relaxed else selection),
            ranking.degraded if ranking else (),
            ranking.relaxed if ranking else False,
            ranking.timings if ranking else {},
            self._snapshot.manifest.version,
        )

    def _counted(self, selection: Selection) -> dict[str, Facet]:
        if not self._facets:
            return {}
        counted = self._snapshot.keyword.facets(selection, sorted(set(self._facets.values())), FACET_VALUES)
        return {asked: counted[name] for asked, name in self._facets.items()}


def _check(query: Query, merge: str) -> None:
    """Refuses what no page can be made for, naming the argument."""
    _check_types(query)
    if len(query.text) > MOST_TEXT:
        raise QueryError(f"the query has {len(query.text)} characters, at most {MOST_TEXT} are searched for")
    if not 0 <= query.size <= MOST_SIZE:
        raise QueryError(f"size is {query.size}, it can be 0 to {MOST_SIZE}")
    if query.page < 1:
        raise QueryError(f"page is {query.page}, pages count from 1")
    if query.page * query.size > DEEPEST:
        raise QueryError(
            f"page {query.page} of {query.size} reaches past place {DEEPEST}; narrow the search by a filter"
        )
    if query.stage not in STAGES:
        raise QueryError(f"stage is {query.stage!r}, it can be {', '.join(STAGES)}")
    if merge not in METHODS:
        raise QueryError(f"merge is {merge!r}, it can be {', '.join(METHODS)}")
    if len(query.facets) > MOST_FACETS:
        raise QueryError(f"{len(query.facets)} facets are asked for, at most {MOST_FACETS} are counted at once")


def _check_types(query: Query) -> None:
    """A caller without a type checker is told as clearly as one with it."""
    for name in ("text", "filters", "sort", "stage"):
        if not isinstance(getattr(query, name), str):
            raise QueryError(f"{name} is {type(getattr(query, name)).__name__}, it must be str")
    for name in ("size", "page"):
        if type(getattr(query, name)) is not int:
            raise QueryError(f"{name} is {type(getattr(query, name)).__name__}, it must be int")
    if not all(isinstance(field, str) for field in query.facets):
        raise QueryError("facets must be a list of field names")


def _condition(snapshot: Snapshot, filters: str) -> Condition | None:
    tree = parse_filter(filters)
    return None if tree is None else snapshot.catalog.condition(tree)


def _row_of(snapshot: Snapshot, product_id: str) -> int:
    row = snapshot.products.row_of(product_id)
    if row is None:
        raise UnknownProductError(f"there is no product with the id {product_id!r} in {snapshot.manifest.version}")
    return row


def _stamp(store: Store) -> tuple[int, int]:
    """Changes whenever the pointer is replaced."""
    try:
        status = (store.root / CURRENT).stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_ino
