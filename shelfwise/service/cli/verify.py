"""Verification of an index directory: checksums of its files, and the agreement of the parts of a version."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from shelfwise.indexer.embedding_cache import text_key
from shelfwise.rerank.model_store import ModelStore
from shelfwise.rerank.sessions.tables import CACHES, DERIVED, open_derived
from shelfwise.retrieval.errors import ClusterError, ShelfwiseError, StoreDamagedError, StoreMissingError
from shelfwise.retrieval.events.addresses import AddressPseudonyms
from shelfwise.retrieval.events.privacy import KEYS_FILE as PSEUDONYM_KEYS
from shelfwise.retrieval.events.privacy import Pseudonyms
from shelfwise.retrieval.events.sqlite import EVENTS_FILE, find_damage
from shelfwise.retrieval.events.wal import damaged_copies, log_problem
from shelfwise.retrieval.filters.conditions import TextIn
from shelfwise.retrieval.filters.schema import FieldCatalog, fold_value
from shelfwise.retrieval.index.faiss import ROWS_FILE, FaissIndex
from shelfwise.retrieval.index.grouping import StoredGroups
from shelfwise.retrieval.index.keyword import NO_ROWS, Selection
from shelfwise.retrieval.index.keyword_documents import (
    LINES_FILE,
    KeywordLine,
    decode_line,
    encode_line,
    keyword_line,
    read_lines,
)
from shelfwise.retrieval.index.tantivy import TantivyIndex
from shelfwise.retrieval.index.token_states import StoredStates
from shelfwise.retrieval.index.vectors import VECTORS_FILE, whole_floats
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import (
    SEAL_FILE,
    FileEntry,
    file_entry,
    folder_problems,
    load_array,
    load_json,
    read_json,
    read_seal,
    sealed_problem,
)
from shelfwise.retrieval.store.manifest import (
    CURRENT,
    EVENTS_FOLDER,
    FIELDS_FILE,
    GROUPS_FILE,
    KEYWORD_FOLDER,
    MANIFEST,
    MARKER,
    MEMORY_FILE,
    POPULAR_QUERIES_FILE,
    POPULARITY_FILE,
    QUALITY_FILE,
    QUALITY_PAGE,
    RELATIONS_FILE,
    STATES_FOLDER,
    SYNONYMS_FILE,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
    Manifest,
)
from shelfwise.retrieval.store.products import (
    IDS_FILE,
    OFFSETS_FILE,
    PRODUCTS_FILE,
    RECIPE,
    ProductStore,
    encoder_text,
    keyword_document,
    product_from_json,
)
from shelfwise.retrieval.store.signals import SIGNALS_FILE, StoredSignals
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.analysis import Analyzer, identifier_key
from shelfwise.retrieval.updates.journal import Journal, lock_folder
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from shelfwise.service.answers.faq import FaqStore
from shelfwise.service.cli.output import count_text
from shelfwise.service.curation.document_store import DocumentStore
from shelfwise.service.curation.relations import RelationStore
from shelfwise.service.curation.relevance import RelevanceStore
from shelfwise.service.curation.rules import RuleStore
from shelfwise.service.curation.sqlite_file import check_sqlite
from shelfwise.service.curation.switches import SwitchStore
from shelfwise.service.curation.synonyms import SynonymStore
from shelfwise.service.engine.served_models import MODEL_STORES
from shelfwise.service.engine.snapshot import stored_analyzer
from shelfwise.service.engine.versions import current_name
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.popular_queries import read_popular_queries
from shelfwise.service.events.signals import CURE, read_memory, read_popularity, read_relations
from shelfwise.service.experiments.experiment import ExperimentStore
from shelfwise.service.http.auth import KEYS_FILE, AdminToken, KeyFile
from shelfwise.service.sponsored.campaign import CampaignStore
from shelfwise.service.sponsored.ledger import Ledger

if TYPE_CHECKING:
    from shelfwise.retrieval.elasticsearch.cluster_versions import ClusterVersions
    from shelfwise.retrieval.progress import Progress

_EXAMPLES = 5
"""Number of products that a problem names."""
_BY_ID, _BY_VECTOR = 10_000, 1_000
"""Number of products that are looked up by id and, which takes longer, by vector."""
_UNIT = 1e-3
_CHUNK = 65_536
_ENCODER, _CLUSTER = "encoder", "cluster"
_LINES = f"{KEYWORD_FOLDER}/{LINES_FILE}"
_PRODUCT_FILES = (PRODUCTS_FILE, IDS_FILE, OFFSETS_FILE)

# Advice; {root} is the index directory.
_REPORT = (
    "its checksums are correct, so it was published in this state: go back to the previous version (shelfwise index "
    "rollback), rebuild into a new directory, and report it as a bug of Shelfwise"
)
_SERVES = (
    "go back to an intact version: shelfwise index rollback {root}; then build a new one: shelfwise rebuild {root} FEED"
)
_WAITS = (
    "this version does not serve: do not go back to it; shelfwise index prune {root} removes it with the other old ones"
)
_ENCODER_AGAIN = "a rebuild stores the encoder again: shelfwise rebuild {root} FEED"
_FILL_AGAIN = "fill it from the version: shelfwise rebuild {root} --backend elasticsearch"
_STRAY = "remove it: nothing reads it"
_MADE_ANEW = "the newest intact version serves; shelfwise index rollback {root} VERSION rewrites the file"
_LOST = f"restore {JOURNAL} and {COPY} from a backup; or move both away, losing live changes since the last rebuild"


class Problem(msgspec.Struct, frozen=True):
    """A problem of a version: the part, the problem, and the remedy."""

    part: str
    what: str
    advice: str = _REPORT


class Verification(msgspec.Struct, frozen=True):
    """The result of verifying a version. It is intact if there are no problems."""

    version: str
    products: int
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    skipped: tuple[str, ...]
    """Parts that could not be checked, with the reasons."""


def sample(count: int, most: int) -> list[int]:
    """At most `most` of the rows below `count`, evenly spread, including the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)).tolist() if count else []


