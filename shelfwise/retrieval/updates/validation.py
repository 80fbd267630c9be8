"""Documents and files of users, and validation of products and patches from Python callers. Values of feeds are read by
`shelfwise.indexer.feeds.values`."""

from __future__ import annotations

import math
import re
import reprlib
import tomllib
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache, partial
from numbers import Real
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, TypeVar

import msgspec

from shelfwise.retrieval.errors import ChangeError, InputError, close_names, suggest_names
from shelfwise.retrieval.records import AttributeValue, Availability, Place, Product, Variant, is_local

Check = Callable[[object], object]

MAX_ID_BYTES = 512
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
EXACT = 2**53
"""The largest integer up to which all integers are exact as floats."""


_LONG_NUMBER = re.compile(rb"\d{19}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def decode_json(content: str | bytes) -> object:
    """The value of a JSON document from a client. Of equal names in an object, the last counts.

    Raises ValueError with the problem, to be put after the name of the document: it is not UTF-8 or not JSON, which has
    no NaN, or it is nested too deep, or an integer needs more than 64 bits.
    """
    try:
        document = content.encode() if isinstance(content, str) else content
        value: object = msgspec.json.decode(document)
        if _LONG_NUMBER.search(document):
            _check_integers(value)
    except UnicodeError:
        raise ValueError("is not valid UTF-8") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except msgspec.MsgspecError as error:
        reason = "a text has half of a surrogate pair" if _SURROGATE.search(document) else error
        raise ValueError(f"is not valid JSON: {reason}") from None
    return value


def decode_toml(content: str | bytes) -> dict[str, Any]:
    """The tables of a TOML document. Raises ValueError with the problem, like `decode_json`."""
    try:
        tables = tomllib.loads(content if isinstance(content, str) else content.decode("utf-8-sig"))
    except UnicodeError:
        raise ValueError("is not valid UTF-8") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not valid TOML: {error}") from None
    except ValueError:
        raise ValueError("has an integer of more than 64 bits") from None  # more digits than Python converts
    _check_integers(tables)
    return tables


MAX_DOCUMENT_BYTES = 64 << 20


def read_document(path: Path, error: Callable[..., InputError]) -> object:
    """The content of a JSON file, or of a TOML file, which does not begin with a brace; raises `error` if it cannot be
    read or is too large."""
    content = _read_bytes(path, MAX_DOCUMENT_BYTES, error)
    try:
        is_json = path.suffix == ".json" or content.lstrip().startswith(b"{")
        return decode_json(content) if is_json else decode_toml(content)
    except ValueError as problem:
        raise error(f"{path} {problem}") from problem


def read_text(path: Path, error: Callable[..., InputError], most_bytes: int = MAX_DOCUMENT_BYTES) -> str:
    """The content of a UTF-8 file without its byte order mark; raises `error` if it cannot be read or is too large."""
    try:
        return _read_bytes(path, most_bytes, error).decode()
    except UnicodeDecodeError as problem:
        line = problem.object[: problem.start].count(b"\n") + 1
        raise error(f"{path}:{line}: not UTF-8; save the file as UTF-8") from problem


def _read_bytes(path: Path, most_bytes: int, error: Callable[..., InputError]) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror}); name a readable file") from problem
    if len(content) > most_bytes:
        raise error(f"{path} has more than {most_bytes:,} bytes; use a shorter file")
    return content.removeprefix(BOM_UTF8)


T = TypeVar("T")
RECORDS = (msgspec.inspect.StructType, msgspec.inspect.DataclassType)
_LISTS = (msgspec.inspect.ListType, msgspec.inspect.VarTupleType)
type_info = cache(msgspec.inspect.type_info)


