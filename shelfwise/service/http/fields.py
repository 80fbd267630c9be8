"""Field selection: the parts of a product, or of a record of the InstantSearch protocol, to return in a response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from msgspec import to_builtins

from shelfwise.retrieval.filters.ast import Exists
from shelfwise.retrieval.filters.parser import resolve_field
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.records import Product

SelectedProduct = dict[str, Any]
"""The id of a product, and the fields that a request names."""
_OWN = frozenset(each.name for each in fields(Product))


def select_fields(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The named fields of a JSON object; `size.width` is a field of the object `size`, or has this exact name."""
    selection = {}
    for key, value in document.items():
        if any(key == name or key.startswith(f"{name}.") for name in names):
            selection[key] = value
            continue
        inner = [name.removeprefix(f"{key}.") for name in names if name.startswith(f"{key}.")]
        if inner and isinstance(value, Mapping) and (part := select_fields(value, inner)):
            selection[key] = part
    return selection


@dataclass(frozen=True, slots=True)
class ReturnedFields:
    """The fields of each product that a request names; empty for all."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], catalog: FieldCatalog) -> ReturnedFields:
        """Validates names; raises UnknownFieldError for one that is not a field, attribute or identifier of the
        catalog, or an object of attributes."""
        nested = {name.rpartition(".")[0] for name in catalog.fields if name.count(".") > 1}
        field_names = _OWN.union(catalog.fields, nested)
        return cls(tuple(resolve_field(Exists(name), field_names) for name in names))

    def select(self, product: Product) -> Product | SelectedProduct:
        """The selected fields of a product, and its id."""
        return select_fields(to_builtins(product, enc_hook=dict), ("id", *self.names)) if self.names else product
