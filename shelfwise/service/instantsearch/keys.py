"""Keys of the protocol: rights (`acl`) instead of scopes, mapped to scopes for the other paths of the service."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct, structs

from shelfwise.retrieval.errors import QueryError, SettingError
from shelfwise.service.http.auth import KeyFile, Scope, StoredKey, check_patterns, matches_index, new_key, verify_key
from shelfwise.service.http.errors import RequestError
from shelfwise.service.instantsearch.request import JsonObject, integer, names, text

_RIGHTS = (
    "search",
    "browse",
    "addObject",
    "deleteObject",
    "deleteIndex",
    "settings",
    "editSettings",
    "listIndexes",
    "seeUnretrievableAttributes",
    "recommendation",
    "logs",
)
_WITHOUT_ROUTES = ("analytics", "inference", "personalization", "usage")
"""Rights to operations that this service does not have."""
_SCOPE_RIGHTS: Mapping[Scope, tuple[str, ...]] = {
    Scope.ADMIN: _RIGHTS,
    Scope.SEARCH: ("search", "browse", "listIndexes", "recommendation"),
    Scope.WRITE: ("addObject", "deleteObject", "deleteIndex"),
}
_FIELDS = frozenset({"acl", "description", "indexes", "validity"})
_LIMITS = ("maxHitsPerQuery", "maxQueriesPerIPPerHour", "queryParameters", "referers")
"""Restrictions that a key cannot have; they are only accepted with values that restrict nothing."""
_MOST_SECONDS = 100 * 365 * 86_400


PARENT = re.compile(r"\bsecured\b", re.IGNORECASE)
"""Word in the description of a key that may be the parent of secured API keys."""


def add_key(keys: KeyFile, payload: JsonObject, known_index: str, now: datetime) -> tuple[str, StoredKey]:
    """Creates a key and returns it. Raises QueryError or SettingError, which name the field."""
    rights, indexes, expires = _parse(payload, known_index, now)
    name = text(payload, "description") or "InstantSearch"
    key, stored = new_key(name, _scopes_of(rights), now=now, expires=expires, rights=rights, indexes=indexes)
    if rights == ("search",) and PARENT.search(name):
        stored = keys.as_parent(key, stored)
    keys.add(stored)
    return key, stored


def update_key(keys: KeyFile, key: str, payload: JsonObject, known_index: str, now: datetime) -> None:
    """Replaces the rights of a key; its secret stays. Raises RequestError (404), QueryError or SettingError."""
    stored = find_key(keys, key, now)
    if not stored.rights:
        message = f"the key {stored.id} was created by shelfwise keys create: withdraw it there, and create another"
        raise QueryError(message)
    rights, indexes, expires = _parse(payload, known_index, now)
    name = text(payload, "description") or stored.name
    check_patterns(indexes)
    changed = {"name": name, "scopes": _scopes_of(rights), "rights": rights, "indexes": indexes, "expires": expires}
    if rights != ("search",):
        changed["verifier"] = ""  # ends its secured keys
    keys.add(structs.replace(stored, **changed))


def find_key(keys: KeyFile, key: str, now: datetime) -> StoredKey:
    """The entry of a whole key, or of `sw_ID` as in lists; raises RequestError (404)."""
    known = keys.keys()
    prefix, _, rest = key.partition("_")
    identity, _, secret = rest.partition("_")
    stored = known.get(identity) if prefix == "sw" else None
    if stored is None or stored.is_expired(now) or (secret and verify_key(key, known, now) is None):
        raise RequestError(404, "there is no such key")
    return stored


def restore_key(keys: KeyFile, key: str) -> None:
    """Restores a withdrawn key, given whole or as `sw_ID`; raises RequestError (404)."""
    identity, _, secret = key.removeprefix("sw_").partition("_")
    try:
        keys.restore(identity, hashlib.sha256(key.encode()).hexdigest() if secret else "")
    except SettingError as error:
        raise RequestError(404, str(error)) from error


class KeyDocument(Struct, frozen=True, rename="camel"):
    """A key in the form of the protocol."""

    value: str
    """The key, or `sw_ID` in lists, since the file does not contain the key."""
    created_at: int
    acl: tuple[str, ...]
    description: str
    indexes: tuple[str, ...]
    validity: int
    """Seconds until it expires; 0 for never."""


def key_document(stored: StoredKey, now: datetime, value: str = "") -> KeyDocument:
    """The description of a key, whose `value` is `sw_ID` by default."""
    return KeyDocument(
        value or f"sw_{stored.id}",
        int(stored.created.timestamp()),
        stored.rights or _rights_of(stored.scopes),
        stored.name,
        stored.indexes,
        max(1, int((stored.expires - now).total_seconds())) if stored.expires else 0,
    )


def _parse(
    payload: JsonObject, known_index: str, now: datetime
) -> tuple[tuple[str, ...], tuple[str, ...], datetime | None]:
    """The rights, the index names and the expiry of a key."""
    for name in payload:
        if name in _LIMITS and payload[name]:
            raise QueryError(f"{name} is not supported as a restriction of keys; shelfwise keys narrow adds a filter")
        if name not in (*_FIELDS, *_LIMITS):
            raise QueryError(f"{name} is not a field of a key; it can have {', '.join(sorted(_FIELDS))}")
    rights = names(payload, "acl")
    if not rights:
        raise QueryError(f"acl is missing; it must be a list of some of {', '.join(_RIGHTS)}")
    for right in rights:
        if right not in (*_RIGHTS, *_WITHOUT_ROUTES):
            raise QueryError(f"acl: there is no {right[:40]!r}; it can be {', '.join(_RIGHTS)}")
    indexes = names(payload, "indexes")
    if indexes and known_index and not any(matches_index(each, known_index) for each in indexes):
        raise QueryError(f"indexes: none of them is the index of this service, {known_index!r}")
    seconds = integer(payload, "validity", 0, 0, _MOST_SECONDS)
    return rights, indexes, now.astimezone(UTC) + timedelta(seconds=seconds) if seconds else None


def _scopes_of(rights: Collection[str]) -> tuple[Scope, ...]:
    """The scopes for the other paths, never more than the rights allow."""
    searching = (Scope.SEARCH, Scope.EVENTS) if "search" in rights else ()
    return (*searching, *((Scope.WRITE,) if {"addObject", "deleteObject", "deleteIndex"} <= set(rights) else ()))


def _rights_of(scopes: Collection[Scope]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(right for scope in _SCOPE_RIGHTS if scope in scopes for right in _SCOPE_RIGHTS[scope]))
