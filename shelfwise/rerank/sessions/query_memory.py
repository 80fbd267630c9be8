"""The derived table `query_memory`: which products shoppers chose for a query, for its words, and for any query.

Each row compares observed with expected counts. The expected clicks are the product's examined impressions times the
click rate of the query's examined products. The expected carts or purchases are the product's clicks times the query's
rate per click. The ratio is shrunk towards the ratio of the same product for other queries, which is itself shrunk
towards 1: empirical Bayes with a gamma prior (DuMouchel 1999, Bayesian Data Mining in Large Frequency Tables, section
3). A count that differs from its prior by less than one shopper's list is taken to be its prior, and any other counts
one list less, so that one shopper alone says nothing about a product.

All lists that one shopper was shown for a query together weigh as much as one list, so that no shopper counts twice.
Weights decay with age.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import Outcomes, outcomes, shown_places, sums
from shelfwise.rerank.click_models.labels import LIST_DEPTH
from shelfwise.rerank.click_models.models import UserBrowsing
from shelfwise.rerank.ranker.memory import RATIOS, Kind, Scope, memory_key, memory_words
from shelfwise.rerank.sessions.decay import decay_at, exact_sum
from shelfwise.rerank.sessions.partitions import WHO, Context, PartialReader, TableMaker
from shelfwise.rerank.sessions.query_tables import LIST_PARTIAL, add_own_ids

Floats = NDArray[np.float64]

_RATES = {"attraction": ("clicks", "looks"), "cart": ("carts", "clicks"), "purchase": ("purchases", "clicks")}
"""Column of a ratio: the counted events, and the events that they are counted per."""
_COUNTS = ("looks", "clicks", "carts", "purchases", "squares")
_SUMS = (*_COUNTS, *(f"expected_{hits}" for hits, _ in _RATES.values()))
_MEMBER = ["kind", "member"]
_DAY = timedelta(days=1)
_STRENGTHS = (1.0, 200.0)
_DOUBT = 1.0
"""The number of full lists by which a count must differ from its prior before the rest counts. Decision 0037 has what
1.0 and 2.0 cost on demo stores."""
_HALF_LIFE = 30.0
"""The age in days at which a list counts half."""
_BANDS = 4
_EMPTY = pl.DataFrame(
    schema={
        **dict.fromkeys(("scope", "key", "kind", "member"), pl.String),
        "shoppers": pl.UInt32,
        **dict.fromkeys(("looks", *RATIOS), pl.Float64),
    }
)


def query_memory(read: PartialReader, context: Context) -> pl.DataFrame:
    """The table of all lists in the window; see `memory_of`."""
    return memory_of(add_own_ids(read(LIST_PARTIAL)), context.window.last, context)


def memory_before(lists: pl.DataFrame, end: datetime, context: Context) -> pl.DataFrame:
    """The table as of `end`: from the lists shown before `end` only.

    `lists` is `shelfwise.rerank.sessions.tables.DerivedTables.lists`.
    """
    begun = pl.col("time").filter(pl.col("kind") == "impression").min().over("query_id")
    return memory_of(lists.filter((begun < end) & (pl.col("time") < end)), end, context)


def memory_of(lists: pl.DataFrame, end: datetime, context: Context) -> pl.DataFrame:
    """One row a scope, key and member, in this order; rows with too few shoppers are left out.

    scope (`Scope`), key (the query's words in alphabetical order, one word, or empty), kind (`Kind`), member (the
    product's id, or its category, brand or price band), shoppers (who were shown it), looks (decayed examined
    impressions), attraction, cart, purchase (ratios; 1 is the average of the query), evidence (0 to 1: how much of the
    attraction comes from the key's own clicks), strength (the weight of its prior, in expected clicks).
    """
    keys = {query: memory_key(query) for query in lists["query"].unique().to_list()}
    keyed = lists.with_columns(pl.col("query").replace_strict(keys, return_dtype=pl.String))
    happened = outcomes(keyed, LIST_DEPTH)
    if not happened.log.size:
        return _EMPTY
    cells, shown = _cells(keyed, happened, end)
    ids = cells["product_id"].unique()
    # The products that were shown, including those that are not in the catalog.
    alone = pl.DataFrame({"product_id": ids}).with_columns(kind=pl.lit(Kind.PRODUCT.value), member="product_id")
    known = catalog_members(context.products).filter(pl.col("product_id").is_in(ids.implode()))
    belongs = pl.concat([alone, known.select(alone.columns)]).unique()
    pairs = _summed(_expected(cells).join(belongs, on="product_id"), ["key", *_MEMBER])
    shown = shown.join(belongs, on="product_id").select("key", *_MEMBER, WHO).unique()
    whole = _with_ratios(_summed(pairs, _MEMBER), None)
    word_of = [(key, memory_words(key)) for key in cells["key"].unique().to_list()]
    words = pl.DataFrame(word_of, schema={"key": pl.String, "word": pl.List(pl.String)}, orient="row").explode("word")
    by_word, shown_by_word = (each.join(words.drop_nulls(), on="key").drop("key") for each in (pairs, shown))
    by_word, shown_by_word = by_word.rename({"word": "key"}), shown_by_word.rename({"word": "key"})
    products = whole.filter(pl.col("kind") == Kind.PRODUCT.value).with_columns(key=pl.lit(""))
    tables = (
        _finished(Scope.ALL, products, shown.with_columns(key=pl.lit("")), context),
        _finished(Scope.QUERY, _with_ratios(pairs, whole), shown, context),
        _finished(Scope.WORD, _with_ratios(_summed(by_word, ["key", *_MEMBER]), whole), shown_by_word, context),
    )
    return pl.concat(tables).sort("scope", "key", *_MEMBER)


def catalog_members(products: pl.DataFrame | None) -> pl.DataFrame:
    """product_id, kind and member: each product itself, and its category, brand and price band."""
    if products is None:
        return pl.DataFrame(schema=dict.fromkeys(("product_id", *_MEMBER), pl.String))
    place = pl.col("price").rank("ordinal").over("category") - 1
    band = (_BANDS * place / pl.col("price").count().over("category")).floor().cast(pl.Int64)
    kinds = {
        Kind.PRODUCT.value: pl.col("product_id"),
        Kind.CATEGORY.value: pl.when(pl.col("category") != "").then(pl.col("category")),
        Kind.BRAND.value: pl.when(pl.col("brand") != "").then(pl.col("brand")),
        Kind.PRICE.value: band.cast(pl.String),
    }
    named = products.unique("product_id", keep="first", maintain_order=True).select(
        pl.col("product_id").alias("_id"), **kinds
    )
    return (
        named.unpivot(index="_id", variable_name="kind", value_name="member")
        .drop_nulls("member")
        .rename({"_id": "product_id"})
    )


def _cells(lists: pl.DataFrame, happened: Outcomes, end: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Counts of pairs: key, product_id and `_COUNTS`; and the shoppers who were shown them: key, product_id, who."""
    log = happened.log
    examined = UserBrowsing.fit(log).conditional_examination(log)
    rows = shown_places(lists, LIST_DEPTH).select("row", "query_id", "query").unique("row").sort("row")
    seen = (
        lists.filter(pl.col("kind") == "impression").group_by("query_id").agg(pl.col(WHO).min(), pl.col("time").min())
    )
    # A clock may be ahead of the refresh.
    age = ((pl.lit(end) - pl.col("time")) / _DAY).floor().clip(lower_bound=0)
    weight_of = decay_at(age, _HALF_LIFE) / pl.len().over("query", WHO)
    rows = rows.join(seen, on="query_id", how="left", maintain_order="left").with_columns(
        weight=weight_of, number=pl.col(WHO).rank("dense").cast(pl.Int64) - 1
    )
    weight, who, shown = rows["weight"].to_numpy(), rows["number"].to_numpy(), log.shown
    row = np.nonzero(shown)[0]
    pair, looks = log.pairs[shown], weight[row] * examined[shown]
    counts = {
        "looks": sums(pair, looks, log.count),
        "clicks": sums(pair, weight[row] * log.clicks[shown], log.count),
        "carts": sums(happened.cart_pairs, weight[happened.cart_rows], log.count),
        "purchases": sums(happened.purchase_pairs, weight[happened.purchase_rows], log.count),
        "squares": sums(pair, looks * weight[row], log.count),
    }
    named = happened.pairs.select("product_id", key="query")
    people = int(who.max()) + 1
    number, person = np.divmod(np.unique(pair.astype(np.int64) * people + who[row]), people)
    return named.with_columns(**counts), named[number].with_columns(pl.Series(WHO, person))


def _expected(cells: pl.DataFrame) -> pl.DataFrame:
    """The pairs with the clicks, carts and purchases that the rates of their queries predict."""
    query = cells.group_by("key").agg(**{name: exact_sum(pl.col(name)) for name in _COUNTS}).sort("key")
    rates = {}
    for hits, trials in _RATES.values():
        counted, tried = query[hits].to_numpy(), query[trials].to_numpy()
        usual = float(counted.sum()) / max(float(tried.sum()), 1e-300)
        ratio, _, _ = _posterior(counted, tried * usual, np.ones(len(query)), _scale(query))
        rates[f"_{hits}"] = ratio * usual
    joined = cells.join(query.select("key").with_columns(**rates), on="key", how="left", maintain_order="left")
    expected = {f"expected_{hits}": pl.col(trials) * pl.col(f"_{hits}") for hits, trials in _RATES.values()}
    return joined.with_columns(**expected).drop(rates)


def _summed(pairs: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    return pairs.group_by(by).agg(**{name: exact_sum(pl.col(name)) for name in _SUMS}).sort(by)


def _with_ratios(table: pl.DataFrame, whole: pl.DataFrame | None) -> pl.DataFrame:
    """The table with its ratios and evidence. If `whole` is given, with the members of all keys, the prior mean of a
    row comes from the other keys."""
    count, scale = table.height, _scale(table)
    others = (
        table.select(_MEMBER).join(whole, on=_MEMBER, how="left", maintain_order="left") if whole is not None else None
    )
    made: dict[str, Floats] = {}
    for ratio, (hits, _) in _RATES.items():
        observed, expected = table[hits].to_numpy(), table[f"expected_{hits}"].to_numpy()
        mean = np.ones(count)
        if others is not None:
            counted = (others[hits].to_numpy() - observed).clip(min=0)
            awaited = (others[f"expected_{hits}"].to_numpy() - expected).clip(min=0)
            prior = others[f"_{ratio}"].to_numpy()
            mean = (counted + prior) / (awaited + prior)
        made[ratio], evidence, strength = _posterior(observed, expected, mean, scale, doubt=_DOUBT)
        made[f"_{ratio}"] = np.full(count, strength)
        made.setdefault("evidence", evidence)
        made.setdefault("strength", made[f"_{ratio}"])
    return table.with_columns(**made)


def _scale(table: pl.DataFrame) -> Floats:
    """(n,): the number of impressions that a unit of weight stands for (Kish 1965, Survey Sampling, section 11.7)."""
    looks, squares = table["looks"].to_numpy(), table["squares"].to_numpy()
    return np.asarray(np.where(squares > 0, looks / np.maximum(squares, 1e-300), 1.0))


def _posterior(
    observed: Floats, expected: Floats, mean: Floats, scale: Floats, doubt: float = 0.0
) -> tuple[Floats, Floats, float]:
    """(n,) each: the ratios of observed to expected counts, shrunk to `mean`, and their evidence; and the strength of
    the prior, in expected counts.

    The strength is estimated by moments from how the counts vary about the mean. `scale` makes weighted counts as
    certain as plain counts. The ratios ignore `doubt` observed counts of each row's difference from the mean.
    """
    counted, awaited = observed * scale, expected * scale
    # Weighted by the variance of a squared Poisson count, F + 2 F ** 2, so that rare items carry little weight.
    reliable = awaited / (1.0 + awaited) ** 2
    difference = counted - mean * awaited
    excess = float(reliable @ (difference**2 - mean * awaited))
    size = float(reliable @ (awaited**2 * mean))
    strength = float(np.clip(size / max(excess, 1e-9), *_STRENGTHS))
    certain = np.sign(difference) * (np.abs(difference) - doubt * scale).clip(min=0)
    return mean + certain / (awaited + strength), awaited / (awaited + strength), strength


def _finished(scope: Scope, table: pl.DataFrame, shown: pl.DataFrame, context: Context) -> pl.DataFrame:
    """The rows with enough shoppers."""
    by = ["key", *_MEMBER]
    shoppers = shown.group_by(by).agg(shoppers=pl.col(WHO).n_unique().cast(pl.UInt32))
    known = table.join(shoppers.filter(pl.col("shoppers") >= context.options.least_shoppers), on=by)
    return known.with_columns(scope=pl.lit(scope.value)).select(_EMPTY.columns)


QUERY_MEMORY = TableMaker("query_memory", (LIST_PARTIAL,), query_memory)
