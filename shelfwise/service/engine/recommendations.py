"""Recommendations for a shopper, by the user tower or, without one, by the products nearest to past choices.

A product is scored by the nearest past act, since the mean of acts on a drill and a lamp is near to neither (several
interests of one user, as in Pal et al. 2020, PinnerSage, section 4).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import MAX_ACTS
from shelfwise.rerank.user_tower.histories import (
    MAX_COUNTED,
    ONE_CHOICE,
    Floats,
    Histories,
    TextPlaces,
    newest_products,
)
from shelfwise.retrieval.errors import ModelError, QueryError
from shelfwise.retrieval.filters.ast import In, format_filter
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR
from shelfwise.retrieval.index.keyword import Rows, Selection
from shelfwise.retrieval.records import Hit, Page, PastAct, StageScore
from shelfwise.service.engine.related import ListAnswerer, ProductList, language_filter
from shelfwise.service.engine.request import MAX_SIZE
from shelfwise.service.engine.reranking import newest_acts
from shelfwise.service.engine.served_models import OpenedUserTower, ServedUserTower
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.hot_reload import ReloadedFile
from shelfwise.service.events.signals import Popularity

TOWER = "user tower"
"""Name in a page's failed stages if the serving tower could not be used."""


def recommend_by_history(
    products: ProductList, acts: Sequence[PastAct], hidden: Collection[int], tower: OpenedUserTower | None = None
) -> Page:
    """The best products for a history of acts, ordered by time, with undated acts last in the given order, without the
    rows of `hidden`. A history of unknown products gives no hits."""
    snapshot, now = products.snapshot, time.time()
    degraded = products.lost
    found: list[tuple[int, float]] | None = None
    if tower is not None:
        try:
            shopper = ShopperVectors(snapshot, tower, acts, now)
            found = shopper.best(products, hidden) if shopper.is_known else []
        except ModelError:
            degraded = (*products.lost, TOWER)
    if found is None:
        found = _near(products, acts, now, hidden)
    hits = (
        Hit(snapshot.products[row], score, {"dense": StageScore(rank, score)})
        for rank, (row, score) in enumerate(found, 1)
    )
    return products.page(hits, degraded)


def _near(
    products: ProductList, acts: Sequence[PastAct], now: float, hidden: Collection[int]
) -> list[tuple[int, float]]:
    """Rows with their scores, best first."""
    best: dict[int, float] = {}
    for row, weight in _newest(products.snapshot, acts, now).items():
        found = products.nearest(products.snapshot.vectors.vector(row), products.size + len(hidden))
        for other, cosine in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
            if other not in hidden:
                best[other] = max(best.get(other, -1.0), weight * cosine)
    return sorted(best.items(), key=lambda each: (-each[1], each[0]))[: products.size]


def _newest(snapshot: Snapshot, acts: Sequence[PastAct], now: float) -> dict[int, float]:
    """The rows of the last products, newest first, each with the weight of its latest act."""
    newest = newest_acts(snapshot, acts, now)
    return newest_products((row, kind) for row, kind, _ in newest if snapshot.vectors.vector(row).any())


_MIN_PROPOSED = 200
"""Number of products that each of the two ways proposes; all of them are then scored by both."""
_WIDER, _MAX_EXAMINED = 8, 10_000
"""Factor by which more products are examined if few of the best pass a condition, and their approximate maximum."""


