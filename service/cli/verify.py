"""Verification of an index: checksums, the agreement of a version's parts, marker, pointer and journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from indexer.embedding_cache import Keys
from retrieval.encoders.registry import load_encoder
from retrieval.errors import ClusterError, ShelfwiseError, StoreDamagedError
from retrieval.filters.schema import FieldCatalog
from retrieval.index.faiss import FaissIndex
from retrieval.index.keyword import KeywordIndex
from retrieval.index.tantivy import TantivyIndex
from retrieval.index.token_states import StoredStates
from retrieval.store.files import file_problem, load_array
from retrieval.store.manifest import (
    CURRENT,
    FIELDS_FILE,
    KEYWORD_FOLDER,
    MANIFEST,
    MARKER,
    SEAL,
    STATES_FOLDER,
    SYNONYMS_FILE,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
    Manifest,
    read_fields,
)
from retrieval.store.products import (
    IDS_FILE,
    OFFSETS_FILE,
    PRODUCTS_FILE,
    RECIPE,
    ProductStore,
)
from retrieval.store.signals import SIGNALS_FILE, StoredSignals
from retrieval.store.versions import Store
from retrieval.text.analysis import Analyzer
from retrieval.updates.journal import Journal
from retrieval.updates.journal_files import COPY, JOURNAL
from service.engine.snapshot import stored_analyzer
from service.engine.versions import current_name

if TYPE_CHECKING:
    from retrieval.elasticsearch.versions import ClusterVersions
    from retrieval.progress import Progress


from service.cli.verify_parts import IDS, Problem, Records, check_encoder, check_keyword, check_rows, check_vectors


class Verification(msgspec.Struct, frozen=True):
    """What was found out about a version. It is whole when there are no problems."""

    version: str
    products: int
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    skipped: tuple[str, ...]
    """What could not be looked at, and why."""


_SERVES = (
    "let a whole version serve: shelfwise index rollback {root}; then make a new one: shelfwise rebuild {root} FEED"
)
_WAITS = (
    "this version does not serve: do not go back to it; shelfwise index prune {root} removes it with the other old ones"
)
_ENCODER_AGAIN = "a rebuild stores the encoder anew: shelfwise rebuild {root} FEED"
_FILL_AGAIN = "fill it from the version: shelfwise rebuild {root} --backend elasticsearch"
_STRAY = "remove it: nothing reads it"
_PRODUCT_FILES = (PRODUCTS_FILE, IDS_FILE, OFFSETS_FILE)
_ENCODER = "encoder"
T = TypeVar("T")


def verify_version(
    store: Store, name: str, progress: Progress, *, encode: bool = False, cluster: ClusterVersions | None = None
) -> Verification:
    """Verifies one version; with `encode` a sample of its vectors is made again, which takes its encoder to be loaded.

    Of what a version has in a `cluster` is seen whether it is there, whole; its documents are not read.

    Raises UnknownVersionError for a version that is not there; whatever is wrong with one that is there is returned.
    """
    store.check_known(name)
    return _Run(store, name, progress, cluster).run(encode=encode)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A version's parts, opened; None is damaged."""

    products: ProductStore | None
    catalog: FieldCatalog | None
    analyzer: Analyzer | None
    keyword: KeywordIndex | None
    vectors: FaissIndex | None
    text_keys: Keys | None
    states: StoredStates | None
    signals: StoredSignals | None

    def sizes(self) -> dict[str, int]:
        """How many products each part holds."""
        sizes = {
            PRODUCTS_FILE: None if self.products is None else len(self.products),
            KEYWORD_FOLDER: None if self.keyword is None else self.keyword.size,
            VECTORS_FOLDER: None if self.vectors is None else self.vectors.size,
            TEXT_KEYS_FILE: None if self.text_keys is None else len(self.text_keys),
            STATES_FOLDER: None if self.states is None else self.states.size,
        }
        return {part: size for part, size in sizes.items() if size is not None}


