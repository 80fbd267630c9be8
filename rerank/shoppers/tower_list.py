"""The shopper towers of an index at a glance: how each was judged, which one serves, which cannot and why."""

from __future__ import annotations

import msgspec

from rerank.shoppers.files import TowerReport, TowerSpec, misfit
from rerank.shoppers.registry import TowerRegistry
from retrieval.errors import ShopperTowerError


class TowerEntry(msgspec.Struct, frozen=True):
    """One tower. Of one that cannot be opened only its name is known."""

    name: str
    serves: bool
    spec: TowerSpec | None = None
    report: TowerReport | None = None
    problem: str = ""
    """Why it cannot be opened; empty for a whole one."""
    misfit: str = ""
    """Why it cannot serve the version that the index serves, which others could."""


class TowerList(msgspec.Struct, frozen=True):
    """All towers of an index, oldest first."""

    serving: str
    """Name of the one that an engine would open; empty where none serves."""
    notices: tuple[str, ...]
    towers: tuple[TowerEntry, ...]


def list_towers(registry: TowerRegistry, encoder: str, dimension: int) -> TowerList:
    """Reads every file of every tower; encoder and dimension are the index's."""
    found = registry.serving(encoder, dimension)
    serving = found.tower.name if found.tower else ""
    entries = tuple(_entry(registry, name, encoder, dimension, serves=name == serving) for name in registry.names())
    return TowerList(serving, found.notices, entries)


def _entry(registry: TowerRegistry, name: str, encoder: str, dimension: int, *, serves: bool) -> TowerEntry:
    try:
        tower = registry.open(name)
    except ShopperTowerError as error:
        return TowerEntry(name, serves, problem=str(error))
    return TowerEntry(name, serves, tower.spec, tower.report, misfit=misfit(tower.spec, encoder, dimension))
