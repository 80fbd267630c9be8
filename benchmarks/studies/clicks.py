"""Labels from simulated clicks against the grades that the shoppers went by, with position bias and fraud."""

from __future__ import annotations

import gzip
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import polars as pl
from rich.table import Table
from scipy.stats import kendalltau

from benchmarks.tables import plain_table
from rerank.click_models.base import DEFAULTS
from rerank.click_models.click_log import ClickLog, Floats, Ints, held_out
from rerank.click_models.evaluation import compare
from rerank.click_models.priors import rank_prior
from rerank.click_models.registry import BASELINES, MODELS
from rerank.click_models.simulation import (
    USUAL,
    BrowsingShopper,
    Conditions,
    DependentShopper,
    PositionShopper,
    SatisfiedShopper,
    Shopper,
    SimulatedStore,
    falling_examination,
    falling_gamma,
    graded_store,
    simulate,
)
from rerank.sessions.bots import score_visits
from rerank.sessions.cleaning import clean
from retrieval.events.stored import EVENT_SCHEMA
from service.cli.output import out
from service.demo.generator import DemoFiles, write_demo_store
from service.demo.shoppers import Truth

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One strength of bias. Kendall's tau-b with the grades, in the mean over queries and seeds."""

    strength: float
    """Position p is examined with probability 1 / p^strength."""
    debiased: float
    """The attractiveness that `click_labels` gives, from clicks alone."""
    naive: float
    """Clicks by impressions."""
    smoothed: float
    """The same with the prior that the debiased labels have: what the prior alone is worth."""
    ranking: float
    """The order in which the store showed the products."""
    gain: float
    """Debiased less naive."""
    low: float
    """Of the gain's 95% interval, by bootstrap over queries."""
    high: float


@dataclass(frozen=True, slots=True)
class ClickLabelsReport:
    """All strengths, over the same queries."""

    model: str
    queries: int
    sessions: int
    seeds: int
    strengths: tuple[LabelFigures, ...]


def measure_click_labels(
    grades: Mapping[str, Mapping[str, float]],
    sessions: int = 300_000,
    seeds: Sequence[int] = (0, 1, 2),
    model: str = "ubm",
    conditions: Conditions = USUAL,
    done: Callable[[], None] = lambda: None,
) -> ClickLabelsReport:
    """Simulates shoppers from judgments (query to product to grade); `done` is called after each log.

    Every query with two grades or more counts, with all its products that were shown at least once, however seldom.
    """
    told = {query: judged for query, judged in grades.items() if len(set(judged.values())) > 1}
    measured = []
    for strength in STRENGTHS:
        taus = []
        for seed in seeds:
            store, pairs = graded_store(told, seed=seed)
            taus.append(_taus(store, pairs, strength, sessions, model, conditions, seed))
            done()
        # A query counts once, by its mean over the seeds: those are no queries of their own.
        measured.append(_figures(strength, np.nanmean(np.stack(taus), axis=0)))
    return ClickLabelsReport(model, len(told), sessions, len(seeds), tuple(measured))


def _taus(
    store: SimulatedStore,
    pairs: pl.DataFrame,
    strength: float,
    sessions: int,
    model: str,
    conditions: Conditions,
    seed: int,
) -> Floats:
    """(4, queries): debiased, naive, smoothed, ranking."""
    shopper = PositionShopper(falling_examination(strength, conditions.depth))
    log = simulate(store, shopper, sessions, conditions, seed).log
    query = pairs["query"].rle_id().to_numpy().astype(np.int32)
    debiased = _fitted_twice(log, model, query)
    plain = BASELINES["ctr"].fit(log).estimates
    naive = plain.clicks / np.maximum(plain.impressions, 1.0)
    scores = np.stack([debiased, naive, _fitted_twice(log, "ctr", query), -_mean_position(log)])
    return taus_by_query(scores, pairs["grade"].to_numpy(), query, plain.impressions > 0)


def _fitted_twice(log: ClickLog, name: str, query: Ints) -> Floats:
    model = {**MODELS, **BASELINES}[name]
    prior = rank_prior(log, model.fit(log), query)
    return model.fit(log, replace(DEFAULTS, prior=prior)).estimates.attractiveness


def _mean_position(log: ClickLog) -> Floats:
    shown = log.shown
    places = np.broadcast_to(np.arange(1.0, log.depth + 1), shown.shape)[shown]
    total = np.bincount(log.pairs[shown], places, log.count)
    return np.asarray(total / np.maximum(np.bincount(log.pairs[shown], minlength=log.count), 1))


