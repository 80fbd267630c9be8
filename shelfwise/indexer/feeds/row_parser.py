"""Parser of feed rows: one decoded row becomes one product, by a mapping.

Values that cannot be used:

| field                                | of another type | of the right type, but not usable                       |
|--------------------------------------|-----------------|---------------------------------------------------------|
| id                                   | row rejected    | missing, blank, over 512 bytes, control characters: row |
| title                                | row rejected    | missing or blank: row rejected                          |
| price                                | row rejected    | not a number, negative, NaN, infinite: row rejected     |
| description, brand, category, images | row rejected    | every text is usable                                    |
| identifiers                          | row rejected    | a number that is not finite: dropped with a note        |
| currency, language                   | row rejected    | an unknown code: dropped with a note                    |
| availability                         | row rejected    | an unknown word: dropped with a note                    |
| rating                               | row rejected    | no number, NaN, outside 0 to 5: dropped with a note     |
| rating_count                         | row rejected    | no whole number from 0: dropped with a note             |
| created, updated, expires            | row rejected    | not a date: dropped with a note                         |
| places                               | dropped         | no two numbers, no place, 0 and 0: dropped with a note  |
| attributes                           | row rejected    | NaN, lists of objects, too deep: dropped with a note    |

A null, a blank text, an empty list and an empty object count as missing: the next name of the mapping is tried. A field
of the row that no rule used becomes an attribute, with three exceptions. A known name of a product field is dropped if
it has the value that was used. A `name` next to the title becomes the identifier "model" if it looks like a model
number (a digit, no blanks), and is dropped if the title contains it. The regular price next to a sale price becomes the
attribute "regular_price". A sale price counts only within the period that the row gives for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar

from shelfwise.indexer.feeds import values
from shelfwise.indexer.feeds.base import FeedNote
from shelfwise.indexer.feeds.mapping import (
    SALE_PERIOD,
    DropHandler,
    FeedMapping,
    FieldSource,
    MappingRule,
    add_attributes,
    named_attributes,
)
from shelfwise.indexer.feeds.values import UnusableValueError, currency_code, price
from shelfwise.retrieval.errors import RowError, suggest_names
from shelfwise.retrieval.filters.ast import PLACES
from shelfwise.retrieval.records import AttributeValue, Place, Product
from shelfwise.retrieval.updates.validation import CONTROL, MAX_ID_BYTES

T = TypeVar("T")

_PARSERS: Mapping[str, Callable[[str, object], object]] = {
    "description": values.paragraphs,
    "brand": values.brand,
    "category": values.category,
    "currency": values.currency,
    "availability": values.availability,
    "rating": values.rating,
    "rating_count": values.count,
    "created": values.time,
    "updated": values.time,
    "expires": values.time,
    "language": values.language,
}

_MODEL = re.compile(r"(?=\D*\d)\S+")


class RowPlan:
    """The rules for rows with the same names, without sources that none of them has."""

    def __init__(self, rules: Mapping[str, MappingRule], targets: Mapping[str, str], names: frozenset[str]) -> None:
        self.targets = targets
        """The first product field of each name in the mapping."""
        self.rules: dict[str, MappingRule] = {}
        for target, rule in rules.items():
            sources = tuple(one for one in rule.sources if one.name in names or one.name.partition(".")[0] in names)
            if sources or rule.value is not None:
                self.rules[target] = MappingRule(sources, rule.value)
        self.parsers = [(target, parse) for target, parse in _PARSERS.items() if target in self.rules]
        self.kinds = [target.partition(".")[2] for target in self.rules if target.startswith("identifiers.")]
        self.named = [target.partition(".")[2] for target in self.rules if target.startswith("attributes.")]


class RowReading:
    """The reading of one row: the values found for product fields, and the names of the row that were used."""

    __slots__ = ("_is_on_sale", "_note", "_plan", "_raw_values", "_row", "_used")

    def __init__(self, plan: RowPlan, row: Mapping[str, object], note: DropHandler) -> None:
        self._plan = plan
        self._row = row
        self._note = note
        self._raw_values: dict[str, object] = {}
        self._used: set[str] = set()
        self._is_on_sale = False

    def find(self, target: str) -> tuple[FieldSource, object] | None:
        """The first value of a product field, with its source."""
        match = next(self._candidates(target), None)
        if match is not None and match[0] is not _CONSTANT:
            self._raw_values[target] = match[1]
            self._take(match[0])
        return match

    def optional(
        self, target: str, parse: Callable[[str, object], T], match: tuple[FieldSource, object] | None = None
    ) -> T | None:
        """The parsed value of a field, by default the first one found; None if none is usable."""
        match = match or self.find(target)
        try:
            return parse(match[0].name, match[1]) if match else None
        except UnusableValueError as error:
            self._note(target, error.reason, error.detail)
            return None

    def _require(self, target: str) -> tuple[FieldSource, object]:
        match = self.find(target)
        if match is None:
            rule = self._plan.rules.get(target)
            is_mapped = rule is not None and rule.sources
            hint = "" if is_mapped else f"its fields are {', '.join(self._row)[:200]}; --map {target}=FIELD names one"
            raise RowError(f"no {target}", hint)
        return match

    def identity(self) -> str:
        """The id. Raises RowError if it is missing, or could not be a key."""
        match = self._require("id")
        spelled = match[1] if isinstance(match[1], str) else values.text("id", match[1])
        if CONTROL.search(spelled):
            raise RowError("bad id", f"{spelled[:80]!r} has control characters")
        if len(spelled) > MAX_ID_BYTES // 4 and len(spelled.encode()) > MAX_ID_BYTES:
            raise RowError("bad id", f"over {MAX_ID_BYTES} bytes: {spelled[:80]!r}...")
        return spelled.strip()

    def title(self) -> str:
        """The title. Raises RowError if it is missing."""
        match = self._require("title")
        return values.text(match[0].name, match[1])

    def price(self, now: datetime) -> tuple[float | None, str]:
        """The price (a sale price before the regular one), and the currency in it. Raises RowError for a broken one."""
        is_over = SALE_PERIOD in self._plan.rules and not self._is_sale_time(now)
        for source, value in self._candidates("price"):
            is_sale = source.name.startswith("sale_price")
            amount, currency = _amount(source, value)
            self._take(source)
            if is_sale and (is_over or not amount):
                continue  # feeds write zero if there is no sale
            self._is_on_sale = is_sale
            return amount, currency
        return None, ""

    def _is_sale_time(self, now: datetime) -> bool:
        """Whether the row's sale price is valid: always without a period, never with one that cannot be read."""
        match = self.find(SALE_PERIOD)
        if match is None:
            return True
        period = self.optional(SALE_PERIOD, values.period, match)
        return period is not None and values.is_in_period(period, now)

    def images(self) -> tuple[str, ...]:
        addresses: tuple[str, ...] = ()
        for source, value in self._candidates("images"):
            self._take(source)
            images = self.optional("images", values.images, (source, value)) or ()
            addresses = tuple(dict.fromkeys(addresses + images)) if addresses else images
        return addresses

    def places(self) -> tuple[Place, ...]:
        """The places of one column, or the place given by two columns."""
        for source, value in self._candidates(PLACES):
            if source.name != PLACES or not isinstance(value, str):  # a text there may be anything
                self._take(source)
                return self.optional(PLACES, values.places, (source, value)) or ()
        lat, lng = self.find(f"{PLACES}.lat"), self.find(f"{PLACES}.lng")
        if not lat and not lng:
            return ()
        pair = {"lat": lat and lat[1], "lng": lng and lng[1]}
        return self.optional(PLACES, values.places, (FieldSource(PLACES), pair)) or ()

    def _candidates(self, target: str) -> Iterator[tuple[FieldSource, object]]:
        rule = self._plan.rules.get(target)
        if rule is None:
            return
        for source in rule.sources:
            value = value_at(self._row, source.name)
            if not _is_blank(value):
                yield source, value
        if rule.value is not None:
            yield _CONSTANT, rule.value

    def _take(self, source: FieldSource) -> None:
        self._used.add(source.name if source.name in self._row else source.name.partition(".")[0])

    def identifiers(self, title: str) -> dict[str, tuple[str, ...]]:
        """The identifiers by kind, with the model number from the field `name` of rows that have a title."""
        numbers: dict[str, tuple[str, ...]] = {}
        container = self.find("identifiers")
        if container is not None:
            for kind, value in named_attributes("identifiers", container[1]).items():
                if not _is_blank(value):
                    self._add_identifier(numbers, kind, (container[0], value))
        for kind in self._plan.kinds:
            one = self.find(f"identifiers.{kind}")
            if one is not None:
                self._add_identifier(numbers, kind, one)
        name = self._row.get("name")
        if "name" not in self._used and isinstance(name, str) and name != title and _MODEL.fullmatch(name.strip()):
            self._used.add("name")
            self._add_identifier(numbers, "model", (FieldSource("name"), name))
        return numbers

    def _add_identifier(self, into: dict[str, tuple[str, ...]], kind: str, value: tuple[FieldSource, object]) -> None:
        spelled = self.optional(f"identifiers.{kind}", values.texts, value)
        if spelled:
            into[kind] = tuple(dict.fromkeys(into[kind] + spelled)) if kind in into else spelled

    def attributes(self, title: str) -> dict[str, AttributeValue]:
        """The attributes, including all values that nothing else used: call it last."""
        result: dict[str, AttributeValue] = {}
        for name in self._plan.named:
            one = self.find(f"attributes.{name}")
            if one is not None:
                add_attributes(result, {name: one[1]}, self._note)
        container = self.find("attributes")
        if container is not None:
            add_attributes(result, named_attributes(container[0].name, container[1]), self._note)
        # Cheaper than a difference of sets, and usually nothing is left.
        used = self._used
        rest = {name: value for name, value in self._row.items() if name not in used and not _is_blank(value)}
        if rest:
            add_attributes(result, dict(self._leftovers(rest, title)), self._note)
        return result

    def _leftovers(self, rest: Mapping[str, object], title: str) -> Iterator[tuple[str, object]]:
        for name, value in rest.items():
            target = self._plan.targets.get(name)
            if target == "price":
                if self._is_on_sale and not name.startswith("sale_price") and not _is_blank(value):
                    source = next(one for one in self._plan.rules["price"].sources if one.name == name)
                    yield "regular_price", _amount(source, value)[0]
            elif name == "name" and isinstance(value, str) and value.strip().casefold() in title.casefold():
                continue
            elif target is None or value != self._raw_values.get(target):
                yield name, value


