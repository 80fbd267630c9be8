"""API keys: the file of them, read anew when it changes, their scopes, and narrower keys signed by their owners."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from filelock import FileLock

from retrieval.errors import SettingError, StoreDamagedError, StoreError
from retrieval.filters.parser import And, format_filter, parse_filter
from retrieval.store.manifest import file_stamp, scratch_path, write_durably

# The file of API keys: read anew when it changes, so that keys are made and withdrawn without a restart.

KEYS_FILE = "keys.json"
"""In the index directory, unless the settings name another one."""
_CHECK_SECONDS = 0.5


class KeyFile:
    """The keys of a service. Safe to share between threads; processes take turns at changing it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, StoredKey] = {}
        self._stamp: tuple[int, int] | None = None
        self._checked = -_CHECK_SECONDS
        self._reading = threading.Lock()

    @property
    def is_there(self) -> bool:
        """Whether a key has ever been made: without one only this machine is served."""
        return self.path.exists()

    def keys(self) -> dict[str, StoredKey]:
        """By id, as the file has them now; raises StoreDamagedError where it cannot be read."""
        with self._reading:
            now = time.monotonic()
            if now - self._checked >= _CHECK_SECONDS:
                self._checked = now
                self._reload_if_changed()
            return self._keys

    def permit(self, key: str, now: datetime) -> Permit | None:
        """What a key allows; None for one that allows nothing."""
        return verify_key(key, self.keys(), now)

    def add(self, key: StoredKey) -> None:
        """Keeps one more key, durably."""
        with self._changing():
            self._write({**_read(self.path), key.id: key})

    def withdraw(self, identity: str) -> StoredKey:
        """Takes a key out, and with it all that were signed by it; raises SettingError where there is none."""
        with self._changing():
            known = _read(self.path)
            if identity not in known:
                raise SettingError(f"there is no key {identity}; shelfwise keys list shows those that there are")
            gone = known.pop(identity)
            self._write(known)
        return gone

    def _reload_if_changed(self) -> None:
        stamp = file_stamp(self.path)
        if stamp != self._stamp:
            self._keys = _read(self.path)
            self._stamp = stamp

    def _changing(self) -> FileLock:
        return FileLock(self.path.with_suffix(".lock"))

    def _write(self, keys: dict[str, StoredKey]) -> None:
        encoded = msgspec.json.format(msgspec.json.encode(list(keys.values())))
        try:
            scratch_path(self.path).touch(mode=0o600)  # before anything is in it
            write_durably(self.path, encoded)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written ({error.strerror}); see to the rights to it") from error
        self._checked = -_CHECK_SECONDS


def _read(path: Path) -> dict[str, StoredKey]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); see to the rights to it") from error
    try:
        return {key.id: key for key in msgspec.json.decode(raw, type=list[StoredKey])}
    except msgspec.MsgspecError as error:
        raise StoreDamagedError(f"{path} holds no API keys ({error}); take it from a backup, or remove it") from error


# API keys: made once and shown once, stored as hashes, narrowed by whoever holds one.
#
# A key is `sw_ID_SECRET`. Of it the file keeps the SHA-256, which is enough for a secret of 256 bits, and the Ed25519
# public key that the secret makes. With the secret anyone signs narrower keys (a fixed filter, fewer scopes, an expiry)
# without asking the server; with the file nobody can sign anything.

_PREFIX, _SIGNED = "sw_", "sws_"
_BYTES = 32
MOST_CHARACTERS = 4_096
"""Of a key as it is sent."""


class Scope(StrEnum):
    """What a key is for."""

    SEARCH = "search"
    EVENTS = "events"
    WRITE = "write"
    METRICS = "metrics"
    ADMIN = "admin"
    """Everything."""


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as the file holds it."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    public: str
    """The Ed25519 public key, in hexadecimal."""
    created: datetime
    expires: datetime | None = None
    filters: str = ""
    """An expression that every search with this key is narrowed by."""
    requests_per_minute: int | None = None


class Permit(msgspec.Struct, frozen=True):
    """What whoever sent a request may do."""

    id: str
    """Of the key; empty where none is needed."""
    scopes: frozenset[Scope]
    filters: tuple[str, ...] = ()
    """Expressions that every search is narrowed by, each of them."""
    requests_per_minute: int | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the scope is among its own."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class _KeyRestriction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a signed key says."""

    key: str
    scopes: tuple[Scope, ...] = ()
    filters: str = ""
    expires: int = 0
    """Seconds since 1970; 0 for never."""


