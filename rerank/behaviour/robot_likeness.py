"""Sources that act alike: accounts of one hand click the same products where others, shown the same, do not.

What is shared between sources this way is evidence of one kind only, so it accuses nobody alone.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from rerank.behaviour.robot_acts import Acts
from rerank.behaviour.robot_usual import Usual

Array = NDArray[np.float64]

_COPIED = 0.7
"""How likely a copy clicks what its model clicked, when it is shown."""
_FEWEST = 3
"""Products that a source must have clicked to be compared."""
_MOST = 20_000
"""How many sources are compared with each other: those that clicked most."""
_ROWS = 500
_PRIOR = 10.0
"""Suspects that what the others click weighs, beside what the suspects do."""

_TEMPER = 0.5
"""What a click counts beside others of the same unit: one answer's clicks come together (Hand & Yu 2001, Idiot's
Bayes: Not So Stupid After All?)."""


def likeness(units: pl.DataFrame, acts: Acts) -> Array:
    """For each source of `units`, in bans (n,): the evidence that it and the most alike other one copy each other.

    For what the one clicked and the other was shown: the likelihood of the other's clicks, were it a copy, to that of
    how often sources click the product. It is taken both ways, and the lesser counts, so that nobody is like one that
    clicks everything. The number of comparisons is allowed for (Bonferroni).
    """
    clicked, weights, sources = _matrices(acts)
    best = np.zeros(len(sources))
    compared = np.log10(max(len(sources), 1))
    for start in range(0, len(sources), _ROWS):
        rows = slice(start, start + _ROWS)
        ratio = (clicked[rows] @ weights.T).minimum(weights[rows] @ clicked.T).tocoo()
        others = ratio.row + start != ratio.col
        np.maximum.at(best, ratio.row[others] + start, ratio.data[others])
    best -= compared
    found = pl.DataFrame({"source": sources, "_bans": np.maximum(best, 0)})
    joined = units.select("source").join(found, on="source", how="left", maintain_order="left")
    return joined["_bans"].fill_null(0.0).to_numpy()


def company(unit: str, units: pl.DataFrame, acts: Acts, usual: Usual, suspects: pl.Series) -> Array:
    """For each of `units` (visits or sources), in bans (n,): the evidence that it clicks as suspects do.

    A naive Bayes classifier of clicked products, learned from all other sources: each has one vote, shared between its
    products, for the suspects where any of its visits is one (visit numbers). The others' votes are smoothed by half a
    vote a product, shared as what was shown would usually be clicked; the suspects' by the others'.
    """
    picked = acts.shown.filter("clicked").select("visit", "source", "product_id")
    votes = _votes(picked, acts, suspects)
    expected = acts.shown.select("product_id", _rate=pl.Series(usual.rates[acts.shown["position"].to_numpy()]))
    expected = expected.group_by("product_id").agg(_usual=pl.col("_rate").sum())
    expected = expected.with_columns(pl.col("_usual") / pl.col("_usual").sum())
    sums = votes.group_by("product_id").agg(pl.col("_bad", "_good").sum().name.suffix("_all"))
    bad, good = (votes.filter(pl.col(side) > 0)["source"].n_unique() for side in ("_bad", "_good"))
    smooth = 0.5 * len(expected)
    others = (pl.col("_good_all") - pl.col("_good") + smooth * pl.col("_usual")) / (good + smooth)
    theirs = (pl.col("_bad_all") - pl.col("_bad") + _PRIOR * others) / (bad - (pl.col("_bad") > 0) + _PRIOR)
    told = votes.join(sums, on="product_id").join(expected, on="product_id")
    told = told.select("source", "product_id", _ratio=(theirs / others).log10())
    by_unit = picked.unique([unit, "product_id"]).join(told, on=["source", "product_id"])
    found = by_unit.group_by(unit).agg(_bans=_TEMPER * pl.col("_ratio").sum())
    joined = units.select(unit).join(found, on=unit, how="left", maintain_order="left")
    return np.asarray(np.maximum(joined["_bans"].fill_null(0.0).to_numpy(), 0.0))


def _votes(picked: pl.DataFrame, acts: Acts, suspects: pl.Series) -> pl.DataFrame:
    accused = acts.visits.filter(pl.col("visit").is_in(suspects.implode())).select("source").unique()
    votes = picked.select("source", "product_id").unique().with_columns(_vote=1 / pl.len().over("source"))
    votes = votes.join(accused.with_columns(_accused=pl.lit(True)), on="source", how="left")
    is_bad = pl.col("_accused").fill_null(False)
    return votes.with_columns(_bad=pl.col("_vote") * is_bad, _good=pl.col("_vote") * ~is_bad)


def _matrices(acts: Acts) -> tuple[sparse.csr_array, sparse.csr_array, pl.Series]:
    """Sources by products: which were clicked (1), and the log ratio of clicking, or not, what was shown."""
    pairs = acts.shown.group_by("source", "product_id").agg(pl.col("clicked").any())
    shares = pairs.group_by("product_id").agg(_share=(pl.col("clicked").sum() + 0.5) / (pl.len() + 1))
    shares = shares.with_row_index("_product")
    busy = pairs.group_by("source").agg(_clicked=pl.col("clicked").sum()).filter(pl.col("_clicked") >= _FEWEST)
    busy = busy.sort("_clicked", "source", descending=[True, False]).head(_MOST).sort("source").with_row_index("_row")
    cells = pairs.join(busy, on="source").join(shares, on="product_id")
    share, chosen = cells["_share"].to_numpy(), cells["clicked"].to_numpy()
    ratio = np.where(chosen, np.log10(_COPIED / share), np.log10((1 - _COPIED) / (1 - share)))
    at = (cells["_row"].to_numpy(), cells["_product"].to_numpy())
    shape = (len(busy), len(shares))
    clicked = sparse.csr_array((chosen.astype(float), at), shape=shape)
    clicked.eliminate_zeros()
    return clicked, sparse.csr_array((ratio, at), shape=shape), busy["source"]
