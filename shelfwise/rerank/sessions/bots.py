"""Bots and click fraud: a score for each session, with reasons, from how its behaviour deviates from the log's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import polars as pl
import scipy  # loads each submodule at its first use: a service starts without them
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import Floats, query_texts
from shelfwise.rerank.sessions.crowds import (
    EXPECTED,
    bans,
    lone_askers,
    lone_clickers,
    ordinary_rate,
    passing_clicks,
    sure_clicks,
)

_SHORTEST_MS = 50
"""The shortest dwell that is counted: the resolution of clocks."""
_LOOKS = ("impression", "click", "consultation", "cart")
LAST_POSITION = 50
"""Lower positions than this are counted as this one."""


@dataclass(frozen=True, slots=True, eq=False)
class SessionFeatures:
    """The tables that signals are computed from. A source is a shopper, or a session whose shopper is not known.

    `sessions`: session_number, source, shopper, session, first, events, clicks, purchases, and of log dwells
    the count (dwells), the sum (dwell_sum) and the sum of squares about the session's mean (dwell_ss). A dwell is the
    time from a click to the next act. `shown`: a row for each product of each answer in a session: session_number,
    source, answer, product_id, position (1 to `LAST_POSITION`), clicked (Boolean). `steps`: a row for each two
    successive clicks of one answer: session_number, source, next (whether the second is on the next position).
    `clicked`: source, product_id. `bought`: a row for each purchase:
    session_number, source, product_id; unseen (the source has no impression, click, page view or cart of the product);
    direct (unseen, or the source saw no answer of a search, or looked only at what it bought); promotion (of the
    product, in bans: the evidence that it has more direct purchases than the looks of other shoppers explain).
    """

    sessions: pl.DataFrame
    shown: pl.DataFrame
    steps: pl.DataFrame
    clicked: pl.DataFrame
    bought: pl.DataFrame


def session_features(events: pl.DataFrame) -> SessionFeatures:
    """The features of a table of `CLEAN_SCHEMA`, ordered by session and time."""
    sources = _sources(events)
    kept = events.select("session_number", "time", "kind", "query_id", "product_id", "position")
    # A click opens a product page: its view is not an act of its own, so it must not end a dwell.
    kind, product = (pl.col(name).shift(1).over("session_number") for name in ("kind", "product_id"))
    is_opened = (pl.col("kind") == "consultation") & (kind == "click") & (product == pl.col("product_id"))
    kept = kept.filter(~is_opened.fill_null(value=False))
    kept = kept.with_columns(_next=pl.col("time").shift(-1).over("session_number"))
    kept = kept.join(sources, on="session_number", how="left")
    clicks = kept.filter(pl.col("kind") == "click")
    looks = events.filter(pl.col("kind").is_in(_LOOKS)).join(sources, on="session_number")
    looks = looks.select("source", "product_id", unseen=pl.lit(False)).unique()
    bought = events.filter(pl.col("kind") == "purchase").select("session_number", "product_id")
    bought = bought.join(sources, on="session_number").join(looks, on=["source", "product_id"], how="left")
    # The sources that saw an answer of a search and looked at a product that they did not buy.
    answered = events.filter(pl.col("query_id") != "").join(sources, on="session_number")["source"]
    others = looks.join(bought, on=["source", "product_id"], how="anti")["source"]
    around = answered.filter(answered.is_in(others.unique().implode())).unique()
    direct = pl.col("unseen") | ~pl.col("source").is_in(around.implode())
    bought = bought.with_columns(pl.col("unseen").fill_null(True)).with_columns(direct=direct)
    clicked = clicks.select("source", "product_id").unique()
    promoters = bought.filter("direct")["source"].unique()
    lookers = looks.filter(~pl.col("source").is_in(promoters.implode())).group_by("product_id").agg(lookers=pl.len())
    bought = bought.join(_promotions(bought, lookers), on="product_id", how="left", maintain_order="left")
    sessions = _sessions(events, clicks, bought).join(sources, on="session_number", how="left")
    texts = query_texts(events).with_columns(pl.col("query").str.to_lowercase().str.replace_all(r"\s+", " "))
    shown = _shown(kept, clicks).join(texts, on="query_id", how="left", maintain_order="left")
    shown = shown.with_columns(pl.col("query").fill_null("")).drop("query_id")
    return SessionFeatures(sessions.sort("session_number"), shown, _steps(clicks), clicked, bought)


def _sources(events: pl.DataFrame) -> pl.DataFrame:
    """The source of each session: a number, the same for all sessions of a shopper."""
    named = pl.when(pl.col("shopper") != "").then(pl.col("shopper"))
    shoppers = events.group_by("session_number").agg(_shopper=named.drop_nulls().first())
    owner = pl.coalesce("u" + pl.col("_shopper"), "v" + pl.col("session_number").cast(pl.String))
    return shoppers.select("session_number", source=owner.rank("dense") - 1).with_columns(
        pl.col("source").cast(pl.UInt32)
    )


def _sessions(events: pl.DataFrame, clicks: pl.DataFrame, bought: pl.DataFrame) -> pl.DataFrame:
    """One row a session. `purchases` counts only products that were looked at, without those that promote a product:
    such purchases cost a bot nothing."""

    def first_filled(column: str) -> pl.Expr:
        return pl.col(column).filter(pl.col(column) != "").first().fill_null("").alias(column)

    whole = events.group_by("session_number").agg(
        first_filled("shopper"),
        first_filled("session"),
        first=pl.col("time").min(),
        events=pl.len(),
        clicks=(pl.col("kind") == "click").sum(),
    )
    is_promoting = pl.col("direct") & (pl.col("promotion") >= _PROMOTED)
    seen = bought.filter(~pl.col("unseen") & ~is_promoting).group_by("session_number").agg(purchases=pl.len())
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
    joined = whole.join(paced, on="session_number", how="left").join(seen, on="session_number", how="left")
    return joined.with_columns(pl.col("purchases", "dwells", "dwell_sum", "dwell_ss").fill_null(0))


def _shown(kept: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    """One row a product of an answer, with its clicks; browsed lists without an id form one answer a session."""
    keys = ["session_number", "query_id", "product_id"]
    shown = kept.filter((pl.col("kind") == "impression") & (pl.col("position") >= 1))
    shown = shown.unique(keys, keep="first", maintain_order=True)
    chosen = clicks.select(keys).unique().with_columns(clicked=pl.lit(True))
    joined = shown.join(chosen, on=keys, how="left")
    answer = pl.struct("session_number", "query_id").rank("dense").alias("answer")
    position = pl.min_horizontal("position", pl.lit(LAST_POSITION, pl.Int32)).alias("position")
    named = ("session_number", "source", answer, "query_id", "product_id", position)
    return joined.select(*named, pl.col("clicked").fill_null(False))


def _steps(clicks: pl.DataFrame) -> pl.DataFrame:
    same = (pl.col("session_number") == pl.col("session_number").shift(1)) & (
        pl.col("query_id") == pl.col("query_id").shift(1)
    )
    step = pl.col("position") - pl.col("position").shift(1)
    stepped = clicks.select("session_number", "source", _same=same, _step=step).filter(
        pl.col("_same") & (pl.col("_step") != 0)
    )
    return stepped.select("session_number", "source", next=pl.col("_step") == 1)


_TO_DEVIATION = 1.4826
"""Converts a median absolute deviation to the standard deviation of a normal distribution."""
_VOICE = 10
"""The number of a source's clicks that count in full; those of a source with more count together as this many."""
_WORTH = 20
"""The weight of the priors below, in sources."""
_PACE, _PACE_BETWEEN, _PACE_WITHIN = float(np.log(20_000)), 0.7, 1.0
_RATE, _PURCHASES, _NEXT = 0.1, 0.03, 0.3