def new_key(
    name: str,
    scopes: tuple[Scope, ...],
    *,
    now: datetime,
    expires: datetime | None = None,
    filters: str = "",
    requests_per_minute: int | None = None,
) -> tuple[str, StoredKey]:
    """The key, and what is kept of it; raises SettingError, or FilterError, for what cannot be."""
    if not scopes:
        raise SettingError(f"a key without a scope may do nothing; give it one of {', '.join(Scope)}")
    if not name.strip() or len(name) > 100:
        raise SettingError("a key has a name of 1 to 100 characters, by which it is told from the others")
    parse_filter(filters)
    identity = secrets.token_hex(6)
    secret = secrets.token_bytes(_BYTES)
    key = f"{_PREFIX}{identity}_{_text(secret)}"
    stored = StoredKey(
        identity,
        name.strip(),
        scopes,
        hashlib.sha256(key.encode()).hexdigest(),
        _signer(secret).public_key().public_bytes_raw().hex(),
        now.astimezone(UTC),
        expires,
        filters,
        requests_per_minute,
    )
    return key, stored


def narrow_key(key: str, *, scopes: tuple[Scope, ...] = (), filters: str = "", expires: datetime | None = None) -> str:
    """A key that may do what `key` may, or less: only `scopes` of its scopes, only what `filters` lets through too,
    only until `expires`. It is made without the server. Raises SettingError for what is no whole key."""
    identity, secret = _parts(key)
    parse_filter(filters)
    told = _KeyRestriction(identity, scopes, filters, 0 if expires is None else int(expires.timestamp()))
    payload = msgspec.json.encode(told)
    return f"{_SIGNED}{_text(payload)}.{_text(_signer(secret).sign(payload))}"


def verify_key(key: str, stored: dict[str, StoredKey], now: datetime) -> Permit | None:
    """What a key allows; None for one that is unknown, was tampered with, or has expired."""
    if len(key) > MOST_CHARACTERS or not key.isascii():
        return None
    return _signed_permit(key, stored, now) if key.startswith(_SIGNED) else _plain_permit(key, stored, now)


def _plain_permit(key: str, stored: dict[str, StoredKey], now: datetime) -> Permit | None:
    found = stored.get(key.removeprefix(_PREFIX).partition("_")[0])
    given = hashlib.sha256(key.encode()).hexdigest()
    # Compared with something in any case: how long it takes tells nothing of which ids there are.
    is_right = hmac.compare_digest(given, found.sha256 if found else "0" * 64)
    if found is None or not is_right or _is_over(found, now):
        return None
    return Permit(found.id, frozenset(found.scopes), _filters(found.filters), found.requests_per_minute)


def _signed_permit(key: str, stored: dict[str, StoredKey], now: datetime) -> Permit | None:
    payload_text, _, signature_text = key.removeprefix(_SIGNED).partition(".")
    try:
        payload, signature = _bytes(payload_text), _bytes(signature_text)
        told = msgspec.json.decode(payload, type=_KeyRestriction)
    except (ValueError, msgspec.MsgspecError):
        return None
    found = stored.get(told.key)
    if found is None or _is_over(found, now) or (told.expires and now.timestamp() >= told.expires):
        return None
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.public)).verify(signature, payload)
    except (InvalidSignature, ValueError):
        return None
    scopes = _restrict_scopes(frozenset(found.scopes), frozenset(told.scopes))
    return Permit(found.id, scopes, _filters(found.filters, told.filters), found.requests_per_minute)


def _filters(*expressions: str) -> tuple[str, ...]:
    return tuple(each for each in expressions if each.strip())


def _restrict_scopes(own: frozenset[Scope], told: frozenset[Scope]) -> frozenset[Scope]:
    if not told:
        return own
    return told if Scope.ADMIN in own else own & told


def _is_over(key: StoredKey, now: datetime) -> bool:
    return key.expires is not None and now >= key.expires


def _parts(key: str) -> tuple[str, bytes]:
    identity, _, secret_text = key.removeprefix(_PREFIX).partition("_")
    try:
        secret = _bytes(secret_text)
    except ValueError:
        secret = b""
    if not key.startswith(_PREFIX) or len(secret) != _BYTES:
        raise SettingError("this is no whole key: one begins with sw_ and was shown when it was made")
    return identity, secret


def _signer(secret: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(secret)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


# Filters of keys and requests put together: as trees, so that no text of a request can reach out of its brackets.


def combine_filters(filters: Iterable[str]) -> str:
    """An expression that lets through what each of them does; raises FilterError for one that cannot be read."""
    trees = [tree for tree in map(parse_filter, filters) if tree is not None]
    if not trees:
        return ""
    return format_filter(trees[0] if len(trees) == 1 else And(tuple(trees)))