def taus_by_query(
    scores: Floats, grades: Floats, query: Ints, seen: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Floats:
    """(kinds, queries): Kendall's tau-b of each row of `scores` (kinds, pairs) with `grades` (pairs,), over what was
    seen; pairs are ordered by query.

    NaN where what was seen has one grade. Scores that are all the same order nothing: 0.
    """
    starts = np.flatnonzero(np.diff(query, prepend=-1, append=query.max() + 1))
    taus = np.full((len(scores), len(starts) - 1), np.nan)
    for number, (begin, end) in enumerate(itertools.pairwise(starts)):
        chosen = np.arange(begin, end)[seen[begin:end]]
        if len(np.unique(grades[chosen])) < 2:
            continue
        for kind, each in enumerate(scores):
            taus[kind, number] = np.nan_to_num(kendalltau(each[chosen], grades[chosen]).statistic)
    return taus


def _figures(strength: float, taus: Floats) -> LabelFigures:
    taus = taus[:, ~np.isnan(taus).any(axis=0)]
    gain = taus[0] - taus[1]
    random = np.random.default_rng(0)
    resampled = [gain[random.integers(0, len(gain), len(gain))].mean() for _ in range(_RESAMPLES)]
    debiased, naive, smoothed, ranking = taus.mean(axis=1).tolist()
    low, high = np.percentile(resampled, (2.5, 97.5)).tolist()
    return LabelFigures(strength, debiased, naive, smoothed, ranking, float(gain.mean()), low, high)


def show_click_labels(report: ClickLabelsReport) -> None:
    """Taus by strength of bias."""
    title = (
        f"Kendall's tau-b with the grades: {report.queries:,} queries, {report.sessions:,} sessions, "
        f"{report.seeds} seeds, labels of {report.model}"
    )
    columns = ["bias", "debiased", "CTR", "CTR with prior", "ranking", "gain on CTR", "from", "to"]
    table = plain_table(columns, title)
    for each in report.strengths:
        taus = (f"{tau:.4f}" for tau in (each.debiased, each.naive, each.smoothed, each.ranking))
        table.add_row(f"{each.strength}", *taus, f"{each.gain:+.4f}", f"{each.low:+.4f}", f"{each.high:+.4f}")
    out.print(table)


# Click models on sessions simulated under each of them: what is recovered of the truth, how fast, and who foretells
# whose clicks best.

DEPTH = 10
PRODUCTS = 15
ENOUGH = 200
"""Impressions from which on a pair's attractiveness is judged."""
SHOPPERS: Mapping[str, Shopper] = {
    "pbm": PositionShopper(falling_examination(1.0, DEPTH)),
    "dcm": DependentShopper(np.linspace(0.8, 0.4, DEPTH)),
    "sdbn": SatisfiedShopper(),
    "ubm": BrowsingShopper(falling_gamma(0.7, DEPTH)),
}
"""By the model that says how they click."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A model's figures on the last fifth of the sessions."""

    model: str
    log_likelihood: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """A model fitted to sessions that were simulated under it."""

    model: str
    seconds: float
    """To fit all sessions."""
    iterations: int
    pairs: int
    """With at least `ENOUGH` impressions."""
    attractiveness_rmse: float
    """Over those."""
    covered: float
    """The share of those whose 95% interval holds the truth."""
    examination_error: float
    """The largest over the positions."""
    held_out: tuple[HeldOut, ...]
    """Every model and baseline, the best first."""


@dataclass(frozen=True, slots=True)
class ClickModelsReport:
    """All models, on logs of the same store."""

    sessions: int
    queries: int
    models: tuple[ModelFigures, ...]


def measure_click_models(
    sessions: int = 1_000_000,
    queries: int = 1_000,
    seed: int = 0,
    models: Sequence[str] = tuple(MODELS),
    done: Callable[[], None] = lambda: None,
) -> ClickModelsReport:
    """Simulates a log under each model and fits it; `done` is called after each.

    A store of `queries` queries of 15 products with grades 0 to 3, which a fair ranker orders anew twice; one session
    in twenty sees a shuffled list.
    """
    random = np.random.default_rng(seed)
    drawn = random.choice(4, (queries, PRODUCTS), p=(0.4, 0.3, 0.2, 0.1))
    grades = {
        f"q{row}": {f"p{column}": float(grade) for column, grade in enumerate(each)} for row, each in enumerate(drawn)
    }
    store, _ = graded_store(grades, seed=seed)
    measured = []
    for name in models:
        measured.append(_measure(name, store, sessions, seed))
        done()
    return ClickModelsReport(sessions, queries, tuple(measured))


def _measure(name: str, store: SimulatedStore, sessions: int, seed: int) -> ModelFigures:
    simulation = simulate(store, SHOPPERS[name], sessions, Conditions(depth=DEPTH), seed)
    counted: list[int] = []
    started = time.perf_counter()
    model = MODELS[name].fit(simulation.log, progress=lambda iteration, _: counted.append(iteration))
    seconds = time.perf_counter() - started
    enough = model.estimates.impressions >= ENOUGH
    truth = store.attractiveness[enough]
    lower, upper = model.estimates.interval()
    table = compare(*held_out(simulation.log))
    return ModelFigures(
        name,
        seconds,
        len(counted),
        int(enough.sum()),
        _root_mean_square(model.estimates.attractiveness[enough] - truth),
        float(np.mean((lower[enough] <= truth) & (truth <= upper[enough]))),
        float(np.abs(model.examination - simulation.examination).max()),
        tuple(HeldOut(*row) for row in table.select("model", "log_likelihood", "perplexity").rows()),
    )


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def show_click_models(report: ClickModelsReport) -> None:
    """What each model recovers, then each log's held-out figures, the best first."""
    title = f"{report.sessions:,} sessions of {DEPTH} results each, {report.queries:,} queries"
    table = plain_table(
        ["model", "seconds", "iterations", "pairs", "RMSE", "in 95%", "examination"],
        title,
    )
    for each in report.models:
        figures = (f"{each.attractiveness_rmse:.4f}", f"{each.covered:.1%}", f"{each.examination_error:.4f}")
        table.add_row(each.model, f"{each.seconds:.1f}", f"{each.iterations:,}", f"{each.pairs:,}", *figures)
    out.print(table)
    for each in report.models:
        table = plain_table([f"clicks of {each.model}", "log-likelihood", "perplexity"], "")
        for held in each.held_out:
            table.add_row(held.model, f"{held.log_likelihood:.4f}", f"{held.perplexity:.4f}")
        out.print(table)


# Logs in which planted fraud is rarer, more, or better disguised, and in which honest shoppers behave oddly.
#
# Each makes one labelled log of another: the columns of `EVENT_SCHEMA`, and `scheme`, the planted scheme or "honest".
# They change what a detector could lean on: that fraud is fast, that its accounts come again, that few honest shoppers
# hurry or click a lot.

HONEST = "honest"
Mixture = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]

