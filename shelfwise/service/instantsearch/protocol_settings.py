"""Settings of the protocol: those that exist nowhere else, with the name of the index, in its own file; the others are
relevance settings of the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from shelfwise.retrieval.errors import QueryError, StoreDamagedError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.store.products import DEFAULT_WEIGHTS, FieldWeights
from shelfwise.service.curation.relevance import Relevance, TypoTolerance
from shelfwise.service.curation.sqlite_file import SqliteFile
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import MAX_SORT_KEYS
from shelfwise.service.events.hot_reload import ReloadedFile
from shelfwise.service.instantsearch.filters import AttributeCatalog
from shelfwise.service.instantsearch.protocol_request import (
    DEFAULTABLE,
    MAX_NAME,
    JsonObject,
    ViewSettings,
    is_suggestions_index,
    names,
    parse_search,
)

FILE = "protocol.sqlite"
_HOLDS = "settings of the InstantSearch protocol"
_TABLES = "CREATE TABLE settings (one INTEGER PRIMARY KEY CHECK (one = 1), document TEXT NOT NULL);"


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
_ORDER = re.compile(r"(?:asc|desc)\((?P<name>[^(),]+)\)")
_CRITERIA = ("typo", "geo", "words", "filters", "proximity", "attribute", "exact", "custom")
_VIRTUAL = re.compile(r"^virtual\((.+)\)$")
_UNORDERED = re.compile(r"(?:un)?ordered\((?P<name>[^()]+)\)")
_TOLERANCE = {"true": TypoTolerance.ON, "min": TypoTolerance.ON, "strict": TypoTolerance.ON, "false": TypoTolerance.OFF}


class IndexSettings(ViewSettings, frozen=True):
    """Settings of an index that only the protocol has, and those of its replicas, which are views of it."""

    name: str = ""
    """Name of the index, set by the first write; empty before."""
    replicas: tuple[str, ...] = ()
    """`replicas`, as set."""
    views: Mapping[str, ViewSettings] = {}
    """Settings of each replica by name."""

    def view(self, index: str) -> str:
        """The name of a replica; empty for any other name, which is that of the index itself."""
        return index if index in self.views else ""

    def of(self, index: str) -> ViewSettings:
        """The settings of a replica, or of the index itself for any other name."""
        return self.views.get(index, self)


class ProtocolStore:
    """The protocol's file in an index directory. Threads and processes may share it; it is created by the first change,
    and changes are durable when the method returns."""

    def __init__(self, root: Path) -> None:
        self._file = SqliteFile(root / FILE, _HOLDS, 0x53575049, _TABLES, version=2, private=True)
        failure = "changes of the protocol's settings are not loaded"
        self._settings: ReloadedFile[IndexSettings] = ReloadedFile(
            root / FILE, lambda _: self._read_settings(), IndexSettings(), failure, keeps_value=True
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """The reason why the latest settings are not loaded."""
        self._settings.current()
        return self._settings.notices

    @property
    def settings(self) -> IndexSettings:
        """The settings, reloaded when they change."""
        return self._settings.current()

    def change_settings(self, change: Callable[[IndexSettings], IndexSettings]) -> None:
        """Changes the settings with the function `change`."""
        with self._file.writing() as cursor:
            row = cursor.execute("SELECT document FROM settings").fetchone()
            document = msgspec.json.encode(change(_decoded(row))).decode()
            cursor.execute("INSERT OR REPLACE INTO settings VALUES (1, ?)", (document,))
        self._settings.reload_if_changed()

    def adopt_name(self, name: str) -> None:
        """Gives the index the name of a write, unless it has a name."""
        if not self.settings.name:
            self.change_settings(lambda settings: settings if settings.name else structs.replace(settings, name=name))

    def _read_settings(self) -> IndexSettings:
        with self._file.reading() as cursor:
            row = cursor.execute("SELECT document FROM settings").fetchone() if cursor else None
        return _decoded(row)


def _decoded(row: tuple[str] | None) -> IndexSettings:
    try:
        return msgspec.json.decode(row[0], type=IndexSettings) if row else IndexSettings()
    except msgspec.MsgspecError as error:
        raise StoreDamagedError(f"{FILE} holds settings that cannot be read: {error}") from error


@dataclass(slots=True)
class SettingsUpdate:
    """Changed settings that are not stored yet."""

    relevance: Relevance
    own: ViewSettings
    """Settings of the index, or of one of its replicas."""
    replicas: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)
    """Settings that were not applied as sent, with the reasons."""


def read_settings(engine: SearchEngine, stored: ProtocolStore, index: str) -> dict[str, Any]:
    """The current settings of the index or of a replica, by the protocol's names."""
    relevance, settings = engine.relevance.get(), stored.settings
    own = settings.of(index)
    defaults = {"hitsPerPage": 20, "maxValuesPerFacet": 100, "attributesToRetrieve": None, **own.defaults}
    return defaults | {
        "searchableAttributes": _searchable(relevance.fields),
        "attributesForFaceting": list(own.faceting) or None,
        "customRanking": list(own.custom_ranking) or None,
        "ranking": list(own.ranking or _CRITERIA),
        "typoTolerance": relevance.typo_tolerance is TypoTolerance.ON,
        "disableTypoToleranceOnWords": list(relevance.never_corrected),
        "unretrievableAttributes": [_FROM_FIELD.get(each, each) for each in relevance.hidden] or None,
        **({"primary": own.primary} if own.primary else {"replicas": list(settings.replicas)}),
        "version": 2,
    }


