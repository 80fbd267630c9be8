"""Verification of a version: checksums, and the agreement of its records, fields, terms and vectors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from shelfwise.indexer.embedding_cache import Keys, text_key
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.registry import load_encoder
from shelfwise.retrieval.errors import ClusterError, ShelfwiseError, StoreDamagedError
from shelfwise.retrieval.filters.conditions import TextIn
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldCounter, fold_value
from shelfwise.retrieval.index.faiss import INDEX_FILE, ROWS_FILE, FaissIndex
from shelfwise.retrieval.index.grouping import StoredGroups
from shelfwise.retrieval.index.keyword import NO_ROWS, KeywordIndex, Selection
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
from shelfwise.retrieval.index.vectors import VECTORS_FILE, VectorIndex, Vectors, whole_floats
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import FileEntry, file_problem, load_array
from shelfwise.retrieval.store.manifest import (
    CURRENT,
    FIELDS_FILE,
    GROUPS_FILE,
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
from shelfwise.retrieval.store.products import (
    IDS_FILE,
    OFFSETS_FILE,
    PRODUCTS_FILE,
    RECIPE,
    FieldWeights,
    ProductStore,
    encoder_text,
    keyword_document,
    keyword_terms,
    product_from_json,
)
from shelfwise.retrieval.store.signals import SIGNALS_FILE, StoredSignals
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.analysis import Analyzer, TermGroup, identifier_key
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from shelfwise.service.cli.output import count_text
from shelfwise.service.directory_checks import directory_problems
from shelfwise.service.engine.snapshot import stored_analyzer
from shelfwise.service.engine.versions import current_name

if TYPE_CHECKING:
    from shelfwise.retrieval.elasticsearch.versions import ClusterVersions
    from shelfwise.retrieval.progress import Progress

T = TypeVar("T")
_EXAMPLES = 5
"""Number of products or fields that a problem names."""
_BY_ID = 10_000
"""Number of products that are looked up by id."""
_BY_CONTENT = 1_000
"""Number of products that are looked up by terms and by vector, which takes longer."""
_BY_ENCODER = 64
"""Number of products whose vectors are recomputed."""
_NEAR = 0.99
"""Minimum cosine at which two vectors of one text, computed on two machines, count as equal."""
_UNIT = 1e-3
_MOST_TERMS = 8
_CHUNK = 65_536
_ENCODER = "encoder"
_VECTORS = f"{VECTORS_FOLDER}/{VECTORS_FILE}"
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


class ProblemTally:
    """Counts of products with problems by part and kind, with the ids of the first ones."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: defaultdict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, part: str, what: str, product_id: str) -> None:
        """Counts one more product."""
        self._counts[part, what] += 1
        if self._counts[part, what] <= _EXAMPLES:
            self._examples[part, what].append(product_id)

    def problems(self) -> list[Problem]:
        """One problem per part and kind, in order of first occurrence."""
        return [
            Problem(part, f"{what}: {count_text(count, 'product')} ({_listed(self._examples[part, what], count)})")
            for (part, what), count in self._counts.items()
        ]


def _listed(examples: Sequence[str], count: int, separator: str = ", ") -> str:
    return separator.join(examples) + (f"{separator}..." if count > len(examples) else "")


