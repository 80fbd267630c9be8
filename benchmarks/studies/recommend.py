"""The next purchase by the user tower and by simpler methods, trained on the same purchases, over a whole catalog.

Purchases come as JSON lines {"user": ..., "history": [...], "next": ...}, oldest first. A later line of a shopper has
the answers of earlier ones in its history, so what is learned ends before the shopper's first line of the file that
measures: one cutoff for all. No products are sampled (Krichene & Rendle 2020, On Sampled Metrics for Item
Recommendation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.studies import run_study
from benchmarks.tables import difference_cells, figure_table
from indexer.feeds.io import iterate_lines, open_source
from rerank.evaluation.metrics import query_means
from rerank.evaluation.statistics import Difference, paired_bootstrap
from rerank.user_tower.evaluation import HeldOutActs, Score, hit_rate, ndcg, ranks_by
from rerank.user_tower.histories import Histories, Ints
from rerank.user_tower.item_neighbours import NeighbourOptions, find_neighbours
from rerank.user_tower.tower import UserTower
from rerank.user_tower.training import UserTowerOptions, fit
from retrieval.errors import InputError
from service.cli.options import Index, command
from service.cli.output import TerminalProgress, emit, show_table
from service.engine.snapshot import serving_snapshot
from service.training.user_tower import NEAR, POPULAR, POPULAR_THERE, TowerGate, UserTowerCatalog

TOWER, ALONE, EASE = "user tower", "user tower, without places by text", "EASE"
_RIDGES = (2.0, 6.0, 25.0)
_EVERYTHING = "all"


class PurchaseLine(msgspec.Struct, frozen=True):
    """One line of a file of purchases."""

    user: str
    history: tuple[str, ...]
    next: str


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What was bought before a cutoff, and what was bought next."""

    learned: Histories
    held: HeldOutActs
    shoppers: Ints
    """(n,): the number of the shopper of each case."""


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """What a method reaches on some cases, and its nDCG@10 less that of the user tower, paired by shopper."""

    method: str
    cases: str
    count: int
    hit_rate: float
    """HR@10."""
    ndcg: float
    """nDCG@10."""
    difference: Difference | None


