"""Prediction of the next purchase by the user tower and by simpler methods, trained on the same purchases.

Purchases are JSON lines {"user": ..., "history": [...], "next": ...}, oldest first. A later line of a shopper has the
answers of earlier ones in its history, so the training data ends before the shopper's first line of the file that
measures: one cutoff for all. Or they are the actions of an index's own shoppers: the last days measure, by each
shopper's first visit, and as many days before them choose options. Ranks are over the whole catalog, not over sampled
products (Krichene & Rendle 2020, On Sampled Metrics for Item Recommendation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.relations import RelationStrengths, choose_weights
from benchmarks.studies import run_study
from benchmarks.tables import difference_cells, figure_table
from indexer.feeds.io import iterate_lines, open_source
from rerank.evaluation.metrics import query_means
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.sessions.relations import RelationCatalog
from rerank.sessions.tables import open_derived
from rerank.user_tower.evaluation import HeldOutActs, Score, hide, ranks, ranks_by
from rerank.user_tower.histories import DAY, Histories, Ints, visit_numbers
from rerank.user_tower.item_neighbours import NeighbourOptions, find_neighbours
from rerank.user_tower.tower import UserTower
from rerank.user_tower.training import UserTowerOptions, fit
from retrieval.errors import InputError
from retrieval.progress import Progress
from retrieval.store.manifest import EVENTS_FOLDER
from retrieval.store.versions import Store
from service.cli.options import Index, command
from service.cli.output import TerminalProgress, emit, say, show_table
from service.engine.snapshot import Snapshot, serving_snapshot
from service.events.event_log import DERIVED_FOLDER
from service.settings import load_settings
from service.training.training_session import fresh_tables
from service.training.user_tower import NEAR, POPULAR, POPULAR_THERE, TowerGate, UserTowerCatalog, shopper_acts

TOWER, ALONE, EASE, BOUGHT = "user tower", "user tower, without places by text", "EASE", "bought before"
RELATED = "user tower and relations"
_RIDGES, _HALF_LIVES, _WINDOWS = (2.0, 6.0, 25.0), (None, 60.0), (50, None)
_FADING = (0.9, 0.98, 0.99, 0.995, 1.0)
_EVERYTHING = "all"
_DEPTH = 10


class PurchaseLine(msgspec.Struct, frozen=True):
    """One line of a file of purchases."""

    user: str
    history: tuple[str, ...]
    next: str


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The purchases before a cutoff, and the next ones: v visits with t products."""

    learned: Histories
    held: HeldOutActs
    """The next purchases."""
    shoppers: Ints
    """(v,): the number of the shopper of each visit."""

    @classmethod
    def of(
        cls,
        learned: Histories,
        histories: Histories,
        targets: Sequence[Sequence[int]],
        shoppers: Ints,
        now: NDArray[np.float64] | None = None,
        *,
        hide_seen: bool,
    ) -> Self:
        """The held-out visits; `hide_seen` leaves out products bought before, and visits without other ones. Raises
        InputError if no training data or no visits are left."""
        seen = [{*histories.products[histories.of_shopper(each)].tolist()} for each in range(len(histories))]
        wanted = [
            [row for row in dict.fromkeys(rows) if not (hide_seen and row in before)]
            for rows, before in zip(targets, seen, strict=True)
        ]
        kept = np.flatnonzero([len(rows) > 0 for rows in wanted])
        if not (len(learned) and len(kept)):
            raise InputError("nobody who bought something before bought something new; nothing can be measured")
        of_visit = [wanted[number] for number in kept.tolist()]
        visits = np.repeat(np.arange(len(kept)), [*map(len, of_visit)])
        rows = np.concatenate([np.array(rows, np.int64) for rows in of_visit])
        held = HeldOutActs(histories.some(kept), rows, visits, None if now is None else now[kept])
        return cls(learned, held, shoppers[kept])

    def measures(self, found: Ints, of: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64], Ints]:
        """HR@10 and nDCG@10 of the visits with products in a mask (t,), by the ranks (t,), and the visits' numbers; the
        ideal ranking has all of these products first."""
        numbers, visit = np.unique(self.held.visits[of], return_inverse=True)
        discounts = 1.0 / np.log2(np.arange(2.0, _DEPTH + 2))
        gains = np.bincount(visit, np.where(found[of] <= _DEPTH, 1.0 / np.log2(found[of] + 1.0), 0.0))
        ideal = np.cumsum(discounts)[np.minimum(np.bincount(visit), _DEPTH) - 1]
        return (gains > 0).astype(np.float64), gains / ideal, numbers

    def reached(self, score: Score, count: int, *, hide_seen: bool) -> float:
        """The mean nDCG@10 among `count` products."""
        found = ranks_by(score, self.held, count, hide_seen=hide_seen)
        return float(self.measures(found, self.held.targets >= 0)[1].mean())


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """The quality of a method on some cases, and its nDCG@10 minus that of the user tower, paired by shopper."""

    method: str
    cases: str
    count: int
    """The number of visits."""
    hit_rate: float
    """HR@10."""
    ndcg: float
    """nDCG@10."""
    difference: Difference | None


