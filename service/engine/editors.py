"""Rules, synonyms and relevance settings of an engine: followed by searches, read and changed as `engine.rules`,
`engine.synonyms` and `engine.relevance`."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from retrieval.errors import ClusterError, RelevanceError, RuleError, SynonymError, UnknownFieldError
from retrieval.filters.schema import FieldCatalog
from retrieval.index.keyword import Selection
from retrieval.records import ExposureGoal, Page
from retrieval.store.products import FieldWeights
from retrieval.text.analysis import Analyzer, phrase_key
from retrieval.text.synonyms import SynonymRule, Synonyms
from service.curation.document_store import (
    Change,
    DelayedCounts,
    DocumentStore,
    EditableStore,
    Entry,
    StoredDocuments,
    day_of,
    wall_clock,
)
from service.curation.exposure import (
    NOT_COUNTED,
    ExposureState,
    ExposureStates,
    ExposureStore,
    attention,
    cost_command,
    goals_of,
)
from service.curation.relevance import (
    DEFAULT_RELEVANCE,
    LIMITS,
    CandidateLimits,
    Relevance,
    RelevanceChange,
    RelevanceStore,
    validate_relevance,
)
from service.curation.rule_matching import CompiledRules
from service.curation.rules import Rule, RuleChange, RuleStore, validate_rule
from service.curation.synonym_mining import Proposal, read_proposals
from service.curation.synonyms import Synonym, SynonymChange, SynonymStore
from service.engine.hot_reload import ReloadedFile
from service.engine.reranking import SignalOrder
from service.engine.snapshot import Snapshot


def follow_documents(store: DocumentStore[Entry, Change]) -> ReloadedFile[StoredDocuments[Entry]]:
    """The documents of a store, as they change."""
    failure = f"changes of the {store.kind.many} are not loaded"
    return ReloadedFile(store.path, store.reload, StoredDocuments(), failure, keeps_value=True)


Compiled = TypeVar("Compiled")


class ServedDocuments(Generic[Entry, Change, Compiled]):
    """Documents of an index directory, reloaded when they change and compiled for the version that serves.
    Thread-safe."""

    def __init__(
        self,
        store: DocumentStore[Entry, Change],
        compile_documents: Callable[[Sequence[Entry], Snapshot], Compiled],
        notices_of: Callable[[Compiled], Sequence[str]],
    ) -> None:
        self._compile_documents = compile_documents
        self._notices_of = notices_of
        self._stored = follow_documents(store)
        self._lock = threading.Lock()
        self._current: tuple[FieldCatalog, Compiled] | None = None
        """The catalog that documents were last compiled for, and the result."""
        self._compiled_from: StoredDocuments[Entry] = self._stored.value
        self._key: object = None

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why documents are ignored, or why they are not the newest."""
        current = self._current
        return (*self._stored.notices, *(self._notices_of(current[1]) if current else ()))

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads and compiles changed documents. Where that fails they stay, and `notices` gives the reason."""
        self._stored.reload_if_changed()
        if self._compiled_from is not self._stored.value:
            with self._lock:
                self._compile(snapshot)

    def compiled(self, snapshot: Snapshot) -> Compiled:
        """The documents for searches of a snapshot."""
        current = self._current
        if current and current[0] is snapshot.catalog:
            return current[1]
        with self._lock:
            return self._compile(snapshot)

    def _compile(self, snapshot: Snapshot) -> Compiled:
        """Searches use the previous documents meanwhile. Live changes add fields, and kinds to them."""
        current, stored = self._current, self._stored.value
        kinds = {name: info.kinds for name, info in snapshot.catalog.fields.items()}
        key = (snapshot.manifest.version, kinds, stored.revision, stored.file)
        compiled = current[1] if current and key == self._key else self._compile_documents(stored.documents, snapshot)
        self._current, self._key, self._compiled_from = (snapshot.catalog, compiled), key, stored
        return compiled


class ServedExposure:
    """The control of the exposure goals of an index directory: what searches counted, in this process and in the others
    that serve the directory. Thread-safe."""

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = wall_clock) -> None:
        store, self._clock = ExposureStore(root), clock
        failure = "the exposure of products is not the newest"
        nothing: ExposureStates = {}
        self._stored = ReloadedFile(store.path, lambda _: store.read(), nothing, failure, keeps_value=True)
        self._counts: DelayedCounts[ExposureGoal, ExposureState] = DelayedCounts(
            store.add, operator.add, "exposure is not counted", clock
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why states are not the newest, or not stored."""
        return (*self._stored.notices, *self._counts.notices)

    def state(self, goal: ExposureGoal) -> ExposureState:
        """The state of a goal now."""
        stored = self._stored.value.get((goal.rule, goal.filters), NOT_COUNTED)
        waiting = self._counts.waiting(goal)
        return (stored + waiting if waiting else stored).within(goal).on(day_of(self._clock()))

    def count(self, page: Page, positions: Sequence[int] = ()) -> None:
        """Counts a page that a shopper was shown, its hits at `positions`, by default those on the page."""
        day = day_of(self._clock())
        for goal, own, total in attention(page, positions):
            if total:
                self._counts.add(goal, self.state(goal).step(goal, day, own, total))

    def reload_if_changed(self) -> None:
        """Stores what was counted, about once a second, and follows what others stored."""
        self._counts.write_if_due(self._stored.reload_if_changed)
        self._stored.reload_if_changed()

    def write(self) -> None:
        """Stores what was counted."""
        self._counts.write()


