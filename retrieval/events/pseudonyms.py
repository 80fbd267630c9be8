"""Pseudonyms: shoppers' and sessions' ids are replaced by a keyed HMAC before anything is written.

Who has the events without the key file cannot tell whose they are, nor try ids until one fits. Keys can be replaced:
later events go under the new one, and one shopper's behaviour from before and after is no longer linked. An old key
stays for as long as events are under it, since without it a shopper could not be found to be forgotten.
"""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import msgspec

from retrieval.errors import StoreDamagedError, StoreError
from retrieval.events.stored import KEY_BYTES
from retrieval.journal_lock import journal_lock
from retrieval.manifest import file_stamp, sync

KEYS_FILE = "keys.json"
_SECRET_BYTES = 32
_PSEUDONYM_BYTES = 16
_REMEMBERED = 65_536
_MARK = "~"
"""Between a key's name and what it made: never part of a name."""


class Key(msgspec.Struct, frozen=True):
    """One key: its name stands before every pseudonym that it made."""

    name: str
    secret: bytes
    made: datetime


class _Keys(msgspec.Struct, frozen=True):
    salt: bytes
    """Never replaced: of it come the keys of events, so that one that is sent again is known after a rotation."""
    keys: tuple[Key, ...]
    """The last one is used."""


class Pseudonyms:
    """Makes pseudonyms with the keys of a file. The file is read again when it changes, so a rotation reaches every
    process. Safe to share between threads.

    With `make` a file that is not there is made, for its owner's eyes only; without, StoreError is raised: where there
    are events, other keys than theirs would find nobody.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.path = path
        if make and not path.exists():
            _make(path)
        self._look()

    def shopper(self, name: str) -> str:
        """The pseudonym of a shopper under the newest key; empty for nobody."""
        return self._made("shopper", name) if name else ""

    def session(self, name: str) -> str:
        """The pseudonym of a session under the newest key; empty for none."""
        return self._made("session", name) if name else ""

    def key(self, name: str) -> bytes:
        """What tells an event from others: 16 bytes of its id, of which nothing can be read."""
        return hmac.digest(self._keys.salt, name.encode(), "sha256")[:KEY_BYTES]

    def look(self) -> None:
        """Takes up a key that another process has added."""
        if file_stamp(self.path) != self._stamp:
            self._look()

    def all_of(self, shopper: str) -> tuple[str, ...]:
        """Every pseudonym that a shopper may have, under any of the keys that there are."""
        self.look()
        return tuple(_pseudonym(key, "shopper", shopper) for key in self._keys.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the keys, the one that is used last."""
        return tuple(key.name for key in self._keys.keys)

    def rotate(self, now: datetime | None = None) -> str:
        """Adds a key, which is used from now on; returns its name."""
        with self._locked():
            number = 1 + max(int(name.removeprefix("k")) for name in self.names)
            added = Key(f"k{number}", secrets.token_bytes(_SECRET_BYTES), now or datetime.now(UTC))
            self._write((*self._keys.keys, added))
        return added.name

    def retire(self, in_use: Collection[str], replaced_before: datetime) -> tuple[str, ...]:
        """Removes old keys that are not in use, as no pseudonym is under them any more, and that were replaced before
        a time: whoever had them open then has ended. Returns their names."""
        with self._locked():
            keys = self._keys.keys
            gone = {
                key.name
                for key, following in pairwise(keys)
                if key.name not in in_use and following.made < replaced_before
            }
            if gone:
                self._write(tuple(key for key in keys if key.name not in gone))
        return tuple(key.name for key in keys if key.name in gone)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Under the lock, what killed processes left is removed, and the newest keys are read."""
        with journal_lock(self.path.parent, None, "the keys"):
            for left in self.path.parent.glob(f".{self.path.name}.*"):
                left.unlink(missing_ok=True)
            self.look()
            yield

    def _write(self, keys: tuple[Key, ...]) -> None:
        try:
            _written(self.path, _Keys(self._keys.salt, keys)).replace(self.path)
            sync(self.path.parent)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written ({error.strerror})") from error
        self._look()

    def _look(self) -> None:
        self._stamp = file_stamp(self.path)
        try:
            self._keys = msgspec.json.decode(self.path.read_bytes(), type=_Keys)
        except OSError as error:
            raise StoreError(
                f"the keys {self.path} cannot be read ({error.strerror}); without them nobody's events can be told: "
                f"restore them, or name them by events.keys"
            ) from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamagedError(f"{self.path} is no file of keys ({error}); restore it from a backup") from error
        if not self._keys.keys or not self._keys.salt:
            raise StoreDamagedError(f"{self.path} has no key; restore it from a backup")
        self._made: Callable[[str, str], str] = lru_cache(_REMEMBERED)(partial(_pseudonym, self._keys.keys[-1]))


def key_name(pseudonym: str) -> str:
    """The name of the key that made a pseudonym."""
    return pseudonym.partition(_MARK)[0]


def prefix(name: str) -> str:
    """What every pseudonym begins with that a key of this name made."""
    return f"{name}{_MARK}"


def _pseudonym(key: Key, what: str, name: str) -> str:
    digest = hmac.digest(key.secret, f"{what}\0{name}".encode(), "sha256")[:_PSEUDONYM_BYTES]
    return f"{prefix(key.name)}{urlsafe_b64encode(digest).decode().rstrip('=')}"


def _make(path: Path) -> None:
    """A file of one new key; where another process makes one at the same time, that one stays."""
    first = Key("k1", secrets.token_bytes(_SECRET_BYTES), datetime.now(UTC))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _written(path, _Keys(secrets.token_bytes(_SECRET_BYTES), (first,)))
        with suppress(FileExistsError):
            os.link(scratch, path)
        scratch.unlink()
        sync(path.parent)
    except OSError as error:
        raise StoreError(
            f"the keys {path} cannot be made ({error.strerror}); see to the rights to its folder"
        ) from error


def _written(path: Path, keys: _Keys) -> Path:
    """A file beside another, durable, that only its owner may read."""
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(keys), indent=1))
        file.flush()
        os.fsync(file.fileno())
    return Path(scratch)
