"""Separation of complements and substitutes by `RelationCatalog.alikeness`: AUC over pairs of products.

    python -m shelfwise.benchmarks.relations demo-store/index --truth demo-store/truth.json
    python -m shelfwise.benchmarks.relations amazon-index --lines valid.jsonl.gz --lines test.jsonl.gz

For the demo store the truth is known: a shopper met both products on one day, and they are of one type (substitutes) or
of related types (complements). For purchases without types there is only a proxy: the product that a shopper bought
next against the one whose description is nearest to the last product's, if nobody bought both.
"""

from __future__ import annotations

import gzip
import itertools
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Self

import msgspec
import numpy as np
import polars as pl
import scipy
import typer
from numpy.typing import NDArray

from shelfwise.rerank.evaluation.metrics import query_means
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.rerank.sessions.decay import VIEWS
from shelfwise.rerank.sessions.relations import RELATION_TYPES, RELATIONS, RelationCatalog
from shelfwise.rerank.sessions.tables import DerivedTables, open_derived
from shelfwise.rerank.user_tower.histories import Histories, newest_products
from shelfwise.retrieval.errors import InputError
from shelfwise.retrieval.index.vectors import whole_floats
from shelfwise.retrieval.records import RelationKind
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.main import run
from shelfwise.service.cli.options import Index
from shelfwise.service.cli.output import emit, say
from shelfwise.service.demo.grammar import GRAMMARS
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.recommend import similar_products
from shelfwise.service.engine.snapshot import serving_snapshot
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.training.derived_tables import relations_of

Ints = NDArray[np.int64]
_LARGEST_VISIT = 50


class _ProductTruth(msgspec.Struct):
    type: str


class _Truth(msgspec.Struct):
    products: dict[str, _ProductTruth]


class _Purchases(msgspec.Struct):
    user: str
    history: list[str]
    next: str


@dataclass(frozen=True, slots=True)
class RelationFigures:
    """AUC of substitutes against complements, by a score."""

    score: str
    cases: str
    pairs: int
    substitutes: int
    auc: float


def area(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """The area under the ROC curve: how often a positive scores above a negative, ties half (Mann & Whitney 1947)."""
    ranks = scipy.stats.rankdata(scores)
    positive = int(labels.sum())
    negative = len(labels) - positive
    if not positive or not negative:
        raise InputError("there are no pairs of both kinds: nothing can be measured")
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def demo_pairs(root: Path, catalog: RelationCatalog, truth: Path) -> tuple[Ints, Ints, NDArray[np.bool_], list[str]]:
    """Pairs that a shopper met on one day, whether they are of one type, and their part, which depends on their types:
    half of these are "dev", the others "test"."""
    known = msgspec.json.decode(truth.read_bytes(), type=_Truth).products
    related = {kind.key: kind.related for grammar in GRAMMARS for kind in grammar.types}
    acts = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER).acts().with_columns(day=pl.col("time").dt.date())
    session = ("shopper", "day")
    items = acts.select(*session, "product_id").unique().filter(pl.len().over(session) <= _LARGEST_VISIT)
    pairs = items.join(items, on=session).filter(pl.col("product_id") < pl.col("product_id_right"))
    row_of = {name: row for row, name in enumerate(catalog.ids)}
    found = []
    for one, other in pairs.select("product_id", "product_id_right").unique().sort(pl.all()).iter_rows():
        a, b = known[one].type, known[other].type
        if a == b or b in related[a] or a in related[b]:
            part = "dev" if zlib.crc32(min(a, b).encode()) % 2 == 0 else "test"
            found.append((row_of[one], row_of[other], a == b, part))
    rows, others, same, parts = zip(*found, strict=True)
    return np.array(rows), np.array(others), np.array(same), list(parts)


def goes_with_figures(root: Path, truth: Path) -> list[str]:
    """Precision of the first eight products that go with each product: related types by the truth, another root
    category, another voltage, and batteries of another brand."""
    known = msgspec.json.decode(truth.read_bytes(), type=_Truth).products
    related = {kind.key: {*kind.related} for grammar in GRAMMARS for kind in grammar.types}
    counts: Counter[str] = Counter()
    with SearchEngine.open(root) as engine:
        for name in sorted(known):
            product = engine.product(name)
            for hit in engine.relations.of(name, size=8).hits:
                one, two = known[name].type, known[hit.product.id].type
                volts = [each.attributes.get("voltage_v") for each in (product, hit.product)]
                is_battery = "battery" in one or "battery" in two
                counts += Counter(
                    products=1,
                    related=two in related[one] or one in related[two],
                    another_root=product.category[:1] != hit.product.category[:1],
                    with_voltages=None not in volts,
                    another_voltage=None not in volts and volts[0] != volts[1],
                    batteries=is_battery,
                    another_brand=is_battery and product.brand != hit.product.brand,
                )
    return [f"goes with: {count:,} {label.replace('_', ' ')}" for label, count in counts.items()]