class ServedRules(ServedDocuments[Rule, RuleChange, CompiledRules | None]):
    """The rules of an index directory; compiled they are None where there are none."""

    def __init__(self, root: Path) -> None:
        self.store, self.exposure = RuleStore(root), ServedExposure(root)
        compile_all = partial(compile_rules, state_of=self.exposure.state)
        super().__init__(self.store, compile_all, lambda compiled: compiled.notices if compiled else ())
        self._typed: tuple[Snapshot, CompiledRules | None, Snapshot] | None = None
        """The version that rules last gave types to, the rules, and the version with these types."""

    def typed(self, snapshot: Snapshot) -> Snapshot:
        """A version whose products have the types that rules give them; the same object while nothing changes. While
        the cluster does not answer, they have their own."""
        typed, rules = self._typed, self.compiled(snapshot)
        if typed and typed[0] is snapshot and typed[1] is rules:
            return typed[2]
        try:
            found = with_given_types(snapshot, rules)
        except ClusterError:
            return snapshot
        self._typed = (snapshot, rules, found)
        return found


def compile_rules(
    rules: Sequence[Rule], snapshot: Snapshot, state_of: Callable[[ExposureGoal], ExposureState] = lambda _: NOT_COUNTED
) -> CompiledRules | None:
    """Rules compiled for a snapshot's version, with the states of their exposure goals; None where there are none."""
    return CompiledRules(rules, snapshot.catalog, snapshot.analyzer, state_of) if rules else None


def with_given_types(snapshot: Snapshot, rules: CompiledRules | None) -> Snapshot:
    """A version whose products have the types that rules give them. Raises ClusterError where its cluster fails."""
    if rules is None or not rules.types:
        return snapshot
    names: dict[int, str] = {}
    for each in reversed(rules.types):
        rows = snapshot.keyword.select(Selection(where=each.condition, everything=True))
        names |= dict.fromkeys(rows.tolist(), each.name)
    return replace(snapshot, types=snapshot.types.with_given(names))


