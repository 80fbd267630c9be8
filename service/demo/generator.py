"""Writes the demo store's files, each atomically, the same bytes for the same arguments."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from service.demo.catalog import Catalog, make_catalog
from service.demo.queries import JudgedQuery, QueryClass, make_queries
from service.demo.shoppers import Truth, plant_fraud, simulate, stock_shelf, tell_truth, to_events

_JUDGMENTS_HEADER = b"query\tproduct_id\tgrade\n"
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where the files of a demo store lie; the README among them says what each one holds."""

    products: Path
    judgments: Path
    judgments_train: Path
    judgments_dev: Path
    judgments_test: Path
    queries: Path
    events: Path
    truth: Path
    synonyms: Path
    readme: Path


def write_demo_store(folder: Path | str, *, seed: int = 7, products: int = 2000, sessions: int = 3000) -> DemoFiles:
    """Makes a demo store in `folder` (made if need be) and returns its files.

    `products` is exact; `sessions` counts honest sessions, some of planted fraud come on top.
    Raises ValueError when there are fewer products than types, or a number is negative.
    """
    if seed < 0 or sessions < 0:
        raise ValueError(f"seed is {seed} and sessions is {sessions}: neither may be negative")
    files = _files(Path(folder))
    catalog = make_catalog(seed, products)
    queries = make_queries(catalog, seed)
    files.readme.parent.mkdir(parents=True, exist_ok=True)
    _write_lines(files.products, (msgspec.json.encode(item.product) for item in catalog.products))
    _write_judgments(files, queries, catalog)
    _write(files.queries, _queries_table(queries))
    events = _write_traffic(files, catalog, queries, _Scale(seed, sessions))
    _write(files.synonyms, SYNONYMS.encode())
    classes = ", ".join(label.value for label in QueryClass)
    text = README.format(
        seed=seed, products=products, queries=len(queries), sessions=sessions, events=events, classes=classes
    )
    _write(files.readme, text.encode())
    return files


def _files(folder: Path) -> DemoFiles:
    return DemoFiles(
        products=folder / "products.jsonl.gz",
        judgments=folder / "judgments.tsv",
        judgments_train=folder / "judgments.train.tsv",
        judgments_dev=folder / "judgments.dev.tsv",
        judgments_test=folder / "judgments.test.tsv",
        queries=folder / "queries.tsv",
        events=folder / "events.jsonl.gz",
        truth=folder / "truth.json",
        synonyms=folder / "synonyms.txt",
        readme=folder / "README.md",
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    seed: int
    sessions: int


def _write_traffic(files: DemoFiles, catalog: Catalog, queries: tuple[JudgedQuery, ...], scale: _Scale) -> int:
    """Plays and writes the events and the truth behind them; returns how many events there are."""
    shelf = stock_shelf(catalog, queries, scale.seed)
    traffic = simulate(catalog, shelf, scale.seed, scale.sessions)
    fraud = plant_fraud(catalog, shelf, scale.seed, scale.sessions) if scale.sessions else ()
    actions = traffic.actions + [action for plot in fraud for action in plot.actions]
    _write_lines(files.events, (msgspec.json.encode(event) for event in to_events(actions, catalog)))
    _write(files.truth, _truth_text(tell_truth(scale.seed, catalog, shelf, traffic, fraud)))
    return len(actions)


def _truth_text(truth: Truth) -> bytes:
    return msgspec.json.encode(truth) + b"\n"


def _write_judgments(files: DemoFiles, queries: tuple[JudgedQuery, ...], catalog: Catalog) -> None:
    ids = [item.product.id for item in catalog.products]
    rows = [(entry.query.split, _judgment_rows(entry, ids)) for entry in queries]
    _write(files.judgments, _JUDGMENTS_HEADER + b"".join(text for _, text in rows))
    parts = (("train", files.judgments_train), ("dev", files.judgments_dev), ("test", files.judgments_test))
    for name, path in parts:
        _write(path, _JUDGMENTS_HEADER + b"".join(text for split, text in rows if split == name))


def _judgment_rows(entry: JudgedQuery, ids: list[str]) -> bytes:
    text = entry.query.text
    pairs = zip(entry.judged.positions.tolist(), entry.judged.grades.tolist(), strict=True)
    return "".join(f"{text}\t{ids[position]}\t{grade}\n" for position, grade in pairs).encode()


def _queries_table(queries: tuple[JudgedQuery, ...]) -> bytes:
    rows = (f"{q.text}\t{q.label.value}\t{q.language}\t{q.split}\n" for q in (entry.query for entry in queries))
    return ("query\tclass\tlanguage\tsplit\n" + "".join(rows)).encode()


def _write(path: Path, content: bytes) -> None:
    partial = _partial(path)
    partial.write_bytes(content)
    partial.replace(path)


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Gzipped lines; no name and no time in the gzip header, so that equal content gives equal bytes."""
    partial = _partial(path)
    with (
        partial.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=raw, mtime=0) as packed,
    ):
        for line in lines:
            packed.write(line + b"\n")
    partial.replace(path)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


# The demo store's texts for people: its README, and the synonyms that the demo uses.

SYNONYMS = """\
# Solr's format: words that mean the same, or words => what they are read as.
sofa, couch, settee
wrench, spanner
frying pan, skillet
flashlight, torch
backpack, rucksack, knapsack
sunscreen, sunblock
sneakers, trainers => running shoes
pruning shears, secateurs
移动电源, 充电宝
洁面乳, 洗面奶
螺丝刀, 改锥, 起子
插线板, 排插
鼠标, 滑鼠
"""

README = """\
# The demo store

Made by `shelfwise demo` from Shelfwise's own grammar: every brand, product, query and shopper is invented.
Seed {seed}, {products} products, {queries} queries, {sessions} honest sessions, {events} events.
The same numbers and the same seed give the same bytes.

| file | what it holds |
|---|---|
| products.jsonl.gz | the catalog, one product a line, about 70% English (USD) and 30% Chinese (CNY) |
| judgments.tsv | query, product_id, grade: 3 the right type and every wish granted, 2 one wish missed, 1 more missed \
or a related type (an accessory, the same thing in the other language), 0 a sample of the rest |
| judgments.train.tsv, judgments.dev.tsv, judgments.test.tsv | the same, split by a hash of the query |
| queries.tsv | query, class, language, split; the classes are {classes} |
| events.jsonl.gz | what shoppers did: impressions, clicks, carts and purchases, in order of time; a category page \
that was browsed has an empty query |
| truth.json | what made the events: examination by position, attractiveness of each query's products, tastes, the \
products' types and lines, and the planted fraud |
| synonyms.txt | a handful of synonyms in Solr's format; most of what the synonym queries need is left out |

Nothing may learn from truth.json or from the dev and test judgments: they are there to measure with.
"""
