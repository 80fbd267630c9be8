"""What a request of the protocol says, from its raw body: the libraries send JSON under any content type, or a form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec

from retrieval.errors import QueryError, UnknownFieldError
from retrieval.filters.schema import FieldCatalog
from retrieval.records import Page
from service.engine.highlight import Marks
from service.engine.search import DEEPEST, MOST_FACET_VALUES, MOST_SIZE
from service.engine.spelling import Suggestions
from service.experiments.assignment import MarkedPage, ShopperSearch
from service.http.request import describe_undecodable, find_undecodable

JsonObject = Mapping[str, object]
"""A JSON object whose values nobody has checked yet."""
_MOST_PAIRS = 1_000


def parse_body(body: bytes) -> JsonObject:
    """The object that a body is, in JSON or as a form; an empty one where there is none. Raises QueryError."""
    stripped = body.strip()
    if not stripped:
        return {}
    return _object(stripped, "the body") if stripped[:1] in b"{[" else parse_form(stripped)


def parse_form(text: bytes) -> JsonObject:
    """The pairs of a URL-encoded text, the last of each name; raises QueryError for too many, or what is no UTF-8."""
    if (name := find_undecodable(text)) is not None:
        raise QueryError(describe_undecodable(name))
    try:
        return dict(parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=_MOST_PAIRS))
    except ValueError:
        raise QueryError(f"params may have at most {_MOST_PAIRS:,} of them") from None


def merge_params(payload: JsonObject) -> JsonObject:
    """The same with what `params`, one URL-encoded text, says beside it; v4 of the library sends that."""
    packed = payload.get("params")
    if packed is None:
        return payload
    if not isinstance(packed, str):
        raise QueryError("params must be one URL-encoded text, such as 'query=drill&page=1'")
    return {**parse_form(packed.encode()), **{name: value for name, value in payload.items() if name != "params"}}


def objects(payload: JsonObject, name: str, most: int) -> Sequence[JsonObject]:
    """A list of objects, such as `requests`; raises QueryError for anything else, or more than `most` of them."""
    found = payload.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise QueryError(f"{name} must be a list of objects")
    if len(found) > most:
        raise QueryError(f"{name} has {len(found)} entries, at most {most} are answered at once")
    return cast(Sequence[JsonObject], found)


def parse_json(text: str | bytes, what: str) -> object:
    """What a JSON text says; raises QueryError, which begins with `what`."""
    try:
        return cast(object, msgspec.json.decode(text))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise QueryError(f"{what} is no JSON: {error}") from None


def _object(text: bytes, what: str) -> JsonObject:
    value = parse_json(text, what)
    if not isinstance(value, dict):
        raise QueryError(f"{what} must be a JSON object")
    return cast(JsonObject, value)


# What the searches of a request need of whoever serves them: what may be seen, and who is told what was found.


@dataclass(frozen=True, slots=True)
class Hooks:
    """What whoever asks may see, and what is told of their searches."""

    narrow: Callable[[str], str]
    """A filter expression narrowed to what whoever asks may see."""
    suggest: Callable[[str, int], Suggestions]
    """What may be meant by what was typed, so many queries at most, of what they may see."""
    on_page: Callable[[Page], None]
    """Each page that the engine made."""
    run_experiments: Callable[[ShopperSearch], MarkedPage] | None
    """Answers a search as the experiments that run have it; None where none runs."""
    record_impressions: Callable[[str, str, Page, str], None]
    """The query id, the query, the hits and the shopper of an answer that is to be learned from."""


# Values of a request, each in the ways that the libraries spell it: as JSON, or as texts of a URL.

AnyOf = tuple[str, ...]
"""Filters of which one must hold."""
MOST_NAMES = 200
MOST_NAME = 500
"""Characters of the name of an index, or of what is typed to find a value."""
_MOST_FILTER = 1_000
_MOST_TEXT = 10_000


def text(payload: JsonObject, name: str, default: str = "", most: int = _MOST_TEXT) -> str:
    """A text; raises QueryError for anything else, as all of these do."""
    value = payload.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise QueryError(f"{name} must be a text, not {_kind(value)}")
    if len(value) > most:
        raise QueryError(f"{name} has {len(value):,} characters, it may have {most:,}")
    return value


def integer(payload: JsonObject, name: str, default: int, least: int, most: int) -> int:
    """A whole number within bounds."""
    value = payload.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise QueryError(f"{name} is {_repr_value(value)}, it can be {least} to {most}")
    return value


def number(payload: JsonObject, name: str, default: float, least: float, most: float) -> float:
    """A number within bounds."""
    value = payload.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise QueryError(f"{name} is {_repr_value(value)}, it can be {least:g} to {most:g}")
    return float(value)


def flag(payload: JsonObject, name: str, *, default: bool) -> bool:
    """Yes or no."""
    value = payload.get(name)
    if value is None:
        return default
    if value in (True, "true", "1"):
        return True
    if value in (False, "false", "0", ""):
        return False
    raise QueryError(f"{name} is {_repr_value(value)}, it can be true or false")


def names(payload: JsonObject, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A list of texts: a JSON list, the same written as a text, one text, or several with commas."""
    value = _decode_list(payload, name)
    if value is None:
        return default
    if isinstance(value, str):
        value = [each.strip() for each in value.split(",") if each.strip()]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise QueryError(f'{name} must be a list of names, such as ["brand"]')
    _check_count(len(value), name)
    return tuple(value)


