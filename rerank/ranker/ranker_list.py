"""The rankers of an index at a glance: how each was judged, which one serves, which cannot and why."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from rerank.ranker.registry import RankerRegistry
from rerank.ranker.spec import Encoding, RankerReport, RankerSpec, misfit
from retrieval.errors import RankerError


class RankerEntry(msgspec.Struct, frozen=True):
    """One ranker. Of one that cannot be opened only its name and size are known."""

    name: str
    serves: bool
    bytes: int
    spec: RankerSpec | None = None
    report: RankerReport | None = None
    problem: str = ""
    """Why it cannot be opened; empty for a whole one."""
    misfit: str = ""
    """Why it cannot serve the version that the index serves, which others could."""

    @property
    def is_aside(self) -> bool:
        """Whether it was kept aside."""
        return self.report is not None and bool(self.report.aside)


class RankerList(msgspec.Struct, frozen=True):
    """All rankers of an index, oldest first."""

    serving: str
    """Name of the one that an engine would open; empty where none serves."""
    is_off: bool
    """Whether somebody switched rankers off."""
    notices: tuple[str, ...]
    """Why another one serves than was published last, or none."""
    rankers: tuple[RankerEntry, ...]


def list_rankers(registry: RankerRegistry, encoding: Encoding | None = None) -> RankerList:
    """Reads every file of every ranker; `encoding` is the index's, where that is known."""
    found = registry.serving(encoding)
    serving = found.ranker.name if found.ranker else ""
    entries = tuple(_entry(registry, name, encoding, serves=name == serving) for name in registry.names())
    return RankerList(serving, registry.pointer.is_off(), found.notices, entries)


def _entry(registry: RankerRegistry, name: str, encoding: Encoding | None, *, serves: bool) -> RankerEntry:
    size = 0
    with suppress(OSError):
        size = sum(path.stat().st_size for path in (registry.folder / name).iterdir())
    try:
        ranker = registry.open(name)
    except RankerError as error:
        return RankerEntry(name, serves, size, problem=str(error))
    why = misfit(ranker.spec, encoding) if encoding else ""
    return RankerEntry(name, serves, size, ranker.spec, ranker.report, misfit=why)