def sample(count: int, most: int) -> list[int]:
    """At most `most` of the rows below `count`, evenly spread, including the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)).tolist() if count else []


def _check_keyword(
    keyword: KeywordIndex,
    products: ProductStore,
    terms: Callable[[Product], list[str]] | None,
    advance: Callable[[int], None],
) -> list[Problem]:
    """Looks up a sample of the products by id and, if `terms` returns them, by their own terms."""
    tally = ProblemTally()
    by_terms = set(sample(len(products), _BY_CONTENT))
    for row in sample(len(products), _BY_ID):
        product_id = products.id_of(row)
        if not _finds_id(keyword, product_id, row):
            tally.add(KEYWORD_FOLDER, "not found by its id at its row", product_id)
        if terms and row in by_terms and not _finds_terms(keyword, terms(products[row]), row):
            tally.add(KEYWORD_FOLDER, "not found by its own terms", product_id)
        advance(1)
    return tally.problems()


def _finds_id(keyword: KeywordIndex, product_id: str, row: int) -> bool:
    if row in keyword.find_identifier(identifier_key(product_id)):
        return True
    # An identifier that is only punctuation, or that too many products share, identifies none of them.
    by_id = TextIn("id", (fold_value(product_id),))
    return row in keyword.select(Selection(where=by_id, everything=True))


def _finds_terms(keyword: KeywordIndex, terms: Sequence[str], row: int) -> bool:
    together = tuple(islice(dict.fromkeys(terms), _MOST_TERMS))
    return not together or bool((keyword.score(np.array([row]), (TermGroup((together,)),)).scores > 0).any())


def _check_vectors(folder: Path, index: VectorIndex, products: ProductStore, text_keys: Keys | None) -> list[Problem]:
    """Checks that stored vectors have length 1, are equal for equal texts, and are found by their index."""
    vectors: Vectors = load_array(folder / VECTORS_FILE, mapped=True)
    tally = ProblemTally()
    for row in _not_unit(vectors):
        tally.add(_VECTORS, "not of length 1", _name(products, row))
    if text_keys is not None and len(text_keys) == len(vectors):
        for row in _unequal(vectors, text_keys):
            tally.add(TEXT_KEYS_FILE, "two vectors for one text", _name(products, row))
    if not (folder / INDEX_FILE).exists():
        return tally.problems()
    rows = load_array(folder / ROWS_FILE)
    if not np.array_equal(np.sort(rows[rows >= 0]), np.arange(index.size)):
        return [*tally.problems(), Problem(f"{VECTORS_FOLDER}/{ROWS_FILE}", "it does not contain each row once")]
    for row in sample(index.size, _BY_CONTENT):
        own = index.vector(row)
        nearest = index.search(own, 1)
        if not len(nearest.rows) or nearest.scores[0] < index.similarity(own, np.array([row]))[0]:
            tally.add(f"{VECTORS_FOLDER}/{INDEX_FILE}", "not found by its own vector", _name(products, row))
    return tally.problems()


def _name(products: ProductStore, row: int) -> str:
    return products.id_of(row) if row < len(products) else f"row {row}"


def _not_unit(vectors: Vectors) -> Iterator[int]:
    for start in range(0, len(vectors), _CHUNK):
        lengths = np.linalg.norm(whole_floats(vectors[start : start + _CHUNK]), axis=1)
        # Not `> _UNIT`, so that NaN counts as wrong.
        yield from (start + np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT))).tolist()


def _unequal(vectors: Vectors, text_keys: Keys) -> Iterator[int]:
    """Rows whose text equals that of the previous row in the order of keys, but whose vector differs."""
    halves = np.ascontiguousarray(text_keys).view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    same = np.flatnonzero((halves[order[1:]] == halves[order[:-1]]).all(axis=1))
    for place in same.tolist():
        one, other = order[place], order[place + 1]
        if not np.array_equal(vectors[one], vectors[other]):
            yield int(other)


def check_encoder(encoder: Encoder, index: VectorIndex, products: ProductStore) -> list[Problem]:
    """Recomputes the vectors of a sample of the products, and compares them with the stored ones."""
    rows = [row for row in sample(len(products), _BY_ENCODER) if row < index.size]
    if encoder.dimension != index.dimension:
        what = f"its vectors have dimension {encoder.dimension}, those of {_VECTORS} {index.dimension}"
        return [Problem(_ENCODER, what)]
    made = encoder.encode_products([encoder_text(products[row]) for row in rows])
    tally = ProblemTally()
    for row, vector in zip(rows, made, strict=True):
        if not float(vector @ index.vector(row)) >= _NEAR:
            tally.add(_VECTORS, "differs from the encoder's vector of the text", products.id_of(row))
    return tally.problems()


@dataclass(frozen=True, slots=True)
class _Parts:
    """The opened parts of a version; None for a part that is damaged or cannot be compared with the others."""

    products: ProductStore | None
    catalog: FieldCatalog | None
    analyzer: Analyzer | None
    keyword: KeywordIndex | None
    vectors: FaissIndex | None
    text_keys: Keys | None
    states: StoredStates | None
    weights: FieldWeights

    def sizes(self) -> dict[str, int | None]:
        """Number of products in each part."""
        return {
            PRODUCTS_FILE: None if self.products is None else len(self.products),
            KEYWORD_FOLDER: None if self.keyword is None else self.keyword.size,
            VECTORS_FOLDER: None if self.vectors is None else self.vectors.size,
            TEXT_KEYS_FILE: None if self.text_keys is None else len(self.text_keys),
            STATES_FOLDER: None if self.states is None else self.states.size,
        }


def _check_rows(
    parts: _Parts, products: ProductStore, keyword: Path | None, advance: Callable[[int], None]
) -> list[Problem]:
    """Checks every product in one pass, with one in memory. `keyword` is the keyword index's folder, if compared."""
    tally, counter = ProblemTally(), FieldCounter()
    problems: list[Problem] = []
    lines = _read_lines(keyword, problems) if keyword else None
    is_readable, last = True, b""
    for row, (product_id, record) in enumerate(products.lines()):
        name = product_id.decode("utf-8", "backslashreplace")
        line = next(lines, None) if lines else None
        if row and product_id <= last:
            tally.add(IDS_FILE, "not in the order of ids", name)
        last = product_id
        try:
            product = product_from_json(record)
        except StoreDamagedError:
            is_readable = False
            tally.add(PRODUCTS_FILE, "cannot be read", name)
        else:
            counter.add(product)
            if product.id != name:
                tally.add(IDS_FILE, "differs from the id in the record", name)
            if lines and not problems and (what := _line_problem(parts, row, product, line)):
                tally.add(_LINES, what, product.id)
            keys = parts.text_keys
            if keys is not None and row < len(keys) and keys[row].tobytes() != text_key(encoder_text(product)):
                tally.add(TEXT_KEYS_FILE, "text differs from the encoded one", product.id)
        advance(1)
    if lines and next(lines, None) is not None:
        problems.append(Problem(_LINES, "it continues after the last product"))
    if parts.catalog is not None and is_readable:
        problems += _field_problems(parts.catalog, counter.catalog())
    return [*tally.problems(), *problems]


