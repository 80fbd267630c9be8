"""Rules and synonyms of an engine: followed by searches, read and changed as `engine.rules` and `engine.synonyms`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from retrieval.errors import RuleError, SynonymError
from retrieval.filters.schema import FieldCatalog
from retrieval.records import Page
from retrieval.text.analysis import Analyzer, phrase_key
from retrieval.text.synonyms import SynonymRule, Synonyms
from service.curation.document_store import StoredDocuments
from service.curation.rule_matching import CompiledRules
from service.curation.rules import Rule, RuleChange, RuleStore, validate_rule
from service.curation.synonym_mining import Proposal, read_proposals
from service.curation.synonyms import Synonym, SynonymChange, SynonymStore
from service.engine.hot_reload import ReloadedFile
from service.engine.snapshot import Snapshot


class ServedRules:
    """The rules of an index directory, reloaded when they change and compiled for the version that serves.
    Thread-safe."""

    def __init__(self, root: Path) -> None:
        self.store = RuleStore(root)
        failure = "changes of the rules are not loaded"
        self._stored: ReloadedFile[StoredDocuments[Rule]] = ReloadedFile(
            self.store.path, self.store.reload, StoredDocuments(), failure, keeps_value=True
        )
        self._lock = threading.Lock()
        self._current: tuple[FieldCatalog, CompiledRules | None] | None = None
        """The catalog that rules were last compiled for, and the result."""
        self._compiled_from: StoredDocuments[Rule] = self._stored.value
        self._key: object = None

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why rules are ignored, or why the rules are not the newest."""
        current = self._current
        compiled = current[1] if current else None
        return (*self._stored.notices, *(compiled.notices if compiled else ()))

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads and compiles changed rules. Where that fails the rules stay, and `notices` gives the reason."""
        self._stored.reload_if_changed()
        if self._compiled_from is not self._stored.value:
            with self._lock:
                self._compile(snapshot)

    def compiled(self, snapshot: Snapshot) -> CompiledRules | None:
        """The rules for searches of a snapshot; None where there are none."""
        current = self._current
        if current and current[0] is snapshot.catalog:
            return current[1]
        with self._lock:
            return self._compile(snapshot)

    def _compile(self, snapshot: Snapshot) -> CompiledRules | None:
        """Searches use the previous rules meanwhile. Live changes add fields, and kinds to them."""
        current, stored = self._current, self._stored.value
        kinds = {name: info.kinds for name, info in snapshot.catalog.fields.items()}
        key = (snapshot.manifest.version, kinds, stored.revision, stored.file)
        compiled = current[1] if current and key == self._key else compile_rules(stored.documents, snapshot)
        self._current, self._key, self._compiled_from = (snapshot.catalog, compiled), key, stored
        return compiled


def compile_rules(rules: Sequence[Rule], snapshot: Snapshot) -> CompiledRules | None:
    """Rules compiled for a snapshot's version; None where there are none."""
    return CompiledRules(rules, snapshot.catalog, snapshot.analyzer) if rules else None


