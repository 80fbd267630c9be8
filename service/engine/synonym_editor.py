"""Synonyms of an engine: followed by searches, read, changed and proposed as `engine.synonyms`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from retrieval.errors import SynonymError
from retrieval.text.analysis import Analyzer, phrase_key
from retrieval.text.synonyms import SynonymRule, Synonyms
from service.curation.document_store import StoredDocuments
from service.curation.synonym_mining import Proposal, read_proposals
from service.curation.synonyms import Synonym, SynonymChange, SynonymStore
from service.engine.hot_reload import Reloaded
from service.engine.snapshot import Snapshot


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
        self._stored: Reloaded[StoredDocuments[Synonym]] = Reloaded(
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
