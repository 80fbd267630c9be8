"""Corrections of relations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import RelationError
from shelfwise.retrieval.records import Relation, RelationEvidence, RelationKind
from shelfwise.service.curation.relations import RelationCorrection, RelationStore, corrected, removed_from

FITS = Relation(RelationKind.FITS, RelationEvidence.ATTRIBUTES, 0.5)
BOUGHT = Relation(RelationKind.COMPLEMENT, RelationEvidence.SHOPPERS, 0.5, 9)


def test_id_of_a_correction_is_its_pair(tmp_path: Path) -> None:
    store = RelationStore(tmp_path)
    # The order of complements does not matter: this is one correction, changed.
    store.put([RelationCorrection(RelationKind.COMPLEMENT, "a", "b", removed=True)])
    store.put([RelationCorrection(RelationKind.COMPLEMENT, "b", "a")])
    assert [each.removed for each in store.read().documents] == [False]
    store.put([RelationCorrection(RelationKind.FITS, "a b", "c"), RelationCorrection(RelationKind.FITS, "a", "b c")])
    assert len(store.read().documents) == 3, "an id may have spaces"
    store.delete(["fits 'a b' c", "fits a 'b c'"])
    assert [each.id for each in store.read().documents] == ["complement a b"]
    with pytest.raises(RelationError, match="kind: is 'beside'; it must be one of"):
        store.put([RelationCorrection("beside", "a", "b")])  # type: ignore[arg-type]


def test_relations_are_added_and_removed_on_both_sides() -> None:
    added = RelationCorrection(RelationKind.FITS, "toner", "printer")
    removed = RelationCorrection(RelationKind.COMPLEMENT, "printer", "lamp", removed=True)
    found = [("lamp", BOUGHT), ("paper", BOUGHT)]
    owner = Relation(RelationKind.FITS, RelationEvidence.OWNER, 1.0, reverse=True)
    assert list(corrected("printer", found, [added, removed])) == [("toner", owner), ("paper", BOUGHT)]
    assert list(corrected("lamp", [("printer", BOUGHT)], [added, removed])) == []
    assert list(corrected("toner", [("printer", FITS)], [added])) == [("printer", replace(owner, reverse=False))]
    assert removed_from("printer", [added, removed]) == frozenset({"lamp"})
    assert removed_from("lamp", [removed]) == frozenset({"printer"})
