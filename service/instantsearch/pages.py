"""Pages of the engine for the searches of one request: which hits of a ranking they want; equal pages made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from retrieval.errors import QueryError
from retrieval.records import Page
from service.engine import SearchEngine
from service.instantsearch.parameters import Parameters
from service.once import Once
from service.searching import DEEPEST, MOST_SIZE
from service.stages import Encodings


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that an engine's answer depends on."""

    query: str
    filters: str
    sort: str = ""
    page: int = 1
    size: int = 0
    facets: tuple[str, ...] = ()
    values: int = 100


@dataclass(frozen=True, slots=True)
class Window:
    """Which hits of a ranking are wanted, as the engine counts them."""

    page: int
    size: int
    skipped: int = 0
    """Of the hits of that page, those before the first wanted."""


class Pages:
    """The engine's answers, equal ones made once."""

    def __init__(self, engine: SearchEngine, answered: Callable[[Page], None]) -> None:
        self._engine = engine
        self._answered = answered
        self._made: Once[Wanted, Page] = Once()
        self._encodings: Encodings = Once()

    def get(self, wanted: Wanted) -> Page:
        """The page, made by whichever thread asks first; raises as the engine does."""
        return self._made.get(wanted, lambda: self._search(wanted))

    def _search(self, wanted: Wanted) -> Page:
        page = self._engine.search(
            wanted.query,
            size=wanted.size,
            page=wanted.page,
            filters=wanted.filters,
            facets=wanted.facets,
            sort=wanted.sort,
            # Who only counts needs no order, and who names one no ranker.
            stage="ranked" if wanted.size and not wanted.sort else "merged",
            facet_values=wanted.values,
            encodings=self._encodings,
        )
        self._answered(page)
        return page


def window_of(asked: Parameters) -> Window:
    """Where they are; nowhere past the deepest place. Raises QueryError for an offset that no page begins at."""
    if asked.offset is not None:
        return _from(asked.offset, asked.size)
    is_too_deep = (asked.page + 1) * asked.size > DEEPEST
    return Window(1, 0) if is_too_deep else Window(asked.page + 1, asked.size)


def _from(offset: int, length: int) -> Window:
    if offset % length == 0:
        return Window(offset // length + 1, length)
    if offset + length > MOST_SIZE:
        raise QueryError(f"offset {offset} is no multiple of length {length}, so both may reach to {MOST_SIZE}")
    return Window(1, offset + length, offset)
