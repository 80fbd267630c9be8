"""How often a key, and an address, may ask: counted over a sliding minute, in this process."""

from __future__ import annotations

import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from service.http.errors import Refused


class Rates:
    """Counts requests. Each replica of a service counts its own."""

    def __init__(self, per_key: int, per_address: int) -> None:
        """The most requests a minute; a key may have a limit of its own."""
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._per_key, self._per_address = per_key, per_address

    def count_key(self, identity: str, own: int | None) -> None:
        """Raises Refused (429) for a key that has asked too often."""
        self._count(own or self._per_key, "key", identity)

    def count_address(self, address: str) -> None:
        """The same for an address."""
        self._count(self._per_address, "address", address)

    def _count(self, most: int, kind: str, name: str) -> None:
        item = RateLimitItemPerMinute(most)
        if not self._limiter.hit(item, kind, name):
            reset = self._limiter.get_window_stats(item, kind, name).reset_time
            wait = max(1, min(60, round(reset - time.time())))
            raise Refused(429, f"more than {most:,} requests a minute by one {kind}; slow down", retry_after=wait)
