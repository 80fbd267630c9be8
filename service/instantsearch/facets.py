"""Facets of an answer under the names that were asked for, and searching among the values of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from retrieval.filters import value_text
from retrieval.records import Facet
from service.highlighting.marking import Marks, marked
from service.instantsearch.answer import FacetHit, Range
from service.instantsearch.attributes import Attribute, Attributes
from service.searching import MOST_FACET_VALUES
from service.suggesting.typed import Typed


@dataclass(frozen=True, slots=True)
class AskedFacets:
    """The facets of one search by the names that its request has for them; those that no product has are left out."""

    attributes: Mapping[str, Attribute]
    most: int
    """Values of each."""

    @classmethod
    def of(cls, names: Sequence[str], most: int, attributes: Attributes) -> AskedFacets:
        """`names` as they were sent; "*" stands for all that are worth a filter."""
        listed = [*attributes.offered, *names] if "*" in names else names
        found = {name: attribute for name in listed if (attribute := attributes.find(name))}
        return cls(found, most)

    @property
    def fields(self) -> tuple[str, ...]:
        """What the engine counts, each once."""
        return tuple(sorted({each.info.name for each in self.attributes.values()}))

    @property
    def values(self) -> int:
        """How many values of each field: of one level of the categories others may come first."""
        by_level = any(each.level is not None for each in self.attributes.values())
        return MOST_FACET_VALUES if by_level else self.most

    def counts(self, facets: Mapping[str, Facet]) -> dict[str, dict[str, int]]:
        """Of each facet its values with their counts, most frequent first; those without a value are left out."""
        found = {name: dict(islice(self._pairs(name, facets), self.most)) for name in self.attributes}
        return {name: counts for name, counts in found.items() if counts}

    def ranges(self, facets: Mapping[str, Facet]) -> dict[str, Range]:
        """What the numeric ones reach over."""
        found = {name: facets[each.info.name] for name, each in self.attributes.items() if each.info.name in facets}
        return {
            name: Range(facet.minimum, facet.maximum)
            for name, facet in found.items()
            if facet.minimum is not None and facet.maximum is not None
        }

    def hits(self, facets: Mapping[str, Facet], typed: str, most: int, marks: Marks) -> list[FacetHit]:
        """The values of all facets that have the words that were typed, the last of which may go on."""
        wanted = Typed(typed)
        if wanted.is_too_long or (typed.strip() and not wanted.words):
            return []
        pairs = (pair for name in self.attributes for pair in self._pairs(name, facets))
        found = (_facet_hit(value, count, wanted, marks) for value, count in pairs)
        return list(islice((each for each in found if each), most))

    def _pairs(self, name: str, facets: Mapping[str, Facet]) -> Iterator[tuple[str, int]]:
        attribute = self.attributes[name]
        counts = facets[attribute.info.name].counts if attribute.info.name in facets else ()
        for each in counts:
            value = value_text(each.value)
            if attribute.has(value):
                yield value, each.count


def _facet_hit(value: str, count: int, typed: Typed, marks: Marks) -> FacetHit | None:
    spans = typed.spans_in(value) if typed.words else ()
    if spans is None:
        return None
    return FacetHit(value, marked(value, spans, marks), count)
