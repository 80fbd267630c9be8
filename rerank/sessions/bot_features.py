"""What sessions and sources did, in the sums that bots are told by. A source is a shopper, or a session of nobody
known.

Sums are made for sessions, and added up for sources: the evidence of one session counts for all that its shopper did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

_SHORTEST_MS = 50
"""No dwell counts as less: clocks are not finer than that."""
LAST_POSITION = 50
"""Positions from here on are taken together."""


@dataclass(frozen=True, slots=True, eq=False)
class SessionFeatures:
    """The tables that every signal is made of.

    `sessions`: session, source, shopper, session, first, events, clicks, purchases, answers, and of the time from a
    click to the next act its logarithm's count, sum and sum of squares about the session's mean (dwells, dwell_sum,
    dwell_ss). `shown`: one row for each product of each answer in a session: session, source, answer, product_id,
    position (1 to `LAST_POSITION`), clicked (Boolean). `steps`: one row for each two clicks of one answer, one right
    after the other: session, source, next (whether the second is on the next position). `clicked`: source, product_id,
    times (in how many answers it was clicked).
    """

    sessions: pl.DataFrame
    shown: pl.DataFrame
    steps: pl.DataFrame
    clicked: pl.DataFrame


def session_features(events: pl.DataFrame) -> SessionFeatures:
    """The acts in a table of `CLEAN_SCHEMA`, ordered by session and time."""
    sources = _sources(events)
    kept = events.select("session_number", "time", "kind", "query_id", "product_id", "position")
    kept = _without_opened_pages(kept).with_columns(_next=pl.col("time").shift(-1).over("session_number"))
    kept = kept.join(sources, on="session_number", how="left")
    clicks = kept.filter(pl.col("kind") == "click")
    sessions = _sessions(events, kept, clicks).join(sources, on="session_number", how="left").sort("session_number")
    clicked = clicks.group_by("source", "product_id").agg(times=pl.struct("session_number", "query_id").n_unique())
    return SessionFeatures(sessions, _shown(kept, clicks), _steps(clicks), clicked)


def _without_opened_pages(kept: pl.DataFrame) -> pl.DataFrame:
    """Without the product's page that a click itself has opened: no act of its own, so it ends no dwell."""
    before = [pl.col(name).shift(1).over("session_number") for name in ("kind", "product_id")]
    is_opened = (pl.col("kind") == "consultation") & (before[0] == "click") & (before[1] == pl.col("product_id"))
    return kept.filter(~is_opened.fill_null(value=False))


def _sources(events: pl.DataFrame) -> pl.DataFrame:
    """For each session its source: a number, the same for all sessions of a shopper."""
    named = pl.when(pl.col("shopper") != "").then(pl.col("shopper"))
    shoppers = events.group_by("session_number").agg(_shopper=named.drop_nulls().first())
    owner = pl.coalesce("u" + pl.col("_shopper"), "v" + pl.col("session_number").cast(pl.String))
    return shoppers.select("session_number", source=owner.rank("dense") - 1).with_columns(
        pl.col("source").cast(pl.UInt32)
    )


