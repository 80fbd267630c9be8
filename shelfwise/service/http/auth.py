"""API keys: their file, their scopes, and narrowed keys that their owners sign.

A key is `sw_ID_SECRET`; the secret is an Ed25519 private key. The file stores the SHA-256 of the key, which suffices
for 256 random bits, and its public key. The owner of a key can sign narrower keys (a filter, fewer scopes, an expiry),
which are JSON Web Tokens, without the server; the file alone does not allow anyone to sign a key. Only parents of
secured API keys, which may search and send events, are stored encrypted, with a key in a file beside it: an HMAC cannot
be checked by a hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl

import msgspec
import structlog
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from filelock import FileLock
from jwt import InvalidTokenError, PyJWS

from shelfwise.retrieval.errors import SettingError, StoreDamagedError
from shelfwise.retrieval.filters.ast import And, format_filter
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.store.files import SealedFile, Watch, file_stamp, text_seal, write_durably

_log = structlog.get_logger("shelfwise.keys")
KEYS_FILE = "keys.json"
"""Name in the index directory, unless the settings name another file."""
MAX_CHARACTERS = 4_096
"""Maximum length of a key in a request."""
MAX_PARENTS = 100
"""Maximum number of parents of secured API keys, each of which is compared with the signature of such a key."""
_PREFIX = "sw_"
_ALGORITHM = "EdDSA"
"""The only algorithm of narrowed keys, whatever their headers say."""
_JWS = PyJWS([_ALGORITHM])
_SECRET_BYTES = 32
_MAX_PATTERN = 200


class Scope(StrEnum):
    """Group of operations that a key allows."""

    SEARCH = "search"
    EVENTS = "events"
    SERVER = "server"
    """Events as the store's own server recorded them: with lists, positions, past times and addresses of shoppers."""
    WRITE = "write"
    METRICS = "metrics"
    ADVERTISER = "advertiser"
    """Reads the ledger of the advertiser with the name of the key."""
    ADMIN = "admin"
    """Allows everything."""


_TRUSTED = frozenset({Scope.SERVER, Scope.WRITE, Scope.ADMIN})


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key in the file."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    public: str
    """The Ed25519 public key, in hexadecimal."""
    created: datetime
    expires: datetime | None = None
    filters: str = ""
    """Filter expression that is applied to every search with this key."""
    requests_per_minute: int | None = None
    indexes: tuple[str, ...] = ()
    """Patterns of the index names that it may use, where "*" matches any characters; empty for all indexes."""
    verifier: str = ""
    """The key, encrypted, if it may be the parent of secured API keys: their signature is an HMAC with it."""
    page_key: str = ""
    """The key itself, if it is the store page's own, which every visitor gets; empty for other keys."""

    @property
    def secured(self) -> bool:
        """Whether it may be the parent of secured API keys."""
        return bool(self.verifier)

    def is_expired(self, now: datetime) -> bool:
        return self.expires is not None and now >= self.expires


