"""The file of API keys: read anew when it changes, so that keys are made and withdrawn without a restart."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path

import msgspec
from filelock import FileLock

from retrieval.errors import SettingError, StoreDamagedError, StoreError
from retrieval.manifest import file_stamp, scratch_path, write_durably
from service.http.access.keys import Permit, StoredKey, checked_permit

KEYS_FILE = "keys.json"
"""In the index directory, unless the settings name another one."""
_LOOK_SECONDS = 0.5


class KeyFile:
    """The keys of a service. Safe to share between threads; processes take turns at changing it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, StoredKey] = {}
        self._stamp: tuple[int, int] | None = None
        self._looked = -_LOOK_SECONDS
        self._reading = threading.Lock()

    @property
    def is_there(self) -> bool:
        """Whether a key has ever been made: without one only this machine is served."""
        return self.path.exists()

    def keys(self) -> dict[str, StoredKey]:
        """By id, as the file has them now; raises StoreDamagedError where it cannot be read."""
        with self._reading:
            now = time.monotonic()
            if now - self._looked >= _LOOK_SECONDS:
                self._looked = now
                self._look()
            return self._keys

    def permit(self, key: str, now: datetime) -> Permit | None:
        """What a key allows; None for one that allows nothing."""
        return checked_permit(key, self.keys(), now)

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

    def _look(self) -> None:
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
        self._looked = -_LOOK_SECONDS


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
