"""What each field of a product may hold when a Python caller, or a patch, hands it over."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import NoneType
from typing import Any

from retrieval import value_checks
from retrieval.close_names import close_names
from retrieval.errors import ChangeError
from retrieval.records import Availability, Product

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a field's value is checked, what is right there, and what makes the value of none."""

    check: value_checks.Check
    right: str
    empty: Callable[[], object] = NoneType


_TEXT = _Rule(value_checks.text, "a text that UTF-8 can write", str)
_TEXTS = _Rule(value_checks.texts, 'a tuple of texts that are not empty, such as ("first", "second")', tuple)
_TIME = _Rule(value_checks.moment, "a datetime with a time zone, or an ISO 8601 text such as 2030-01-31T12:00:00Z")
_RULES: Mapping[str, _Rule] = {
    "title": _Rule(value_checks.filled, "a text that is not empty"),
    "description": _TEXT,
    "brand": _TEXT,
    "category": _TEXTS,
    "price": _Rule(value_checks.price, "a finite number from 0"),
    "currency": _Rule(partial(value_checks.code, pattern="[A-Z]{3}"), "an ISO 4217 code in capitals, such as EUR", str),
    "availability": _Rule(value_checks.availability, f"one of {', '.join(Availability)}"),
    "rating": _Rule(partial(value_checks.number, least=0, most=5), "a number from 0 to 5"),
    "rating_count": _Rule(value_checks.count, "a whole number from 0"),
    "images": _TEXTS,
    "identifiers": _Rule(value_checks.identifiers, "a mapping from kinds to tuples of texts", dict),
    "attributes": _Rule(
        value_checks.attributes, "a mapping from names to texts, finite numbers, booleans, tuples", dict
    ),
    "created": _TIME,
    "updated": _TIME,
    "language": _Rule(partial(value_checks.code, pattern="[a-z]{2}"), "an ISO 639-1 code such as en", str),
    "variants": _Rule(value_checks.variants, "a tuple of variants, each value right for its field", tuple),
    "expires": _TIME,
}
_MEMBERS = {
    "identifiers": _Rule(value_checks.identifier, _TEXTS.right),
    "attributes": _Rule(value_checks.attribute, "a text, a finite number, True or False, or a tuple of texts"),
}


def checked_id(product_id: object) -> str:
    """The id; raises ChangeError for one that no product can have."""
    if not isinstance(product_id, str):
        raise ChangeError(f"the id of a product is a text, not {_short.repr(product_id)}", field="id")
    problem = value_checks.id_problem(product_id)
    if problem:
        raise ChangeError(f"product id {_short.repr(product_id)} {problem}; give the id that the feed has", field="id")
    return str.__str__(product_id)


def checked(product: object) -> Product:
    """A product as the index holds it: lists as tuples, numbers as floats, times in UTC, empty attributes left out.

    Raises ChangeError, which names the product and the field, for what the index cannot hold.
    """
    if not isinstance(product, Product):
        raise ChangeError(f"a product is a shelfwise.Product, not {_short.repr(product)}")
    product_id = checked_id(product.id)
    return Product(product_id, **{name: _checked(product_id, name, getattr(product, name)) for name in _RULES})


def checked_values(product_id: str, values: Mapping[str, object]) -> dict[str, object]:
    """The values of a patch by field, in the order of the fields' names, checked and converted.

    A field is one of Product, `attributes.NAME` or `identifiers.KIND`; None clears it. Raises ChangeError for an
    unknown field, for the id, for a value that the field cannot hold, and for no fields at all.
    """
    if not values:
        raise ChangeError(f"product {product_id!r}: a patch without fields changes nothing; name one", product_id)
    unnamed = [name for name in values if not isinstance(name, str)]
    if unnamed:
        message = f"product {product_id!r}: the name of a field is a text, not {_short.repr(unnamed[0])}"
        raise ChangeError(message, product_id)
    return {name: _checked(product_id, name, values[name]) for name in sorted(values)}


def patched(product: Product, values: Mapping[str, object]) -> Product:
    """The product with some fields changed, as `checked_values` takes them; raises ChangeError as that does."""
    found = checked_values(product.id, values)
    whole: dict[str, Any] = {name: value for name, value in found.items() if name in _RULES}
    for container in _MEMBERS:
        members = {name.partition(".")[2]: found[name] for name in found if name.startswith(f"{container}.")}
        if members:
            merged = {**whole.get(container, getattr(product, container)), **members}
            whole[container] = {name: value for name, value in merged.items() if value is not None}
    return replace(product, **whole)


def _checked(product_id: str, name: str, value: object) -> Any:  # noqa: ANN401 - each field has a type of its own
    rule = _rule(product_id, name)
    if value is None and name != "title":
        return rule.empty()
    try:
        return rule.check(value)
    except (ValueError, TypeError, OverflowError) as error:
        message = f"product {product_id!r}: {name} is {_short.repr(value)}; it must be {rule.right}"
        raise ChangeError(message, product_id, name) from error


def _rule(product_id: str, name: str) -> _Rule:
    if name in _RULES:
        return _RULES[name]
    container, _, member = name.partition(".")
    if container in _MEMBERS and member.strip() and value_checks.is_writable(member):
        return _MEMBERS[container]
    if name == "id":
        message = f"product {product_id!r}: the id stays; delete the product and upsert it under the new one"
        raise ChangeError(message, product_id, name)
    close = close_names(name, _RULES) if value_checks.is_writable(name) else ()
    listed = f"close ones are {', '.join(close)}" if close else f"there are {', '.join(_RULES)}"
    message = (
        f"product {product_id!r}: a product has no field {_short.repr(name)}; {listed}; "
        "free ones are attributes.NAME and identifiers.KIND"
    )
    raise ChangeError(message, product_id, name)
