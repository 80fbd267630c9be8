"""The rebuild: feeds in, a published version out. Read, index, check, encode, publish; nothing half done serves."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from indexer.embedding import CatalogEncoder, state_columns
from indexer.feeds.mapping import FeedMapping
from indexer.incremental import PreviousVersion, UpdateMerge, load_updates, open_previous_version, prune_journal
from indexer.migrate import encoder_entries
from indexer.pipeline import FeedOptions, FeedPipeline, KeywordLineOptions
from indexer.quality.report import QualityReport
from indexer.quality.rules import QualityRule
from indexer.rejects import REJECTED_FILE, RejectLog
from indexer.targets import Target, open_target
from indexer.version_writer import VersionWriter
from indexer.workers import Workers
from retrieval.elasticsearch.settings import ClusterSettings
from retrieval.encoders.base import Encoder
from retrieval.encoders.registry import load_encoder, open_encoder
from retrieval.encoders.weights import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL, resolve_model_name
from retrieval.errors import EmptyCatalogError, PublishRefusedError, StoreError
from retrieval.index.faiss import PreviousVectors, build_index
from retrieval.index.token_states import DIMENSION, TokenStatesInfo
from retrieval.index.vectors import VECTORS_FILE, measure_background
from retrieval.progress import NullProgress, Progress
from retrieval.store.files import checksum, load_array, write_durably
from retrieval.store.manifest import (
    PENDING_UPDATES_FILE,
    QUALITY_FILE,
    QUALITY_PAGE,
    SCHEMA,
    SYNONYMS_FILE,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
    WORDS_FOLDER,
    Manifest,
    VersionChanges,
)
from retrieval.store.products import RECIPE, ProductStore
from retrieval.store.versions import Store
from retrieval.text.analysis import Analyzer
from retrieval.text.synonyms import Synonyms
from retrieval.text.vocabulary import is_current

CHINESE_SHARE = 0.01
"""From this share of Chinese titles on, a catalog gets the multilingual encoder unless one is named."""

_INTAKE = "intake"
_DEFAULTS = (DEFAULT_MODEL, DEFAULT_CHINESE_MODEL)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """What to build, and from what."""

    feeds: tuple[str, ...]
    cache: Path
    """Where exported models are kept between rebuilds of any index."""
    mapping: FeedMapping = field(default_factory=FeedMapping)
    encoder: str = ""
    """A model's name or folder; empty keeps one that was named for the version before, or else chooses by the catalog's
    language."""
    runtime: str = "auto"
    dimension: int | None = None
    """Columns to cut vectors to, of an encoder that is named; None for all."""
    synonyms: Path | None = None
    keep: int = 3
    """Versions to keep, the new one among them."""
    format: str = ""
    """The feeds' format; empty recognises each by looking."""
    rules: tuple[QualityRule, ...] = ()
    """A store's own quality rules, beside the built-in ones."""
    workers: int | None = None
    """Processes that read and check; None takes one for each core."""
    force: bool = False
    """Publish even where many rows were rejected or many products are gone."""
    cluster: ClusterSettings | None = None
    """The Elasticsearch cluster that words are searched in; None searches them in the index directory."""
    vectors_in_cluster: bool = False
    state_dimension: int = DIMENSION
    """Columns of the products' token states, fewer where the encoder gives fewer; 0 makes no states."""

    @property
    def intake(self) -> FeedOptions:
        """The part about reading."""
        return FeedOptions(self.feeds, self.mapping, self.format, self.rules)


class RebuildReport(msgspec.Struct, frozen=True):
    """What a rebuild did. `published` is False when nothing had changed and the version before serves on."""

    version: str
    published: bool
    products: int
    read: int
    rejected: dict[str, int]
    noted: dict[str, int]
    cleaned: dict[str, int]
    changes: VersionChanges | None
    live: int
    """Live changes that stand in the version."""
    encoder: str
    encoder_reason: str
    encoded: int
    reused: int
    token_states: int
    """The products' tokens whose states are in the version; 0 where the encoder gives none, or none were asked for."""
    findings: dict[str, int]
    """What the quality report found, by severity."""
    bytes: int
    seconds: dict[str, float]