class _Run:
    """One run. A part with a damaged file is not opened: a library may trip over it."""

    def __init__(self, store: Store, name: str, progress: Progress, cluster: ClusterVersions | None) -> None:
        self._store, self._name, self._progress, self._cluster = store, name, progress, cluster
        self._folder = store.version_folder(name)
        self._problems: list[Problem] = []
        self._skipped: list[str] = []
        self._damaged: set[str] = set()

    def run(self, *, encode: bool) -> Verification:
        manifest = self._read_manifest()
        if manifest is None:
            return Verification(
                self._name, 0, 0, 0, tuple(self._problems), ("everything else: its manifest is damaged",)
            )
        self._check_files(manifest)
        self._check_agreement(manifest, encode=encode)
        size = sum(entry.bytes for entry in manifest.files.values())
        return Verification(
            self._name, manifest.products, len(manifest.files), size, tuple(self._problems), tuple(self._skipped)
        )

    def _found(self, part: str, what: str, advice: str = "") -> None:
        if not advice:
            advice = _SERVES if self._name == current_name(self._store) else _WAITS
        self._add(Problem(part, what, advice.format(root=self._store.root)))

    def _read_manifest(self) -> Manifest | None:
        try:
            manifest = self._store.manifest(self._name)
            self._store.listed_files(self._name, manifest)
        except StoreDamagedError as error:
            self._found(MANIFEST, str(error).removeprefix(f"version {self._name} is damaged: "))
            return None
        return manifest

    def _check_files(self, manifest: Manifest) -> None:
        files = self._store.listed_files(self._name, manifest)
        self._progress.begin("checksums", sum(entry.bytes for _, _, entry in files), "bytes")
        for relative, path, entry in files:
            if problem := file_problem(path, entry):
                self._damaged.add(part := self._part(path))
                self._found(relative, problem, _ENCODER_AGAIN if part == _ENCODER else "")
            self._progress.advance(entry.bytes)
        listed = {path for _, path, _ in files} | {self._folder / MANIFEST, self._folder / SEAL}
        for path in sorted(self._folder.rglob("*")):
            if path not in listed and not path.is_dir():
                self._found(path.relative_to(self._store.root).as_posix(), "is not in the manifest", _STRAY)
        self._progress.end(f"{self._name}: {len(files):,} files")

    def _part(self, path: Path) -> str:
        """The part that a file belongs to: its name, its folder, or one name for the three files of the products."""
        if not path.is_relative_to(self._folder):
            return _ENCODER
        first = path.relative_to(self._folder).parts[0]
        return PRODUCTS_FILE if first in _PRODUCT_FILES else first

    def _open(self, part: str, opened: Callable[[], T]) -> T | None:
        """A part, or None where it is damaged, which is a problem if it is not known as one yet."""
        if part in self._damaged:
            self._skipped.append(f"the agreement of {part}: it is damaged")
            return None
        try:
            return opened()
        except (ShelfwiseError, OSError) as error:
            self._found(part, str(error))
            return None

    def _check_agreement(self, manifest: Manifest, *, encode: bool) -> None:
        parts = self._open_parts(manifest)
        self._check_sizes(parts, manifest)
        if parts.products is None:
            self._skipped.append("whether fields, terms and vectors agree with the products: those cannot be read")
            return
        is_ours = manifest.recipe == RECIPE
        if not is_ours:
            self._skipped.append(f"terms and texts: made by recipe {manifest.recipe!r}, this program has {RECIPE!r}")
        self._check_records(parts, parts.products, manifest, is_ours=is_ours)
        self._check_found(parts, parts.products, is_ours=is_ours)
        if encode:
            self._check_encoder(manifest, parts)

    def _open_parts(self, manifest: Manifest) -> _Parts:
        folder = self._folder
        catalog = self._open(FIELDS_FILE, lambda: read_fields(folder / FIELDS_FILE))
        return _Parts(
            self._open(PRODUCTS_FILE, lambda: ProductStore(folder)),
            catalog,
            self._open(SYNONYMS_FILE, lambda: _analyzer(folder, manifest)),
            self._open_keyword(catalog, manifest),
            self._open(VECTORS_FOLDER, lambda: FaissIndex(folder / VECTORS_FOLDER, gpu=False)),
            self._open(TEXT_KEYS_FILE, lambda: _text_keys(folder / TEXT_KEYS_FILE)),
            self._open(STATES_FOLDER, lambda: StoredStates(folder / STATES_FOLDER)) if manifest.states else None,
            self._open(SIGNALS_FILE, lambda: StoredSignals(folder, manifest.products)),
        )

    def _open_keyword(self, catalog: FieldCatalog | None, manifest: Manifest) -> KeywordIndex | None:
        if catalog is None:
            self._skipped.append(f"the agreement of {KEYWORD_FOLDER}: {FIELDS_FILE} is damaged")
            return None
        if manifest.cluster:
            self._check_cluster(manifest)
            return None
        return self._open(KEYWORD_FOLDER, lambda: TantivyIndex(self._folder / KEYWORD_FOLDER, catalog))

    def _check_cluster(self, manifest: Manifest) -> None:
        if self._cluster is None:
            self._skipped.append("its index in the cluster: no cluster is set")
            return
        try:
            self._cluster.check(manifest)
        except StoreDamagedError as error:
            self._found("cluster", str(error), _FILL_AGAIN)
        except ClusterError as error:
            self._skipped.append(f"its index in the cluster: {error}")

    def _check_sizes(self, parts: _Parts, manifest: Manifest) -> None:
        for part, size in parts.sizes().items():
            if size != manifest.products:
                self._add(Problem(part, f"it holds {size:,} products, the manifest says {manifest.products:,}"))
        if parts.vectors and parts.vectors.dimension != manifest.dimension:
            what = f"it holds vectors of dimension {parts.vectors.dimension}, the manifest says {manifest.dimension}"
            self._add(Problem(VECTORS_FOLDER, what))
        if parts.vectors and parts.vectors.kind.value != manifest.vectors:
            what = f"it is of the kind {parts.vectors.kind.value}, the manifest says {manifest.vectors}"
            self._add(Problem(VECTORS_FOLDER, what))

    def _check_records(self, parts: _Parts, products: ProductStore, manifest: Manifest, *, is_ours: bool) -> None:
        self._progress.begin("records", len(products), "products")
        records = Records(
            products,
            parts.catalog,
            parts.analyzer if is_ours else None,
            self._folder / KEYWORD_FOLDER if (parts.keyword or manifest.cluster) and is_ours else None,
            parts.text_keys if is_ours else None,
        )
        self._add(*check_rows(records, self._progress.advance))
        self._progress.end(f"{self._name}: {len(products):,} products against their terms, fields and texts")

    def _check_found(self, parts: _Parts, products: ProductStore, *, is_ours: bool) -> None:
        keyword, vectors, advance = parts.keyword, parts.vectors, self._progress.advance
        self._progress.begin("find", min(len(products), IDS), "products")
        if keyword:
            analyzer = parts.analyzer if is_ours else None
            self._run_check(KEYWORD_FOLDER, lambda: check_keyword(keyword, products, analyzer, advance))
        if vectors:
            folder = self._folder / VECTORS_FOLDER
            self._run_check(VECTORS_FOLDER, lambda: check_vectors(folder, vectors, products, parts.text_keys))
        self._progress.end(f"{self._name}: a sample of the products by id, by terms and by vector")

    def _check_encoder(self, manifest: Manifest, parts: _Parts) -> None:
        products, vectors = parts.products, parts.vectors
        if products is None or vectors is None:
            return
        self._progress.begin("encode", None, "")
        encoder = self._open(_ENCODER, lambda: load_encoder(self._store.encoders / manifest.encoder))
        if encoder:
            self._run_check(_ENCODER, lambda: check_encoder(encoder, vectors, products))
        self._progress.end(f"{self._name}: a sample of the vectors by {manifest.encoder_name}")

    def _run_check(self, part: str, check: Callable[[], list[Problem]]) -> None:
        """Adds what a check finds; one that cannot be ended is a problem of the part."""
        try:
            self._add(*check())
        except (ShelfwiseError, OSError, ValueError) as error:
            self._found(part, str(error))

    def _add(self, *problems: Problem) -> None:
        self._problems.extend(problems)


