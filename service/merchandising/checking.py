"""Whether a rule can be taken: its bounds, its filters, its address. What the catalog has is asked later, when the rule
is compiled."""

from __future__ import annotations

import unicodedata
from urllib.parse import urlsplit

from retrieval.errors import FilterError, RuleError
from retrieval.filters import parse_filter
from service.merchandising.rule import Action, Boost, Bury, Hide, Match, Pin, Redirect, Restrict, Rule, When
from service.merchandising.rule_json import rule_document, rule_of

MOST_ACTIONS = 20
MOST_PINS = 100
"""Products that one rule pins."""
MOST_HIDDEN = 1_000
"""Products that one rule hides by their ids."""
LAST_POSITION = 1_000
"""Where a product may be pinned at most."""
STRONGEST = 10.0
LONGEST_ID = 100
LONGEST_NAME = 200
LONGEST_QUERY = 500
LONGEST_FILTER = 2_000
LONGEST_PRODUCT = 256
LONGEST_URL = 2_000
HIGHEST_PRIORITY = 1_000_000


def sound(rule: Rule) -> Rule:
    """The rule, checked; raises RuleError, which names the field, what is wrong and what is right."""
    if not isinstance(rule, Rule):
        raise RuleError(f"a rule must be a Rule, not {type(rule).__name__}")
    name = str(rule.id)[:LONGEST_ID]
    try:
        checked = rule_of(rule_document(rule))
        _check(checked)
    except (TypeError, AttributeError, KeyError) as error:
        raise RuleError(f"rule {name!r}: holds what no rule may hold ({error})", name) from error
    except RuleError as error:
        error.rule = name
        raise
    return checked


def _check(rule: Rule) -> None:
    _check_text("id", rule.id, LONGEST_ID, must=True)
    place = f"rule {rule.id!r}: "
    _check_text(f"{place}name", rule.name, LONGEST_NAME)
    _check_number(f"{place}priority", rule.priority, -HIGHEST_PRIORITY, HIGHEST_PRIORITY)
    _check_when(place, rule.when)
    _check_number(f"{place}actions: their number", len(rule.actions), 1, MOST_ACTIONS)
    for number, action in enumerate(rule.actions):
        _check_action(f"{place}actions[{number}].", action)
    pinned = [product for action in rule.actions if isinstance(action, Pin) for product in action.products]
    _check_number(f"{place}actions: the number of pinned products", len(pinned), 0, MOST_PINS)
    if len(set(pinned)) < len(pinned):
        twice = next(product for product in pinned if pinned.count(product) > 1)
        raise RuleError(f"{place}actions: {twice!r} is pinned twice; name each product once", field="products")


def _check_when(place: str, when: When) -> None:
    _check_text(f"{place}when.query", when.query, LONGEST_QUERY)
    _check_filter(f"{place}when.filters", when.filters)
    if bool(when.query.strip()) == (when.match == Match.ANY):
        wrong = "is any, although when.query is given: it can be exact or contains"
        if not when.query.strip():
            wrong = f"is {when.match}, and when.query is missing; a rule for every search has match any"
        raise RuleError(f"{place}when.match: {wrong}", field="match")
    for name, moment in (("starts", when.starts), ("ends", when.ends)):
        if moment is not None and moment.tzinfo is None:
            raise RuleError(f"{place}when.{name}: has no zone; write it as 2026-11-27T00:00:00+01:00", field=name)
    if when.starts and when.ends and when.ends <= when.starts:
        raise RuleError(f"{place}when.ends: is not after when.starts", field="ends")


def _check_action(place: str, action: Action) -> None:
    match action:
        case Pin(products, position):
            _check_number(f"{place}products: their number", len(products), 1, MOST_PINS)
            _check_products(place, products)
            _check_number(f"{place}position", position, 1, LAST_POSITION)
        case Boost(filters, strength) | Bury(filters, strength):
            _check_filter(f"{place}filters", filters, must=True)
            if not 0 < strength <= STRONGEST:
                message = f"{place}strength: is {strength:g}, it must be above 0 and at most {STRONGEST:g}"
                raise RuleError(message, field="strength")
        case Hide(products, filters):
            _check_number(f"{place}products: their number", len(products), 0, MOST_HIDDEN)
            _check_products(place, products)
            _check_filter(f"{place}filters", filters, must=not products)
        case Restrict(filters):
            _check_filter(f"{place}filters", filters, must=True)
        case Redirect(url):
            _check_url(f"{place}url", url)


def _check_products(place: str, products: tuple[str, ...]) -> None:
    for number, product in enumerate(products):
        _check_text(f"{place}products[{number}]", product, LONGEST_PRODUCT, must=True)


def _check_filter(place: str, filters: str, *, must: bool = False) -> None:
    _check_text(place, filters, LONGEST_FILTER, must=must)
    try:
        parse_filter(filters)
    except FilterError as error:
        raise RuleError(f"{place}: {error}", field="filters") from error


def _check_url(place: str, url: str) -> None:
    """So that no rule sends a shopper to a script, or to another host by a path."""
    _check_text(place, url, LONGEST_URL, must=True)
    right = "it must begin with https:// or http:// and a host, or with one slash"
    if "\\" in url or any(character.isspace() for character in url):
        raise RuleError(f"{place}: has white space or a backslash in it; {right}", field="url")
    try:
        parts = urlsplit(url)
        is_page = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_page = False
    is_path = url.startswith("/") and not url.startswith("//")
    if not (is_page or is_path):
        raise RuleError(f"{place}: is {url[:60]!r}; {right}", field="url")


def _check_text(place: str, text: str, longest: int, *, must: bool = False) -> None:
    field = place.rpartition(": ")[2]
    if must and not text.strip():
        raise RuleError(f"{place}: is empty; it must be given", field=field)
    if len(text) > longest:
        raise RuleError(f"{place}: has {len(text):,} characters, at most {longest:,} are taken", field=field)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise RuleError(f"{place}: has a control character in it, or half of one; leave it out", field=field)


def _check_number(place: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        field = place.rpartition(": ")[2]
        raise RuleError(f"{place}: is {number:,}, it can be {least:,} to {most:,}", field=field)