class DocumentEditor(Generic[Entry, Change]):
    """Reads and changes the rules or synonyms of an engine's index; searches of this engine follow a change when its
    method returns, those of others within a second."""

    def __init__(
        self,
        store: EditableStore[Entry, Change],
        reload_if_changed: Callable[[Snapshot], None],
        snapshot: Callable[[], Snapshot],
    ) -> None:
        self._store = store
        self._reload_if_changed = reload_if_changed
        self._snapshot = snapshot

    @property
    def revision(self) -> int:
        """The number of the last change, 0 before the first."""
        return self._store.revision()

    def list(self) -> tuple[Entry, ...]:
        """All of the store, in the order of their ids, without the synonyms that the version was built with."""
        return self._store.read().documents

    def get(self, document_id: str, /) -> Entry:
        """One of them; raises RuleError or SynonymError where there is none of this id."""
        return self._store.get(document_id)

    def put(self, documents: Iterable[Entry], /, *, gone: Iterable[str] = (), who: str = "") -> int:
        """Adds documents, or replaces those of the same id, and takes away other ones of the ids `gone`, durably, all
        or none of it; returns the revision. `who` is written down beside the change. Raises RuleError or SynonymError
        for one that cannot be taken, or a rule that cannot be used with this catalog."""
        return self._followed(self._store.put(list(documents), gone=gone, who=who))

    def delete(self, ids: Iterable[str], *, who: str = "") -> int:
        """Takes documents away; returns the revision. Where one is not there, all stay, and RuleError or SynonymError
        is raised."""
        if isinstance(ids, str):
            kind = self._store.kind
            raise kind.error(f"ids must be a list of {kind.many}' ids, such as [{ids!r}]", field="ids")
        return self._followed(self._store.delete(ids, who=who))

    def history(self, document_id: str | None = None, /, limit: int = 100) -> Sequence[Change]:
        """The last changes, of one document or of all, newest first."""
        return self._store.history(document_id, limit)

    def _followed(self, revision: int) -> int:
        self._reload_if_changed(self._snapshot())
        return revision


@dataclass(frozen=True, slots=True)
class RuleExposure:
    """How far an exposure goal of a rule is reached today."""

    rule: str
    filters: str
    at_least: float | None
    at_most: float | None
    share: float
    """Of the attention of today's searches that the rule applied to and that were recorded; 0 before the first."""
    searches: int
    """Their number."""
    strength: float = 0.0
    """By which the next search moves the products, in standard deviations of the scores of the best hits."""
    cost_command: str = ""
    """Prints what the goal costs in nDCG@10, on a file of judgments."""


class EngineRules(DocumentEditor[Rule, RuleChange]):
    """The rules of an engine's index.

    >>> engine.rules.put([Rule("sale", (Boost("brand = Bosch"),), When("drill", Match.CONTAINS))], who="m7")
    >>> engine.rules.preview("cordless drill", delete=["sale"]).moved
    """

    def __init__(self, served: ServedRules, snapshot: Callable[[], Snapshot], search: Callable[..., Page]) -> None:
        """`search` is `SearchEngine.search`."""
        super().__init__(served.store, served.reload_if_changed, snapshot)
        self._served = served
        self._search = search
        self._root = served.store.path.parent

    @property
    def faults(self) -> Mapping[str, str]:
        """Why a rule cannot be used with the version that serves, by its id: it is passed over."""
        compiled = self._served.compiled(self._snapshot())
        return compiled.faults if compiled else {}

    @property
    def exposure(self) -> ServedExposure:
        """The control of the rules' exposure goals."""
        return self._served.exposure

    def exposure_goals(self) -> list[RuleExposure]:
        """How far the exposure goals of the rules are reached today."""
        found = []
        for goal in goals_of(self.list()):
            state, command = self.exposure.state(goal), cost_command(self._root, goal)
            today = RuleExposure(goal.rule, goal.filters, goal.at_least, goal.at_most, state.share, state.searches)
            found.append(replace(today, strength=state.strength, cost_command=command))
        return found

    def put(self, documents: Iterable[Rule], /, *, gone: Iterable[str] = (), who: str = "") -> int:
        checked = _several(documents)
        self._check_usable(checked)
        return super().put(checked, gone=gone, who=who)

    def patch(self, rule_id: str, values: Mapping[str, object], *, who: str = "") -> int:
        """Replaces some fields of a rule, as JSON names them: `{"enabled": False}`; returns the revision."""
        return self._followed(self._served.store.patch(rule_id, values, who=who))

    def restore(self, revision: int, *, who: str = "") -> int:
        """Makes all rules what they were after a revision; returns the number of this change."""
        return self._followed(self._served.store.restore(revision, who=who))

    def preview(self, text: str, put: Iterable[Rule] = (), *, delete: Iterable[str] = (), **options: object) -> Preview:
        """What a search would give if rules were put and deleted, beside what it gives; nothing is changed.

        `options` are those of `SearchEngine.search`: `size`, `page`, `filters`, `sort` and the like. Raises RuleError
        as `put` and `delete` would.
        """
        self._served.reload_if_changed(self._snapshot())
        put, gone, there = _several(put), list(delete), {rule.id: rule for rule in self.list()}
        self._check_usable(put)
        for each in gone:
            if each not in there:
                self.get(each)
        kept = {name: rule for name, rule in there.items() if name not in gone}
        changed = kept | {rule.id: rule for rule in put}
        after = self._search(text, rules=tuple(changed.values()), **options)
        return compare_pages(self._search(text, **options), after)

    def _check_usable(self, rules: Sequence[Rule]) -> None:
        compiled = compile_rules(rules, self._snapshot())
        for rule_id, fault in compiled.faults.items() if compiled else ():
            raise RuleError(fault, rule_id)


