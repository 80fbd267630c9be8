"""Rules, synonyms and relevance settings of an engine: applied to searches, read and changed as `engine.rules`,
`engine.synonyms` and `engine.relevance`."""

from __future__ import annotations

import operator
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from msgspec import to_builtins

from shelfwise.retrieval.errors import ClusterError, RelevanceError, RuleError, UnknownFieldError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.keyword import Selection
from shelfwise.retrieval.records import ExposureGoal, Page
from shelfwise.retrieval.store.products import FieldWeights
from shelfwise.retrieval.text.analysis import Analyzer, Synonyms
from shelfwise.retrieval.text.product_types import TypeNames
from shelfwise.service.curation.document_store import (
    DocumentChange,
    DocumentCodec,
    DocumentKind,
    DocumentStore,
    Entry,
    StoredDocuments,
)
from shelfwise.service.curation.exposure import (
    NOT_COUNTED,
    DelayedCounts,
    ExposureState,
    ExposureStates,
    ExposureStore,
    attention,
    goals_of,
)
from shelfwise.service.curation.relevance import DEFAULT_RELEVANCE, DOCUMENT_ID, Relevance, RelevanceStore
from shelfwise.service.curation.rule_matching import CompiledRules
from shelfwise.service.curation.rules import Rule, RuleStore
from shelfwise.service.curation.sqlite_file import day_of, wall_clock
from shelfwise.service.curation.synonyms import Synonym, SynonymStore
from shelfwise.service.engine.reranking import CompiledRelevance, compile_relevance
from shelfwise.service.engine.snapshot import Snapshot, row_of
from shelfwise.service.events.hot_reload import ReloadedFile

Compiled = TypeVar("Compiled")


