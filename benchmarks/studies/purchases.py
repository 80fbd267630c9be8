"""Purchases to recommend by: read from lines, cut into parts, judged by what was bought next."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexer.feeds.io import numbered_lines, open_source
from rerank.evaluation.metrics import query_means
from rerank.evaluation.statistics import Difference, paired_bootstrap
from retrieval.errors import InputError
from retrieval.events.stored import DAY_MS, moment

# Purchases from files without times: JSON lines, in the order of time, of a shopper's last purchases and the next.
#
#     {"user": "A474", "history": ["168"], "next": "278"}
#
# A shopper has several lines, and later ones hold the answers of earlier ones in their histories: who trained on all
# histories of the file that judges would train on its answers. So what comes before a shopper's first line is learned
# alone.


class Line(msgspec.Struct, frozen=True):
    """One line of such a file."""

    user: str
    history: tuple[str, ...]
    """Oldest first; the oldest of many may be cut off."""
    next: str


RowOf = Callable[[str], int | None]


def read_lines(path: Path) -> list[Line]:
    """The lines of one file; raises InputError for what is none, with its number, and for a file without any."""
    lines = []
    with open_source(str(path), lambda _: None) as source:
        for number, line in numbered_lines(source):
            try:
                lines.append(msgspec.json.decode(line, type=Line))
            except msgspec.MsgspecError as error:
                raise InputError(f"{path} line {number}: {error}; a line has user, history and next") from error
    if not lines:
        raise InputError(f"{path} has no line; one has user, history and next")
    return lines


def divided_by_file(tuning: Sequence[Line], judging: Sequence[Line], row_of: RowOf) -> PurchaseSet:
    """All of `tuning` was bought before any of `judging`.

    What is learned before tuning is what came before each shopper's first line there; who is only in the other file
    counts with what came before the first line in it.
    """
    shoppers = {user: number for number, user in enumerate(sorted({line.user for line in (*tuning, *judging)}))}
    first_tuning, first_judging = _first(tuning), _first(judging)
    # Longer than the last history of a shopper, which has lost its oldest purchases: first history, then each answer.
    whole = {user: [*line.history] for user, line in first_tuning.items()}
    for line in tuning:
        whole[line.user].append(line.next)
    only = {user: [*line.history] for user, line in first_judging.items() if user not in whole}
    before = {user: [*line.history] for user, line in first_tuning.items()}
    return PurchaseSet(
        Part(_purchases(before | only, shoppers, row_of), _cases(tuning, shoppers, row_of)),
        Part(_purchases(whole | only, shoppers, row_of), _cases(judging, shoppers, row_of)),
        "learned from what was bought before the first line that judges, one time for all shoppers",
    )


def _first(lines: Iterable[Line]) -> dict[str, Line]:
    first: dict[str, Line] = {}
    for line in lines:
        first.setdefault(line.user, line)
    return first


def _purchases(histories: Mapping[str, Sequence[str]], shoppers: Mapping[str, int], row_of: RowOf) -> Purchases:
    ordered = sorted((shoppers[user], _rows(history, row_of)) for user, history in histories.items())
    who = np.repeat([shopper for shopper, _ in ordered], [len(rows) for _, rows in ordered]).astype(np.int64)
    products = np.array(list(itertools.chain.from_iterable(rows for _, rows in ordered)), np.int64)
    times = [np.arange(len(rows), dtype=np.int64) * DAY_MS for _, rows in ordered]
    return Purchases(who, products, np.arange(len(who)), np.concatenate(times), timed=False)


def _cases(lines: Sequence[Line], shoppers: Mapping[str, int], row_of: RowOf) -> tuple[Case, ...]:
    cases = []
    for line in lines:
        if (target := row_of(line.next)) is not None:
            history: Ints = np.array(_rows(line.history, row_of), np.int64)
            times = np.arange(len(history), dtype=np.int64) * DAY_MS
            cases.append(Case(shoppers[line.user], history, times, np.array([target]), len(history) * DAY_MS))
    return tuple(cases)


def _rows(ids: Iterable[str], row_of: RowOf) -> list[int]:
    return [row for each in ids if (row := row_of(each)) is not None]


# What shoppers bought, in order, and what of it is held out: the purchases that come next.

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Purchases:
    """Purchases of shoppers, (n,) each, ordered by shopper, then by time."""

    shoppers: Ints
    """Numbers of shoppers."""
    products: Ints
    """Rows of the catalog."""
    visits: Ints
    """What was bought together: a number that no other visit has."""
    times: Ints
    """Milliseconds since 1970; where `timed` is False only the order counts."""
    timed: bool = True

    @property
    def histories(self) -> list[Ints]:
        """The products of each shopper who bought something, oldest first."""
        return self._by_shopper(self.products)

    @property
    def history_times(self) -> list[Ints]:
        """When each of `histories` was bought."""
        return self._by_shopper(self.times)

    def before(self, time: int) -> Purchases:
        """Those that were made before a time."""
        kept = self.times < time
        shoppers, products, visits = (column[kept] for column in (self.shoppers, self.products, self.visits))
        return Purchases(shoppers, products, visits, self.times[kept], self.timed)

    def counts(self, products: int) -> Ints:
        """How often each product of the catalog was bought, (products,)."""
        return np.bincount(self.products, minlength=products)

    def _by_shopper(self, values: Ints) -> list[Ints]:
        return np.split(values, np.flatnonzero(np.diff(self.shoppers)) + 1) if len(values) else []


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One shopper before a purchase: what is known, and what came."""

    shopper: int
    history: Ints
    """(n,) rows of what was bought before, oldest first."""
    times: Ints
    """(n,) when."""
    targets: Ints
    """The rows of what was bought next, each once."""
    now: int
    """Just before that, in milliseconds since 1970."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What may be learned from, and the purchases after it that are to be foretold."""

    training: Purchases
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PurchaseSet:
    """Two parts: ways choose their options on the first, learn anew from all before the second, are judged there."""

    tuning: Part
    judging: Part
    divided: str
    """How, in words."""