class Permit(msgspec.Struct, frozen=True):
    """Rights of a request."""

    id: str
    """Id of the key; empty if no key is needed, `token` for the token."""
    scopes: frozenset[Scope]
    filters: tuple[str, ...] = ()
    """Filter expressions, all of which are applied to every search."""
    requests_per_minute: int | None = None
    indexes: tuple[tuple[str, ...], ...] = ()
    """Groups of index name patterns; the key may use an index that matches a pattern of each group."""

    name: str = ""
    """Label of the key."""
    parameters: Mapping[str, str] | None = None
    """Search parameters that a secured API key forces; None for other keys."""

    def sees(self, *names: str) -> bool:
        """Whether the key may use the index with these names."""
        return all(any(matches_index(each, name) for name in names for each in group) for group in self.indexes)

    @property
    def is_public(self) -> bool:
        """Whether shoppers may have the key, so that what it says about lists and times is not believed."""
        return self.scopes.isdisjoint(_TRUSTED)

    def allows(self, scope: Scope) -> bool:
        """Whether the key has the scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def matches_index(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern in which "*" stands for any characters."""
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Claims of a narrowed key. One with others, or with an empty one, is refused: no restriction is ignored."""

    exp: float
    """The time when it ends, in seconds since 1970, like `nbf`, when it begins, and `iat`, when it was signed."""
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1)] = ()
    filters: Annotated[str, msgspec.Meta(pattern=r"\S")] = ""
    indexes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ()
    nbf: float = 0
    iat: float = 0


_MAX_KEY_BYTES = 1 << 26
_CURE = "check its permissions, restore it from a backup, or remove it"
_KEYS = SealedFile(1, _CURE, "keys", msgspec.json.Decoder(list[StoredKey]))


class KeyFile:
    """The keys of a service, reloaded when their file changes. Threads and processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._secret = path.with_suffix(".secret")
        """The key that encrypts verifiers."""
        self._keys: dict[str, StoredKey] = {}
        self._parents: Sequence[tuple[StoredKey, bytes]] = ()
        """The parents of secured API keys, with their keys."""
        self._watch = Watch()

    @property
    def exists(self) -> bool:
        """Whether a key was ever created; until then anyone may search and record events."""
        return self.path.exists()

    def keys(self) -> dict[str, StoredKey]:
        """The keys in the file by id; raises StoreDamagedError if it cannot be decoded."""
        self._watch.update(file_stamp(self.path), self._load)
        return self._keys

    def _load(self) -> None:
        self._keys = _read(self.path)
        self._parents = tuple(self._decrypted())

    def permit(self, key: str, now: datetime, address: str = "") -> Permit | None:
        """The permit of a key that a network address sent; None if it is not valid."""
        return verify_key(key, self.keys(), now) or _verify_secured(key, self._parents, now, address)

    def page_key(self) -> str:
        """The store page's own key, which exists if any key does; else empty."""
        own = [each for each in self.keys().values() if each.page_key]
        return max(own, key=lambda each: each.created).page_key if own else ""

    def as_parent(self, key: str, entry: StoredKey) -> StoredKey:
        """The entry of a new key that may be the parent of secured API keys. Raises SettingError if it may do more than
        search and send events, or if there are `MAX_PARENTS`."""
        if not {Scope.SEARCH, Scope.EVENTS}.issuperset(entry.scopes):
            raise SettingError("the parent of secured API keys may have the scopes search and events only")
        with self._lock():
            if sum(each.secured for each in _read(self.path).values()) >= MAX_PARENTS:
                raise SettingError(f"there are {MAX_PARENTS} parents of secured API keys; withdraw one of them first")
            if not self._secret.exists():
                write_durably(self._secret, Fernet.generate_key(), private=True)
        try:
            verifier = Fernet(self._secret.read_bytes()).encrypt(key.encode()).decode()
        except ValueError as error:
            raise SettingError(f"{self._secret} holds no encryption key; restore it from a backup") from error
        return msgspec.structs.replace(entry, verifier=verifier)

    def add(self, key: StoredKey) -> None:
        """Adds a key durably, with the first one that of the store page."""
        with self._lock():
            self._write({**_read(self.path), key.id: key})

    def withdraw(self, identity: str, *, keeps_admin: bool = False) -> StoredKey:
        """Withdraws a key and all keys signed by it; the store page gets another one for its own. Raises SettingError
        for an unknown id, and with `keeps_admin` RequestError (409) for the last key with the scope admin, without
        which nobody could create another one over HTTP."""
        with self._lock():
            keys = _read(self.path)
            if identity not in keys:
                raise SettingError(f"there is no key {identity}; shelfwise keys list shows all keys")
            entry = keys.pop(identity)
            if keeps_admin and _administers(entry) and not any(map(_administers, keys.values())):
                # FastAPI, which the commands for keys do without.
                from shelfwise.service.http.errors import RequestError

                raise RequestError(409, "this is the last key with the scope admin; create another one first")
            self._write(keys)
        return entry

    def _decrypted(self) -> Iterator[tuple[StoredKey, bytes]]:
        for each in filter(lambda key: key.secured, self._keys.values()):
            try:
                yield each, Fernet(self._secret.read_bytes()).decrypt(each.verifier)
            except (OSError, ValueError, InvalidToken):
                # The key itself stays valid.
                _log.warning("secured keys are refused: restore the file of their encryption key", file=self._secret)
                return

    def _lock(self) -> FileLock:
        return FileLock(self.path.with_suffix(".lock"))

    def _write(self, keys: dict[str, StoredKey]) -> None:
        now = datetime.now(UTC)
        if not any(each.page_key for each in keys.values()):
            key, entry = new_key("store page", (Scope.SEARCH, Scope.EVENTS), now=now)
            keys = {**keys, entry.id: msgspec.structs.replace(entry, page_key=key)}
        _KEYS.write(self.path, list(keys.values()), now, private=True)


TOKEN_FILE = "admin.token"  # noqa: S105 - not the token
"""Name in the index directory, or in a directory of indexes."""
_TOKEN = re.compile(r"swt_([0-9a-f]{64})([0-9a-f]{16})")
"""A secret, and its checksum, so that a damaged file is recognised."""
_OTHERS = 0o007
"""Permission bits of other users. Those of the group are not checked: Kubernetes sets them on a volume."""


