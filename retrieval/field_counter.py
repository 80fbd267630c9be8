"""Counts the fields of a catalog while it is read: which there are, of which kinds, in how many products."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from types import MappingProxyType

from retrieval.fields import CORE_KINDS, LONGEST_VALUE, FieldCatalog, FieldInfo, Kind, attribute_kinds, fold
from retrieval.records import Product

_Shape = tuple[tuple[bool, ...], str, tuple[str, ...], tuple[tuple[str, Kind], ...]]
_MOST_SHAPES = 4_096


class FieldCounter:
    """Counts the fields of a catalog while it is read; counters over parts of it add up to one over all."""

    def __init__(self) -> None:
        self._kinds: Counter[tuple[str, Kind]] = Counter()
        self._products: Counter[str] = Counter()
        self._roots: Counter[str] = Counter()
        self._shapes: Counter[_Shape] = Counter()
        """Products by the fields that they have: far fewer than products, and counted together."""

    def add(self, product: Product) -> None:
        """Takes one more product into account."""
        self._shapes[_shape(product)] += 1
        if len(self._shapes) > _MOST_SHAPES:
            self._count_shapes()

    def remove(self, product: Product) -> None:
        """Takes a product that was added out of account."""
        self._shapes[_shape(product)] -= 1

    def _count_shapes(self) -> None:
        for (core, root, identifiers, attributes), count in self._shapes.items():
            pairs = {pair for pair, is_there in zip(_CORE_PAIRS, core, strict=True) if is_there}
            pairs.update((f"identifiers.{name}", Kind.TEXT) for name in identifiers)
            pairs.update((f"attributes.{name}", kind) for name, kind in attributes)
            for pair in pairs:
                self._kinds[pair] += count
            for name in {name for name, _ in pairs}:
                self._products[name] += count
            self._roots[root] += count
        self._shapes.clear()

    def merge(self, other: FieldCounter) -> None:
        """Takes what another one counted into account."""
        other._count_shapes()
        self._kinds.update(other._kinds)
        self._products.update(other._products)
        self._roots.update(other._roots)

    def __getstate__(self) -> dict[str, object]:
        self._count_shapes()
        return self.__dict__

    def catalog(
        self, before: FieldCatalog | None = None, spelling: Mapping[str, str] = MappingProxyType({})
    ) -> FieldCatalog:
        """What was counted, fields in the order of their names; those that `before` has keep their place there.

        `spelling` says how some category levels were spelled in the end.
        """
        self._count_shapes()
        kinds: dict[str, set[Kind]] = {name: {kind} for name, kind in CORE_KINDS.items()}
        for (name, kind), count in self._kinds.items():
            if count:
                kinds.setdefault(name, set()).add(kind)
        places = {name: info.place for name, info in before.fields.items()} if before else {}
        following = itertools.count(max(places.values(), default=-1) + 1)
        infos = {
            name: FieldInfo(
                name,
                frozenset(kinds[name]),
                self._products[name],
                places[name] if name in places else next(following),
            )
            for name in sorted(kinds)
        }
        roots = (spelling.get(root, root) for root, count in self._roots.items() if root and count)
        return FieldCatalog(infos, frozenset(map(fold, roots)))


def extended(catalog: FieldCatalog, products: Iterable[Product]) -> FieldCatalog:
    """A catalog with the fields that more products bring, behind those that it has; their counts stay."""
    counter = FieldCounter()
    for product in products:
        counter.add(product)
    grown = dict(catalog.fields)
    for name, info in counter.catalog(catalog).fields.items():
        known = catalog.fields.get(name)
        if known is None:
            grown[name] = info
        elif not info.kinds <= known.kinds:
            grown[name] = replace(known, kinds=known.kinds | info.kinds)
    return catalog if grown == catalog.fields else FieldCatalog(grown, catalog.category_roots)


def _shape(product: Product) -> _Shape:
    """Which fields `field_values` gives of a product, the widest category, and the kinds of the attributes."""
    attributes: list[tuple[str, Kind]] = []
    for name, value in product.attributes.items():
        kind = _OF_ONE_KIND.get(type(value))
        if kind:
            attributes.append((name, kind))
        elif isinstance(value, str):
            if 0 < len(value) <= LONGEST_VALUE:
                attributes.append((name, Kind.TEXT))
        else:
            attributes += dict.fromkeys((name, each) for each, _ in attribute_kinds(value))
    identifiers = product.identifiers
    return (
        tuple([value is not None and value not in _NOTHING for value in _core_values(product)]),
        product.category[0] if product.category else "",
        tuple(identifiers) if all(identifiers.values()) else tuple(name for name in identifiers if identifiers[name]),
        tuple(attributes),
    )


_core_values = attrgetter(*CORE_KINDS)
_CORE_PAIRS = tuple(CORE_KINDS.items())
_NOTHING = ("", ())
_OF_ONE_KIND: Mapping[type, Kind] = {bool: Kind.BOOLEAN, float: Kind.NUMBER, int: Kind.NUMBER}