class ServedExposure:
    """The control of the exposure goals of an index directory, with counts of this and the other serving processes.
    Thread-safe."""

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = wall_clock) -> None:
        store, self._clock = ExposureStore(root), clock
        failure = "the exposure of products is outdated"
        nothing: ExposureStates = {}
        self._stored = ReloadedFile(store.path, lambda _: store.read(), nothing, failure, keeps_value=True)
        self._counts: DelayedCounts[ExposureGoal, ExposureState] = DelayedCounts(
            store.add, operator.add, "exposure is not counted", clock
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why states are outdated or not stored."""
        return (*self._stored.notices, *self._counts.notices)

    def state(self, goal: ExposureGoal) -> ExposureState:
        """The current state of a goal."""
        stored = self._stored.value.get((goal.rule, goal.filters), NOT_COUNTED)
        waiting = self._counts.waiting(goal)
        return (stored + waiting if waiting else stored).within(goal).on(day_of(self._clock()))

    def count(self, page: Page) -> None:
        """Counts a page shown to a shopper."""
        day = day_of(self._clock())
        for goal, own, total in attention(page):
            if total:
                self._counts.add(goal, self.state(goal).step(goal, day, own, total))

    def reload_if_changed(self) -> None:
        """Stores counts about once a second, and reads those that others stored."""
        self._counts.write_if_due(self._stored.reload_if_changed)
        self._stored.reload_if_changed()

    def write(self) -> None:
        """Stores the counts."""
        self._counts.write()


def compile_rules(
    rules: Sequence[Rule], snapshot: Snapshot, state_of: Callable[[ExposureGoal], ExposureState] = lambda _: NOT_COUNTED
) -> CompiledRules | None:
    """Rules compiled for a snapshot's version, with the states of their exposure goals; None if there are none."""
    return CompiledRules(rules, snapshot.catalog, snapshot.analyzer, state_of) if rules else None


def with_given_types(snapshot: Snapshot, rules: CompiledRules | None) -> Snapshot:
    """A version whose products have the types that rules give them. Raises ClusterError if its cluster fails."""
    if rules is None or not rules.types:
        return snapshot
    names: dict[int, str] = {}
    for each in reversed(rules.types):
        rows = snapshot.keyword.select(Selection(where=each.condition, everything=True))
        names |= dict.fromkeys(rows.tolist(), each.name)
    return replace(snapshot, types=snapshot.types.with_given(names))


class DocumentEditor(ABC, Generic[Entry]):
    """Reads and changes the documents of one kind of an engine's index: rules, synonyms, relations, relevance settings,
    campaigns or answer texts. Searches of this engine use a change when the method returns, those of other engines
    within a second. Methods raise the kind's error for an invalid or unknown document."""

    def __init__(self, store: DocumentStore[Entry], snapshot: Callable[[], Snapshot]) -> None:
        """`snapshot` is the version that the engine searches."""
        self.store = store
        self._snapshot = snapshot

    @property
    @abstractmethod
    def notices(self) -> tuple[str, ...]:
        """Reasons why documents are ignored or outdated."""

    @abstractmethod
    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads what changed since the last call, for the searches of a snapshot."""

    @property
    def kind(self) -> DocumentCodec[Entry]:
        """The kind of the documents."""
        return self.store.kind

    @property
    def revision(self) -> int:
        """Number of the last change; 0 before the first."""
        return self.store.revision()

    @property
    def faults(self) -> Mapping[str, str]:
        """The reason, by name, for each document or part of one that the serving version cannot apply."""
        return {}

    def details(self, _product: str = "", /) -> Mapping[str, object]:
        """Facts about the documents, or about those of a product, for the list of them."""
        return {}

    def list(self) -> tuple[Entry, ...]:
        """All documents of the store, ordered by id; without the synonyms that the version was built with."""
        return self.store.read().documents

    def of_product(self, product: str) -> Sequence[Entry]:
        """The documents about a product, of a kind that is listed by product."""
        raise self.kind.error(f"{self.kind.many} are not listed by product, but by q", product, "product")

    def get(self, document_id: str, /) -> Entry:
        """One document."""
        return self.store.get(document_id)

    def put(self, documents: Iterable[Entry], /, *, gone: Iterable[str] = (), who: str = "") -> int:
        """Adds documents, or replaces those with the same id, and deletes the ids in `gone`, durably and all or none.
        Returns the revision. `who` is recorded with the change."""
        return self._followed(self.store.put(self._checked(documents), gone=gone, who=who))

    def patch(self, document_id: str, values: Mapping[str, object], *, who: str = "") -> int:
        """Replaces fields of a document, named as in JSON: `{"enabled": False}`; returns the revision."""
        return self._followed(self.store.patch(document_id, values, who=who))

    def delete(self, ids: Iterable[str], *, who: str = "") -> int:
        """Deletes documents; returns the revision. If an id is unknown, none is deleted."""
        if isinstance(ids, str):
            raise self.kind.error(f"ids must be a list of {self.kind.many}' ids, such as [{ids!r}]", field="ids")
        return self._followed(self.store.delete(ids, who=who))

    def history(self, document_id: str | None = None, /, limit: int = 100) -> Sequence[DocumentChange[Entry]]:
        """The last changes of one document or of all, newest first."""
        return self.store.history(document_id, limit)

    def restore(self, revision: int, *, who: str = "") -> int:
        """Restores all documents of a revision (0: none); returns the number of this change."""
        return self._followed(self.store.restore(revision, who=who))

    def _checked(self, documents: Iterable[Entry]) -> Sequence[Entry]:
        """The validated documents."""
        if not isinstance(documents, Iterable):
            many, one = self.kind.many, self.kind.one
            raise self.kind.error(f"{many} must be a list of {many}, such as [{one}]", str(documents.id))
        return [self.kind.validate(each) for each in documents]

    def _followed(self, revision: int) -> int:
        self.reload_if_changed(self._snapshot())
        return revision


def editor_of(engine: object, kind: DocumentKind) -> DocumentEditor[Any]:
    """The editor of an engine (`SearchEngine`) for a kind of documents."""
    editor: DocumentEditor[Any] = getattr(engine, kind)
    return editor


class CompiledEditor(DocumentEditor[Entry], Generic[Entry, Compiled]):
    """Documents that are compiled for the version that an engine searches. Thread-safe."""

    def __init__(
        self,
        store: DocumentStore[Entry],
        snapshot: Callable[[], Snapshot],
        compile_documents: Callable[[Sequence[Entry], Snapshot], Compiled],
        notices_of: Callable[[Compiled], Sequence[str]] = lambda _: (),
    ) -> None:
        super().__init__(store, snapshot)
        self._compile_documents = compile_documents
        self._notices_of = notices_of
        failure = f"changes of the {store.kind.many} are not loaded"
        self._stored: ReloadedFile[StoredDocuments[Entry]] = ReloadedFile(
            store.path, store.reload, StoredDocuments(), failure, keeps_value=True
        )
        self._lock = threading.Lock()
        self._current: tuple[FieldCatalog, Compiled] | None = None
        """The catalog for which documents were last compiled, and the result."""
        self._compiled_from: StoredDocuments[Entry] = self._stored.value
        self._compiled_key: object = None

    @property
    def notices(self) -> tuple[str, ...]:
        current = self._current
        return (*self._stored.notices, *(self._notices_of(current[1]) if current else ()))

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads and compiles changed documents. On failure the previous ones stay, and `notices` has the reason."""
        self._stored.reload_if_changed()
        if self._compiled_from is not self._stored.value:
            with self._lock:
                self._compile(snapshot)

    def compiled(self, snapshot: Snapshot) -> Compiled:
        """The compiled documents for searches of a snapshot."""
        current = self._current
        if current and current[0] is snapshot.catalog:
            return current[1]
        with self._lock:
            return self._compile(snapshot)

    def _compile(self, snapshot: Snapshot) -> Compiled:
        """Compiles the documents while searches use the previous ones; live changes add fields and kinds of values."""
        current, stored = self._current, self._stored.value
        kinds = {name: info.kinds for name, info in snapshot.catalog.fields.items()}
        key = (snapshot.manifest.version, kinds, stored.revision, stored.file)
        is_same = current and key == self._compiled_key
        compiled = current[1] if current and is_same else self._compile_documents(stored.documents, snapshot)
        self._current = (snapshot.catalog, compiled)
        self._compiled_key = key
        self._compiled_from = stored
        return compiled


class PreviewEditor(CompiledEditor[Entry, Compiled]):
    """An editor whose changes can be tried on a search."""

    _search: Callable[..., Page]
    """`SearchEngine.search`."""

    def preview(
        self, text: str, put: Iterable[Entry] = (), *, delete: Iterable[str] = (), **options: object
    ) -> Preview:
        """Compares a search with the current documents and one with documents added and deleted; nothing is changed.

        `options` are those of `SearchEngine.search`: `size`, `page`, `filters`, `sort` and so on. Raises the kind's
        error like `put` and `delete`.
        """
        self.reload_if_changed(self._snapshot())
        changed = self._changed(self._checked(put), list(delete))
        after = self._search(text, **changed, **options)
        return compare_pages(self._search(text, **options), after)

    @abstractmethod
    def _changed(self, put: Sequence[Entry], gone: Sequence[str]) -> Mapping[str, object]:
        """The option of a search for the documents after a change."""


@dataclass(frozen=True, slots=True)
class RuleExposure:
    """Today's progress of an exposure goal of a rule."""

    rule: str
    filters: str
    at_least: float | None
    at_most: float | None
    share: float
    """Share of the attention in today's recorded searches to which the rule applied; 0 before the first."""
    searches: int
    """Number of these searches."""
    strength: float = 0.0
    """Score offset of the products in the next search, in standard deviations of the scores of the best hits."""


class EngineRules(PreviewEditor[Rule, CompiledRules | None]):
    """The rules of an engine's index.

    >>> engine.rules.put([Rule("sale", (Boost("brand = Bosch"),), When("drill", Match.CONTAINS))], who="m7")
    >>> engine.rules.preview("cordless drill", delete=["sale"]).moved
    """

    def __init__(self, root: Path, snapshot: Callable[[], Snapshot], search: Callable[..., Page]) -> None:
        self.exposure = ServedExposure(root)
        """The control of the rules' exposure goals."""
        self._search = search
        self._with_types = lru_cache(maxsize=1)(with_given_types)
        compile_all = partial(compile_rules, state_of=self.exposure.state)
        super().__init__(RuleStore(root), snapshot, compile_all, lambda rules: rules.notices if rules else ())

    @property
    def notices(self) -> tuple[str, ...]:
        return (*self.exposure.notices, *super().notices)

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        self.exposure.reload_if_changed()
        super().reload_if_changed(snapshot)

    def for_search(self, snapshot: Snapshot, rules: bool | Sequence[Rule]) -> CompiledRules | None:
        """The rules of a search: those of the index, none, or others."""
        if isinstance(rules, bool):
            return self.compiled(snapshot) if rules else None
        return compile_rules(rules, snapshot, self.exposure.state)

    def product_types(self, product_id: str) -> TypeNames:
        """The types of one product; raises UnknownProductError for an unknown id."""
        snapshot = self.typed(self._snapshot())
        row = row_of(snapshot, product_id)
        return snapshot.types.names_of(row, snapshot.products[row])

    def typed(self, snapshot: Snapshot) -> Snapshot:
        """A version whose products have the types that rules give them; the same object until something changes. While
        the cluster does not respond, products keep their own types."""
        try:
            return self._with_types(snapshot, self.compiled(snapshot))
        except ClusterError:
            return snapshot

    @property
    def faults(self) -> Mapping[str, str]:
        """The reason, by id, for each rule that the serving version cannot apply; such rules are skipped."""
        compiled = self.compiled(self._snapshot())
        return compiled.faults if compiled else {}

    def exposure_goals(self) -> list[RuleExposure]:
        """Today's progress of the exposure goals of the rules."""
        found = []
        for goal in goals_of(self.list()):
            state = self.exposure.state(goal)
            shown = RuleExposure(
                goal.rule,
                goal.filters,
                goal.at_least,
                goal.at_most,
                share=state.share,
                searches=state.searches,
                strength=state.strength,
            )
            found.append(shown)
        return found

    def details(self, _product: str = "", /) -> Mapping[str, object]:
        return {"exposure_goals": self.exposure_goals()}

    def _changed(self, put: Sequence[Rule], gone: Sequence[str]) -> Mapping[str, object]:
        named = [rule if rule.id else replace(rule, id=f"new rule {at}") for at, rule in enumerate(put, 1)]
        there = {rule.id: rule for rule in self.list()}
        for each in gone:
            if each not in there:
                self.get(each)
        kept = {name: rule for name, rule in there.items() if name not in gone}
        return {"rules": tuple((kept | {rule.id: rule for rule in named}).values())}

    def _checked(self, documents: Iterable[Rule]) -> Sequence[Rule]:
        rules = super()._checked(documents)
        compiled = compile_rules(rules, self._snapshot())
        for rule_id, fault in compiled.faults.items() if compiled else ():
            raise RuleError(fault, rule_id)
        return rules


@dataclass(frozen=True, slots=True)
class HitMove:
    """A product that is on both pages at different positions, or on one of them only."""

    product: str
    title: str
    before: int | None
    """Position over all pages, from 1; None if it is not on the page."""
    after: int | None
    rule: str
    """The rule that moved it, if one did."""
    product_type: str
    """Type of the product after the change; for a lost product, before."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One page of a search with the current rules, and with the changed ones. Nothing was changed."""

    before: Page
    after: Page
    gained: tuple[HitMove, ...]
    """Products that would be added to the page, in order."""
    lost: tuple[HitMove, ...]
    """Products that would be removed from it, in their current order."""
    moved: tuple[HitMove, ...]
    """Products that would stay at another position, including those that are only displaced."""


def compare_pages(before: Page, after: Page) -> Preview:
    """The difference between two pages of one search."""
    was, becomes = _places(before), _places(after)
    hits = {hit.product.id: hit for page in (before, after) for hit in page.hits}

    def move(product: str) -> HitMove:
        hit = hits[product]
        return HitMove(product, hit.product.title, was.get(product), becomes.get(product), hit.rule, hit.product_type)

    return Preview(
        before,
        after,
        tuple(move(product) for product in becomes if product not in was),
        tuple(move(product) for product in was if product not in becomes),
        tuple(move(product) for product, place in becomes.items() if was.get(product, place) != place),
    )


def _places(page: Page) -> dict[str, int]:
    first = (page.page - 1) * page.size + 1
    return {hit.product.id: place for place, hit in enumerate(page.hits, first)}


class EngineSynonyms(CompiledEditor[Synonym, Analyzer]):
    """The synonyms of an engine's index, compiled to an analyzer that also has those of the serving version.

    The synonyms of a version are part of its identity; those of the store only expand the queries of an engine.
    """

    def __init__(self, root: Path, snapshot: Callable[[], Snapshot], *, follow: bool = True) -> None:
        """`snapshot` is the version with its own synonyms; without `follow`, searches use only these."""
        self._follow = follow
        super().__init__(SynonymStore(root), snapshot, expand_analyzer)
        self._analyzed = lru_cache(maxsize=1)(Snapshot.analyzed_by)

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        if self._follow:
            super().reload_if_changed(snapshot)

    def over(self, snapshot: Snapshot) -> Snapshot:
        """A version with the store's synonyms and its own; the same object until something changes."""
        analyzer = self.compiled(snapshot)
        return snapshot if analyzer is snapshot.analyzer else self._analyzed(snapshot, analyzer)


def expand_analyzer(synonyms: Sequence[Synonym], snapshot: Snapshot) -> Analyzer:
    """The analyzer of a version with synonyms in addition to its own."""
    base = snapshot.analyzer
    rules = [rule for synonym in synonyms if synonym.enabled for rule in synonym.rules]
    return Analyzer(Synonyms((*base.synonyms.rules, *rules))) if rules else base


class EngineRelevance(PreviewEditor[Relevance, CompiledRelevance]):
    """The relevance settings of an engine's index: one document, which has the defaults before the first change.

    >>> engine.relevance.preview("cordless drill", [Relevance(signals=(Signal("rating"),))]).moved
    >>> engine.relevance.put([Relevance(signals=(Signal("rating"),))], who="m7")
    """

    def __init__(self, root: Path, snapshot: Callable[[], Snapshot], search: Callable[..., Page]) -> None:
        self._search = search

        def compile_one(documents: Sequence[Relevance], snapshot: Snapshot) -> CompiledRelevance:
            return compile_relevance(documents[0] if documents else DEFAULT_RELEVANCE, snapshot)

        super().__init__(RelevanceStore(root), snapshot, compile_one, lambda compiled: compiled.notices)

    @property
    def faults(self) -> Mapping[str, str]:
        """The reason, by field, for each signal that the serving version cannot apply; such signals are skipped."""
        return self.compiled(self._snapshot()).faults

    def for_search(self, snapshot: Snapshot, relevance: Relevance | None) -> CompiledRelevance:
        """The settings of a search: those that it brings, or else those of the index."""
        return compile_relevance(relevance, snapshot) if relevance else self.compiled(snapshot)

    @property
    def weights_in_effect(self) -> FieldWeights:
        """The field weights with which the serving version was built; changed weights wait for the next rebuild."""
        return self._snapshot().manifest.weights

    @property
    def served(self) -> Relevance:
        """The settings that searches of this engine use."""
        return self.compiled(self._snapshot()).settings

    def details(self, _product: str = "", /) -> Mapping[str, object]:
        return {"fields_in_effect": self.weights_in_effect}

    def list(self) -> tuple[Relevance, ...]:
        return (self.get(),)

    def get(self, document_id: str = DOCUMENT_ID, /) -> Relevance:
        """The stored settings, or the defaults."""
        if document_id != DOCUMENT_ID:
            return super().get(document_id)
        return next(iter(self.store.read().documents), DEFAULT_RELEVANCE)

    def patch(self, document_id: str, values: Mapping[str, object], *, who: str = "") -> int:
        there: dict[str, object] = to_builtins(self.get(document_id))
        return self.put([self.kind.accept({**there, **values}, "relevance settings")], who=who)

    def _changed(self, put: Sequence[Relevance], gone: Sequence[str]) -> Mapping[str, object]:
        if len(put) != 1 or gone:
            raise RelevanceError("a preview of relevance settings needs one document, and deletes none", field="put")
        return {"relevance": put[0]}

    def _checked(self, documents: Iterable[Relevance]) -> Sequence[Relevance]:
        settings = super()._checked(documents)
        snapshot = self._snapshot()
        for each in settings:
            for fault in compile_relevance(each, snapshot).faults.values():
                raise RelevanceError(f"signals: {fault}", field="signals")
            for name in each.fields.attributes:
                try:
                    snapshot.catalog.resolve(f"attributes.{name}")
                except UnknownFieldError as error:
                    raise RelevanceError(f"fields.attributes: {error}", field="fields") from error
        return settings
