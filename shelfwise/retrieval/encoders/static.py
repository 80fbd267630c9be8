"""Static encoder: a text's vector is the normalised sum of its tokens' rows in a table. It runs no model.

A folder of sentence-transformers' StaticEmbedding, or of model2vec, is stored as

  table.npy      (vocabulary, dimension) int8 or float32: the rows
  scales.npy     (vocabulary,) float32: the factor of each row
  states.npy     (vocabulary, at most 128) int8: the states of tokens, unit vectors times 127

with tokenizer.json, its mapped form, encoder.json and model/, a copy of that folder for training. The table and the
states are mapped: only the rows that texts use are in memory.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.sparse import csr_array

from shelfwise.retrieval.encoders.base import (
    DEFAULT_MAX_LENGTH,
    Runtime,
    TextTokens,
    Tokens,
    principal_directions,
    sample_texts,
    stored_projection,
    text_token_indices,
    unit_rows,
)
from shelfwise.retrieval.encoders.folder import (
    FORMAT,
    TOKENIZER_FILE,
    TORCH_FOLDER,
    EncoderSpec,
    ProgressCallback,
    StoredEncoder,
    Vectors,
    choose_prompts,
    identity_of,
    read_spec,
    run_batches,
    write_spec,
)
from shelfwise.retrieval.encoders.tokenizer import StoredTokenizer, open_tokenizer, write_pieces
from shelfwise.retrieval.encoders.weights import MODULES_FILE, ModelSource
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError, StoreDamagedError
from shelfwise.retrieval.store.files import atomic_folder, load_array

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TABLE_FILE, _SCALES_FILE, _STATES_FILE = "table.npy", "scales.npy", "states.npy"
_SCALE = 127
_CHUNK = 4_096
"""The number of texts that are summed at a time."""
_MAX_WORDS = 1 << 18
"""The number of words whose tokens are cached."""


class StaticEncoder(StoredEncoder):
    """A table written by `store_table`. A text's vector does not depend on other texts. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder; raises EncoderUnavailableError with the name of a missing or damaged file."""
        self.spec = read_spec(folder)
        self._folder = folder
        tokenizer = StoredTokenizer(folder, self.spec.max_length)
        self._words = _WordTokens(tokenizer, self.spec.max_length, reads_words=self.spec.reads_words)
        try:
            self._table, self._states = (load_array(folder / name, mapped=True) for name in (_TABLE_FILE, _STATES_FILE))
            self._scales = load_array(folder / _SCALES_FILE)
        except StoreDamagedError as error:
            raise EncoderUnavailableError(str(error)) from error
        self.vocabulary = len(self._table)
        self.state_dimension = self._states.shape[-1]
        shapes = (self._table.shape, self._scales.shape, self._states.shape)
        if shapes != ((self.vocabulary, self.dimension), (self.vocabulary,), (self.vocabulary, self.state_dimension)):
            raise EncoderUnavailableError(f"{folder}: {_TABLE_FILE}, {_SCALES_FILE} and {_STATES_FILE} do not match")

    def token_states(self) -> Vectors:
        return unit_rows(self._states)

    def product_token_ids(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        if not self.spec.document_prompt:
            return self._words.ids(self._prepare(texts, ""))
        return [tokens.ids.tolist() for tokens in self.encode_products_with_tokens(texts)[1]]

    def _encode(self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool) -> Vectors:
        result = np.empty((len(texts), self.dimension), np.float32)

        def run(start: int) -> int:
            ready = self._prepare(texts[start : start + _CHUNK], prompt)
            result[start : start + len(ready)] = self._sums(self._words.ids(ready))
            return len(ready)

        run_batches(run, range(0, len(texts), _CHUNK), progress, parallel=parallel)
        return result

    def _encode_with_tokens(
        self,
        texts: Sequence[str],
        prompt: str,
        progress: ProgressCallback,
        *,
        parallel: bool,  # noqa: ARG002
    ) -> tuple[Vectors, list[Tokens]]:
        vectors, tokens = np.empty((len(texts), self.dimension), np.float32), []
        for start in range(0, len(texts), _CHUNK):
            encodings = self._tokenize(self._prepare(texts[start : start + _CHUNK], prompt))
            vectors[start : start + len(encodings)] = self._sums([encoding.ids for encoding in encodings])
            for encoding in encodings:
                ids = np.array(encoding.ids, np.int32)[text_token_indices(encoding, prompt)]
                tokens.append(Tokens(ids, unit_rows(self._states[ids])))
            if progress:
                progress(len(encodings))
        return vectors, tokens

    def _tokenize(self, ready: list[str]) -> Sequence[TextTokens]:
        return self._words.encode(ready)

    def _sums(self, ids: Sequence[Sequence[int]]) -> Vectors:
        """The normalised sums (n, dimension) of the rows of each text's tokens, added in order."""
        ends = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(each) for each in ids], out=ends[1:])
        tokens = np.fromiter(itertools.chain.from_iterable(ids), np.int64, ends[-1])
        if len(ids) == 1:
            return unit_rows((self._table[tokens] * self._scales[tokens, None]).sum(axis=0, keepdims=True))
        distinct, places = np.unique(tokens, return_inverse=True)
        rows = self._table[distinct] * self._scales[distinct, None]
        chosen = csr_array((np.ones(len(tokens), np.float32), places, ends), shape=(len(ids), len(distinct)))
        return unit_rows(chosen @ rows)


