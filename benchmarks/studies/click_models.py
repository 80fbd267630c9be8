"""Click models on simulated sessions: recovered parameters and held-out likelihood; off-policy evaluation by them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Self

import numpy as np
import polars as pl
import typer

from benchmarks.studies import run_study
from benchmarks.tables import figure_table
from rerank.click_models.click_log import Floats, Ints, held_out
from rerank.click_models.evaluation import compare
from rerank.click_models.models import MODELS
from rerank.click_models.simulation import (
    BrowsingShopper,
    Conditions,
    DependentShopper,
    PositionShopper,
    SatisfiedShopper,
    SimulatedShopper,
    SimulatedStore,
    falling_examination,
    falling_gamma,
    graded_store,
    simulate,
)
from rerank.evaluation.off_policy import (
    ESTIMATORS,
    IPS,
    LoggedSearches,
    OffPolicyEstimate,
    OutcomeEstimate,
    evaluate_rankings,
    logged_searches,
)
from rerank.evaluation.statistics import Interval, RatioSums, ratio_difference
from retrieval.errors import InputError
from service.cli.options import command
from service.cli.output import TerminalProgress, emit, say, show_table
from service.demo.catalog import Catalog, make_catalog
from service.demo.queries import make_queries
from service.demo.shoppers import Attraction, Shelf, Traffic, examination, stock_shelf, to_events
from service.demo.shoppers import simulate as simulate_shoppers

# Click models on sessions simulated under each of them: how well the truth is recovered, how fast, and which model
# predicts the clicks of which best.

DEPTH = 10
PRODUCTS = 15
_GRADES = (0.4, 0.3, 0.2, 0.1)
ENOUGH = 200
"""The minimum number of impressions for judging a pair's attractiveness."""
SHOPPERS: Mapping[str, SimulatedShopper] = {
    "pbm": PositionShopper(falling_examination(1.0, DEPTH)),
    "dcm": DependentShopper(np.linspace(0.8, 0.4, DEPTH)),
    "sdbn": SatisfiedShopper(),
    "ubm": BrowsingShopper(falling_gamma(0.7, DEPTH)),
}
"""Simulated shoppers by the model that determines their clicks."""


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
    """The time to fit all sessions."""
    iterations: int
    pairs: int
    """The number of pairs with at least `ENOUGH` impressions."""
    attractiveness_rmse: float
    """The RMSE over those pairs."""
    covered: float
    """The share of those pairs whose 95% interval contains the truth."""
    examination_error: float
    """The largest error over the positions."""
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

    The store has `queries` queries of 15 products with grades 0 to 3, which a fair ranker reorders twice; one session
    in twenty sees a shuffled list.
    """
    random = np.random.default_rng(seed)
    drawn = random.choice(4, (queries, PRODUCTS), p=_GRADES).astype(np.int32)
    store, _ = graded_store(_named(drawn), seed=seed)
    measured = []
    for name in models:
        measured.append(_measure(name, store, sessions, seed))
        done()
    return ClickModelsReport(sessions, queries, tuple(measured))


def _named(grades: Ints) -> dict[str, dict[str, float]]:
    """Grades (queries, products) by query and product."""
    return {
        f"q{row:06}": {f"p{column:02}": float(grade) for column, grade in enumerate(each)}
        for row, each in enumerate(grades.tolist())
    }


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
    """Shows each model's recovery of planted parameters, then each log's held-out figures, the best first."""
    title = f"{report.sessions:,} sessions of {DEPTH} results each, {report.queries:,} queries"
    table = figure_table(["model", "seconds", "iterations", "pairs", "RMSE", "in 95%", "examination"], title)
    for each in report.models:
        figures = (f"{each.attractiveness_rmse:.4f}", f"{each.covered:.1%}", f"{each.examination_error:.4f}")
        table.add_row(each.model, f"{each.seconds:.1f}", f"{each.iterations:,}", f"{each.pairs:,}", *figures)
    show_table(table)
    for each in report.models:
        table = figure_table([f"clicks of {each.model}", "log-likelihood", "perplexity"], "")
        for held in each.held_out:
            table.add_row(held.model, f"{held.log_likelihood:.4f}", f"{held.perplexity:.4f}")
        show_table(table)


@command("click_models fit --sessions 100000")
def fit(sessions: Annotated[int, typer.Option(help="Sessions of ten results.", min=1_000)] = 1_000_000) -> None:
    """Fit each click model to sessions simulated under it: time, planted parameters recovered, held-out likelihood."""
    with TerminalProgress() as progress:
        progress.begin("click models", len(SHOPPERS), "logs")
        report = measure_click_models(sessions, done=lambda: progress.advance(1))
        progress.end(f"{sessions:,} sessions each")
    emit(report, show_click_models)


# Off-policy evaluation of rankings whose value the demo store's simulator knows, and of some that run as experiments.

FIRST = 10
PARTS = 5
"""The number of parts of the simulated shoppers, each with a separate log."""
_QUERIES, _SESSIONS, _TRUTH_SESSIONS = 200, 15_000, 200_000
"""The sizes of a store with shoppers of one click model."""
Rankings = Mapping[int, Sequence[int]]
"""Products (positions in the catalog), best first, by query number."""


@dataclass(frozen=True, slots=True, eq=False)
class DemoLog:
    """The searches of the demo store's simulated shoppers."""

    catalog: Catalog
    shelf: Shelf
    traffic: Traffic
    events: pl.DataFrame
    """The columns of `rerank.click_models.click_log.click_log`, and shopper."""

    @classmethod
    def simulated(cls, catalog: Catalog, shelf: Shelf, seed: int, sessions: int) -> Self:
        """Sessions on a shelf, without category pages."""
        traffic = simulate_shoppers(catalog, shelf, seed, sessions)
        rows = [
            (each.kind.value, each.query_id, each.query, each.shopper, each.product_id, each.position, each.time)
            for each in to_events(traffic.actions, catalog)
            if each.query
        ]
        names = ["kind", "query_id", "query", "shopper", "product_id", "position", "time"]
        events = pl.DataFrame(rows, names, orient="row")
        return cls(catalog, shelf, traffic, events.with_columns(pl.col("time").str.to_datetime(time_zone="UTC")))

    def part(self, number: int) -> pl.DataFrame:
        """The events of one part of the shoppers."""
        chosen = [each.id for each in self.traffic.shoppers[number::PARTS]]
        return self.events.filter(pl.col("shopper").is_in(chosen))

    def named(self, rankings: Rankings) -> dict[str, list[str]]:
        """The same by query text and product ids."""
        products = self.catalog.products
        return {
            self.shelf.queries[query].query.text: [products[each].product.id for each in ranked]
            for query, ranked in rankings.items()
        }

    def clicks(self, policies: Sequence[Rankings]) -> list[float]:
        """The expected clicks per search of each policy, over all searches of the log: the truth."""
        requests = self.events.filter(pl.col("kind") == "impression").select("query_id", "query", "shopper").unique()
        texts = {entry.query.text: number for number, entry in enumerate(self.shelf.queries)}
        shoppers = {each.id: each for each in self.traffic.shoppers}
        whose: dict[int, Counter[str]] = defaultdict(Counter)
        for query, shopper in requests.select("query", "shopper").iter_rows():
            whose[texts[query]][shopper] += 1
        attraction = Attraction(self.catalog)

        @cache
        def attracted(query: int, product: int) -> float:
            grade = self.shelf.grades[query][product]
            rates = ((count, attraction.click(shoppers[who], product, grade)) for who, count in whose[query].items())
            return sum(count * rate for count, rate in rates)

        looks = [examination(position) for position in range(1, FIRST + 1)]
        return [
            sum(
                look * attracted(query, each)
                for query in whose
                for look, each in zip(looks, policy[query], strict=False)
            )
            / requests.height
            for policy in policies
        ]


