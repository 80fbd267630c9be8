"""Recommending the next product, ours beside what a store could choose today: the same purchases teach all of them.

Products are ranked over the whole catalog, none are sampled (Krichene & Rendle 2020, On Sampled Metrics for Item
Recommendation). Options are chosen on the part that tunes; the part that judges is seen once, by what was chosen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.studies.baselines import profiles
from benchmarks.studies.purchases import (
    Case,
    Chosen,
    Fit,
    Floats,
    Ints,
    Judge,
    Line,
    Material,
    Part,
    Purchases,
    PurchaseSet,
    Scorer,
    Way,
    best_of,
    divided_by_file,
    hits,
    over_shoppers,
    seen_left_out,
    top_products,
)
from benchmarks.tables import plain_table
from rerank.evaluation.statistics import Difference
from rerank.ranker.features import MOST_ACTS
from rerank.sessions.decay import VIEWS
from rerank.sessions.options import DeriveOptions
from rerank.sessions.partitions import Context
from rerank.sessions.product_tables import neighbours, next_products
from rerank.sessions.tables import Derived
from rerank.user_tower.evaluation import hit_rate, ndcg
from retrieval.errors import InputError, SettingError, TrainingError
from retrieval.events.stored import DAY_MS, milliseconds, moment
from retrieval.progress import Progress
from retrieval.records import PastAct
from service.cli.output import out
from service.engine.engine import SearchEngine
from service.engine.hot_reload import CoViews
from service.engine.models import ServedTower
from service.engine.recommend import FADING, NEWEST, TEXTS_ALONE, Mixture, ShopperVectors, similar_products
from service.engine.snapshot import Snapshot
from service.events.derived_tables import coviews_of

EVERYTHING = "all with a history"
_MOST_TUNING = 1_000
"""Cases that options are chosen on: as many again would cost time and change little."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """What is known of products without purchases."""

    vectors: NDArray[np.float32]
    """(products, dimension): the unit vectors of their texts."""
    categories: Ints | None = None
    """(products,) by number, -1 where there is none; None where no product has one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way reached in one slice; intervals of 95%, by bootstrap over shoppers."""

    hit_rate: Difference
    """HR@10; `queries` counts shoppers."""
    ndcg: Difference
    """NDCG@10."""
    from_last: Difference | None
    """The last way's NDCG@10 less this one's, paired by shopper; None for the last one itself."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some cases, or some of what they were to find."""

    cases: int
    shoppers: int
    figures: Mapping[str, Figures]
    """By way."""


@dataclass(frozen=True, slots=True)
class WayTold:
    """How a way came about."""

    options: str
    """What was chosen on the part that tunes."""
    seconds: float
    """For choosing, learning and scoring."""
    ours: bool


@dataclass(frozen=True, slots=True)
class RecommendReport:
    """All ways on the same cases."""

    products: int
    purchases: int
    """That were learned from."""
    shoppers: int
    divided: str
    hide_seen: bool
    """Whether what a shopper had bought was left out, as an answer and as a candidate."""
    ways: Mapping[str, WayTold]
    left_out: Mapping[str, str]
    """Ways that could not be trained, and why."""
    slices: Mapping[str, Slice]


