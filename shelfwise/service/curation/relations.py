"""A store's corrections of relations between products: relations that it adds or removes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from shelfwise.retrieval.errors import RelationError
from shelfwise.retrieval.records import Relation, RelationEvidence, RelationKind
from shelfwise.service.curation.document_store import DocumentCodec, DocumentStore, check_text

_LONGEST_ID = 1_000


@dataclass(frozen=True, slots=True)
class RelationCorrection:
    """A relation that holds or does not hold, whatever a refresh finds: "product KIND other"."""

    kind: RelationKind
    product: str
    other: str
    removed: bool = False

    @property
    def id(self) -> str:
        """Id derived from the pair; for complements, equal in either order."""
        pair = (self.product, self.other)
        ordered = sorted(pair) if self.kind is RelationKind.COMPLEMENT else pair
        return shlex.join((str(self.kind), *ordered))

    def names(self, product: str) -> bool:
        """Whether it involves this product."""
        return product in (self.product, self.other)

    def seen_from(self, product: str) -> tuple[str, bool] | None:
        """The other product, and whether the relation is reversed; None if the product is not involved."""
        if product == self.product:
            return self.other, False
        if product != self.other or self.kind is RelationKind.SUBSTITUTE:
            return None
        return self.product, self.kind is not RelationKind.COMPLEMENT


def _check(correction: RelationCorrection, place: str) -> RelationCorrection:
    for field in ("product", "other"):
        check_text(f"{place}: {field}", getattr(correction, field), _LONGEST_ID, RelationError, must=True)
    if correction.product == correction.other:
        raise RelationError(f"{place}: other: is the product itself; name another one", field="other")
    return correction


def corrected(
    product: str, relations: Iterable[tuple[str, Relation]], corrections: Sequence[RelationCorrection]
) -> Iterator[tuple[str, Relation]]:
    """The relations of a product, first those that the store adds, without those that it removes."""
    own = [(each, seen) for each in corrections if (seen := each.seen_from(product))]
    known = {(each.kind, *seen) for each, seen in own}
    for each, (other, is_reverse) in own:
        if not each.removed:
            yield other, Relation(each.kind, RelationEvidence.OWNER, 1.0, reverse=is_reverse)
    for other, relation in relations:
        if (relation.kind, other, relation.reverse) not in known:
            yield other, relation


def removed_from(product: str, corrections: Sequence[RelationCorrection]) -> frozenset[str]:
    """The products whose relation with a product the store removes; related types do not add them again."""
    pairs = ((each, each.seen_from(product)) for each in corrections if each.removed)
    return frozenset(seen[0] for _, seen in pairs if seen)


class RelationStore(DocumentStore[RelationCorrection]):
    """The corrections of an index directory and their changes (INDEX/relations.sqlite); its errors are
    RelationError."""

    kind = DocumentCodec(
        one="relation",
        many="relations",
        entry=RelationCorrection,
        application=0x53575245,
        error=RelationError,
        check=_check,
        to_plain=lambda correction: {"id": correction.id, **msgspec.to_builtins(correction)},
    )