def graded_shelf(catalog: Catalog, seed: int) -> Shelf:
    """The demo store's shelf, including the grades of products that it does not show."""
    shelf = stock_shelf(catalog, make_queries(catalog, seed), seed)
    judged = (entry.judged for entry in shelf.queries)
    grades = (dict(zip(each.positions.tolist(), each.grades.tolist(), strict=True)) for each in judged)
    return replace(shelf, grades=tuple(grades))


def draw_policies(catalog: Catalog, shelf: Shelf, count: int, seed: int) -> list[Rankings]:
    """Rankers that weigh grade, popularity, randomness and the served order by random weights: some much better than
    the served order, some much worse, some similar to it, some very different."""
    random, popularity = np.random.default_rng(seed), np.log([item.line.popularity for item in catalog.products])
    places = [_mean_places(orders) for orders in shelf.answers]
    policies: list[Rankings] = []
    for _ in range(count):
        by_grade, by_popularity = random.normal(0.3, 0.5), random.normal(0.2, 0.3)
        noise, by_place = random.uniform(0.0, 1.0), random.choice([0.0, 0.5, 1.0, 2.0])
        policy = {}
        for number, entry in enumerate(shelf.queries):
            products = entry.judged.positions
            scores = by_grade * entry.judged.grades + by_popularity * popularity[products]
            scores = scores + noise * random.standard_normal(len(products))
            scores += by_place * np.array([places[number].get(each, 0.0) for each in products.tolist()])
            policy[number] = products[np.argsort(-scores, kind="stable")[:FIRST]].tolist()
        policies.append(policy)
    return policies