def purchases_of_events(events: Iterable[pl.DataFrame], row_of: Callable[[str], int | None]) -> Purchases:
    """The purchases of shoppers who are known, of products that the catalog has, in tables of a store of events.

    Where a product is several times in one visit it is bought once.
    """
    # Without a session what was bought on one day is one visit.
    day = pl.col("time").dt.date().cast(pl.String)
    session = pl.when(pl.col("session") == "").then(day).otherwise(pl.col("session"))
    bought = [
        each.filter((pl.col("kind") == "purchase") & (pl.col("shopper") != "")).select(
            "shopper", "product_id", pl.col("time").dt.epoch("ms"), visit=pl.concat_str("shopper", pl.lit(" "), session)
        )
        for each in events
    ]
    if not bought:
        raise InputError("there are no events: nothing was bought")
    table = pl.concat(bought)
    ids = table["product_id"].unique().sort()
    rows = pl.DataFrame({"product_id": ids, "row": [row_of(each) for each in ids]}, schema_overrides={"row": pl.Int64})
    table = table.join(rows.drop_nulls(), on="product_id", maintain_order="left")
    table = table.unique(["visit", "row"], keep="first", maintain_order=True)
    numbered = table.with_columns(pl.col("shopper", "visit").rank("dense").cast(pl.Int64))
    ordered = numbered.sort("shopper", "time", maintain_order=True)
    shoppers, rows_bought, visits, times = (ordered[name].to_numpy() for name in ("shopper", "row", "visit", "time"))
    return Purchases(shoppers, rows_bought, visits, times)


def divided_by_time(purchases: Purchases, days: int) -> PurchaseSet:
    """The last `days` are judged, as many before them tune; one time for all shoppers, so nothing later is known.

    Raises InputError where nothing is left to learn from.
    """
    if not len(purchases.times):
        raise InputError("no purchase of a shopper who is known is of a product of the index")
    end = int(purchases.times.max()) + 1
    judged, tuned = end - days * DAY_MS, end - 2 * days * DAY_MS
    if purchases.times.min() >= tuned:
        reached = (end - int(purchases.times.min())) / DAY_MS
        raise InputError(f"purchases reach {reached:.0f} days back; to hold out {days} twice, there must be more")
    told = f"learned until {moment(judged):%Y-%m-%d %H:%M} UTC, judged on the {days} days after it"
    return PurchaseSet(_part(purchases, tuned, judged), _part(purchases, judged, end), told)


def _part(purchases: Purchases, start: int, end: int) -> Part:
    """What was bought before `start`, and each shopper's first visit from then on, if it was before `end`."""
    places = np.flatnonzero((purchases.times >= start) & (purchases.times < end))
    first = places[np.unique(purchases.shoppers[places], return_index=True)[1]]
    return Part(purchases.before(start), tuple(_case(purchases, start, end, int(place)) for place in first))


def _case(purchases: Purchases, start: int, end: int, place: int) -> Case:
    """What is bought of a visit from `start` to `end` is the answer, what was bought before `start` is known."""
    shopper = purchases.shoppers[place]
    begin, after = np.searchsorted(purchases.shoppers, (shopper, shopper + 1))
    cut, over = begin + np.searchsorted(purchases.times[begin:after], (start, end))
    visit = purchases.products[cut:over][purchases.visits[cut:over] == purchases.visits[place]]
    history, times = purchases.products[begin:cut], purchases.times[begin:cut]
    return Case(int(shopper), history, times, np.unique(visit), int(purchases.times[place]))