class EngineRules:
    """Reads and changes the rules of an engine's index; searches of this engine follow a change when its method
    returns, those of others within a second.

    >>> engine.rules.put([Rule("sale", (Boost("brand = Bosch"),), When("drill", Match.CONTAINS))], who="m7")
    >>> engine.rules.preview("cordless drill", delete=["sale"]).moved
    """

    def __init__(self, served: ServedRules, snapshot: Callable[[], Snapshot], search: Callable[..., Page]) -> None:
        """`search` is `SearchEngine.search`."""
        self._served = served
        self._snapshot = snapshot
        self._search = search

    @property
    def faults(self) -> Mapping[str, str]:
        """Why a rule cannot be used with the version that serves, by its id: it is passed over."""
        compiled = self._served.compiled(self._snapshot())
        return compiled.faults if compiled else {}

    @property
    def revision(self) -> int:
        """The number of the last change, 0 before the first."""
        return self._served.store.revision()

    def list(self) -> tuple[Rule, ...]:
        """All rules, in the order of their ids."""
        return self._served.store.read().documents

    def get(self, rule_id: str) -> Rule:
        """One rule; raises RuleError where there is none of this id."""
        return self._served.store.get(rule_id)

    def put(self, rules: Iterable[Rule], *, who: str = "") -> int:
        """Adds rules, or replaces those of the same id, durably, all or none of them; returns the revision. `who` is
        written down beside the change. Raises RuleError for a rule that cannot be taken, or used with this catalog."""
        checked = _several(rules)
        self._check_usable(checked)
        return self._followed(self._served.store.put(checked, who=who))

    def patch(self, rule_id: str, values: Mapping[str, object], *, who: str = "") -> int:
        """Replaces some fields of a rule, as JSON names them: `{"enabled": False}`; returns the revision."""
        return self._followed(self._served.store.patch(rule_id, values, who=who))

    def delete(self, ids: Iterable[str], *, who: str = "") -> int:
        """Takes rules away; returns the revision. Raises RuleError for an id that is not there: then all stay."""
        if isinstance(ids, str):
            raise RuleError(f"ids must be a list of rules' ids, such as [{ids!r}]", field="ids")
        return self._followed(self._served.store.delete(ids, who=who))

    def restore(self, revision: int, *, who: str = "") -> int:
        """Makes all rules what they were after a revision; returns the number of this change."""
        return self._followed(self._served.store.restore(revision, who=who))

    def history(self, rule_id: str | None = None, limit: int = 100) -> Sequence[RuleChange]:
        """The last changes, of one rule or of all, newest first."""
        return self._served.store.history(rule_id, limit)

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

    def _followed(self, revision: int) -> int:
        self._served.reload_if_changed(self._snapshot())
        return revision


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
    rules = {hit.product.id: hit.rule for page in (before, after) for hit in page.hits}
    titles = {hit.product.id: hit.product.title for page in (before, after) for hit in page.hits}

    def move(product: str) -> HitMove:
        return HitMove(product, titles[product], was.get(product), becomes.get(product), rules[product])

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


class EngineSynonyms:
    """Reads and changes the synonyms of an engine's index; searches of this engine follow a change when its method
    returns, those of others within a second, and those of one that was opened with `follow=False` never.

    >>> engine.synonyms.put([Synonym("sofa", Kind.TWO_WAY, ("sofa", "couch"))], who="m7")
    >>> engine.synonyms.accept(engine.synonyms.proposals()[0].id, who="m7")
    """

    def __init__(self, served: ServedSynonyms, root: Path, snapshot: Callable[[], Snapshot]) -> None:
        """`snapshot` gives the version that serves, without the store's synonyms."""
        self._served = served
        self._root = root
        self._snapshot = snapshot

    @property
    def revision(self) -> int:
        """The number of the last change, 0 before the first."""
        return self._served.store.revision()

    def list(self) -> tuple[Synonym, ...]:
        """All synonyms of the store, in the order of their ids; those that the version was built with are not among
        them."""
        return self._served.store.read().documents

    def get(self, synonym_id: str) -> Synonym:
        """One synonym; raises SynonymError where there is none of this id."""
        return self._served.store.get(synonym_id)

    def put(self, synonyms: Iterable[Synonym], *, who: str = "") -> int:
        """Adds synonyms, or replaces those of the same id, durably, all or none of them; returns the revision. `who` is
        written down beside the change. Raises SynonymError for one that cannot be taken."""
        if isinstance(synonyms, Synonym):
            raise SynonymError("synonyms must be a list of them, such as [synonym]", synonyms.id)
        return self._followed(self._served.store.put(list(synonyms), who=who))

    def delete(self, ids: Iterable[str], *, who: str = "") -> int:
        """Takes synonyms away; returns the revision. Raises SynonymError for an id that is not there: then all stay."""
        if isinstance(ids, str):
            raise SynonymError(f"ids must be a list of synonyms' ids, such as [{ids!r}]", field="ids")
        return self._followed(self._served.store.delete(ids, who=who))

    def history(self, synonym_id: str | None = None, limit: int = 100) -> Sequence[SynonymChange]:
        """The last changes, of one synonym or of all, newest first."""
        return self._served.store.history(synonym_id, limit)

    def proposals(self) -> tuple[Proposal, ...]:
        """What shoppers' queries propose, the strongest first, without what was declined and what is a synonym
        already; nothing before the tables of events are made."""
        declined = self._served.store.declined()
        kept = (replace(each, enabled=True) for each in self.list())
        known = _pairs((*self._snapshot().analyzer.synonyms.rules, *expansion_rules(tuple(kept))))
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
        self._served.store.decline(self._proposal(proposal_id).id, who=who)

    def _proposal(self, proposal_id: str) -> Proposal:
        for each in read_proposals(self._root):
            if each.id == proposal_id:
                return each
        message = f"there is no proposal {proposal_id[:100]!r}; shelfwise synonyms proposals shows those that are"
        raise SynonymError(message, field="id")

    def _followed(self, revision: int) -> int:
        self._served.reload_if_changed(self._snapshot())
        return revision