def rebuild(root: Path, options: RebuildOptions, progress: Progress | None = None) -> RebuildReport:
    """Reads, checks, encodes, indexes and publishes a new version of the index at `root`.

    Only texts that no earlier version and no interrupted run encoded are encoded, and only changed products are
    analysed. Raises FeedError for a feed that cannot be read at all, EmptyCatalogError when no product is left,
    PublishRefusedError where a publish would lose much of the catalog, StoreError or EncoderError as their names say;
    whatever is raised, the version before serves on.
    """
    store = Store(root)
    try:
        with (
            store.lock(),
            closing(open_target(options.cluster, store, vectors=options.vectors_in_cluster)) as target,
            Workers(options.workers) as workers,
        ):
            target.check()
            _clear_leftovers(store)
            with RejectLog(store.root / REJECTED_FILE) as reject_log:
                return Rebuild(store, target, options, progress or NullProgress(), reject_log, workers).run()
    except OSError as error:
        message = f"{root} cannot be rebuilt ({error}); nothing was published: see to the disk and to the rights to it"
        raise StoreError(message) from error


def _clear_leftovers(store: Store) -> None:
    """Removes what an interrupted run left of its reading; the vectors that it made stay. So does a list of rejected
    rows, which may be a feed of this run, unless nobody can read it."""
    store.staging.mkdir(exist_ok=True)
    shutil.rmtree(store.staging / _INTAKE, ignore_errors=True)
    if not os.access(store.root / REJECTED_FILE, os.R_OK):
        (store.root / REJECTED_FILE).unlink(missing_ok=True)