def purchase_pairs(
    root: Path, catalog: RelationCatalog, lines: Sequence[Sequence[_Purchases]], *, same_head: bool
) -> tuple[Ints, Ints, NDArray[np.bool_], list[str]]:
    """The last product of each line with the next one (a complement, by proxy), and with the one whose description is
    nearest among those that nobody bought with it (a substitute, by proxy). With `same_head`, the latter is of the same
    kind by the head of its type."""
    row_of = {name: row for row, name in enumerate(catalog.ids)}
    bought: defaultdict[str, set[int]] = defaultdict(set)
    for line in itertools.chain.from_iterable(lines):
        bought[line.user] |= {row_of[name] for name in (*line.history, line.next)}
    together = {pair for rows in bought.values() for pair in itertools.permutations(rows, 2)}
    store = Store(root)
    products = ProductStore(store.version_folder(store.current()))
    vectors = _word_vectors([products[row].description for row in range(len(products))])
    heads = [name.rpartition(" ")[2] for name in catalog.types]
    found, seen = [], set[tuple[int, int]]()
    for part, given in zip(("dev", "test"), lines, strict=True):
        for line in given:
            pair = row_of[line.history[-1]], row_of[line.next]
            if pair in seen or pair[0] == pair[1]:
                continue
            seen.add(pair)
            alike = np.asarray((vectors @ vectors[pair[0]].T).todense()).ravel()
            for other in np.argsort(-alike, kind="stable")[:50].tolist():
                is_of_kind = not same_head or heads[other] == heads[pair[0]] != ""
                if other != pair[0] and alike[other] > 0 and (pair[0], other) not in together and is_of_kind:
                    found += [(*pair, False, part), (pair[0], other, True, part)]
                    break
    rows, others, same, parts = zip(*found, strict=True)
    return np.array(rows), np.array(others), np.array(same), list(parts)


def _word_vectors(texts: Sequence[str]) -> scipy.sparse.csr_matrix:
    """Unit vectors of texts by their words, weighted by their inverse document frequency (texts, words)."""
    numbers: dict[str, int] = {}
    places = [
        (row, numbers.setdefault(word, len(numbers)))
        for row, text in enumerate(texts)
        for word in sorted({*re.findall(r"[a-z0-9]{3,}", text.lower())})
    ]
    rows, columns = np.array(places, np.int64).reshape(-1, 2).T
    counts = np.bincount(columns, minlength=len(numbers))
    values = np.log(len(texts) / np.maximum(counts, 1))[columns]
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=len(texts)))
    units = values / np.maximum(lengths[rows], 1e-9)
    return scipy.sparse.csr_matrix((units, (rows, columns)), (len(texts), len(numbers)))


@dataclass(frozen=True, slots=True, eq=False)
class RelationStrengths:
    """Strengths of the relations between a catalog's products, as known at a time: for goes-with, substitutes and
    related types, a matrix (N, N) whose row i has the products related to product i."""

    matrices: Sequence[scipy.sparse.csr_matrix]

    @classmethod
    def before(cls, derived: DerivedTables, catalog: RelationCatalog, end: datetime) -> Self:
        """The relations by acts before a time, within the window only."""
        tables = derived.relations_before(end, catalog)
        row_of = {name: row for row, name in enumerate(catalog.ids)}
        pairs, types = tables[RELATIONS], tables[RELATION_TYPES]
        is_substitute = pl.col("kind") == "substitute"
        goes_with = _matrix(pairs.filter(~is_substitute), row_of, "product_id", "other_id")
        instead = _matrix(pairs.filter(is_substitute), row_of, "product_id", "other_id")
        names = {name: place for place, name in enumerate(sorted({*types["type"], *types["other"]}))}
        known = [
            (row, names[name])
            for of_kind in (catalog.types, catalog.categories)
            for row, name in enumerate(of_kind)
            if name in names
        ]
        rows, places = np.array(known, np.int64).reshape(-1, 2).T
        members = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, places)), (len(row_of), len(names)))
        accessories, others = (types.filter((pl.col("kind") == "accessory") == each) for each in (True, False))
        between = _matrix(others, names, "type", "other") + _matrix(accessories, names, "other", "type")
        return cls((goes_with.maximum(goes_with.T).tocsr(), instead, (members @ between @ members.T).tocsr()))

    def features(self, worth: Mapping[int, float]) -> NDArray[np.float32]:
        """Features (6, N) from products on which a shopper acted, given by row with their worth: for each matrix, the
        strongest relation to each product and the sum of all."""
        rows, worths = [*worth], np.array([*worth.values()], np.float32)[:, None]
        found = [matrix[rows].toarray().astype(np.float32) * worths for matrix in self.matrices]
        return np.stack([each for part in found for each in (part.max(axis=0, initial=0), part.sum(axis=0))])

    def of_histories(self, histories: Histories) -> NDArray[np.float32]:
        """The features of the last products of v histories (6, v, N)."""
        made = [self.features(newest_products(_newest_first(histories, each))) for each in range(len(histories))]
        return np.stack(made, axis=1)