def _read_lines(keyword: Path, problems: list[Problem]) -> Iterator[bytes]:
    """The lines of a keyword index; reading stops at damage, which is added to `problems`."""
    try:
        yield from read_lines(keyword)
    except StoreDamagedError as error:
        problems.append(Problem(_LINES, str(error)))


def _line_problem(parts: _Parts, row: int, product: Product, line: bytes | None) -> str:
    """The difference between a product's line in the keyword index and its current one."""
    if parts.analyzer is None or parts.catalog is None:
        return ""
    if line is None:
        return "missing"
    made = keyword_line(keyword_document(row, product, parts.analyzer, parts.catalog, parts.weights), parts.catalog)
    is_same = encode_line(made) == line or _is_equivalent(line, made)
    return "" if is_same else "terms or values differ from those of the product"


def _is_equivalent(stored: bytes, made: KeywordLine) -> bool:
    """Whether both lines are equal for an index, in which the order of terms and fields does not matter."""
    try:
        return _unordered(decode_line(stored)) == _unordered(made)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def _unordered(line: KeywordLine) -> tuple[Any, ...]:
    texts, shown = (msgspec.json.decode(each) if each else {} for each in (line.texts, line.shown))
    fields = sorted((tag, weight, sorted(terms.split(" "))) for tag, weight, terms in line.fields)
    return fields, sorted(line.identifiers), sorted(line.numbers), texts, shown, line.places


def _field_problems(stored: FieldCatalog, counted: FieldCatalog) -> Iterator[Problem]:
    one, other = (
        {name: f"{info.products:,} ({', '.join(sorted(info.kinds))})" for name, info in catalog.fields.items()}
        for catalog in (stored, counted)
    )
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if differing:
        texts = [f"{name}: {one.get(name, 'none')}, counted {other.get(name, 'none')}" for name in differing]
        listed = _listed(texts[:_EXAMPLES], len(texts), "; ")
        yield Problem(FIELDS_FILE, f"it differs from the products: {listed}")
    if not stored.category_roots >= counted.category_roots:  # may include those of rejected rows
        yield Problem(FIELDS_FILE, "its top-level categories differ from those of the products")
    places = [info.slot for info in stored.fields.values()]
    if len(set(places)) < len(places):
        yield Problem(FIELDS_FILE, "two fields share a slot of the keyword index")


class Verification(msgspec.Struct, frozen=True):
    """The result of verifying a version. It is intact if there are no problems."""

    version: str
    products: int
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    skipped: tuple[str, ...]
    """Parts that could not be checked, with the reasons."""


def verify_version(
    store: Store, name: str, progress: Progress, *, encode: bool = False, cluster: ClusterVersions | None = None
) -> Verification:
    """Verifies one version; with `encode`, a sample of its vectors is recomputed, which loads the encoder.

    In a `cluster`, only the existence and completeness of a version's indexes are checked; documents are not read.

    Raises UnknownVersionError for a version that does not exist; problems of an existing version are returned.
    """
    store.check_known(name)
    return _Run(store, name, progress, cluster).run(encode=encode)


