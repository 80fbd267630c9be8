"""Requests of the protocol: decoding of bodies, typed access to their fields, and the parameters of a search.

The libraries send JSON with any content type, or a form, and write values as JSON or as text of a URL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, UnsetType

from shelfwise.retrieval.errors import QueryError, UnknownFieldError
from shelfwise.retrieval.filters.places import Area, Box, Circle, Polygon, coordinates, distances, place_problem
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.records import Page, Place, Product
from shelfwise.retrieval.text.highlight import Marks
from shelfwise.retrieval.updates.validation import decode_json
from shelfwise.service.engine.request import MAX_DEPTH, MAX_FACET_VALUES, MAX_PER_GROUP, MAX_SIZE
from shelfwise.service.engine.suggest import Suggestions
from shelfwise.service.experiments.assignment import MarkedPage, ShopperSearch
from shelfwise.service.http.raw_request import describe_undecodable, find_undecodable
from shelfwise.service.http.telemetry import record_ignored

JsonObject = Mapping[str, object]
"""A decoded JSON object whose values are not validated."""
AnyOf = tuple[str, ...]
"""Alternative filters."""
MAX_NAMES = 200
MAX_NAME = 500
"""Maximum length of an index name, or of the text typed to find a facet value."""
EVERYTHING = ("*",)
FILTERING = frozenset(("facetFilters", "numericFilters", "tagFilters", "filters", "insideBoundingBox", "insidePolygon"))
"""The parameters that leave out records."""
DEFAULTABLE = frozenset(
    """
    advancedSyntax attributeForDistinct attributesToHighlight attributesToRetrieve attributesToSnippet distinct
    enableRules highlightPostTag highlightPreTag hitsPerPage maxValuesPerFacet queryType snippetEllipsisText
    typoTolerance
    """.split()  # noqa: SIM905 - with a line for each name it would be a page
)
"""Search parameters that are settings as well."""
COUNTING = DEFAULTABLE.union(
    """
    analytics aroundLatLng aroundRadius clickAnalytics facetFilters facets filters getRankingInfo
    insideBoundingBox insidePolygon length numericFilters offset optionalFilters page query restrictSearchableAttributes
    ruleContexts tagFilters userToken
    """.split()  # noqa: SIM905
)
"""The parameters that have an effect; responses name the others."""
_ADDRESSING = ("params", "indexName", "index", "type", "apiKey", "facet", "facetQuery", "maxFacetHits")
_MAX_PAIRS = 1_000
_MAX_FILTER = 1_000
_MAX_TEXT = 10_000
_MAX_TAG = 100
_MAX_TOKEN = 200
_MAX_IGNORED = 20
_GEO_PRECISION = 10
"""Metres by which distances are divided for `geoDistance`, the protocol's default."""
_QUERY_TYPES = ("prefixLast", "prefixAll", "prefixNone")
"""Query types, in all of which words before the last are whole."""
_PLAIN = Marks()
SORTED_INDEX = re.compile(r"(?P<name>.+)_(?P<order>asc|desc)")
_SUGGESTIONS = "query_suggestions"

_MODIFIED = re.compile(r"(?:(?P<modifier>\w+)\()?(?P<name>[^()]+)\)?")
"""An attribute for faceting, such as `searchable(brand)`."""


class ViewSettings(msgspec.Struct, frozen=True):
    """Settings of an index, or of a replica, that only the protocol has."""

    faceting: tuple[str, ...] = ()
    """`attributesForFaceting`, as set."""
    defaults: Mapping[str, Any] = {}
    """Search parameters for searches that do not have them."""
    ranking: tuple[str, ...] = ()
    """`ranking`, as set; empty for the default criteria."""
    custom_ranking: tuple[str, ...] = ()
    """`customRanking`, as set."""
    primary: str = ""
    """Name of the index that a replica is a view of; empty for the index itself."""
    is_virtual: bool = False
    """Whether a replica sorts by its `customRanking`."""

    @property
    def orders(self) -> tuple[list[str], list[str]]:
        """The entries such as `asc(price)` that precede relevance, and those that break its ties."""
        before: list[str] = []
        after: list[str] = []
        entries = before
        for each in self.ranking or (("custom",) if self.is_virtual else ("typo", "custom")):
            if each == "custom":
                entries += self.custom_ranking
            elif each.endswith(")"):
                entries.append(each)
            else:
                entries = after
        return before, after

    @property
    def facets(self) -> tuple[str, ...]:
        """The names in `faceting` that are counted, without their modifiers."""
        matches = (_MODIFIED.fullmatch(each) for each in self.faceting)
        return tuple(each["name"] for each in matches if each and each["modifier"] != "filterOnly")


