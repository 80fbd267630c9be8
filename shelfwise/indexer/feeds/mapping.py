"""Feed mapping: the rows' fields of each product field, by default names, a mapping file or flags.

A mapping file is TOML or JSON; its keys are fields of a product:

    title = "product_name"                      # another name
    brand = "maker.name"                        # inside an object of the row
    description = ["long_text", "short_text"]   # the first that has a value
    price = {field = "cost", unit = "cents"}
    currency = {value = "EUR"}                  # for every row; with a field, for the rows without it
    identifiers.ean = "barcode"
    attributes.colour = "farbe"
    places = {lat = "shop_lat", lng = "shop_lng"}

A rule of the file replaces the default names of its product field; the other fields keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from shelfwise.indexer.feeds.values import NOT_FINITE, digits, wrong_type
from shelfwise.retrieval.errors import FeedError, suggest_names
from shelfwise.retrieval.filters.ast import PLACES
from shelfwise.retrieval.records import AttributeValue, Product
from shelfwise.retrieval.updates.validation import EXACT, convert_document, decode_toml, read_document


@dataclass(frozen=True, slots=True)
class FieldSource:
    """The location of a value in a row: a field's name, or a dotted path into the objects of the row."""

    name: str
    unit: str = ""
    """"cents" for a price in hundredths."""


@dataclass(frozen=True, slots=True)
class MappingRule:
    """The sources of one product field, of which the first with a value is used; `value` is the default."""

    sources: tuple[FieldSource, ...] = ()
    value: object = None


def first_of(*names: str) -> MappingRule:
    """A rule that uses the first of these names that has a value."""
    return MappingRule(tuple(FieldSource(name, "cents" if name.endswith("_cents") else "") for name in names))


SALE_PERIOD = "sale_period"
"""Not a field of a product: the period of its sale price, as two times separated by a slash."""

DEFAULT_RULES: Mapping[str, MappingRule] = {
    "id": first_of("id", "product_id", "sku", "asin"),
    "title": first_of("title", "name"),
    "description": first_of("description", "long_description", "short_description"),
    "brand": first_of("brand", "manufacturer", "vendor"),
    "category": first_of("category", "categories", "product_type", "google_product_category"),
    "price": first_of("sale_price", "sale_price_cents", "price", "price_cents"),
    "currency": first_of("currency", "price_currency", "currency_code"),
    "availability": first_of("availability", "in_stock"),
    "rating": first_of("rating", "average_rating"),
    "rating_count": first_of("rating_count", "review_count"),
    "images": first_of("image", "images", "image_url", "image_link", "image_urls", "additional_image_link"),
    "identifiers": first_of("identifiers"),
    "identifiers.sku": first_of("sku"),
    "identifiers.ean": first_of("ean"),
    "identifiers.gtin": first_of("gtin"),
    "identifiers.upc": first_of("upc"),
    "identifiers.mpn": first_of("mpn"),
    "identifiers.isbn": first_of("isbn"),
    "identifiers.asin": first_of("asin"),
    "identifiers.model": first_of("model", "model_number"),
    "attributes": first_of("attributes"),
    "created": first_of("created", "created_at", "released", "release_date"),
    "updated": first_of("updated", "updated_at"),
    "expires": first_of("expires", "expiration_date", "valid_until", "price_valid_until"),
    "language": first_of("language", "lang"),
    "places": first_of("_geoloc", "geoloc", "places"),
    "places.lat": first_of("latitude"),
    "places.lng": first_of("longitude"),
    SALE_PERIOD: first_of("sale_price_effective_date"),
}
_CONTAINERS = ("identifiers", "attributes")
_FIELDS = tuple(field.name for field in fields(Product) if field.name != "variants")
_TARGETS = frozenset((*_FIELDS, SALE_PERIOD, f"{PLACES}.lat", f"{PLACES}.lng"))


@dataclass(frozen=True, slots=True)
class FeedMapping:
    """The rule of each product field; by default, the known names."""

    rules: Mapping[str, MappingRule] = field(default_factory=lambda: DEFAULT_RULES)
    user_names: frozenset[str] = frozenset()
    """The source names that the user gave; a warning is given for one that no row has."""
    user_fields: frozenset[str] = frozenset()
    """The product fields for which the user gave rules; these override the meaning of a format's columns."""

    def replace(self, rules: Mapping[str, MappingRule]) -> FeedMapping:
        """This mapping with the user's rules for some fields."""
        names = {source.name for rule in rules.values() for source in rule.sources}
        return FeedMapping({**self.rules, **rules}, self.user_names | names, self.user_fields | rules.keys())

    def with_format_rules(self, rules: Mapping[str, MappingRule]) -> FeedMapping:
        """This mapping for a format whose columns mean `rules`, except for fields with a rule of the user."""
        format_rules = {target: rule for target, rule in rules.items() if target not in self.user_fields}
        return FeedMapping({**self.rules, **format_rules}, self.user_names, self.user_fields)