@dataclass
class _Version:
    """The parts of a version, each opened when it is first checked."""

    folder: Path
    manifest: Manifest

    @cached_property
    def products(self) -> ProductStore:
        return ProductStore(self.folder)

    def whole_products(self) -> Iterator[Product]:
        return (product_from_json(record) for _, record in self.products.lines())

    @cached_property
    def catalog(self) -> FieldCatalog:
        return load_json(self.folder / FIELDS_FILE, FieldCatalog)

    @cached_property
    def analyzer(self) -> Analyzer:
        return stored_analyzer(self.folder)

    def size_problem(self, size: int) -> Iterator[Finding]:
        if size != self.manifest.products:
            yield f"it holds {size:,} products, the manifest has {self.manifest.products:,}", ""


Finding = tuple[str, str]
"""A problem of a part, and the id of the product that has it; findings of several products are counted."""


def _check_products(version: _Version) -> Iterator[Finding]:
    yield from version.size_problem(len(version.products))
    last = b""
    for row, (product_id, record) in enumerate(version.products.lines()):
        name = product_id.decode("utf-8", "backslashreplace")
        if row and product_id <= last:
            yield "not in the order of ids", name
        last = product_id
        try:
            if product_from_json(record).id != name:
                yield "differs from its id in the list of ids", name
        except StoreDamagedError:
            yield "cannot be read", name


def _check_fields(version: _Version) -> Iterator[Finding]:
    slots = [info.slot for info in version.catalog.fields.values()]
    if len(set(slots)) < len(slots):
        yield "two fields share a slot of the keyword index", ""


def _check_analysis(version: _Version) -> Iterator[Finding]:
    if version.analyzer.identity != version.manifest.analyzer:
        what = f"the text analysis of this program is {version.analyzer.identity}"
        yield f"{what}, the manifest has {version.manifest.analyzer}: rebuild the index", ""


def _check_lines(version: _Version) -> Iterator[Finding]:
    """Compares the terms and values of each product with those of its line in the keyword index."""
    catalog = version.catalog
    lines = read_lines(version.folder / KEYWORD_FOLDER)
    for row, product in enumerate(version.whole_products()):
        line = next(lines, None)
        if line is None:
            yield "missing", product.id
            continue
        document = keyword_document(row, product, version.analyzer, catalog, version.manifest.weights)
        current = keyword_line(document, catalog)
        try:
            # In an index, the order of terms and fields does not matter.
            is_equal = encode_line(current) == line or _unordered(decode_line(line)) == _unordered(current)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            is_equal = False
        if not is_equal:
            yield "terms or values differ from those of the product", product.id
    if next(lines, None) is not None:
        yield "it continues after the last product", ""


