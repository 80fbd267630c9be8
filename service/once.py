"""Makes a thing once for all threads that want it, such as the vector of a query that several searches share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Once(Generic[K, V]):
    """What was made so far, by key. It lives as long as the request that it is for: nothing is ever dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[K, Future[V]] = {}

    def get(self, key: K, make: Callable[[], V], *, rather: K | None = None) -> V:
        """The thing of a key, or the one of `rather` where that is made or being made; what `make` raises is raised to
        all who want it."""
        with self._lock:
            known = (self._made.get(rather) if rather is not None else None) or self._made.get(key)
            future = known or self._made.setdefault(key, Future())
        if known is None:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
        return future.result()
