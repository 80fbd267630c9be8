"""Versions of an index without feeds and without a model: each product's vector is drawn from its text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from shelfwise.indexer.embedding_cache import key_array, text_key
from shelfwise.retrieval.encoders.folder import SPEC_FILE
from shelfwise.retrieval.filters.schema import FieldCounter
from shelfwise.retrieval.index.faiss import VectorIndexKind, build_index
from shelfwise.retrieval.index.tantivy import TantivyBuilder
from shelfwise.retrieval.index.vectors import Vectors, create_vectors
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import seal_folder
from shelfwise.retrieval.store.manifest import (
    FIELDS_FILE,
    GROUPS_FILE,
    KEYWORD_FOLDER,
    MANIFEST,
    SCHEMA,
    SYNONYMS_FILE,
    TEXT_KEYS_FILE,
    TYPES_FOLDER,
    VECTORS_FOLDER,
    Manifest,
    write_fields,
)
from shelfwise.retrieval.store.products import RECIPE, ProductWriter, encoder_text, keyword_document, product_to_json
from shelfwise.retrieval.store.signals import COLUMNS, SIGNALS_FILE, signal_row
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.analysis import Analyzer, Synonyms
from shelfwise.retrieval.text.product_types import ProductTypes

DIMENSION = 16


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """Options of a version that differ from the usual ones."""

    encoder: str = "encoder-1"
    synonyms: str = ""
    kind: VectorIndexKind | None = None
    created: str = "2025-01-01T00:00:00+00:00"
    report: dict[str, object] = field(default_factory=dict)


def vector_of(text: str) -> Vectors:
    """The unit vector of a text (DIMENSION,)."""
    drawn = np.random.default_rng(int.from_bytes(text_key(text)[:8], "little")).standard_normal(DIMENSION)
    return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float32)


def write_products(products: Iterable[Product], folder: Path) -> int:
    """Writes products in the order of their ids and returns their number."""
    writer = ProductWriter(folder)
    for product in products:
        writer.add(product.id.encode(), product_to_json(product))
    return writer.finish()


def publish_products(root: Path, products: Sequence[Product], made: VersionSpec | None = None) -> str:
    """Publishes a version of these products and returns its name."""
    store, made = Store(root), made or VersionSpec()
    ordered = sorted(products, key=lambda product: product.id.encode())
    synonyms = Synonyms.parse(made.synonyms.splitlines())
    analyzer = Analyzer(synonyms)
    with store.lock():
        building, name = store.create_build_folder(), store.next_version()
        _write(building, ordered, analyzer, made.kind)
        (building / SYNONYMS_FILE).write_text(synonyms.text, "utf-8")
        model = store.encoders / made.encoder
        model.mkdir(parents=True, exist_ok=True)
        (model / SPEC_FILE).write_text("{}")
        seal_folder(model, {})
        manifest = Manifest(
            schema=SCHEMA,
            version=name,
            created=made.created,
            products=len(ordered),
            catalog="catalog",
            analyzer=analyzer.identity,
            encoder=made.encoder,
            encoder_name=made.encoder.title(),
            dimension=DIMENSION,
            vectors=(made.kind or VectorIndexKind.EXACT).value,
            recipe=RECIPE,
            report=made.report,
        )
        store.publish(building, manifest)
    return name


def _write(folder: Path, products: Sequence[Product], analyzer: Analyzer, kind: VectorIndexKind | None) -> None:
    counter = FieldCounter()
    for product in products:
        counter.add(product)
    catalog = counter.catalog()
    write_fields(catalog, folder / FIELDS_FILE)
    write_products(products, folder)
    builder = TantivyBuilder(folder / KEYWORD_FOLDER, catalog)
    builder.add(keyword_document(row, product, analyzer, catalog) for row, product in enumerate(products))
    builder.finish()
    texts = list(map(encoder_text, products))
    vectors = create_vectors(folder / VECTORS_FOLDER, len(products), DIMENSION)
    for row, text in enumerate(texts):
        vectors[row] = vector_of(text)
    build_index(folder / VECTORS_FOLDER, kind)
    np.save(folder / TEXT_KEYS_FILE, key_array([text_key(text) for text in texts]))
    np.save(folder / GROUPS_FILE, np.arange(len(products), dtype=np.int32))
    no_types = np.full(len(products), -1, np.int32)
    ProductTypes.of((), no_types, no_types).write(folder / TYPES_FOLDER)
    np.save(folder / SIGNALS_FILE, np.array([signal_row(product) for product in products]).reshape(-1, len(COLUMNS)))


def reseal(root: Path, name: str, edit: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> None:
    """Seals a version that a test changed again, and applies `edit` to its manifest."""
    folder = Store(root).version_folder(name)
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    seal_folder(folder, {MANIFEST: edit(manifest)})
