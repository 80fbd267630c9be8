"""How proposals are judge_proposals by the demo store's grammar."""

from __future__ import annotations

from benchmarks.studies.suggestions import judge_proposals
from service.curation.synonym_mining import Proposal
from service.curation.synonyms import SynonymKind


def proposal(kind: SynonymKind, phrases: tuple[str, ...], to: tuple[str, ...] = ()) -> Proposal:
    return Proposal("", kind, phrases, to, 5, 0.0, 0.5, ())


def test_right_are_names_of_one_type_and_found_are_planted_ones_that_were_asked() -> None:
    proposals = [
        proposal(SynonymKind.ONE_WAY, ("Secateurs",), ("pruning shears",)),
        proposal(SynonymKind.TWO_WAY, ("blowdryer", "hair dryer")),
        proposal(SynonymKind.ONE_WAY, ("secateurs",), ("hair dryer",)),
    ]
    found = judge_proposals(proposals, ["secateurs", "hedge clippers", "hair dryer"])
    assert (found.proposals, found.right, found.wrong) == (3, 2, ("secateurs => hair dryer",))
    assert (found.planted, found.found) == (2, 1), "nobody asked for a blowdryer"
    assert (found.precision, found.recall) == (2 / 3, 1 / 2)


def test_without_proposals_none_is_wrong() -> None:
    found = judge_proposals([], ["secateurs"])
    assert (found.precision, found.recall, found.precision_at) == (1, 0, {})