_CONSTANT = FieldSource("value")


def value_at(row: Mapping[str, object], name: str) -> object:
    """The value of a row under a name, or under a dotted path into its objects; None if there is none."""
    value = row.get(name)
    if value is not None or "." not in name:
        return value
    inner: object = row
    for part in name.split("."):
        inner = inner.get(part) if isinstance(inner, dict) else None
    return inner


def _is_blank(value: object) -> bool:
    if type(value) is str:
        return not value or value.isspace()
    return value is None or (not value and isinstance(value, list | dict))


def _amount(source: FieldSource, value: object) -> tuple[float, str]:
    """A price in units of its currency, from a number, a text, or an object with value (or amount) and currency."""
    currency = ""
    if isinstance(value, dict):
        unit = value.get("currency") or value.get("currency_code")
        currency = currency_code(unit) if isinstance(unit, str) else ""
        value = value.get("value", value.get("amount"))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise values.wrong_type(source.name, value)
    amount, spelled = price(source.name, value)
    return amount / 100 if source.unit == "cents" else amount, currency or spelled


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The user's names that no row had, and the names of the rows; several readers' can be merged."""

    unseen: frozenset[str]
    names: frozenset[str]

    def merge(self, other: FieldNames) -> FieldNames:
        return FieldNames(self.unseen & other.unseen, self.names | other.names)

    def notes(self, files: str) -> Iterator[FeedNote]:
        """A note for each name that no row has: it is probably misspelled."""
        for name in sorted(self.unseen):
            advice = suggest_names(name, sorted(self.names), "the mapping has no effect there")
            yield FeedNote(files, 0, name, "no row has this field", advice)


_MAX_NAMES = 10_000
"""The most names of rows that are kept to suggest a correction of a misspelled name."""
_MAX_PLANS = 1_000


class PlansByNames(Generic[T]):
    """Plans for rows by their names (feeds and logs have few sets of names), and the user's names not seen in a row."""

    def __init__(self, user_names: frozenset[str], make_plan: Callable[[frozenset[str]], T]) -> None:
        self._unseen = user_names
        self._names: set[str] = set()
        """The names of the rows, collected while some of the user's names are still unseen."""
        self._plan_of = lru_cache(_MAX_PLANS)(lambda names: make_plan(frozenset(names)))

    def of(self, row: Mapping[str, object]) -> T:
        """The plan for a row."""
        if self._unseen:
            if len(self._names) < _MAX_NAMES:
                self._names.update(row)
            self._unseen = frozenset(name for name in self._unseen if name not in row and value_at(row, name) is None)
        return self._plan_of(tuple(row))

    @property
    def fields(self) -> FieldNames:
        """The user's names that no row had so far, and the names of the rows."""
        return FieldNames(self._unseen, frozenset(self._names) if self._unseen else frozenset())


