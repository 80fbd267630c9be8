"""Filters of keys and requests put together: as trees, so that no text of a request can reach out of its brackets."""

from __future__ import annotations

from collections.abc import Iterable

from retrieval.filters import And, format_filter, parse_filter


def all_of(filters: Iterable[str]) -> str:
    """An expression that lets through what each of them does; raises FilterError for one that cannot be read."""
    trees = [tree for tree in map(parse_filter, filters) if tree is not None]
    if not trees:
        return ""
    return format_filter(trees[0] if len(trees) == 1 else And(tuple(trees)))
