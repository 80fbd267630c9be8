"""Which rankers stay when one is added, and how the others, and what killed programs left, are removed; shopper towers
are removed in the same way."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from retrieval.manifest import sync

_ADDING = (".ranker-", ".tower-")
_GOING = ".removed-"


def surplus(names: Sequence[str], able: Collection[str], current: str, keep: int) -> tuple[str, ...]:
    """The names, oldest first, of the rankers that are too many.

    The current one stays, and the newest `keep` of those that are `able` to serve: where the current one is damaged,
    one of these serves in its place. So do as many of the others, which are for people to look at; they are counted
    apart, or a row of failures would leave no way back.
    """
    others = [name for name in names if name not in able]
    stay = {current, *[name for name in names if name in able][-keep:], *others[-keep:]}
    return tuple(name for name in names if name not in stay)


def remove(folder: Path, names: Sequence[str]) -> None:
    """Removes what is called so in a folder of rankers or towers; the caller holds its lock."""
    for name in names:
        # Renamed first, so that a crash leaves no part of a ranker under a ranker's name.
        (folder / name).rename(folder / f"{_GOING}{name}")
    sync(folder)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Removes what killed programs had begun to write or to remove; the caller holds the lock."""
    for prefix in (*_ADDING, _GOING):
        for leftover in folder.glob(f"{prefix}*"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