@command("recommend amazon-index --lines amazon/valid.jsonl.gz --lines amazon/test.jsonl.gz")
def recommend(
    index: Index,
    lines: Annotated[
        list[Path], typer.Option(help="The file of purchases that chooses options, then the later one that measures.")
    ] = [],  # noqa: B006
    days: Annotated[
        int, typer.Option(help="Without --lines: number of the last days of the index's actions, which measure.", min=1)
    ] = 30,
    seen: Annotated[
        Literal["hide", "show"], typer.Option(help="Whether products bought before may be recommended again.")
    ] = "hide",
    least_shoppers: Annotated[
        int, typer.Option(help="Minimum number of shoppers of a product that the tower learns beyond its text.", min=1)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the tower's training.")] = 0,
    cases: Annotated[Path | None, typer.Option(help="File to write the purchases to for benchmarks/peers/.")] = None,
    scores: Annotated[list[str], typer.Option(help="NAME=FILE: scores of that program, as another method.")] = [],  # noqa: B006
    *,
    relations: Annotated[
        bool, typer.Option("--relations", help="Also add relations of the last products to the tower's scores.")
    ] = False,
) -> None:
    """Train a user tower on purchases of files or of the index, and compare it with simpler methods on later ones."""
    hide_seen = seen == "hide"
    with TerminalProgress() as progress, serving_snapshot(index) as snapshot:
        catalog = UserTowerCatalog.of(snapshot)
        choosing, measuring = _parts(index, snapshot, lines, days, progress, hide_seen=hide_seen)
        if cases:
            write_cases(cases, choosing, measuring, len(catalog.vectors), hide_seen=hide_seen)
            return
        progress.begin("train", None, "")
        options = UserTowerOptions(least_shoppers=least_shoppers, seed=seed, hide_seen=hide_seen)
        tower = fit(catalog.vectors, measuring.learned, options, categories=catalog.categories)
        neighbours = tower.learned.neighbours
        progress.end(f"a place by text counts for {tower.learned.prior:g} choices; {neighbours.options}")
        alone = UserTower(tower.encode, catalog.vectors, replace(tower.learned, prior=0.0), catalog.categories)
        progress.begin("measure", None, "")
        gate = TowerGate(catalog.vectors, catalog.categories, measuring.learned, measuring.held, hide_seen)
        count = len(catalog.vectors)
        methods: dict[str, Score] = {
            POPULAR: gate.popular,
            POPULAR_THERE: gate.popular_there,
            EASE: _ease(choosing, measuring, count, hide_seen=hide_seen),
            NEAR: gate.near,
            **({} if hide_seen else {BOUGHT: _bought_before(choosing, count)}),
            ALONE: alone.scores,
            TOWER: tower.scores,
        }
        held = measuring.held
        related = _with_relations(index, catalog, choosing, measuring, tower, options) if relations else None
        found = {name: ranks_by(score, held, count, hide_seen=hide_seen) for name, score in methods.items()}
        if related is not None:
            found[RELATED] = related
        for name, _, path in (each.partition("=") for each in scores):
            given = read_scores(Path(path), measuring, count)
            found[name] = ranks(hide(given, held.seen() if hide_seen else None), held.targets, held.visits)
        figures = _figures(found, gate, measuring)
        progress.end(f"{len(measuring.shoppers):,} visits, {len(held.targets):,} products")
    emit(figures, show_figures, document={"figures": [*map(asdict, figures)]})


def _with_relations(
    index: Path, catalog: UserTowerCatalog, choosing: Part, measuring: Part, tower: UserTower, options: UserTowerOptions
) -> Ints:
    """The ranks (t,) by the tower's scores plus the relations of the last products before the cutoff, weighted as
    chosen on the days before by a tower trained before these."""
    derived, products = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER), RelationCatalog.of_version(Store(index))

    def ranking(part: Part, scores: Score) -> Callable[[NDArray[np.float32]], Ints]:
        held, cut = part.held, datetime.fromtimestamp(float(part.learned.times.max()), UTC)
        features = RelationStrengths.before(derived, products, cut).of_histories(held.histories)
        base, seen = scores(held.histories, held.now), held.seen() if options.hide_seen else None

        def ranked(weights: NDArray[np.float32]) -> Ints:
            return ranks(hide(base + np.tensordot(weights, features, 1), seen), held.targets, held.visits)

        return ranked

    earlier = fit(catalog.vectors, choosing.learned, options, categories=catalog.categories)
    trying, every = ranking(choosing, earlier.scores), np.ones(len(choosing.held.targets), np.bool_)
    weights = choose_weights(lambda each: float(choosing.measures(trying(each), every)[1].mean()))
    say(f"weights of relations: {', '.join(f'{each:g}' for each in weights)}")
    return ranking(measuring, tower.scores)(weights)


