"""Complements and substitutes told apart by `RelationCatalog.alikeness`: AUC over pairs of products.

    python -m benchmarks.relations demo-store/index --truth demo-store/truth.json
    python -m benchmarks.relations amazon-index --lines valid.jsonl.gz --lines test.jsonl.gz

Of the demo store the truth is known: a shopper met both products on one day, and they are of one type (substitutes)
or of related types (complements). Of purchases without types there is a proxy only: the product that a shopper bought
next against the one whose description is nearest to the last product's, if nobody bought both.
"""

from __future__ import annotations

import gzip
import itertools
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
import scipy
import typer
from numpy.typing import NDArray

from rerank.sessions.relations import RelationCatalog
from rerank.sessions.tables import open_derived
from retrieval.errors import InputError
from retrieval.index.vectors import whole_floats
from retrieval.store.manifest import EVENTS_FOLDER
from retrieval.store.products import ProductStore
from retrieval.store.versions import Store
from service.cli.main import run
from service.cli.options import Index
from service.cli.output import emit, say
from service.demo.grammar import GRAMMARS
from service.events.event_log import DERIVED_FOLDER

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
    """Pairs that a shopper met on one day, whether they are of one type, and the part by their types: half of these
    are "dev", the others "test"."""
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


def purchase_pairs(
    root: Path, catalog: RelationCatalog, lines: Sequence[Sequence[_Purchases]], *, same_head: bool
) -> tuple[Ints, Ints, NDArray[np.bool_], list[str]]:
    """Of each line the last product with the next one (a complement, by proxy), and with the one whose description is
    nearest among those that nobody bought with it (a substitute, by proxy); with `same_head` of the same kind by the
    head of its type."""
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


def relations(
    index: Index,
    truth: Annotated[Path | None, typer.Option(help="The demo store's truth.json.")] = None,
    lines: Annotated[list[Path], typer.Option(help="Purchases: those of dev, then those of test.")] = [],  # noqa: B006
) -> None:
    """Measure how well complements and substitutes are told apart."""
    catalog = RelationCatalog.of_version(Store(index))
    cases: dict[str, tuple[Ints, Ints, NDArray[np.bool_], list[str]]] = {}
    if truth:
        cases["demo"] = demo_pairs(index, catalog, truth)
    if lines:
        decoder = msgspec.json.Decoder(_Purchases)
        given = [[decoder.decode(line) for line in gzip.decompress(path.read_bytes()).splitlines()] for path in lines]
        for name, same_head in (("next or nearest of its kind", True), ("next or nearest", False)):
            cases[name] = purchase_pairs(index, catalog, given, same_head=same_head)
    figures = [each for name, case in cases.items() for each in measure(catalog, name, *case)]
    emit(figures, _show)


def measure(
    catalog: RelationCatalog, name: str, rows: Ints, others: Ints, same: NDArray[np.bool_], parts: Sequence[str]
) -> list[RelationFigures]:
    """The AUC of the alikeness and, as a baseline, of the cosine alone, on each part."""
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


def _show(figures: Sequence[RelationFigures]) -> None:
    for each in figures:
        counts = f"{each.pairs:,} pairs, {each.substitutes:,} substitutes"
        say(f"{each.cases}: {each.score} AUC {each.auc:.3f} ({counts})")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(relations)
    run(app)