def write_settings(
    engine: SearchEngine, stored: ProtocolStore, payload: JsonObject, *, who: str, index: str = ""
) -> list[str]:
    """Stores settings of the index or of a replica, leaving omitted ones unchanged; returns what was not applied, and
    why.

    Raises QueryError or RelevanceError, which name the setting, for an invalid value; then nothing is stored.
    """
    before = engine.relevance.get()
    target = stored.settings.of(index)
    update = SettingsUpdate(before, target)
    ignored = []
    for name, value in payload.items():
        if name in _SETTERS and not (target.primary and name in _OF_PRIMARIES):
            _SETTERS[name](update, payload, engine.snapshot.catalog)
        elif name in DEFAULTABLE:
            _set_default(update, name, value)
        elif name not in ("version", "primary"):
            ignored.append(name)
    if update.relevance != before:
        engine.relevance.put([update.relevance], who=who)
    stored.change_settings(lambda settings: _changed(settings, index, update))
    reason = f" to a replica, which has those of {target.primary}" if target.primary else ""
    return [*update.notes, *([f"not applied{reason}: {', '.join(sorted(ignored))}"] if ignored else [])]


def _changed(settings: IndexSettings, index: str, update: SettingsUpdate) -> IndexSettings:
    """The settings of an index with an update of its own, or of those of a replica."""
    if update.own.primary:
        # A replica that was removed meanwhile stays removed.
        views = {index: update.own} if index in settings.views else {}
        return structs.replace(settings, views={**settings.views, **views})
    own = {name: getattr(update.own, name) for name in ViewSettings.__struct_fields__}
    settings = structs.replace(settings, **own)
    if update.replicas is None:
        return settings
    own["primary"] = settings.name or index
    replicas = {_VIRTUAL.sub(r"\1", each): bool(_VIRTUAL.match(each)) for each in update.replicas}
    views = {
        name: structs.replace(settings.views.get(name, ViewSettings(**own)), is_virtual=is_virtual)
        for name, is_virtual in replicas.items()
    }
    return structs.replace(settings, replicas=update.replicas, views=views)


def _set_default(update: SettingsUpdate, name: str, value: object) -> None:
    defaults = {key: each for key, each in update.own.defaults.items() if key != name}
    if value is not None:
        parse_search({name: value})
        defaults[name] = value
    update.own = structs.replace(update.own, defaults=defaults)


def _field_of(name: str) -> str:
    """The name of an attribute in filters; category levels belong to the category field."""
    return _TO_FIELD.get(name.partition(".")[0] if name.startswith(("categories.", "hierarchical")) else name, name)