_DEFAULTS = ViewSettings()


@dataclass(frozen=True, slots=True)
class Hooks:
    """Callbacks from the searches of a request to the service."""

    narrow: Callable[[str], str]
    """Adds the filters of the request's key to a filter expression."""
    suggest: Callable[[str, int], Suggestions]
    """Completes typed text, with at most the given number of queries."""
    on_page: Callable[[Page], None]
    """Called with each page that the engine returned."""
    run_experiments: Callable[[ShopperSearch], MarkedPage] | None
    """Searches with the variant of the running experiments; None if none runs."""
    record_impressions: Callable[[str, str, Page, str], None]
    """Called with query id, query, hits and shopper of a search that is recorded."""
    show: Callable[[Product], Product] = lambda product: product
    """A product without the fields hidden from the request's key."""
    settings: ViewSettings = _DEFAULTS
    """Settings of the index or replica."""
    hidden: Collection[str] = ()
    """The fields hidden from the request's key."""
    forced: JsonObject = field(default_factory=dict)
    """Parameters of a secured API key, which replace those of searches."""


def parse_body(body: bytes) -> JsonObject:
    """The object of a JSON or form body, empty for an empty body; raises QueryError."""
    content = body.strip()
    if not content:
        return {}
    if content[:1] not in b"{[":
        return parse_form(content)
    value = parse_json(content, "the body")
    if not isinstance(value, dict):
        raise QueryError("the body must be a JSON object")
    return cast(JsonObject, value)


def parse_form(text: bytes) -> JsonObject:
    """The pairs of URL-encoded text, the last one of each name; raises QueryError for too many, or invalid UTF-8."""
    if (name := find_undecodable(text)) is not None:
        raise QueryError(describe_undecodable(name))
    try:
        return dict(parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=_MAX_PAIRS))
    except ValueError:
        raise QueryError(f"params may have at most {_MAX_PAIRS:,} parameters") from None


def parse_json(text: str | bytes, name: str) -> object:
    """The decoded JSON; raises QueryError, which names it."""
    try:
        return decode_json(text)
    except ValueError as error:
        raise QueryError(f"{name} {error}") from None


def merge_params(payload: JsonObject) -> JsonObject:
    """The payload with the parameters of `params`, the URL-encoded text that version 4 of the library sends."""
    parameters = payload.get("params")
    if parameters is None:
        return payload
    if not isinstance(parameters, str):
        raise QueryError("params must be one URL-encoded text, such as 'query=drill&page=1'")
    return {**parse_form(parameters.encode()), **{name: value for name, value in payload.items() if name != "params"}}


def objects(payload: JsonObject, name: str, most: int) -> Sequence[JsonObject]:
    """A list of objects, such as `requests`; raises QueryError for anything else, or for more than `most`."""
    entries = payload.get(name)
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise QueryError(f"{name} must be a list of objects")
    if len(entries) > most:
        raise QueryError(f"{name} has {len(entries)} entries, at most {most} are allowed")
    return cast(Sequence[JsonObject], entries)


def text(payload: JsonObject, name: str, default: str = "", most: int = _MAX_TEXT) -> str:
    """A text field; raises QueryError for anything else, like all of these functions."""
    value = payload.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise QueryError(f"{name} must be a text, not {_kind(value)}")
    if len(value) > most:
        raise QueryError(f"{name} has {len(value):,} characters, at most {most:,} are allowed")
    return value


def integer(payload: JsonObject, name: str, default: int, least: int, most: int) -> int:
    """An integer field within bounds."""
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
    """A number field within bounds."""
    value = payload.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise QueryError(f"{name} is {_repr_value(value)}, it can be {least:g} to {most:g}")
    return float(value)


