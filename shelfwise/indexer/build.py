"""Rebuild of an index: feeds are read, indexed, checked and encoded, and a complete version is published."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np

from shelfwise.indexer.checkpoint import BuildCheckpoint, CatalogResult, CatalogRows, IndexedCatalog, feeds_key
from shelfwise.indexer.embedding import (
    STATIC,
    CatalogEncoder,
    EncodingResult,
    distil_encoder,
    state_columns,
    teacher_name,
)
from shelfwise.indexer.feeds.io import STANDARD_INPUT
from shelfwise.indexer.incremental import PreviousVersion, UpdateMerge, load_updates, open_previous_version
from shelfwise.indexer.pictures import NO_CHANGE, CatalogPictureEncoder, PictureOptions
from shelfwise.indexer.pipeline import FeedOptions, FeedPipeline, KeywordLineOptions
from shelfwise.indexer.quality.report import QualityReport, html
from shelfwise.indexer.rejects import REJECTED_FILE, RejectLog
from shelfwise.indexer.targets import (
    Target,
    add_encoder,
    check_publish,
    choose_index,
    encoding_fields,
    open_target,
    prune,
)
from shelfwise.indexer.type_derivation import TitlePhrases, TitleReader, derive_types, read_titles
from shelfwise.indexer.version_writer import VersionWriter
from shelfwise.indexer.workers import Workers, map_products
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.registry import load_encoder, open_encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL, SHIPPED_TABLE, resolve_model_name
from shelfwise.retrieval.errors import EmptyCatalogError, PublishRefusedError, SettingError, StoreError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.faiss import PreviousVectors, VectorIndexKind, build_index
from shelfwise.retrieval.index.vectors import VECTORS_FILE, rows_now
from shelfwise.retrieval.memory import require_memory
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.store.files import checksum, load_array, write_durably
from shelfwise.retrieval.store.manifest import (
    GROUPS_FILE,
    PENDING_UPDATES_FILE,
    QUALITY_FILE,
    QUALITY_PAGE,
    SCHEMA,
    SYNONYMS_FILE,
    TEXT_KEYS_FILE,
    TYPES_FOLDER,
    VECTORS_FOLDER,
    Manifest,
    PictureInfo,
)
from shelfwise.retrieval.store.products import DEFAULT_WEIGHTS, RECIPE, FieldWeights, ProductStore
from shelfwise.retrieval.store.versions import Store, folder_size
from shelfwise.retrieval.text.analysis import Analyzer, Synonyms
from shelfwise.retrieval.text.named_values import MapProducts, ValueCounts, derive_values

CHINESE_SHARE = 0.01
"""A catalog with this share of Chinese titles gets the multilingual encoder unless one is named."""

_PRODUCT_BYTES = 800
"""The memory of a rebuild per product, measured with ten million; most of it is used while types are derived."""
_FEED_FOLDER = "feed"
_DEFAULTS = (DEFAULT_MODEL, DEFAULT_CHINESE_MODEL)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RebuildOptions(FeedOptions):
    """The feeds of a rebuild, and how the version is built."""

    cache: Path
    """The folder of exported models, shared by rebuilds of any index."""
    encoder: str = ""
    """A model's name or folder. Empty keeps the one named for the previous version, or else chooses by the catalog's
    language. "static" distils a table from that choice, "static:NAME" from the model of this name."""
    runtime: str = "auto"
    dimension: int | None = None
    """The number of columns to which the vectors of a named encoder are cut; None for all."""
    synonyms: Path | None = None
    """The file of synonyms; None keeps those of the previous version."""
    weights: FieldWeights = DEFAULT_WEIGHTS
    """The weights of the fields in the searchable text."""
    keep: int = 3
    """The number of versions to keep, including the new one."""
    workers: int | None = None
    """The number of processes that read and check; None means one per core."""
    ray: str = ""
    """The address of the Ray cluster whose workers read, check and encode (`shelfwise.indexer.ray_workers`); empty
    for none."""
    full: bool = False
    """Reuse only vectors of the previous version."""
    force: bool = False
    """Publish even if many rows were rejected or many products are missing."""
    memory: int | None = None
    """The memory of the machine or container that serves, in bytes, half of it for the vector index; None for that of
    this machine. A rebuild whose index does not fit is refused."""
    cluster: ClusterSettings | None = None
    """The Elasticsearch cluster for keyword search; None searches in the index directory."""
    pictures: PictureOptions = NO_CHANGE
    """The model of pictures, and how they are fetched."""


class RebuildReport(CatalogResult, frozen=True, kw_only=True):
    """The result of a rebuild. `published` is False if nothing changed: the previous version still serves."""

    version: str
    published: bool
    resumed: list[str]
    """The phases that an interrupted run had finished."""
    encoder: str
    encoder_reason: str
    encoded: int
    reused: int
    index: str
    """The kind of vector index: exact or quantised."""
    index_reason: str
    token_states: int
    """The number of token states; 0 if the encoder has none."""
    pictures: PictureInfo | None
    """The picture model and its pictures; None without one."""
    bytes: int
    seconds: dict[str, float]


def rebuild(root: Path, options: RebuildOptions, progress: Progress | None = None) -> RebuildReport:
    """Reads, checks, encodes, indexes and publishes a new version of the index at `root`.

    Only texts that neither an earlier version nor an interrupted run encoded are encoded, and only changed products are
    analysed. An interrupted build continues after its last finished phase if feeds, settings and program are the same.
    Raises FeedError for a feed that cannot be read at all, EmptyCatalogError if no product is left,
    PublishRefusedError if a publish would lose much of the catalog, StoreError or EncoderError. After an error the
    previous version still serves.
    """
    store = Store(root)
    try:
        with (
            store.lock(),
            closing(open_target(options.cluster, store)) as target,
            Workers(options.workers) as workers,
            _open_ray(options, store) as ray,
        ):
            target.check()
            # The checkpoint, vectors and rejected rows of an interrupted run stay: the rows may be a feed of this run.
            store.staging.mkdir(exist_ok=True)
            shutil.rmtree(store.staging / _FEED_FOLDER, ignore_errors=True)
            if not os.access(store.root / REJECTED_FILE, os.R_OK):
                (store.root / REJECTED_FILE).unlink(missing_ok=True)
            with RejectLog(store.root / REJECTED_FILE) as reject_log:
                return Rebuild(store, target, options, progress or NullProgress(), reject_log, workers, ray).run()
    except OSError as error:
        message = f"{root} cannot be rebuilt ({error}); nothing was published: check the disk and its permissions"
        raise StoreError(message) from error


def _open_ray(options: RebuildOptions, store: Store) -> AbstractContextManager[Workers | None]:
    if not options.ray:
        return nullcontext()
    from shelfwise.indexer.ray_workers import RayWorkers

    if STANDARD_INPUT in options.feeds:
        raise SettingError("with --ray other processes read the feeds: write standard input to a file, and name that")
    return RayWorkers(options.ray, options.workers, store.staging.absolute() / _FEED_FOLDER / "shards")


def create_index(root: Path, encoder: Encoder, name: str) -> None:
    """Publishes the first version of an index, without products: live changes add them. `name` is the name of the
    encoder's model. Raises like `rebuild`."""
    store = Store(root)
    with (
        store.lock(),
        closing(open_target(None, store)) as target,
        Workers(1) as workers,
        RejectLog(store.root / REJECTED_FILE) as reject_log,
    ):
        store.staging.mkdir(exist_ok=True)
        Rebuild(store, target, RebuildOptions((), Path()), NullProgress(), reject_log, workers).run_empty(encoder, name)