def _parts(
    index: Path, snapshot: Snapshot, lines: Sequence[Path], days: int, progress: Progress, *, hide_seen: bool
) -> tuple[Part, Part]:
    if lines and len(lines) != 2:
        raise InputError("use --lines twice: for the file that chooses options, then for the one that measures")
    if lines:
        return split_by_file(read_lines(lines[0]), read_lines(lines[1]), snapshot.products.row_of, hide_seen=hide_seen)
    with fresh_tables(index, load_settings(), progress) as tables:
        acts = shopper_acts(tables.derived.acts(), snapshot.products.row_of)
    end = float(acts.histories.times.max())
    periods = ((end - 2 * days * DAY, end - days * DAY), (end - days * DAY, end))
    choosing, measuring = (split_by_days(acts.histories, *period, hide_seen=hide_seen) for period in periods)
    return choosing, measuring


def read_lines(path: Path) -> list[PurchaseLine]:
    """The lines of a file; raises InputError with the number of the first invalid line, or for an empty file."""
    found = []
    with open_source(str(path), lambda _: None) as source:
        for number, line in iterate_lines(source):
            try:
                found.append(msgspec.json.decode(line, type=PurchaseLine))
            except msgspec.MsgspecError as error:
                raise InputError(f"{path} line {number}: {error}; a line has user, history and next") from error
    if not found:
        raise InputError(f"{path} has no lines; a line has user, history and next")
    return found


def split_by_file(
    choosing: Sequence[PurchaseLine],
    measuring: Sequence[PurchaseLine],
    row_of: Callable[[str], int | None],
    *,
    hide_seen: bool = True,
) -> tuple[Part, Part]:
    """Parts for files: all of `choosing` was bought before any of `measuring`. With `hide_seen`, products that a
    shopper bought before are not cases."""
    first = {line.user: line.history for line in reversed(choosing)}
    # Longer than the last history of a shopper, which may have lost its oldest purchases.
    bought = {user: [*history] for user, history in first.items()}
    for line in choosing:
        bought[line.user].append(line.next)
    others = {line.user: line.history for line in reversed(measuring) if line.user not in first}
    number = {user: place for place, user in enumerate({**first, **others})}

    def part(learned: Mapping[str, Sequence[str]], lines: Sequence[PurchaseLine]) -> Part:
        histories = Histories.of([rows for each in learned.values() if (rows := _rows(each, row_of))])
        cases = [(_rows(line.history, row_of), row_of(line.next), number[line.user]) for line in lines]
        known = [(rows, [row], shopper) for rows, row, shopper in cases if rows and row is not None]
        given, targets, shoppers = zip(*known, strict=True) if known else ((), (), ())
        return Part.of(histories, Histories.of(given), targets, np.array(shoppers), hide_seen=hide_seen)

    return part({**first, **others}, choosing), part({**bought, **others}, measuring)


def split_by_days(histories: Histories, cut: float, end: float, *, hide_seen: bool) -> Part:
    """The purchases until `cut`, and each shopper's first visit from then to `end`, in seconds since 1970."""
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    is_before = histories.times <= cut
    learned = histories.only(is_before)
    later = np.flatnonzero(~is_before & (histories.times <= end) & (learned.lengths[owner] > 0))
    shoppers, first = np.unique(owner[later], return_index=True)
    visits = visit_numbers(histories)
    of_visit = np.isin(visits[later], visits[later[first]])
    bounds = np.searchsorted(owner[later[of_visit]], shoppers)
    targets = [rows.tolist() for rows in np.split(histories.products[later[of_visit]], bounds[1:])]
    now = histories.times[later[first]]
    kept = learned.some(np.flatnonzero(learned.lengths))
    return Part.of(kept, learned.some(shoppers), targets, shoppers, now, hide_seen=hide_seen)


def _rows(names: Sequence[str], row_of: Callable[[str], int | None]) -> list[int]:
    return [row for row in map(row_of, names) if row is not None]


