"""A small catalog with drawn pictures whose looks no text names, and its index."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shelfwise.indexer.build import RebuildOptions, RebuildReport, rebuild
from shelfwise.indexer.pictures import PictureOptions
from shelfwise.retrieval.records import Product
from shelfwise.service.demo.catalog import PICTURE_MODEL
from shelfwise.service.demo.looks import DOTS, PLAIN, STRIPES, Look, draw, to_webp
from tests.catalogs import write_feed
from tests.conftest import ENCODER

KINDS = ("T-Shirt", "Backpack", "Coffee Mug")
LOOKS = tuple(Look(colour, pattern) for colour in ("Red", "Blue") for pattern in (PLAIN, STRIPES, DOTS))


def products() -> list[Product]:
    """A product of each kind and look, in this order; texts do not distinguish products of a kind."""
    names = [f"{kind[0].lower()}{number}" for kind in KINDS for number in range(len(LOOKS))]
    kinds = [kind for kind in KINDS for _ in LOOKS]
    return [
        Product(name, f"{kind} {name.upper()}", images=(f"file:{name}.webp",))
        for name, kind in zip(names, kinds, strict=True)
    ]


def picture_of(kind: str, look: Look, seed: int = 0) -> bytes:
    return to_webp(draw((kind,), look, np.random.default_rng(seed)))


def write_pictures(folder: Path) -> None:
    folder.mkdir()
    files = iter(products())
    for kind in KINDS:
        for number, look in enumerate(LOOKS):
            (folder / next(files).images[0].removeprefix("file:")).write_bytes(picture_of(kind, look, number))


def build(folder: Path, cache: Path) -> RebuildReport:
    """Builds the index in `folder`, and writes the pictures next to it."""
    write_pictures(folder / "pictures")
    feed = write_feed(folder / "feed.jsonl", products())
    pictures = PictureOptions(str(PICTURE_MODEL), folder / "pictures")
    return rebuild(
        folder / "index",
        RebuildOptions((str(feed),), cache, encoder=ENCODER, runtime="onnx-int8", workers=1, pictures=pictures),
    )