def _newest_first(histories: Histories, number: int) -> Iterator[tuple[int, int]]:
    part = histories.of_shopper(number)
    return zip(histories.products[part][::-1].tolist(), histories.kinds[part][::-1].tolist(), strict=True)


def _matrix(table: pl.DataFrame, place_of: Mapping[str, int], one: str, other: str) -> scipy.sparse.csr_matrix:
    """The strengths of pairs of names, as a matrix."""
    rows, columns = ([place_of[name] for name in table[side].to_list()] for side in (one, other))
    shape = (len(place_of), len(place_of))
    return scipy.sparse.coo_matrix((table["strength"].to_numpy(), (rows, columns)), shape).tocsr()


_FEATURE_WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def choose_weights(reached: Callable[[NDArray[np.float32]], float]) -> NDArray[np.float32]:
    """The weights (6,) of the features, optimised one after the other, twice (coordinate ascent)."""
    weights = np.zeros(6, np.float32)
    for place in [*range(6)] * 2:
        tried = [np.where(np.arange(6) == place, weight, weights).astype(np.float32) for weight in _FEATURE_WEIGHTS]
        weights = tried[int(np.argmax([reached(each) for each in tried]))]
    return weights


def relations(
    index: Index,
    truth: Annotated[Path | None, typer.Option(help="The demo store's truth.json.")] = None,
    lines: Annotated[list[Path], typer.Option(help="Purchases: those of dev, then those of test.")] = [],  # noqa: B006
    days: Annotated[
        int, typer.Option(help="Instead, measures orders by the products viewed next, over this number of days.")
    ] = 0,
    sample: Annotated[int, typer.Option(help="Instead, prints this number of random relations of texts.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
) -> None:
    """Measure how well complements and substitutes are separated."""
    if sample:
        emit(_text_sample(index, sample, seed), _show_lines)
        return
    if days:
        emit(related_orders(index, days), _show_orders)
        return
    catalog = RelationCatalog.of_version(Store(index))
    cases: dict[str, tuple[Ints, Ints, NDArray[np.bool_], list[str]]] = {}
    if truth:
        cases["demo"] = demo_pairs(index, catalog, truth)
    if lines:
        decoder = msgspec.json.Decoder(_Purchases)
        given = [[decoder.decode(line) for line in gzip.decompress(path.read_bytes()).splitlines()] for path in lines]
        for name, same_head in (("next or nearest of its kind", True), ("next or nearest", False)):
            cases[name] = purchase_pairs(index, catalog, given, same_head=same_head)
    if truth:
        emit(goes_with_figures(index, truth), _show_lines)
    figures = [each for name, case in cases.items() for each in measure(catalog, name, *case)]
    emit(figures, _show)


def measure(
    catalog: RelationCatalog, name: str, rows: Ints, others: Ints, same: NDArray[np.bool_], parts: Sequence[str]
) -> list[RelationFigures]:
    """The AUC of the alikeness and, as a baseline, of only the cosine, on each part."""
    one, other = (whole_floats(catalog.vectors[each]) for each in (rows, others))
    cosines = np.einsum("ij,ij->i", one, other)
    scores: dict[str, NDArray[np.floating]] = {"alikeness": catalog.alikeness(rows, others), "cosine": cosines}
    found = []
    for part in ("dev", "test"):
        here = np.array(parts) == part
        for score, values in scores.items():
            label = same[here]
            figures = len(label), int(label.sum()), area(values[here], label)
            found.append(RelationFigures(score, f"{name}, {part}", *figures))
    return found


def _text_sample(index: Path, count: int, seed: int) -> list[str]:
    """Random relations from texts and attributes, with the titles of both products and the text."""
    store = Store(index)
    products = ProductStore(store.version_folder(store.current()))
    found = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER).relations.filter(pl.col("detail") != "")
    ordered = found.sort("kind", "product_id", "other_id").sample(min(count, found.height), seed=seed, shuffle=True)
    lines = [f"{found.height:,} relations of texts and attributes"]
    for kind, one, other, detail in ordered.select("kind", "product_id", "other_id", "detail").iter_rows():
        rows = [products.row_of(name) for name in (one, other)]
        titles = [name if row is None else products[row].title for name, row in zip((one, other), rows, strict=True)]
        lines.append(f"{titles[0]} | {kind} | {titles[1]} | {detail}")
    return lines


def _show_lines(lines: Sequence[str]) -> None:
    say("\n".join(lines))


_PAUSE = timedelta(minutes=30)
_DEPTH = 10
SIMILAR, SUBSTITUTES_FIRST = "similar products", "substitutes, then similar products"


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """The results of an order of related products."""

    order: str
    cases: str
    views: int
    recall: float
    """R@10 of the one product."""
    ndcg: float
    """nDCG@10."""
    difference: Difference | None
    """The difference in nDCG@10 from similar products, by bootstrap over shoppers."""


def related_orders(index: Path, days: int) -> list[OrderFigures]:
    """Similar products, unchanged and with the known substitutes first, for each product that a shopper viewed in the
    last days: the rank of the product that the same shopper viewed, or put into the cart or bought, next within half an
    hour. Relations and co-views are those from before these days."""
    derived = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER)
    acts = derived.acts()
    cut = derived.window.last - timedelta(days=days)
    tables = derived.relations_before(cut, RelationCatalog.of_version(Store(index)))
    known = relations_of(tables["neighbours"], tables[RELATIONS], tables[RELATION_TYPES])
    orders: dict[str, dict[str, list[str]]] = {SIMILAR: {}, SUBSTITUTES_FIRST: {}}
    found = []
    with serving_snapshot(index) as snapshot:
        views = acts.filter((pl.col("time") >= cut) & pl.col("kind").is_in(VIEWS))
        for product in views["product_id"].unique().to_list():
            if snapshot.products.row_of(product) is not None:
                near = [hit.product.id for hit in similar_products(snapshot, product, _DEPTH, "", coviews=known).hits]
                instead = [other for other, each in known.related(product) if each.kind is RelationKind.SUBSTITUTE]
                orders[SIMILAR][product] = near
                orders[SUBSTITUTES_FIRST][product] = [*dict.fromkeys([*instead, *near])][:_DEPTH]
    for cases, kinds in (("viewed next", VIEWS), ("chosen next", ("cart", "purchase"))):
        pairs = next_products(views, acts.filter((pl.col("time") >= cut) & pl.col("kind").is_in(kinds)))
        pairs = pairs.filter(pl.col("product_id").is_in([*orders[SIMILAR]]))
        shopper = pairs["shopper"].rank("dense").to_numpy().astype(np.int64) - 1
        gains = {}
        for name, lists in orders.items():
            ranks = [
                lists[one].index(other) if other in lists[one] else -1
                for one, other in pairs.select("product_id", "next").iter_rows()
            ]
            places = np.array(ranks)
            gains[name] = np.where(places >= 0, 1 / np.log2(np.maximum(places, 0) + 2.0), 0.0)
            of_shopper, total = query_means(gains[name], shopper, int(shopper.max()) + 1)
            before, _ = query_means(gains[SIMILAR], shopper, int(shopper.max()) + 1)
            less = None if name == SIMILAR else paired_bootstrap(of_shopper, before, total)
            hits, mean = float((places >= 0).mean()), float(gains[name].mean())
            found.append(OrderFigures(name, cases, len(pairs), hits, mean, less))
    return found


def next_products(views: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """The first other product of `later` acts within half an hour after each view: shopper, product_id, next."""
    pairs = views.with_row_index("view").join(later.rename({"product_id": "next", "time": "then"}), on="shopper")
    is_next = (pl.col("then") > pl.col("time")) & (pl.col("then") <= pl.col("time") + _PAUSE)
    pairs = pairs.filter(is_next & (pl.col("next") != pl.col("product_id"))).sort("view", "then", "next")
    return pairs.unique("view", keep="first", maintain_order=True).select("shopper", "product_id", "next")


def _show_orders(figures: Sequence[OrderFigures]) -> None:
    for each in figures:
        less = ""
        if (found := each.difference) is not None:
            less = f", {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        reached = f"R@10 {each.recall:.4f}, nDCG@10 {each.ndcg:.4f}{less}"
        say(f"{each.cases} ({each.views:,} views), {each.order}: {reached}")


def _show(figures: Sequence[RelationFigures]) -> None:
    for each in figures:
        counts = f"{each.pairs:,} pairs, {each.substitutes:,} substitutes"
        say(f"{each.cases}: {each.score} AUC {each.auc:.3f} ({counts})")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(relations)
    run(app)
