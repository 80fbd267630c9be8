"""Encoding of a catalog's texts to vectors and token states, reusing those of earlier versions and interrupted runs."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from shelfwise.indexer.embedding_cache import EncodingCheckpoints, Keys, KeyTable, TokenCache, VectorCache, whole_keys
from shelfwise.indexer.incremental import cache_version_vectors
from shelfwise.indexer.workers import Workers
from shelfwise.retrieval.encoders.base import Encoder, TableEncoder, as_token_encoder
from shelfwise.retrieval.encoders.registry import load_encoder, open_encoder, store_encoder
from shelfwise.retrieval.encoders.weights import find_model
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.index.token_states import (
    DIMENSION,
    MAX_TOKENS,
    StatesWriter,
    TokenRuns,
    TokenStatesInfo,
    quantise_tokens,
)
from shelfwise.retrieval.index.vectors import CHUNK_ROWS, NO_CUTOFF, Cutoff, Rows, StoredArray, Vectors, create_vectors
from shelfwise.retrieval.memory import require_memory
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import file_bytes
from shelfwise.retrieval.store.manifest import STATES_FOLDER, TEXT_KEYS_FILE, VECTORS_FOLDER
from shelfwise.retrieval.store.products import ProductStore, encoder_text
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.analysis import chinese_words, contains_chinese, fold


@dataclass(frozen=True, slots=True)
class EncodingResult:
    """The number of encoded texts, and the description of the token states, if there are any."""

    texts: int
    states: TokenStatesInfo | None


def state_columns(encoder: Encoder) -> int:
    """Columns of the token states in versions of an encoder; 0 if it has none."""
    token_encoder = as_token_encoder(encoder)
    return min(DIMENSION, token_encoder.state_dimension) if token_encoder else 0


class CatalogEncoder:
    """Encodes the texts of one catalog with one encoder."""

    def __init__(
        self, store: Store, encoder: Encoder, state_dimension: int, progress: Progress, workers: Workers | None = None
    ) -> None:
        """`state_dimension` is the result of `state_columns`; `workers`, if given, run a network."""
        self._store = store
        self._encoder = encoder
        self._states = state_dimension
        self._progress = progress
        self._workers = workers

    def run(self, building: Path, keys: Keys, previous: str) -> EncodingResult:
        """Writes vectors, text keys and states into the version in `building`, which already has its products.

        `keys` (n, 16) are the keys of its texts; `previous` names the version whose vectors are used first.
        """
        if isinstance(self._encoder, TableEncoder) and self._states:
            return self._encode_by_table(self._encoder, building, keys, previous)
        cache = VectorCache(self._encoder.dimension, TokenCache() if self._states else None)
        cache_version_vectors(self._store, self._encoder.identity, cache, previous, self._states)
        folder = self._store.staging / f"vectors-{self._encoder.identity}"
        checkpoints = EncodingCheckpoints(folder, self._encoder.dimension, self._states)
        checkpoints.load(cache)
        rows = missing_rows(keys, cache)
        self._progress.begin("encode", len(rows), "products")
        encode = partial(self._encode_rows, building, keys, checkpoints)
        fill_vectors(building / VECTORS_FOLDER, keys, cache, rows, encode)
        np.save(building / TEXT_KEYS_FILE, keys)
        checkpoints.add_saved_tokens(cache)
        states = self._write_states(building / STATES_FOLDER, keys, cache.tokens)
        return self._result(len(rows), len(keys) - len(rows), states)

    def _encode_by_table(self, encoder: TableEncoder, building: Path, keys: Keys, previous: str) -> EncodingResult:
        """Encodes in the order of rows, in this process: a table is faster than the disk or a transfer."""
        tokens = TokenCache()
        cache = VectorCache(encoder.dimension, tokens)
        cache_version_vectors(self._store, encoder.identity, cache, previous, self._states)
        is_cached = cache.contains(keys)
        missing = len(missing_rows(keys, cache))
        self._progress.begin("encode", len(keys) - int(is_cached.sum()), "products")
        vectors = create_vectors(building / VECTORS_FOLDER, len(keys), encoder.dimension)
        np.save(building / TEXT_KEYS_FILE, keys)
        folder = building / STATES_FOLDER
        shared = encoder.token_states()
        writer = StatesWriter(folder, encoder.identity, self._states, encoder.vocabulary, shared=shared)
        text_of = _text_of(ProductStore(building))
        for start in range(0, len(keys), CHUNK):
            chunk = slice(start, start + CHUNK)
            old, new = (start + np.flatnonzero(each) for each in (is_cached[chunk], ~is_cached[chunk]))
            texts = [text_of(row) for row in new.tolist()]
            cache.fill(keys[old], old, vectors)
            vectors[new] = encoder.encode_products(texts)
            new_ids = [np.array(ids[:MAX_TOKENS], np.int32) for ids in encoder.product_token_ids(texts)]
            by_row = dict(zip([*old.tolist(), *new.tolist()], [*tokens.ids(keys[old]), *new_ids], strict=True))
            ids = [by_row[row] for row in sorted(by_row)]
            writer.add(np.concatenate(ids), None, np.array(list(map(len, ids)), np.int32))
            self._progress.advance(len(texts))
        return self._result(missing, len(keys) - missing, writer.finish())

    def _result(self, encoded: int, reused: int, states: TokenStatesInfo | None) -> EncodingResult:
        states_text = f"{states.tokens:,} token states" if states else "no token states"
        self._progress.end(f"{encoded:,} texts encoded, {reused:,} vectors reused, {states_text}")
        return EncodingResult(encoded, states)

    def _encode_rows(
        self, building: Path, keys: Keys, checkpoints: EncodingCheckpoints, rows: Rows
    ) -> Iterator[tuple[Rows, Vectors]]:
        """Encodes the texts of `rows` (m,) of `keys` (n, 16); yields each chunk once it is saved."""
        text_of = _text_of(ProductStore(building))
        chunks = list(_chunks_by_length(rows, text_of))

        def encode(chunk: Rows) -> tuple[Vectors, TokenRuns | None]:
            texts = list(map(text_of, chunk.tolist()))
            return _encode_texts(texts, self._encoder, self._states, self._progress.advance)

        encoded: Iterator[tuple[Vectors, TokenRuns | None]] = map(encode, chunks)
        if self._workers is not None:
            folder = store_encoder(self._encoder, self._store.staging / f"encoder-{self._encoder.identity}")
            encoded = self._workers.map(ChunkEncoder(folder, building, self._states), chunks)
        for chunk, (vectors, tokens) in zip(chunks, encoded, strict=True):
            checkpoints.save(keys[chunk], vectors, tokens)
            if self._workers is not None:
                self._progress.advance(len(chunk))
            yield chunk, vectors

    def _write_states(self, folder: Path, keys: Keys, tokens: TokenCache | None) -> TokenStatesInfo | None:
        encoder = as_token_encoder(self._encoder) if self._states else None
        if encoder is None or tokens is None:
            return None
        writer = StatesWriter(folder, encoder.identity, self._states, encoder.vocabulary)
        tokens.write(keys, writer)
        return writer.finish()


CHUNK = 1_024
"""Texts that are saved together: an interrupted run loses less than one chunk. Memory never holds all texts."""
_COPIED_ROWS = 16_384


def missing_rows(keys: Keys, cache: VectorCache) -> Rows:
    """The rows of `keys` (n, 16) whose texts must be encoded: the first of each text without a vector, ascending."""
    missing = np.flatnonzero(~cache.contains(keys))
    _, first = np.unique(whole_keys(keys[missing]), return_index=True)
    return np.asarray(missing[np.sort(first)], dtype=np.int64)


def fill_vectors(
    folder: Path, keys: Keys, cache: VectorCache, rows: Rows, encode: Callable[[Rows], Iterable[tuple[Rows, Vectors]]]
) -> StoredArray:
    """Creates the vectors of `keys` (n, 16) in a folder: from the cache, or else encoded by `encode`, which returns
    those of `rows`, the result of `missing_rows`, in chunks."""
    vectors = create_vectors(folder, len(keys), cache.dimension)
    is_cached = cache.contains(keys)
    cache.fill(keys[is_cached], np.flatnonzero(is_cached), vectors)
    for chunk, chunk_vectors in encode(rows):
        vectors[chunk] = chunk_vectors
    _copy_to_duplicates(keys, rows, vectors)
    return vectors


def _text_of(products: ProductStore) -> Callable[[int], str]:
    return lambda row: encoder_text(products[row])


def _chunks_by_length(rows: Rows, text_of: Callable[[int], str]) -> Iterator[Rows]:
    """The `rows` (m,) in chunks of texts of similar length: the longest text determines the cost of a batch."""
    lengths = np.fromiter((len(text_of(row)) for row in rows.tolist()), dtype=np.int64, count=len(rows))
    ordered = rows[np.argsort(lengths, kind="stable")]
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def _encode_texts(
    texts: Sequence[str], encoder: Encoder, state_dimension: int, advance: Callable[[int], None] | None = None
) -> tuple[Vectors, TokenRuns | None]:
    """The vectors of product texts (n, dimension), and their tokens if states have columns."""
    token_encoder = as_token_encoder(encoder) if state_dimension else None
    if token_encoder is None:
        return encoder.encode_products(texts, advance), None
    vectors, tokens = token_encoder.encode_products_with_tokens(texts, advance)
    return vectors, quantise_tokens(tokens, state_dimension)


class ChunkEncoder:
    """Encodes the texts of rows of the version in `building`; runs in a worker, which holds the encoder."""

    def __init__(self, encoder: Path, building: Path, state_dimension: int) -> None:
        self._folder = encoder
        self._building = building
        self._states = state_dimension

    def __call__(self, rows: Rows) -> tuple[Vectors, TokenRuns | None]:
        return _encode_texts(list(map(self._text_of, rows.tolist())), self._encoder, self._states)

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self._folder)

    @cached_property
    def _text_of(self) -> Callable[[int], str]:
        return _text_of(ProductStore(self._building))


def _copy_to_duplicates(keys: Keys, rows: Rows, into: Vectors) -> None:
    """Copies the vectors at `rows` (m,), which have distinct keys, to the other rows of `into` with the same keys."""
    if not len(rows):
        return
    table = KeyTable(keys[rows])
    for start in range(0, len(keys), _COPIED_ROWS):
        positions = table.find(keys[start : start + _COPIED_ROWS])
        others = np.flatnonzero(positions >= 0)
        into[start + others] = into[rows[positions[others]]]


_FEWEST_FOR_CUTOFF = 200
_CUTOFF_QUERIES = 300
_KNOWN_LOST, _UNKNOWN_LEFT = 0.01, 0.95
"""Quantiles: the cutoff may lose 1% of the queries made from the catalog, and removes 95% of the meaningless ones."""
_MAX_KNOWN_LOST = 0.2
"""The largest share of catalog queries that the cutoff may lose to remove the meaningless ones: beyond it, random
letters are as near to products as real words are, as with a table's rare pieces, and the cutoff ignores them."""