class Rebuild:
    """One run. Each step is a method; what passes between them is an attribute named for it."""

    def __init__(
        self,
        store: Store,
        target: Target,
        options: RebuildOptions,
        progress: Progress,
        reject_log: RejectLog,
        workers: Workers,
    ) -> None:
        self._store = store
        self._target = target
        self._options = options
        self._progress = progress
        self._rejects = reject_log
        self._seconds: dict[str, float] = {}
        self._now = datetime.now(UTC)
        self._intake = FeedPipeline(options.intake, store.staging / _INTAKE, reject_log, workers, progress, self._now)
        self._synonyms = Synonyms.load(options.synonyms) if options.synonyms else Synonyms()
        self._analyzer = Analyzer(self._synonyms)
        self._before: PreviousVersion | None = None
        self._folding = UpdateMerge()
        self._encoded = 0
        self._states: TokenStatesInfo | None = None

    def run(self) -> RebuildReport:
        """All steps in order."""
        # A model that cannot be had is told before a long feed is read.
        named = self._options.encoder
        asked = self._opened(named, "as asked for", self._options.dimension) if named else None
        self._timed("read", self._intake.read)
        self._before = open_previous_version(self._store)
        self._folding = load_updates(self._store.root, self._before)
        if not self._intake.usable:
            raise EmptyCatalogError(self._nothing_left())
        encoder, name, reason = asked or self._suitable_encoder()
        building = self._store.create_build_folder()
        written = self._timed("index", lambda: self._index(building))
        self._check_products(building, written)
        quality = self._timed("report", lambda: self._report_quality(building))
        self._check_publish(building)
        before = self._before
        if before and before.is_undamaged and self._is_unchanged(before, building, written, encoder):
            self._target.restore(before.manifest, before.folder, self._progress)
            self._clear_up()
            return self._report(before.manifest, name, reason, quality, published=False)
        kind = self._timed("encode", lambda: self._encode(encoder, building, written))
        manifest = self._timed("publish", lambda: self._sealed(building, written, encoder, name, kind))
        if manifest.cluster:
            self._timed("load", lambda: self._target.fill(manifest, building, self._progress))
        self._timed("publish", lambda: self._publish(building, manifest))
        return self._report(manifest, name, reason, quality, published=True)

    def _nothing_left(self) -> str:
        feeds, rejected = ", ".join(self._options.feeds), self._rejects.reasons.counts
        if not rejected:
            return f"{feeds}: no rows in it; nothing was published"
        self._rejects.flush()
        reasons = ", ".join(f"{reason} ({count})" for reason, count in rejected.most_common(3))
        return f"{feeds}: no row can be used ({reasons}); nothing was published; the rows are in {self._rejects.path}"

    def _opened(self, name: str, reason: str, dimension: int | None = None) -> tuple[Encoder, str, str]:
        """An encoder, its name, and why that one."""
        self._progress.begin("load encoder", None, "")
        encoder = open_encoder(name, self._options.runtime, self._options.cache, dimension=dimension)
        self._progress.end(f"{name}: {reason}")
        return encoder, resolve_model_name(name), reason

    def _suitable_encoder(self) -> tuple[Encoder, str, str]:
        """The encoder that somebody named for the version before, such as trained towers, as it is stored there; or
        else the one that suits the catalog's language."""
        before = self._before.manifest if self._before else None
        if before and before.encoder_name and before.encoder_name not in _DEFAULTS:
            name, reason = before.encoder_name, "as for the version before"
            if self._options.runtime != "auto":
                return self._opened(name, reason, before.dimension)
            self._progress.begin("load encoder", None, "")
            encoder = load_encoder(self._store.encoders / before.encoder)
            self._progress.end(f"{name}: {reason}")
            return encoder, name, reason
        chinese = self._intake.chinese / self._intake.usable
        if chinese >= CHINESE_SHARE:
            reason = f"{chinese:.0%} of the titles are Chinese, so the encoder is multilingual"
            return self._opened(DEFAULT_CHINESE_MODEL, reason)
        return self._opened(DEFAULT_MODEL, "the default for English catalogs")

    def _index(self, building: Path) -> VersionWriter:
        self._progress.begin("index", self._intake.usable, "products")
        before = self._before
        found = self._intake.possible_fields(self._folding, before.catalog if before else None)
        documents = KeywordLineOptions(found, reuses_lines=bool(before and before.shares_analysis(found)))
        builder = self._target.builder
        written = VersionWriter(building, found, before, takes_over=documents.reuses_lines, builder=builder)
        for settled in self._intake.publishable_batches(self._folding, before, documents):
            written.add(settled)
            self._progress.advance(len(settled.ids))
        counted = self._intake.published_fields(found)
        written.finish(counted, self._folding.pending)
        # Not the file's copy: it may have been edited since its rules were read.
        (building / SYNONYMS_FILE).write_text(self._synonyms.text, "utf-8")
        self._progress.end(f"{len(written):,} products, {len(counted.fields):,} fields")
        return written

    def _report_quality(self, building: Path) -> QualityReport:
        """Writes the report beside the index, for whoever repairs the feed, and into the version."""
        from indexer.quality.page import html

        self._progress.begin("report", None, "")
        report = self._intake.report(ProductStore(building).__getitem__)
        for name, content in ((QUALITY_FILE, report.to_json()), (QUALITY_PAGE, html(report).encode())):
            (building / name).write_bytes(content)
            write_durably(self._store.root / name, content)
        self._rejects.flush()
        shutil.copyfile(self._rejects.path, building / REJECTED_FILE)
        self._progress.end(f"{len(report.findings):,} kinds of finding")
        return report

    def _check_products(self, building: Path, written: VersionWriter) -> None:
        if len(written):
            return
        shutil.rmtree(building)
        feeds = ", ".join(self._options.feeds)
        message = f"{feeds}: all of its products were deleted by live changes; nothing was published"
        raise EmptyCatalogError(f"{message}: upsert one, or let the feed have another")

    def _check_publish(self, building: Path) -> None:
        served = self._before.manifest.products if self._before else None
        try:
            if not self._options.force:
                check_publish(self._intake.rows, self._rejects.reasons.counts.total(), self._intake.products, served)
        except PublishRefusedError:
            shutil.rmtree(building)
            raise

    def _is_unchanged(self, before: PreviousVersion, building: Path, written: VersionWriter, encoder: Encoder) -> bool:
        made = before.manifest
        columns = made.states.dimension if made.states else 0
        made_of = (
            made.catalog,
            made.encoder,
            made.analyzer,
            made.recipe,
            made.last_merged_change,
            made.cluster,
            columns,
        )
        analyzer, folded = self._analyzer.identity, self._folding.sequence
        columns = state_columns(encoder, self._options.state_dimension)
        wanted = (written.fingerprint, encoder.identity, analyzer, RECIPE, folded, self._target.place, columns)
        standing = before.folder / PENDING_UPDATES_FILE
        # The same products may now be what the feed itself says: then no live change stands any more.
        is_standing = standing.exists() and checksum(standing) == checksum(building / PENDING_UPDATES_FILE)
        return made_of == wanted and is_standing and is_current(before.folder / WORDS_FOLDER)

    def _encode(self, encoder: Encoder, building: Path, written: VersionWriter) -> str:
        before = self._before.manifest.version if self._before else ""
        columns = state_columns(encoder, self._options.state_dimension)
        made = CatalogEncoder(self._store, encoder, columns, self._progress).run(building, written.keys, before)
        self._encoded, self._states = made.texts, made.states
        return build_index(building / VECTORS_FOLDER, before=self._kept(encoder, written)).value

    def _kept(self, encoder: Encoder, written: VersionWriter) -> PreviousVectors | None:
        """The vectors that stayed where they belong: those of products whose text is that of the version before."""
        if self._before is None or self._before.manifest.encoder != encoder.identity:
            return None
        keys, rows = load_array(self._before.folder / TEXT_KEYS_FILE), written.previous_rows
        is_same = (rows >= 0) & (keys[rows] == written.keys).all(axis=1)
        return PreviousVectors(self._before.folder / VECTORS_FOLDER, np.where(is_same, rows, -1).astype(np.int64))

    def _sealed(self, building: Path, written: VersionWriter, encoder: Encoder, name: str, kind: str) -> Manifest:
        """The manifest of what was built."""
        store = self._store
        model = encoder_entries(store, encoder)
        version = store.next_version()
        files = store.checksum_files(building, store.version_folder(version).relative_to(store.root)) | model
        return Manifest(
            schema=SCHEMA,
            version=version,
            created=self._now.isoformat(timespec="seconds"),
            products=len(written),
            catalog=written.fingerprint,
            analyzer=self._analyzer.identity,
            encoder=encoder.identity,
            encoder_name=name,
            dimension=encoder.dimension,
            vectors=kind,
            background=measure_background(load_array(building / VECTORS_FOLDER / VECTORS_FILE, mapped=True)),
            recipe=RECIPE,
            files=files,
            report={
                "read": self._intake.rows,
                "rejected": dict(self._rejects.reasons.counts),
                "noted": dict(self._intake.notes.counts),
            },
            changes=written.changes,
            last_merged_change=self._folding.sequence,
            cluster=self._target.place,
            states=self._states,
        )

    def _publish(self, building: Path, manifest: Manifest) -> None:
        self._progress.begin("publish", None, "")
        self._store.publish(building, manifest)
        self._target.serve(manifest)
        pruned = self._clear_up()
        self._progress.end(f"{manifest.version} serves" + (f", {', '.join(pruned)} removed" if pruned else ""))

    def _clear_up(self) -> list[str]:
        """Removes what is of no more use, and returns the versions among it."""
        pruned = self._store.prune(self._options.keep, damaged=self._before.damaged if self._before else ())
        self._target.prune()
        shutil.rmtree(self._store.staging)
        prune_journal(self._store.root, self._store.last_merged_changes())
        return pruned

    def _timed(self, phase: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = work()
        self._seconds[phase] = round(self._seconds.get(phase, 0.0) + time.perf_counter() - started, 3)
        return result

    def _report(
        self, manifest: Manifest, name: str, reason: str, quality: QualityReport, *, published: bool
    ) -> RebuildReport:
        findings: Counter[str] = Counter()
        for finding in quality.findings:
            findings[finding.severity] += finding.count
        return RebuildReport(
            version=manifest.version,
            published=published,
            products=manifest.products,
            read=self._intake.rows,
            rejected=dict(self._rejects.reasons.counts.most_common()),
            noted=dict(self._intake.notes.counts.most_common()),
            cleaned=dict(quality.cleaned),
            changes=manifest.changes if published else None,
            live=len(self._folding.pending),
            encoder=name,
            encoder_reason=reason,
            encoded=self._encoded,
            reused=manifest.products - self._encoded,
            token_states=manifest.states.tokens if manifest.states else 0,
            findings=dict(findings),
            bytes=sum(entry.bytes for entry in manifest.files.values()),
            seconds=self._seconds,
        )


# What keeps a broken feed from replacing a good catalog: limits on what a publish may lose.

MOST_REJECTED = 0.05
"""Share of the rows read that may be rejected."""
MOST_LOST = 0.20
"""Share by which the number of products may fall against the version that serves."""


def check_publish(read: int, rejected: int, products: int, served: int | None) -> None:
    """Raises PublishRefusedError, with both numbers, where a publish would lose more than it may.

    `read` and `rejected` count rows, `products` and `served` products: of the new version and of the one that serves.
    """
    if rejected > MOST_REJECTED * read:
        share = rejected / read
        raise PublishRefusedError(
            f"{rejected:,} of {read:,} rows ({share:.1%}) were rejected, more than {MOST_REJECTED:.0%}; nothing was "
            "published: repair the feed (the rows are in rejected.jsonl), or publish all the same with --force"
        )
    if served is not None and products < (1 - MOST_LOST) * served:
        share = 1 - products / served
        raise PublishRefusedError(
            f"the feed has {products:,} products, the version that serves has {served:,}: {share:.1%} would go, more "
            f"than {MOST_LOST:.0%}; nothing was published: check the feed, or publish all the same with --force"
        )