@dataclass(frozen=True, slots=True, eq=False)
class BotBaseline:
    """The behaviour of ordinary shoppers in a log: robust estimates, smoothed towards priors.

    `pace`, `pace_between` and `pace_within`: the mean log dwell (ms), its deviation between sources and within a
    session. `rates` (LAST_POSITION + 1,): click-through rate by position; entry 0 is not used. `spread`: variation of
    click rates between sources, as the inverse shape of a negative binomial distribution. `next_share`: share of steps
    between clicks that go to the next position. `purchases`: purchases per click.
    """

    pace: float
    pace_between: float
    pace_within: float
    rates: Floats
    spread: float
    next_share: float
    purchases: float


def fit_baseline(acts: SessionFeatures, suspects: pl.Series) -> BotBaseline:
    """The baseline of all sessions except the suspects (session numbers)."""
    sessions = acts.sessions.filter(~pl.col("session_number").is_in(suspects.implode()))
    voices = sessions.group_by("source").agg(_weight=pl.col("clicks").sum())
    voices = voices.select("source", weight=_VOICE / pl.max_horizontal("_weight", pl.lit(_VOICE)))
    weighted = sessions.join(voices, on="source")
    shown, steps = (
        part.join(weighted.select("session_number", "weight"), on="session_number") for part in (acts.shown, acts.steps)
    )
    rates = _rates(shown)
    pace, between, within = _pace(sessions)
    weight, bought = weighted["weight"].to_numpy(), weighted["purchases"].to_numpy()
    return BotBaseline(
        pace=pace,
        pace_between=between,
        pace_within=within,
        rates=rates,
        spread=_spread(shown, rates),
        next_share=_share(float((steps["next"] * steps["weight"]).sum()), float(steps["weight"].sum()), _NEXT),
        purchases=_share(float(weight @ bought), float(weight @ weighted["clicks"].to_numpy()), _PURCHASES),
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
    # Bots are fast, so only the slower half gives the deviation.
    seen = (_TO_DEVIATION * float(np.median(means[means >= middle] - middle))) ** 2
    between = max(seen - within**2 * float(np.mean(1 / counts)), 0.1)
    count = len(sums)
    return _share(middle * count, count, _PACE), _share(between * count, count, _PACE_BETWEEN**2) ** 0.5, within


def _within(paced: pl.DataFrame) -> float:
    """The deviation of log dwells within the median session. The median is corrected for being below the mean, by the
    ratio of the chi-squared distribution's median to its mean (Wilson & Hilferty 1931)."""
    several = paced.filter(pl.col("dwells") >= 3)
    if several.is_empty():
        return _PACE_WITHIN
    degrees = several["dwells"].to_numpy() - 1
    middle = (1 - 2 / (9 * degrees)) ** 3
    variance = float(np.median(several["dwell_ss"].to_numpy() / degrees / middle))
    return float(np.sqrt(max(_share(variance * len(several), len(several), _PACE_WITHIN**2), 0.01)))


def _rates(shown: pl.DataFrame) -> Floats:
    position, weight = shown["position"].to_numpy(), shown["weight"].to_numpy()
    counts = np.bincount(position, weight, LAST_POSITION + 1)
    clicks = np.bincount(position, weight * shown["clicked"].to_numpy(), LAST_POSITION + 1)
    overall = _share(float(clicks.sum()), float(counts.sum()), _RATE)
    return np.asarray((clicks + _WORTH * overall) / (counts + _WORTH))


def _spread(shown: pl.DataFrame, rates: Floats) -> float:
    """`BotBaseline.spread`, by the method of moments (Cameron & Trivedi 2013, Regression Analysis of Count Data)."""
    expected = shown.select("session_number", "clicked", "weight", _rate=pl.Series(rates[shown["position"].to_numpy()]))
    by_session = expected.group_by("session_number").agg(pl.col("clicked", "_rate").sum(), pl.col("weight").first())
    mean, seen, weight = (by_session[name].to_numpy().astype(float) for name in ("_rate", "clicked", "weight"))
    extra = float(weight @ ((seen - mean) ** 2 - mean)) + _WORTH * 0.5
    return float(np.clip(extra / (float(weight @ mean**2) + _WORTH), 0.1, 4.0))


_COPIED = 0.7
"""The probability that a copying account clicks a shown product that the copied account clicked."""
_FEWEST = 3
"""A source with fewer clicked products is not compared."""
_MAX_BUSY = 20_000
"""The number of sources that are compared with each other: those with the most clicks."""
_ROWS = 500


def coordinated_accounts(units: pl.DataFrame, acts: SessionFeatures) -> Floats:
    """Evidence in bans (n,) that each source of `units` and the most similar other source copy each other.

    The evidence is a likelihood ratio over the products that the one source clicked and the other was shown: the
    other's clicks as a copy against the products' click rates. The lesser of both directions counts, so that a source
    that clicks everything is similar to none. It is corrected for the number of comparisons (Bonferroni).
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


def _matrices(acts: SessionFeatures) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array, pl.Series]:
    """Sources by products: which were clicked (1), and the log ratio of clicking, or not, what was shown."""
    pairs = acts.shown.group_by("source", "product_id").agg(pl.col("clicked").any())
    shares = pairs.group_by("product_id").agg(_share=(pl.col("clicked").sum() + 0.5) / (pl.len() + 1))
    shares = shares.with_row_index("_product")
    busy = pairs.group_by("source").agg(_clicked=pl.col("clicked").sum()).filter(pl.col("_clicked") >= _FEWEST)
    busy = (
        busy.sort("_clicked", "source", descending=[True, False]).head(_MAX_BUSY).sort("source").with_row_index("_row")
    )
    cells = pairs.join(busy, on="source").join(shares, on="product_id")
    share, chosen = cells["_share"].to_numpy(), cells["clicked"].to_numpy()
    ratio = np.where(chosen, np.log10(_COPIED / share), np.log10((1 - _COPIED) / (1 - share)))
    at = (cells["_row"].to_numpy(), cells["_product"].to_numpy())
    shape = (len(busy), len(shares))
    clicked = scipy.sparse.csr_array((chosen.astype(float), at), shape=shape)
    clicked.eliminate_zeros()
    return clicked, scipy.sparse.csr_array((ratio, at), shape=shape), busy["source"]


_PROMOTED = 2.0
"""A product whose promotion evidence (bans) reaches this is left out of the estimate of ordinary purchases."""


def purchase_signals(unit: str, units: pl.DataFrame, acts: SessionFeatures) -> dict[Signal, Floats]:
    """Evidence in bans (n,) that each of `units` (sessions or sources) buys to promote a product.

    A look before a purchase costs a forger one more event, so purchases of a source that looked only at what it bought
    count as direct, too. `PROMOTED`: a product has more direct purchases than the looks of others explain. `DIRECT`:
    all purchases are direct; worth the inverse share of direct purchases of products that are not promoted.
    """
    ordinary = acts.bought.filter(pl.col("promotion") < _PROMOTED)
    share = _share(float(ordinary["direct"].sum()), float(len(ordinary)), EXPECTED)
    found = acts.bought.group_by(unit).agg(
        _promoted=pl.when("direct").then("promotion").otherwise(0.0).max(), _all=pl.col("direct").all()
    )
    joined = units.select(unit).join(found, on=unit, how="left", maintain_order="left")
    return {
        Signal.PROMOTED: joined["_promoted"].fill_null(0.0).to_numpy(),
        Signal.DIRECT: -np.log10(share) * joined["_all"].fill_null(False).to_numpy(),
    }


def _promotions(bought: pl.DataFrame, lookers: pl.DataFrame) -> pl.DataFrame:
    """Evidence in bans, by product (product_id, promotion), of more direct purchases than its `lookers` explain, by a
    geometric distribution with the mean `ordinary_rate`."""
    direct = bought.filter("direct").group_by("product_id").agg(_direct=pl.len())
    products = lookers.join(direct, on="product_id", how="full", coalesce=True).fill_null(0)
    looks, count = (products[name].to_numpy().astype(float) for name in ("lookers", "_direct"))
    mean = ordinary_rate(count / (looks + 1), looks + 1) * (looks + 1)
    return products.select("product_id", promotion=pl.Series(bans((mean / (1 + mean)) ** count)))


class Signal(StrEnum):
    """The signals of bots and click fraud, as a report names them.

    Each is a weight of evidence in bans, powers of ten of the odds (Good 1985, Weight of Evidence: A Brief Survey). A
    probability p of the upper tail is worth -log10(-e p ln p), the most that it can be (Sellke, Bayarri & Berger 2001,
    Calibration of p Values for Testing Precise Null Hypotheses); a likelihood ratio is worth its logarithm.
    """

    FAST = "acts sooner after a click than shoppers do"
    EVEN = "clicks at even intervals"
    MUCH = "clicks more of the products shown than shoppers do"
    DEEP = "clicks low positions as often as high ones"
    SWEEP = "clicks one position after the next"
    NEVER_BUYS = "clicks often and does not buy"
    ALIKE = "clicks the same products as another shopper, but others do not"
    PROMOTED = "buys a product that many buy without browsing and few look at"
    DIRECT = "buys without searching or looking at other products"
    CROWD = "clicks only one product, as far more shoppers do than expected"
    BURIERS = "clicks for only one query, as far more shoppers do than expected, and on other products than the rest do"
    SURE = "clicks a product that is clicked for this query more often than shoppers examine its position"
    PASSING = "clicks many products around one product, as far more shoppers do there than around others"


_VARIED = 8
"""Degrees of freedom of the variance of a shopper's dwells."""
_RELIEF = 4.0
"""Evidence against a bot, in bans, of a source with as many purchases per click as the baseline."""
_STEADY = 5.0
"""The number of steps at which a shopper's own share of next positions weighs as much as the baseline's."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums over units (sessions or sources), an array (n,) each; see `SessionFeatures`."""

    clicks: Floats
    purchases: Floats
    dwells: Floats
    dwell_sum: Floats
    dwell_ss: Floats
    dwell_degrees: Floats
    expected: Floats
    """Clicks that the baseline's rates predict."""
    seen: Floats
    """Shown products that were clicked."""
    flat: Floats
    """Log10 of the likelihood ratio of the clicked positions: uniform against the baseline's rates."""
    steps: Floats
    next_steps: Floats


_OF_SESSIONS = ("clicks", "purchases", "dwells", "dwell_sum", "dwell_ss", "dwell_degrees")


def sums_by(unit: str, units: pl.DataFrame, acts: SessionFeatures, baseline: BotBaseline) -> Sums:
    """The sums of each of `units` (a column `unit`: "session" or "source"), in their order."""
    degrees = pl.max_horizontal(pl.col("dwells").cast(pl.Int64) - 1, pl.lit(0))
    sessions = acts.sessions.with_columns(dwell_degrees=degrees).group_by(unit).agg(pl.col(_OF_SESSIONS).sum())
    shown = (
        _priced(acts.shown, baseline)
        .group_by(unit)
        .agg(expected=pl.col("_rate").sum(), seen=pl.col("clicked").sum(), flat=pl.col("_flat").sum())
    )
    steps = acts.steps.group_by(unit).agg(steps=pl.len(), next_steps=pl.col("next").sum())
    joined = units.select(unit)
    for part in (sessions, shown, steps):
        joined = joined.join(part, on=unit, how="left", maintain_order="left")
    filled = joined.fill_null(0)
    return Sums(**{name: filled[name].to_numpy().astype(float) for name in filled.columns if name != unit})


def _priced(shown: pl.DataFrame, baseline: BotBaseline) -> pl.DataFrame:
    priced = shown.with_columns(_rate=pl.Series(baseline.rates[shown["position"].to_numpy()]))
    share = pl.col("_rate") / pl.col("_rate").sum().over("answer")
    flat = (1 / pl.len().over("answer") / share).log10()
    return priced.with_columns(_flat=pl.when("clicked").then(flat).otherwise(0.0))


def signals(sums: Sums, baseline: BotBaseline) -> dict[Signal, Floats]:
    """The signals, in bans (n,), at least 0; only `NEVER_BUYS` is negative for buyers."""
    count, degrees = np.maximum(sums.dwells, 1), np.maximum(sums.dwell_degrees, 1)
    deviation = np.sqrt(baseline.pace_between**2 + baseline.pace_within**2 / count)
    fast = scipy.stats.norm.sf((baseline.pace - sums.dwell_sum / count) / deviation)
    even = scipy.stats.f.cdf(sums.dwell_ss / degrees / baseline.pace_within**2, degrees, _VARIED)
    # More clicks than expected, by a negative binomial distribution.
    shape = 1 / baseline.spread
    much = scipy.stats.nbinom.sf(sums.seen - 1, shape, shape / (shape + np.maximum(sums.expected, 1e-9)))
    share = baseline.next_share
    sweep = scipy.stats.betabinom.sf(sums.next_steps - 1, sums.steps, _STEADY * share, _STEADY * (1 - share))
    # Fewer purchases than expected, by a geometric distribution, less `_RELIEF` for buyers.
    purchases = baseline.purchases * sums.clicks
    never_buys = scipy.stats.nbinom.cdf(sums.purchases, 1, 1 / (1 + purchases))
    relief = _RELIEF * np.minimum(1.0, sums.purchases / np.maximum(purchases, 1e-9))
    return {
        Signal.FAST: np.where(sums.dwells > 0, bans(fast), 0.0),
        Signal.EVEN: np.where(sums.dwell_degrees > 1, bans(even), 0.0),
        Signal.MUCH: np.where(sums.seen > 0, bans(much), 0.0),
        Signal.DEEP: np.maximum(sums.flat, 0),
        Signal.SWEEP: np.where(sums.next_steps > 0, bans(sweep), 0.0),
        Signal.NEVER_BUYS: np.asarray(bans(never_buys) - relief),
    }


TOGETHER = "seen over all sessions of this shopper"
"""The last reason, if the reasons are those of all sessions of the shopper."""

_KINDS: Mapping[str, tuple[Signal, ...]] = {
    "pace": (Signal.FAST, Signal.EVEN),
    "place": (Signal.MUCH, Signal.DEEP, Signal.SWEEP),
    "aim": (Signal.ALIKE, Signal.PROMOTED),
    "end": (Signal.NEVER_BUYS,),
    "sale": (Signal.DIRECT,),
}
_PASSES = 3
_MIN_REASON = 0.5


# The evidence that is needed to call a session a bot's, in bans (powers of ten).

_AGAINST = 5.0
"""The prior odds against a bot. One kind of signal alone cannot overcome them, except for a crowd."""
_CROWD = 10.0
"""The evidence from which shoppers who click only one product are a crowd; all of them are flagged."""
_BOUND = 4.0
"""The most evidence that one kind of signal adds."""
_THRESHOLD = 0.5
"""The score from which a session is flagged as fraud."""


@dataclass(frozen=True, slots=True, eq=False)
class BotEvidence:
    """Evidence for each unit, in bans: the total (n,), and (n,) for each signal."""

    total: Floats
    by_signal: Mapping[Signal, Floats]


def score_sessions(events: pl.DataFrame) -> pl.DataFrame:
    """Scores the sessions of a table of `CLEAN_SCHEMA`, ordered by session and time; session numbers are unique in it.

    Returns one row a session, in order: session_number, shopper, session (both empty if not known), first (time),
    events, clicks (UInt32), score (Float32, 0 to 1), reasons (List[String]: `Signal` texts, strongest first), is_fraud.

    No labelled examples are needed. Of the signals of one kind the strongest counts, up to a bound; the weights of the
    kinds add up to the odds of a bot (Good 1985). A session is scored alone, and together with all other sessions of
    its source. The baseline is fitted to the sessions that are not suspects, three times.
    """
    acts = session_features(events)
    units = acts.sessions.select("source").unique().sort("source")
    # The row of each session's source in `units`.
    source = acts.sessions["source"].to_numpy()
    alike = {Signal.ALIKE: coordinated_accounts(units, acts)}
    passing = passing_clicks(acts.shown)
    others = acts.shown.filter(~pl.col("session_number").is_in(passing["session_number"].implode()))
    crowds = {
        Signal.CROWD: _odds("source", units, lone_clickers(acts.clicked, _CROWD)),
        Signal.BURIERS: _odds("source", units, lone_askers(others)),
    }
    sold, sold_in_session = (
        purchase_signals(*unit, acts) for unit in (("source", units), ("session_number", acts.sessions))
    )
    suspects = pl.Series("session_number", [], dtype=pl.UInt32)
    for _ in range(_PASSES):
        baseline = fit_baseline(acts, suspects)
        by_source = signals(sums_by("source", units, acts, baseline), baseline) | sold | crowds | alike
        by_session = signals(sums_by("session_number", acts.sessions, acts, baseline), baseline) | sold_in_session
        # Purchases in other sessions of the source count for this session.
        bought = by_source[Signal.NEVER_BUYS][source]
        by_session[Signal.NEVER_BUYS] = np.minimum(by_session[Signal.NEVER_BUYS], bought)
        whole, own = _combine(by_source), _combine(by_session)
        whole = _with_crowd(whole, np.maximum(*crowds.values()))
        score = 1 / (1 + 10 ** (_AGAINST - np.maximum(own.total, whole.total[source])))
        flagged = score >= _THRESHOLD
        suspects = acts.sessions["session_number"].filter(pl.Series(flagged))
    # Bots that other signals found are left out: with their clicks, those of shoppers would look like a crowd's.
    left = others.filter(~pl.col("session_number").is_in(suspects.implode()))
    sent = {
        signal: _odds("session_number", acts.sessions, found)
        for signal, found in ((Signal.PASSING, passing), (Signal.SURE, sure_clicks(left)))
    }
    most = np.maximum(*sent.values())
    own = _with_crowd(BotEvidence(own.total, {**by_session, **sent}), most)
    score = np.where(most > 0, 1 / (1 + 10 ** (_AGAINST - own.total)), score)
    flagged = score >= _THRESHOLD
    named = ("session_number", "shopper", "session", "first", pl.col("events", "clicks").cast(pl.UInt32))
    return acts.sessions.select(named).with_columns(
        score=pl.Series(score, dtype=pl.Float32),
        reasons=pl.Series(_reasons(own, whole, source, flagged), dtype=pl.List(pl.String)),
        is_fraud=pl.Series(flagged),
    )


def _odds(unit: str, units: pl.DataFrame, found: pl.DataFrame) -> Floats:
    """The odds (n,) of `units`, from a table of some of them; 0 for the others."""
    joined = units.select(unit).join(found, on=unit, how="left", maintain_order="left")
    return joined["odds"].fill_null(0.0).to_numpy()


def _with_crowd(evidence: BotEvidence, odds: Floats) -> BotEvidence:
    """Adds the odds of a crowd, which need no further evidence."""
    return replace(evidence, total=np.where(odds > 0, np.maximum(evidence.total, _AGAINST + odds), evidence.total))


def _combine(by_signal: Mapping[Signal, Floats]) -> BotEvidence:
    total = np.zeros(1)
    for kind in _KINDS.values():
        weights = [by_signal[signal] for signal in kind if signal in by_signal]
        if weights:
            total = total + np.minimum(np.max(weights, axis=0), _BOUND)
    return BotEvidence(total, by_signal)


def _reasons(
    own: BotEvidence, whole: BotEvidence, at: NDArray[np.uint32], flagged: NDArray[np.bool_]
) -> list[list[str]]:
    """The signals of the stronger evidence, of the session or its source; empty for sessions that are not flagged."""
    found: list[list[str]] = []
    for session_number, (source, is_flagged) in enumerate(zip(at.tolist(), flagged.tolist(), strict=True)):
        if not is_flagged:
            found.append([])
        elif own.total[session_number] >= whole.total[source]:
            found.append(list(_strongest(own, session_number)))
        else:
            found.append([*_strongest(whole, source), TOGETHER])
    return found


def _strongest(judged: BotEvidence, unit: int) -> Iterable[str]:
    weights = {signal: float(values[unit]) for signal, values in judged.by_signal.items()}
    ordered = sorted(weights, key=lambda signal: -weights[signal])
    return [signal.value for signal in ordered if weights[signal] >= _MIN_REASON]