def all_of_any(payload: JsonObject, name: str) -> tuple[AnyOf, ...]:
    """Filters: all entries of the list must hold, one each of those that are lists themselves."""
    value = _decode_list(payload, name)
    if value is None or value == "":
        return ()
    entries: list[Any] = value if isinstance(value, list) else [value]
    groups = [each if isinstance(each, list) else [each] for each in entries]
    if not all(isinstance(each, str) for group in groups for each in group):
        raise QueryError(f'{name} must be a list of texts, or of lists of texts, such as [["brand:Bosch"], "new:true"]')
    _check_count(sum(map(len, groups)), name)
    if any(len(each) > _MOST_FILTER for group in groups for each in group):
        raise QueryError(f"{name}: each of its entries may have {_MOST_FILTER:,} characters")
    return tuple(tuple(group) for group in groups if group)


def _decode_list(payload: JsonObject, name: str) -> object:
    """The value; a text that is a JSON list is that list."""
    value = payload.get(name)
    return parse_json(value, name) if isinstance(value, str) and value.lstrip().startswith("[") else value


def _check_count(count: int, name: str) -> None:
    if count > MOST_NAMES:
        raise QueryError(f"{name} has {count} entries, it may have {MOST_NAMES}")


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)


def _repr_value(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float) else _kind(value)


# The parameters of one search, as the engine can use them. Those that are not named here are passed over.

EVERYTHING = ("*",)
COUNTING = frozenset(
    {
        "query",
        "page",
        "hitsPerPage",
        "offset",
        "length",
        "facets",
        "maxValuesPerFacet",
        "facetFilters",
        "numericFilters",
        "tagFilters",
        "filters",
        "attributesToRetrieve",
        "attributesToHighlight",
        "attributesToSnippet",
        "highlightPreTag",
        "highlightPostTag",
        "snippetEllipsisText",
        "clickAnalytics",
        "analytics",
        "userToken",
    }
)
"""The parameters that are looked at."""
_MOST_TAG = 100
_MOST_NAME = 200


_PLAIN = Marks()


@dataclass(frozen=True, slots=True)
class Refinements:
    """What narrows a search, as it was sent: outer entries must all hold, one of each inner."""

    facets: tuple[AnyOf, ...] = ()
    numbers: tuple[AnyOf, ...] = ()
    tags: tuple[AnyOf, ...] = ()
    expression: str = ""


