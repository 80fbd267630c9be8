"""The exposure report: impressions, clicks, revenue and exposure of product groups, compared with merit.

The exposure of a product is the sum of the probabilities that its impressions were examined, from a click model. Its
target gives each product of a query exposure in proportion to its merit (Singh & Joachims 2018, Fairness of Exposure in
Rankings, section 4.2; Biega, Gummadi & Weikum 2018, Equity of Attention), and merit is the rate of clicks for each
examined impression, or a grade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import Floats, Outcomes, outcomes
from shelfwise.rerank.click_models.models import PositionBased
from shelfwise.rerank.evaluation.statistics import Estimate
from shelfwise.rerank.sessions.partitions import WHO
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.errors import ShelfwiseError, UnknownFieldError, close_names
from shelfwise.retrieval.filters.ast import value_text
from shelfwise.retrieval.filters.schema import field_values
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.events.event_log import DERIVED_FOLDER

DEPTH = 20
"""Number of counted positions."""
MOST_GROUPS = 20
"""Maximum number of named groups; groups with less exposure are pooled."""
NEW_DAYS = 90
_BAND_NAMES = ("cheapest quarter", "second quarter", "third quarter", "dearest quarter")
OTHERS, UNKNOWN = "others", "not known"
BY = ("brand", "category", "price", "age")
"""Built-in groupings of products; a field of the catalog is another."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group of products."""

    group: str
    products: int
    """Number of products that were shown."""
    impressions: int
    clicks: int
    purchases: int
    revenue: float
    """Revenue at the current prices of the catalog."""
    exposure: float
    """Share of all exposure."""
    target: float
    """Share that the group merits by its clicks."""
    ratio: Estimate
    """Exposure divided by target."""


@dataclass(frozen=True, slots=True)
class ExposureReport:
    """The exposure of a grouping over the window of the derived tables."""

    by: str
    first: datetime
    last: datetime
    lists: int
    groups: tuple[GroupRow, ...]
    """Groups by descending exposure, the pooled one last."""
    gini_products: float
    """Gini coefficient of the exposure of the shown products."""
    gini_groups: float
    distance: float
    """AWRF: distance of the groups' shares of exposure from those by merit."""
    examination: tuple[float, ...]
    """Examination probability by position."""


def exposure_report(root: Path, by: str) -> ExposureReport:
    """Exposure report of an index directory, by a grouping of `BY` or a field of the catalog.

    Raises StoreMissingError if there are no derived tables, UnknownFieldError for a field that no product has.
    """
    derived, products = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER), stored_products(Store(root))
    window = derived.window.first, derived.window.last
    least = int(derived.manifest.options["least_shoppers"])
    return measure_exposure(ExposureLog.of(derived.lists(), products, window, least), by)


def stored_products(store: Store) -> list[Product]:
    """Products of the serving version; empty if nothing is published or it cannot be read."""
    with suppress(ShelfwiseError):
        stored = ProductStore(store.version_folder(store.current()))
        return [stored[row] for row in range(len(stored))]
    return []


def groups_of(products: Sequence[Product], by: str, now: datetime) -> dict[str, str]:
    """Product id to group; raises UnknownFieldError for a field that no product has."""
    match by:
        case "brand":
            found = {each.id: each.brand for each in products}
        case "category":
            found = {each.id: each.category[0] if each.category else "" for each in products}
        case "price":
            found = price_bands(products)
        case "age":
            found = {each.id: _age(each, now) for each in products}
        case _:
            wanted = {by, f"attributes.{by}"}
            values = ((each.id, value) for each in products for name, _, value in field_values(each) if name in wanted)
            found = {product: value_text(value) for product, value in reversed([*values])}
            if not found:
                names = [*BY, *{name for each in products for name, _, _ in field_values(each)}]
                close = close_names(by, names)
                advice = f"did you mean {' or '.join(close)}?" if close else f"it can be {', '.join(BY)}, or a field"
                raise UnknownFieldError(f"by is {by!r}, which no product has; {advice}", by, close)
    return {each.id: found.get(each.id) or UNKNOWN for each in products}


def _age(product: Product, now: datetime) -> str:
    if product.created is None:
        return ""
    return f"new ({NEW_DAYS} days)" if now - product.created <= timedelta(days=NEW_DAYS) else "older"


