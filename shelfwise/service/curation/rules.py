"""Merchandising rules: their types, JSON form and validation, and their store with a log of every change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from shelfwise.retrieval.errors import FilterError, RuleError
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.text.product_types import MAX_WORDS, type_phrase
from shelfwise.service.curation.document_store import (
    DocumentCodec,
    DocumentStore,
    check_period,
    check_text,
    plain_document,
)

MAX_ACTIONS = 20
MAX_PINS = 100
"""Maximum number of products that one rule pins."""
MAX_NAMED = 1_000
"""Maximum number of products that one rule hides or classifies by id."""
LAST_POSITION = 1_000
"""Maximum position of a pin."""
STRONGEST = 10.0
LONGEST_ID = 100
LONGEST_NAME = 200
LONGEST_QUERY = 500
LONGEST_FILTER = 2_000
LONGEST_PRODUCT = 256
LONGEST_URL = 2_000
LONGEST_TYPE = 100
MAX_CONTEXTS = 20
LONGEST_CONTEXT = 100
LONGEST_DATA = 10_000
"""Maximum size of the JSON in bytes."""
HIGHEST_PRIORITY = 1_000_000
_Strength = Annotated[float, Meta(gt=0, le=STRONGEST)]
_Named = Annotated[tuple[str, ...], Meta(max_length=MAX_NAMED)]
_Share = Annotated[float, Meta(gt=0, lt=1)]
"""A share of attention."""


class Match(StrEnum):
    """Kind of match between a rule's query and a shopper's query."""

    EXACT = "exact"
    """Equal texts, apart from case, width and white space."""
    CONTAINS = "contains"
    """The shopper's query has all words of the rule, in any order and form: "drills" contains "drill"."""
    ANY = "any"
    """Every query, and browsing without a query."""


@dataclass(frozen=True, slots=True)
class When:
    """The searches to which a rule applies: all conditions must hold."""

    query: str = ""
    match: Match = Match.ANY
    filters: str = ""
    """Each part of this expression must be a part of the request's filter: `category = "Tools"` holds while a shopper
    is in that category."""
    starts: datetime | None = None
    """Start time with its zone; None for no start."""
    ends: datetime | None = None
    """End time (exclusive) with its zone; None for no end."""
    contexts: Annotated[tuple[str, ...], Meta(max_length=MAX_CONTEXTS)] = ()
    """The request must have one of these contexts, such as "mobile"; empty for all requests."""


class _TaggedAction(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower):
    """An action, whose `kind` in JSON and TOML is the name of its class."""


class Pin(_TaggedAction, frozen=True):
    """Pins products to positions: the first at `position`, the others after it."""

    products: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_PINS)]
    """Ids of the products."""
    position: Annotated[int, Meta(ge=1, le=LAST_POSITION)] = 1
    """Position over all pages, from 1."""


class Boost(_TaggedAction, frozen=True):
    """Moves the hits that pass an expression up."""

    filters: str
    strength: _Strength = 1.0
    """Score offset in standard deviations of the scores of the best hits."""


class Bury(_TaggedAction, frozen=True):
    """Moves the hits that pass an expression down."""

    filters: str
    strength: _Strength = 1.0
    """Score offset in standard deviations of the scores of the best hits."""


class Hide(_TaggedAction, frozen=True):
    """Removes products: those with these ids, and those that pass an expression."""

    products: _Named = ()
    filters: str = ""


class Restrict(_TaggedAction, frozen=True):
    """Removes products that do not pass an expression, as if the shopper had filtered by it."""

    filters: str


class Redirect(_TaggedAction, frozen=True):
    """Names a page to show instead; the hits are returned as well."""

    url: str
    """A URL with http or https, or a path that begins with one slash."""


class Data(_TaggedAction, frozen=True):
    """Adds an object of the store's own to the page, such as a banner, for pages to show."""

    values: dict[str, object]


class Classify(_TaggedAction, frozen=True):
    """Gives a type to products in all searches: to those with these ids, and those that pass an expression."""

    type: str
    """Name of the type: "washing machine"."""
    products: _Named = ()
    filters: str = ""


class Exposure(_TaggedAction, frozen=True):
    """Keeps the share of attention that some products get over a day above a floor or below a ceiling."""

    filters: str
    at_least: _Share | None = None
    """The floor."""
    at_most: _Share | None = None
    """The ceiling."""


Action = Pin | Boost | Bury | Hide | Restrict | Redirect | Data | Classify | Exposure


@dataclass(frozen=True, slots=True)
class Rule:
    """Some actions, and when they apply. Of several matching rules, the one with the higher priority comes first, and
    at equal priority the one whose id comes first."""

    id: str
    """Empty for one derived from the name or the query when the rule is stored."""
    actions: Annotated[tuple[Action, ...], Meta(max_length=MAX_ACTIONS)]
    when: When = When()
    name: str = ""
    priority: Annotated[int, Meta(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY)] = 0
    enabled: bool = True


_ALLOWED: Mapping[str, str] = {
    "priority": f"a whole number from -{HIGHEST_PRIORITY:,} to {HIGHEST_PRIORITY:,}",
    "contexts": f"a list of at most {MAX_CONTEXTS} texts",
    "products": f"a list of product ids: 1 to {MAX_PINS} to pin, at most {MAX_NAMED:,} to hide or classify",
    "position": f"a whole number from 1 to {LAST_POSITION:,}",
    "strength": f"a number above 0, at most {STRONGEST:g}",
    "at_least": "a number above 0 and below 1",
    "at_most": "a number above 0 and below 1",
}