class RowReader:
    """Makes products from rows by one mapping.

    `now` is the time that decides which sale prices are valid.
    """

    def __init__(self, mapping: FeedMapping, now: datetime) -> None:
        self._now = now
        targets: dict[str, str] = {}
        for target, rule in mapping.rules.items():
            for source in rule.sources:
                targets.setdefault(source.name, target)
        self.plans = PlansByNames(mapping.user_names, lambda names: RowPlan(mapping.rules, targets, names))
        self.has_sale_period = False
        """Whether the last row has a sale period."""

    def read(self, row: Mapping[str, object], note: DropHandler) -> Product:
        """The product of a row. Raises RowError if the row must be rejected."""
        plan = self.plans.of(row)
        reading = RowReading(plan, row, note)
        self.has_sale_period = SALE_PERIOD in plan.rules and reading.find(SALE_PERIOD) is not None
        identity, title = reading.identity(), reading.title()
        amount, currency = reading.price(self._now)
        fields: dict[str, Any] = {}
        for target, parse in plan.parsers:
            if (value := reading.optional(target, parse)) is not None:
                fields[target] = value
        if currency and "currency" not in fields:
            fields["currency"] = currency
        fields["images"] = reading.images()
        fields[PLACES] = reading.places()
        identifiers = reading.identifiers(title)
        attributes = reading.attributes(title)  # last: all that nothing else used
        return Product(identity, title, price=amount, identifiers=identifiers, attributes=attributes, **fields)