def _several(rules: Iterable[Rule]) -> Sequence[Rule]:
    if isinstance(rules, Rule):
        raise RuleError("rules must be a list of rules, such as [rule]", rules.id)
    return [validate_rule(rule) for rule in rules]


@dataclass(frozen=True, slots=True)
class HitMove:
    """A product that is on both pages at another place, or on one of them."""

    product: str
    title: str
    before: int | None
    """Its place over all pages, from 1; None where it is not on the page."""
    after: int | None
    rule: str
    """The rule that moved it, if one says so."""
    product_type: str
    """The type of the product after the change; of one that goes, before."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One page of a search by the rules that are, and by those that would be. Nothing was changed."""

    before: Page
    after: Page
    gained: tuple[HitMove, ...]
    """Products that would come onto the page, in their order."""
    lost: tuple[HitMove, ...]
    """Products that would go from it, in the order in which they stand."""
    moved: tuple[HitMove, ...]
    """Products that would stay, at another place; those between that only make room are among them."""


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


class EngineSynonyms(DocumentEditor[Synonym, SynonymChange]):
    """The synonyms of an engine's index; an engine that was opened with `follow=False` never follows a change.

    >>> engine.synonyms.put([Synonym("sofa", Kind.TWO_WAY, ("sofa", "couch"))], who="m7")
    >>> engine.synonyms.accept(engine.synonyms.proposals()[0].id, who="m7")
    """

    def __init__(self, served: ServedSynonyms, root: Path, snapshot: Callable[[], Snapshot]) -> None:
        """`snapshot` gives the version that serves, without the store's synonyms."""
        super().__init__(served.store, served.reload_if_changed, snapshot)
        self._declinable = served.store
        self._root = root

    def put(self, documents: Iterable[Synonym], /, *, gone: Iterable[str] = (), who: str = "") -> int:
        if isinstance(documents, Synonym):
            raise SynonymError("synonyms must be a list of them, such as [synonym]", documents.id)
        return super().put(documents, gone=gone, who=who)

    def proposals(self) -> tuple[Proposal, ...]:
        """What shoppers' queries propose, the strongest first, without what was declined and what is a synonym
        already; nothing before the tables of events are made."""
        declined = self._declinable.declined()
        kept = (rule for each in self.list() for rule in each.rules)
        known = _pairs((*self._snapshot().analyzer.synonyms.rules, *kept))
        return tuple(
            each
            for each in read_proposals(self._root)
            if each.id not in declined and not _pairs(each.synonym.rules) <= known
        )

    def accept(self, proposal_id: str, *, who: str = "") -> Synonym:
        """Keeps what is proposed; returns it. Raises SynonymError where there is no such proposal."""
        synonym = self._proposal(proposal_id).synonym
        self.put([synonym], who=who)
        return synonym

    def decline(self, proposal_id: str, *, who: str = "") -> None:
        """Has a proposal never come back; raises SynonymError where there is none of this id."""
        self._declinable.decline(self._proposal(proposal_id).id, who=who)

    def _proposal(self, proposal_id: str) -> Proposal:
        for each in read_proposals(self._root):
            if each.id == proposal_id:
                return each
        message = f"there is no proposal {proposal_id[:100]!r}; shelfwise synonyms proposals shows those that are"
        raise SynonymError(message, field="id")