def measure_cutoff(encoder: Encoder, title_of: Callable[[int], str], vectors: StoredArray) -> Cutoff:
    """The cutoff of an encoder over a catalog's unit vectors (n, dimension); `title_of` returns the title of a row.

    Two samples of the cosine with the nearest product determine it: pairs of neighbouring words from titles, for which
    the catalog has products, and random letters, for which it has none. Raises EncoderError.
    """
    if len(vectors) < _FEWEST_FOR_CUTOFF:
        return NO_CUTOFF
    dice = random.Random(0)  # noqa: S311 - the same queries each time
    titles = map(title_of, dice.sample(range(len(vectors)), min(len(vectors), _CUTOFF_QUERIES)))
    word_queries = list(filter(None, (_neighbours(title, dice) for title in titles)))
    letter_queries = [_letters(dice) for _ in range(_CUTOFF_QUERIES)]
    highest = _highest_cosines(vectors, encoder.encode_queries(letter_queries + word_queries))
    letters = float(np.quantile(highest[: len(letter_queries)], _UNKNOWN_LEFT))
    if not word_queries:
        return Cutoff(-1.0, letters)
    least, most = np.quantile(highest[len(letter_queries) :], (_KNOWN_LOST, _MAX_KNOWN_LOST)).tolist()
    return Cutoff(least, letters if least <= letters <= most else least)


