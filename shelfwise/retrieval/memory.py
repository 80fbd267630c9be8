"""The memory of the machine, of its container and of this program, from Linux files (proc(5), cgroups(7))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.value_texts import size_text

_CONTROL_GROUPS = {
    "": (Path("/sys/fs/cgroup"), "memory.max"),
    "memory": (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
}
_REST = 60_000_000
"""The memory of libraries that are loaded later, and of searches."""


def usable_memory() -> int:
    """The memory of the machine in bytes, or that of its container if it is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _limit_files():
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number
            limits.append(int(path.read_text("ascii")))
    return min(limits)


def _limit_files() -> Iterator[Path]:
    """The files with the limits of this process's control groups, version 1 and 2."""
    groups = Path("/proc/self/cgroup")
    for line in groups.read_text("utf-8").splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top, name = _CONTROL_GROUPS[controllers]
            yield from (top / name, top / path.lstrip("/") / name)


def process_memory(line: str = "RssAnon", process: int | str = "self") -> int:
    """The memory of a process in bytes, without pages of mapped files, or another line of its status.

    0 if the system does not provide it or the process does not exist.
    """
    with contextlib.suppress(OSError):
        status = dict(each.split(":", 1) for each in Path(f"/proc/{process}/status").read_text("utf-8").splitlines())
        return 1_024 * int(status.get(line, "0").split()[0])
    return 0


def require_memory(needed: int, what: str, cure: str) -> None:
    """Raises StoreError if the machine lacks this many more bytes, before the system kills the program.

    `what` names their use, up to the verb, and `cure` the setting that needs less.
    """
    own, limit = process_memory(), usable_memory()
    if own + needed + _REST > limit:
        raise StoreError(
            f"{what} {size_text(needed)} of memory plus {size_text(own + _REST)} of the program, and the machine "
            f"or its container has {size_text(limit)}; give it more, or use {cure}"
        )
