"""Merchandising rules: their types, JSON form and validation, and their store with a log of every change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec

from shelfwise.retrieval.errors import FilterError, RuleError, close_names
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.text.product_types import MAX_WORDS, type_phrase
from shelfwise.retrieval.updates.validation import convert_document
from shelfwise.service.curation.document_store import (
    DocumentCodec,
    DocumentStore,
    check_period,
    check_text,
    plain_fields,
)


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
    contexts: tuple[str, ...] = ()
    """The request must have one of these contexts, such as "mobile"; empty for all requests."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Pins products to positions: the first at `position`, the others after it."""

    products: tuple[str, ...]
    """Ids of the products."""
    position: int = 1
    """Position over all pages, from 1."""


@dataclass(frozen=True, slots=True)
class Boost:
    """Moves the hits that pass an expression up."""

    filters: str
    strength: float = 1.0
    """Score offset in standard deviations of the scores of the best hits."""


@dataclass(frozen=True, slots=True)
class Bury:
    """Moves the hits that pass an expression down."""

    filters: str
    strength: float = 1.0
    """Score offset in standard deviations of the scores of the best hits."""


@dataclass(frozen=True, slots=True)
class Hide:
    """Removes products: those with these ids, and those that pass an expression."""

    products: tuple[str, ...] = ()
    filters: str = ""


@dataclass(frozen=True, slots=True)
class Restrict:
    """Removes products that do not pass an expression, as if the shopper had filtered by it."""

    filters: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """Names a page to show instead; the hits are returned as well."""

    url: str
    """A URL with http or https, or a path that begins with one slash."""


@dataclass(frozen=True, slots=True)
class Data:
    """Adds an object of the store's own to the page, such as a banner, for pages to show."""

    values: dict[str, object]


@dataclass(frozen=True, slots=True)
class Classify:
    """Gives a type to products in all searches: to those with these ids, and those that pass an expression."""

    type: str
    """Name of the type: "washing machine"."""
    products: tuple[str, ...] = ()
    filters: str = ""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Keeps the share of attention that some products get over a day above a floor or below a ceiling."""

    filters: str
    at_least: float | None = None
    """The floor, 0 to 1."""
    at_most: float | None = None
    """The ceiling, 0 to 1."""


Action = Pin | Boost | Bury | Hide | Restrict | Redirect | Data | Classify | Exposure

KINDS: Mapping[str, type[Action]] = {each.__name__.lower(): each for each in get_args(Action)}
"""The actions by their names in JSON and TOML."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Some actions, and when they apply. Of several matching rules, the one with the higher priority comes first, and
    at equal priority the one whose id comes first."""

    id: str
    """Empty for one derived from the name or the query when the rule is stored."""
    actions: tuple[Action, ...]
    when: When = When()
    name: str = ""
    priority: int = 0
    enabled: bool = True


_KIND_OF = {action: kind for kind, action in KINDS.items()}


class _PlainRule(msgspec.Struct, frozen=True):
    """The fields of a rule, with its actions as plain values."""

    actions: tuple[dict[str, Any], ...]
    id: str = ""
    when: When = When()
    name: str = ""
    priority: int = 0
    enabled: bool = True


def rule_document(rule: Rule) -> dict[str, object]:
    """A rule as plain values for JSON, without defaults."""
    made = {"id": rule.id} | plain_fields(rule)
    if "when" in made:
        made["when"] = plain_fields(rule.when)
    made["actions"] = [{"kind": _KIND_OF[type(action)]} | plain_fields(action) for action in rule.actions]
    return made


def _parse(document: object, place: str) -> Rule:
    plain = convert_document(document, _PlainRule, place, RuleError)
    actions = tuple(_action(each, f"{place}: actions[{number}]") for number, each in enumerate(plain.actions))
    return Rule(plain.id, actions, plain.when, plain.name, plain.priority, plain.enabled)


def _action(fields: Mapping[str, Any], place: str) -> Action:
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        close = close_names(kind, KINDS) if isinstance(kind, str) else ()
        advice = f"did you mean {' or '.join(close)}?" if close else f"it can be {', '.join(KINDS)}"
        what = "is missing" if kind is None else f"is {str(kind)[:40]!r}"
        raise RuleError(f"{place}.kind: {what}; {advice}", field="kind")
    values = {name: value for name, value in fields.items() if name != "kind"}
    return convert_document(values, KINDS[kind], place, RuleError)


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


def _check(rule: Rule, place: str) -> Rule:
    place = f"{place}: "
    check_text(f"{place}id", rule.id, LONGEST_ID, RuleError, must=bool(rule.id))
    check_text(f"{place}name", rule.name, LONGEST_NAME, RuleError)
    _check_number(f"{place}priority", rule.priority, -HIGHEST_PRIORITY, HIGHEST_PRIORITY)
    _check_when(place, rule.when)
    if not rule.actions:
        raise RuleError(f"{place}actions: there is none; add one, such as a pin", field="actions")
    _check_number(f"{place}actions: their number", len(rule.actions), 1, MAX_ACTIONS)
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
    _check_number(f"{place}when.contexts: their number", len(when.contexts), 0, MAX_CONTEXTS)
    for number, context in enumerate(when.contexts):
        check_text(f"{place}when.contexts[{number}]", context, LONGEST_CONTEXT, RuleError, must=True)
    check_period(f"{place}when.", when.starts, when.ends, RuleError)


def _check_action(place: str, action: Action) -> None:
    match action:
        case Pin(products, position):
            _check_number(f"{place}products: their number", len(products), 1, MAX_PINS)
            _check_products(place, products)
            _check_number(f"{place}position", position, 1, LAST_POSITION)
        case Boost(filters, strength) | Bury(filters, strength):
            _check_filter(f"{place}filters", filters, must=True)
            if not 0 < strength <= STRONGEST:
                message = f"{place}strength: is {strength:g}, it must be above 0 and at most {STRONGEST:g}"
                raise RuleError(message, field="strength")
        case Hide(products=products, filters=filters) | Classify(products=products, filters=filters):
            _check_number(f"{place}products: their number", len(products), 0, MAX_NAMED)
            _check_products(place, products)
            _check_filter(f"{place}filters", filters, must=not products)
            if isinstance(action, Classify):
                check_text(f"{place}type", action.type, LONGEST_TYPE, RuleError, must=True)
                if not type_phrase(action.type):
                    right = f"it must name one type of product by at most {MAX_WORDS} words, such as washing machine"
                    raise RuleError(f"{place}type: is {action.type[:60]!r}; {right}", field="type")
        case Restrict(filters):
            _check_filter(f"{place}filters", filters, must=True)
        case Exposure(filters, at_least, at_most):
            _check_filter(f"{place}filters", filters, must=True)
            _check_share(place, at_least, at_most)
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


def _check_share(place: str, at_least: float | None, at_most: float | None) -> None:
    if (at_least is None) == (at_most is None):
        right = "give one of them, the share of attention from 0 to 1, such as at_least = 0.04"
        wrong = "both are missing" if at_least is None else "both are given"
        raise RuleError(f"{place}at_least, at_most: {wrong}; {right}", field="at_least")
    for name, share in (("at_least", at_least), ("at_most", at_most)):
        if share is not None and not 0 < share < 1:
            raise RuleError(f"{place}{name}: is {share:g}, it must be above 0 and below 1", field=name)


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
        to_plain=rule_document,
        from_plain=_parse,
        label=lambda rule: rule.name or rule.when.query or rule.when.filters or _KIND_OF[type(rule.actions[0])],
    )
