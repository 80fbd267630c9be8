"""Settings of the protocol, stored as relevance settings of the store and as default parameters of searches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from retrieval.errors import InputError, QueryError, UnknownFieldError
from retrieval.filters.schema import FieldCatalog
from retrieval.store.products import DEFAULT_WEIGHTS, FieldWeights
from service.curation.relevance import Relevance, Signal, TypoTolerance
from service.engine.engine import SearchEngine
from service.instantsearch.index_store import IndexSettings, ProtocolStore
from service.instantsearch.request import COUNTING, PLACING, JsonObject, names, parse_search, parse_sort

_OF_ONE_SEARCH = frozenset({"query", "page", "offset", "length", "facets", "clickAnalytics", "analytics", "userToken"})
_FILTERS = frozenset({"facetFilters", "numericFilters", "tagFilters", "filters", "restrictSearchableAttributes"})
_RANKING_OPTIONS = frozenset({"getRankingInfo", "ruleContexts", "optionalFilters"})
DEFAULTABLE = COUNTING - _OF_ONE_SEARCH - _FILTERS - _RANKING_OPTIONS - {*PLACING}
"""Search parameters that are settings as well."""
_WEIGHTS = (5, 3, 2)
"""Weights of searchable attributes by position; later ones have weight 1."""
_FIELDS = ("title", "brand", "category", "description")
_TO_FIELD = {
    "name": "title",
    "categories": "category",
    "hierarchicalCategories": "category",
    "image": "images",
    "_tags": "tags",
    "_geoloc": "places",
}
_FROM_FIELD = {"title": "name", "category": "categories", "places": "_geoloc"}
_RANKING = re.compile(r"(?P<order>asc|desc)\((?P<name>[^()]+)\)")
_UNORDERED = re.compile(r"(?:un)?ordered\((?P<name>[^()]+)\)")
_TOLERANCE = {"true": TypoTolerance.ON, "min": TypoTolerance.ON, "strict": TypoTolerance.ON, "false": TypoTolerance.OFF}
_LEAST_SIGNAL = 1 / 512


@dataclass(slots=True)
class SettingsUpdate:
    """Changed settings that are not stored yet."""

    relevance: Relevance
    own: IndexSettings
    notes: list[str] = field(default_factory=list)
    """Settings that were not applied as sent, with the reasons."""


def read_settings(engine: SearchEngine, stored: ProtocolStore) -> dict[str, Any]:
    """The current settings, by the protocol's names."""
    relevance, own = engine.relevance.get(), stored.settings
    ranking = [f"{'desc' if each.descending else 'asc'}({each.field})" for each in relevance.signals]
    defaults = {"hitsPerPage": 20, "maxValuesPerFacet": 100, "attributesToRetrieve": None, **own.defaults}
    return defaults | {
        "searchableAttributes": _searchable(relevance.fields),
        "attributesForFaceting": list(own.faceting) or None,
        "customRanking": ranking or None,
        "typoTolerance": relevance.typo_tolerance is TypoTolerance.ON,
        "disableTypoToleranceOnWords": list(relevance.never_corrected),
        "unretrievableAttributes": [_FROM_FIELD.get(each, each) for each in relevance.hidden] or None,
        "replicas": list(own.replicas),
        "version": 2,
    }


def write_settings(engine: SearchEngine, stored: ProtocolStore, payload: JsonObject, *, who: str) -> list[str]:
    """Stores settings, leaving omitted ones unchanged; returns what was not applied, and why.

    Raises QueryError or RelevanceError, which name the setting, for an invalid value; then nothing is stored.
    """
    before = engine.relevance.get()
    update = SettingsUpdate(before, stored.settings)
    ignored = []
    for name, value in payload.items():
        if name in _SETTERS:
            _SETTERS[name](update, payload, engine.snapshot.catalog)
        elif name in DEFAULTABLE:
            _set_default(update, name, value)
        elif name != "version":
            ignored.append(name)
    if update.relevance != before:
        engine.relevance.put(update.relevance, who=who)
    own = update.own
    stored.change_settings(
        lambda known: structs.replace(known, faceting=own.faceting, replicas=own.replicas, defaults=own.defaults)
    )
    return [*update.notes, *([f"not applied: {', '.join(sorted(ignored))}"] if ignored else [])]


def _set_default(update: SettingsUpdate, name: str, value: object) -> None:
    kept = {key: each for key, each in update.own.defaults.items() if key != name}
    if value is not None:
        parse_search({name: value})
        kept[name] = value
    update.own = structs.replace(update.own, defaults=kept)


def _field_of(name: str) -> str:
    """The name of an attribute in filters; category levels belong to the category field."""
    return _TO_FIELD.get(name.partition(".")[0] if name.startswith(("categories.", "hierarchical")) else name, name)


