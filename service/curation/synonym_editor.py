"""The synonyms of an opened engine: `engine.synonyms`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.errors import ShelfwiseError, StoreDamagedError, SynonymError
from retrieval.text.analysis import Analyzer, phrase_key
from retrieval.text.synonyms import SynonymRule, Synonyms
from service.curation.synonym_mining import Proposal, read_proposals
from service.curation.synonyms import StoredSynonyms, Synonym, SynonymChange, SynonymStore
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
        return self._served.store.read().synonyms

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


# An engine's way to its synonyms: read when they were changed, and laid over the version that serves.
#
# A version keeps the synonyms that it was built with, which are part of its identity; those of the store come on top,
# in the queries of an engine alone.

_SETTLED_SECONDS = 1.0
"""After which a file that is changed again has another time of change for certain."""


@dataclass(frozen=True, slots=True)
class _Laid:
    """The store's rules, and what they make of a version's analyzer."""

    rules: tuple[SynonymRule, ...] = ()
    base: Analyzer | None = None
    analyzer: Analyzer | None = None


class ServedSynonyms:
    """The synonyms of an index directory as searches follow them. Thread-safe."""

    def __init__(self, root: Path, *, follow: bool = True) -> None:
        """Without `follow` searches go by the version's own alone."""
        self.store = SynonymStore(root)
        self._follow = follow
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._revision = self._file = 0
        """Up to where they were read, from which file, by its inode."""
        self._laid = _Laid()
        self._now: tuple[Snapshot, _Laid, Snapshot] | None = None
        """The version last asked for, under which rules, and what they made of it."""
        self.notices: tuple[str, ...] = ()
        """Why searches do not go by the newest synonyms, if they do not."""

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Takes up what was changed since the last look. Where that fails the synonyms stay, and `notices` says why."""
        if not self._follow:
            return
        stamp = self.store.stamp()
        if stamp != self._seen or self._laid.base is not snapshot.analyzer:
            with self._lock:
                self._read(stamp, snapshot.analyzer)

    def over(self, snapshot: Snapshot) -> Snapshot:
        """A version with the store's synonyms beside its own: the same object each time, while nothing changes."""
        now, laid = self._now, self._laid
        if now and now[0] is snapshot and now[1] is laid:
            return now[2]
        if laid.base is not snapshot.analyzer:
            with self._lock:
                laid = self._laid
                if laid.base is not snapshot.analyzer:
                    laid = self._laid = _laid(laid.rules, snapshot.analyzer)
        made = replace(snapshot, analyzer=laid.analyzer) if laid.rules and laid.analyzer else snapshot
        self._now = (snapshot, laid, made)
        return made

    def _read(self, stamp: tuple[int, int, int], base: Analyzer) -> None:
        """Under the lock. Searches go on by what was laid before, meanwhile."""
        if self._laid.base is not base:
            self._laid = _laid(self._laid.rules, base)
        try:
            # Another file may have come in its place, from a backup, with as many revisions.
            if self.store.revision() != self._revision or stamp[1] != self._file:
                self._take(self.store.read(), stamp[1], base)
        except ShelfwiseError as error:
            self.notices = (f"changes of the synonyms are not taken up: {error}",)
            return
        self.notices = ()
        # Two changes may share one time of change: what changed just now is looked at again.
        self._seen = stamp if time.time() - stamp[0] / 1e9 > _SETTLED_SECONDS else None

    def _take(self, read: StoredSynonyms, file: int, base: Analyzer) -> None:
        if file and self._revision and not read.revision:
            # Cut off, or just being made anew; to have no synonyms any more, one deletes them, or the file.
            raise StoreDamagedError(f"{self.store.path} is empty; restore it from a backup, or remove it")
        self._laid = _laid(expansion_rules(read.synonyms), base)
        self._revision, self._file = read.revision, file


def expansion_rules(synonyms: Sequence[Synonym]) -> tuple[SynonymRule, ...]:
    """What the synonyms that are on say, in their order."""
    return tuple(rule for synonym in synonyms if synonym.enabled for rule in synonym.rules)


def _laid(rules: tuple[SynonymRule, ...], base: Analyzer) -> _Laid:
    return _Laid(rules, base, Analyzer(Synonyms((*base.synonyms.rules, *rules))) if rules else base)