def _check(rule: Rule, place: str) -> Rule:
    place = f"{place}: "
    check_text(f"{place}id", rule.id, LONGEST_ID, RuleError, must=bool(rule.id))
    check_text(f"{place}name", rule.name, LONGEST_NAME, RuleError)
    _check_when(place, rule.when)
    if not rule.actions:
        raise RuleError(f"{place}actions: there is none; add one, such as a pin", field="actions")
    for number, action in enumerate(rule.actions):
        _check_action(f"{place}actions[{number}].", action)
    if rule.when != When() and any(isinstance(action, Classify) for action in rule.actions):
        message = f"{place}when: must be left out if an action is classify: a product has its type in all searches"
        raise RuleError(message, field="when")
    pinned = [product for action in rule.actions if isinstance(action, Pin) for product in action.products]
    _check_number(f"{place}actions: the number of pinned products", len(pinned), 0, MAX_PINS)
    controlled = [action.filters for action in rule.actions if isinstance(action, Exposure)]
    if len(set(controlled)) < len(controlled):
        message = f"{place}actions: two have the kind exposure and the same filters; put them into separate rules"
        raise RuleError(message, field="filters")
    if len(set(pinned)) < len(pinned):
        twice = next(product for product in pinned if pinned.count(product) > 1)
        raise RuleError(f"{place}actions: {twice!r} is pinned twice; name each product once", field="products")
    return rule


def _check_when(place: str, when: When) -> None:
    check_text(f"{place}when.query", when.query, LONGEST_QUERY, RuleError)
    _check_filter(f"{place}when.filters", when.filters)
    if bool(when.query.strip()) == (when.match == Match.ANY):
        wrong = f"is any, but when.query is {when.query[:100]!r}: use exact or contains, or leave the query out"
        if not when.query.strip():
            wrong = f"is {when.match}, and when.query is missing; a rule for every search has match any"
        raise RuleError(f"{place}when.match: {wrong}", field="match")
    for number, context in enumerate(when.contexts):
        check_text(f"{place}when.contexts[{number}]", context, LONGEST_CONTEXT, RuleError, must=True)
    check_period(f"{place}when.", when.starts, when.ends, RuleError)


def _check_action(place: str, action: Action) -> None:
    match action:
        case Pin(products):
            _check_products(place, products)
        case Hide(products=products, filters=filters) | Classify(products=products, filters=filters):
            _check_products(place, products)
            _check_filter(f"{place}filters", filters, must=not products)
            if isinstance(action, Classify):
                check_text(f"{place}type", action.type, LONGEST_TYPE, RuleError, must=True)
                if not type_phrase(action.type):
                    right = f"it must name one type of product by at most {MAX_WORDS} words, such as washing machine"
                    raise RuleError(f"{place}type: is {action.type[:60]!r}; {right}", field="type")
        case Boost(filters) | Bury(filters) | Restrict(filters):
            _check_filter(f"{place}filters", filters, must=True)
        case Exposure(filters, at_least, at_most):
            _check_filter(f"{place}filters", filters, must=True)
            if (at_least is None) == (at_most is None):
                right = "give one of them, the share of attention from 0 to 1, such as at_least = 0.04"
                wrong = "both are missing" if at_least is None else "both are given"
                raise RuleError(f"{place}at_least, at_most: {wrong}; {right}", field="at_least")
        case Redirect(url):
            _check_url(f"{place}url", url)
        case Data(values):
            _check_number(f"{place}values: the bytes of their JSON", len(msgspec.json.encode(values)), 3, LONGEST_DATA)


def _check_products(place: str, products: tuple[str, ...]) -> None:
    for number, product in enumerate(products):
        check_text(f"{place}products[{number}]", product, LONGEST_PRODUCT, RuleError, must=True)


def _check_filter(place: str, filters: str, *, must: bool = False) -> None:
    check_text(place, filters, LONGEST_FILTER, RuleError, must=must)
    try:
        parse_filter(filters)
    except FilterError as error:
        raise RuleError(f"{place}: {error}", field="filters") from error


def _check_url(place: str, url: str) -> None:
    """Ensures that no rule sends a shopper to a script, or by a path to another host."""
    check_text(place, url, LONGEST_URL, RuleError, must=True)
    right = "it must begin with https:// or http:// and a host, or with one slash"
    if "\\" in url or any(character.isspace() for character in url):
        raise RuleError(f"{place}: contains white space or a backslash; {right}", field="url")
    try:
        parts = urlsplit(url)
        is_page = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_page = False
    is_path = url.startswith("/") and not url.startswith("//")
    if not (is_page or is_path):
        raise RuleError(f"{place}: is {url[:60]!r}; {right}", field="url")


def _check_number(place: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        field = place.rpartition(": ")[2]
        raise RuleError(f"{place}: is {number:,}, it can be {least:,} to {most:,}", field=field)


class RuleStore(DocumentStore[Rule]):
    """The rules of an index directory and their changes (INDEX/rules.sqlite); its errors are RuleError."""

    kind = DocumentCodec(
        one="rule",
        many="rules",
        entry=Rule,
        application=0x53575255,
        error=RuleError,
        check=_check,
        allowed=_ALLOWED,
        to_plain=plain_document,
        label=lambda rule: rule.name or rule.when.query or rule.when.filters or type(rule.actions[0]).__name__.lower(),
    )