def _set_searchable(update: SettingsUpdate, payload: JsonObject, catalog: FieldCatalog) -> None:
    """Sets the searched fields: earlier attributes weigh more, and those that are not listed have no weight."""
    listed = names(payload, "searchableAttributes")
    if not listed:
        update.relevance = structs.replace(update.relevance, fields=DEFAULT_WEIGHTS)
        return
    weights: dict[str, int] = {}
    for place, entry in enumerate(listed):
        weight = _WEIGHTS[place] if place < len(_WEIGHTS) else 1
        for each in entry.split(","):
            inner = _UNORDERED.fullmatch(each.strip())
            weights.setdefault(_field_of(inner["name"] if inner else each.strip()), weight)
    known = {name.removeprefix("attributes.") for name in catalog.fields if name.startswith("attributes.")}
    if unknown := sorted(weights.keys() - known - set(_FIELDS)):
        update.notes.append(f"searchableAttributes: no product has text under {', '.join(unknown)}")
    if "title" not in weights:
        update.notes.append("searchableAttributes: the name is always searched")
    update.notes.append("searchableAttributes take effect with the next rebuild")
    by_field = {"title": max(weights.get("title", 1), 1), **{name: weights.get(name, 0) for name in _FIELDS[1:]}}
    attributes = {name: weights.get(name, 0) for name in sorted(known)}
    update.relevance = structs.replace(update.relevance, fields=FieldWeights(**by_field, attributes=attributes))


def _searchable(weights: FieldWeights) -> list[str] | None:
    """Searchable attributes by weight, those of equal weight in one entry; None for the default weights."""
    if weights == DEFAULT_WEIGHTS:
        return None
    by_weight: dict[int, list[str]] = {}
    own = {_FROM_FIELD.get(name, name): getattr(weights, name) for name in _FIELDS}
    for name, weight in (own | weights.attributes).items():
        by_weight.setdefault(weight, []).append(name)
    return [",".join(by_weight[weight]) for weight in sorted(by_weight, reverse=True) if weight]


def _set_faceting(update: SettingsUpdate, payload: JsonObject, _catalog: FieldCatalog) -> None:
    update.own = structs.replace(update.own, faceting=names(payload, "attributesForFaceting"))


def _set_ranking(update: SettingsUpdate, payload: JsonObject, catalog: FieldCatalog) -> None:
    signals: list[Signal] = []
    for entry in names(payload, "customRanking"):
        found = _RANKING.fullmatch(entry.strip())
        if not found:
            raise QueryError(f"customRanking: {entry[:60]!r} must be like desc(rating) or asc(price)")
        name = _field_of(found["name"].strip())
        try:
            catalog.resolve_sortable(name)
        except UnknownFieldError:
            update.notes.append(f"customRanking: {entry} is not applied: there is no numeric field {name!r}")
            continue
        signals.append(Signal(name, max(0.5 ** len(signals), _LEAST_SIGNAL), found["order"] == "desc"))
    update.relevance = structs.replace(update.relevance, signals=tuple(signals))


def _set_tolerance(update: SettingsUpdate, payload: JsonObject, _catalog: FieldCatalog) -> None:
    value = payload["typoTolerance"]
    wanted = "true" if value is None else str(value).lower()
    if wanted not in _TOLERANCE:
        raise QueryError(f"typoTolerance is {str(value)[:40]!r}, it can be true, false, min or strict")
    if wanted in ("min", "strict"):
        update.notes.append(f"typoTolerance: {wanted} is applied as true")
    update.relevance = structs.replace(update.relevance, typo_tolerance=_TOLERANCE[wanted])


def _set_exceptions(update: SettingsUpdate, payload: JsonObject, _catalog: FieldCatalog) -> None:
    update.relevance = structs.replace(update.relevance, never_corrected=names(payload, "disableTypoToleranceOnWords"))


def _set_hidden(update: SettingsUpdate, payload: JsonObject, _catalog: FieldCatalog) -> None:
    hidden = tuple(dict.fromkeys(map(_field_of, names(payload, "unretrievableAttributes"))))
    update.relevance = structs.replace(update.relevance, hidden=hidden)


def _set_replicas(update: SettingsUpdate, payload: JsonObject, catalog: FieldCatalog) -> None:
    replicas = names(payload, "replicas")
    for each in replicas:
        try:
            is_sorted = bool(parse_sort(each.removeprefix("virtual(").removesuffix(")"), catalog))
        except InputError:
            is_sorted = False
        if not is_sorted:
            update.notes.append(f"replicas: {each} is not a sort order of this index; use _FIELD_asc or _FIELD_desc")
    update.own = structs.replace(update.own, replicas=replicas)


_SETTERS = {
    "searchableAttributes": _set_searchable,
    "attributesForFaceting": _set_faceting,
    "customRanking": _set_ranking,
    "typoTolerance": _set_tolerance,
    "disableTypoToleranceOnWords": _set_exceptions,
    "unretrievableAttributes": _set_hidden,
    "replicas": _set_replicas,
}