class AdminToken:
    """The token with which the owner of an index directory administers its service: a file that only the owner can
    read. Processes may share it; a removed token is invalid at once."""

    def __init__(self, root: Path) -> None:
        self.path = root / TOKEN_FILE

    def ensure(self) -> str:
        """The token, created if there is none; one that other users could read is replaced. Raises OSError if the file
        cannot be written, and errors like `read`."""
        if not self._is_private():
            with FileLock(self.path.with_suffix(".lock")):
                if not self._is_private():
                    secret = secrets.token_hex(_SECRET_BYTES)
                    write_durably(self.path, f"swt_{secret}{text_seal(secret)}\n".encode(), private=True)
        return self.read()

    def read(self) -> str:
        """The token in the file; raises OSError, or StoreDamagedError if it has another content."""
        token = self.path.read_text("utf-8", "replace").removesuffix("\n")
        parts = _TOKEN.fullmatch(token)
        if parts is None or parts[2] != text_seal(parts[1]):
            raise StoreDamagedError(
                f"{self.path} contains no token; remove it, and shelfwise serve creates another one"
            )
        return token

    def is_among(self, texts: Iterable[str]) -> bool:
        """Whether one of the texts is the token, and no other user of the machine can read its file."""
        candidates = [each for each in texts if _TOKEN.fullmatch(each)]
        try:
            token = self.read() if candidates and self._is_private() else ""
        except (OSError, StoreDamagedError):
            return False
        return any(hmac.compare_digest(each, token) for each in candidates)

    def _is_private(self) -> bool:
        return self.path.exists() and not self.path.stat().st_mode & _OTHERS


def _administers(key: StoredKey) -> bool:
    return not (key.is_expired(datetime.now(UTC)) or key.filters or key.indexes) and Scope.ADMIN in key.scopes


def _read(path: Path) -> dict[str, StoredKey]:
    return {key.id: key for key in _KEYS.read(path, _MAX_KEY_BYTES) or ()}


def new_key(
    name: str,
    scopes: tuple[Scope, ...],
    *,
    now: datetime,
    expires: datetime | None = None,
    filters: str = "",
    requests_per_minute: int | None = None,
    indexes: tuple[str, ...] = (),
) -> tuple[str, StoredKey]:
    """A new key, and its entry in the file; raises SettingError or FilterError for invalid arguments."""
    if not scopes:
        raise SettingError(f"a key needs a scope, one of {', '.join(Scope)}")
    if not name.strip() or len(name) > 100:
        raise SettingError("the name of a key must have 1 to 100 characters")
    parse_filter(filters)
    check_patterns(indexes)
    identity = secrets.token_hex(6)
    secret = secrets.token_bytes(_SECRET_BYTES)
    key = f"{_PREFIX}{identity}_{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"
    entry = StoredKey(
        identity,
        name.strip(),
        scopes,
        hashlib.sha256(key.encode()).hexdigest(),
        Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex(),
        now.astimezone(UTC),
        expires,
        filters,
        requests_per_minute,
        indexes,
    )
    return key, entry


def narrow_key(
    key: str, *, expires: datetime, scopes: tuple[Scope, ...] = (), filters: str = "", indexes: tuple[str, ...] = ()
) -> str:
    """A JSON Web Token with at most the rights of `key`: fewer scopes, one more filter, fewer indexes, an expiry.

    Needs no server. Raises SettingError for an incomplete key, or for more restrictions than fit in a key.
    """
    try:
        _, identity, secret_text = key.split("_", 2)
        secret = base64.b64decode(f"{secret_text}=", altchars=b"-_", validate=True)
        signer = Ed25519PrivateKey.from_private_bytes(secret)
    except ValueError:
        raise SettingError(
            "this is not a complete key: a key begins with sw_ and is printed when it is created"
        ) from None
    parse_filter(filters)
    check_patterns(indexes)
    claims = _Claims(int(expires.timestamp()), scopes, filters.strip(), indexes)
    token = _JWS.encode(msgspec.json.encode(claims), signer, _ALGORITHM, {"kid": identity})
    if len(token) > MAX_CHARACTERS:
        raise SettingError(f"the key has {len(token):,} characters; at most {MAX_CHARACTERS:,} are allowed")
    return token


def verify_key(key: str, keys: dict[str, StoredKey], now: datetime) -> Permit | None:
    """The permit of a key; None if it is unknown, tampered with, or expired."""
    if len(key) > MAX_CHARACTERS or not key.isascii():
        return None
    return _verify_narrowed(key, keys, now) if "." in key else _verify_plain(key, keys, now)


def key_identity(key: str) -> str:
    """The id of the key that a request names, not verified: that of its parent for a narrowed one. Its owner can sign
    any number of these."""
    if "." not in key:
        return key.removeprefix(_PREFIX).partition("_")[0]
    try:
        return str(_JWS.get_unverified_header(key[:MAX_CHARACTERS]).get("kid", ""))
    except InvalidTokenError:
        return ""


