"""Fingerprints of the texts that products are encoded by, and where they stand in an array of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.vectors import Rows

KEY_BYTES = 16
Keys = NDArray[np.uint8]


def text_key(text: str) -> bytes:
    """The fingerprint of a text (16 bytes): equal texts have equal vectors."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def key_array(keys: Sequence[bytes] | bytes | bytearray) -> Keys:
    """Fingerprints, one by one or end to end, as an array (n, 16)."""
    flat = keys if isinstance(keys, bytes | bytearray) else b"".join(keys)
    return np.frombuffer(flat, dtype=np.uint8).reshape(-1, KEY_BYTES)


class KeyTable:
    """Where keys stand in an array of them."""

    def __init__(self, keys: Keys) -> None:
        whole = whole_keys(keys)
        self._order = np.argsort(whole, kind="stable")
        self._sorted = whole[self._order]

    def places(self, keys: Keys) -> Rows:
        """For each key (n, 16) its place, the first of equal ones, or -1 (n,)."""
        wanted = whole_keys(keys)
        at = np.searchsorted(self._sorted, wanted).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], -1)


def whole_keys(keys: Keys) -> NDArray[np.void]:
    """Each key as one value, which compares by its bytes (n,)."""
    return np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").reshape(-1)