def _pairs(rules: Iterable[SynonymRule]) -> set[tuple[object, object]]:
    """Which phrase leads to which, as queries are expanded."""
    return {(phrase_key(rule.phrase), phrase_key(other)) for rule in rules for other in rule.others}


@dataclass(frozen=True, slots=True)
class _Expansion:
    """The store's synonym rules, and the analyzer that they make of a version's analyzer."""

    stored: StoredDocuments[Synonym] = field(default_factory=StoredDocuments)
    rules: tuple[SynonymRule, ...] = ()
    base: Analyzer | None = None
    analyzer: Analyzer | None = None


class ServedSynonyms:
    """The synonyms of an index directory, reloaded when they change and added to those of the version that serves.
    Thread-safe.

    The synonyms of a version are part of its identity; those of the store expand only the queries of an engine.
    """

    def __init__(self, root: Path, *, follow: bool = True) -> None:
        """Without `follow` searches use only the version's own synonyms."""
        self.store = SynonymStore(root)
        self._follow = follow
        self._stored: ReloadedFile[StoredDocuments[Synonym]] = ReloadedFile(
            self.store.path,
            self.store.reload,
            StoredDocuments(),
            "changes of the synonyms are not loaded",
            keeps_value=True,
        )
        self._lock = threading.Lock()
        self._expansion = _Expansion()
        self._current: tuple[Snapshot, _Expansion, Snapshot] | None = None
        """The version last expanded, the expansion, and the expanded version."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why searches do not use the newest synonyms."""
        return self._stored.notices

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads changed synonyms. Where that fails the synonyms stay, and `notices` gives the reason."""
        if not self._follow:
            return
        self._stored.reload_if_changed()
        if self._expansion.stored is not self._stored.value or self._expansion.base is not snapshot.analyzer:
            with self._lock:
                self._expansion = _expand(self._stored.value, snapshot.analyzer)

    def over(self, snapshot: Snapshot) -> Snapshot:
        """A version with the store's synonyms and its own; the same object while nothing changes."""
        current, expansion = self._current, self._expansion
        if current and current[0] is snapshot and current[1] is expansion:
            return current[2]
        if expansion.base is not snapshot.analyzer:
            with self._lock:
                expansion = self._expansion
                if expansion.base is not snapshot.analyzer:
                    expansion = self._expansion = _expand(expansion.stored, snapshot.analyzer)
        expanded = (
            replace(snapshot, analyzer=expansion.analyzer) if expansion.rules and expansion.analyzer else snapshot
        )
        self._current = (snapshot, expansion, expanded)
        return expanded


def expansion_rules(synonyms: Sequence[Synonym]) -> tuple[SynonymRule, ...]:
    """The rules of enabled synonyms, in their order."""
    return tuple(rule for synonym in synonyms if synonym.enabled for rule in synonym.rules)


def _expand(stored: StoredDocuments[Synonym], base: Analyzer) -> _Expansion:
    rules = expansion_rules(stored.documents)
    return _Expansion(stored, rules, base, Analyzer(Synonyms((*base.synonyms.rules, *rules))) if rules else base)