@command("recommend amazon-index --lines amazon/valid.jsonl.gz --lines amazon/test.jsonl.gz")
def recommend(
    index: Index,
    lines: Annotated[
        list[Path], typer.Option(help="The purchases that choose options, then those that measure: later ones.")
    ],
    least_shoppers: Annotated[
        int, typer.Option(help="Shoppers of a product that the tower knows by more than its text.", min=1)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the tower's training.")] = 0,
) -> None:
    """Train a user tower on purchases from files, and measure it beside simpler methods on the next ones."""
    if len(lines) != 2:
        raise InputError("--lines twice: the file that chooses options, then the one that measures")
    with TerminalProgress() as progress, serving_snapshot(index) as snapshot:
        catalog = UserTowerCatalog.of(snapshot)
        choosing, measuring = split_by_file(read_lines(lines[0]), read_lines(lines[1]), snapshot.products.row_of)
        progress.begin("train", None, "")
        options = UserTowerOptions(least_shoppers=least_shoppers, seed=seed)
        tower = fit(catalog.vectors, measuring.learned, options, categories=catalog.categories)
        progress.end(f"a place by text counts for {tower.learned.prior:g} choices")
        alone = UserTower(tower.encode, catalog.vectors, replace(tower.learned, prior=0.0), catalog.categories)
        progress.begin("measure", None, "")
        gate = TowerGate(catalog.vectors, catalog.categories, measuring.learned, measuring.held, hide_seen=True)
        methods: dict[str, Score] = {
            POPULAR: gate.popular,
            POPULAR_THERE: gate.popular_there,
            EASE: _ease(choosing, measuring, len(catalog.vectors)),
            NEAR: gate.near,
            ALONE: alone.scores,
            TOWER: tower.scores,
        }
        found = _figures(methods, gate, measuring.shoppers)
        progress.end(f"{len(measuring.held.targets):,} cases")
    emit(found, show_figures, document={"figures": [*map(asdict, found)]})


def read_lines(path: Path) -> list[PurchaseLine]:
    """The lines of a file; raises InputError with the number of the first that is none, or where there is none."""
    found = []
    with open_source(str(path), lambda _: None) as source:
        for number, line in iterate_lines(source):
            try:
                found.append(msgspec.json.decode(line, type=PurchaseLine))
            except msgspec.MsgspecError as error:
                raise InputError(f"{path} line {number}: {error}; a line has user, history and next") from error
    if not found:
        raise InputError(f"{path} has no line; one has user, history and next")
    return found


def split_by_file(
    choosing: Sequence[PurchaseLine], measuring: Sequence[PurchaseLine], row_of: Callable[[str], int | None]
) -> tuple[Part, Part]:
    """All of `choosing` was bought before any of `measuring`. What a shopper has bought before is no case."""
    first = {line.user: line.history for line in reversed(choosing)}
    # Longer than the last history of a shopper, which may have lost its oldest purchases.
    bought = {user: [*history] for user, history in first.items()}
    for line in choosing:
        bought[line.user].append(line.next)
    others = {line.user: line.history for line in reversed(measuring) if line.user not in first}
    number = {user: place for place, user in enumerate({**first, **others})}

    def part(learned: Mapping[str, Sequence[str]], lines: Sequence[PurchaseLine]) -> Part:
        histories = [rows for each in learned.values() if (rows := _rows(each, row_of))]
        cases = [(_rows(line.history, row_of), row_of(line.next), number[line.user]) for line in lines]
        known = [(rows, row, shopper) for rows, row, shopper in cases if rows and row is not None and row not in rows]
        if not (histories and known):
            raise InputError("nobody who bought something before bought something new: nothing can be measured")
        given, targets, shoppers = zip(*known, strict=True)
        return Part(Histories.of(histories), HeldOutActs(Histories.of(given), np.array(targets)), np.array(shoppers))

    return part({**first, **others}, choosing), part({**bought, **others}, measuring)


def _rows(names: Sequence[str], row_of: Callable[[str], int | None]) -> list[int]:
    return [row for row in map(row_of, names) if row is not None]


def _ease(choosing: Part, measuring: Part, count: int) -> Score:
    """Ridge regression of each product on all others, the ridge chosen by what was bought next before."""

    def fitted(learned: Histories, ridge: float) -> Score:
        rows = np.unique(learned.products)
        place = np.full(count + 1, -1)
        place[rows] = np.arange(len(rows))
        options = NeighbourOptions(ridge)
        neighbours = find_neighbours(learned, rows, options, least_shoppers=1, most=len(rows), most_products=len(rows))

        def scores(histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
            made = np.zeros((len(histories), count), np.float32)
            for number, window in enumerate(histories.newest().products):
                made[number, rows] = neighbours.scores(place[window], 1.0)
            return made

        return scores

    def reached(ridge: float) -> float:
        score = fitted(choosing.learned, ridge)
        return float(ndcg(ranks_by(score, choosing.held, count, hide_seen=True)).mean())

    return fitted(measuring.learned, max(_RIDGES, key=reached))


def _figures(methods: Mapping[str, Score], gate: TowerGate, shoppers: Ints) -> list[MethodFigures]:
    count = len(gate.vectors)
    ranks = {name: ranks_by(score, gate.held, count, hide_seen=True) for name, score in methods.items()}
    slices = {_EVERYTHING: np.ones(len(shoppers), np.bool_), **gate.slices()}
    number = np.unique(shoppers, return_inverse=True)[1]

    def by_shopper(name: str, of: NDArray[np.bool_]) -> NDArray[np.float64]:
        return query_means(ndcg(ranks[name][of]), number[of], int(number.max()) + 1)[0]

    return [
        MethodFigures(
            name,
            cases,
            int(of.sum()),
            float(hit_rate(found[of]).mean()),
            float(ndcg(found[of]).mean()),
            None if name == TOWER else paired_bootstrap(by_shopper(name, of), by_shopper(TOWER, of)),
        )
        for cases, of in slices.items()
        if of.any()
        for name, found in ranks.items()
    ]


def show_figures(found: Sequence[MethodFigures]) -> None:
    """A line for each method and slice."""
    table = figure_table(["method", "cases", "", "HR@10", "nDCG@10", "less the tower", "from", "to"], "")
    for each in found:
        figures = (f"{each.count:,}", f"{each.hit_rate:.4f}", f"{each.ndcg:.4f}", *difference_cells(each.difference))
        table.add_row(each.method, each.cases, *figures)
    show_table(table)


if __name__ == "__main__":
    run_study(recommend)