def flag(payload: JsonObject, name: str, *, default: bool) -> bool:
    """A boolean field."""
    value = payload.get(name)
    if value is None:
        return default
    if value in (True, "true", "1"):
        return True
    if value in (False, "false", "0", ""):
        return False
    raise QueryError(f"{name} is {_repr_value(value)}, it can be true or false")


def names(payload: JsonObject, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A list of names: a JSON list, the same encoded as text, or names separated by commas."""
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
    """Filters: all entries of a list must hold; of an entry that is a list itself, at least one."""
    value = _decode_list(payload, name)
    if value is None or value == "":
        return ()
    entries: list[Any] = value if isinstance(value, list) else [value]
    groups = [each if isinstance(each, list) else [each] for each in entries]
    if not all(isinstance(each, str) for group in groups for each in group):
        raise QueryError(f'{name} must be a list of texts, or of lists of texts, such as [["brand:Bosch"], "new:true"]')
    _check_count(sum(map(len, groups)), name)
    if any(len(each) > _MAX_FILTER for group in groups for each in group):
        raise QueryError(f"{name}: each entry may have at most {_MAX_FILTER:,} characters")
    return tuple(tuple(group) for group in groups if group)


def _decode_list(payload: JsonObject, name: str) -> object:
    """The value; text that is a JSON list is decoded."""
    value = payload.get(name)
    return parse_json(value, name) if isinstance(value, str) and value.lstrip().startswith("[") else value


def _check_count(count: int, name: str) -> None:
    if count > MAX_NAMES:
        raise QueryError(f"{name} has {count} entries, at most {MAX_NAMES} are allowed")


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)


def _repr_value(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float) else _kind(value)


@dataclass(frozen=True, slots=True)
class Refinements:
    """The filters of a search as sent: all entries of a tuple must hold, at least one filter of each entry."""

    facets: tuple[AnyOf, ...] = ()
    numbers: tuple[AnyOf, ...] = ()
    tags: tuple[AnyOf, ...] = ()
    expression: str = ""
    areas: tuple[Area, ...] = ()
    """Areas, of which one must contain a place of the product."""

    @property
    def characters(self) -> int:
        """The length of all of them."""
        groups = (*self.facets, *self.numbers, *self.tags)
        return len(self.expression) + sum(len(each) for group in groups for each in group)


@dataclass(frozen=True, slots=True)
class Around:
    """The place to which the nearest records come first."""

    place: Place

    @property
    def sort(self) -> str:
        """The order for the engine: nearest first."""
        return f"distance({self.place.lat!r}, {self.place.lng!r})"

    def ranking_info(self, places: Sequence[Place]) -> JsonObject:
        """The protocol's ranking information about the places of a record."""
        if not places:
            return {}
        metres = distances(self.place, *coordinates(places))
        nearest, distance = places[int(metres.argmin())], float(metres.min())
        matched = {"lat": nearest.lat, "lng": nearest.lng, "distance": round(distance)}
        return {
            "geoDistance": int(distance // _GEO_PRECISION),
            "geoPrecision": _GEO_PRECISION,
            "matchedGeoLocation": matched,
        }


@dataclass(frozen=True, slots=True)
class RecordView:
    """The parts of each record to send."""

    attributes: tuple[str, ...] = EVERYTHING
    highlighted: tuple[str, ...] = EVERYTHING
    snippets: tuple[str, ...] = ()
    """Names of attributes, each optionally with ":" and a number of words."""
    marks: Marks = _PLAIN


@dataclass(frozen=True, slots=True)
class ProtocolSearch:
    """The parameters of one search."""

    query: str = ""
    page: int = 0
    """Page number, from 0."""
    size: int = 20
    offset: int | None = None
    """Number of the first hit, from 0, instead of a page."""
    facets: tuple[str, ...] = ()
    most_values: int = 100
    """Maximum number of values of each facet."""
    refinements: Refinements = Refinements()
    around: Around | None = None
    view: RecordView = RecordView()
    optional: tuple[AnyOf, ...] = ()
    """Filters that order the hits."""
    contexts: tuple[str, ...] = ()
    has_rules: bool = True
    has_ranking: bool = False
    """Whether hits include their ranking information."""
    searched: tuple[str, ...] = ()
    """The attributes that must contain the query's words; empty for all."""
    distinct: str | None = None
    """The attribute whose values group the hits; empty for variants, None for no groups."""
    per_group: int = 1
    is_prefix: bool = True
    """Whether the last word may be incomplete, which is the protocol's default."""
    may_correct: bool = True
    has_operators: bool = False
    """Whether the query may contain quoted phrases and words with a minus."""
    wants_query_id: bool = False
    is_recorded: bool = True
    shopper: str = ""

    @property
    def characters(self) -> int:
        """The length of its query and filters, which is what parsing them costs."""
        optional = sum(len(each) for group in self.optional for each in group)
        return len(self.query) + self.refinements.characters + optional


def parse_search(payload: JsonObject) -> ProtocolSearch:
    """The parameters of one request of a batch; raises QueryError, which names the parameter."""
    offset = integer(payload, "offset", -1, 0, MAX_DEPTH)
    size = integer(payload, "hitsPerPage", 20, 0, MAX_SIZE)
    # offset and length only count together.
    length = integer(payload, "length", 0, 0, MAX_SIZE)
    has_offset = offset >= 0 and length > 0
    per_group = _parse_distinct(payload)
    return ProtocolSearch(
        query=text(payload, "query"),
        page=integer(payload, "page", 0, 0, 10**9),
        size=length if has_offset else size,
        offset=offset if has_offset else None,
        facets=names(payload, "facets"),
        most_values=integer(payload, "maxValuesPerFacet", 100, 1, MAX_FACET_VALUES),
        refinements=parse_refinements(payload),
        around=_parse_around(payload),
        view=_parse_view(payload),
        optional=all_of_any(payload, "optionalFilters"),
        contexts=names(payload, "ruleContexts"),
        has_rules=flag(payload, "enableRules", default=True),
        has_ranking=flag(payload, "getRankingInfo", default=False),
        searched=names(payload, "restrictSearchableAttributes"),
        distinct=text(payload, "attributeForDistinct", most=MAX_NAME) if per_group else None,
        per_group=max(per_group, 1),
        is_prefix=_is_prefix(payload),
        may_correct=payload.get("typoTolerance") in ("min", "strict") or flag(payload, "typoTolerance", default=True),
        has_operators=flag(payload, "advancedSyntax", default=False),
        wants_query_id=flag(payload, "clickAnalytics", default=False),
        is_recorded=flag(payload, "analytics", default=True),
        shopper=text(payload, "userToken", most=_MAX_TOKEN),
    )


def parse_refinements(payload: JsonObject) -> Refinements:
    """The filters of a request; raises QueryError, which names the parameter."""
    return Refinements(
        all_of_any(payload, "facetFilters"),
        all_of_any(payload, "numericFilters"),
        all_of_any(payload, "tagFilters"),
        text(payload, "filters"),
        _parse_areas(payload),
    )


def _parse_areas(payload: JsonObject) -> tuple[Area, ...]:
    """The boxes, otherwise the polygons, otherwise the circle."""
    if boxes := _coordinate_lists(payload, "insideBoundingBox"):
        corners = [each[at : at + 4] for each in boxes for at in range(0, len(each), 4)]
        if any(len(each) != 4 for each in corners):
            raise QueryError("insideBoundingBox must have 4 numbers for each box: the coordinates of opposite corners")
        return tuple(_checked("insideBoundingBox", _box(*each)) for each in corners)
    if polygons := _coordinate_lists(payload, "insidePolygon"):
        if any(len(each) % 2 for each in polygons):
            raise QueryError("insidePolygon must have an even number of coordinates, such as [47, 10, 47, 14, 50, 11]")
        corners_of = (tuple(map(Place, each[::2], each[1::2])) for each in polygons)
        return tuple(_checked("insidePolygon", Polygon(each)) for each in corners_of)
    around = _parse_around(payload)
    radius = payload.get("aroundRadius")
    if around is None or radius in (None, "all"):
        return ()
    return (Circle(around.place, integer(payload, "aroundRadius", 0, 1, 10**8)),)


def _box(lat: float, lng: float, other_lat: float, other_lng: float) -> Box:
    return Box(min(lat, other_lat), min(lng, other_lng), max(lat, other_lat), max(lng, other_lng))


def _checked(name: str, area: Area) -> Area:
    if area.problem:
        raise QueryError(f"{name}: {area.problem}")
    return area


def _parse_around(payload: JsonObject) -> Around | None:
    centre = text(payload, "aroundLatLng", most=MAX_NAME)
    if not centre.strip() or payload.get("insideBoundingBox") or payload.get("insidePolygon"):
        return None
    pair = _coordinates("aroundLatLng", centre.split(","))
    if len(pair) != 2 or (problem := place_problem(*pair)):
        problem = problem if len(pair) == 2 else "it must have two numbers"
        raise QueryError(f"aroundLatLng is {_repr_value(centre)}, it must be like '52.5, 13.4': {problem}")
    return Around(Place(*pair))


def _coordinate_lists(payload: JsonObject, name: str) -> list[tuple[float, ...]]:
    """Lists of coordinates: a list of lists or of texts, or one flat list or text."""
    value = _decode_list(payload, name)
    if value in (None, "", []):
        return []
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or len(entries) > _MAX_PAIRS:
        raise QueryError(f"{name} must be a list of at most {_MAX_PAIRS} coordinates, such as [47.3, 4.9, 47.4, 5.1]")
    split = [each.split(",") if isinstance(each, str) and "," in each else each for each in entries]
    lists = split if all(isinstance(each, list) for each in split) else [split]
    return [_coordinates(name, each) for each in lists]


def _coordinates(name: str, values: Sequence[object]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(each) if isinstance(each, str | int | float) else math.nan for each in values)
    except (ValueError, OverflowError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise QueryError(f"{name} must have finite numbers, such as 47.3, 4.9")
    return numbers


def count_ignored(payload: JsonObject) -> list[str] | UnsetType:
    """The names of parameters that have no effect, at most 20 of them, for the response; the metric counts them."""
    unknown = (name[:MAX_NAME] for name, value in payload.items() if value is not None)
    ignored = sorted(name for name in unknown if name not in COUNTING and name not in _ADDRESSING)[:_MAX_IGNORED]
    record_ignored(ignored)
    return ignored or UNSET


def _parse_distinct(payload: JsonObject) -> int:
    """The number of hits of each group; 0 for no groups."""
    value = payload.get("distinct")
    if isinstance(value, bool) or value in ("true", "false"):
        return int(flag(payload, "distinct", default=False))
    return integer(payload, "distinct", 0, 0, MAX_PER_GROUP)


def _is_prefix(payload: JsonObject) -> bool:
    kind = text(payload, "queryType", _QUERY_TYPES[0], MAX_NAME)
    if kind not in _QUERY_TYPES:
        raise QueryError(f"queryType is {_repr_value(kind)}, it can be {', '.join(_QUERY_TYPES)}")
    return kind != "prefixNone"


def _parse_view(payload: JsonObject) -> RecordView:
    marks = Marks(
        text(payload, "highlightPreTag", _PLAIN.before, _MAX_TAG),
        text(payload, "highlightPostTag", _PLAIN.after, _MAX_TAG),
        text(payload, "snippetEllipsisText", _PLAIN.cut, _MAX_TAG),
    )
    return RecordView(
        names(payload, "attributesToRetrieve", EVERYTHING),
        names(payload, "attributesToHighlight", EVERYTHING),
        names(payload, "attributesToSnippet"),
        marks,
    )


def is_suggestions_index(index: str) -> bool:
    """Whether the records of an index are suggested queries."""
    return index == _SUGGESTIONS or index.endswith(f"_{_SUGGESTIONS}")


def parse_sort(index: str, catalog: FieldCatalog) -> str:
    """The sort order in an index name such as `products_price_desc`, for the engine; empty for any other name.

    Raises UnknownFieldError if the name ends in an order and the field does not exist.
    """
    match = SORTED_INDEX.fullmatch(index)
    if not match:
        return ""
    pieces = match["name"].split("_")
    ends = ["_".join(pieces[at:]) for at in range(len(pieces))]
    for end in ends:
        for name in (end, f"attributes.{end}"):
            info = catalog.fields.get(name)
            if info and info.is_numeric:
                return f"-{name}" if match["order"] == "desc" else name
    message = f"{index!r} ends with a sort order, but there is no numeric field {ends[-1]!r} to sort by"
    raise UnknownFieldError(message, ends[-1])
