"""The search engine: opens a published index, answers searches and applies live changes (`shelfwise.SearchEngine`)."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack

from prometheus_client import Counter

from shelfwise.retrieval.encoders.registry import LazyEncoder, shared_encoder
from shelfwise.retrieval.errors import ClusterError, PictureError, QueryError, ShelfwiseError, StoreDamagedError
from shelfwise.retrieval.records import Event, Page, PastAct, Product
from shelfwise.retrieval.store.manifest import Manifest
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.changes import Change, Delete, Patch, Upsert, validate_change
from shelfwise.service.answers.answering import Answer, answer_question
from shelfwise.service.answers.faq import EngineFaq
from shelfwise.service.answers.questions import is_question, searched_words
from shelfwise.service.answers.subjects import QuestionSubject, Sources
from shelfwise.service.curation.relevance import TypoTolerance
from shelfwise.service.curation.rule_matching import CompiledRules
from shelfwise.service.curation.rules import Rule
from shelfwise.service.curation.switches import ServedSwitches, SwitchedPart
from shelfwise.service.engine.candidates import Encodings, Stages
from shelfwise.service.engine.editors import EngineRelevance, EngineRules, EngineSynonyms, with_given_types
from shelfwise.service.engine.live import AppliedChanges, FollowedVersion, add_measures
from shelfwise.service.engine.recommendations import Recommender
from shelfwise.service.engine.related import EngineRelations, ProductList, products_by_looks, similar_products
from shelfwise.service.engine.request import STAGES, SearchOptions, SearchRequest, apply_operators
from shelfwise.service.engine.search import Search
from shelfwise.service.engine.served_models import ServedExpansions, ServedRanker
from shelfwise.service.engine.snapshot import (
    Connection,
    MatchingIds,
    Snapshot,
    condition_of,
    open_snapshot,
    ordered_ids,
    row_of,
)
from shelfwise.service.engine.spelling import Completion, VisibleCatalog
from shelfwise.service.engine.suggest import Suggester, Suggestions
from shelfwise.service.events.hot_reload import Recorder, follow_popularity
from shelfwise.service.events.signals import NO_RELATIONS
from shelfwise.service.experiments.experiment import EngineExperiments, stored_problem
from shelfwise.service.experiments.exploration import Exploration
from shelfwise.service.sponsored.placement import EngineCampaigns, is_sponsored_click

if TYPE_CHECKING:
    from shelfwise.service.events.event_log import RecordResult
    from shelfwise.service.settings import Settings


DEGRADED = Counter("shelfwise_degraded_searches", "Searches without a stage that failed or was too slow", ["stage"])
_LOOK_SECONDS = 0.05
"""Seconds between checks for live changes of other processes and newly published versions."""
_QUERY_ENCODINGS = 1_000
"""The number of query encodings in memory, some 5 KB each, for further pages and filters and for other shoppers."""


class SearchEngine:
    """A store's search, opened from an index directory. Safe to share between threads; follows new versions by itself.

    >>> engine = SearchEngine.open("store/")
    >>> page = engine.search("cordless drill", size=20, filters="price < 100 AND brand = Bosch", facets=["brand"])
    >>> page.hits[0].product.title, page.total, page.facets["brand"].counts
    >>> engine.patch("B0042", price=89.0, availability="in_stock")
    >>> engine.record(Event(EventKind.CLICK, "B0042", query_id="q17", shopper="u17", position=3))
    """

    def __init__(
        self,
        store: Store,
        snapshot: Snapshot,
        connection: Connection,
        *,
        settings: Settings | None = None,
        follow: bool = True,
        models: bool = True,
    ) -> None:
        self.root = store.root
        self.connection = connection
        self._settings = settings
        self.live = FollowedVersion(store, snapshot, connection, follow=follow)
        """The serving version, and the live changes over it."""
        if models:
            snapshot.analyzer.groups("a")  # loads what the first query needs
        self.recorder = Recorder(store.root, settings)
        self.switches = ServedSwitches(store.root)
        popularity = follow_popularity(store.root)
        self._ranker = ServedRanker(store.root, settings, popularity)
        self._expansions = ServedExpansions(store.root)
        self._suggester = Suggester(store.root, popularity)

        def current() -> Snapshot:
            return self.snapshot

        self.synonyms = EngineSynonyms(store.root, lambda: self.live.snapshot, follow=follow)
        self.rules = EngineRules(store.root, current, self.search)
        self.relevance = EngineRelevance(store.root, current, self.search)
        self.answers = EngineFaq(store.root, current)
        self.relations = EngineRelations(store.root, current, self._list_products, self.product)
        is_sponsored = partial(self.switches.is_on, SwitchedPart.SPONSORED)
        self.campaigns = EngineCampaigns(store.root, current, lambda: self._ranker.memory, is_sponsored)
        problem = self.ranker_problem if models else stored_problem(store.root)
        self.experiments = EngineExperiments(store.root, current, problem)
        self.recommender = Recommender(store.root, popularity, self._list_products, self.search, current)
        self._files = (*((self._expansions,) if models else ()), popularity)
        """Reloaded when they change, before the parts."""
        served = (self._ranker, self.recommender) if models else ()
        documents = (self.relations, self.rules, self.relevance, self.answers, self.campaigns)
        self._parts = (*served, *documents, self._suggester)
        """Models, documents and words, reloaded when they or the version change."""
        self._encodings = Encodings(_QUERY_ENCODINGS)
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1), thread_name_prefix="shelfwise")
        self._refreshing = threading.Lock()
        self._unanswered = snapshot.cluster_problem
        """The last error of the cluster, or empty."""
        self._reload_parts()
        if follow:
            self.live.catch_up()
            threading.Thread(
                target=_follow, args=(weakref.ref(self), self._stop), name="shelfwise-follow", daemon=True
            ).start()

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, settings: Settings | None = None, follow: bool = True, models: bool = True
    ) -> Self:
        """Opens the serving version, with all files verified, and the live changes since its build.

        The engine follows later versions and live changes of other processes, unless `follow` is False; it then
        searches the published version unchanged. Without `models`, for programs that only make changes, the encoder is
        loaded only when a change has a new text, no ranker and no user tower serves, and changed texts are found by
        words alone. `settings` default to `shelfwise.service.settings.load_settings()`. While the cluster of an index
        does not respond, searches use vectors alone.

        Raises StoreMissingError, StoreForeignError or StoreDamagedError for a directory that cannot serve; EncoderError
        if the model cannot be loaded or computes other vectors; SettingError or ClusterRefusedError if the cluster
        cannot be used as set.
        """
        store = Store(Path(path))
        connection = Connection(store, settings)
        try:
            snapshot = open_snapshot(store, connection, load=shared_encoder if models else LazyEncoder)
            return cls(store, snapshot, connection, settings=settings, follow=follow, models=models)
        except BaseException:
            connection.close()
            raise

    @property
    def manifest(self) -> Manifest:
        return self.snapshot.manifest

    @property
    def snapshot(self) -> Snapshot:
        """The opened version, for benchmarks and tools."""
        return self._expansions.over(self.synonyms.over(self.live.snapshot))

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of a search; "ranked" only if a ranker serves."""
        return STAGES if self._ranker.stage(self.snapshot) else STAGES[:-1]

    @property
    def ranker(self) -> str:
        """Name of the serving ranker; empty if there is none."""
        stage = self._ranker.stage(self.snapshot)
        return stage.name if stage else ""

    def ranker_problem(self, name: str = "") -> str:
        """The reason why searches cannot use a ranker, by default the serving one; empty if they can."""
        return self._ranker.problem(self.snapshot, name)

    @property
    def reads_history(self) -> bool:
        """Whether the serving ranker reads a search's `history`."""
        stage = self._ranker.stage(self.snapshot)
        return stage is not None and stage.reads_history

    @property
    def notices(self) -> tuple[str, ...]:
        """Problems that do not stop searches, such as a damaged newer version."""
        parts = (self.switches, self.experiments, self.live, self.recorder)
        followed = (self.synonyms, *self._files, *self._parts, *parts)
        unanswered = (self._unanswered,) if self._unanswered else ()
        return (*self.snapshot.notices, *(notice for each in followed for notice in each.notices), *unanswered)

    def search(
        self, text: str | SearchRequest, *, encodings: Encodings | None = None, **options: Unpack[SearchOptions]
    ) -> Page:
        """One page of the products for a query, with counts over all of them.

        `options` are the fields of `SearchRequest`; a request replaces the text and the options. If a word is not in
        the catalog and its correction is certain, the engine searches for the correction, and the page says so.
        `encodings` replaces the engine's cache of query encodings.

        Raises QueryError, FilterError or UnknownFieldError for an invalid request, ModelError for a `ranker` that
        cannot serve.
        """
        request = apply_operators(text if isinstance(text, SearchRequest) else SearchRequest(text, **options))

        def answer(snapshot: Snapshot, unavailable: tuple[str, ...], rules: CompiledRules | None) -> Page:
            visible = condition_of(snapshot, request.visible)
            completions = self._suggester.completions(snapshot, request.text, visible) if request.prefix else ()
            text = completions[0].text if completions else request.text
            completed = text if text != request.text else ""
            relevance = self.relevance.for_search(snapshot, request.relevance)
            settings = relevance.settings
            # Without its keyword index, an engine does not know which words are missing from the catalog.
            correction = None if unavailable else self._suggester.did_you_mean(snapshot, text, settings, visible)
            snapshot = self.rules.typed(snapshot) if request.rules is True else with_given_types(snapshot, rules)
            last = self._ranker.stage(snapshot, tuple(request.history), request.ranker)
            kept = self._encodings if encodings is None else encodings
            stages = Stages(snapshot, self._executor, last, kept, relevance)
            sponsor = self.campaigns.sponsor(request, snapshot, lambda: self.settings)
            exploration = None
            if request.explore and (share := self.settings.ranker.exploration):
                exploration = Exploration.of_search(share, request.explore, request.query_key, self._ranker.memory)

            def find(text: str, completions: Sequence[Completion]) -> Page:
                words = searched_words(text) if is_question(text) else text
                page = Search(
                    snapshot,
                    stages,
                    replace(request, text=words),
                    unavailable=unavailable,
                    rules=rules,
                    typed=request.text,
                    completions=completions,
                    chosen=self._suggester.chosen_category(words),
                    exploration=exploration,
                    sponsor=sponsor,
                ).page()
                return replace(page, completion=completed, suggestion=correction.text if correction else "")

            if correction and correction.is_sure and request.correct and settings.typo_tolerance is TypoTolerance.ON:
                page = find(correction.text, ())
                if page.total or page.redirect:
                    return replace(page, corrected=True)
            return find(text, completions)

        page = self._answer(answer, request.rules)
        if not request.visible:
            return page
        # Without whether invisible products fit, and without the values that they have.
        preferred = tuple(self.visible(request.visible).preferences(page.preferred))
        return replace(page, nothing_fits=not page.total and bool(request.text.strip()), preferred=preferred)

    def suggest(self, text: str, *, size: int = 8, filters: str = "") -> Suggestions:
        """Completions of the text typed so far: at most `size` queries, and half as many categories, brands and
        products. The last word may be incomplete, the others are whole, in any order. Products that the store's rules
        exclude are not suggested; with `filters`, only words and values of products that pass.

        Raises QueryError or FilterError for invalid arguments. See docs/suggestions.md.
        """
        SearchRequest(text, filters=filters)
        self._check_open()
        snapshot = self.snapshot
        where = condition_of(snapshot, filters)
        rules = self.rules.compiled(snapshot)
        relevance = self.relevance.compiled(snapshot).settings
        return self._suggester.suggest(snapshot, text, size, rules, relevance, where)

    def related(self, text: str, *, size: int = 8) -> tuple[str, ...]:
        """Related queries, nearest first: shoppers moved between them, or chose the same products after both. Empty if
        too few shoppers searched for it, or before the first refresh of the derived tables."""
        SearchRequest(text)
        self._check_open()
        return self._suggester.related(self.snapshot, text, size)

    def answer(
        self,
        text: str,
        product_id: str | None = None,
        about: QuestionSubject | None = None,
        *,
        filters: str = "",
        hidden: Collection[str] = (),
    ) -> Answer:
        """The answer to a question, quoted from the store's own texts: about a product, if `product_id` or the question
        names one, about a type of product, or about the whole store. `about` is the subject of the last question.
        Products that do not pass `filters` are treated as missing; `hidden` fields are not quoted.

        Raises QueryError for a text that is blank or too long, UnknownProductError, FilterError. See docs/answers.md.
        """
        self._check_open()
        snapshot = self.rules.typed(self.snapshot)
        compiled = self.answers.compiled(snapshot)
        sources = Sources(snapshot, compiled, self.rules.compiled(snapshot), filters, hidden)
        return answer_question(sources, text, product_id, about)

    def search_by_picture(
        self, picture: bytes | os.PathLike[str], *, size: int = 20, filters: str = "", rules: bool = True
    ) -> Page:
        """The products that look most like a picture: the content of a JPEG, PNG, WebP or GIF file, or its path.

        Raises PictureError for another or too large file, QueryError for an index without pictures, QueryError or
        FilterError for an invalid argument, EncoderError if the model fails.
        """
        if not isinstance(picture, bytes | os.PathLike):
            raise QueryError(f"picture is {type(picture).__name__}, it must be bytes or a path")
        # Pillow, which engines without pictures do not need.
        from shelfwise.retrieval.pictures import read_file

        try:
            content = picture if isinstance(picture, bytes) else read_file(Path(picture))
            return self._list_products(partial(products_by_looks, content), size, filters, rules)
        except PictureError as error:
            name = "the picture" if isinstance(picture, bytes) else os.fspath(picture)
            raise PictureError(f"{name} cannot be used: {error}") from error

    def similar(
        self,
        product_id: str,
        *,
        size: int = 20,
        filters: str = "",
        rules: bool = True,
        coviews: bool = True,
        sponsored: bool = False,
        by: Literal["text", "looks"] = "text",
    ) -> Page:
        """The products most similar to a product: by their texts and, with `coviews`, by views of the same shoppers,
        without the substitutes that the store removed; or by pictures alone, if `by` is "looks". With `rules` the
        store's rules apply. With `sponsored` there are sponsored hits in addition to those by texts, if they are
        switched on.

        Raises UnknownProductError for an unknown product, QueryError or FilterError for an invalid argument, and
        QueryError for looks in an index without pictures.
        """
        if by not in ("text", "looks"):
            raise QueryError(f"by is {by!r}, it can be 'text' or 'looks'")
        if not isinstance(product_id, str):
            raise QueryError(f"product_id is {type(product_id).__name__}, it must be str")
        if not isinstance(coviews, bool):
            raise QueryError(f"coviews is {type(coviews).__name__}, it must be bool")
        if by == "looks":
            return self._list_products(partial(products_by_looks, product_id), size, filters, rules)
        derived = self.relations.derived if coviews else NO_RELATIONS
        removed = self.relations.removed_substitutes(product_id) if coviews else frozenset[str]()

        def similar(products: ProductList) -> Page:
            sponsor = self.campaigns.similar_sponsor(products.snapshot, lambda: self.settings) if sponsored else None
            return similar_products(product_id, products, derived, sponsor=sponsor, left_out=removed)

        return self._list_products(similar, size, filters, rules)

    def recommend(
        self,
        history: Sequence[PastAct] = (),
        *,
        size: int = 10,
        filters: str = "",
        include_seen: bool | None = None,
        language: str = "",
    ) -> Page:
        """Recommendations for a shopper with this history, oldest first: by the user tower, if one serves; otherwise
        the products nearest to the last ones, or the most popular of their categories if training found that better.
        Without a usable history, the most popular products; browsing fills the page. The store's rules apply.

        Products in another language than `language` (ISO 639-1), by default that of the history, only fill the
        page. Products of the history are left out, unless `include_seen` is True; its default is the setting
        `recommend.seen`. Raises QueryError, FilterError or UnknownFieldError for an invalid argument.
        """
        past = tuple(SearchRequest(size=size, filters=filters, history=history).history)
        if not isinstance(include_seen, bool | None):
            raise QueryError(f"include_seen is {type(include_seen).__name__}, it must be bool or None")
        seen = self.settings.recommend.seen == "show" if include_seen is None else include_seen
        return self.recommender.page(past, size, filters, language, include_seen=seen)

    @cached_property
    def settings(self) -> Settings:
        """The settings that the engine was opened with, or those of the file and the environment."""
        from shelfwise.service.settings import load_settings

        return self._settings or load_settings()

    def _list_products(self, answer: Callable[[ProductList], Page], size: int, filters: str, rules: bool) -> Page:
        """A page of a list of products; raises QueryError or FilterError for an invalid size or filter."""
        SearchRequest(size=size, filters=filters)
        return self._answer(
            lambda snapshot, lost, compiled: answer(ProductList(snapshot, size, filters, lost, compiled)), rules
        )

    def _answer(
        self, answer: Callable[[Snapshot, tuple[str, ...], CompiledRules | None], Page], rules: bool | Sequence[Rule]
    ) -> Page:
        """A page, made without the cluster if that fails; the page then names the missing stage."""
        self._check_open()
        snapshot = self.snapshot
        try:
            page = answer(snapshot, (), self.rules.for_search(snapshot, rules))
        except (ClusterError, StoreDamagedError) as error:
            if snapshot.manifest.cluster is None:
                raise
            self._unanswered = f"searches use vectors alone: {error}"
            page = answer(snapshot.without_cluster, ("bm25",), self.rules.for_search(snapshot, rules))
        else:
            self._unanswered = ""
        for stage in page.degraded:
            DEGRADED.labels(stage).inc()
        return page

    def product(self, product_id: str, *, filters: str = "") -> Product:
        """One product; raises UnknownProductError if none with this id passes the filter."""
        snapshot = self.snapshot
        return snapshot.products[row_of(snapshot, product_id, filters)]

    def visible(self, filters: str) -> VisibleCatalog:
        """The products that pass a filter: their fields, words, values and ids."""
        snapshot = self.snapshot
        return VisibleCatalog(snapshot, condition_of(snapshot, filters))

    def ids(self, *, filters: str = "", after: str = "") -> MatchingIds:
        """The ids of all products that pass a filter; those after `after`, in order."""
        return ordered_ids(self.snapshot, filters, after)

    def upsert(self, products: Iterable[Product]) -> AppliedChanges:
        """Adds products, or replaces those with the same id, durably: searches find them when this returns.

        All are stored or none; products equal to the present ones in every field are not counted. Raises ChangeError
        for an invalid product, EncoderError if a text cannot be encoded, StoreError if nothing can be written,
        ClusterError if the cluster cannot store it now.
        """
        return self.change([Upsert(product) for product in products])

    def delete(self, ids: Iterable[str]) -> AppliedChanges:
        """Deletes products durably; unknown ids are ignored and not counted."""
        if isinstance(ids, str):
            raise QueryError(f"ids must be a list of product ids, such as [{ids!r}]")
        return self.change([Delete(product_id) for product_id in ids])

    def patch(self, product_id: str, **values: object) -> AppliedChanges:
        """Changes fields of a product durably: `price=9.99`, `availability="in_stock"`, `description=None`.

        An attribute or identifier is named with a dot: `**{"attributes.colour": "red"}`. Raises UnknownProductError for
        an unknown product, ChangeError for an invalid value.
        """
        return self.change([Patch(product_id, values)])

    def record(self, *events: Event) -> RecordResult:
        """Records events of shoppers durably, and charges clicks on sponsored hits.

        Events with the same `event_id`, or the same values and time, count once; without an id and a time, each call
        records another event. Raises EventError for an invalid event, StoreError or ClusterError if it cannot be
        written now: send it again.
        """
        self._check_open()
        result = self.recorder.record(events)
        if clicks := [each for each in events if is_sponsored_click(each.kind, each.query_id)]:
            self.campaigns.charge(self.snapshot, self.recorder.stored(clicks))
        return result

    def change(self, changes: Sequence[Change], *, filters: str = "") -> AppliedChanges:
        """Applies upserts, deletes and patches in order, durably, all or none; raises like those methods.

        With `filters`, products that do not pass are treated as missing: a patch or delete of one raises
        UnknownProductError, as for an unknown id. OutsideFilterError is raised for a product that would not pass after
        its change, and for an upsert with the id of one that does not pass.
        """
        checked = [validate_change(change) for change in changes]

        def plan(_: object) -> list[Change]:
            return [
                Patch(each.id, add_measures(self.product(each.id), each.values)) if isinstance(each, Patch) else each
                for each in checked
            ]

        return self.live.change(plan, filters)

    def refresh(self) -> bool:
        """Switches to the published version; returns whether it is another one.

        Running searches keep the version with which they started. If the new version cannot be opened, the old one
        keeps serving and the error is raised.
        """
        changed = self.live.refresh()
        self._unanswered = self.live.snapshot.cluster_problem or self._unanswered
        self._reload_parts()
        return changed

    def close(self) -> None:
        self._stop.set()
        self._executor.shutdown(wait=True)
        self.live.close()
        self.campaigns.flush()
        self.rules.exposure.write()
        self.recorder.close()
        self._ranker.close()
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._stop.is_set():
            raise QueryError("the engine is closed; open it again with SearchEngine.open")

    def reload_if_changed(self) -> None:
        """Follows changes and versions of other processes; `notices` names failures."""
        self.live.catch_up()
        self._reload_parts()
        if self.live.is_due and self._refreshing.acquire(blocking=False):
            threading.Thread(target=self._follow_store, name="shelfwise-refresh", daemon=True).start()

    def _reload_parts(self) -> None:
        self.synonyms.reload_if_changed(self.live.snapshot)
        for file in self._files:
            file.reload_if_changed()
        snapshot = self.snapshot
        for part in self._parts:
            part.reload_if_changed(snapshot)

    def _follow_store(self) -> None:
        try:
            self.refresh()
        except ShelfwiseError as error:
            self.live.postpone(error)
        finally:
            self._refreshing.release()


def _follow(engine: weakref.ref[SearchEngine], stop: threading.Event) -> None:
    """Ends when the engine is closed or garbage-collected."""
    while not stop.wait(_LOOK_SECONDS):
        alive = engine()
        if alive is None:
            return
        alive.reload_if_changed()
        del alive