def _analyzer(folder: Path, manifest: Manifest) -> Analyzer:
    analyzer = stored_analyzer(folder)
    if analyzer.identity != manifest.analyzer:
        what = f"the text analysis of this program is {analyzer.identity}, the manifest says {manifest.analyzer}"
        raise StoreDamagedError(f"{what}: rebuild the index")
    return analyzer


def _text_keys(path: Path) -> Keys:
    keys = load_array(path)
    if keys.ndim != 2 or keys.shape[1] != 16 or keys.dtype != np.uint8:
        raise StoreDamagedError(f"{path} holds {keys.dtype}{keys.shape}, not 16 bytes for each product")
    return keys


_MADE_ANEW = "the newest whole version serves; shelfwise index rollback {root} VERSION writes the file anew"
_LOST = f"restore {JOURNAL} and {COPY} from a copy, or lose the live changes behind the last rebuild: move both away"


def store_problems(store: Store) -> list[Problem]:
    """What is wrong beside the versions; raises StoreMissingError where there are none."""
    return [*_marker_problems(store), *_pointer_problems(store), *_journal_problems(store)]


def _marker_problems(store: Store) -> Iterator[Problem]:
    if problem := store.marker_problem():
        what, _, advice = problem.partition("; ")
        yield Problem(MARKER, what, advice)


def _pointer_problems(store: Store) -> Iterator[Problem]:
    advice = _MADE_ANEW.format(root=store.root)
    try:
        current = store.current()
    except StoreDamagedError as error:
        yield Problem(CURRENT, str(error), advice)
        return
    if current not in store.versions():
        yield Problem(CURRENT, f"it names {current}, which is not there", advice)


def _journal_problems(store: Store) -> Iterator[Problem]:
    with Journal(store.root) as journal:
        for problem in journal.problems(above=_last_merged_change(store)):
            what, _, advice = problem.partition("; ")
            yield Problem(JOURNAL, what, advice or _LOST)


def _last_merged_change(store: Store) -> int:
    """The last live change in the version that serves: the journal need not have it any more."""
    with suppress(StoreDamagedError):
        return store.manifest(store.current()).last_merged_change
    for name in reversed(store.versions()):
        with suppress(StoreDamagedError):
            return store.manifest(name).last_merged_change
    return 0