def _unordered(line: KeywordLine) -> tuple[Any, ...]:
    texts, facet = (msgspec.json.decode(each) if each else {} for each in (line.texts, line.shown))
    fields = sorted((tag, weight, sorted(terms.split(" "))) for tag, weight, terms in line.fields)
    return fields, sorted(line.identifiers), sorted(line.numbers), texts, facet, line.places


def _check_keyword(version: _Version) -> Iterator[Finding]:
    """Looks up a sample of the products by id."""
    keyword = TantivyIndex(version.folder / KEYWORD_FOLDER, version.catalog)
    products = version.products
    yield from version.size_problem(keyword.size)
    for row in sample(len(products), _BY_ID):
        product_id = products.id_of(row)
        if row not in keyword.find_identifier(identifier_key(product_id)):
            # An identifier that is only punctuation, or that too many products share, identifies none of them.
            by_id = TextIn("id", (fold_value(product_id),))
            if row not in keyword.select(Selection(where=by_id, everything=True)):
                yield "not found by its id at its row", product_id


def _check_text_keys(version: _Version) -> Iterator[Finding]:
    """Compares the texts of the products with those that were encoded."""
    keys = load_array(version.folder / TEXT_KEYS_FILE)
    if keys.ndim != 2 or keys.shape[1] != 16 or keys.dtype != np.uint8:
        raise StoreDamagedError(f"it holds {keys.dtype}{keys.shape}, not 16 bytes for each product")
    yield from version.size_problem(len(keys))
    for key, product in zip(keys, version.whole_products(), strict=False):
        if key.tobytes() != text_key(encoder_text(product)):
            yield "text differs from the encoded one", product.id


def _check_vectors(version: _Version) -> Iterator[Finding]:
    """Checks that vectors have length 1, and that a sample of them is found by the index."""
    folder = version.folder / VECTORS_FOLDER
    products = version.products
    index = FaissIndex(folder, gpu=False)
    yield from version.size_problem(index.size)
    own = f"{index.kind.value} of dimension {index.dimension}"
    if own != (wanted := f"{version.manifest.vectors} of dimension {version.manifest.dimension}"):
        yield f"it is {own}, the manifest has {wanted}", ""
    vectors = load_array(folder / VECTORS_FILE, mapped=True)
    for start in range(0, len(vectors), _CHUNK):
        lengths = np.linalg.norm(whole_floats(vectors[start : start + _CHUNK]), axis=1)
        # Not `> _UNIT`, so that NaN counts as wrong.
        for row in (start + np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT))).tolist():
            yield "vector is not of length 1", products.id_of(row) if row < len(products) else f"row {row}"
    if (folder / ROWS_FILE).exists():
        rows = load_array(folder / ROWS_FILE)
        if not np.array_equal(np.sort(rows[rows >= 0]), np.arange(index.size)):
            raise StoreDamagedError(f"{ROWS_FILE} does not contain each row once")
    for row in sample(min(index.size, len(products)), _BY_VECTOR):
        vector = index.vector(row)
        nearest = index.search(vector, 1)
        if not len(nearest.rows) or nearest.scores[0] < index.similarity(vector, np.array([row]))[0]:
            yield "not found by its own vector", products.id_of(row)


def _check_states(version: _Version) -> Iterator[Finding]:
    if version.manifest.states:
        yield from version.size_problem(StoredStates(version.folder / STATES_FOLDER).size)


def _check_signals(version: _Version) -> Iterator[Finding]:
    StoredSignals(version.folder, version.manifest.products)
    yield from ()


def _check_groups(version: _Version) -> Iterator[Finding]:
    StoredGroups(version.folder, version.manifest.products).variants(NO_ROWS)
    yield from ()


class _Check(NamedTuple):
    """A check of a part; it is skipped if a part that it needs is damaged."""

    part: str
    run: Callable[[_Version], Iterator[Finding]]
    needs: tuple[str, ...] = ()
    file: str = ""
    """The folder or file of the part, if it is not `part`."""


