"""Measures in a live patch: the number that cleaning puts beside a quantity (`weight_g`) follows the quantity."""

from __future__ import annotations

from collections.abc import Mapping

from retrieval.records import Product

_ATTRIBUTE = "attributes."


def with_measures(product: Product, values: Mapping[str, object]) -> dict[str, object]:
    """The values of a sound patch of a product, with the measures of those attributes that become another quantity.

    The measure of the old text goes, that of the new one comes, as the feed's cleaning would have it. What the patch
    itself says of a measure counts, and a number that was never the attribute's measure stays.
    """
    followed: dict[str, object] = {}
    for field, value in values.items():
        if not field.startswith(_ATTRIBUTE):
            continue
        name = field.removeprefix(_ATTRIBUTE)
        old, new = _measure(name, product.attributes.get(name)), _measure(name, value)
        if old and product.attributes.get(old[0]) == old[1]:
            followed[_ATTRIBUTE + old[0]] = None
        if new and (_ATTRIBUTE + new[0] in followed or new[0] not in product.attributes):
            followed[_ATTRIBUTE + new[0]] = new[1]
    return {**followed, **values}


def _measure(name: str, value: object) -> tuple[str, float] | None:
    """The name and the number of an attribute's measure; None where it is not one quantity."""
    if not isinstance(value, str) or not value[:1].isdecimal():
        return None
    from indexer.cleaning.measures import measured

    found = measured(value)
    return (f"{name}_{found[0]}", found[1]) if found else None
