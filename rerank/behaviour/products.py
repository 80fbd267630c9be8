"""The catalog as cleaning and the derived tables need it: each product's category and since when it is there."""

from __future__ import annotations

import polars as pl

from retrieval.fields import CATEGORY_SEPARATOR
from retrieval.product_store import ProductStore
from retrieval.published import Store

_SCHEMA = pl.Schema({"product_id": pl.String(), "category": pl.String(), "created": pl.Datetime("ms", "UTC")})


def product_table(store: Store) -> pl.DataFrame:
    """The products of the version that serves, by id: product_id, category (path), created (null where not known).

    Raises StoreMissingError where nothing is published, StoreDamagedError where it cannot be read.
    """
    products = ProductStore(store.version_folder(store.current()))
    rows = []
    for row in range(len(products)):
        product = products[row]
        rows.append((product.id, CATEGORY_SEPARATOR.join(product.category), product.created))
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")
