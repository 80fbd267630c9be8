"""The synonyms of an opened engine: `engine.synonyms`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from retrieval.analysis import phrase_key
from retrieval.errors import SynonymError
from retrieval.synonyms import SynonymRule
from service.snapshot import Snapshot
from service.synonyms.proposal import Proposal, read_proposals
from service.synonyms.served import ServedSynonyms, rules_of
from service.synonyms.store import SynonymChange
from service.synonyms.synonym import Synonym


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
        known = _pairs((*self._snapshot().analyzer.synonyms.rules, *rules_of(tuple(kept))))
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
        self._served.look(self._snapshot())
        return revision


def _pairs(rules: Iterable[SynonymRule]) -> set[tuple[object, object]]:
    """Which phrase leads to which, as queries are expanded."""
    return {(phrase_key(rule.phrase), phrase_key(other)) for rule in rules for other in rule.others}