_PRODUCT_PARTS = (PRODUCTS_FILE, FIELDS_FILE, SYNONYMS_FILE)
_CHECKS = (
    _Check(PRODUCTS_FILE, _check_products),
    _Check(FIELDS_FILE, _check_fields),
    _Check(SYNONYMS_FILE, _check_analysis),
    _Check(KEYWORD_FOLDER, _check_keyword, (PRODUCTS_FILE, FIELDS_FILE)),
    _Check(_LINES, _check_lines, _PRODUCT_PARTS, KEYWORD_FOLDER),
    _Check(VECTORS_FOLDER, _check_vectors, (PRODUCTS_FILE,)),
    _Check(TEXT_KEYS_FILE, _check_text_keys, (PRODUCTS_FILE,)),
    _Check(STATES_FOLDER, _check_states),
    _Check(SIGNALS_FILE, _check_signals),
    _Check(GROUPS_FILE, _check_groups),
)


def verify_version(
    store: Store, name: str, progress: Progress, *, cluster: ClusterVersions | None = None
) -> Verification:
    """Verifies one version.

    In a `cluster`, only the existence and completeness of a version's indexes are checked; documents are not read.

    Raises UnknownVersionError for a version that does not exist; problems of an existing version are returned.
    """
    store.check_known(name)
    return _Run(store, name, progress, cluster, store.version_folder(name)).run()


@dataclass
class _Run:
    """Verification of one version. Parts with damaged files are not opened, since a library may crash on them."""

    _store: Store
    _name: str
    _progress: Progress
    _cluster: ClusterVersions | None
    _folder: Path
    _problems: list[Problem] = field(default_factory=list)
    _skipped: list[str] = field(default_factory=list)
    _damaged: set[str] = field(default_factory=set)

    def run(self) -> Verification:
        try:
            manifest = self._store.manifest(self._name)
        except StoreDamagedError as error:
            self._found(MANIFEST, str(error).removeprefix(f"version {self._name} is damaged: "))
            self._skipped.append("everything else: its manifest is damaged")
            return Verification(self._name, 0, 0, 0, tuple(self._problems), tuple(self._skipped))
        sealed = self._check_files(self._store.folders(manifest))
        self._progress.begin("agreement", len(_CHECKS), "parts")
        version = _Version(self._folder, manifest)
        for check in _CHECKS:
            self._run_check(check, version)
            self._progress.advance(1)
        if manifest.cluster and self._cluster is None:
            self._skipped.append("its index in the cluster: no cluster is set")
        elif manifest.cluster and self._cluster:
            try:
                self._cluster.check(manifest)
            except StoreDamagedError as error:
                self._found(_CLUSTER, str(error), _FILL_AGAIN)
            except ClusterError as error:
                self._skipped.append(f"its index in the cluster: {error}")
        self._progress.end(f"{self._name}: products, fields, terms and vectors")
        size = sum(entry.bytes for entry in sealed.values())
        problems = tuple(self._problems)
        return Verification(self._name, manifest.products, len(sealed), size, problems, tuple(self._skipped))

    def _found(self, part: str | Path, what: str, advice: str = "") -> None:
        name = part if isinstance(part, str) else part.relative_to(self._store.root).as_posix()
        advice = advice or (_SERVES if self._name == current_name(self._store) else _WAITS)
        self._problems.append(Problem(name, what, advice.format(root=self._store.root)))

    def _check_files(self, folders: Sequence[Path]) -> Mapping[Path, FileEntry]:
        """The entries of all files of the sealed folders that can be read."""
        sealed: dict[Path, FileEntry] = {}
        for folder in folders:
            try:
                sealed |= {folder / name: entry for name, entry in read_seal(folder).items()}
            except ValueError as error:
                self._found_in(folder / SEAL_FILE, str(error).removeprefix(f"{SEAL_FILE} "))
        self._progress.begin("checksums", sum(entry.bytes for entry in sealed.values()), "bytes")
        for path, entry in sealed.items():
            if problem := sealed_problem(path, entry):
                self._found_in(path, problem)
            self._progress.advance(entry.bytes)
        for path in sorted(self._folder.rglob("*")):
            if path not in sealed and path != self._folder / SEAL_FILE and not path.is_dir():
                self._found(path, "is not in the seal", _STRAY)
        self._progress.end(f"{self._name}: {len(sealed):,} files")
        return sealed

    def _found_in(self, path: Path, what: str) -> None:
        """Adds a problem of a file, whose part is its folder, its name, or one name for the three product files."""
        part = _ENCODER
        if path.is_relative_to(self._folder):
            part = path.relative_to(self._folder).parts[0]
            part = PRODUCTS_FILE if part in _PRODUCT_FILES else part
        self._damaged.add(part)
        self._found(path, what, _ENCODER_AGAIN if part == _ENCODER else "")

    def _run_check(self, check: _Check, version: _Version) -> None:
        """Adds the problems that a check finds; a check that fails is a problem of its part."""
        needed = {check.file or check.part, *check.needs}
        if damaged := sorted(needed & self._damaged):
            self._skipped.append(f"the agreement of {check.part}: {', '.join(damaged)} is damaged")
            return
        if check.part == KEYWORD_FOLDER and version.manifest.cluster:
            return
        if check.part in (_LINES, TEXT_KEYS_FILE) and version.manifest.recipe != RECIPE:
            recipes = f"built by recipe {version.manifest.recipe!r}, this program has {RECIPE!r}"
            self._skipped.append(f"the agreement of {check.part}: {recipes}")
            return
        counts: Counter[str] = Counter()
        examples: defaultdict[str, list[str]] = defaultdict(list)
        try:
            for what, product_id in check.run(version):
                counts[what] += 1
                if product_id and counts[what] <= _EXAMPLES:
                    examples[what].append(product_id)
        except (ShelfwiseError, OSError, ValueError) as error:
            self._damaged.add(check.part)
            self._found(check.part, str(error))
        for what, count in counts.items():
            listed = ", ".join(examples[what]) + (", ..." if count > len(examples[what]) else "")
            named = f": {count_text(count, 'product')} ({listed})" if examples[what] else ""
            self._problems.append(Problem(check.part, what + named))