def convert_document(
    document: object,
    wanted: type[T],
    place: str,
    error: Callable[..., InputError],
    allowed: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """The value of a type from plain values of a user. Raises `error` with a message that begins with `place`, the id
    and the field; `allowed` describes the values of fields."""
    if not isinstance(document, Mapping):
        raise error(f"{place}: is {type(document).__name__}, it must be an object with named fields")
    name = str(document.get("id", ""))[:100]
    info = type_info(wanted)  # type: ignore[arg-type]
    _check_names(document, info, place, lambda inner, fault, field: error(f"{inner}: {fault}", name, field))
    try:
        return msgspec.convert(document, wanted)
    except msgspec.ValidationError as problem:
        reason, _, path = str(problem).partition(" - at `$.")
        if not path and (missing := re.search("missing required field `(.+?)`", reason)):
            path, reason = missing[1], "is missing"
        fields = ["", *re.findall(r"(?:^|\.)(\w+)", path)]
        field = next((each for each in reversed(fields) if each in allowed), fields[-1])
        cure = f"; {field} must be {allowed[field]}" if field in allowed else ""
        message = ": ".join(filter(None, (place, path.removesuffix("`"), reason)))
        raise error(message + cure, name, field) from None


def _check_names(
    value: object, kind: msgspec.inspect.Type, place: str, fail: Callable[[str, str, str], InputError]
) -> None:
    """Raises the error of `fail` for a field that a document, or an object in it, does not have, and for a text that is
    none of the values of its field."""
    if isinstance(kind, msgspec.inspect.UnionType):
        structs = [each for each in kind.types if isinstance(each, msgspec.inspect.StructType) and each.tag_field]
        if structs and isinstance(value, Mapping):
            mark = str(structs[0].tag_field)
            by_tag = {str(each.tag): each for each in structs}
            tag = str(value.get(mark, ""))
            _check_choice(tag, by_tag, f"{place}: {mark}", fail)
            _check_names({name: value[name] for name in value if name != mark}, by_tag[tag], place, fail)
        else:
            for each in kind.types:
                _check_names(value, each, place, fail)
    elif isinstance(kind, RECORDS) and isinstance(value, Mapping):
        known = {each.encode_name: each.type for each in kind.fields}
        for name, inner in value.items():
            if name not in known:
                advice = suggest_names(str(name), known, f"the fields are {', '.join(known)}")
                raise fail(place, f"no field {str(name)[:100]!r}; {advice}", str(name)[:100])
            _check_names(inner, known[name], f"{place}: {name}", fail)
    elif isinstance(kind, msgspec.inspect.DictType) and isinstance(value, Mapping):
        for name, inner in value.items():
            _check_names(inner, kind.value_type, f"{place}: {name}", fail)
    elif isinstance(kind, _LISTS) and isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check_names(item, kind.item_type, f"{place}[{number}]", fail)
    elif isinstance(kind, msgspec.inspect.EnumType) and isinstance(value, str):
        _check_choice(value, [str(each.value) for each in kind.cls], place, fail)


def _check_choice(
    value: str, choices: Collection[str], place: str, fail: Callable[[str, str, str], InputError]
) -> None:
    if value not in choices:
        advice = suggest_names(value, choices, f"it must be one of {', '.join(choices)}")
        raise fail(place, f"is {value[:100]!r}; {advice}", place.rpartition(": ")[2])


def _check_integers(value: object) -> None:
    """Raises ValueError if an integer of a document needs more than 64 bits."""
    waiting = [("", value)]
    while waiting:
        place, each = waiting.pop()
        if isinstance(each, int) and not -(2**63) <= each < 2**63:
            raise ValueError(f"has an integer of more than 64 bits{place and ' at '}{place.lstrip('.')}")
        inner = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        waiting += [(f"{place}.{name}", member) for name, member in inner]


def id_problem(product_id: str) -> str:
    """The reason why a text is invalid as a product id; empty for a valid one."""
    if not product_id or product_id != product_id.strip():
        return "has blanks around it" if product_id.strip() else "is empty"
    if CONTROL.search(product_id):
        return "has control characters"
    if not is_writable(product_id):
        return "has characters that UTF-8 cannot encode"
    if len(product_id.encode()) > MAX_ID_BYTES:
        return f"is longer than {MAX_ID_BYTES} bytes"
    return ""


def is_writable(text: str) -> bool:
    """Whether UTF-8 can encode a text; it cannot encode half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(value: object) -> str:
    """A text that UTF-8 can encode."""
    if not isinstance(value, str) or not is_writable(value):
        raise ValueError
    return str.__str__(value)  # the plain text of an enumeration's member


def nonblank_text(value: object) -> str:
    """A text that is not blank."""
    found = text(value)
    if not found.strip():
        raise ValueError
    return found


def code(value: object, pattern: str) -> str:
    """A text that matches a pattern, or an empty one."""
    found = text(value)
    if found and not re.fullmatch(pattern, found):
        raise ValueError
    return found


def texts(value: object) -> tuple[str, ...]:
    """Texts that are not blank. A single text is rejected, since it would be read letter by letter."""
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(map(nonblank_text, value))


_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE | re.ASCII)
_NOT_IN_SCHEMES = re.compile(r"[\x00-\x20]+")
_ADDRESS_NAME = re.compile(
    r"(?:^|[\W_])(?i:url|uri|link|href|permalink|image)s?$|(?:Url|URL|Uri|URI|Link|Href|Image)s?$"
)


def is_web_address(address: str) -> bool:
    """Whether a page may link to an address: it is http, https or relative. Browsers drop blanks and control characters
    before they read the scheme."""
    scheme = _SCHEME.match(_NOT_IN_SCHEMES.sub("", address))
    return scheme is None or scheme[1].lower() in ("http", "https")


@lru_cache(maxsize=1 << 12)
def is_address_name(name: str) -> bool:
    """Whether an attribute of this name contains addresses, such as `link`, `product_url` or `sizeChartUrl`."""
    return _ADDRESS_NAME.search(name) is not None


def web_address(value: object) -> str:
    """A relative, http or https address, or an empty text."""
    found = text(value)
    if not is_web_address(found):
        raise ValueError
    return found


def picture_address(value: object) -> str:
    """A web address, or the relative path of a file in the folder of pictures, such as `file:pictures/7.webp`."""
    found = text(value)
    is_file = is_local(found) and not found[5:].startswith(("/", ".."))
    return found if is_file else web_address(found)


def picture_addresses(value: object) -> tuple[str, ...]:
    """Addresses that are not blank."""
    return tuple(map(picture_address, texts(value)))


def number(value: object, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number between two bounds, inclusive."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise TypeError
    found = float(value)
    if not math.isfinite(found) or not least <= found <= most:
        raise ValueError
    return found


def price(value: object) -> float:
    """A finite number of at least 0; -0.0 becomes 0.0."""
    return abs(number(value, 0))


def count(value: object) -> int:
    """An integer of at least 0."""
    found = number(value, 0, EXACT)
    if not found.is_integer():
        raise ValueError
    return int(found)


def availability(value: object) -> Availability:
    """One of the four values, or its text in any case, in which a blank may replace the underscore."""
    return Availability(text(value).strip().lower().replace(" ", "_"))


def moment(value: object) -> datetime:
    """A time in UTC. A text without a zone is UTC, as in feeds; a datetime needs a zone."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError
    # Not astimezone, which keeps subclasses (such as that of pandas) that JSON does not support.
    year, month, day, hour, minute, second, *_ = value.utctimetuple()
    return datetime(year, month, day, hour, minute, second, value.microsecond, UTC)


def mapping(value: object, check: Check) -> dict[str, Any]:
    """A mapping from names, without members that are None."""
    if not isinstance(value, Mapping):
        raise TypeError
    members = ((nonblank_text(name), None if member is None else check(member)) for name, member in value.items())
    return {name: member for name, member in members if member is not None}


def attribute(value: object) -> AttributeValue | None:
    """A free attribute, None if it is empty. As in feeds, an integer that no float can represent becomes a text."""
    if isinstance(value, str):
        return text(value) if value.strip() else None
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        return texts(value) or None
    return str(value) if isinstance(value, int) and abs(value) > EXACT else number(value)


def attributes(value: object) -> dict[str, Any]:
    """Free attributes by name; those whose names say so must contain addresses."""
    found = mapping(value, attribute)
    return {name: link(member) if is_address_name(name) else member for name, member in found.items()}


def link(value: object) -> AttributeValue | None:
    """A free attribute whose texts are addresses."""
    found = attribute(value)
    for each in found if isinstance(found, tuple) else (found,):
        if isinstance(each, str):
            web_address(each)
    return found


def identifier(value: object) -> tuple[str, ...] | None:
    """The values of one kind of identifier, None if there are none."""
    return texts(value) or None


def places(value: object) -> tuple[Place, ...]:
    """A list of places, or one place."""
    listed = [value] if isinstance(value, Mapping | Place) else value
    if not isinstance(listed, list | tuple):
        raise TypeError
    return tuple(map(_place, listed))


def _place(value: object) -> Place:
    if isinstance(value, Mapping):  # as from JSON
        value = Place(**value)
    if not isinstance(value, Place):
        raise TypeError
    return Place(number(value.lat, -90, 90), number(value.lng, -180, 180))


def variants(value: object) -> tuple[Variant, ...]:
    """Variants, each with valid values."""
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(map(_variant, value))


def _variant(value: object) -> Variant:
    if isinstance(value, Mapping):  # as from JSON
        value = Variant(**value)
    if not isinstance(value, Variant):
        raise TypeError
    return Variant(
        text(value.id),
        mapping(value.options, text),
        None if value.price is None else price(value.price),
        None if value.availability is None else availability(value.availability),
        mapping(value.identifiers, identifier),
        picture_address(value.image),
    )


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


@dataclass(frozen=True, slots=True)
class _FieldRule:
    """The check of a field, the description of a valid value, and the value for None."""

    check: Check
    right: str
    empty: Callable[[], object] = NoneType


_TEXT = _FieldRule(text, "a text that UTF-8 can write", str)
_TEXTS = _FieldRule(texts, 'a tuple of texts that are not empty, such as ("first", "second")', tuple)
_TIME = _FieldRule(moment, "a datetime with a time zone, or an ISO 8601 text such as 2030-01-31T12:00:00Z")
_RULES: Mapping[str, _FieldRule] = {
    "title": _FieldRule(nonblank_text, "a text that is not empty"),
    "description": _TEXT,
    "brand": _TEXT,
    "category": _TEXTS,
    "price": _FieldRule(price, "a finite number from 0"),
    "currency": _FieldRule(partial(code, pattern="[A-Z]{3}"), "an ISO 4217 code in capitals, such as EUR", str),
    "availability": _FieldRule(availability, f"one of {', '.join(Availability)}"),
    "rating": _FieldRule(partial(number, least=0, most=5), "a number from 0 to 5"),
    "rating_count": _FieldRule(count, "a whole number from 0"),
    "images": _FieldRule(
        picture_addresses, 'a tuple of addresses of http or https, such as ("https://shop.example/1.jpg",)', tuple
    ),
    "identifiers": _FieldRule(partial(mapping, check=identifier), "a mapping from kinds to tuples of texts", dict),
    "attributes": _FieldRule(
        attributes,
        "a mapping from names to texts, finite numbers, booleans, tuples; links have addresses of http or https",
        dict,
    ),
    "created": _TIME,
    "updated": _TIME,
    "language": _FieldRule(partial(code, pattern="[a-z]{2}"), "an ISO 639-1 code such as en", str),
    "variants": _FieldRule(
        variants, "a tuple of variants, each value right for its field, images of http or https", tuple
    ),
    "expires": _TIME,
    "places": _FieldRule(
        places,
        'a list of places such as {"lat": 52.5, "lng": 13.4}: latitudes -90 to 90, longitudes -180 to 180',
        tuple,
    ),
}
_MEMBERS = {
    "identifiers": _FieldRule(identifier, _TEXTS.right),
    "attributes": _FieldRule(attribute, "a text, a finite number, True or False, or a tuple of texts"),
}


_LINK = _FieldRule(link, "an address of http or https, such as https://shop.example/p/1, or several")


def validate_id(product_id: object) -> str:
    """A valid product id; raises ChangeError for an invalid one."""
    if not isinstance(product_id, str):
        raise ChangeError(f"the id of a product must be a text, not {_short.repr(product_id)}", field="id")
    problem = id_problem(product_id)
    if problem:
        raise ChangeError(f"product id {_short.repr(product_id)} {problem}; use the id of the feed", field="id")
    return str.__str__(product_id)


def validate_product(product: object) -> Product:
    """A validated product: lists as tuples, numbers as floats, times in UTC, empty attributes dropped."""
    if not isinstance(product, Product):
        raise ChangeError(f"a product must be a shelfwise.Product, not {_short.repr(product)}")
    product_id = validate_id(product.id)
    return Product(product_id, **{name: _validate_field(product_id, name, getattr(product, name)) for name in _RULES})


def validate_patch(product_id: str, values: Mapping[str, object]) -> dict[str, object]:
    """The validated values of a patch, in the order of its fields' names."""
    if not values:
        raise ChangeError(f"product {product_id!r}: a patch needs at least one field", product_id)
    unnamed = [name for name in values if not isinstance(name, str)]
    if unnamed:
        message = f"product {product_id!r}: the name of a field must be a text, not {_short.repr(unnamed[0])}"
        raise ChangeError(message, product_id)
    return {name: _validate_field(product_id, name, values[name]) for name in sorted(values)}


def apply_patch(product: Product, values: Mapping[str, object]) -> Product:
    """The product with a patch applied; raises ChangeError like `validate_patch`."""
    found = validate_patch(product.id, values)
    whole: dict[str, Any] = {name: value for name, value in found.items() if name in _RULES}
    for container in _MEMBERS:
        members = {name.partition(".")[2]: found[name] for name in found if name.startswith(f"{container}.")}
        if members:
            merged = {**whole.get(container, getattr(product, container)), **members}
            whole[container] = {name: value for name, value in merged.items() if value is not None}
    return replace(product, **whole)


def _validate_field(product_id: str, name: str, value: object) -> Any:  # noqa: ANN401 - each field has a type of its own
    rule = _rule(product_id, name)
    if value is None and name != "title":
        return rule.empty()
    try:
        return rule.check(value)
    except (ValueError, TypeError, OverflowError) as error:
        message = f"product {product_id!r}: {name} is {_short.repr(value)}; it must be {rule.right}"
        raise ChangeError(message, product_id, name) from error


def _rule(product_id: str, name: str) -> _FieldRule:
    if name in _RULES:
        return _RULES[name]
    container, _, member = name.partition(".")
    if container in _MEMBERS and member.strip() and is_writable(member):
        return _LINK if container == "attributes" and is_address_name(member) else _MEMBERS[container]
    if name == "id":
        message = f"product {product_id!r}: the id cannot change; delete the product and upsert it under the new id"
        raise ChangeError(message, product_id, name)
    close = close_names(name, _RULES) if is_writable(name) else ()
    listed = f"similar ones are {', '.join(close)}" if close else f"the fields are {', '.join(_RULES)}"
    message = (
        f"product {product_id!r}: a product has no field {_short.repr(name)}; {listed}; "
        "free ones are attributes.NAME and identifiers.KIND"
    )
    raise ChangeError(message, product_id, name)