class ShopperVectors:
    """A shopper as represented by a tower: the newest acts whose products the catalog has, as two vectors, and the
    neighbours of the products of more of them."""

    def __init__(self, snapshot: Snapshot, tower: OpenedUserTower, acts: Sequence[PastAct], now: float) -> None:
        """`now` is in seconds since 1970."""
        self._snapshot, self._tower = snapshot, tower
        rows, kinds, times, vectors = _known(snapshot, acts, now)
        self.is_known = bool(len(rows))
        if self.is_known:
            places = [tower.place_of(snapshot.products.id_of(row)) for row in rows.tolist()]
            self._companion_scores = tower.neighbour_scores(places)
            history = Histories.of([rows.tolist()], [kinds.tolist()], [times.tolist()])
            places, vectors = places[-MAX_ACTS:], vectors[-MAX_ACTS:]
            self._newest = newest_products(zip(rows[::-1].tolist(), kinds[::-1].tolist(), strict=True))
            self._seen = rows
            self._near, self._own = tower.encode(history, now, vectors, tower.values_of(places, tower.table.own))

    def best(self, products: ProductList, hidden: Collection[int]) -> list[tuple[int, float]]:
        """The rows of the best products of a list, without `hidden` ones, with their scores."""
        count = max(_MIN_PROPOSED, 2 * products.size) + len(hidden)
        rows, scores = self._proposed(count, products)
        if self._tower.spec.text_prior:
            given, others = self._by_text(rows, scores), ~np.isin(rows, self._seen)
            every, among = given, others
            if products.where:  # products keep the positions that they have without a filter
                proposed = self._proposed(count, ProductList(self._snapshot, products.size))
                every, among = self._by_text(*proposed), ~np.isin(proposed[0], self._seen)
            places = TextPlaces.of(*(each[among] for each in every))
            scores = np.where(others, places.mixed(*given), scores)
        shown = ~np.isin(rows, list(hidden))
        rows, scores = rows[shown], scores[shown]
        order = np.lexsort((rows, -scores))[: products.size]
        return list(zip(rows[order].tolist(), scores[order].tolist(), strict=True))

    def _proposed(self, count: int, products: ProductList) -> tuple[Rows, NDArray[np.float64]]:
        """The rows that the text and the learned tables propose, with their scores by both."""
        length = float(np.linalg.norm(self._near)) or 1.0
        direction = self._near / np.float32(length)
        rows = np.union1d(products.nearest(direction, count).rows, self._learned(count, products))
        return rows, self._scores(rows, length * self._snapshot.vectors.similarity(direction, rows))

    def _by_text(self, rows: Rows, scores: NDArray[np.float64]) -> tuple[Floats, Floats, Floats]:
        """Scores of proposed products (n,), their weighted cosine with the nearest of the last products, and the share
        of their own scores that they keep."""
        products, vectors, tower = self._snapshot.products, self._snapshot.vectors, self._tower
        alike = [worth * vectors.similarity(vectors.vector(row), rows) for row, worth in self._newest.items()]
        shares = tower.certainty_of([tower.place_of(products.id_of(row)) for row in rows.tolist()])
        return scores.astype(np.float32), np.asarray(np.max(alike, axis=0), np.float32), shares

    def _learned(self, count: int, products: ProductList) -> Rows:
        """The rows of the best `count` by learned scores alone; of more if fewer than `_MIN_PROPOSED` of these pass."""
        table = self._tower.table
        scores = table.own @ self._own + table.bias + self._companion_scores
        while True:
            places = np.argpartition(-scores, count)[:count] if count < len(scores) else np.arange(len(scores))
            known = (self._snapshot.products.row_of(table.ids[place]) for place in places.tolist())
            found = products.allowed(np.sort(np.array([row for row in known if row is not None], np.int64)))
            if products.where is None or len(found) >= _MIN_PROPOSED or count >= min(len(scores), _MAX_EXAMINED):
                return found
            count *= _WIDER

    def _scores(self, rows: Rows, alike: NDArray[np.floating]) -> NDArray[np.float64]:
        products, tower = self._snapshot.products, self._tower
        places = [tower.place_of(products.id_of(row)) for row in rows.tolist()]
        categories = [
            CATEGORY_SEPARATOR.join(products[row].category) if place is None and tower.spec.category_bias else ""
            for row, place in zip(rows.tolist(), places, strict=True)
        ]
        learned = tower.values_of(places, tower.table.own) @ self._own + tower.biases_of(places, categories)
        learned += tower.values_of(places, self._companion_scores)
        return np.asarray(alike, np.float64) + learned


