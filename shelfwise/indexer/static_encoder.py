"""Static encoders of a catalog: distilled from a teacher on a sample of its texts and on title queries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash

from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.encoders.weights import find_model
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.index.vectors import Vectors
from shelfwise.retrieval.memory import require_memory
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import file_bytes
from shelfwise.retrieval.store.products import ProductStore, encoder_text

STATIC = "static"
"""The name that requests a static encoder; "static:NAME" also names its teacher."""
MAX_PRODUCTS = 20_000
"""The number of products that are sampled."""
_CHUNK = 512
_BYTES, _TIMES = 1_100_000_000, 5
"""The memory of a distillation: bytes for torch and the texts, and bytes for each byte of the teacher's weights."""
_RECIPE = "5"
"""Changing it makes tables of older programs again."""


def teacher_name(encoder: str) -> str | None:
    """The teacher that an encoder's name requests, empty for the default one; None if the name requests none."""
    prefix, colon, name = encoder.partition(":")
    if prefix != STATIC or (colon and not name):
        return None
    return name


def distil_encoder(
    teacher: Encoder,
    name: str,
    products: ProductStore,
    cache: Path,
    progress: Progress,
    *,
    dimension: int | None = None,
) -> Encoder:
    """A static encoder of a catalog, distilled from the teacher `name` once for the same texts, and kept in `cache`.

    `dimension` cuts its vectors to that many columns. Raises SettingError for a teacher that is a table itself,
    EncoderError or EncoderUnavailableError if it fails, StoreError if memory does not suffice.
    """
    source = find_model(name, cache)
    if source.is_table:
        raise SettingError(f"{name} is already a table: use it as the encoder, without {STATIC}:")
    dice = random.Random(0)  # noqa: S311 - the same sample each time
    rows = sorted(dice.sample(range(len(products)), min(len(products), MAX_PRODUCTS)))
    sample = [products[row] for row in rows]
    texts = [encoder_text(product) for product in sample]
    queries = made_queries(sample, dice)
    key = xxhash.xxh3_64_hexdigest("\0".join((_RECIPE, teacher.identity, *texts)).encode("utf-8", "surrogatepass"))
    folder = cache / "distilled" / key / f"{STATIC}-{source.name.replace('/', '--')}"
    if not folder.is_dir():
        weights = file_bytes(source.folder.rglob("*.safetensors"))
        require_memory(_BYTES + _TIMES * weights, f"a table is distilled from {name} with", "a smaller model")
        with optional_imports():
            from shelfwise.retrieval.encoders.distillation import distil

        progress.begin("teach", len(texts) + len(queries), "texts")
        vectors = teacher.encode_products(texts, progress.advance)
        vectors = np.vstack([vectors, _encode_queries(teacher, queries, progress)])
        progress.end(f"vectors of the teacher, {name}")
        distil(source, [*texts, *queries], vectors, teacher.encode_products, folder, progress)
    return open_encoder(str(folder), cache=cache, dimension=dimension)


def _encode_queries(teacher: Encoder, queries: Sequence[str], progress: Progress) -> Vectors:
    vectors = np.empty((len(queries), teacher.dimension), np.float32)
    for start in range(0, len(queries), _CHUNK):
        chunk = queries[start : start + _CHUNK]
        vectors[start : start + len(chunk)] = teacher.encode_queries(chunk)
        progress.advance(len(chunk))
    return vectors


def made_queries(products: Sequence[Product], dice: random.Random) -> list[str]:
    """A query for each product: one to four neighbouring words of its title."""
    queries = []
    for product in products:
        words = product.title.split()
        count = min(len(words), dice.randint(1, 4))
        start = dice.randint(0, len(words) - count)
        queries.append(" ".join(words[start : start + count]))
    return queries
