"""Pseudonyms of client addresses, which count what one address sends within a day.

A pseudonym is an HMAC of the address under a random salt. Each day (UTC) has a salt of its own, which replaces that of
the previous day in the file: then nobody, the owner of the file included, can find an address by trying all of them.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.events.stored import EPOCH
from shelfwise.retrieval.store.files import SealedFile
from shelfwise.retrieval.updates.journal import lock_folder

ADDRESS_FILE = "address-salt.json"
_SALT_BYTES = 32
_PSEUDONYM_BYTES = 16
_MAX_FILE_BYTES = 1 << 12


class _DailySalt(msgspec.Struct, frozen=True):
    day: int
    """Days since 1970."""
    salt: bytes


def address_group(address: str) -> str:
    """The address that is counted; for IPv6 its /64 network, since one host may use all addresses of it."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found), 64), strict=False))


_SALTS = SealedFile(1, "remove it; a new one is made", "salt", msgspec.json.Decoder(_DailySalt))


class AddressPseudonyms:
    """The pseudonyms of addresses of one service. Threads and processes that use the same folder agree on them."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the folder of events of an index directory; its file is readable only by its owner."""
        self.path = folder / ADDRESS_FILE
        self._salt = _DailySalt(-1, b"")

    def of(self, address: str, now: datetime) -> str:
        """The pseudonym of an address or network on the day of `now`: 22 characters, or empty for an empty address.

        Raises StoreError if the salt cannot be read or written.
        """
        if not address:
            return ""
        digest = hmac.digest(self._salt_of((now - EPOCH).days), address.encode(), "sha256")[:_PSEUDONYM_BYTES]
        return urlsafe_b64encode(digest).decode().rstrip("=")

    def _salt_of(self, day: int) -> bytes:
        """The salt of a day; of the newest day if that has begun, since older salts are gone."""
        if self._salt.day < day:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with lock_folder(self.path.parent, None, "the salt of addresses"):
                stored = self._read()
                if stored is None or stored.day < day:
                    stored = _DailySalt(day, secrets.token_bytes(_SALT_BYTES))
                    _SALTS.write(self.path, stored, datetime.now(UTC), private=True)
            self._salt = stored
        return self._salt.salt

    def check(self) -> None:
        """Raises StoreDamagedError for a damaged file; `of` replaces it, and addresses of the day count anew."""
        _SALTS.read(self.path, _MAX_FILE_BYTES)

    def _read(self) -> _DailySalt | None:
        try:
            return _SALTS.read(self.path, _MAX_FILE_BYTES)
        except StoreDamagedError:
            return None
