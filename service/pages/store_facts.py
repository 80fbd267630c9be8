"""What the store page must know of a store before it asks anything: by which fields its products can be narrowed."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.fields import FieldCatalog, FieldInfo

_CORE = ("brand", "price", "availability")
_SORTS = ("price", "rating", "created")
_MOST_ATTRIBUTES = 3
_LEAST_SHARE = 0.05
"""Of the products: an attribute of fewer is no facet of the whole store."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a page is told of the store that it shows."""

    key: str
    """The public key that the page sends; empty where the service has none."""
    facets: tuple[str, ...]
    """The fields to count beside the category, in the order in which they are shown."""
    sorts: tuple[str, ...]
    """The fields that hits may be sorted by."""
    offers: tuple[str, ...]
    """What of the API is there that older services have not, such as "suggest"."""


def store_facts(catalog: FieldCatalog, products: int, *, key: str, offers: tuple[str, ...]) -> StoreFacts:
    """The facts of a catalog of so many products: the texts that most of them have are its facets."""

    def is_used(name: str) -> bool:
        return name in catalog.fields and catalog.fields[name].products > 0

    attributes = sorted(
        (info for info in catalog.fields.values() if _narrows(info, products)), key=lambda info: -info.products
    )
    chosen = tuple(info.name for info in attributes[:_MOST_ATTRIBUTES])
    return StoreFacts(key, (*filter(is_used, _CORE), *chosen), tuple(filter(is_used, _SORTS)), offers)


def _narrows(info: FieldInfo, products: int) -> bool:
    return info.name.startswith("attributes.") and info.is_textual and info.products >= _LEAST_SHARE * products