def _pairs(rules: Iterable[SynonymRule]) -> set[tuple[object, object]]:
    """Which phrase leads to which, as queries are expanded."""
    return {(phrase_key(rule.phrase), phrase_key(other)) for rule in rules for other in rule.others}


@dataclass(frozen=True, slots=True)
class _Expansion:
    """The analyzer that the store's synonyms make of a version's own."""

    stored: StoredDocuments[Synonym]
    base: Analyzer
    analyzer: Analyzer

    @property
    def has_rules(self) -> bool:
        return self.analyzer is not self.base


class ServedSynonyms:
    """The synonyms of an index directory, reloaded when they change and added to those of the version that serves.
    Thread-safe.

    The synonyms of a version are part of its identity; those of the store expand only the queries of an engine.
    """

    def __init__(self, root: Path, *, follow: bool = True) -> None:
        """Without `follow` searches use only the version's own synonyms."""
        self.store = SynonymStore(root)
        self._follow = follow
        self._stored = follow_documents(self.store)
        self._lock = threading.Lock()
        plain = Analyzer()
        self._expansion = _Expansion(self._stored.value, plain, plain)
        self._current: tuple[Snapshot, _Expansion, Snapshot] | None = None
        """The version last expanded, the expansion, and the expanded version."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why searches do not use the newest synonyms."""
        return self._stored.notices

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads changed synonyms. Where that fails the synonyms stay, and `notices` gives the reason."""
        if self._follow:
            self._stored.reload_if_changed()
            self._expand(snapshot.analyzer, self._stored.value)

    def over(self, snapshot: Snapshot) -> Snapshot:
        """A version with the store's synonyms and its own; the same object while nothing changes."""
        current, expansion = self._current, self._expansion
        if current and current[0] is snapshot and current[1] is expansion:
            return current[2]
        expansion = self._expand(snapshot.analyzer)
        expanded = replace(snapshot, analyzer=expansion.analyzer) if expansion.has_rules else snapshot
        self._current = (snapshot, expansion, expanded)
        return expanded

    def _expand(self, base: Analyzer, stored: StoredDocuments[Synonym] | None = None) -> _Expansion:
        """The expansion of a version's analyzer by `stored` synonyms, by default those of the last expansion."""
        with self._lock:
            stored = stored or self._expansion.stored
            if self._expansion.stored is not stored or self._expansion.base is not base:
                rules = [rule for synonym in stored.documents if synonym.enabled for rule in synonym.rules]
                analyzer = Analyzer(Synonyms((*base.synonyms.rules, *rules))) if rules else base
                self._expansion = _Expansion(stored, base, analyzer)
            return self._expansion


@dataclass(frozen=True, slots=True)
class CompiledRelevance:
    """Relevance settings, ready for the searches of one version."""

    settings: Relevance = DEFAULT_RELEVANCE
    limits: CandidateLimits = LIMITS
    signals: SignalOrder | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    """Why a signal cannot be used with the version, by its field: it is passed over."""

    @property
    def notices(self) -> tuple[str, ...]:
        """A line for each fault."""
        return tuple(f"passed over: signal {name!r}: {fault}" for name, fault in self.faults.items())


