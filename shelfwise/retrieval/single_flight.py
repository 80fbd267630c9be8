"""A value that several threads request is computed once, and kept for later requests."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Computes a value once for all threads that request it, such as the vector of a query that several searches share.
    It keeps the `most` values that were requested last."""

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._made: OrderedDict[K, Future[V]] = OrderedDict()

    def get(self, key: K, make: Callable[[], V], *, rather: K | None = None) -> V:
        """The value of a key, or of `rather` if that exists or is being computed. All waiting callers get the error
        that `make` raises; the next caller computes it again."""
        with self._lock:
            chosen = rather if rather is not None and rather in self._made else key
            known = self._made.get(chosen)
            future = known or self._made.setdefault(chosen, Future())
            self._made.move_to_end(chosen)
            if len(self._made) > self._most:
                self._made.popitem(last=False)
        if known is None:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    if self._made.get(chosen) is future:
                        del self._made[chosen]
        return future.result()