def _mean_places(orders: Sequence[Sequence[int]]) -> dict[int, float]:
    """Each product's mean place in several orders, from 1 for the first down to 0 for products in none."""
    found: dict[int, float] = defaultdict(float)
    for order in orders:
        for place, product in enumerate(order):
            found[product] += (1.0 - place / len(order)) / len(orders)
    return found


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """One policy by one log."""

    policy: int
    part: int
    truth: float
    """The clicks per search that it gains over the served order."""
    estimate: OffPolicyEstimate

    @property
    def is_covered(self) -> bool:
        return self.estimate.outcomes[0].low <= self.truth <= self.estimate.outcomes[0].high


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """A policy that ran as an A/B test, on shoppers who are not in the log."""

    policy: int
    estimate: OutcomeEstimate
    difference: float
    """Clicks per search on the first positions, treatment minus control."""
    interval: Interval


@dataclass(frozen=True, slots=True)
class OffPolicyReport:
    """Policies by the logs of several parts of the shoppers."""

    searches: int
    """The number of searches of all logs."""
    served: float
    """The expected clicks per search of the served order."""
    results: tuple[PolicyResult, ...]
    experiments: tuple[ExperimentResult, ...]
    shoppers: tuple[ShopperResult, ...]
    """The results on other stores, whose shoppers click by each of the click models."""


def measure_off_policy(
    seed: int, policies: int, sessions: int, experiments: int, done: Callable[[], None] = lambda: None
) -> OffPolicyReport:
    """Simulates the logs, evaluates the policies on each, and runs the first ones that are not refused as A/B tests."""
    catalog = make_catalog(seed, 2_000)
    shelf = graded_shelf(catalog, seed)
    log = DemoLog.simulated(catalog, shelf, seed, PARTS * sessions)
    drawn = draw_policies(catalog, shelf, policies, seed)
    served = _served_clicks(log)
    truths = [value - served for value in log.clicks(drawn)]
    done()
    results: list[PolicyResult] = []
    for part in range(PARTS):
        searches, tables = logged_searches(log.part(part), [log.named(each) for each in drawn])
        found = evaluate_rankings(searches, tables, refuses=False)
        results += [PolicyResult(at, part, truths[at], each) for at, each in enumerate(found)]
        done()
    shown = [each for each in results[:policies] if not each.estimate.refusal][:experiments]
    ran = []
    for each in shown:
        ran.append(_experiment(log, seed, PARTS * sessions, drawn[each.policy], each))
        done()
    others = []
    for name in SHOPPERS:
        others.append(measure_shoppers(name, policies, seed))
        done()
    return OffPolicyReport(_lists(log.events), served, tuple(results), tuple(ran), tuple(others))


def _lists(events: pl.DataFrame) -> int:
    return events.filter(pl.col("kind") == "impression")["query_id"].n_unique()