def compile_relevance(relevance: Relevance, snapshot: Snapshot) -> CompiledRelevance:
    """Settings compiled for a snapshot's version."""
    if relevance == DEFAULT_RELEVANCE:
        return CompiledRelevance()
    usable, faults = [], {}
    for signal in relevance.signals:
        try:
            snapshot.catalog.resolve_sortable(signal.field)
            usable.append(signal)
        except UnknownFieldError as error:
            faults[signal.field] = str(error).removeprefix("sort: ")
    limits = CandidateLimits(margin=relevance.margin, cutoff=relevance.cutoff)
    return CompiledRelevance(relevance, limits, SignalOrder(usable, snapshot) if usable else None, faults)


class ServedRelevance(ServedDocuments[Relevance, RelevanceChange, CompiledRelevance]):
    """The relevance settings of an index directory."""

    def __init__(self, root: Path) -> None:
        self.store = RelevanceStore(root)

        def compile_one(documents: Sequence[Relevance], snapshot: Snapshot) -> CompiledRelevance:
            return compile_relevance(documents[0] if documents else DEFAULT_RELEVANCE, snapshot)

        super().__init__(self.store, compile_one, lambda compiled: compiled.notices)


class EngineRelevance:
    """The relevance settings of an engine's index; searches of this engine follow a change when its method returns,
    those of others within a second.

    >>> engine.relevance.preview("cordless drill", Relevance(signals=(Signal("rating"),))).moved
    >>> engine.relevance.put(Relevance(signals=(Signal("rating"),)), who="m7")
    """

    def __init__(self, served: ServedRelevance, snapshot: Callable[[], Snapshot], search: Callable[..., Page]) -> None:
        """`search` is `SearchEngine.search`."""
        self._served = served
        self._snapshot = snapshot
        self._search = search

    @property
    def revision(self) -> int:
        """The number of the last change, 0 before the first."""
        return self._served.store.revision()

    @property
    def faults(self) -> Mapping[str, str]:
        """Why a signal cannot be used with the version that serves, by its field: it is passed over."""
        return self._served.compiled(self._snapshot()).faults

    @property
    def weights_in_effect(self) -> FieldWeights:
        """The field weights that the version which serves was built with; others wait for the next rebuild."""
        return self._snapshot().manifest.weights

    @property
    def served(self) -> Relevance:
        """The settings that searches of this engine follow."""
        return self._served.compiled(self._snapshot()).settings

    def get(self) -> Relevance:
        """The settings that are stored, or the default ones."""
        return self._served.store.current()

    def put(self, relevance: Relevance, *, who: str = "") -> int:
        """Replaces the settings, durably; returns the revision. `who` is written down beside the change. Raises
        RelevanceError for what cannot be used with this catalog."""
        return self._followed(self._served.store.put([self._checked(relevance)], who=who))

    def history(self, limit: int = 100) -> Sequence[RelevanceChange]:
        """The last changes, newest first."""
        return self._served.store.history(limit=limit)

    def restore(self, revision: int, *, who: str = "") -> int:
        """Makes the settings what they were after a revision (0: the default ones); returns the number of this
        change."""
        return self._followed(self._served.store.restore(revision, who=who))

    def preview(self, text: str, relevance: Relevance, **options: object) -> Preview:
        """What a search would give by other settings, beside what it gives; nothing is changed.

        `options` are those of `SearchEngine.search`: `size`, `page`, `filters` and the like. Raises RelevanceError as
        `put` would.
        """
        checked = self._checked(relevance)
        self._served.reload_if_changed(self._snapshot())
        after = self._search(text, relevance=checked, **options)
        return compare_pages(self._search(text, **options), after)

    def _checked(self, relevance: Relevance) -> Relevance:
        checked = validate_relevance(relevance)
        snapshot = self._snapshot()
        for fault in compile_relevance(checked, snapshot).faults.values():
            raise RelevanceError(f"signals: {fault}", field="signals")
        for name in checked.fields.attributes:
            try:
                snapshot.catalog.resolve(f"attributes.{name}")
            except UnknownFieldError as error:
                raise RelevanceError(f"fields.attributes: {error}", field="fields") from error
        return checked

    def _followed(self, revision: int) -> int:
        self._served.reload_if_changed(self._snapshot())
        return revision