def store_problems(store: Store) -> list[Problem]:
    """Problems outside versions; raises StoreMissingError if there are no versions."""
    problems: list[Problem] = []
    if problem := store.marker_problem():
        what, _, advice = problem.partition("; ")
        problems.append(Problem(MARKER, what, advice))
    try:
        current = store.current()
        what = "" if current in store.versions() else f"it names {current}, which does not exist"
    except StoreDamagedError as error:
        what = str(error)
    if what:
        problems.append(Problem(CURRENT, what, _MADE_ANEW.format(root=store.root)))
    merged = [each.last_merged_change for each in store.manifests()] or [0]
    with suppress(StoreDamagedError):
        merged.append(store.manifest(store.current()).last_merged_change)
    with Journal(store.root) as journal:
        for problem in journal.problems(above=merged[-1]):  # the journal need not contain changes in the version
            what, _, advice = problem.partition("; ")
            problems.append(Problem(JOURNAL, what, advice or _LOST))
    for part, problem in directory_problems(store):
        what, _, advice = problem.rpartition("; ")
        problems.append(Problem(part, what, advice))
    return problems


# Files of the directory that belong to no version: documents, keys, events, tables, models.

_DOCUMENTS: tuple[type[DocumentStore[Any]], ...] = (
    RuleStore,
    RelationStore,
    RelevanceStore,
    FaqStore,
    SynonymStore,
    ExperimentStore,
    CampaignStore,
    SwitchStore,
)
_TABLES: dict[str, Callable[[Path], object]] = {
    POPULARITY_FILE: read_popularity,
    RELATIONS_FILE: read_relations,
    MEMORY_FILE: read_memory,
    POPULAR_QUERIES_FILE: read_popular_queries,
}
"""Files that each refresh writes in addition to the derived tables."""
_MAX_REPORT_BYTES = 1 << 30