class _Run:
    """Verification of one version. Parts with damaged files are not opened, since a library may crash on them."""

    def __init__(self, store: Store, name: str, progress: Progress, cluster: ClusterVersions | None) -> None:
        self._store, self._name, self._progress, self._cluster = store, name, progress, cluster
        self._folder = store.version_folder(name)
        self._problems: list[Problem] = []
        self._skipped: list[str] = []
        self._damaged: set[str] = set()

    def run(self, *, encode: bool) -> Verification:
        try:
            manifest = self._store.manifest(self._name)
            files = self._store.listed_files(self._name, manifest)
        except StoreDamagedError as error:
            self._found(MANIFEST, str(error).removeprefix(f"version {self._name} is damaged: "))
            return Verification(
                self._name, 0, 0, 0, tuple(self._problems), ("everything else: its manifest is damaged",)
            )
        self._check_files(files)
        self._check_agreement(manifest, encode=encode)
        size = sum(entry.bytes for entry in manifest.files.values())
        problems, skipped = tuple(self._problems), tuple(self._skipped)
        return Verification(self._name, manifest.products, len(manifest.files), size, problems, skipped)

    def _found(self, part: str, what: str, advice: str = "") -> None:
        if not advice:
            advice = _SERVES if self._name == current_name(self._store) else _WAITS
        self._problems.append(Problem(part, what, advice.format(root=self._store.root)))

    def _check_files(self, files: Sequence[tuple[str, Path, FileEntry]]) -> None:
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
        """The part to which a file belongs: its folder, its name, or one name for the three product files."""
        if not path.is_relative_to(self._folder):
            return _ENCODER
        first = path.relative_to(self._folder).parts[0]
        return PRODUCTS_FILE if first in _PRODUCT_FILES else first

    def _open(self, part: str, opened: Callable[[], T]) -> T | None:
        """Opens a part; None if it is damaged, which is added to the problems unless known."""
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
        products = parts.products
        if products is None:
            self._skipped.append("agreement of fields, terms and vectors with products, which cannot be read")
            return
        has_lines = parts.keyword is not None or manifest.cluster is not None
        compared = parts
        if manifest.recipe != RECIPE:
            self._skipped.append(f"terms and texts: built by recipe {manifest.recipe!r}, this program has {RECIPE!r}")
            compared, has_lines = replace(parts, analyzer=None, text_keys=None), False
        self._progress.begin("records", len(products), "products")
        keyword = self._folder / KEYWORD_FOLDER if has_lines else None
        self._problems += _check_rows(compared, products, keyword, self._progress.advance)
        self._progress.end(f"{self._name}: {len(products):,} products against their terms, fields and texts")
        self._check_searches(compared, products)
        if encode and parts.vectors is not None:
            self._check_encoder(manifest, parts.vectors, products)

    def _open_parts(self, manifest: Manifest) -> _Parts:
        folder = self._folder
        catalog = self._open(FIELDS_FILE, lambda: read_fields(folder / FIELDS_FILE))
        parts = _Parts(
            self._open(PRODUCTS_FILE, lambda: ProductStore(folder)),
            catalog,
            self._open(SYNONYMS_FILE, lambda: _analyzer(folder, manifest)),
            self._open_keyword(catalog, manifest),
            self._open(VECTORS_FOLDER, lambda: FaissIndex(folder / VECTORS_FOLDER, gpu=False)),
            self._open(TEXT_KEYS_FILE, lambda: _text_keys(folder / TEXT_KEYS_FILE)),
            self._open(STATES_FOLDER, lambda: StoredStates(folder / STATES_FOLDER)) if manifest.states else None,
            manifest.weights,
        )
        self._open(SIGNALS_FILE, lambda: StoredSignals(folder, manifest.products))
        self._open(GROUPS_FILE, lambda: StoredGroups(folder, manifest.products).variants(NO_ROWS))
        return parts

    def _open_keyword(self, catalog: FieldCatalog | None, manifest: Manifest) -> KeywordIndex | None:
        if catalog is None:
            self._skipped.append(f"the agreement of {KEYWORD_FOLDER}: {FIELDS_FILE} is damaged")
        elif not manifest.cluster:
            return self._open(KEYWORD_FOLDER, lambda: TantivyIndex(self._folder / KEYWORD_FOLDER, catalog))
        elif self._cluster is None:
            self._skipped.append("its index in the cluster: no cluster is set")
        else:
            try:
                self._cluster.check(manifest)
            except StoreDamagedError as error:
                self._found("cluster", str(error), _FILL_AGAIN)
            except ClusterError as error:
                self._skipped.append(f"its index in the cluster: {error}")
        return None

    def _check_sizes(self, parts: _Parts, manifest: Manifest) -> None:
        for part, size in parts.sizes().items():
            if size is not None and size != manifest.products:
                self._problems.append(
                    Problem(part, f"it holds {size:,} products, the manifest has {manifest.products:,}")
                )
        if (vectors := parts.vectors) is None:
            return
        if vectors.dimension != manifest.dimension:
            what = f"it holds vectors of dimension {vectors.dimension}, the manifest has {manifest.dimension}"
            self._problems.append(Problem(VECTORS_FOLDER, what))
        if vectors.kind.value != manifest.vectors:
            what = f"it is of the kind {vectors.kind.value}, the manifest has {manifest.vectors}"
            self._problems.append(Problem(VECTORS_FOLDER, what))

    def _check_searches(self, parts: _Parts, products: ProductStore) -> None:
        analyzer, weights = parts.analyzer, parts.weights
        terms = partial(keyword_terms, analyzer=analyzer, weights=weights) if analyzer else None
        keyword, vectors, advance = parts.keyword, parts.vectors, self._progress.advance
        self._progress.begin("find", min(len(products), _BY_ID), "products")
        if keyword:
            self._run_check(KEYWORD_FOLDER, lambda: _check_keyword(keyword, products, terms, advance))
        if vectors:
            folder = self._folder / VECTORS_FOLDER
            self._run_check(VECTORS_FOLDER, lambda: _check_vectors(folder, vectors, products, parts.text_keys))
        self._progress.end(f"{self._name}: a sample of the products by id, by terms and by vector")

    def _check_encoder(self, manifest: Manifest, vectors: VectorIndex, products: ProductStore) -> None:
        self._progress.begin("encode", None, "")
        encoder = self._open(_ENCODER, lambda: load_encoder(self._store.encoders / manifest.encoder))
        if encoder:
            self._run_check(_ENCODER, lambda: check_encoder(encoder, vectors, products))
        self._progress.end(f"{self._name}: a sample of the vectors by {manifest.encoder_name}")

    def _run_check(self, part: str, check: Callable[[], list[Problem]]) -> None:
        """Adds the problems that a check finds; a check that fails is a problem of its part."""
        try:
            self._problems += check()
        except (ShelfwiseError, OSError, ValueError) as error:
            self._found(part, str(error))


