"""Crowds: accounts directed to promote or bury products. Each acts like a shopper; their number shows them.

Three tests look for them, each over all sources of a log (a source is a shopper, or a session of an unknown shopper).
They compare products or queries with each other and return the odds that a click on one is a crowd's.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import scipy  # loads each submodule at its first use: a service starts without them
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog, Floats
from shelfwise.rerank.click_models.models import fold, slot_examination


def bans(tail: Floats) -> Floats:
    """The evidence in a probability of the upper tail; see `shelfwise.rerank.sessions.bots.Signal`."""
    p = np.clip(tail, 1e-300, np.exp(-1))
    return np.asarray(-np.log10(-np.e * p * np.log(p)))


_ORDINARY = 0.9
"""The share of looks whose products are considered to have an ordinary rate of direct purchases."""
EXPECTED = 0.05
"""The prior of direct purchases: their share of purchases, and their number per source that looks at a product."""
_MIN_RATE = 0.01
"""The lower bound of their number per source."""
_WORTH = 20
"""The weight of the prior, in sources."""


def ordinary_rate(rates: Floats, weights: Floats) -> float:
    """The quantile `_ORDINARY` of rates (n,) by weight, smoothed by one with the rate `EXPECTED`. A few products with
    high rates do not raise it."""
    rates, weights = np.append(rates, EXPECTED), np.append(weights, _WORTH)
    order = np.argsort(rates, kind="stable")
    reached = np.cumsum(weights[order])
    return max(float(rates[order][np.searchsorted(reached, _ORDINARY * reached[-1])]), _MIN_RATE)


_COMPARED = 30
"""The number of sources with several items below which a log shows no crowd."""
_EVIDENCE = 0.0
"""The evidence, in bans and corrected for the number of comparisons, from which choices for a query show a crowd. The
most suspicious pairs of honest demo stores are 2 to 3 bans below."""
_UNLIKE = 1.0
"""The evidence, in bans, from which sources that click for only one query choose differently from the others."""
_ATTRACTIVE = 0.2
"""The approximate share of examined products that shoppers click."""
_TEMPER = 0.5
"""The weight of a click, as the clicks of an answer depend on each other."""
_HEARD = 10
"""The sources of a product that count in full; those of a product shown to more count together as this many."""
_SCRAMBLE = 2_654_435_761
"""Puts numbers into a pseudo-random order (Knuth 1998, The Art of Computer Programming 3, section 6.4)."""
_ALIKE = 3.0
"""The shape of the negative binomial distribution of the sources that click much around a product."""


def lone_clickers(clicked: pl.DataFrame, least: float) -> pl.DataFrame:
    """The sources of crowds that click only one product: source, odds (bans above 0). `clicked` has a row for each
    source and product_id.

    An honest source, too, can click only one product. The accounts of slow fraud differ from shoppers in their number:
    their product has far more such sources than is expected from those that also click other products. The evidence is
    at least `least` bans.
    """
    pairs = clicked.select("source", item="product_id")
    return _members(pairs, _lone_counts(pairs).filter(pl.col("evidence") >= least))


def lone_askers(shown: pl.DataFrame) -> pl.DataFrame:
    """The sources of crowds that click for only one query, and choose differently from the others: source, odds (bans
    above 0). `shown` has a row for each product of an answer: source, query, product_id, clicked.

    To bury a product, an account clicks several of the others. An advertisement can also bring many shoppers to one
    query, but they choose as other shoppers do. So a crowd needs evidence that it chooses differently: a likelihood
    ratio test of homogeneity over the query's products (Wilks 1938, The large-sample distribution of the likelihood
    ratio for testing composite hypotheses). A large number of sources alone is no evidence.
    """
    pairs = shown.filter("clicked", pl.col("query") != "").select("source", item="query").unique()
    counts = _lone_counts(pairs).filter(pl.col("odds") > 0)
    here = shown.rename({"query": "item"}).join(counts.select("item"), on="item")
    crowd = _members(pairs, counts).select("source", "item", _crowd=pl.lit(True))
    looks = here.join(crowd, on=["source", "item"], how="left").with_columns(pl.col("_crowd").fill_null(False))
    by = ["item", "product_id"]
    cells = looks.group_by(*by, "_crowd").agg(clicks=pl.col("clicked").sum(), looks=pl.len())
    both = cells.filter("_crowd").join(cells.filter(~pl.col("_crowd")), on=by).sort(by)
    # Twice the log likelihood ratio of two click rates against a common one.
    columns = ("clicks", "looks", "clicks_right", "looks_right")
    clicks, seen, others, seen_by_others = (both[name].to_numpy().astype(float) for name in columns)
    apart = _likelihood(clicks, seen) + _likelihood(others, seen_by_others)
    ratio = 2 * (apart - _likelihood(clicks + others, seen + seen_by_others))
    ratios = both.with_columns(_ratio=pl.Series(ratio, dtype=pl.Float64)).group_by("item")
    sums = ratios.agg(pl.col("_ratio").sum(), _chosen=(pl.col("clicks") + pl.col("clicks_right") > 0).sum())
    tail = scipy.stats.chi2.sf(_TEMPER * sums["_ratio"].to_numpy(), np.maximum(sums["_chosen"].to_numpy(), 1))
    judged = counts.join(sums.select("item", _unlike=pl.Series(bans(tail), dtype=pl.Float64)), on="item")
    unlike = pl.col("_unlike")
    return _members(pairs, judged.filter((unlike >= _UNLIKE) & (pl.col("evidence") + unlike >= _EVIDENCE)))


def _lone_counts(pairs: pl.DataFrame) -> pl.DataFrame:
    """Evidence, in bans, that an item has more sources with no other item than its other sources predict, and the odds
    that these are a crowd: item, evidence, odds.

    `pairs` has a row for each source and item. The expectation is `ordinary_rate`, at least `EXPECTED`, for each of the
    other sources; the evidence is corrected for the number of items (Bonferroni). All sources of a crowd are fraud
    except the expected number. A log with few sources that have several items shows no crowd, for lack of comparison.
    """
    items = _alone_counts(pairs)
    if pairs.filter(pl.len().over("source") > 1)["source"].n_unique() < _COMPARED:
        return pl.DataFrame(schema={"item": pl.String, "evidence": pl.Float64, "odds": pl.Float64})
    count, others = (items[name].to_numpy().astype(float) for name in ("_alone", "_others"))
    expected = _rate_alone(items) * (others + 1)
    evidence = bans((expected / (1 + expected)) ** count) - np.log10(max(len(items), 1))
    odds = np.log10(np.maximum(count / expected - 1, 1.0))
    return items.select("item", evidence=pl.Series(evidence), odds=pl.Series(odds)).sort("item")


def _alone_counts(pairs: pl.DataFrame) -> pl.DataFrame:
    """Number of sources that have no other item, and of those that have, by item: item, _alone, _others."""
    alone = pairs.with_columns(_alone=pl.len().over("source") == 1)
    return alone.group_by("item").agg(_alone=pl.col("_alone").sum(), _others=(~pl.col("_alone")).sum())


def _rate_alone(items: pl.DataFrame) -> float:
    """The expected number of sources with no other item, for each source with others, as most items have it."""
    count, others = (items[name].to_numpy().astype(float) for name in ("_alone", "_others"))
    return max(ordinary_rate(count / (others + 1), others + 1), EXPECTED)


def _members(pairs: pl.DataFrame, crowds: pl.DataFrame) -> pl.DataFrame:
    """The sources whose only item is one of a crowd: source, item, odds."""
    alone = pairs.filter(pl.len().over("source") == 1)
    return alone.join(crowds.filter(pl.col("odds") > 0), on="item").select("source", "item", "odds")


def _likelihood(clicks: Floats, looks: Floats) -> Floats:
    """The log likelihood of a binomial count at its own rate, without the coefficient."""
    return np.asarray(sum(scipy.special.xlogy(part, part / looks) for part in (clicks, looks - clicks)))


def sure_clicks(shown: pl.DataFrame) -> pl.DataFrame:
    """The sessions that click a product for a query for which it is clicked more often than it is examined:
    session_number, odds (bans). `shown` has a row for each product of an answer: session_number, source, answer, query,
    product_id, position, clicked.

    Shoppers click a product at most as often as they examine its position (Craswell et al. 2008, An experimental
    comparison of click position-bias models). Accounts that are directed to a product click it each time, even if they
    act like shoppers elsewhere. Each source counts once for a query and product. The tail is that of a Poisson count
    whose mean is the sum of examinations, corrected for the number of pairs (Bonferroni), at least `_EVIDENCE` bans. If
    a product has such a pair, all of its pairs with more clicks than examinations have a crowd. Most clicks on these
    pairs are the crowd's, so all are attributed to it.
    """
    answered = shown.filter(pl.col("query") != "")
    if not answered["clicked"].any():
        return pl.DataFrame(schema={"session_number": pl.UInt32, "odds": pl.Float64})
    pair = ["query", "product_id"]
    chances = _examination(answered)
    looks = answered.with_columns(_examined=pl.Series(chances[answered["position"].to_numpy() - 1]))
    looks = looks.group_by(*pair, "source").agg(pl.col("clicked").any(), pl.col("_examined").max())
    pairs = looks.group_by(pair).agg(_clicks=pl.col("clicked").sum(), _examined=pl.col("_examined").sum()).sort(pair)
    clicks, examined = (pairs[name].to_numpy().astype(float) for name in ("_clicks", "_examined"))
    evidence = bans(scipy.stats.poisson.sf(clicks - 1, examined)) - np.log10(len(pairs))
    excess = np.maximum(clicks / examined, 1.0)
    judged = pairs.with_columns(odds=pl.Series(np.log10(excess / _ATTRACTIVE - 1)), _bans=pl.Series(evidence))
    sure = judged.filter((pl.Series(excess) > 1) & (pl.col("_bans").max().over("product_id") >= _EVIDENCE))
    return answered.filter("clicked").join(sure, on=pair).group_by("session_number").agg(pl.col("odds").max())


def passing_clicks(shown: pl.DataFrame) -> pl.DataFrame:
    """The sessions that click much of an answer, but not a product that crowds pass over: session_number, odds (bans
    above 0). `shown` has a row for each product of an answer: session_number, source, answer, query, product_id,
    clicked.

    To bury a product, an account clicks the products around it. Honest shoppers can click much, too; a crowd differs in
    its number: over all queries of the product, it was shown to far more sources that click much than other products
    were. Much is more clicks than 19 of 20 answers with a click have, where each query counts the same. The number of
    sources is modelled as negative binomial, since products differ. All sources that pass such a product over and click
    much in another answer belong to the crowd. For each number of clicks, the crowd has as many answers as exceed the
    expectation from answers with one click, or, if that is more, as the answers of sources with no other query exceed
    the expectation from the other sources. The most suspicious are taken first.
    """
    visit = ["session_number", "answer"]
    answered = shown.filter(pl.col("query") != "").with_columns(_clicks=pl.col("clicked").sum().over(visit))
    answered = answered.filter(pl.col("_clicks") > 0).with_columns(
        _alone=pl.col("query").n_unique().over("source") == 1
    )
    passed = answered.filter(~pl.col("clicked")).join(_click_counts(answered.unique(visit)), on="_clicks")
    rate = _rate_alone(_alone_counts(answered.select("source", item="query").unique()))
    found = [pl.DataFrame(schema={"session_number": pl.UInt32, "odds": pl.Float64})]
    # The most evident product first: around it, others are passed over, too.
    while product := _most_passed(passed):
        here = passed.filter(pl.col("product_id") == product)
        here = here.filter(pl.col("_much").mean().over("query") > 2 * EXPECTED)
        again = pl.col("_much").sum().over("source") > pl.col("_much").cast(pl.UInt32)
        here = here.with_columns(_again=again, _marked=pl.col("_alone") | again)
        counts = here.group_by("_clicks", "_share").agg(
            _seen=pl.len(), _again=pl.col("_again").sum(), _marked=pl.col("_marked").sum()
        )
        ones = counts.filter(pl.col("_clicks") == 1).select(pl.col("_seen") / pl.col("_share")).sum().item()
        usual = ones * pl.col("_share")
        unmarked = pl.col("_seen") - pl.col("_marked")
        excess = pl.max_horizontal(pl.col("_seen") - usual, pl.col("_marked") - rate * unmarked, pl.col("_again"))
        crowd = counts.select("_clicks", "_seen", _excess=excess.round())
        order = (pl.col("session_number").cast(pl.UInt64) * _SCRAMBLE % 2**32).alias("_order")
        members = here.join(crowd, on="_clicks").sort("_again", "_marked", order, descending=True)
        members = members.filter(pl.int_range(pl.len()).over("_clicks") < pl.col("_excess"))
        odds = pl.col("_excess") / (pl.col("_seen") - pl.col("_excess") + 1)
        found.append(members.group_by("session_number").agg(odds=odds.clip(lower_bound=2.0).log10().max()))
        passed = passed.filter(pl.col("product_id") != product).join(members, on="session_number", how="anti")
    return pl.concat(found).group_by("session_number").agg(pl.col("odds").max())


def _most_passed(passed: pl.DataFrame) -> str:
    """The product with the most evidence that a crowd passes over it; empty if there is none. `passed` has a row for
    each time that a product was passed over: source, product_id, and `_much`, whether much was clicked around it."""
    sources = passed.group_by("source", "product_id").agg(pl.col("_much").any())
    products = sources.group_by("product_id").agg(_count=pl.col("_much").sum(), _all=pl.len()).sort("product_id")
    if products.is_empty():
        return ""
    count, everyone = (products[name].to_numpy().astype(float) for name in ("_count", "_all"))
    rate = float(np.average(count / everyone, weights=np.minimum(everyone, _HEARD)))
    tail = scipy.stats.nbinom.sf(count - 1, _ALIKE, _ALIKE / (_ALIKE + max(rate, EXPECTED) * everyone))
    evidence = bans(tail) - np.log10(len(products))
    best = int(np.argmax(evidence))
    return str(products["product_id"][best]) if evidence[best] >= _EVIDENCE else ""


def _click_counts(answers: pl.DataFrame) -> pl.DataFrame:
    """_clicks, _share and _much: for each number of clicks its share of the answers with a click, where each query
    counts the same, and whether at most one answer in twenty has so many or more."""
    weighted = answers.with_columns(_weight=1 / pl.len().over("query"))
    counts = weighted.group_by("_clicks").agg(_share=pl.col("_weight").sum()).sort("_clicks")
    shares = counts.with_columns(pl.col("_share") / pl.col("_share").sum())
    return shares.with_columns(_much=pl.col("_share").cum_sum(reverse=True) <= EXPECTED)


def _examination(answered: pl.DataFrame) -> Floats:
    """(positions,): the examination of each position, not increasing, since little is known of the lowest positions."""
    depth = int(answered["position"].max())  # type: ignore[arg-type]
    numbers = answered.select(pl.struct("query", "product_id").rank("dense"), pl.col("answer").rank("dense"))
    pair, answer = (numbers[name].to_numpy().astype(np.int64) - 1 for name in ("query", "answer"))
    places: NDArray[np.int32] = np.full((int(answer.max()) + 1, depth), NOTHING, np.int32)
    clicks = np.zeros(places.shape, np.bool_)
    column = answered["position"].to_numpy() - 1
    places[answer, column], clicks[answer, column] = pair, answered["clicked"].to_numpy()
    log = ClickLog(places, clicks, int(pair.max()) + 1)
    slots = np.broadcast_to(np.arange(depth), places.shape)
    return np.maximum.accumulate(slot_examination(fold(log, slots, depth))[::-1])[::-1]
