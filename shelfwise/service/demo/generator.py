"""Writer of the demo store's files; equal arguments give equal bytes."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import msgspec

from shelfwise.retrieval.store.files import write_durably
from shelfwise.service.demo.catalog import DATA, Catalog, make_catalog
from shelfwise.service.demo.looks import Look, look_of, make_look_queries, picture_of
from shelfwise.service.demo.queries import JudgedQuery, QueryClass, make_queries
from shelfwise.service.demo.shoppers import ETA, FIRST_DAY, plant_fraud, simulate, stock_shelf, to_events

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
    times = ("created", "updated")
    moved = [
        replace(each.product, **{name: getattr(each.product, name) + later for name in times})
        for each in catalog.products
    ]
    if pictures:
        _write_pictures(files, catalog, seed)
        moved = [replace(each, images=(f"file:pictures/{each.id}.webp",)) for each in moved]
    _write_lines(files.products, map(msgspec.json.encode, moved))
    parts = {"train": files.judgments_train, "dev": files.judgments_dev, "test": files.judgments_test}
    _write_judgments(queries, catalog, {"": files.judgments, **parts})
    rows = (f"{q.text}\t{q.label.value}\t{q.language}\t{q.split}\n" for q in (entry.query for entry in queries))
    write_durably(files.queries, ("query\tclass\tlanguage\tsplit\n" + "".join(rows)).encode())
    shelf = stock_shelf(catalog, queries, seed)
    fraud = plant_fraud(catalog, shelf, seed, sessions) if sessions else ()
    actions = simulate(catalog, shelf, seed, sessions) + [action for plot in fraud for action in plot.actions]
    _write_lines(files.events, (msgspec.json.encode(event) for event in to_events(actions, catalog, later)))
    truth = {"seed": seed, "eta": ETA, "fraud": {plot.scheme: plot.truth for plot in fraud}}
    write_durably(files.truth, msgspec.json.encode(truth) + b"\n")
    for path in (files.synonyms, files.settings):
        write_durably(path, (DATA / path.name).read_bytes())
    if pictures:
        text = f'\n[pictures]\nfolder = "{files.settings.parent.resolve()}"\n'
        write_durably(files.settings, (DATA / files.settings.name).read_bytes() + text.encode())
    counts = {"products": products, "queries": len(queries), "sessions": sessions, "events": len(actions)}
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


def _write_pictures(files: DemoFiles, catalog: Catalog, seed: int) -> None:
    """Writes the pictures, and the judged queries about looks."""
    files.pictures.mkdir(exist_ok=True)
    looks = dict[str, Look]()
    for item in catalog.products:
        looks[item.product.id] = look = look_of(item, seed)
        (files.pictures / f"{item.product.id}.webp").write_bytes(picture_of(item, look, seed))
    parts = {"dev": files.looks_dev, "test": files.looks_test}
    _write_judgments(make_look_queries(catalog, looks, seed), catalog, parts)


def _write_judgments(queries: tuple[JudgedQuery, ...], catalog: Catalog, parts: Mapping[str, Path]) -> None:
    """Writes the judgments of each split to its file, "" for all splits."""
    for name, path in parts.items():
        lines = ["query\tproduct_id\tgrade\n"]
        for entry in queries:
            judged = zip(entry.judged.positions.tolist(), entry.judged.grades.tolist(), strict=True)
            if name in ("", entry.query.split):
                lines += (f"{entry.query.text}\t{catalog.products[at].product.id}\t{grade}\n" for at, grade in judged)
        write_durably(path, "".join(lines).encode())


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Writes gzipped lines; without name and time in the gzip header, equal content gives equal bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=packed, mtime=0) as file:
        file.writelines(line + b"\n" for line in lines)
    write_durably(path, packed.getvalue())
