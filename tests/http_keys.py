"""Keys for the tests of the HTTP service."""

from __future__ import annotations

from datetime import UTC, datetime

from service.http.auth import KeyFile, Scope, new_key


def made(keys: KeyFile, *scopes: Scope, filters: str = "", expires: datetime | None = None) -> str:
    """One more key."""
    key, stored = new_key("test", scopes, now=datetime.now(UTC), filters=filters, expires=expires)
    keys.add(stored)
    return key