def _known(
    snapshot: Snapshot, acts: Sequence[PastAct], now: float
) -> tuple[Rows, NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    """Rows, kinds, times and vectors of the newest acts, oldest first. Consecutive acts on one product are one choice,
    of the last kind, as in training (`ONE_CHOICE`). Products without a vector, added while the encoder was unavailable,
    are skipped."""
    kept: list[tuple[int, int, float]] = []
    after = now
    for row, kind, when in newest_acts(snapshot, acts, now):
        is_same = bool(kept) and kept[-1][0] == row and after - when <= ONE_CHOICE
        after = when
        if is_same:
            continue
        kept.append((row, kind, when))
        if len(kept) == MAX_COUNTED:
            break
    kept.reverse()
    rows = np.array([row for row, _, _ in kept], np.int64)
    vectors = snapshot.vectors.gather(rows)
    has_vector = vectors.any(axis=1)
    kinds = np.array([kind for _, kind, _ in kept], np.int64)
    moments = np.array([moment for _, _, moment in kept], np.float64)
    return rows[has_vector], kinds[has_vector], moments[has_vector], vectors[has_vector]


_BLOCK, _MAX_TRIED = 1_000, 5_000
"""The most popular products are examined in blocks of this size, up to this number."""


_MIN_SHARE = 0.1
"""The least share of a language among the products with one; it is detected from titles, where errors are rarer."""
_MIN_VIEWED = 0.9
"""The least share of a history's products in its language; other shoppers read several."""


class Recommender:
    """The recommendations of an engine: by the user tower, by the products nearest to past choices, or by popularity.
    Thread-safe."""

    def __init__(
        self,
        root: Path,
        popularity: ReloadedFile[Popularity],
        answer: ListAnswerer,
        search: Callable[..., Page],
        snapshot: Callable[[], Snapshot],
    ) -> None:
        """`search` is `SearchEngine.search`; browsing fills pages."""
        self._tower = ServedUserTower(root)
        self._popularity = popularity
        self._answer = answer
        self._search = search
        self._snapshot = snapshot
        self._most_popular: tuple[Popularity, tuple[str, ...]] = (popularity.value, ())
        """Popularity, and the ids of the most popular products in order."""
        self._languages: frozenset[tuple[str, str]] = frozenset()
        """The last version, with the languages in which it has many products."""

    @property
    def notices(self) -> tuple[str, ...]:
        """The reason why no published tower serves, if so."""
        return self._tower.notices

    @property
    def user_tower(self) -> str:
        """Name of the user tower that recommends; empty if none serves."""
        tower = self._tower.of(self._snapshot())
        return tower.name if tower else ""

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Opens the tower that was published since the last call."""
        self._tower.reload_if_changed(snapshot)

    def page(self, acts: Sequence[PastAct], size: int, filters: str, language: str, *, include_seen: bool) -> Page:
        """See `SearchEngine.recommend`."""

        def recommended(where: str) -> Page:
            page = self._answer(partial(self._recommended, acts=acts, include_seen=include_seen), size, where, True)
            if len(page.hits) == size:
                return page
            browsed = self._search("", size=min(size + len(page.hits) + len(acts), MAX_SIZE), filters=where)
            return _filled(page, browsed, () if include_seen else acts)

        own = self._narrowed(acts, language, filters)
        page = recommended(own)
        return page if own == filters or len(page.hits) == size else _filled(page, recommended(filters), ())

    def _recommended(self, products: ProductList, acts: Sequence[PastAct], *, include_seen: bool) -> Page:
        known = (products.snapshot.products.row_of(act.product_id) for act in acts)
        past = frozenset(row for row in known if row is not None)
        hidden = frozenset[int]() if include_seen else past
        tower = self._tower.of(products.snapshot)
        is_near = bool(acts) and bool(tower or self._tower.fallback == "near")
        degraded = products.lost
        if is_near:
            page = recommend_by_history(products, acts, hidden, tower)
            if page.hits:
                return page
            degraded = page.degraded
        popular = products.page(self._popular(products, past, hidden), degraded)
        return popular if popular.hits or is_near else recommend_by_history(products, acts, hidden)

    def _popular(self, products: ProductList, past: Collection[int], hidden: Collection[int]) -> Iterator[Hit]:
        """The most popular products without `hidden` rows: first those of the categories in the shopper's history, the
        rows of `past`, then others. None if popularity is unknown."""
        self._popularity.reload_if_changed()
        found = products.snapshot.products
        categories = {category for row in past if (category := found[row].category)}
        there: list[int] = []
        others: list[int] = []
        ids = self._popular_ids()
        for start in range(0, len(ids), _BLOCK):
            known = (found.row_of(name) for name in ids[start : start + _BLOCK])
            rows = np.array([row for row in known if row is not None and row not in hidden], np.int64)
            for row in rows[np.isin(rows, products.allowed(np.sort(rows)))].tolist():
                (there if categories and found[row].category in categories else others).append(row)
            if len(there if categories else others) >= products.size:
                break
        chosen = np.array((there + others)[: products.size], np.int64)
        shares = self._popularity.value.of_rows(chosen, found.id_of)
        return (Hit(found[row], share, {}) for row, share in zip(chosen.tolist(), shares.tolist(), strict=True))

    def _popular_ids(self) -> tuple[str, ...]:
        """The most popular products in order; computed once for each file."""
        now, (known, ids) = self._popularity.value, self._most_popular
        if now is not known:
            ordered = sorted(now.shares.items(), key=lambda each: (-each[1], each[0]))[:_MAX_TRIED]
            ids = tuple(name for name, _ in ordered)
            self._most_popular = now, ids
        return ids

    def _narrowed(self, acts: Sequence[PastAct], language: str, filters: str) -> str:
        """A filter, narrowed to a language, or to that of the acts' products, and to products without one;
        unchanged for a language of few products. Raises QueryError for a language that is not two letters."""
        if language and not (len(language) == 2 and language.isascii() and language.isalpha() and language.islower()):
            raise QueryError(f"language is {language[:40]!r}, it must be an ISO 639-1 code such as en")
        snapshot = self._snapshot()
        if not language and acts:
            rows = (snapshot.products.row_of(act.product_id) for act in acts)
            viewed = Counter(snapshot.products[row].language for row in rows if row is not None)
            language, count = next(iter(viewed.most_common(1)), ("", 0))
            language = language if count >= _MIN_VIEWED * viewed.total() else ""
        if not language or not self._has_many(snapshot, language):
            return filters
        own = f"({format_filter(language_filter(language))})"
        return f"({filters}) AND {own}" if filters.strip() else own

    def _has_many(self, snapshot: Snapshot, language: str) -> bool:
        key = (snapshot.manifest.version, language)
        field = snapshot.catalog.fields.get("language")
        if key in self._languages or field is None:
            return field is not None
        where = snapshot.catalog.compile(In("language", (language,)))
        if len(snapshot.keyword.select(Selection(where=where, everything=True))) < _MIN_SHARE * field.products:
            return False
        self._languages = frozenset({each for each in self._languages if each[0] == key[0]} | {key})
        return True


def _filled(page: Page, others: Page, hidden: Sequence[PastAct]) -> Page:
    """A page, filled up with the first products of another that it lacks and that are not in `hidden` acts."""
    present = {hit.product.id for hit in page.hits} | {act.product_id for act in hidden}
    more = [hit for hit in others.hits if hit.product.id not in present]
    hits = (*page.hits, *more[: page.size - len(page.hits)])
    degraded = tuple(dict.fromkeys((*page.degraded, *others.degraded)))
    rules = tuple(dict.fromkeys((*page.rules, *others.rules)))
    return replace(page, hits=hits, total=len(hits), degraded=degraded, rules=rules)
