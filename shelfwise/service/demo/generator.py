"""Writer of the demo store's files; equal arguments give equal bytes."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import msgspec

from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import write_durably
from shelfwise.service.demo.catalog import Catalog, make_catalog
from shelfwise.service.demo.drawings import Look
from shelfwise.service.demo.grammar import DATA
from shelfwise.service.demo.looks import look_of, make_look_queries, picture_of
from shelfwise.service.demo.queries import JudgedQuery, QueryClass, make_queries
from shelfwise.service.demo.shoppers import FIRST_DAY, collect_truth, plant_fraud, simulate, stock_shelf, to_events

_JUDGMENTS_HEADER = b"query\tproduct_id\tgrade\n"
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Paths of a demo store's files; its README describes each one."""

    products: Path
    judgments: Path
    judgments_train: Path
    judgments_dev: Path
    judgments_test: Path
    queries: Path
    events: Path
    truth: Path
    synonyms: Path
    settings: Path
    readme: Path

    @property
    def pictures(self) -> Path:
        """Folder of the product pictures, if requested."""
        return self.readme.with_name("pictures")

    @property
    def looks_dev(self) -> Path:
        """Judged queries about looks, dev split, if pictures are requested."""
        return self.readme.with_name("looks.dev.tsv")

    @property
    def looks_test(self) -> Path:
        """Judged queries about looks, held-out test split."""
        return self.readme.with_name("looks.test.tsv")


def write_demo_store(
    folder: Path | str,
    *,
    seed: int = 7,
    products: int = 2000,
    sessions: int = 3000,
    day: date = FIRST_DAY,
    pictures: bool = False,
) -> DemoFiles:
    """Writes a demo store into `folder`, created if needed, and returns its files. With `pictures`, every product has
    a picture, and there are queries about looks.

    `sessions` counts honest sessions; planted fraud adds a few. Events begin on `day` and end six weeks later.
    Raises ValueError for fewer products than types or a negative number.
    """
    if seed < 0 or sessions < 0:
        raise ValueError(f"seed is {seed} and sessions is {sessions}: neither may be negative")
    files = _files(Path(folder))
    catalog = make_catalog(seed, products)
    later = day - FIRST_DAY
    queries = make_queries(catalog, seed)
    files.readme.parent.mkdir(parents=True, exist_ok=True)
    items = [replace(item, product=_later(item.product, later)) for item in catalog.products]
    if pictures:
        _write_pictures(files, catalog, seed)
        items = [replace(each, product=replace(each.product, images=(_address(each.product),))) for each in items]
    _write_lines(files.products, (msgspec.json.encode(item.product) for item in items))
    _write_judgments(files, queries, catalog)
    write_durably(files.queries, _queries_table(queries))
    events = _write_traffic(files, catalog, queries, seed, sessions, later)
    for path in (files.synonyms, files.settings):
        write_durably(path, (DATA / path.name).read_bytes())
    if pictures:
        text = f'\n[pictures]\nfolder = "{files.settings.parent.resolve()}"\n'
        write_durably(files.settings, (DATA / files.settings.name).read_bytes() + text.encode())
    counts = {"products": products, "queries": len(queries), "sessions": sessions, "events": events}
    classes = ", ".join(label.value for label in QueryClass)
    text = (DATA / "README.md").read_text("utf-8").format(seed=seed, classes=classes, **counts)
    write_durably(files.readme, text.encode())
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
        settings=folder / "shelfwise.toml",
        readme=folder / "README.md",
    )


def _address(product: Product) -> str:
    """Address of a product's picture, relative to the store's folder."""
    return f"file:pictures/{product.id}.webp"


def _write_pictures(files: DemoFiles, catalog: Catalog, seed: int) -> None:
    """Writes the pictures, and the judged queries about looks."""
    files.pictures.mkdir(exist_ok=True)
    looks = dict[str, Look]()
    for item in catalog.products:
        looks[item.product.id] = look = look_of(item, seed)
        (files.pictures / f"{item.product.id}.webp").write_bytes(picture_of(item, look, seed))
    queries, ids = make_look_queries(catalog, looks, seed), [item.product.id for item in catalog.products]
    for split, path in (("dev", files.looks_dev), ("test", files.looks_test)):
        judged = (_judgment_rows(each, ids) for each in queries if each.query.split == split)
        write_durably(path, _JUDGMENTS_HEADER + b"".join(judged))


def _write_traffic(
    files: DemoFiles, catalog: Catalog, queries: tuple[JudgedQuery, ...], seed: int, sessions: int, later: timedelta
) -> int:
    """Writes the simulated events and the truth file; returns the number of events."""
    shelf = stock_shelf(catalog, queries, seed)
    traffic = simulate(catalog, shelf, seed, sessions)
    fraud = plant_fraud(catalog, shelf, seed, sessions) if sessions else ()
    actions = traffic.actions + [action for plot in fraud for action in plot.actions]
    _write_lines(files.events, (msgspec.json.encode(event) for event in to_events(actions, catalog, later)))
    write_durably(files.truth, msgspec.json.encode(collect_truth(seed, fraud)) + b"\n")
    return len(actions)


def _later(product: Product, later: timedelta) -> Product:
    times = {name: getattr(product, name) + later for name in ("created", "updated")}
    return replace(product, **times)


def _write_judgments(files: DemoFiles, queries: tuple[JudgedQuery, ...], catalog: Catalog) -> None:
    ids = [item.product.id for item in catalog.products]
    rows = [(entry.query.split, _judgment_rows(entry, ids)) for entry in queries]
    write_durably(files.judgments, _JUDGMENTS_HEADER + b"".join(text for _, text in rows))
    parts = (("train", files.judgments_train), ("dev", files.judgments_dev), ("test", files.judgments_test))
    for name, path in parts:
        write_durably(path, _JUDGMENTS_HEADER + b"".join(text for split, text in rows if split == name))


def _judgment_rows(entry: JudgedQuery, ids: list[str]) -> bytes:
    text = entry.query.text
    pairs = zip(entry.judged.positions.tolist(), entry.judged.grades.tolist(), strict=True)
    return "".join(f"{text}\t{ids[position]}\t{grade}\n" for position, grade in pairs).encode()


def _queries_table(queries: tuple[JudgedQuery, ...]) -> bytes:
    rows = (f"{q.text}\t{q.label.value}\t{q.language}\t{q.split}\n" for q in (entry.query for entry in queries))
    return ("query\tclass\tlanguage\tsplit\n" + "".join(rows)).encode()


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Writes gzipped lines; without name and time in the gzip header, equal content gives equal bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=packed, mtime=0) as file:
        file.writelines(line + b"\n" for line in lines)
    write_durably(path, packed.getvalue())