_IS_HONEST = pl.col("scheme") == HONEST
_HURRIED = 0.1
_WHOLESALE = 0.01


def as_planted(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """The log as it is."""
    return log


def none(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """Without the fraud."""
    return log.filter(_IS_HONEST)


def tenth(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in ten of the sessions of fraud, at least one of each scheme."""
    sessions = log.filter(~_IS_HONEST).select("scheme", "session").unique().sort("scheme", "session")
    order = sessions.with_columns(_draw=pl.Series(random.random(len(sessions)))).sort("_draw")
    place = pl.int_range(pl.len()).over("scheme")
    kept = order.filter(place < pl.max_horizontal(pl.len().over("scheme") // 10, pl.lit(1)))
    return log.filter(_IS_HONEST | pl.col("session").is_in(kept["session"].implode()))


def fourfold(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With a quarter of the honest shoppers only, so that fraud weighs four times as much."""
    return log.filter(~_IS_HONEST | pl.col("shopper").is_in(_some(log, "shopper", 0.25, random).implode()))


def slow(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With fraud at shoppers' pace: each pause some fifteen times as long, unevenly."""
    return _paced(log, ~_IS_HONEST, random.lognormal(np.log(15), 0.6, len(log)))


def throwaway(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:  # noqa: ARG001
    """With an account for each session of fraud."""
    return log.with_columns(shopper=pl.when(_IS_HONEST).then("shopper").otherwise("u" + pl.col("session")))


def hurried(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in ten honest shoppers opening results in tabs, a second or two apart."""
    chosen = pl.col("shopper").is_in(_some(log, "shopper", _HURRIED, random).implode())
    return _paced(log, _IS_HONEST & chosen, random.uniform(0.02, 0.06, len(log)))


def wholesale(log: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """With one in a hundred honest sessions going on to open most of what they were shown, and to buy a part of it."""
    chosen = _some(log, "session", _WHOLESALE, random)
    mine = log.filter(pl.col("session").is_in(chosen.implode()))
    shown = mine.filter(pl.col("kind") == "impression").sort("session", "time", "position", "key")
    shown = shown.join(mine.group_by("session").agg(_end=pl.col("time").max()), on="session", maintain_order="left")
    shown = shown.filter(pl.Series(random.random(len(shown)) < 0.7))
    pauses = 10_000 + (1_000 * pl.Series(random.lognormal(np.log(15), 0.7, len(shown)))).cast(pl.Int64)
    clicks = shown.with_columns(_pause=pauses).with_columns(_at=pl.col("_pause").cum_sum().over("session"))
    bought = clicks.filter(pl.Series(random.random(len(clicks)) < 0.3))
    checkout = bought.with_columns(_at=pl.col("_pause").sum().over("session") + 3_600_000 // 4)
    parts = (log, _added(clicks, "click"), _added(checkout, "purchase"))
    return pl.concat([part.select(log.columns) for part in parts])


MIXTURES: Mapping[str, Mixture] = {
    "as planted": as_planted,
    "no fraud": none,
    "a tenth of it": tenth,
    "four times as much": fourfold,
    "at shoppers' pace": slow,
    "an account a session": throwaway,
    "beside hurried shoppers": hurried,
    "beside wholesale buyers": wholesale,
}
"""All of them, by the names that the figures are under."""


def _some(log: pl.DataFrame, column: str, share: float, random: np.random.Generator) -> pl.Series:
    found = log.filter(_IS_HONEST)[column].unique().sort()
    return found.filter(pl.Series(random.random(len(found)) < share))


def _paced(log: pl.DataFrame, whose: pl.Expr, factors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pl.DataFrame:
    """With the pauses of some sessions made longer or shorter by a factor each."""
    ordered = log.sort("session", "time", "key").with_columns(_factor=pl.Series(factors))
    pause = pl.col("time").diff().over("session").dt.total_milliseconds().fill_null(0) * pl.col("_factor")
    since = pl.duration(milliseconds=pause.cum_sum().over("session").cast(pl.Int64), time_unit="ms")
    moved = pl.col("time").first().over("session") + since
    return ordered.with_columns(time=pl.when(whose).then(moved).otherwise("time")).drop("_factor")


def _added(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    key = pl.concat_str(pl.col("key").cast(pl.String), pl.lit(f"+{kind}")).cast(pl.Binary)
    time = pl.col("_end") + pl.duration(milliseconds="_at", time_unit="ms")
    return rows.with_columns(key=key, kind=pl.lit(kind, rows.schema["kind"]), time=time)


# Planted fraud: how much of it is flagged, and how many honest clicks with it, over stores and mixtures.

SEEDS = (1, 2, 3, 4, 5)
"""The stores that figures are reported on. The detector was made on those of seeds 101 to 105."""
SIZES = ((600, 300), (2000, 3000), (2000, 10_000))
"""Products and honest sessions."""
MOST_HONEST = 0.01
"""The share of honest clicks that may be flagged."""


@dataclass(frozen=True, slots=True)
class FraudFigures:
    """One log. `caught`: by scheme the share of its clicks in flagged visits; `plain` the same of the plain rule
    "more than `plain_clicks` clicks a visit", the strictest that flags at most 1% of the honest clicks.
    """

    seed: int
    sessions: int
    mixture: str
    fraud_clicks: int
    honest_clicks: int
    caught: Mapping[str, float]
    caught_in_all: float
    honest_flagged: float
    plain_clicks: int
    plain: Mapping[str, float]
    plain_in_all: float


def measure_fraud(
    seeds: Iterable[int] = SEEDS,
    sizes: Sequence[tuple[int, int]] = SIZES,
    mixtures: Iterable[str] = tuple(MIXTURES),
) -> Iterator[FraudFigures]:
    """Makes a demo store for each seed and size, and scores its log in each mixture (names of `MIXTURES`)."""
    names = tuple(mixtures)
    for products, sessions in sizes:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                log = labelled_log(write_demo_store(folder, seed=seed, products=products, sessions=sessions))
            for name in names:
                mixed = MIXTURES[name](log, np.random.default_rng(seed))
                yield _fraud_figures(seed, sessions, name, _scored(mixed))


def labelled_log(files: DemoFiles) -> pl.DataFrame:
    """The log of a demo store, as one that is imported a day after its end, with the column `scheme`."""
    truth = msgspec.json.decode(files.truth.read_bytes(), type=Truth)
    with gzip.open(files.events) as packed:
        rows = pl.read_ndjson(io.BytesIO(packed.read()))
    time = pl.col("time").str.to_datetime("%+", time_unit="ms", time_zone="UTC")
    rows = rows.with_columns(time=time, key=pl.col("event_id").cast(pl.Binary))
    rows = rows.with_columns(received=pl.col("time").max() + pl.duration(days=1, time_unit="ms"))
    rows = rows.with_columns(pl.lit(None).alias(name) for name in EVENT_SCHEMA if name not in rows.columns)
    planted = [(session, scheme) for scheme, fraud in truth.fraud.items() for session in fraud.sessions]
    schemes = pl.DataFrame(planted, schema={"session": pl.String, "scheme": pl.String}, orient="row")
    table = rows.select(pl.col(name).cast(kind) for name, kind in EVENT_SCHEMA.items())
    return table.join(schemes, on="session", how="left").with_columns(pl.col("scheme").fill_null(HONEST))


def _scored(log: pl.DataFrame) -> pl.DataFrame:
    visits = score_visits(clean(log.drop("scheme"), None).events)
    return visits.join(log.select("session", "scheme").unique(), on="session").filter(pl.col("clicks") > 0)


def _fraud_figures(seed: int, sessions: int, mixture: str, visits: pl.DataFrame) -> FraudFigures:
    honest, fraud = visits.filter(pl.col("scheme") == HONEST), visits.filter(pl.col("scheme") != HONEST)
    most = _plain_rule(honest)
    flagged, plain = pl.col("is_fraud"), pl.col("clicks") > most
    return FraudFigures(
        seed=seed,
        sessions=sessions,
        mixture=mixture,
        fraud_clicks=int(fraud["clicks"].sum()),
        honest_clicks=int(honest["clicks"].sum()),
        caught=_by_scheme(fraud, flagged),
        caught_in_all=_share(fraud, flagged),
        honest_flagged=_share(honest, flagged),
        plain_clicks=most,
        plain=_by_scheme(fraud, plain),
        plain_in_all=_share(fraud, plain),
    )


def _plain_rule(honest: pl.DataFrame) -> int:
    counts = range(int(honest["clicks"].max() or 0) + 1)  # type: ignore[arg-type]
    return next(most for most in counts if _share(honest, pl.col("clicks") > most) <= MOST_HONEST)


def _share(visits: pl.DataFrame, flagged: pl.Expr) -> float:
    """Of the clicks, those in flagged visits; nothing is flagged of nothing."""
    clicks = int(visits["clicks"].sum())
    return int(visits.filter(flagged)["clicks"].sum()) / clicks if clicks else 0.0


def _by_scheme(fraud: pl.DataFrame, flagged: pl.Expr) -> dict[str, float]:
    return {str(scheme): _share(visits, flagged) for (scheme,), visits in sorted(fraud.group_by("scheme"))}


def fraud_tables(measured: Sequence[FraudFigures]) -> Iterator[Table]:
    """For each size the mixtures by what was flagged; over several seeds the mean, and the worst."""
    schemes = sorted({scheme for each in measured for scheme in each.caught})
    columns = ["mixture", *(scheme.rpartition("_")[2] for scheme in schemes), "all", "worst", "honest", "worst", "rule"]
    for sessions in dict.fromkeys(each.sessions for each in measured):
        table = plain_table(columns, f"{sessions:,} sessions: % of clicks in flagged visits, and by the plain rule")
        of_size = [each for each in measured if each.sessions == sessions]
        for mixture in dict.fromkeys(each.mixture for each in of_size):
            table.add_row(mixture, *_cells([each for each in of_size if each.mixture == mixture], schemes))
        yield table


def _cells(group: Sequence[FraudFigures], schemes: Sequence[str]) -> Iterator[str]:
    planted = [each for each in group if each.fraud_clicks]
    for scheme in schemes:
        yield _mean([each.caught[scheme] for each in planted if scheme in each.caught])
    yield _mean([each.caught_in_all for each in planted])
    yield f"{100 * min(each.caught_in_all for each in planted):.1f}" if planted else ""
    yield _mean([each.honest_flagged for each in group])
    yield f"{100 * max(each.honest_flagged for each in group):.2f}"
    yield _mean([each.plain_in_all for each in planted])


def _mean(shares: Sequence[float]) -> str:
    return f"{100 * np.mean(shares):.1f}" if shares else ""