def measure_recommending(
    bought: PurchaseSet, catalog: Catalog, ways: Sequence[Way], *, hide_seen: bool, seed: int, progress: Progress
) -> RecommendReport:
    """Each way chosen on one part and judged on the other; one that cannot be trained on so little is left out, with
    its reason. Raises InputError where either part has no case, TrainingError where no way is left."""
    tuning, judging = (_of_interest(part, hide_seen) for part in (bought.tuning, bought.judging))
    best: dict[str, Ints] = {}
    told: dict[str, WayTold] = {}
    left_out: dict[str, str] = {}
    learned = _material(judging, catalog, hide_seen, seed)
    for way in ways:
        progress.begin(way.name, None, "")
        started = time.perf_counter()
        try:
            chosen = way.choose(_material(tuning, catalog, hide_seen, seed), _judge(tuning, catalog, hide_seen))
            scorer = chosen.fit(learned)
        except TrainingError as error:
            left_out[way.name] = str(error)
            progress.end(f"left out: {error}")
            continue
        best[way.name] = top_products(scorer, judging.cases, learned.counts, hide_seen=hide_seen)
        told[way.name] = WayTold(chosen.options, time.perf_counter() - started, way.ours)
        progress.end(f"{told[way.name].seconds:.0f} s {chosen.options}")
    if not best:
        raise TrainingError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    slices = {name: _slice(judging.cases, targets, best) for name, targets in _slices(judging, learned.counts).items()}
    return RecommendReport(
        learned.products,
        len(learned.purchases.products),
        len(learned.purchases.histories),
        bought.divided,
        hide_seen,
        told,
        left_out,
        {name: each for name, each in slices.items() if each.cases},
    )


def _of_interest(part: Part, hide_seen: bool) -> Part:
    cases = seen_left_out(part.cases) if hide_seen else part.cases
    if not any(len(case.history) for case in cases) or not len(part.training.products):
        raise InputError("nobody who bought something before bought again in a part that is held out: nothing to judge")
    return Part(part.training, cases)


def _material(part: Part, catalog: Catalog, hide_seen: bool, seed: int) -> Material:
    return Material(part.training, catalog.vectors, catalog.categories, hide_seen, seed)