def directory_problems(store: Store) -> Iterator[tuple[str, str]]:
    """Each damaged file that belongs to no version, relative to the directory, with the problem and the remedy.

    SQLite stores no checksums: its files are checked for structure and the sum of the hashes of their rows, documents
    for agreement with their history, charges of sponsored hits for their chain of hashes, events for their checksums.
    """
    root = store.root
    for path in sorted(root.glob("*.sqlite")):
        yield from _problem(root, path, check_sqlite, path)
    files: list[Any] = [*(kind(root) for kind in _DOCUMENTS), Ledger(root), AddressPseudonyms(root / EVENTS_FOLDER)]
    for each in files:
        yield from _problem(root, each.path, each.check)
    yield from _problem(root, root / KEYS_FILE, KeyFile(root / KEYS_FILE).keys)
    if (token := AdminToken(root)).path.exists():
        yield from _problem(root, token.path, token.read)
    if (events := root / EVENTS_FOLDER / EVENTS_FILE).exists():
        yield from _problem(root, events, _check_events, events)
        for log, problem in damaged_copies(events).items():
            yield log.relative_to(root).as_posix(), problem
        keys = root / EVENTS_FOLDER / PSEUDONYM_KEYS
        yield from _problem(root, keys, partial(Pseudonyms, keys, make=False))
    yield from _table_problems(root)
    for open_models in MODEL_STORES:
        models = open_models(root)
        yield from _problem(root, models.folder / CURRENT, _check_pointer, models)
        for name in models.names():
            yield from _problem(root, models.folder / name, models.open, name)
    yield from _report_problems(store)


def _problem(root: Path, path: Path, check: Callable[..., object], *arguments: object) -> Iterator[tuple[str, str]]:
    try:
        check(*arguments)
    except (ShelfwiseError, OSError, ValueError) as error:
        yield path.relative_to(root).as_posix(), str(error)


def _check_pointer(models: ModelStore[Any]) -> None:
    """Raises ValueError if the pointer names a model that does not exist."""
    if (name := models.current()) and name not in models.names():
        raise ValueError(f"it names {name}, which does not exist; make another one serve: shelfwise models rollback")


def _check_events(path: Path) -> None:
    """Raises StoreDamagedError if the write-ahead log is damaged, SQLite finds damage, or an event has changed."""
    with lock_folder(path.parent, None, "the events"):
        damage = log_problem(path)
    if damage:
        raise StoreDamagedError(f"{path} is damaged: {damage}")
    check_sqlite(path)
    if damage := find_damage(path):
        raise StoreDamagedError(f"{path} is damaged ({damage}); restore it from a backup")


def _table_problems(root: Path) -> Iterator[tuple[str, str]]:
    folder = root / EVENTS_FOLDER / DERIVED_FOLDER
    for name, read in _TABLES.items():
        yield from _problem(root, root / name, read, root)
        if (folder / DERIVED).exists() and not (root / name).exists():
            yield name, f"{root / name} is missing; {CURE}"
    try:
        tables = open_derived(folder)
    except StoreMissingError:
        if any(folder.glob("tables-*")):
            yield f"{EVENTS_FOLDER}/{DERIVED_FOLDER}/{DERIVED}", f"it is missing; {CURE}"
    except ShelfwiseError as error:
        yield (folder / DERIVED).relative_to(root).as_posix(), str(error)
    else:
        for name in tables.manifest.tables:
            yield from _problem(root, folder / tables.manifest.folder / name, tables.table, name)
        for name in tables.manifest.days.values():
            if not (folder / "parts" / name).is_dir():
                yield f"{EVENTS_FOLDER}/{DERIVED_FOLDER}/parts/{name}", f"it is missing; {CURE}"
    for each in sorted(path for cache in CACHES for path in (folder / cache).glob("*") if path.is_dir()):
        yield from _problem(root, each, _check_seal, each, CURE)


def _check_seal(folder: Path, cure: str) -> None:
    """Raises ValueError if a sealed folder does not contain the files with which it was sealed."""
    for name, problem in folder_problems(folder):
        raise ValueError(f"{name} {problem}; remove the folder: {cure}")


def _report_problems(store: Store) -> Iterator[tuple[str, str]]:
    """The quality report of the last rebuild must be a copy of its version's."""
    folders = [store.version_folder(manifest.version) for manifest in store.manifests()]
    for name in (QUALITY_FILE, QUALITY_PAGE):
        path = store.root / name
        if path.exists() and file_entry(path) not in (read_seal(folder).get(name) for folder in folders):
            yield name, f"{path} is not the report of a version; copy that of the newest one"
    for sealed in sorted(path.parent for path in (store.root / "training").glob(f"**/{SEAL_FILE}")):
        yield from _problem(store.root, sealed, _check_seal, sealed, "train again")
    for path in sorted((store.root / "training").glob("**/*.json")):
        yield from _problem(store.root, path, read_json, path, object, _MAX_REPORT_BYTES)