def _sessions(events: pl.DataFrame, kept: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    def first_filled(column: str) -> pl.Expr:
        return pl.col(column).filter(pl.col(column) != "").first().fill_null("").alias(column)

    whole = events.group_by("session_number").agg(
        first_filled("shopper"),
        first_filled("session"),
        first=pl.col("time").min(),
        events=pl.len(),
        clicks=(pl.col("kind") == "click").sum(),
        purchases=(pl.col("kind") == "purchase").sum(),
    )
    asked = kept.filter(pl.col("query_id") != "").group_by("session_number").agg(answers=pl.col("query_id").n_unique())
    spent = (pl.col("_next") - pl.col("time")).dt.total_milliseconds()
    dwell = pl.max_horizontal(spent, pl.lit(_SHORTEST_MS)).log()
    paced = (
        clicks.filter(pl.col("_next").is_not_null())
        .with_columns(_dwell=dwell)
        .group_by("session_number")
        .agg(
            dwells=pl.len(),
            dwell_sum=pl.col("_dwell").sum(),
            dwell_ss=((pl.col("_dwell") - pl.col("_dwell").mean()) ** 2).sum(),
        )
    )
    joined = whole.join(asked, on="session_number", how="left").join(paced, on="session_number", how="left")
    return joined.with_columns(pl.col("answers", "dwells", "dwell_sum", "dwell_ss").fill_null(0))


def _shown(kept: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    """A click counts for the answer that it was made on; browsed lists without an id are told apart by session only."""
    keys = ["session_number", "query_id", "product_id"]
    shown = kept.filter((pl.col("kind") == "impression") & (pl.col("position") >= 1))
    shown = shown.unique(keys, keep="first", maintain_order=True)
    chosen = clicks.select(keys).unique().with_columns(clicked=pl.lit(True))
    joined = shown.join(chosen, on=keys, how="left")
    answer = pl.struct("session_number", "query_id").rank("dense").alias("answer")
    position = pl.min_horizontal("position", pl.lit(LAST_POSITION, pl.Int32)).alias("position")
    return joined.select("session_number", "source", answer, "product_id", position, pl.col("clicked").fill_null(False))


def _steps(clicks: pl.DataFrame) -> pl.DataFrame:
    same = (pl.col("session_number") == pl.col("session_number").shift(1)) & (
        pl.col("query_id") == pl.col("query_id").shift(1)
    )
    step = pl.col("position") - pl.col("position").shift(1)
    stepped = clicks.select("session_number", "source", _same=same, _step=step).filter(
        pl.col("_same") & (pl.col("_step") != 0)
    )
    return stepped.select("session_number", "source", next=pl.col("_step") == 1)


# What is usual: how fast, how much and where the shoppers of this log click, by which the unusual is told.
#
# Each source has one voice, whatever it does: its clicks weigh less the more they are. Medians are used where there are
# some, and everything is drawn to stated values where there is little to go by.

Array = NDArray[np.float64]

_TO_DEVIATION = 1.4826
"""From the median absolute deviation to the standard deviation of normal values."""
_VOICE = 10
"""Clicks that a source may have before each weighs less."""
_WORTH = 20
"""As many sources as the stated values weigh."""
_PACE, _PACE_BETWEEN, _PACE_WITHIN = float(np.log(20_000)), 0.7, 1.0
_RATE, _PURCHASES, _NEXT, _ANSWERS, _REPEATS = 0.1, 0.03, 0.3, 2.0, 0.01


@dataclass(frozen=True, slots=True, eq=False)
class BotBaseline:
    """What shoppers usually do.

    `pace`, `pace_between` and `pace_within`: the natural logarithm of the milliseconds from a click to the next act,
    its deviation between sources and within a session. `rates` (LAST_POSITION + 1,): clicks for each time a product is
    shown there; the place of position 0 is not used. `spread`: how much sources differ in clicking, as the inverse
    shape of a negative binomial distribution. `next_share`: of steps between clicks those to the next position.
    `answers`: a session. `purchases`: for each click. `repeats`: chance that two clicks of a source are on one product.
    """

    pace: float
    pace_between: float
    pace_within: float
    rates: Array
    spread: float
    next_share: float
    answers: float
    purchases: float
    repeats: float


def fit_baseline(acts: SessionFeatures, suspects: pl.Series) -> BotBaseline:
    """What is usual among the sessions that are not suspects (session numbers)."""
    sessions = acts.sessions.filter(~pl.col("session_number").is_in(suspects.implode()))
    voices = sessions.group_by("source").agg(_weight=pl.col("clicks").sum())
    voices = voices.select("source", weight=_VOICE / pl.max_horizontal("_weight", pl.lit(_VOICE)))
    kept = (
        sessions.select("session_number")
        .join(acts.sessions.select("session_number", "source"), on="session_number")
        .join(voices, on="source")
    )
    shown = acts.shown.join(kept.select("session_number", "weight"), on="session_number")
    steps = acts.steps.join(kept.select("session_number", "weight"), on="session_number")
    weighed = sessions.join(voices, on="source")
    rates = _rates(shown)
    pace, between, within = _pace(sessions)
    weight, bought = weighed["weight"].to_numpy(), weighed["purchases"].to_numpy()
    return BotBaseline(
        pace=pace,
        pace_between=between,
        pace_within=within,
        rates=rates,
        spread=_spread(shown, rates),
        next_share=_share(float((steps["next"] * steps["weight"]).sum()), float(steps["weight"].sum()), _NEXT),
        answers=max(1.0, _share(float(sessions["answers"].sum()), len(sessions), _ANSWERS)),
        purchases=_share(float(weight @ bought), float(weight @ weighed["clicks"].to_numpy()), _PURCHASES),
        repeats=_repeats(acts.clicked.join(voices, on="source")),
    )


def _share(count: float, of: float, stated: float) -> float:
    return (count + _WORTH * stated) / (of + _WORTH)


def _pace(sessions: pl.DataFrame) -> tuple[float, float, float]:
    paced = sessions.filter(pl.col("dwells") > 0)
    sums = paced.group_by("source").agg(pl.col("dwells", "dwell_sum").sum())
    within = _within(paced)
    if sums.is_empty():
        return _PACE, _PACE_BETWEEN, within
    counts = sums["dwells"].to_numpy()
    means = sums["dwell_sum"].to_numpy() / counts
    middle = float(np.median(means))
    # Bots are among the fast, so the slower half tells how shoppers differ.
    seen = (_TO_DEVIATION * float(np.median(means[means >= middle] - middle))) ** 2
    between = max(seen - within**2 * float(np.mean(1 / counts)), 0.1)
    return _drawn(middle, len(sums), _PACE), _drawn(between, len(sums), _PACE_BETWEEN**2) ** 0.5, within


def _within(paced: pl.DataFrame) -> float:
    """Of the median session, whose variance is a little less than the true one: as much as the chi-squared
    distribution's median is below its mean (Wilson & Hilferty 1931)."""
    several = paced.filter(pl.col("dwells") >= 3)
    if several.is_empty():
        return _PACE_WITHIN
    degrees = several["dwells"].to_numpy() - 1
    middle = (1 - 2 / (9 * degrees)) ** 3
    variance = float(np.median(several["dwell_ss"].to_numpy() / degrees / middle))
    return float(np.sqrt(max(_drawn(variance, len(several), _PACE_WITHIN**2), 0.01)))


def _drawn(value: float, count: int, stated: float) -> float:
    return (value * count + stated * _WORTH) / (count + _WORTH)


def _rates(shown: pl.DataFrame) -> Array:
    position, weight = shown["position"].to_numpy(), shown["weight"].to_numpy()
    counts = np.bincount(position, weight, LAST_POSITION + 1)
    clicks = np.bincount(position, weight * shown["clicked"].to_numpy(), LAST_POSITION + 1)
    overall = _share(float(clicks.sum()), float(counts.sum()), _RATE)
    return np.asarray((clicks + _WORTH * overall) / (counts + _WORTH))


def _spread(shown: pl.DataFrame, rates: Array) -> float:
    """By moments over sessions (Cameron & Trivedi 2013, Regression Analysis of Count Data)."""
    expected = shown.select("session_number", "clicked", "weight", _rate=pl.Series(rates[shown["position"].to_numpy()]))
    by_session = expected.group_by("session_number").agg(pl.col("clicked", "_rate").sum(), pl.col("weight").first())
    mean, seen, weight = (by_session[name].to_numpy().astype(float) for name in ("_rate", "clicked", "weight"))
    extra = float(weight @ ((seen - mean) ** 2 - mean)) + _WORTH * 0.5
    return float(np.clip(extra / (float(weight @ mean**2) + _WORTH), 0.1, 4.0))


def _repeats(clicked: pl.DataFrame) -> float:
    sums = clicked.group_by("source").agg(
        _all=pl.col("times").sum().cast(pl.Float64),
        _same=(pl.col("times") * (pl.col("times") - 1) / 2).sum(),
        weight=pl.col("weight").first() ** 2,
    )
    same = float((sums["_same"] * sums["weight"]).sum())
    return _share(same, float((sums["_all"] * (sums["_all"] - 1) / 2 * sums["weight"]).sum()), _REPEATS)


# Sources that act alike: accounts of one hand click the same products where others, shown the same, do not.
#
# What is shared between sources this way is evidence of one kind only, so it accuses nobody alone.

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


def coordinated_accounts(units: pl.DataFrame, acts: SessionFeatures) -> Array:
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


def suspect_products(
    unit: str, units: pl.DataFrame, acts: SessionFeatures, usual: BotBaseline, suspects: pl.Series
) -> Array:
    """For each of `units` (sessions or sources), in bans (n,): the evidence that it clicks as suspects do.

    A naive Bayes classifier of clicked products, learned from all other sources: each has one vote, shared between its
    products, for the suspects where any of its sessions is one (session numbers). The others' votes are smoothed by
    half a vote a product, shared as what was shown would usually be clicked; the suspects' by the others'.
    """
    picked = acts.shown.filter("clicked").select("session_number", "source", "product_id")
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


def _votes(picked: pl.DataFrame, acts: SessionFeatures, suspects: pl.Series) -> pl.DataFrame:
    accused = acts.sessions.filter(pl.col("session_number").is_in(suspects.implode())).select("source").unique()
    votes = picked.select("source", "product_id").unique().with_columns(_vote=1 / pl.len().over("source"))
    votes = votes.join(accused.with_columns(_accused=pl.lit(True)), on="source", how="left")
    is_bad = pl.col("_accused").fill_null(False)
    return votes.with_columns(_bad=pl.col("_vote") * is_bad, _good=pl.col("_vote") * ~is_bad)


def _matrices(acts: SessionFeatures) -> tuple[sparse.csr_array, sparse.csr_array, pl.Series]:
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