def _verify_plain(key: str, keys: dict[str, StoredKey], now: datetime) -> Permit | None:
    entry = keys.get(key.removeprefix(_PREFIX).partition("_")[0])
    digest = hashlib.sha256(key.encode()).hexdigest()
    # The hash is compared for an unknown id as well, so that the response time does not reveal which ids exist.
    is_right = hmac.compare_digest(digest, entry.sha256 if entry else "0" * 64)
    if entry is None or not is_right or entry.is_expired(now):
        return None
    return _permit(entry)


def _verify_narrowed(key: str, keys: dict[str, StoredKey], now: datetime) -> Permit | None:
    entry = keys.get(key_identity(key))
    # PyJWT accepts padding, which RFC 7515 excludes.
    if entry is None or entry.is_expired(now) or "=" in key:
        return None
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(entry.public))
        claims = msgspec.json.decode(_JWS.decode(key, public, [_ALGORITHM]), type=_Claims)
    except (InvalidTokenError, msgspec.MsgspecError, ValueError):
        return None
    if not claims.nbf <= now.timestamp() < claims.exp:
        return None
    scopes = frozenset(entry.scopes)
    restriction = frozenset(claims.scopes)
    if restriction:
        scopes = restriction if Scope.ADMIN in scopes else scopes & restriction
    return msgspec.structs.replace(_permit(entry, claims.filters, claims.indexes), scopes=scopes)


def _verify_secured(key: str, parents: Iterable[tuple[StoredKey, bytes]], now: datetime, address: str) -> Permit | None:
    """The permit of a key that `generateSecuredApiKey` made: the HMAC-SHA256 of its parameters with its parent in
    hexadecimal, and the parameters, in base64."""
    if len(key) > MAX_CHARACTERS:
        return None
    try:
        content = base64.b64decode(key, validate=True)
        signature, query = content[:64], content[64:]
        digests = [(each, hmac.digest(parent, query, "sha256").hex().encode()) for each, parent in parents]
        matches = [each for each, digest in digests if hmac.compare_digest(digest, signature)]
        pairs = parse_qsl(query.decode(), keep_blank_values=True, strict_parsing=bool(query), max_num_fields=100)
        parameters = dict(pairs)
        ends = float(parameters.pop("validUntil", "inf"))
        sources = parameters.pop("restrictSources", None)
        indexes = _listed(parameters.pop("restrictIndices", None))
        networks = [ip_network(each, strict=False) for each in _listed(sources)]
        is_there = sources is None or any(ip_address(address) in each for each in networks)
    except ValueError:
        return None
    # A restriction that this version does not know must not be ignored.
    unknown = [name for name in parameters if name.startswith("restrict") and name != "restrictSearchableAttributes"]
    is_valid = len(pairs) == len(dict(pairs)) and not unknown and is_there and now.timestamp() < ends
    if not matches or matches[0].is_expired(now) or not is_valid:
        return None
    return msgspec.structs.replace(_permit(matches[0], indexes=indexes), parameters=parameters)


def _permit(key: StoredKey, filters: str = "", indexes: tuple[str, ...] = ()) -> Permit:
    """The rights of a key, narrowed by a filter and to some indexes."""
    expressions = tuple(each for each in (key.filters, filters) if each.strip())
    groups = tuple(each for each in (key.indexes, indexes) if each)
    return Permit(key.id, frozenset(key.scopes), expressions, key.requests_per_minute, groups, key.name)


def _listed(text: str | None) -> tuple[str, ...]:
    """The values of a list that is separated by commas or JSON, as the versions of the client send it; raises
    ValueError for an empty one."""
    if text is None:
        return ()
    values = msgspec.json.decode(text, type=tuple[str, ...]) if text.startswith("[") else tuple(text.split(","))
    if not values or not all(values):
        raise ValueError
    return values


def check_patterns(patterns: Collection[str]) -> None:
    """Raises SettingError for a pattern that no index name can match."""
    for each in patterns:
        if not 0 < len(each) <= _MAX_PATTERN or "/" in each:
            raise SettingError(f"{each[:40]!r} is not an index name: use 1 to {_MAX_PATTERN} characters, * for any")


def combine_filters(filters: Iterable[str]) -> str:
    """The conjunction of filter expressions; raises FilterError for an invalid one.

    They are combined as parsed trees, so that text of a request cannot escape its brackets.
    """
    trees = [tree for tree in map(parse_filter, filters) if tree is not None]
    if not trees:
        return ""
    return format_filter(trees[0] if len(trees) == 1 else And(tuple(trees)))