def price_bands(products: Sequence[Product]) -> dict[str, str]:
    """Product id to the price quartile within its category."""
    table = pl.DataFrame(
        [(each.id, "\0".join(each.category), each.price) for each in products if each.price is not None],
        schema={"product_id": pl.String, "category": pl.String, "price": pl.Float64},
        orient="row",
    )
    place = (pl.col("price").rank("ordinal").over("category") - 1) / pl.len().over("category")
    bands = table.select("product_id", band=(len(_BAND_NAMES) * place).floor().cast(pl.Int64))
    return {product: _BAND_NAMES[band] for product, band in bands.iter_rows()}


@dataclass(frozen=True, slots=True, eq=False)
class ExposureLog:
    """Lists of a window with the examination of their positions; input for any grouping."""

    happened: Outcomes
    examination: Floats
    """(DEPTH,) examination probability by position."""
    seen: pl.DataFrame
    """Columns product_id and who: distinct pairs of a product and a shopper who was shown it."""
    products: Sequence[Product]
    """Products of the catalog."""
    window: tuple[datetime, datetime]
    least_shoppers: int

    @classmethod
    def of(
        cls, events: pl.DataFrame, products: Sequence[Product], window: tuple[datetime, datetime], least_shoppers: int
    ) -> ExposureLog:
        """Builds it from cleaned events with the columns of `shelfwise.rerank.click_models.click_log.click_log`,
        and who."""
        happened = outcomes(events, DEPTH)
        examination = PositionBased.fit(happened.log).examination if happened.log.size else np.zeros(DEPTH)
        shown = events.filter(pl.col("kind").cast(pl.String) == "impression")
        seen = shown.select(pl.col("product_id").cast(pl.String), WHO).unique()
        return cls(happened, examination, seen, products, window, least_shoppers)


def measure_exposure(read: ExposureLog, by: str) -> ExposureReport:
    """Exposure report of one grouping. Groups shown to fewer than `least_shoppers` shoppers are pooled; raises the
    errors of `groups_of`."""
    groups = groups_of(read.products, by, read.window[1])
    prices = {each.id: each.price or 0.0 for each in read.products}
    happened, log, pairs = read.happened, read.happened.log, read.happened.pairs
    shown = np.broadcast_to(read.examination, log.pairs.shape)
    named = _named(read, groups)
    of_pair = [groups.get(each, UNKNOWN) for each in pairs["product_id"].to_list()]
    texts = [each if each in named else OTHERS for each in of_pair]
    exposure = log.by_pair(log.shown, shown)
    names = _by_exposure(texts, exposure)
    number = {name: place for place, name in enumerate(names)}
    group = np.array([number.get(text, number.get(OTHERS, 0)) for text in texts], np.int64)
    clicks, impressions = log.by_pair(log.clicks), log.by_pair(log.shown)
    carried = PairExposure(happened.query.astype(np.int64), group, exposure, clicks)
    purchases = happened.purchases(0, log.size)
    revenue = purchases * np.array([prices.get(each, 0.0) for each in pairs["product_id"].to_list()])
    found = group_shares(carried, len(names))
    shown_times, clicked, bought, earned = (
        np.bincount(group, values, len(names)) for values in (impressions, clicks, purchases, revenue)
    )
    product = pairs["product_id"].rank("dense").cast(pl.Int64).to_numpy() - 1 if pairs.height else group
    of_group = np.array([len(np.unique(product[group == place])) for place in range(len(names))])
    rows = tuple(
        GroupRow(
            group=name,
            products=int(of_group[at]),
            impressions=int(shown_times[at]),
            clicks=int(clicked[at]),
            purchases=int(bought[at]),
            revenue=float(earned[at]),
            exposure=share.exposure,
            target=share.target,
            ratio=share.ratio,
        )
        for at, (name, share) in enumerate(zip(names, found, strict=True))
    )
    return ExposureReport(
        by,
        *read.window,
        log.size,
        rows,
        gini(np.bincount(product, exposure).astype(np.float64)) if pairs.height else 0.0,
        gini(np.array([each.exposure for each in rows])),
        attention_distance([each.exposure for each in rows], [each.target for each in rows]),
        tuple(read.examination.tolist()),
    )


