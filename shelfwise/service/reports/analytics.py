"""Analytics of a range of days, compared with the days before: searches, queries, products and revenue.

All figures are sums over the daily tables of `events refresh`, so the run time depends on the searches and sales of
the range, not on all events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from shelfwise.rerank.sessions.partitions import WHO
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.errors import InputError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.events.event_log import DERIVED_FOLDER

MAX_DAYS = 366
_DEFAULT_DAYS = 30
_MIN_HALF = 7
_MAX_ROWS = 20
_MIN_RISE = 1.25
"""Minimum ratio of the recent to the previous searches that counts as rising."""
_PRIOR = 5.0
"""Pseudo-count added to both counts of searches when a rise is computed."""
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over a range of days, without sessions of bots."""

    searches: int = 0
    empty: int = 0
    """Searches without results."""
    unclicked: int = 0
    """Searches with results that led to no click, cart or purchase."""
    clicked: int = 0
    """Searches that led to a click, cart or purchase."""
    bought: int = 0
    """Searches that led to a purchase."""
    purchases: int = 0
    """All purchases, including those without a search."""
    revenue: float = 0.0
    """Units times today's catalog price; products without a price in `currency` count as 0."""
    search_revenue: float = 0.0
    """Revenue of purchases that a search led to."""
    sessions: int = 0
    bot_sessions: int = 0
    """Sessions of bots; excluded from all other figures."""


@dataclass(frozen=True, slots=True)
class DayFigures(Figures):
    """Sums of one day (UTC)."""

    day: date = _EPOCH


@dataclass(frozen=True, slots=True)
class QueryFigures:
    """A query of enough shoppers in the range."""

    query: str
    searches: int
    before: int
    """Searches in the previous range."""
    shoppers: int
    empty: int
    unclicked: int
    clicked: int
    bought: int
    revenue: float


@dataclass(frozen=True, slots=True)
class ProductFigures:
    """A product that enough shoppers acted on."""

    product_id: str
    title: str
    """Title of the product; empty if the catalog lacks it."""
    impressions: int
    clicks: int
    carts: int
    purchases: int
    units: int
    revenue: float


@dataclass(frozen=True, slots=True)
class Analytics:
    """Figures from `first` to `last`, both included; at most twenty rows of each table."""

    first: date
    last: date
    first_before: date
    last_before: date
    tables_first: date
    """First day with events in the derived tables; earlier days cannot be compared."""
    tables_last: date
    """Last day with events."""
    made: datetime
    """Time of the last refresh of the derived tables."""
    least_shoppers: int
    """Queries and products of fewer shoppers are not named."""
    currency: str
    """ISO 4217 code of most sold products; empty if the catalog has none."""
    now: Figures
    before: Figures
    days: tuple[DayFigures, ...]
    """Every day of the range, including days without events."""
    top: tuple[QueryFigures, ...]
    empty: tuple[QueryFigures, ...]
    """Queries with the most searches that found nothing."""
    unclicked: tuple[QueryFigures, ...]
    rising: tuple[QueryFigures, ...]
    """Queries by (searches + 5) / (previous searches + 5)."""
    earning: tuple[QueryFigures, ...]
    """Queries by revenue."""
    products: tuple[ProductFigures, ...]
    """Products by revenue."""


def analytics(
    index: Path, find: Callable[[str], Product | None], first: date | None = None, last: date | None = None
) -> Analytics:
    """Analytics of a range of days, by default the last thirty with events, or the last half of 14 to 59 days, which is
    compared with the other half; `find` looks a product up in the catalog.

    Raises InputError for an empty or too long range, StoreMissingError if there are no derived tables.
    """
    derived = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER)
    tables_first, tables_last = derived.sessions.select(pl.min("day").alias("first"), pl.max("day")).row(0)
    tables_first, tables_last = tables_first or derived.window.first.date(), tables_last or derived.window.last.date()
    last = last or tables_last
    half = ((tables_last - tables_first).days + 1) // 2
    first = first or last - timedelta(days=(min(half, _DEFAULT_DAYS) if half >= _MIN_HALF else _DEFAULT_DAYS) - 1)
    count = (last - first).days + 1
    if not 1 <= count <= MAX_DAYS:
        raise InputError(f"from is {first}, to is {last}; a range has 1 to {MAX_DAYS} days")
    begin = first - timedelta(days=count)
    in_range = pl.col("day").is_between(_number(begin), _number(last))
    answers, sales, counts = (
        table.filter(in_range) for table in (derived.daily_searches, derived.daily_sales, derived.daily_products)
    )
    answers = answers.with_columns(clicked=pl.sum_horizontal(_ACTS) > 0)
    catalog, currency = _catalog(sales["product_id"], find)
    sales = sales.join(catalog, on="product_id", how="left").with_columns(revenue=pl.col("units") * pl.col("price"))
    sessions = derived.sessions.with_columns(pl.col("day").to_physical()).filter(in_range)
    is_now = pl.col("day") >= _number(first)
    now, before = ([each.filter(part) for each in (answers, sales, sessions)] for part in (is_now, ~is_now))
    least = int(derived.manifest.options["least_shoppers"])
    queries = _queries(now[0], now[1], before[0], least)
    rise = (pl.col("searches") + _PRIOR) / (pl.col("before") + _PRIOR)
    return Analytics(
        first=first,
        last=last,
        first_before=begin,
        last_before=first - timedelta(days=1),
        tables_first=tables_first,
        tables_last=tables_last,
        made=derived.made,
        least_shoppers=least,
        currency=currency,
        now=_figures(now),
        before=_figures(before),
        days=_days(now, first, count),
        top=_best(queries, pl.col("searches")),
        empty=_best(queries, pl.col("empty")),
        unclicked=_best(queries, pl.col("unclicked")),
        rising=_best(queries.filter(rise >= _MIN_RISE), rise),
        earning=_best(queries, pl.col("revenue")),
        products=_products(counts.filter(is_now), now[1], set(derived.popularity["product_id"]), find),
    )