def _neighbours(title: str, dice: random.Random) -> str:
    words = [word for word in fold(title).split() if len(word) > 2]
    joint = " "
    if contains_chinese(title):
        words, joint = [word for word in chinese_words(title) if len(word) > 1], ""
    if len(words) < 2:
        return ""
    start = dice.randrange(len(words) - 1)
    return joint.join(words[start : start + 2])


def _letters(dice: random.Random) -> str:
    words = dice.choice((1, 1, 2))
    return " ".join("".join(dice.choices(string.ascii_lowercase, k=dice.randint(4, 9))) for _ in range(words))


def _highest_cosines(vectors: StoredArray, queries: Vectors) -> NDArray[np.float32]:
    """The cosine of each query (q, dimension) with its nearest vector (q,)."""
    highest = np.full(len(queries), -1.0, np.float32)
    for start in range(0, len(vectors), CHUNK_ROWS):
        part = np.asarray(vectors[start : start + CHUNK_ROWS], np.float32)
        np.maximum(highest, (part @ queries.T).max(axis=0), out=highest)
    return highest


# Static encoders of a catalog: distilled from a teacher on a sample of its texts and on title queries.

STATIC = "static"
"""The name that requests a static encoder; "static:NAME" also names its teacher."""
MAX_PRODUCTS = 20_000
"""The number of products that are sampled."""
_QUERIES = 512
"""The number of queries that the teacher encodes at once."""
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
    queries = _title_queries(sample, dice)
    key = xxhash.xxh3_64_hexdigest("\0".join((_RECIPE, teacher.identity, *texts)).encode("utf-8", "surrogatepass"))
    folder = cache / "distilled" / key / f"{STATIC}-{source.name.replace('/', '--')}"
    if not folder.is_dir():
        weights = file_bytes(source.folder.rglob("*.safetensors"))
        require_memory(_BYTES + _TIMES * weights, f"a table is distilled from {name} with", "a smaller model")
        with optional_imports():
            from shelfwise.retrieval.encoders.distillation import distil

        progress.begin("teach", len(texts) + len(queries), "texts")
        vectors = [teacher.encode_products(texts, progress.advance)]
        for start in range(0, len(queries), _QUERIES):
            vectors.append(teacher.encode_queries(queries[start : start + _QUERIES]))
            progress.advance(len(vectors[-1]))
        progress.end(f"vectors of the teacher, {name}")
        distil(source, [*texts, *queries], np.vstack(vectors), teacher.encode_products, folder, progress)
    return open_encoder(str(folder), cache=cache, dimension=dimension)


def _title_queries(products: Sequence[Product], dice: random.Random) -> list[str]:
    """A query for each product: one to four neighbouring words of its title."""
    queries = []
    for product in products:
        words = product.title.split()
        count = min(len(words), dice.randint(1, 4))
        start = dice.randint(0, len(words) - count)
        queries.append(" ".join(words[start : start + count]))
    return queries