def write_cases(path: Path, choosing: Part, measuring: Part, count: int, *, hide_seen: bool) -> None:
    """Writes the purchases as arrays of a compressed file, for `benchmarks/peers/recommenders.py` and `sasrec.py`."""
    arrays: dict[str, Any] = {"count": np.array(count), "hide_seen": np.array(hide_seen)}
    for name, part in (("choosing", choosing), ("measuring", measuring)):
        arrays |= {
            f"{name}_products": part.learned.products,
            f"{name}_starts": part.learned.starts,
            f"{name}_case_products": part.held.histories.products,
            f"{name}_case_starts": part.held.histories.starts,
            f"{name}_targets": part.held.targets,
            f"{name}_visits": part.held.visits,
        }
    np.savez_compressed(path, **arrays)


def read_scores(path: Path, part: Part, count: int) -> NDArray[np.float32]:
    """The scores of that program: (v, N) of the visits and products of a part; raises InputError for another shape."""
    found = np.asarray(np.load(path)["scores"], np.float32)
    if found.shape != (len(part.shoppers), count):
        raise InputError(f"{path} has scores {found.shape} for {len(part.shoppers):,} visits and {count:,} products")
    return found


def _ease(choosing: Part, measuring: Part, count: int, *, hide_seen: bool) -> Score:
    """Ridge regression of each product on all others; the ridge, the half-life and the number of newest purchases are
    chosen by the next purchases of the time before."""
    half_lives = (None,) if np.isnan(choosing.learned.times).any() else _HALF_LIVES

    def fitted(learned: Histories, options: NeighbourOptions) -> Callable[[int | None], Score]:
        rows = np.unique(learned.products)
        place = np.full(count, -1)
        place[rows] = np.arange(len(rows))
        neighbours = find_neighbours(learned, rows, options, least_shoppers=1, most=len(rows), most_products=len(rows))

        def reading(newest: int | None) -> Score:
            def scores(histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
                made = np.zeros((len(histories), count), np.float32)
                for number in range(len(histories)):
                    bought = histories.products[histories.of_shopper(number)]
                    bought = np.unique(bought) if newest is None else bought[-newest:]
                    made[number, rows] = neighbours.scores(place[bought], 1.0)
                return made

            return scores

        return reading

    best = -1.0
    chosen: tuple[NeighbourOptions, int | None] = NeighbourOptions(), None
    for options in (NeighbourOptions(*each) for each in product(_RIDGES, half_lives)):
        reading = fitted(choosing.learned, options)
        for newest in _WINDOWS:
            reached = choosing.reached(reading(newest), count, hide_seen=hide_seen)
            if reached > best:
                best, chosen = reached, (options, newest)
    return fitted(measuring.learned, chosen[0])(chosen[1])


def _bought_before(choosing: Part, count: int) -> Score:
    """The number of times that a shopper bought each product; the decay of older purchases is chosen by the next
    purchases of the time before."""

    def fading(by: float) -> Score:
        def scores(histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
            made = np.zeros((len(histories), count))
            for number in range(len(histories)):
                bought = histories.products[histories.of_shopper(number)]
                made[number] = np.bincount(bought, by ** np.arange(len(bought))[::-1], count)
            return made

        return scores

    return max(map(fading, _FADING), key=lambda score: choosing.reached(score, count, hide_seen=False))


def _figures(found: Mapping[str, Ints], gate: TowerGate, part: Part) -> list[MethodFigures]:
    slices = {_EVERYTHING: np.ones(len(part.held.targets), np.bool_), **gate.slices()}
    number = np.unique(part.shoppers, return_inverse=True)[1]

    def by_shopper(name: str, of: NDArray[np.bool_]) -> NDArray[np.float64]:
        _, gains, visits = part.measures(found[name], of)
        return query_means(gains, number[visits], int(number.max()) + 1)[0]

    made = []
    for cases, of in slices.items():
        for name, ranked in found.items() if of.any() else ():
            hits, gains, _ = part.measures(ranked, of)
            less = None if name == TOWER else paired_bootstrap(by_shopper(name, of), by_shopper(TOWER, of))
            made.append(MethodFigures(name, cases, len(hits), float(hits.mean()), float(gains.mean()), less))
    return made


def show_figures(found: Sequence[MethodFigures]) -> None:
    """A row for each method and slice."""
    table = figure_table(["method", "cases", "", "HR@10", "nDCG@10", "less the tower", "from", "to"], "")
    for each in found:
        figures = (f"{each.count:,}", f"{each.hit_rate:.4f}", f"{each.ndcg:.4f}", *difference_cells(each.difference))
        table.add_row(each.method, each.cases, *figures)
    show_table(table)


if __name__ == "__main__":
    run_study(recommend)