def _named(read: ExposureLog, groups: Mapping[str, str]) -> set[str]:
    """Groups that were shown to enough shoppers."""
    of_group = read.seen.with_columns(
        group=pl.col("product_id").replace_strict(groups, default=UNKNOWN, return_dtype=pl.String)
    )
    counted = (
        of_group.group_by("group")
        .agg(shoppers=pl.col(WHO).n_unique())
        .filter(pl.col("shoppers") >= read.least_shoppers)
    )
    return set(counted["group"].to_list())


def _by_exposure(texts: list[str], exposure: Floats) -> list[str]:
    """Names of the groups by descending exposure, the pooled group last."""
    table = pl.DataFrame({"group": texts, "exposure": exposure}).group_by("group").agg(pl.col("exposure").sum())
    ordered = table.sort("exposure", "group", descending=[True, False])["group"].to_list()
    kept = [name for name in ordered if name != OTHERS][:MOST_GROUPS]
    return [*kept, OTHERS] if len(kept) < len(ordered) else kept


# The measures.

Indices = NDArray[np.int64]
_SMOOTHING = 5.0
"""The weight of the mean click rate in the merit of a pair of query and product, in examined impressions."""


@dataclass(frozen=True, slots=True, eq=False)
class PairExposure:
    """The p pairs of a query and a product in a log."""

    query: Indices
    """(p,): the query's number, from 0."""
    group: Indices
    """(p,): the product's group number, from 0."""
    exposure: Floats
    """(p,): examined impressions."""
    clicks: Floats
    """(p,): the number of clicks."""


@dataclass(frozen=True, slots=True)
class GroupShare:
    """One group's shares of all exposure."""

    exposure: float
    target: float
    """The share that it deserves by merit."""
    ratio: Estimate
    """Exposure per unit of the target: 1 corresponds to merit; the interval is from a bootstrap over queries."""


def target_by_merit(pairs: PairExposure) -> Floats:
    """(p,): the exposure of each query, divided in proportion to merit: clicks per examined impression, shrunk to the
    mean rate."""
    rate = float(pairs.clicks.sum()) / max(float(pairs.exposure.sum()), 1e-12)
    merit = (pairs.clicks + _SMOOTHING * rate) / (pairs.exposure + _SMOOTHING)
    of_query = np.bincount(pairs.query, pairs.exposure)
    total = np.bincount(pairs.query, merit).clip(min=1e-12)
    return np.asarray(of_query[pairs.query] * merit / total[pairs.query])


def group_shares(pairs: PairExposure, groups: int, resamples: int = 1_000, seed: int = 7) -> list[GroupShare]:
    """The shares of each of `groups` groups."""
    queries = int(pairs.query.max(initial=-1)) + 1
    cell, size = pairs.query * groups + pairs.group, queries * groups
    exposure, target = (
        np.bincount(cell, values, size).reshape(queries, groups) for values in (pairs.exposure, target_by_merit(pairs))
    )
    whole = max(float(exposure.sum()), 1e-12)
    chances = np.full(max(queries, 1), 1 / max(queries, 1))
    drawn = np.random.default_rng(seed).multinomial(queries, chances, resamples)[:, :queries].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn @ exposure) / (drawn @ target)
        means = exposure.sum(axis=0) / target.sum(axis=0)
    found = []
    for group in range(groups):
        known = ratios[np.isfinite(ratios[:, group]), group]
        ends = np.percentile(known, [2.5, 97.5]).tolist() if len(known) else (None, None)
        mean = float(means[group]) if np.isfinite(means[group]) else 0.0
        ratio = Estimate(mean, *ends)
        found.append(GroupShare(float(exposure[:, group].sum()) / whole, float(target[:, group].sum()) / whole, ratio))
    return found


def gini(values: Floats) -> float:
    """The Gini coefficient of non-negative values (n,): 0 if all are equal, near 1 if one has everything."""
    ordered, count = np.sort(values), len(values)
    total = float(ordered.sum())
    if not count or total <= 0:
        return 0.0
    return float(2 * (np.arange(1, count + 1) @ ordered) / (count * total) - (count + 1) / count)


def attention_distance(shares: Sequence[float], target: Sequence[float]) -> float:
    """Attention-weighted rank fairness (Sapiezynski et al. 2019, Quantifying the Impact of User Attention on Fair Group
    Representation in Ranked Lists; AWRF in Raj & Ekstrand 2022, Measuring Fairness in Ranked Results): the total
    variation distance between the groups' shares of attention and a target; 0 if they are equal, at most 1."""
    return float(np.abs(np.asarray(shares) - np.asarray(target)).sum() / 2)
