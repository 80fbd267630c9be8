"""The bins of the report's plots: filled fields, ages, prices and languages of a batch."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime

import polars as pl

from indexer.quality.fields import FIELDS
from indexer.quality.findings import AGES, COMPLETENESS_FIELDS, NO_DATE, PRICE_STEPS
from indexer.quality.frames import column_of

_DAY = 86_400.0


def column(field: str) -> str:
    """The column of a field in the base frame."""
    return column_of(field, FIELDS[field].kind)


def filled_fields(base: pl.DataFrame) -> Counter[str]:
    """How many products have a value in each of `COMPLETENESS_FIELDS`."""
    return Counter({name: base.height - base[column(name)].null_count() for name in COMPLETENESS_FIELDS})


def ages(base: pl.DataFrame, now: datetime) -> Counter[str]:
    """Products by the time since they were updated."""
    days = (now.timestamp() - base[column("updated")]) / _DAY
    found = Counter({NO_DATE: days.null_count()})
    before = -math.inf
    for label, most in AGES.items():
        found[label] = int(((days > before) & (days <= most)).sum())
        before = most
    return +found


def price_bins(base: pl.DataFrame) -> dict[str, Counter[int]]:
    """By currency, products in each quarter of a decade of price."""
    place = (pl.col(column("price")).log10() * PRICE_STEPS).floor().cast(pl.Int64).alias("place")
    currency = pl.col(column("currency")).fill_null("").alias("currency")
    counted = base.filter(pl.col(column("price")) > 0).group_by(currency, place).len()
    found: dict[str, Counter[int]] = {}
    for name, bin_, count in counted.sort("currency", "place").iter_rows():
        found.setdefault(name, Counter())[bin_] = count
    return found


def languages(base: pl.DataFrame) -> Counter[str]:
    """Products by language."""
    counted = base.group_by(pl.col(column("language")).fill_null("")).len().sort(column("language"))
    return Counter(dict(counted.iter_rows()))