@dataclass(frozen=True, slots=True)
class RecordView:
    """What of each record is sent."""

    attributes: tuple[str, ...] = EVERYTHING
    highlighted: tuple[str, ...] = EVERYTHING
    snippets: tuple[str, ...] = ()
    """Each an attribute's name, with ":" and a count of words where it is told."""
    marks: Marks = _PLAIN


@dataclass(frozen=True, slots=True)
class ProtocolSearch:
    """One search."""

    query: str = ""
    page: int = 0
    """From 0."""
    size: int = 20
    offset: int | None = None
    """The first hit instead of a page, from 0."""
    facets: tuple[str, ...] = ()
    most_values: int = 100
    """Of each facet."""
    refinements: Refinements = Refinements()
    view: RecordView = RecordView()
    wants_query_id: bool = False
    is_recorded: bool = True
    shopper: str = ""


def parse_search(payload: JsonObject) -> ProtocolSearch:
    """What one request of a batch asks for; raises QueryError, which names the parameter."""
    offset = integer(payload, "offset", -1, 0, DEEPEST)
    size = integer(payload, "hitsPerPage", 20, 0, MOST_SIZE)
    # They are used together or not at all.
    length = integer(payload, "length", 0, 0, MOST_SIZE)
    return ProtocolSearch(
        query=text(payload, "query"),
        page=integer(payload, "page", 0, 0, 10**9),
        size=size if offset < 0 or not length else length,
        offset=offset if offset >= 0 and length else None,
        facets=names(payload, "facets"),
        most_values=integer(payload, "maxValuesPerFacet", 100, 1, MOST_FACET_VALUES),
        refinements=_parse_refinements(payload),
        view=_parse_view(payload),
        wants_query_id=flag(payload, "clickAnalytics", default=False),
        is_recorded=flag(payload, "analytics", default=True),
        shopper=text(payload, "userToken", most=_MOST_NAME),
    )


def _parse_refinements(payload: JsonObject) -> Refinements:
    return Refinements(
        all_of_any(payload, "facetFilters"),
        all_of_any(payload, "numericFilters"),
        all_of_any(payload, "tagFilters"),
        text(payload, "filters"),
    )


def _parse_view(payload: JsonObject) -> RecordView:
    marks = Marks(
        text(payload, "highlightPreTag", _PLAIN.before, _MOST_TAG),
        text(payload, "highlightPostTag", _PLAIN.after, _MOST_TAG),
        text(payload, "snippetEllipsisText", _PLAIN.cut, _MOST_TAG),
    )
    return RecordView(
        names(payload, "attributesToRetrieve", EVERYTHING),
        names(payload, "attributesToHighlight", EVERYTHING),
        names(payload, "attributesToSnippet"),
        marks,
    )


# What the name of an index asks for: every name is the one index; some say in which order, or what of it.

_ORDERED = re.compile(r"(?P<name>.+)_(?P<way>asc|desc)")
_SUGGESTIONS = "query_suggestions"


def is_suggestions_index(index: str) -> bool:
    """Whether its records are queries."""
    return index == _SUGGESTIONS or index.endswith(f"_{_SUGGESTIONS}")


def parse_sort(index: str, catalog: FieldCatalog) -> str:
    """The order that a name such as `products_price_desc` ends with, as the engine takes it; empty for any other.

    Raises UnknownFieldError where it ends so and there is no such field to sort by.
    """
    found = _ORDERED.fullmatch(index)
    if not found:
        return ""
    pieces = found["name"].split("_")
    ends = ["_".join(pieces[at:]) for at in range(len(pieces))]
    for end in ends:
        for name in (end, f"attributes.{end}"):
            info = catalog.fields.get(name)
            if info and info.is_numeric:
                return f"-{name}" if found["way"] == "desc" else name
    message = f"{index!r} ends as an order does, and there is no numeric field {ends[-1]!r} to sort by"
    raise UnknownFieldError(message, ends[-1])