_ACTS = ("clicks", "carts", "purchases")
_SEARCH_FACTS = (
    pl.len().alias("searches"),
    pl.col("empty").sum(),
    (~pl.col("empty") & ~pl.col("clicked")).sum().alias("unclicked"),
    pl.col("clicked").sum(),
    (pl.col("purchases") > 0).sum().alias("bought"),
)
_SALE_FACTS = (
    pl.col("purchases").sum(),
    pl.col("revenue").sum(),
    pl.col("revenue").filter(pl.col("query") != "").sum().alias("search_revenue"),
)


_SESSION_FACTS = ((~pl.col("is_fraud")).sum().alias("sessions"), pl.col("is_fraud").sum().alias("bot_sessions"))
_FACTS = (_SEARCH_FACTS, _SALE_FACTS, _SESSION_FACTS)
"""Aggregations for the tables of answers, sales and sessions, in this order."""


def _figures(tables: Sequence[pl.DataFrame]) -> Figures:
    rows = [table.select(facts).row(0, named=True) for table, facts in zip(tables, _FACTS, strict=True)]
    return Figures(**{name: value for row in rows for name, value in row.items()})


def _days(tables: Sequence[pl.DataFrame], first: date, count: int) -> tuple[DayFigures, ...]:
    days = pl.DataFrame({"day": range(_number(first), _number(first) + count)}, schema={"day": pl.Int32})
    for table, facts in zip(tables, _FACTS, strict=True):
        days = days.join(table.group_by("day").agg(facts), on="day", how="left", maintain_order="left")
    rows = days.fill_null(0).with_columns(pl.col("day").cast(pl.Date)).iter_rows(named=True)
    return tuple(DayFigures(**row) for row in rows)


def _queries(answers: pl.DataFrame, sales: pl.DataFrame, before: pl.DataFrame, least: int) -> pl.DataFrame:
    """One row per query of at least `least` shoppers, with the columns of `QueryFigures`."""
    facts = (pl.col("spelling").mode().sort().first(), pl.col(WHO).n_unique().alias("shoppers"), *_SEARCH_FACTS)
    table = answers.group_by("query").agg(*facts).filter(pl.col("shoppers") >= least)
    earned = sales.group_by("query").agg(pl.col("revenue").sum())
    earlier = before.group_by("query").agg(before=pl.len())
    for other in (earned, earlier):
        table = table.join(other, on="query", how="left")
    return table.with_columns(pl.col("revenue", "before").fill_null(0), query="spelling").drop("spelling")


def _best(queries: pl.DataFrame, amount: pl.Expr) -> tuple[QueryFigures, ...]:
    """Queries with the highest positive amount."""
    best = queries.with_columns(_amount=amount).filter(pl.col("_amount") > 0)
    best = best.sort("_amount", "query", descending=[True, False]).head(_MAX_ROWS).drop("_amount")
    return tuple(QueryFigures(**row) for row in best.iter_rows(named=True))


def _products(
    counts: pl.DataFrame, sales: pl.DataFrame, known: Collection[str], find: Callable[[str], Product | None]
) -> tuple[ProductFigures, ...]:
    table = counts.group_by("product_id").agg(pl.col("impressions", *_ACTS).sum())
    earned = sales.group_by("product_id").agg(pl.col("units", "revenue").sum())
    table = table.join(earned, on="product_id", how="left").with_columns(pl.col("units", "revenue").fill_null(0))
    table = table.filter(pl.col("product_id").is_in(list(known)))
    order = ["revenue", "purchases", "clicks", "product_id"]
    best = table.sort(order, descending=[True, True, True, False]).head(_MAX_ROWS)
    found = {product_id: find(product_id) for product_id in best["product_id"]}
    titles = {product_id: product.title for product_id, product in found.items() if product}
    return tuple(ProductFigures(title=titles.get(row["product_id"], ""), **row) for row in best.iter_rows(named=True))


def _catalog(ids: pl.Series, find: Callable[[str], Product | None]) -> tuple[pl.DataFrame, str]:
    """Columns product_id and price of the products priced in the most frequent currency, and this currency."""
    found = [product for product in map(find, ids.unique().sort()) if product and product.price is not None]
    currencies = Counter(product.currency for product in found)
    currency = max(sorted(currencies), key=currencies.__getitem__, default="")
    rows = [(product.id, product.price) for product in found if product.currency == currency]
    return pl.DataFrame(rows, schema={"product_id": pl.String, "price": pl.Float64}, orient="row"), currency


def _number(day: date) -> int:
    return (day - _EPOCH).days