def _served_clicks(log: DemoLog) -> float:
    """The expected clicks per search of the served order, on the first positions."""
    shown = log.events.filter((pl.col("kind") == "impression") & (pl.col("position") <= FIRST))
    texts = {entry.query.text: number for number, entry in enumerate(log.shelf.queries)}
    products = {item.product.id: at for at, item in enumerate(log.catalog.products)}
    shoppers = {each.id: each for each in log.traffic.shoppers}
    attraction = Attraction(log.catalog)
    total = 0.0
    for query, who, product, position in shown.select("query", "shopper", "product_id", "position").iter_rows():
        grade = log.shelf.grades[texts[query]][products[product]]
        total += examination(position) * attraction.click(shoppers[who], products[product], grade)
    return total / _lists(log.events)


def _experiment(log: DemoLog, seed: int, sessions: int, policy: Rankings, found: PolicyResult) -> ExperimentResult:
    """An A/B test on shoppers outside the first log; every other shopper gets the policy."""
    first_hits = [
        tuple((*policy[number], *(each for each in order if each not in policy[number])) for order in orders)
        for number, orders in enumerate(log.shelf.answers)
    ]
    treated = DemoLog.simulated(log.catalog, replace(log.shelf, answers=tuple(first_hits)), seed, sessions)
    others = [each.id for number, each in enumerate(log.traffic.shoppers) if number % PARTS]
    variants = []
    for events, chosen in ((log.events, others[::2]), (treated.events, others[1::2])):
        seen = events.filter(pl.col("shopper").is_in(chosen))
        clicks = ((pl.col("kind") == "click") & (pl.col("position") <= FIRST)).sum()
        by_shopper = seen.group_by("shopper").agg(clicks=clicks, lists=pl.col("query_id").n_unique())
        variants.append(by_shopper.sort("shopper").select("clicks", "lists").to_numpy().astype(np.float64))
    (control, treatment), none = variants, [np.zeros((len(each), 2)) for each in variants]
    sums = np.vstack([control, none[1]]), np.vstack([none[0], treatment])
    before, after = (RatioSums(each[:, 0], each[:, 1]) for each in sums)
    difference = ratio_difference(before, after, planned=len(sums[0]))
    if difference is None:
        raise InputError("an A/B test has no searches; simulate more sessions")
    return ExperimentResult(found.policy, found.estimate.outcomes[0], difference.value, difference.fixed)


@dataclass(frozen=True, slots=True)
class ShopperResult:
    """Policies by a log of shoppers of one click model."""

    model: str
    errors: Mapping[str, float]
    """The mean absolute error by estimator, in clicks a search."""
    covered: float
    """The share of intervals that contain the truth."""
    sure: int
    wrong: int
    """The number of sure estimates with the wrong sign."""


def measure_shoppers(name: str, policies: int, seed: int) -> ShopperResult:
    """A store whose shoppers click by one model, one list in twenty shuffled; the truth is from many more sessions."""
    random = np.random.default_rng(seed)
    grades = random.choice(4, (_QUERIES, PRODUCTS), p=_GRADES).astype(np.int32)
    store, table = graded_store(_named(grades), seed=seed)
    simulation = simulate(store, SHOPPERS[name], _SESSIONS, Conditions(depth=DEPTH), seed)
    log, query = simulation.log, table["query"].rle_id().to_numpy().astype(np.int32)
    acts = np.stack([log.clicks, *[np.zeros_like(log.clicks)] * 2], axis=2)
    everyone = np.arange(log.size, dtype=np.int32)
    searches = LoggedSearches(log, acts, query, everyone, np.ones(log.size, np.bool_))
    served = _mean_clicks(store, name, Conditions(depth=DEPTH), seed + 1)
    rankings, truths = [], []
    for number in range(policies):
        scores = random.normal(0.3, 0.6) * (2.0 ** table["grade"].to_numpy() - 1.0) / 7.0
        scores += random.uniform(0.0, 0.6) * random.standard_normal(len(scores))
        order = np.lexsort((-scores, query)).reshape(_QUERIES, PRODUCTS).astype(np.int32)
        rankings.append(order[:, :DEPTH])
        conditions = Conditions(depth=DEPTH, exploration=0.0)
        truths.append(_mean_clicks(replace(store, rankings=order[None]), name, conditions, seed + 2 + number) - served)
    found = [each.outcomes[0] for each in evaluate_rankings(searches, rankings, refuses=False)]
    pairs = list(zip(found, truths, strict=True))
    errors = {
        each: float(np.mean([abs(row.by_estimator[each] - truth) for row, truth in pairs])) for each in ESTIMATORS
    }
    covered = float(np.mean([row.low <= truth <= row.high for row, truth in pairs]))
    sure = [row.difference * truth < 0 for row, truth in pairs if row.is_sure]
    return ShopperResult(name, errors, covered, len(sure), sum(sure))


