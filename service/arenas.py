"""How the C library shares out memory in a process that serves for months.

glibc gives up to eight arenas to each core, so that threads need not wait for each other, and gives back what is free
at the end of one alone. Searches over live changes make large arrays in many threads: what they leave free stays with
the arena of whichever thread it was, and each new version is laid out beside it. Two arenas hold the memory of a
service flat; searches take no longer, since Python's own lock lets one thread work at a time (`shelfwise bench soak`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

ARENAS = 2
_M_ARENA_MAX = -8
"""mallopt's parameter, in malloc.h of glibc."""
_OWN_WISH = "MALLOC_ARENA_MAX"


def bound_arenas(environment: Mapping[str, str] = os.environ) -> bool:
    """Bounds the arenas of this process, before it has threads; returns whether it did. Not where the environment
    says how many there should be, nor with another C library than glibc."""
    if _OWN_WISH in environment:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_ARENA_MAX, ARENAS) == 1