def seen_left_out(cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases with what the shopper had not bought before as their only targets; those without any are left out."""
    kept = []
    for case in cases:
        targets = np.setdiff1d(case.targets, case.history)
        if len(targets):
            kept.append(Case(case.shopper, case.history, case.times, targets, case.now))
    return tuple(kept)


# Ways of foretelling what a shopper buys next: what they learn from, how options are chosen, what they give.

Floats = NDArray[np.float64]
Scorer = Callable[[Sequence[Case]], NDArray[np.floating]]
"""Every product's score for each case, (cases, products). What scores alike goes by popularity."""
DEPTH = 10
_CASES = 512
"""Scored at once: it bounds the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a way may learn from."""

    purchases: Purchases
    vectors: NDArray[np.float32]
    """(products, dimension): the unit vectors of the products' texts."""
    categories: Ints | None
    """(products,) by number, -1 where there is none; None for a catalog without."""
    hide_seen: bool
    """Whether what a shopper has bought is no candidate."""
    seed: int

    @property
    def products(self) -> int:
        """How many the catalog has."""
        return len(self.vectors)

    @property
    def counts(self) -> Ints:
        """How often each product was bought, (products,)."""
        return self.purchases.counts(self.products)


Fit = Callable[[Material], Scorer]
Judge = Callable[[Scorer], float]
"""nDCG@10 on the part that tunes."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The options that did best on the part that tunes."""

    options: str
    """In words."""
    fit: Fit


@dataclass(frozen=True, slots=True)
class Way:
    """One way, by its name in the table."""

    name: str
    choose: Callable[[Material, Judge], Chosen]
    ours: bool = False


def best_of(trials: Mapping[str, Fit]) -> Callable[[Material, Judge], Chosen]:
    """Tries all options, by their names; of equals the first is chosen."""

    def choose(material: Material, judge: Judge) -> Chosen:
        if len(trials) == 1:
            return Chosen(*next(iter(trials.items())))
        reached = {name: judge(fit(material)) for name, fit in trials.items()}
        best = max(reached, key=lambda name: reached[name])
        return Chosen(best, trials[best])

    return choose


def top_products(scorer: Scorer, cases: Sequence[Case], popularity: Ints, *, hide_seen: bool) -> Ints:
    """The rows of the best products of each case, (cases, DEPTH), out of the whole catalog."""
    depth = min(DEPTH, len(popularity))
    best = np.full((len(cases), DEPTH), -1, np.int64)
    for start, chunk in _chunks(cases):
        scores = np.array(scorer(chunk), np.float64)
        for row, case in enumerate(chunk):
            if hide_seen:
                scores[row, case.history] = -np.inf
            found = _best(scores[row], popularity, depth)
            best[start + row, : len(found)] = found
    return best


def _best(scores: Floats, popularity: Ints, depth: int) -> Ints:
    least = scores[np.argpartition(-scores, depth - 1)[depth - 1]]
    candidates = np.flatnonzero((scores >= least) & (scores > -np.inf))
    ordered = np.lexsort((candidates, -popularity[candidates], -scores[candidates]))
    return candidates[ordered[:depth]]


def _chunks(cases: Sequence[Case]) -> Iterator[tuple[int, Sequence[Case]]]:
    for start in range(0, len(cases), _CASES):
        yield start, cases[start : start + _CASES]


def hits(best: Ints, targets: Sequence[Ints]) -> tuple[Floats, Floats]:
    """HR@10 and NDCG@10 of each case, (cases,) each, from its best products (cases, 10) and what it was to find.

    A hit is any target among the ten. The gain is 1 (Järvelin & Kekäläinen 2002, section 3), the ideal all targets
    first; of one target it is 1 / log2(rank + 1). NaN for a case without targets.
    """
    discounts = 1.0 / np.log2(np.arange(DEPTH) + 2.0)
    found = np.array([np.isin(row, wanted) for row, wanted in zip(best, targets, strict=True)]).reshape(-1, DEPTH)
    sizes = np.array([len(wanted) for wanted in targets], np.int64)
    ideal = np.concatenate(([np.nan], np.cumsum(discounts)))[np.minimum(sizes, DEPTH)]
    return np.where(sizes > 0, found.any(axis=1), np.nan), found @ discounts / ideal


# What is measured case by case, as a mean that shoppers are drawn for: one with many cases is one shopper still.

_RESAMPLES = 2_000


def over_shoppers(values: Floats, shoppers: Ints) -> Difference:
    """The mean over cases, NaN left out, with its interval: shoppers are drawn, with all their cases."""
    known = ~np.isnan(values)
    means, weights = query_means(values[known], shoppers[known], int(shoppers.max()) + 1)
    return paired_bootstrap(means, np.zeros_like(means), weights, resamples=_RESAMPLES)
