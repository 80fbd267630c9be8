"""The exposure report: impressions, clicks, revenue and exposure of product groups, compared with merit.

The exposure of a product is the sum of the probabilities that its impressions were examined, from a click model. Its
target gives each product of a query exposure in proportion to its merit (Singh & Joachims 2018, Fairness of Exposure in
Rankings, section 4.2; Biega, Gummadi & Weikum 2018, Equity of Attention), and merit is the rate of clicks for each
examined impression.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from shelfwise.rerank.click_models.click_log import outcomes
from shelfwise.rerank.click_models.models import PositionBased
from shelfwise.rerank.sessions.partitions import WHO
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.errors import ShelfwiseError, UnknownFieldError, suggest_names
from shelfwise.retrieval.filters.ast import value_text
from shelfwise.retrieval.filters.schema import field_values
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.events.event_log import DERIVED_FOLDER

_DEPTH = 20
"""Number of counted positions."""
_MAX_GROUPS = 20
"""Maximum number of named groups; groups with less exposure are pooled."""
_SMOOTHING = 5.0
"""The weight of the mean click rate in the merit of a pair of query and product, in examined impressions."""
OTHERS, UNKNOWN = "others", "not known"


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

    @property
    def ratio(self) -> float:
        """Exposure divided by target: 1 corresponds to merit."""
        return self.exposure / self.target if self.target else 0.0


@dataclass(frozen=True, slots=True)
class ExposureReport:
    """The exposure of the products' groups by the values of a field, over the window of the derived tables."""

    by: str
    first: datetime
    last: datetime
    lists: int
    groups: tuple[GroupRow, ...]
    """Groups by descending exposure, the pooled one last."""
    distance: float
    """Attention-weighted rank fairness (Sapiezynski et al. 2019, Quantifying the Impact of User Attention on Fair Group
    Representation in Ranked Lists): the total variation distance between the groups' shares of exposure and those by
    merit; 0 if they are equal, at most 1."""
    examination: tuple[float, ...]
    """Examination probability by position."""


def exposure_report(root: Path, by: str) -> ExposureReport:
    """Exposure report of an index directory, by a field of the catalog.

    Raises StoreMissingError if there are no derived tables, UnknownFieldError for a field that no product has.
    """
    derived, store = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER), Store(root)
    products: list[Product] = []
    with suppress(ShelfwiseError):  # nothing is published, or it cannot be read
        stored = ProductStore(store.version_folder(store.current()))
        products = [stored[row] for row in range(len(stored))]
    window = derived.window.first, derived.window.last
    least = int(derived.manifest.options["least_shoppers"])
    return measure_exposure(derived.lists(), products, window, least, by)


def groups_of(products: Sequence[Product], by: str) -> dict[str, str]:
    """Product id to the first value of a field; raises UnknownFieldError for a field that no product has."""
    values = [(each.id, name, value) for each in products for name, _, value in field_values(each)]
    groups = {
        product: value_text(value) for product, name, value in reversed(values) if name in (by, f"attributes.{by}")
    }
    if not groups:
        advice = suggest_names(by, sorted({name for _, name, _ in values}), "it can be brand, or another field")
        raise UnknownFieldError(f"by is {by!r}, which no product has; {advice}", by)
    return groups


def measure_exposure(
    events: pl.DataFrame, products: Sequence[Product], window: tuple[datetime, datetime], least_shoppers: int, by: str
) -> ExposureReport:
    """Exposure report of cleaned events with the columns of `shelfwise.rerank.click_models.click_log.click_log`, and
    who. Groups shown to fewer than `least_shoppers` shoppers are pooled; raises the errors of `groups_of`."""
    groups, happened = groups_of(products, by), outcomes(events, _DEPTH)
    log = happened.log
    examination = PositionBased.fit(log).examination if log.size else np.zeros(_DEPTH)
    prices = {each.id: each.price or 0.0 for each in products}
    pairs = happened.pairs.select(
        "query",
        pl.col("product_id").cast(pl.String),
        exposure=log.by_pair(log.shown, np.broadcast_to(examination, log.pairs.shape)),
        impressions=log.by_pair(log.shown),
        clicks=log.by_pair(log.clicks),
        purchases=happened.purchases(0, log.size),
    ).with_columns(
        group=pl.col("product_id").replace_strict(groups, default=UNKNOWN, return_dtype=pl.String),
        price=pl.col("product_id").replace_strict(prices, default=0.0, return_dtype=pl.Float64),
    )
    impressions = events.filter(pl.col("kind").cast(pl.String) == "impression")
    seen = impressions.select(pl.col("product_id").cast(pl.String), WHO).join(pairs, on="product_id")
    shoppers = seen.group_by("group").agg(pl.col(WHO).n_unique()).filter(pl.col(WHO) >= least_shoppers)
    ranked = pairs.group_by("group").agg(pl.col("exposure").sum()).join(shoppers, on="group")
    named = ranked.sort("exposure", "group", descending=[True, False])["group"].head(_MAX_GROUPS).to_list()
    pooled = pl.when(pl.col("group").is_in(named)).then("group").otherwise(pl.lit(OTHERS))
    rows = _rows(with_targets(pairs).with_columns(group=pooled))
    distance = sum(abs(row.exposure - row.target) for row in rows) / 2
    return ExposureReport(by, *window, log.size, rows, distance, tuple(examination.tolist()))


def with_targets(pairs: pl.DataFrame) -> pl.DataFrame:
    """Adds the column target: the exposure of each query, divided in proportion to merit, which is clicks per examined
    impression, shrunk to the mean rate."""
    clicks, exposure = (float(pairs[name].sum()) for name in ("clicks", "exposure"))
    rate = clicks / max(exposure, 1e-12)
    merit = (pl.col("clicks") + _SMOOTHING * rate) / (pl.col("exposure") + _SMOOTHING)
    share = (pl.col("_merit") / pl.col("_merit").sum().over("query")).fill_nan(0.0)
    target = pl.col("exposure").sum().over("query") * share
    return pairs.with_columns(_merit=merit).with_columns(target=target).drop("_merit")


def _rows(pairs: pl.DataFrame) -> tuple[GroupRow, ...]:
    """One row for each group, by descending exposure, the pooled one last."""
    whole = pl.col("exposure").sum().clip(1e-12)
    shares = pairs.with_columns(
        exposure=pl.col("exposure") / whole,
        target=pl.col("target") / whole,
        revenue=pl.col("purchases") * pl.col("price"),
    )
    table = shares.group_by("group").agg(
        pl.col("product_id").n_unique(),
        pl.col("impressions", "clicks", "purchases").sum().cast(pl.Int64),
        pl.col("revenue", "exposure", "target").sum(),
    )
    ordered = table.sort(pl.col("group") == OTHERS, "exposure", "group", descending=[False, True, False])
    return tuple(GroupRow(*row) for row in ordered.iter_rows())
