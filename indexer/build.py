"""The rebuild: feeds in, a published version out. Read, check, encode, index, publish; nothing half done ever
serves."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import numpy as np

from indexer.feeds import Noted, Rejected, read_feeds
from indexer.lines import feed_size
from indexer.mapping import FeedMapping
from indexer.spool import Spool
from indexer.vectors import ChunkFolder, KnownVectors, encode_missing, key_array, text_key
from retrieval.analysis import Analyzer
from retrieval.arrays import load_array
from retrieval.encoder import Encoder
from retrieval.encoders import open_encoder, store_encoder
from retrieval.errors import EmptyCatalogError, StoreError
from retrieval.fields import FieldCatalog
from retrieval.keyword import KeywordDocument
from retrieval.keyword_tantivy import TantivyBuilder
from retrieval.layout import FIELDS_FILE, KEYWORD_FOLDER, SYNONYMS_FILE, TEXT_KEYS_FILE, VECTORS_FOLDER, write_fields
from retrieval.product_store import write_products
from retrieval.product_text import RECIPE, encoder_text, keyword_document
from retrieval.published import SCHEMA, Manifest, Store
from retrieval.synonyms import Synonyms
from retrieval.vectors import measure_background
from retrieval.vectors_faiss import VECTORS_FILE, build_index, create_vectors
from retrieval.weights import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL

REJECTED_FILE = "rejected.jsonl"
CHINESE_SHARE = 0.01
"""From this share of Chinese titles on, a catalog gets the multilingual encoder unless one is named."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """What to build, and from what."""

    feeds: tuple[str, ...]
    cache: Path
    """Where exported models are kept between rebuilds of any index."""
    mapping: FeedMapping = field(default_factory=FeedMapping)
    encoder: str = ""
    """A model's name or folder; empty chooses by the catalog's language."""
    runtime: str = "auto"
    synonyms: Path | None = None
    keep: int = 3
    """Versions to keep, the new one among them."""


class RebuildReport(msgspec.Struct, frozen=True):
    """What a rebuild did. `published` is False when nothing had changed and the version before serves on."""

    version: str
    published: bool
    products: int
    read: int
    rejected: dict[str, int]
    noted: dict[str, int]
    encoder: str
    encoder_reason: str
    encoded: int
    reused: int
    bytes: int
    seconds: dict[str, float]


class Observer(Protocol):
    """Hears how a rebuild gets on; the commands draw it."""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """A phase begins; `total` is None where it cannot be known."""
        ...

    def advance(self, amount: int) -> None:
        """So much more of the phase is done."""
        ...

    def end(self, summary: str) -> None:
        """The phase is over."""
        ...


class Silence:
    """An observer that does not listen."""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, amount: int) -> None:
        """Nothing."""

    def end(self, summary: str) -> None:
        """Nothing."""


def rebuild(root: Path, options: RebuildOptions, observer: Observer | None = None) -> RebuildReport:
    """Reads, checks, encodes, indexes and publishes a new version of the index at `root`.

    Only texts that no earlier version and no interrupted run encoded are encoded. Raises FeedError for a feed that
    cannot be read at all, EmptyCatalogError when no product is left, StoreError or EncoderError as their names say;
    whatever is raised, the version before serves on.
    """
    store = Store(root)
    with store.locked():
        return _Rebuild(store, options, observer or Silence()).run()


class _Rebuild:
    """One run. Each step is a method; what passes between them is an attribute named for it."""

    def __init__(self, store: Store, options: RebuildOptions, observer: Observer) -> None:
        self._store = store
        self._options = options
        self._observer = observer
        self._rejected: Counter[str] = Counter()
        self._noted: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._store.staging.mkdir(exist_ok=True)
        self._spool = Spool(store.staging / "spool.jsonl")
        self._rejected_path = store.root / REJECTED_FILE
        self._synonyms = Synonyms.load(options.synonyms) if options.synonyms else Synonyms()
        self._analyzer = Analyzer(self._synonyms)
        self._read = 0

    def run(self) -> RebuildReport:
        """All steps in order."""
        name, reason = self._options.encoder, "as asked for"
        # A model that cannot be had is told before a long feed is read.
        asked = self._open_encoder(name, reason) if name else None
        self._timed("read", self._read_feeds)
        if not name:
            name, reason = self._encoder_choice()
        encoder = asked or self._open_encoder(name, reason)
        fingerprint = self._spool.fingerprint()
        before, is_whole = self._version_before()
        if before and is_whole and self._is_unchanged(before, fingerprint, encoder):
            self._clear_up()
            return self._report(before, name, reason, published=False, encoded=0, reused=len(self._spool))
        building = self._store.building()
        encoded, kind = self._timed("encode", lambda: self._encode(encoder, building, before))
        self._timed("index", lambda: self._index(building))
        manifest = self._timed("publish", lambda: self._publish(building, fingerprint, encoder, name, kind))
        return self._report(manifest, name, reason, published=True, encoded=encoded, reused=len(self._spool) - encoded)

    def _read_feeds(self) -> None:
        sizes = [feed_size(path) for path in self._options.feeds]
        self._observer.begin("read", None if None in sizes else sum(size or 0 for size in sizes), "bytes")
        with self._rejected_path.open("wb") as aside:

            def reject(row: Rejected) -> None:
                self._rejected[row.reason] += 1
                # A file's name is bytes and need not be UTF-8.
                name = row.file.encode("utf-8", "backslashreplace").decode()
                aside.write(msgspec.json.encode(dataclasses.replace(row, file=name)) + b"\n")

            def note(noted: Noted) -> None:
                self._noted[f"{noted.field}: {noted.reason}"] += 1

            consumed = 0

            def progress(count: int, _: int | None) -> None:
                nonlocal consumed
                self._observer.advance(count - consumed)
                consumed = count

            rows = read_feeds(self._options.feeds, self._options.mapping, reject, note=note, progress=progress)
            self._spool.write(row.product for row in rows)
        self._read = len(self._spool) + self._rejected.total()
        if not len(self._spool):
            raise EmptyCatalogError(self._nothing_left())
        self._observer.end(f"{len(self._spool):,} products, {self._rejected.total():,} rows set aside")

    def _nothing_left(self) -> str:
        feeds = ", ".join(self._options.feeds)
        if not self._rejected:
            return f"{feeds}: no rows in it; nothing was published"
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self._rejected.most_common(3))
        return f"{feeds}: no row can be used ({reasons}); nothing was published; the rows are in {self._rejected_path}"

    def _open_encoder(self, name: str, reason: str) -> Encoder:
        self._observer.begin("load encoder", None, "")
        encoder = open_encoder(name, self._options.runtime, self._options.cache)
        self._observer.end(f"{name}: {reason}")
        return encoder

    def _encoder_choice(self) -> tuple[str, str]:
        """The encoder that suits the catalog's language, and why that one."""
        chinese = self._spool.chinese / len(self._spool)
        if chinese >= CHINESE_SHARE:
            return DEFAULT_CHINESE_MODEL, f"{chinese:.0%} of the titles are Chinese, so the encoder is multilingual"
        return DEFAULT_MODEL, "the default for English catalogs"

    def _version_before(self) -> tuple[Manifest | None, bool]:
        """The version that serves, if any, and whether nothing damaged had to be passed over to find it."""
        try:
            manifest, notices = self._store.serving()
        except StoreError:
            return None, False
        return manifest, not notices

    def _is_unchanged(self, before: Manifest, fingerprint: str, encoder: Encoder) -> bool:
        made_of = (before.catalog, before.encoder, before.analyzer, before.recipe)
        return made_of == (fingerprint, encoder.identity, self._analyzer.identity, RECIPE)

    def _encode(self, encoder: Encoder, building: Path, before: Manifest | None) -> tuple[int, str]:
        keys: list[bytes] = []
        texts: dict[bytes, str] = {}
        for product in self._spool.products():
            text = encoder_text(product)
            keys.append(text_key(text))
            texts.setdefault(keys[-1], text)
        known = KnownVectors(encoder.dimension)
        if before and before.encoder == encoder.identity:
            self._add_before(known, before)
        chunks = ChunkFolder(self._store.staging / f"vectors-{encoder.identity}")
        chunks.load(known)
        missing = sum(key not in known for key in texts)
        self._observer.begin("encode", missing, "products")
        encoded = encode_missing(texts, known, chunks, encoder, self._observer.advance)
        folder = building / VECTORS_FOLDER
        known.fill(keys, create_vectors(folder, len(keys), encoder.dimension))
        np.save(building / TEXT_KEYS_FILE, key_array(keys))
        self._observer.end(f"{encoded:,} texts encoded, {len(texts) - encoded:,} vectors reused")
        return encoded, build_index(folder).value

    def _add_before(self, known: KnownVectors, before: Manifest) -> None:
        folder = self._store.version_folder(before.version)
        known.add(load_array(folder / TEXT_KEYS_FILE), load_array(folder / VECTORS_FOLDER / VECTORS_FILE, mapped=True))

    def _index(self, building: Path) -> None:
        self._observer.begin("index", len(self._spool), "products")
        catalog = self._spool.fields
        write_fields(catalog, building / FIELDS_FILE)
        write_products(self._spool.products(), building)
        builder = TantivyBuilder(building / KEYWORD_FOLDER, catalog)
        builder.add(self._documents(catalog))
        builder.finish()
        # Not the file's copy: it may have been edited since its rules were read.
        (building / SYNONYMS_FILE).write_text(self._synonyms.text, "utf-8")
        shutil.copyfile(self._rejected_path, building / REJECTED_FILE)
        self._observer.end(f"{len(catalog.fields):,} fields")

    def _documents(self, catalog: FieldCatalog) -> Iterator[KeywordDocument]:
        for row, product in enumerate(self._spool.products()):
            yield keyword_document(row, product, self._analyzer, catalog)
            self._observer.advance(1)

    def _publish(self, building: Path, fingerprint: str, encoder: Encoder, name: str, kind: str) -> Manifest:
        self._observer.begin("publish", None, "")
        store = self._store
        store.drop_doubtful_encoder(encoder.identity)
        model = store_encoder(encoder, store.encoders / encoder.identity)
        version = store.next_version()
        files = store.entries(building, store.version_folder(version).relative_to(store.root))
        files |= store.entries(model, model.relative_to(store.root))
        vectors = building / VECTORS_FOLDER / VECTORS_FILE
        report = {"read": self._read, "rejected": dict(self._rejected), "noted": dict(self._noted)}
        manifest = Manifest(
            schema=SCHEMA,
            version=version,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            products=len(self._spool),
            catalog=fingerprint,
            analyzer=self._analyzer.identity,
            encoder=encoder.identity,
            encoder_name=name,
            dimension=encoder.dimension,
            vectors=kind,
            background=measure_background(load_array(vectors, mapped=True)),
            recipe=RECIPE,
            files=files,
            report=report,
        )
        store.publish(building, manifest)
        pruned = self._clear_up()
        self._observer.end(f"{version} serves" + (f", {', '.join(pruned)} removed" if pruned else ""))
        return manifest

    def _clear_up(self) -> list[str]:
        """Removes what is of no more use, and returns the versions among it."""
        pruned = self._store.prune(self._options.keep)
        shutil.rmtree(self._store.staging)
        return pruned

    def _timed(self, phase: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = work()
        self._seconds[phase] = round(time.perf_counter() - started, 3)
        return result

    def _report(
        self, manifest: Manifest, name: str, reason: str, *, published: bool, encoded: int, reused: int
    ) -> RebuildReport:
        return RebuildReport(
            version=manifest.version,
            published=published,
            products=manifest.products,
            read=self._read,
            rejected=dict(self._rejected.most_common()),
            noted=dict(self._noted.most_common()),
            encoder=name,
            encoder_reason=reason,
            encoded=encoded,
            reused=reused,
            bytes=sum(entry.bytes for entry in manifest.files.values()),
            seconds=self._seconds,
        )
