"""What stands for a keyword index whose cluster does not answer: it finds no words, and judges the products that the
vectors find by their stored records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from retrieval.analysis import TermGroup
from retrieval.conditions import Condition, holds
from retrieval.errors import ClusterUnavailableError
from retrieval.fields import Columns, FieldCatalog, FieldInfo, columns
from retrieval.keyword import (
    NO_MATCHES,
    NO_ROWS,
    DocumentChange,
    InParts,
    Matches,
    Ordered,
    Rows,
    Selection,
    Sort,
    make_facet,
)
from retrieval.records import Facet
from service.overlay import Products


class LostKeyword(InParts):
    """A keyword index of which only the products are left. A selection is the rows that it names."""

    def __init__(self, products: Products, catalog: FieldCatalog) -> None:
        self._products = products
        self._catalog = catalog

    @property
    def places(self) -> int:
        """No field can be added."""
        return 0

    @property
    def size(self) -> int:
        """The number of products."""
        return len(self._products)

    def changed(self, _changes: Sequence[DocumentChange], _catalog: FieldCatalog, /) -> NoReturn:
        """Raises ClusterUnavailableError."""
        raise self._error()

    def check_changeable(self) -> NoReturn:
        """Raises ClusterUnavailableError."""
        raise self._error()

    def search(self, _groups: tuple[TermGroup, ...], _limit: int, _where: Condition | None = None, /) -> Matches:
        """Nothing."""
        return NO_MATCHES

    def score(self, rows: Rows, _groups: tuple[TermGroup, ...], where: Condition | None = None) -> Matches:
        """Those of `rows` that `where` lets through, by row, without a score."""
        found = self._through(np.sort(rows), where)
        return Matches(found, np.zeros(len(found), dtype=np.float32), len(found))

    def identified(self, _key: str, /) -> Rows:
        """Nothing."""
        return NO_ROWS

    def select(self, selection: Selection) -> Rows:
        """The rows that the selection names and its filter lets through, ascending."""
        return self._through(np.sort(selection.rows), selection.where)

    def count(self, selection: Selection) -> int:
        """How many these are."""
        return len(self.select(selection))

    def facets(self, selection: Selection, fields: Sequence[str], size: int) -> dict[str, Facet]:
        """For each field its `size` most frequent values among these, and the range of a numeric one."""
        selected = [self._columns(row) for row in self.select(selection).tolist()]
        return {name: _facet(self._catalog.fields[name], selected, size) for name in fields}

    def sort(self, selection: Selection, by: Sort) -> Ordered:
        """The first of these in an order by a numeric field."""
        rows = self.select(selection)
        values = np.array([min(self._columns(row).numbers.get(by.field, [np.nan])) for row in rows.tolist()])
        order = np.lexsort((rows, -values if by.descending else values))
        return Ordered(rows[order[: by.limit]], len(rows))

    def _through(self, rows: Rows, where: Condition | None) -> Rows:
        if where is None:
            return rows
        return np.array([row for row in rows.tolist() if holds(where, self._columns(row))], dtype=np.int64)

    def _columns(self, row: int) -> Columns:
        return columns(self._products[row], self._catalog.category_roots)

    def _error(self) -> ClusterUnavailableError:
        return ClusterUnavailableError("the cluster does not answer, so nothing can be changed now")


def _facet(info: FieldInfo, selected: Sequence[Columns], size: int) -> Facet:
    texts = Counter(text for each in selected for text in each.shown.get(info.name, ()))
    numbers = Counter(number for each in selected for number in each.numbers.get(info.name, ()))
    span = (min(numbers), max(numbers)) if numbers else (None, None)
    return make_facet(info, texts.items(), numbers.items(), size, span)