def _judge(part: Part, catalog: Catalog, hide_seen: bool) -> Callable[[Callable[..., NDArray[np.floating]]], float]:
    known = [case for case in part.cases if len(case.history)]
    cases = known[:: -(-len(known) // _MOST_TUNING)]
    counts, targets = part.training.counts(len(catalog.vectors)), [case.targets for case in cases]
    return lambda scorer: float(hits(top_products(scorer, cases, counts, hide_seen=hide_seen), targets)[1].mean())


def _slices(part: Part, counts: Ints) -> dict[str, list[Ints]]:
    """By name, what each case is to find there: nothing where it is none of the slice's."""
    shoppers: dict[str, Callable[[int], bool]] = {
        EVERYTHING: lambda size: size > 0,
        "shoppers with 1 event": lambda size: size == 1,
        "shoppers with 2-5": lambda size: 2 <= size <= 5,
        "shoppers with more": lambda size: size > 5,
        "shoppers without any": lambda size: size == 0,
    }
    products: dict[str, Callable[[Ints], NDArray[np.bool_]]] = {
        "products without events": lambda bought: bought == 0,
        "products with 1-10": lambda bought: (bought > 0) & (bought <= 10),
        "products with more": lambda bought: bought > 10,
    }
    none = np.empty(0, np.int64)
    by_shopper = {
        name: [case.targets if is_in(len(case.history)) else none for case in part.cases]
        for name, is_in in shoppers.items()
    }
    by_product = {
        name: [case.targets[are_in(counts[case.targets])] if len(case.history) else none for case in part.cases]
        for name, are_in in products.items()
    }
    return by_shopper | by_product


def _slice(cases: Sequence[Case], targets: Sequence[Ints], best: Mapping[str, Ints]) -> Slice:
    counted = np.array([len(each) > 0 for each in targets])
    if not counted.any():
        return Slice(0, 0, {})
    shoppers = np.unique([case.shopper for case in cases], return_inverse=True)[1]
    reached = {name: hits(rows, targets) for name, rows in best.items()}
    last = next(reversed(reached))
    figures = {
        name: Figures(
            over_shoppers(hit, shoppers),
            over_shoppers(gain, shoppers),
            None if name == last else over_shoppers(reached[last][1] - gain, shoppers),
        )
        for name, (hit, gain) in reached.items()
    }
    return Slice(int(counted.sum()), len(np.unique(shoppers[counted])), figures)


# How long a shopper's vector takes, and a whole answer, by the tower that serves: with as many acts as it reads.
#
# Histories are drawn from the catalog: what was done does not change how long it takes. One thread asks.

VECTOR, ANSWER = "a shopper's vector", "ten recommendations"
_WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Taken:
    """Milliseconds of one history."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class RecommendSpeed:
    """What of an answer takes how long."""

    products: int
    tower: str
    acts: int
    """Of each history."""
    histories: int
    parts: Mapping[str, Taken]


def measure_recommend_speed(
    engine: SearchEngine, histories: int, seed: int = 1, advance: Callable[[int], None] = lambda _: None
) -> RecommendSpeed:
    """Times the tower that serves. The vector is of what a request brings, the products of its acts looked up; an
    answer begins with it. Raises SettingError where no tower serves."""
    snapshot, served = engine.snapshot, ServedTower(engine.root)
    served.look(snapshot)
    tower = served.of(snapshot)
    if tower is None:
        raise SettingError(f"no shopper tower serves {engine.root}: shelfwise train users --index {engine.root}")
    drawn = _drawn(engine, histories + _WARM_UP, seed)
    now = time.time()
    ways: Mapping[str, Callable[[Sequence[PastAct]], object]] = {
        VECTOR: lambda acts: ShopperVectors(snapshot, tower, acts, now),
        ANSWER: engine.recommend,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for acts in drawn:
        for name, way in ways.items():
            started = time.perf_counter()
            way(acts)
            taken[name].append(1_000 * (time.perf_counter() - started))
        advance(1)
    parts = {name: Taken(*map(float, np.percentile(each[_WARM_UP:], (50, 99)))) for name, each in taken.items()}
    return RecommendSpeed(len(snapshot.products), tower.name, MOST_ACTS, histories, parts)


def _drawn(engine: SearchEngine, count: int, seed: int) -> list[list[PastAct]]:
    products = engine.snapshot.products
    rows = np.random.default_rng(seed).integers(0, len(products), (count, MOST_ACTS)).tolist()
    return [[PastAct(products.id_of(row)) for row in each] for each in rows]


def show_recommend_speed(report: RecommendSpeed) -> None:
    """Milliseconds by part."""
    title = f"{report.tower}, {report.products:,} products; {report.histories:,} histories of {report.acts} acts"
    table = plain_table(["", "p50 ms", "p99 ms"], title)
    for name, each in report.parts.items():
        table.add_row(name, f"{each.p50:.2f}", f"{each.p99:.2f}")
    out.print(table)


# Our ways of foretelling what a shopper buys next, over arrays: as they are served.

TOWER = "shopper-tower"


def our_ways(tower: Fit | None = None, least_shoppers: int = 1) -> list[Way]:
    """Near texts, next products, and the shopper tower, which chooses for itself when to stop, and knows products and
    pairs that so many shoppers chose."""
    return [
        Way("near-texts", best_of({"": near_texts}), ours=True),
        Way(
            "next-products",
            best_of({f"pairs of {least} shoppers": partial(markov, least=least) for least in (1, 2, 5)}),
            ours=True,
        ),
        Way(TOWER, partial(_as_it_comes, tower or partial(shopper_tower, least_shoppers=least_shoppers)), ours=True),
    ]


def _as_it_comes(fit: Fit, _material: Material, _judge: Judge) -> Chosen:
    return Chosen("", fit)


def near_texts(material: Material) -> Scorer:
    """Each product by the one of the last purchases that its text is nearest to, as `service.engine.recommend` does."""

    def scores(cases: Sequence[Case]) -> NDArray[np.float32]:
        found = np.zeros((len(cases), material.products), np.float32)
        for row, case in enumerate(cases):
            newest = list(dict.fromkeys(case.history[::-1].tolist()))[:NEWEST]
            if newest:
                weights = (FADING ** np.arange(len(newest)))[:, None]
                found[row] = (weights * (material.vectors[newest] @ material.vectors.T)).max(axis=0)
        return found

    return scores


def markov(material: Material, least: int) -> Scorer:
    """The table of next products, of pairs that so many shoppers made, added up over the last purchases."""
    from scipy.sparse import csr_matrix

    table = next_products(lambda _part: _acts(material.purchases), _context(material.purchases, least))
    pairs = table.filter(pl.col("kind") == "purchase")
    ends = (pairs[name].cast(pl.Int64).to_numpy() for name in ("product_id", "next_id"))
    after = csr_matrix((pairs["probability"].to_numpy(), tuple(ends)), shape=(material.products, material.products))

    def scores(cases: Sequence[Case]) -> Floats:
        return np.asarray((profiles(cases, material.products, FADING, NEWEST) @ after).toarray())

    return scores


def _acts(purchases: Purchases) -> pl.DataFrame:
    """As `rerank.sessions.decay.ACT_PART` gives them."""
    who = pl.Series(purchases.shoppers).cast(pl.String)
    columns = {
        "who": who,
        "shopper": who,
        "visit": pl.Series(purchases.visits),
        "product_id": pl.Series(purchases.products).cast(pl.String),
        "time": pl.Series(purchases.times).cast(pl.Datetime("ms", "UTC")),
        "day": pl.Series(purchases.times // DAY_MS, dtype=pl.Int32),
    }
    return pl.DataFrame(columns).with_columns(kind=pl.lit("purchase"))


def _context(purchases: Purchases, least: int) -> Context:
    newest = moment(int(purchases.times.max()))
    options = replace(DeriveOptions(until=newest), least_shoppers=least)
    return Context(options.window(newest), options, None)


def shopper_tower(material: Material, least_shoppers: int = 1) -> Scorer:
    """`rerank.shoppers`: a transformer over the last acts, in the space of the products' texts."""
    from rerank.user_tower.histories import Histories
    from rerank.user_tower.training import ShopperTowerOptions, fit

    purchases = material.purchases
    times = [(each / 1000).tolist() for each in purchases.history_times] if purchases.timed else None
    acts = Histories.of([each.tolist() for each in purchases.histories], times=times)
    options = ShopperTowerOptions(hide_seen=material.hide_seen, seed=material.seed, least_shoppers=least_shoppers)
    tower = fit(material.vectors, acts, options, categories=material.categories)

    def scores(cases: Sequence[Case]) -> NDArray[np.float32]:
        when = [(case.times / 1000).tolist() for case in cases] if purchases.timed else None
        now = np.array([case.now / 1000 for case in cases]) if purchases.timed else None
        return np.asarray(tower.scores(Histories.of([case.history.tolist() for case in cases], times=when), now))

    return scores


# The same measure on purchases of real people that are known without times, each purchase taken for a look.

_DAY = moment(DAY_MS)
"""Of all purchases: where times are not known none counts less."""


def split_lines(snapshot: Snapshot, tuning: Sequence[Line], judging: Sequence[Line]) -> tuple[ViewPart, ViewPart]:
    """What tunes, and what judges: of each line the last product of the history, and the next one. Co-views are of what
    came before any line of the file."""
    bought = divided_by_file(tuning, judging, snapshot.products.row_of)
    return _part(snapshot, bought.tuning), _part(snapshot, bought.judging)


def _part(snapshot: Snapshot, part: Part) -> ViewPart:
    id_of = snapshot.products.id_of
    cases = [case for case in part.cases if len(case.history)]
    options = DeriveOptions(until=_DAY)
    acts = _looks(snapshot, part.training)
    table = neighbours(lambda _part: acts, Context(options.window(_DAY), options, None))
    views = Views(
        np.array([case.shopper for case in cases], np.int64),
        tuple(id_of(int(case.history[-1])) for case in cases),
        tuple(id_of(int(case.targets[0])) for case in cases),
    )
    return ViewPart(coviews_of(table), views)


def _looks(snapshot: Snapshot, purchases: Purchases) -> pl.DataFrame:
    """As `rerank.sessions.decay.ACT_PART` gives them, as far as `neighbours` reads that."""
    columns = {
        "who": pl.Series(purchases.shoppers).cast(pl.String),
        "product_id": pl.Series([snapshot.products.id_of(row) for row in purchases.products.tolist()], dtype=pl.String),
    }
    day = milliseconds(_DAY) // DAY_MS
    return pl.DataFrame(columns).with_columns(kind=pl.lit("click"), day=pl.lit(day, dtype=pl.Int32))


# What a shopper looks at after a product, held out by time: found by texts, by co-views, or by both as is served.
#
# Co-views are those of the table `neighbours` as it stood before the first held-out view, so nothing sees the future.
# Other weights of the mixture are tried on the days before those that judge.

Ranker = Callable[[str], Sequence[str]]
"""The ids of the best `DEPTH` products beside one."""
DEPTH = 10
WEIGHTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""That are tried on the part that tunes; 0 is texts alone."""
LONGEST_PAUSE = timedelta(minutes=30)
"""Between two views of one visit."""
TEXTS, COVIEWS, MIXED = "texts", "co-views", "mixed"
ALL_VIEWS, KNOWN = "all views", "after products with co-views"


@dataclass(frozen=True, slots=True)
class Views:
    """Views that were each followed by one of another product."""

    shoppers: Ints
    """(n,): by number."""
    products: tuple[str, ...]
    """(n)."""
    following: tuple[str, ...]
    """(n): what was looked at next."""


@dataclass(frozen=True, slots=True)
class ViewPart:
    """What may be known, and the views after it."""

    coviews: CoViews
    views: Views


@dataclass(frozen=True, slots=True)
class ViewFigures:
    """What one way reached; intervals of 95%, by bootstrap over shoppers."""

    recall: Difference
    """Recall@10; `queries` counts shoppers."""
    ndcg: Difference
    """nDCG@10."""
    mixed_above: Difference | None
    """The mixture's nDCG@10 less this one's, paired by shopper; None for the mixture itself."""


@dataclass(frozen=True, slots=True)
class ViewSlice:
    """Some of the views that judge, by way."""

    views: int
    shoppers: int
    figures: Mapping[str, ViewFigures]


@dataclass(frozen=True, slots=True)
class SimilarReport:
    """All ways on the same views."""

    products: int
    known: int
    """Products with co-views."""
    weight: float
    """That is served, and judged here."""
    tuning_views: int
    tuning: Mapping[float, float]
    """nDCG@10 on the part that tunes, by weight."""
    slices: Mapping[str, ViewSlice]


def split_views(derived: Derived, days: int, is_known: Callable[[str], bool]) -> tuple[ViewPart, ViewPart]:
    """What tunes, and what judges: the last `days` of the acts, and as many before them; raises InputError where
    nobody did anything."""
    acts = derived.acts()
    if acts.is_empty():
        raise InputError("no shopper who is known looked at anything: there is nothing to judge by")
    last: datetime = acts["time"].max()  # type: ignore[assignment]
    ends = [last + timedelta(milliseconds=1) - timedelta(days=days * ago) for ago in (2, 1, 0)]
    tuning, judging = (
        ViewPart(coviews_of(derived.neighbours_before(begin)), next_views(acts, begin, end, is_known))
        for begin, end in pairwise(ends)
    )
    return tuning, judging


def next_views(acts: pl.DataFrame, begin: datetime, end: datetime, is_known: Callable[[str], bool]) -> Views:
    """The views within [begin, end), each with the next other product of the same shopper that follows within
    `LONGEST_PAUSE`; `acts` has shopper, product_id, kind and time. Products that are not known are passed over."""
    known = [name for name in acts["product_id"].unique().to_list() if is_known(name)]
    looked = pl.col("kind").is_in(VIEWS) & pl.col("product_id").is_in(known)
    within = (pl.col("time") >= begin) & (pl.col("time") < end)
    views = acts.filter(looked & within).sort("shopper", "time", "product_id")
    # A click and the look at the page that it leads to are one view.
    runs = views.filter(pl.col("product_id").ne_missing(pl.col("product_id").shift().over("shopper")))
    following = runs.with_columns(
        following=pl.col("product_id").shift(-1).over("shopper"),
        pause=pl.col("time").shift(-1).over("shopper") - pl.col("time"),
    ).filter(pl.col("pause") <= LONGEST_PAUSE)
    shoppers = following["shopper"].rank("dense").cast(pl.Int64).to_numpy()
    return Views(shoppers, tuple(following["product_id"]), tuple(following["following"]))


def measure_similar(snapshot: Snapshot, tuning: ViewPart, judging: ViewPart, weight: float) -> SimilarReport:
    """Texts, co-views and their mixture by `weight` on the views that judge, other weights on those that tune; raises
    InputError where either has no view."""
    for name, part in (("tunes", tuning), ("judges", judging)):
        if not part.views.products:
            raise InputError(f"nobody looked at one product after another in the part that {name}: give more days")
    tried = {each: _mixed(snapshot, Mixture(tuning.coviews, each)) for each in WEIGHTS}
    ways: dict[str, Ranker] = {
        TEXTS: _mixed(snapshot, TEXTS_ALONE),
        COVIEWS: _coviewed(snapshot, judging.coviews),
        MIXED: _mixed(snapshot, Mixture(judging.coviews, weight)),
    }
    ranks = {name: found_ranks(judging.views, way) for name, way in ways.items()}
    has_coviews = np.array([bool(judging.coviews.of(each)) for each in judging.views.products])
    parts = {ALL_VIEWS: np.ones(len(has_coviews), np.bool_), KNOWN: has_coviews}
    return SimilarReport(
        len(snapshot.products),
        int((np.diff(judging.coviews.starts) > 0).sum()),
        weight,
        len(tuning.views.products),
        {each: float(ndcg(found_ranks(tuning.views, way), DEPTH).mean()) for each, way in tried.items()},
        {name: _view_slice(judging.views, chosen, ranks) for name, chosen in parts.items() if chosen.any()},
    )


def found_ranks(views: Views, ranker: Ranker) -> Ints:
    """(n,): where what was looked at next stands beside each product, from 1; `DEPTH` + 1 where it is not found."""
    best = {product: list(ranker(product)) for product in dict.fromkeys(views.products)}
    found = (
        best[product].index(wanted) + 1 if wanted in best[product] else DEPTH + 1
        for product, wanted in zip(views.products, views.following, strict=True)
    )
    return np.fromiter(found, np.int64, len(views.products))


def _mixed(snapshot: Snapshot, mixture: Mixture) -> Ranker:
    def best(product: str) -> list[str]:
        return [hit.product.id for hit in similar_products(snapshot, product, DEPTH, "", mixture=mixture).hits]

    return best


def _coviewed(snapshot: Snapshot, coviews: CoViews) -> Ranker:
    def best(product: str) -> list[str]:
        there = [name for name, _ in coviews.of(product) if snapshot.products.row_of(name) is not None]
        return there[:DEPTH]

    return best


def _view_slice(views: Views, chosen: NDArray[np.bool_], ranks: Mapping[str, Ints]) -> ViewSlice:
    shoppers = views.shoppers[chosen]
    gains = {name: ndcg(found[chosen], DEPTH) for name, found in ranks.items()}
    figures = {
        name: ViewFigures(
            over_shoppers(hit_rate(ranks[name][chosen], DEPTH), shoppers),
            over_shoppers(gain, shoppers),
            None if name == MIXED else over_shoppers(gains[MIXED] - gain, shoppers),
        )
        for name, gain in gains.items()
    }
    return ViewSlice(len(shoppers), len(np.unique(shoppers)), figures)