class _WordTokens:
    """The tokens of texts, without special tokens. If the tokenizer reads each word by itself, the tokens of a word are
    looked up once, which is a hundred times as fast."""

    def __init__(self, tokenizer: StoredTokenizer, max_length: int, *, reads_words: bool) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._reads_words = reads_words
        self._known: dict[str, list[int]] = {}

    def encode(self, ready: list[str]) -> Sequence[TextTokens]:
        return self._tokenizer.encode_batch(ready, add_special_tokens=False)

    def ids(self, ready: list[str]) -> list[list[int]]:
        """The token ids of each text."""
        if not self._reads_words:
            return [encoding.ids for encoding in self.encode(ready)]
        known = self._known if len(self._known) < _MAX_WORDS else {}
        words = [text.split() for text in ready]
        if new := [word for word in set(itertools.chain.from_iterable(words)) if word not in known]:
            known.update(zip(new, (encoding.ids for encoding in self.encode(new)), strict=True))
        self._known = known
        whole = (itertools.chain.from_iterable(map(known.__getitem__, each)) for each in words)
        return [list(itertools.islice(each, self._max_length)) for each in whole]


def export_table(source: ModelSource, folder: Path, runtime: Runtime, *, dimension: int | None = None) -> EncoderSpec:
    """Stores a model that is a table in `folder`, atomically, for `StaticEncoder`; "static-int8" gives each row its own
    scale. `dimension` cuts vectors to their first columns.

    Raises EncoderUnavailableError for a model that cannot be read, SettingError for too many dimensions.
    """
    rows, tokenizer, (query, document) = _read_model(source)
    there = rows.shape[1]
    if dimension is not None and not 1 <= dimension <= there:
        raise SettingError(f"vectors of {dimension} columns were requested; the model has {there}: choose 1 to {there}")
    cut = None if dimension == there else dimension
    spec = EncoderSpec(
        format=FORMAT,
        identity=identity_of(source.name, source.fingerprint, runtime, DEFAULT_MAX_LENGTH, dimension=cut),
        name=source.name,
        runtime=runtime,
        dimension=cut or there,
        max_length=DEFAULT_MAX_LENGTH,
        query_prompt=query,
        document_prompt=document,
        pooling="StaticEmbedding",
        reads_words=_reads_words(tokenizer),
        origin=source.origin,
    )
    projection = stored_projection(source.folder, there)
    if projection is None:
        encodings = tokenizer.encode_batch(list(sample_texts()), add_special_tokens=False)
        projection = principal_directions(rows[encoding.ids] for encoding in encodings)
    table, scales = quantise_rows(rows[:, :cut]) if runtime == "static-int8" else (rows[:, :cut], np.ones(len(rows)))
    states = np.rint(unit_rows(rows @ projection) * _SCALE).astype(np.int8)
    with atomic_folder(folder) as scratch:
        for name, array in ((_TABLE_FILE, table), (_SCALES_FILE, scales.astype(np.float32)), (_STATES_FILE, states)):
            np.save(scratch / name, np.ascontiguousarray(array))
        tokenizer.save(str(scratch / TOKENIZER_FILE))
        write_pieces(scratch)
        # For training: the exported model, as sentence-transformers opens it.
        shutil.copytree(source.folder, scratch / TORCH_FOLDER)
        write_spec(spec, scratch)
    return spec


def _reads_words(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer cuts each word of a text in the same way as the word alone."""

    def ids(texts: list[str]) -> list[int]:
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        return list(itertools.chain.from_iterable(encoding.ids for encoding in encodings))

    texts = list(sample_texts())
    return ids(texts) == ids([word for text in texts for word in text.split()])


def quantise_rows(rows: Vectors) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows (n, d) as int8 and a scale for each (n,); the largest value of a row becomes 127."""
    scales = np.abs(rows).max(axis=1, initial=0) / _SCALE
    scales[scales == 0] = 1
    return np.rint(rows / scales[:, None]).astype(np.int8), scales


def _read_model(source: ModelSource) -> tuple[Vectors, Tokenizer, tuple[str, str]]:
    """The rows (vocabulary, dimension) of a model, its tokenizer and its prompts."""
    try:
        modules = json.loads((source.folder / MODULES_FILE).read_bytes())
        inner = source.folder / modules[0]["path"]
        weights = load_file(inner / "model.safetensors")
        settings = source.folder / "config_sentence_transformers.json"
        config: dict[str, Any] = json.loads(settings.read_bytes()) if settings.is_file() else {}
        rows = weights["embedding.weight"] if "embedding.weight" in weights else _model2vec_rows(weights)
        prompts = choose_prompts(config.get("prompts") or {}, config.get("default_prompt_name"))
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        raise EncoderUnavailableError(f"{source.folder} cannot be loaded ({reason}); fetch it again") from error
    tokenizer = open_tokenizer(inner / TOKENIZER_FILE, DEFAULT_MAX_LENGTH)
    if rows.ndim != 2 or len(rows) < tokenizer.get_vocab_size():
        shape = "x".join(map(str, rows.shape))
        message = f"{source.folder} has a table of {shape}, and a tokenizer of {tokenizer.get_vocab_size():,} tokens"
        raise EncoderUnavailableError(message)
    if others := [each["type"] for each in modules[1:] if not str(each["type"]).endswith(".Normalize")]:
        raise EncoderUnavailableError(
            f"{source.folder} has {', '.join(others)} after its table, which is not supported"
        )
    return np.nan_to_num(np.asarray(rows, np.float32)), tokenizer, prompts


def _model2vec_rows(weights: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The row of each token in model2vec's weights, which may share rows among tokens and weight them."""
    rows = weights["embeddings"]
    rows = rows[weights["mapping"]] if "mapping" in weights else rows
    return rows * weights["weights"][:, None] if "weights" in weights else rows