def _mean_clicks(store: SimulatedStore, name: str, conditions: Conditions, seed: int) -> float:
    """The mean clicks per search."""
    return float(simulate(store, SHOPPERS[name], _TRUTH_SESSIONS, conditions, seed).log.clicks.sum()) / _TRUTH_SESSIONS


def show_off_policy(report: OffPolicyReport) -> None:
    """Errors and coverage of the policies that are not refused, then of the refused ones, then the experiments."""
    title = f"{report.searches:,} searches, {report.served:.4f} clicks each, in {PARTS} logs"
    for refused in (False, True):
        chosen = [each for each in report.results if bool(each.estimate.refusal) is refused]
        if not chosen:
            continue
        outcomes = [each.estimate.outcomes[0] for each in chosen]
        truths = np.array([each.truth for each in chosen])
        table = figure_table(["estimator", "mean absolute error", "beside IPS", "mean error"], "" if refused else title)
        errors = {name: np.array([each.by_estimator[name] for each in outcomes]) - truths for name in ESTIMATORS}
        by_ips = float(np.abs(errors[IPS]).mean())
        for name, error in errors.items():
            found = float(np.abs(error).mean())
            table.add_row(name, f"{found:.4f}", f"{found / by_ips:.0%}", f"{error.mean():+.4f}")
        show_table(table)
        covered = float(np.mean([each.is_covered for each in chosen]))
        width = float(np.mean([each.high - each.low for each in outcomes])) / 2
        overlap = [each.estimate.overlap for each in chosen]
        say(
            f"{len(chosen)} estimates {'that are refused' if refused else 'of rankings'}: 95% intervals hold the truth "
            f"{covered:.1%} of the time, half as wide {width:.4f}; overlap {min(overlap):.2f} to {max(overlap):.2f}; "
            f"{sum(each.is_sure for each in outcomes)} sure, "
            f"{sum(each.is_sure and each.difference * truth < 0 for each, truth in zip(outcomes, truths, strict=True))}"
            " of them wrong in sign"
        )
    if report.experiments:
        table = figure_table(["policy", "by the log", "95%", "in the A/B test", "95% "], "")
        for ran in report.experiments:
            own = f"{ran.estimate.low:+.4f} to {ran.estimate.high:+.4f}"
            its = f"{ran.interval.low:+.4f} to {ran.interval.high:+.4f}"
            table.add_row(str(ran.policy), f"{ran.estimate.difference:+.4f}", own, f"{ran.difference:+.4f}", its)
        show_table(table)
    table = figure_table(["shoppers", *ESTIMATORS, "intervals hold", "sure", "wrong in sign"], "")
    for row in report.shoppers:
        by_model = (f"{row.errors[name]:.4f}" for name in ESTIMATORS)
        table.add_row(row.model, *by_model, f"{row.covered:.1%}", str(row.sure), str(row.wrong))
    show_table(table)


@command("click_models off-policy --policies 40")
def off_policy(
    policies: Annotated[int, typer.Option(help="Rankings to evaluate.", min=1)] = 40,
    sessions: Annotated[int, typer.Option(help="Sessions of each of five logs.", min=500)] = 8_000,
    experiments: Annotated[int, typer.Option(help="Rankings that also run as A/B tests.", min=0)] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the store and the policies.", min=0)] = 11,
) -> None:
    """Evaluate rankings on logs of the demo store's simulator: error and coverage, and what A/B tests of them find."""
    with TerminalProgress() as progress:
        progress.begin("off-policy", PARTS + 1 + experiments + len(SHOPPERS), "steps")
        report = measure_off_policy(seed, policies, sessions, experiments, lambda: progress.advance(1))
        progress.end(f"{policies} rankings by {PARTS} logs")
    emit(report, show_off_policy)


if __name__ == "__main__":
    run_study(fit, off_policy)