def _analyzer(folder: Path, manifest: Manifest) -> Analyzer:
    analyzer = stored_analyzer(folder)
    if analyzer.identity != manifest.analyzer:
        what = f"the text analysis of this program is {analyzer.identity}, the manifest has {manifest.analyzer}"
        raise StoreDamagedError(f"{what}: rebuild the index")
    return analyzer


def _text_keys(path: Path) -> Keys:
    keys = load_array(path)
    if keys.ndim != 2 or keys.shape[1] != 16 or keys.dtype != np.uint8:
        raise StoreDamagedError(f"{path} holds {keys.dtype}{keys.shape}, not 16 bytes for each product")
    return keys


def store_problems(store: Store) -> list[Problem]:
    """Problems outside versions; raises StoreMissingError if there are no versions."""
    found: list[Problem] = []
    if problem := store.marker_problem():
        what, _, advice = problem.partition("; ")
        found.append(Problem(MARKER, what, advice))
    try:
        current = store.current()
        what = "" if current in store.versions() else f"it names {current}, which does not exist"
    except StoreDamagedError as error:
        what = str(error)
    if what:
        found.append(Problem(CURRENT, what, _MADE_ANEW.format(root=store.root)))
    with Journal(store.root) as journal:
        for problem in journal.problems(above=_last_merged_change(store)):
            what, _, advice = problem.partition("; ")
            found.append(Problem(JOURNAL, what, advice or _LOST))
    for part, problem in directory_problems(store):
        what, _, advice = problem.rpartition("; ")
        found.append(Problem(part, what, advice))
    return found


def _last_merged_change(store: Store) -> int:
    """The last live change in the serving version, which the journal need not contain any more."""
    with suppress(StoreDamagedError):
        return store.manifest(store.current()).last_merged_change
    for name in reversed(store.versions()):
        with suppress(StoreDamagedError):
            return store.manifest(name).last_merged_change
    return 0