def _set_searchable(update: SettingsUpdate, payload: JsonObject, catalog: FieldCatalog) -> None:
    """Sets the searched fields: earlier attributes weigh more, and those that are not listed have no weight."""
    entries = names(payload, "searchableAttributes")
    if not entries:
        update.relevance = structs.replace(update.relevance, fields=DEFAULT_WEIGHTS)
        return
    weights: dict[str, int] = {}
    for index, entry in enumerate(entries):
        weight = _WEIGHTS[index] if index < len(_WEIGHTS) else 1
        for each in entry.split(","):
            inner = _UNORDERED.fullmatch(each.strip())
            weights.setdefault(_field_of(inner["name"] if inner else each.strip()), weight)
    attribute_names = {name.removeprefix("attributes.") for name in catalog.fields if name.startswith("attributes.")}
    if unknown := sorted(weights.keys() - attribute_names - set(_FIELDS)):
        update.notes.append(f"searchableAttributes: no product has text under {', '.join(unknown)}")
    if "title" not in weights:
        update.notes.append("searchableAttributes: the name is always searched")
    update.notes.append("searchableAttributes take effect with the next rebuild")
    by_field = {"title": max(weights.get("title", 1), 1), **{name: weights.get(name, 0) for name in _FIELDS[1:]}}
    attributes = {name: weights.get(name, 0) for name in sorted(attribute_names)}
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
    entries = names(payload, "ranking")
    orders = [each for each in entries if each not in _CRITERIA]
    _check_orders(update, "ranking", orders, catalog)
    if entries and [each for each in entries if each in _CRITERIA[:-1]] != [*_CRITERIA[:-1]]:
        update.notes.append("ranking: relevance is one criterion here, in the place of the first textual one")
    update.own = structs.replace(update.own, ranking=entries)


def _set_custom_ranking(update: SettingsUpdate, payload: JsonObject, catalog: FieldCatalog) -> None:
    entries = names(payload, "customRanking")
    _check_orders(update, "customRanking", entries, catalog)
    update.own = structs.replace(update.own, custom_ranking=entries)


def _check_orders(update: SettingsUpdate, setting: str, entries: Sequence[str], catalog: FieldCatalog) -> None:
    """Raises QueryError for an entry that is no order; notes one that no product has a number for."""
    attributes = AttributeCatalog(catalog)
    for each in entries:
        order = _ORDER.fullmatch(each)
        if not order:
            raise QueryError(f"{setting}: {each[:60]!r} must be like desc(rating) or asc(price)")
        attribute = attributes.find(order["name"])
        if attribute is None or not attribute.info.is_numeric:
            update.notes.append(f"{setting}: {each} has no effect until products have a number {order['name']!r}")
    if len(entries) > MAX_SORT_KEYS:
        update.notes.append(f"{setting}: only the first {MAX_SORT_KEYS} attributes order hits")


def _set_tolerance(update: SettingsUpdate, payload: JsonObject, _catalog: FieldCatalog) -> None:
    value = payload["typoTolerance"]
    tolerance = "true" if value is None else str(value).lower()
    if tolerance not in _TOLERANCE:
        raise QueryError(f"typoTolerance is {str(value)[:40]!r}, it can be true, false, min or strict")
    if tolerance in ("min", "strict"):
        update.notes.append(f"typoTolerance: {tolerance} is applied as true")
    update.relevance = structs.replace(update.relevance, typo_tolerance=_TOLERANCE[tolerance])


def _set_exceptions(update: SettingsUpdate, payload: JsonObject, _catalog: FieldCatalog) -> None:
    update.relevance = structs.replace(update.relevance, never_corrected=names(payload, "disableTypoToleranceOnWords"))


def _set_hidden(update: SettingsUpdate, payload: JsonObject, _catalog: FieldCatalog) -> None:
    hidden = tuple(dict.fromkeys(map(_field_of, names(payload, "unretrievableAttributes"))))
    update.relevance = structs.replace(update.relevance, hidden=hidden)


def _set_replicas(update: SettingsUpdate, payload: JsonObject, _catalog: FieldCatalog) -> None:
    update.replicas = tuple(each for each in names(payload, "replicas") if each)
    for each in update.replicas:
        name = _VIRTUAL.sub(r"\1", each)
        if len(name) > MAX_NAME or is_suggestions_index(name) or "(" in name:
            raise QueryError(f"replicas: {each[:60]!r} must be the name of an index, or virtual(NAME)")


_SETTERS = {
    "searchableAttributes": _set_searchable,
    "attributesForFaceting": _set_faceting,
    "customRanking": _set_custom_ranking,
    "ranking": _set_ranking,
    "typoTolerance": _set_tolerance,
    "disableTypoToleranceOnWords": _set_exceptions,
    "unretrievableAttributes": _set_hidden,
    "replicas": _set_replicas,
}
_OF_PRIMARIES = _SETTERS.keys() - {"attributesForFaceting", "customRanking", "ranking"}
"""Settings that replicas have from their primary."""
