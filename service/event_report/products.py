"""Products: what is popular, and what becomes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from retrieval.errors import ShelfwiseError
from retrieval.product_store import ProductStore
from retrieval.published import Store
from service.event_report.queries import risen

Titles = Callable[[Iterable[str]], Mapping[str, str]]
"""Gives the titles of products by their ids; what is not known is left out."""

_MOST = 20


@dataclass(frozen=True, slots=True)
class ProductRow:
    """What was done with a product."""

    product_id: str
    title: str
    """Empty where it is not known."""
    category: str
    """The whole path; empty where it is not known."""
    shoppers: int
    impressions: int
    clicks: int
    carts: int
    purchases: int
    score: float
    """Clicks, carts and purchases by their weights, decayed by age."""
    times: float
    """The recent rate by the usual one, shrunk towards 1 where there is little."""


@dataclass(frozen=True, slots=True)
class Products:
    """At most twenty of each; products of too few shoppers are not told of."""

    count: int
    """Products of enough shoppers."""
    top: tuple[ProductRow, ...]
    """By decayed popularity."""
    rising: tuple[ProductRow, ...]


def no_titles(ids: Iterable[str]) -> Mapping[str, str]:  # noqa: ARG001
    """Titles where no catalog is known."""
    return {}


def catalog_titles(store: Store) -> Titles:
    """Titles of the version that serves; none where nothing is published, or it cannot be read."""

    def titles(ids: Iterable[str]) -> Mapping[str, str]:
        try:
            products = ProductStore(store.version_folder(store.current()))
        except ShelfwiseError:
            return {}
        rows = {product_id: products.row_of(product_id) for product_id in ids}
        return {product_id: products[row].title for product_id, row in rows.items() if row is not None}

    return titles


def products(popularity: pl.DataFrame, titles: Titles = no_titles) -> Products:
    """From the derived table of popularity."""
    table = popularity.with_columns(times=pl.lit(2.0) ** pl.col("trend"))
    top = table.sort("score", "product_id", descending=[True, False]).head(_MOST)
    rising = risen(popularity).sort("times", "product_id", descending=[True, False]).head(_MOST)
    named = titles({*top["product_id"], *rising["product_id"]})
    return Products(popularity.height, _rows(top, named), _rows(rising, named))


def _rows(table: pl.DataFrame, titles: Mapping[str, str]) -> tuple[ProductRow, ...]:
    counts = "category", "shoppers", "impressions", "clicks", "carts", "purchases", "score", "times"
    return tuple(
        ProductRow(product_id, titles.get(product_id, ""), *row)
        for product_id, *row in table.select("product_id", *counts).iter_rows()
    )