class Rebuild:
    """One rebuild. Each step is a method."""

    def __init__(
        self,
        store: Store,
        target: Target,
        options: RebuildOptions,
        progress: Progress,
        reject_log: RejectLog,
        workers: Workers,
        ray: Workers | None = None,
    ) -> None:
        """`ray` are the workers of a cluster, which read, clean and encode in place of `workers`."""
        self._store = store
        self._target = target
        self._options = options
        self._progress = progress
        self._rejects = reject_log
        self._workers = workers
        self._ray = ray
        self._seconds: dict[str, float] = {}
        self._started = time.perf_counter()
        self._index_reason = "as in the previous version"
        self._now = datetime.now(UTC)
        feed_folder = store.staging / _FEED_FOLDER
        self._pipeline = FeedPipeline(options, feed_folder, reject_log, ray or workers, progress, self._now)
        self._synonyms = Synonyms.load(options.synonyms) if options.synonyms else Synonyms()
        self._previous: PreviousVersion | None = None
        self._before = ""
        self._updates = UpdateMerge()
        self._checkpoint = BuildCheckpoint(store)
        self._pictures: CatalogPictureEncoder | None = None
        self._resumed: list[str] = []

    def run(self) -> RebuildReport:
        # Before a long feed is read, since the model may be missing.
        teacher = teacher_name(self._options.encoder)
        named = self._options.encoder if teacher is None else teacher
        dimension = self._options.dimension if teacher is None else None
        requested = self._open_encoder(named, "as requested", dimension) if named else None
        self._previous = open_previous_version(self._store)
        self._before = self._previous.manifest.version if self._previous else ""
        if self._previous and not self._options.synonyms:
            self._synonyms = Synonyms.stored(self._previous.folder / SYNONYMS_FILE)
        self._pictures = CatalogPictureEncoder.open(
            self._store, self._options.pictures, self._previous, self._options.cache
        )
        key = self._key()
        catalog = self._earlier_result("index", key, IndexedCatalog) if key else None
        usable, chinese = (catalog.usable, catalog.chinese) if catalog else self._read()
        require_memory(_PRODUCT_BYTES * usable, f"{usable:,} products are indexed with", "several smaller indexes")
        encoder, name, reason = requested or self._choose_encoder(chinese / usable, as_before=teacher is None)
        self._choose_index(usable, self._options.dimension or encoder.dimension)  # may refuse
        if catalog is None:
            catalog = self._index_catalog()
            self._checkpoint.keep("index", key, catalog, self._seconds)
        building = self._checkpoint.building
        if self._resumed:
            self._rejects.take_over(building / REJECTED_FILE)
            self._collect_pictures(building)
        self._check_publish(catalog, building)
        if teacher is not None:
            products = ProductStore(building)
            distil = partial(distil_encoder, encoder, name, products, self._options.cache, self._progress)
            encoder = self._timed("distil", partial(distil, dimension=self._options.dimension))
            reason = f"distilled from {name} on this catalog"
            name = f"{STATIC}:{name}"
        rows = CatalogRows.load(self._checkpoint.rows)
        previous = self._previous
        if previous and previous.is_undamaged and self._is_unchanged(previous, building, catalog, encoder):
            self._target.restore(previous.manifest, previous.folder, self._progress)
            self._clear_up()
            return self._report(previous.manifest, name, reason, catalog, EncodingResult(0, previous.manifest.states))
        encoded, kind = self._encode(encoder, building, rows)
        self._resumable("types", "", bool, lambda: self._derive_types(building, rows))
        manifest = self._publish(building, catalog, encoder, name, kind, encoded)
        return self._report(manifest, name, reason, catalog, encoded)

    def _key(self) -> str:
        """A fingerprint of everything that the indexed catalog depends on; empty if feeds cannot be read again."""
        options = self._options
        settings = (options.rules, options.weights, options.full, options.encoder, options.dimension, options.memory)
        made_by = (self._pipeline.made_by, settings, self._synonyms.text, self._before, self._target.place)
        return feeds_key(options.feeds, made_by)

    def _earlier_result(self, phase: str, made_by: str, kind: type[T]) -> T | None:
        """The result of a phase of the interrupted run, unless it must be repeated."""
        if not self._checkpoint.has_more:
            return None
        self._progress.begin("resume", None, "")
        outcome = self._checkpoint.find(phase, made_by, kind)
        if outcome is None:
            why = self._checkpoint.problem or "the interrupted run had other feeds or settings"
            self._progress.end(f"{phase} is repeated: {why}")
            return None
        result, seconds = outcome
        self._seconds |= seconds
        self._resumed.append(phase)
        self._progress.end(f"{phase} was finished by the interrupted run")
        return result

    def _resumable(self, phase: str, made_by: str, kind: type[T], work: Callable[[], T]) -> T:
        result = self._earlier_result(phase, made_by, kind)
        if result is None:
            result = self._timed(phase, work)
            self._checkpoint.keep(phase, made_by, result, self._seconds)
        return result

    def _read(self) -> tuple[int, int]:
        """Reads the feeds; returns the number of usable rows and the number of Chinese titles among them."""
        self._timed("read", lambda: self._pipeline.read(None if self._options.full else self._previous))
        self._updates = load_updates(self._store.root, self._previous)
        if not self._pipeline.usable:
            raise EmptyCatalogError(self._empty_message())
        return self._pipeline.usable, self._pipeline.counts.chinese

    def _index_catalog(self) -> IndexedCatalog:
        """Indexes the products that were read into a new folder for the version, and writes the quality report."""
        building = self._checkpoint.begin()
        writer = self._timed("index", lambda: self._index(building))
        quality = self._timed("report", lambda: self._report_quality(building))
        before = np.array(self._pipeline.rows_before, np.int64)
        CatalogRows(writer.keys, writer.previous_rows, before).save(self._checkpoint.rows)
        findings = Counter[str]()
        for finding in quality.findings:
            findings[finding.severity] += finding.count
        return IndexedCatalog(
            usable=self._pipeline.usable,
            chinese=self._pipeline.counts.chinese,
            read=self._pipeline.rows,
            rejected=dict(self._rejects.reasons.counts.most_common()),
            noted=dict(self._pipeline.notes.counts.most_common()),
            cleaned=dict(quality.cleaned),
            findings=dict(findings),
            products=len(writer),
            fingerprint=writer.fingerprint,
            changes=writer.changes,
            last_merged_change=self._updates.sequence,
            live=len(self._updates.pending),
        )

    def _collect_pictures(self, building: Path) -> Mapping[str, int]:
        """Fetches the pictures of the products; returns the number that cannot be used, by reason."""
        if (pictures := self._pictures) is None:
            return {}
        return self._timed("pictures", lambda: pictures.collect(ProductStore(building), self._progress)).failed

    def _encode_pictures(self, building: Path) -> PictureInfo | None:
        """Builds the picture index and returns its description; None without a picture model."""
        if (pictures := self._pictures) is None:
            return None
        work = partial(pictures.encode, building, self._before, self._progress)
        return self._resumable("encode pictures", pictures.identity, PictureInfo, work)

    def run_empty(self, encoder: Encoder, name: str) -> None:
        """Publishes a version without products."""
        self._pipeline.read()
        catalog, building = self._index_catalog(), self._checkpoint.building
        rows = CatalogRows.load(self._checkpoint.rows)
        encoded, kind = self._encode(encoder, building, rows)
        self._derive_types(building, rows)
        self._publish(building, catalog, encoder, name, kind, encoded)

    def _empty_message(self) -> str:
        feeds = ", ".join(self._options.feeds)
        rejected = self._rejects.reasons.counts
        if not rejected:
            return f"{feeds}: no rows in it; nothing was published"
        self._rejects.flush()
        reasons = ", ".join(f"{reason} ({count})" for reason, count in rejected.most_common(3))
        message = f"{feeds}: no row can be used ({reasons}); nothing was published; the rows are in "
        return "; ".join(filter(None, (f"{message}{self._rejects.path}", self._pipeline.notes.remarks)))

    def _open_encoder(self, name: str, reason: str, dimension: int | None = None) -> tuple[Encoder, str, str]:
        """Opens an encoder; returns it with its name and the reason for it."""
        self._progress.begin("load encoder", None, "")
        encoder = open_encoder(name, self._options.runtime, self._options.cache, dimension=dimension)
        self._progress.end(f"{name}: {reason}")
        return encoder, resolve_model_name(name), reason

    def _choose_index(self, count: int, dimension: int) -> tuple[VectorIndexKind, str]:
        before = self._previous.manifest.vectors if self._previous else ""
        return choose_index(count, dimension, self._options.memory, before)

    def _choose_encoder(self, chinese: float, *, as_before: bool = True) -> tuple[Encoder, str, str]:
        """The encoder of the previous version; a named one, such as trained towers, is the copy stored with that
        version. Without a previous version, the encoder that suits the catalog's language: `chinese` is the share of
        Chinese titles."""
        previous = self._previous.manifest if self._previous and as_before else None
        if previous and previous.encoder_name:
            name, reason = previous.encoder_name, "as for the previous version"
            if name == DEFAULT_MODEL and chinese >= CHINESE_SHARE:
                reason += f"; {chinese:.0%} of the titles are Chinese, for which {DEFAULT_CHINESE_MODEL} is better"
            if self._options.runtime != "auto" or (name in _DEFAULTS and find_spec("torch")):
                is_cut = f"-{previous.dimension}d-" in previous.encoder
                return self._open_encoder(name, reason, previous.dimension if is_cut else None)
            self._progress.begin("load encoder", None, "")
            encoder = load_encoder(self._store.encoders / previous.encoder)
            self._progress.end(f"{name}: {reason}")
            return encoder, name, reason
        if chinese >= CHINESE_SHARE:
            reason = f"{chinese:.0%} of the titles are Chinese, so the encoder is multilingual"
            return self._open_encoder(DEFAULT_CHINESE_MODEL, reason)
        if self._options.runtime == "auto" and find_spec("torch") is None:
            better = f"for better vectors run: pip install 'shelfwise[train]', then rebuild --encoder {DEFAULT_MODEL}"
            return self._open_encoder(SHIPPED_TABLE, f"the table for English catalogs without torch; {better}")
        return self._open_encoder(DEFAULT_MODEL, "the default for English catalogs")

    def _index(self, building: Path) -> VersionWriter:
        self._progress.begin("index", self._pipeline.usable, "products")
        previous = self._previous
        possible = self._pipeline.possible_fields(self._updates, previous.catalog if previous else None)
        weights = self._options.weights
        reuses_lines = bool(previous and not self._options.full and previous.shares_analysis(possible, weights))
        options = KeywordLineOptions(possible, reuses_lines, weights)
        writer = VersionWriter(building, previous, options, self._target.builder, self._pipeline.rows_before)
        for batch in self._pipeline.publishable_batches(self._updates, previous, options):
            writer.add(batch)
            self._progress.advance(len(batch.products))
        fields = FieldCatalog(self._pipeline.counts.fields.catalog(possible).fields, possible.category_roots)
        writer.finish(fields, self._updates.pending)
        # Not the file's current content: it may have been edited since its rules were read.
        (building / SYNONYMS_FILE).write_text(self._synonyms.text, "utf-8")
        self._progress.end(f"{len(writer):,} products, {len(fields.fields):,} fields")
        return writer

    def _report_quality(self, building: Path) -> QualityReport:
        """Writes the report into the index directory, for whoever repairs the feed, and into the version; also writes
        the product groups that were found with the duplicates."""
        failed = self._collect_pictures(building)
        self._progress.begin("report", None, "")
        report = self._pipeline.report(ProductStore(building).__getitem__, failed)
        self._pipeline.save_inspection(building)
        for name, content in ((QUALITY_FILE, report.to_json()), (QUALITY_PAGE, html(report).encode())):
            (building / name).write_bytes(content)
            write_durably(self._store.root / name, content)
        np.save(building / GROUPS_FILE, self._pipeline.siblings)
        self._rejects.flush()
        shutil.copyfile(self._rejects.path, building / REJECTED_FILE)
        groups = np.count_nonzero(np.bincount(self._pipeline.siblings) > 1)
        self._progress.end(f"{len(report.findings):,} kinds of finding, {groups:,} groups of variants")
        return report

    def _check_publish(self, catalog: IndexedCatalog, building: Path) -> None:
        served = self._previous.manifest.products if self._previous else None
        feeds = ", ".join(self._options.feeds)
        try:
            if not catalog.products:
                message = f"{feeds}: all of its products were deleted by live changes; nothing was published"
                raise EmptyCatalogError(f"{message}: upsert one, or add another to the feed")
            if not self._options.force:
                check_publish(catalog.read, sum(catalog.rejected.values()), catalog.products, served)
        except (EmptyCatalogError, PublishRefusedError):
            shutil.rmtree(building)
            raise

    def _is_unchanged(
        self, previous: PreviousVersion, building: Path, catalog: IndexedCatalog, encoder: Encoder
    ) -> bool:
        manifest = previous.manifest
        facts = {
            "catalog": catalog.fingerprint,
            "encoder": encoder.identity,
            "analyzer": Analyzer(self._synonyms).identity,
            "recipe": RECIPE,
            "weights": self._options.weights,
            "last_merged_change": catalog.last_merged_change,
            "cluster": self._target.place,
            "vectors": self._choose_index(catalog.products, encoder.dimension)[0],
        }
        if any(getattr(manifest, name) != value for name, value in facts.items()):
            return False
        if (manifest.states.dimension if manifest.states else 0) != state_columns(encoder):
            return False
        pictures = self._pictures
        if not (pictures.is_as_before(manifest, previous.folder) if pictures else manifest.pictures is None):
            return False
        # The feed may now contain the live change: then the update is no longer pending.
        updates, others = (folder / PENDING_UPDATES_FILE for folder in (previous.folder, building))
        return updates.exists() and checksum(updates) == checksum(others)

    def _encode(self, encoder: Encoder, building: Path, rows: CatalogRows) -> tuple[EncodingResult, str]:
        """The result, and the kind of the vector index, which is built."""
        columns = state_columns(encoder)

        work = CatalogEncoder(self._store, encoder, columns, self._progress, self._ray)
        encode = partial(work.run, building.absolute(), rows.keys, self._before)

        def index() -> str:
            return build_index(building / VECTORS_FOLDER, kind, self._reusable_vectors(encoder, rows)).value

        encoded = self._resumable("encode", f"{encoder.identity} {columns}", EncodingResult, encode)
        kind, self._index_reason = self._choose_index(len(rows.keys), encoder.dimension)
        return encoded, self._resumable("vectors", kind, str, index)

    def _derive_types(self, building: Path, rows: CatalogRows) -> bool:
        """Writes the types of the products; True where there are any."""
        self._progress.begin("types", None, "")
        over = partial(map_products, building, self._workers)
        every = range(len(rows.before))
        changed = np.flatnonzero(rows.before < 0).tolist()
        reader = TitleReader()
        counts = ValueCounts()
        changes = list[tuple[int, MapProducts]]()
        if (previous := self._previous) and len(changed) < len(every):
            reader = TitleReader(TitlePhrases.load(previous.folder / TYPES_FOLDER), rows.before)
            counts = ValueCounts.load(previous.folder / TYPES_FOLDER)
            gone = np.flatnonzero(rows_now(rows.before, len(previous.products)) < 0).tolist()
            changes = [(1, partial(over, changed)), (-1, partial(map_products, previous.folder, self._workers, gone))]
        titles = read_titles(partial(over, changed), changed, reader)
        types = derive_types(titles, load_array(building / VECTORS_FOLDER / VECTORS_FILE, mapped=True))
        types.write(building / TYPES_FOLDER)
        titles.save(building / TYPES_FOLDER)
        values = derive_values(partial(over, every), counts, changes)
        values.write(building / TYPES_FOLDER)
        counts.save(building / TYPES_FOLDER)
        self._progress.end(f"{len(types.phrases):,} product types, {len(values.by_phrase):,} names of values")
        return bool(types.phrases)

    def _reusable_vectors(self, encoder: Encoder, rows: CatalogRows) -> PreviousVectors | None:
        """The previous vectors of products with unchanged text."""
        if self._previous is None or self._previous.manifest.encoder != encoder.identity:
            return None
        keys = load_array(self._previous.folder / TEXT_KEYS_FILE)
        is_same = (rows.previous >= 0) & (keys[rows.previous] == rows.keys).all(axis=1)
        reused = np.where(is_same, rows.previous, -1).astype(np.int64)
        return PreviousVectors(self._previous.folder / VECTORS_FOLDER, reused)

    def _publish(
        self, building: Path, catalog: IndexedCatalog, encoder: Encoder, name: str, kind: str, encoded: EncodingResult
    ) -> Manifest:
        """Encodes the pictures, publishes the finished version and returns its manifest."""
        pictures = self._encode_pictures(building)

        def describe() -> Manifest:
            for each in (encoder, *([self._pictures.encoder] if self._pictures else [])):
                add_encoder(self._store, each)
            return Manifest(
                schema=SCHEMA,
                version=self._store.next_version(),
                created=self._now.isoformat(timespec="seconds"),
                products=catalog.products,
                catalog=catalog.fingerprint,
                analyzer=Analyzer(self._synonyms).identity,
                **encoding_fields(encoder, name, building, kind, encoded.states),
                recipe=RECIPE,
                weights=self._options.weights,
                report={"read": catalog.read, "rejected": catalog.rejected, "noted": catalog.noted},
                pictures=pictures,
                changes=catalog.changes,
                last_merged_change=catalog.last_merged_change,
                cluster=self._target.place,
            )

        manifest = self._timed("publish", describe)
        if manifest.cluster:
            self._timed("load", lambda: self._target.fill(manifest, building, self._progress))
        self._timed("publish", lambda: self._serve(building, manifest))
        return manifest

    def _serve(self, building: Path, manifest: Manifest) -> None:
        self._progress.begin("publish", None, "")
        self._store.publish(building, manifest)
        self._target.serve(manifest)
        pruned = self._clear_up()
        self._progress.end(f"{manifest.version} serves" + (f", {', '.join(pruned)} removed" if pruned else ""))

    def _clear_up(self) -> list[str]:
        """Removes everything that is no longer needed, and returns the removed versions."""
        damaged = self._previous.damaged if self._previous else ()
        shutil.rmtree(self._store.staging)
        return prune(self._store, self._target, self._options.keep, damaged)

    def _timed(self, phase: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = work()
        self._seconds[phase] = round(self._seconds.get(phase, 0.0) + time.perf_counter() - started, 3)
        return result

    def _report(
        self, manifest: Manifest, name: str, reason: str, catalog: IndexedCatalog, encoded: EncodingResult
    ) -> RebuildReport:
        published = self._previous is None or manifest is not self._previous.manifest
        counts = {name: getattr(catalog, name) for name in CatalogResult.__struct_fields__}
        counts |= {"products": manifest.products, "changes": manifest.changes if published else None}
        return RebuildReport(
            version=manifest.version,
            published=published,
            resumed=self._resumed,
            **counts,
            encoder=name,
            encoder_reason=reason,
            encoded=encoded.texts,
            reused=manifest.products - encoded.texts,
            index=manifest.vectors,
            index_reason=self._index_reason,
            token_states=manifest.states.tokens if manifest.states else 0,
            pictures=manifest.pictures,
            bytes=sum(map(folder_size, self._store.folders(manifest))),
            seconds=self._seconds,
        )
