"""Sponsored placement at any bid: irrelevant sponsored hits, changes of organic results, and gains of untrue bids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from retrieval.judgments import Judgments
from retrieval.progress import Progress
from retrieval.records import Page
from service.engine.engine import SearchEngine
from service.settings import RankerSettings, Settings, SponsoredSettings
from service.sponsored.auction import EXAMINATION, Award, Bid, award_places
from service.sponsored.campaign import MICROS, Campaign

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
    """The measures of `bench sponsored`."""

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


def measure_sponsored(index: Path, judgments: Judgments, rounds: int, progress: Progress) -> SponsoredReport:
    """Advertises every product of an index at random bids, in a directory of links to the index, and searches each
    judged query."""
    counts = dict.fromkeys(("with_sponsored", "sponsored", "relevant", "irrelevant", "unjudged", "changed"), 0)
    random = np.random.default_rng(0)
    with _linked(index) as root, SearchEngine.open(root, settings=_SETTINGS, follow=False) as engine:
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
    return SponsoredReport(len(judgments.grades), searches, **counts, gains=gains)


_FACETS = ("brand", "category")
_SETTINGS = Settings(
    # A late ranker on a busy machine would be an additional difference.
    ranker=RankerSettings(deadline=60.0),
    sponsored=SponsoredSettings(enabled=True, places=_PLACES, reserve=_RESERVE),
)


@contextmanager
def _linked(index: Path) -> Iterator[Path]:
    """A directory with links to everything in an index directory except its campaigns, to which others can be added."""
    with TemporaryDirectory() as folder:
        for each in index.resolve().iterdir():
            if each.name not in ("campaigns.sqlite", "sponsored.sqlite"):
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
