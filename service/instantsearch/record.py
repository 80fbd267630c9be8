"""A product as a record of the protocol: one JSON object, its attributes beside its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from retrieval.fields import CATEGORY_SEPARATOR
from retrieval.records import AttributeValue, Product, Variant

Record = dict[str, Any]
"""A JSON object: what is known of a product, by attribute."""
_ADDRESSES = ("url", "link", "product_url", "product_link", "permalink")
_SAFE_BEGINNINGS = ("https://", "http://", "/")
_TAGS = "tags"
_OURS = frozenset({"objectID", "url", "image"})
"""Never a free attribute's: pages put them into links."""


def record_of(product: Product) -> Record:
    """The record of a product; what is not known is not there."""
    record: Record = {"objectID": product.id, "name": product.title, "title": product.title}
    record |= {name: value for name, value in _known(product) if value not in (None, "", [], {})}
    for name, value in product.attributes.items():
        if name not in record and name not in _OURS and not name.startswith("_"):
            record[name] = _plain(value)
    tags = product.attributes.get(_TAGS)
    if isinstance(tags, str | tuple):
        record["_tags"] = [tags] if isinstance(tags, str) else list(tags)
    return record


def retrieved(record: Record, wanted: Sequence[str]) -> Record:
    """The attributes that are wanted ("*" is all, "-name" all but that), and always the id."""
    kept = {name.partition(".")[0] for name in wanted}
    dropped = {name[1:] for name in wanted if name.startswith("-")}
    is_all = "*" in kept or (bool(kept) and all(name.startswith("-") for name in kept))
    return {
        name: value
        for name, value in record.items()
        if name == "objectID" or ((is_all or name in kept) and name not in dropped)
    }


def _known(product: Product) -> Iterator[tuple[str, object]]:
    yield "description", product.description
    yield "brand", product.brand
    yield "categories", list(product.category)
    yield "hierarchicalCategories", _levels(product.category)
    yield "price", product.price
    yield "currency", product.currency
    yield "availability", product.availability.value if product.availability else ""
    yield "rating", product.rating
    yield "rating_count", product.rating_count
    yield "image", product.images[0] if product.images else ""
    yield "images", list(product.images)
    yield "url", _address(product.attributes)
    yield "identifiers", {kind: list(values) for kind, values in product.identifiers.items()}
    yield "created", _seconds(product.created)
    yield "updated", _seconds(product.updated)
    yield "expires", _seconds(product.expires)
    yield "language", product.language
    yield "variants", [_variant(each) for each in product.variants]


def _levels(path: Sequence[str]) -> dict[str, str]:
    return {f"lvl{at}": CATEGORY_SEPARATOR.join(path[: at + 1]) for at in range(len(path))}


def _address(attributes: Mapping[str, AttributeValue]) -> str:
    """Where its page is, if a feed says so; never one that would run as a script."""
    for name in _ADDRESSES:
        value = attributes.get(name)
        if isinstance(value, str) and value.lower().startswith(_SAFE_BEGINNINGS):
            return value
    return ""


def _variant(variant: Variant) -> Record:
    said = {"objectID": variant.id, "options": dict(variant.options), "price": variant.price}
    return {name: value for name, value in said.items() if value is not None}


def _plain(value: AttributeValue) -> object:
    return list(value) if isinstance(value, tuple) else value


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
