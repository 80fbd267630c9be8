"""Sponsored placement at any bid: irrelevant sponsored hits, changes of organic results, and gains of untrue bids; and
clicks that are charged, of fraud with made-up sessions and of honest shoppers who share addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import typer

from shelfwise.benchmarks.studies import run_study
from shelfwise.benchmarks.tables import figure_table
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent
from shelfwise.retrieval.judgments import Judgments, read_judgments
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.records import EventKind, Page
from shelfwise.service.cli.options import Index, command
from shelfwise.service.cli.output import TerminalProgress, emit, show_pairs, show_table
from shelfwise.service.curation.document_store import to_microseconds
from shelfwise.service.curation.switches import SwitchedPart
from shelfwise.service.demo.catalog import make_catalog
from shelfwise.service.demo.queries import make_queries
from shelfwise.service.demo.shoppers import simulate, stock_shelf
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import RankerSettings, Settings, SponsoredSettings
from shelfwise.service.sponsored.auction import EXAMINATION, Award, Bid, award_places
from shelfwise.service.sponsored.campaign import MICROS, Campaign
from shelfwise.service.sponsored.ledger import ADDRESS_CLICKS, ChargeReason, Ledger, Offer, seal_offer, text_hash

_ADVERTISERS = 40
_PLACES = 3
_BIDS = (-2.0, 4.0)
"""The powers of ten between which bids are drawn: a cent to ten thousand."""
_SIZE = 24
_RESERVE = 0.05


Auction = Callable[[Sequence[Bid], int, float, str], Sequence[Award]]
"""Awards places like `award_places`."""


@dataclass(frozen=True, slots=True)
class SponsoredReport:
    """The measures of sponsored placement."""

    queries: int
    searches: int
    """The number of searches: each query once per round, with other bids."""
    with_sponsored: int
    """The number of searches with sponsored hits."""
    sponsored: int
    relevant: int
    """The number of sponsored hits with a grade above the lowest."""
    irrelevant: int
    """The number of sponsored hits with the lowest grade."""
    unjudged: int
    changed: int
    """The number of searches whose hits, order, total, facets or ranges differ from those without sponsored hits."""
    gains: dict[int, float]
    """The largest gain of an untrue bid over 1,000 auctions by the number of places, in the currency of bids; prices
    are rounded to millionths, so smaller gains do not count."""
    attacks: dict[str, tuple[int, int]]
    """Charged clicks of each attack, without and with the limits of addresses."""
    honest: dict[str, dict[str, float]]
    """Share of the honest clicks that remain charged, by store, then by the limit and the seeds of the shoppers."""


def measure_sponsored(index: Path, judgments: Judgments, rounds: int, progress: Progress) -> SponsoredReport:
    """Advertises every product of an index at random bids, in a directory of links to the index, and searches each
    judged query."""
    counts = dict.fromkeys(("with_sponsored", "sponsored", "relevant", "irrelevant", "unjudged", "changed"), 0)
    random = np.random.default_rng(0)
    with _linked(index) as root, SearchEngine.open(root, settings=_SETTINGS, follow=False) as engine:
        engine.switches.put(SwitchedPart.SPONSORED, on=True)
        ids = list(engine.ids().rest)
        progress.begin("search", rounds * len(judgments.grades), "queries")
        for _ in range(rounds):
            engine.campaigns.put(_campaigns([ids[at] for at in random.permutation(len(ids))], random))
            for query, grades in judgments.grades.items():
                plain, page = (
                    engine.search(query, size=_SIZE, facets=_FACETS, sponsored=each) for each in (False, True)
                )
                counts["with_sponsored"] += bool(page.sponsored)
                counts["changed"] += _organic(page) != _organic(plain)
                for hit in page.sponsored:
                    grade = grades.get(hit.product.id)
                    kind = "unjudged" if grade is None else "relevant" if grade > judgments.lowest else "irrelevant"
                    counts[kind] += 1
                    counts["sponsored"] += 1
                progress.advance(1)
        progress.end(f"{counts['sponsored']:,} sponsored hits")
    searches = rounds * len(judgments.grades)
    gains = {places: largest_gain(places, 1_000) for places in (1, _PLACES)}
    attacks = {
        name: (charged_clicks(clicks, has_limits=False), charged_clicks(clicks, has_limits=True))
        for name, clicks in ATTACKS.items()
    }
    honest = honest_shares(progress)
    return SponsoredReport(len(judgments.grades), searches, **counts, gains=gains, attacks=attacks, honest=honest)


_FACETS = ("brand", "category")
_SETTINGS = Settings(
    # A late ranker on a busy machine would be an additional difference.
    ranker=RankerSettings(deadline=60.0),
    sponsored=SponsoredSettings(places=_PLACES, reserve=_RESERVE),
)


@contextmanager
def _linked(index: Path) -> Iterator[Path]:
    """A directory with links to everything in an index directory except its campaigns, to which others can be added."""
    with TemporaryDirectory() as folder:
        for each in index.resolve().iterdir():
            if each.name not in ("campaigns.sqlite", "sponsored.sqlite", "switches.sqlite"):
                (Path(folder) / each.name).symlink_to(each)
        yield Path(folder)


def _campaigns(ids: Sequence[str], random: np.random.Generator) -> list[Campaign]:
    """Every product in the campaign of one of several advertisers."""
    most = 1_000
    count = max(_ADVERTISERS, -(-len(ids) // most))
    bids = 10 ** random.uniform(*_BIDS, count)
    return [
        Campaign(f"c{at}", f"a{at % _ADVERTISERS}" if count == _ADVERTISERS else f"a{at}", tuple(ids[at::count]), bid)
        for at, bid in enumerate(np.round(bids, 4).tolist())
    ]


def _organic(page: Page) -> Page:
    return replace(page, sponsored=(), timings={})


def largest_gain(places: int, auctions: int, award: Auction = award_places) -> float:
    """The largest gain of an untrue bid over random auctions with this number of places. Each bidder tries amounts
    around its own value and around those at which it would get another place."""
    random, largest = np.random.default_rng(places), 0.0
    for number in range(auctions):
        values = random.lognormal(-1.0, 0.8, random.integers(1, 9)).tolist()
        chances = random.uniform(0.01, 0.3, len(values)).tolist()
        bids = [Bid(f"c{at}", f"a{at}", *each) for at, each in enumerate(zip(values, chances, strict=True))]
        reserve = float(random.choice([0.0, 0.05, 0.3]))
        for own, bid in enumerate(bids):
            honest = _gain(award(bids, places, reserve, str(number)), bids, own, bid.amount)
            levels = [other.value / bid.probability for other in bids]
            amounts = [bid.amount * factor for factor in (0.1, 0.5, 0.9, 1.1, 2.0)] + [reserve, 1e4]
            amounts += [level * factor for level in levels for factor in (0.999, 1.001)]
            for amount in amounts:
                tried = [*bids[:own], replace(bid, amount=amount), *bids[own + 1 :]]
                gain = _gain(award(tried, places, reserve, str(number)), tried, own, bid.amount)
                largest = max(largest, gain - honest)
    return largest if largest > 1 / MICROS else 0.0


def _gain(awards: Sequence[Award], bids: Sequence[Bid], own: int, worth: float) -> float:
    """The expected gain of an advertiser, to whom a click is worth `worth`, from a response."""
    for each in awards:
        if each.bid == own:
            return EXAMINATION[each.place - 1] * bids[own].probability * (worth - each.price / MICROS)
    return 0.0


# Charged clicks: the ledger alone, at the times and from the addresses of simulated clicks.

SEEDS, CHECK_SEEDS = (1, 2, 3), (11, 12, 13, 14, 15)
"""Seeds of the shoppers on which the limits were chosen, and on which they are checked."""
_START = datetime(2026, 12, 1, tzinfo=UTC)
_CAMPAIGNS = 40
_TOGETHER = 15


class Click(NamedTuple):
    """A click on a sponsored hit; each has an answer of its own."""

    time: datetime
    address: str
    session: str
    campaign: str
    query: str


def attack_clicks(addresses: int, seconds: float, queries: int, days: int = 1, clicks: int = 300) -> list[Click]:
    """Clicks on one campaign with a new session each, evenly over some seconds of each day."""
    pause = timedelta(seconds=seconds / clicks)
    return [
        Click(_START + timedelta(days=day) + at * pause, f"{at % addresses}", f"{day} {at}", "c0", f"{at % queries}")
        for day in range(days)
        for at in range(clicks)
    ]


_DAY_SECONDS = 86_000.0
ATTACKS = {
    "300 in 32 s, one query, 1 address": attack_clicks(1, 32, 1),
    "300 in 32 s, 50 queries, 1 address": attack_clicks(1, 32, 50),
    "300 in 32 s, 50 queries, 10 addresses": attack_clicks(10, 32, 50),
    "300 in 32 s, 50 queries, 100 addresses": attack_clicks(100, 32, 50),
    "300 over a day, 1 address": attack_clicks(1, _DAY_SECONDS, 50),
    "300 over a day, 10 addresses": attack_clicks(10, _DAY_SECONDS, 50),
    "300 over a day, 100 addresses": attack_clicks(100, _DAY_SECONDS, 50),
    "5 a day for ten days, 1 address": attack_clicks(1, _DAY_SECONDS, 50, days=10, clicks=5),
}
STORES = {"71 sessions a day": (3_000, 7), "1,430 sessions a day": (60_000, 1)}
"""Sessions of six weeks, and the days that are charged."""
SHARES = (0.0, 0.3)
"""Shares of the shoppers who are behind ten addresses."""
LIMITS = (2, 3, ADDRESS_CLICKS, 10)


def charged_clicks(clicks: Sequence[Click], *, has_limits: bool, limit: int = ADDRESS_CLICKS) -> int:
    """The number of charged clicks; those within some seconds are one transaction."""
    key, clock = bytes(32), _START
    campaigns = {f"c{at}": Campaign(f"c{at}", f"a{at}", ("p",), 1.0) for at in range(_CAMPAIGNS)}
    charged = 0
    with TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), clock=lambda: clock)
        for _, together in groupby(enumerate(clicks), lambda each: (each[1].time - _START).seconds // _TOGETHER):
            stored = []
            for number, click in together:
                clock = click.time
                name = f"{number}"
                shown = to_microseconds(clock)
                offer = Offer(click.campaign, "a", text_hash("p"), 1, 1, 6, shown, text_hash(click.query))
                # The pseudonym of an address changes each day.
                address = f"{click.address} {click.time:%d}" if has_limits else ""
                sealed = seal_offer(offer, name, key)
                ids = ("", click.session, sealed, "", "p")
                stored.append(StoredEvent(name.encode(), "click", 0, 0, *ids, None, None, None, None, address))
            found = ledger.charge(stored, campaigns, key, limit)
            charged += found.count(ChargeReason.CHARGED)
    return charged


def honest_clicks(seed: int, sessions: int, days: int) -> list[Click]:
    """Some days of simulated shoppers, in which each click on a hit is one on a sponsored hit."""
    catalog = make_catalog(seed, 2_000)
    traffic = simulate(catalog, stock_shelf(catalog, make_queries(catalog, seed), seed), seed, sessions)
    return [
        Click(
            _START + timedelta(milliseconds=action.ms),
            action.results.shopper,
            action.results.shopper,
            f"c{action.results.products[action.position - 1] % _CAMPAIGNS}",
            action.results.query,
        )
        for action in sorted(traffic.actions, key=lambda each: each.ms)
        if action.kind is EventKind.CLICK and action.results.query and action.ms < days * DAY_MS
    ]


def _behind(click: Click, share: float) -> Click:
    """The click, from one of ten addresses if the shopper is of the share behind them."""
    shopper = text_hash(click.address)
    return click._replace(address=f"{shopper % 10}") if shopper // 10 % 100 < 100 * share else click


def honest_shares(progress: Progress) -> dict[str, dict[str, float]]:
    """The shares of `SponsoredReport.honest`, by store and share of shoppers behind ten addresses."""
    seeds, found = (*SEEDS, *CHECK_SEEDS), {}
    columns: dict[str, tuple[Sequence[int], int]] = {f"limit {limit}": (SEEDS, limit) for limit in LIMITS}
    columns[f"limit {ADDRESS_CLICKS}, other seeds"] = (CHECK_SEEDS, ADDRESS_CLICKS)
    progress.begin("charge", len(STORES) * len(seeds), "logs")
    for name, (sessions, days) in STORES.items():
        logs = {}
        for seed in seeds:
            logs[seed] = honest_clicks(seed, sessions, days)
            progress.advance(1)
        plain = {seed: charged_clicks(log, has_limits=False) for seed, log in logs.items()}
        for share in SHARES:
            behind = {seed: [_behind(click, share) for click in log] for seed, log in logs.items()}
            found[f"{name}, {share:.0%} of shoppers behind ten addresses"] = {
                column: sum(charged_clicks(behind[seed], has_limits=True, limit=limit) for seed in of)
                / sum(plain[seed] for seed in of)
                for column, (of, limit) in columns.items()
            }
    progress.end("")
    return found


@command("sponsored store --judgments judgments.tsv")
def sponsored_command(
    index: Index,
    judgments: Annotated[Path, typer.Option(help="A judgments file.", metavar="FILE")],
    rounds: Annotated[int, typer.Option(help="Searches for each query, with other bids.", min=1, max=100)] = 2,
) -> None:
    """Advertise every product at bids of any height, and search judged queries; the index is not changed.

    Counts irrelevant sponsored hits and changes of organic results, and measures what untrue bids gain in auctions.
    """
    with TerminalProgress() as progress:
        report = measure_sponsored(index, read_judgments(judgments), rounds, progress)
    emit(report, show_sponsored)


def show_sponsored(report: SponsoredReport) -> None:
    """The sponsored hits by relevance, the changes of organic results, and the gains of untrue bids."""
    show_pairs(
        (
            ("queries", f"{report.queries:,}, {report.searches:,} searches at random bids up to 10,000"),
            ("sponsored hits", f"{report.sponsored:,} in {report.with_sponsored:,} searches"),
            ("not relevant", f"{report.irrelevant:,} by their grade, {report.unjudged:,} without one"),
            ("changed results", f"{report.changed:,} searches"),
            *((f"gain, {count} place{'s' * (count > 1)}", f"{gain:g}") for count, gain in report.gains.items()),
        )
    )
    fraud = figure_table(["", "without limits", "with limits of addresses"], "charged of the clicks of an attack")
    for name, counts in report.attacks.items():
        fraud.add_row(name, *map(str, counts))
    show_table(fraud)
    columns = next(iter(report.honest.values()))
    honest = figure_table(["", *columns], "honest clicks that remain charged")
    for name, shares in report.honest.items():
        honest.add_row(name, *(f"{share:.1%}" for share in shares.values()))
    show_table(honest)


if __name__ == "__main__":
    run_study(sponsored_command)