def load_mapping(path: str | Path) -> FeedMapping:
    """The default mapping with the replacements in a TOML or JSON file.

    Raises FeedError if the file cannot be read, names an unknown product field, or contains anything but rules.
    """
    table = read_document(Path(path), FeedError)
    if not isinstance(table, dict):
        raise FeedError(f"mapping {path}: expected fields of a product and their rules")
    return FeedMapping().replace(dict(_rules(table, f"mapping {path}")))


def parse_map_flags(flags: Iterable[str], mapping: FeedMapping | None = None) -> FeedMapping:
    """`mapping` (by default the default one) with the replacements of flags such as `title=product_name`.

    The text after the first `=` is a name, or a rule as a TOML value: `price={field = "cost", unit = "cents"}`. Raises
    FeedError for anything else, and for an unknown product field.
    """
    result = mapping or FeedMapping()
    for flag in flags:
        target, separator, source = (part.strip() for part in flag.partition("="))
        if not separator or not target or not source:
            raise FeedError(f"--map {flag}: expected FIELD=NAME, such as title=product_name")
        try:
            value = decode_toml(f"rule = {source}")["rule"] if source[0] in "{[\"'" else source
        except ValueError as error:
            raise FeedError(f"--map {flag}: {source} is not a TOML value: {error}") from error
        result = result.replace(dict(_rules({target: value}, f"--map {flag}")))
    return result


def _rules(table: Mapping[str, object], place: str) -> Iterable[tuple[str, MappingRule]]:
    for target, content in table.items():
        # `identifiers.ean = ...` is a table in a table; `attributes = {field = ...}` is a rule of its own
        inner = content if isinstance(content, dict) and "field" not in content else None
        is_pair = target == PLACES and inner and inner.keys() <= {"lat", "lng"}
        if inner is not None and (is_pair or target in _CONTAINERS):
            for name, rule in inner.items():
                yield f"{target}.{name}", _rule(rule, f"{place}: {target}.{name}")
            continue
        container, _, name = target.partition(".")
        if target not in _TARGETS and not (container in _CONTAINERS and name):
            advice = suggest_names(target, _FIELDS, f"the fields are {', '.join(_FIELDS)}")
            raise FeedError(f"{place}: a product has no field {target!r}; {advice}")
        yield target, _rule(content, f"{place}: {target}")


def _rule(content: object, place: str) -> MappingRule:
    if isinstance(content, list):
        parts = [_rule(part, place) for part in content]
        return MappingRule(tuple(source for part in parts for source in part.sources))
    if isinstance(content, str) and content:
        return MappingRule((FieldSource(content),))
    if not isinstance(content, dict):
        raise FeedError(f"{place}: expected a name, a list of names, or a table of field, unit and value")
    table = convert_document(content, _RuleTable, place, mapping_error)
    if table.field is None and table.value is None:
        raise FeedError(f"{place}: expected a field, a value (a text, a number, true, false or a list), or both")
    return MappingRule((FieldSource(table.field, table.unit),) if table.field else (), table.value)


class _RuleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    field: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    unit: Literal["", "cents"] = ""
    value: str | int | float | bool | list[Any] | None = None


def mapping_error(message: str, *_: str) -> FeedError:
    """The error of a mapping, without the name of the document and the field that `convert_document` adds."""
    return FeedError(message)


DropHandler = Callable[[str, str, str], None]
"""Receives the field, the reason and the detail of a dropped value."""

_MAX_DEPTH = 8


def add_attributes(
    attributes: dict[str, AttributeValue], values: Mapping[str, object], note: DropHandler, prefix: str = ""
) -> None:
    """Adds each value under its name; an existing name keeps its value.

    Dropped with a note: a number that is not finite, a list that contains objects, an object more than eight deep.
    """
    for key, value in values.items():
        name = prefix + key.strip()
        if not isinstance(value, dict):
            converted = _converted(name, value, note)
            if name and converted is not None:
                attributes.setdefault(name, converted)
        elif name.count(".") < _MAX_DEPTH:
            add_attributes(attributes, value, note, f"{name}.")
        else:
            note(f"attributes.{name}", "nested too deep", f"more than {_MAX_DEPTH} objects in one another")


def named_attributes(field: str, value: object) -> Mapping[str, object]:
    """The attributes of a row: an object, or a list of objects with `name` and `value`.

    Raises RowError for anything else.
    """
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        raise wrong_type(field, value)
    pairs: dict[str, object] = {}
    for one in value:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise wrong_type(field, value)
        pairs[one["name"]] = one.get("value")
    return pairs


def _converted(name: str, value: object, note: DropHandler) -> AttributeValue | None:
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        note(f"attributes.{name}", NOT_FINITE, str(value))
    elif isinstance(value, int):
        return float(value) if -EXACT <= value <= EXACT else str(value)
    elif isinstance(value, list):
        return _several(name, value, note) or None
    return None


def _several(name: str, values: list[object], note: DropHandler) -> tuple[str, ...]:
    if any(isinstance(value, dict | list) for value in values):
        note(f"attributes.{name}", "a list of objects", f"{len(values)} of them")
        return ()
    converted = (_converted(name, value, note) for value in values)
    return tuple(_spelled(value) for value in converted if value is not None)


def _spelled(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return digits(value) if isinstance(value, float) else str(value)
