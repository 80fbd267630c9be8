"""The encoder on ONNX Runtime and `tokenizers`, for serving without torch."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnxruntime as ort
import xxhash
from numpy.typing import NDArray

from retrieval.encoders.base import NO_STATES, TextTokens, Tokens, empty_tokens, text_token_indices, unit_rows
from retrieval.encoders.folder import MODEL_FILE, TOKENIZER_FILE, ProgressCallback, PromptedEncoder, Vectors, read_spec
from retrieval.errors import EncoderError, EncoderUnavailableError, ShelfwiseError
from retrieval.store.files import atomic_folder, load_array

if TYPE_CHECKING:
    from tokenizers import Tokenizer


_BATCH_TOKENS = 320
"""The tokens of one run: their activations fit a core's second-level cache."""
_FEW = 16
"""Texts for which the vocabulary of a unigram tokenizer is not loaded, where its mapped form is stored."""
_CHUNK = 1_024
"""Texts tokenized at a time."""
_SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasGeluFusion"]
"""Fused kernels of ONNX Runtime that are slower on a CPU than the operators they replace."""


class OnnxEncoder(PromptedEncoder):
    """A model exported by `retrieval.encoders.onnx_export`, in float32 or int8.

    A batch holds texts of equal length in tokens, so nothing is padded, and int8 activations have a scale for each
    token: an int8 vector does not depend on the other texts of its batch, to the last bit.

    Every run uses the calling thread alone, so that searches do not wait for each other; products are spread over all
    cores by a thread pool. Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        """Opens an exported folder; raises EncoderUnavailableError naming the file that is missing or damaged."""
        self.spec = read_spec(folder)
        self._folder = folder
        self._unigrams = self._open_unigrams()
        if self._unigrams is None:
            self._tokenizer  # noqa: B018 - raises what is wrong with it
        self._session = open_session(folder / MODEL_FILE)
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        self.state_dimension = int(shapes["states"][-1]) if "states" in shapes else 0
        self._check_graph()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return open_tokenizer(self._folder / TOKENIZER_FILE, self.spec.max_length)

    def _open_unigrams(self) -> UnigramTokenizer | None:
        path = self._folder / PIECES_FILE
        try:
            return UnigramTokenizer(self._folder, self.spec.max_length) if path.exists() else None
        except (ShelfwiseError, OSError, ValueError, KeyError) as error:
            raise EncoderUnavailableError(_damaged(path, error)) from error

    @cached_property
    def vocabulary(self) -> int:
        if self._unigrams:
            return self._unigrams.vocabulary
        return max(self._tokenizer.get_vocab().values(), default=0) + 1

    def save(self, folder: Path) -> None:
        with atomic_folder(folder) as scratch:
            shutil.copytree(self._folder, scratch, dirs_exist_ok=True)
            split_weights(scratch / MODEL_FILE)
            write_pieces(scratch)

    def _encode(self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool) -> Vectors:
        result = np.empty((len(texts), self.dimension), np.float32)
        tokens: list[list[int]] = []
        for start in range(0, len(texts), _CHUNK):
            ready = self._prepare(texts[start : start + _CHUNK], prompt)
            # A tokenizer without special tokens gives an empty text none; the graph needs one.
            tokens += [encoding.ids or [0] for encoding in self._tokenize(ready)]

        def run(rows: list[int], ids: NDArray[np.int64]) -> None:
            result[rows] = self._run(ids)

        _run_batches(run, _batches(tokens), progress, parallel=parallel)
        return result

    def _encode_with_tokens(
        self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool
    ) -> tuple[Vectors, list[Tokens]]:
        if texts and not self.state_dimension:
            raise EncoderUnavailableError(f"{self._folder} {NO_STATES}")
        vectors = np.empty((len(texts), self.dimension), np.float32)
        tokens = [empty_tokens(self.state_dimension)] * len(texts)
        encodings = self._tokenize(self._prepare(texts, prompt))
        own = [text_token_indices(encoding, prompt) for encoding in encodings]

        def run(rows: list[int], ids: NDArray[np.int64]) -> None:
            found, states = self._outputs(["vectors", "states"], ids)
            vectors[rows] = unit_rows(found)
            for row, token_ids, token_states in zip(rows, ids, states, strict=True):
                tokens[row] = Tokens(token_ids[own[row]].astype(np.int32), token_states[own[row]])

        _run_batches(run, _batches([encoding.ids or [0] for encoding in encodings]), progress, parallel=parallel)
        return vectors, tokens

    def _tokenize(self, ready: list[str]) -> Sequence[TextTokens]:
        if self._unigrams and len(ready) <= _FEW:
            return [self._unigrams.encode(text) for text in ready]
        return self._tokenizer.encode_batch(ready)

    def _run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        (vectors,) = self._outputs(["vectors"], ids)
        return unit_rows(vectors)

    def _outputs(self, names: list[str], ids: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        try:
            outputs = self._session.run(names, {"input_ids": ids}, _NOTHING_ELSE)
        except Exception as error:
            # ONNX Runtime's exceptions have no common base but Exception.
            raise EncoderError(f"{self._folder}: the model failed on a text ({str(error)[:300]})") from error
        return [np.asarray(output, np.float32) for output in outputs]

    def _check_graph(self) -> None:
        vectors = self._run(np.array([self._tokenize(["a"])[0].ids or [0]], np.int64))
        if vectors.shape != (1, self.dimension):
            message = (
                f"{self._folder}: its graph produces vectors of dimension {vectors.shape[-1]}, its encoder.json has "
                f"{self.dimension}; export the model again"
            )
            raise EncoderUnavailableError(message)


def _run_batches(
    run: Callable[[list[int], NDArray[np.int64]], None],
    batches: Iterable[tuple[list[int], NDArray[np.int64]]],
    progress: ProgressCallback,
    *,
    parallel: bool,
) -> None:
    """Runs the batches, in this thread or on all cores; `progress` receives the number of further texts."""

    def count(batch: tuple[list[int], NDArray[np.int64]]) -> int:
        run(*batch)
        return len(batch[0])

    workers = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="encode") if parallel else None
    with workers or nullcontext():
        for done in (workers.map if workers else map)(count, batches):
            if progress:
                progress(done)


def _batches(tokens: Sequence[list[int]]) -> Iterable[tuple[list[int], NDArray[np.int64]]]:
    """Rows of texts with the same number of tokens, and their ids (rows, tokens); longest first."""
    groups: dict[int, list[int]] = {}
    for row, ids in enumerate(tokens):
        groups.setdefault(len(ids), []).append(row)
    for length in sorted(groups, reverse=True):
        size = max(1, _BATCH_TOKENS // length)
        rows = groups[length]
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            yield batch, np.array([tokens[row] for row in batch], np.int64)


def open_tokenizer(path: Path, max_length: int) -> Tokenizer:
    """A stored tokenizer that cuts to `max_length` tokens; raises EncoderUnavailableError naming a damaged file."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The Rust library raises bare Exception for every fault.
        raise EncoderUnavailableError(_damaged(path, error)) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


_WEIGHTS_FILE = "model.weights"
_LEAST_SPLIT = 1_024
"""Bytes of a tensor that is stored beside the graph."""


def split_weights(path: Path) -> None:
    """Moves the weights of a stored graph to a file beside it, which ONNX Runtime maps: of the vocabulary only the rows
    that queries read are in memory, and processes share them."""
    import onnx

    weights = path.with_name(_WEIGHTS_FILE)
    if weights.exists():
        return
    graph = onnx.load(path)
    onnx.save(graph, path, save_as_external_data=True, location=_WEIGHTS_FILE, size_threshold=_LEAST_SPLIT)
    if weights.exists():
        weights.chmod(path.stat().st_mode)


def open_session(path: Path) -> ort.InferenceSession:
    """A stored graph, run by the calling thread alone; raises EncoderUnavailableError naming a damaged file."""
    try:
        return open_graph(path, without=_SLOW_FUSIONS)
    except Exception as error:
        # ONNX Runtime's exceptions have no common base but Exception.
        raise EncoderUnavailableError(_damaged(path, error)) from error


_NOTHING_ELSE = ort.RunOptions()
_NOTHING_ELSE.only_execute_path_to_fetches = True
"""Requests for vectors alone do not compute states."""


def _damaged(path: Path, error: Exception) -> str:
    state = f"cannot be loaded ({str(error)[:300]})" if path.is_file() else "is missing"
    return f"{path} {state}; rebuild the index, or remove the folder to have it made again"


def open_graph(path: Path, *, without: Sequence[str] = ()) -> ort.InferenceSession:
    """A stored graph, run by the calling thread alone; `without` names optimizers to disable.

    Raises whatever ONNX Runtime raises: its exceptions have no common base but Exception.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not _has_vnni():
        # There, sums of uint8 x int8 products would saturate at 16 bits; this mode is exact, at half the speed.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without))


@cache
def _has_vnni() -> bool:
    """Whether the processor adds products of 8-bit numbers in 32 bits (AVX512-VNNI or AVX-VNNI on x86)."""
    try:
        described = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    return "avx512_vnni" in described or "avx_vnni" in described


# `tokenizers` keeps a unigram vocabulary as a trie: a quarter of a gigabyte for 250,000 pieces. Which pieces a text is
# cut into depends only on those that occur in it (Kudo 2018, Subword Regularization, section 3.2: the Viterbi path) and
# on the lowest score, from which that of an unknown character follows. So a tokenizer of these few pieces is made for
# each text; it takes less than a millisecond, and cuts the text in the same way.

PIECES_FILE = "pieces.npy"
_FRAME_FILE = "pieces.json"
_PIECE = np.dtype([("hash", "<u8"), ("id", "<u4"), ("score", "<f8")])


class _Frame(msgspec.Struct, frozen=True):
    """All of a tokenizer but its pieces."""

    tokenizer: dict[str, Any]
    """tokenizer.json with the pieces that every text needs: added ones, the unknown one, one of the lowest score."""
    ids: list[int]
    """Of these pieces."""
    longest: int
    """Characters of a piece."""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of a text, as `tokenizers.Encoding` has them."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    special_tokens_mask: list[int]


def write_pieces(folder: Path) -> None:
    """Writes the mapped form of a stored tokenizer beside it, if it is a unigram tokenizer."""
    content = msgspec.json.decode((folder / TOKENIZER_FILE).read_bytes())
    model = content["model"]
    if model.get("type") != "Unigram" or (folder / PIECES_FILE).exists():
        return
    vocabulary = [(str(piece), float(score)) for piece, score in model["vocab"]]
    pieces = np.array([(_hash(text), place, score) for place, (text, score) in enumerate(vocabulary)], _PIECE)
    pieces.sort(order="hash")
    added = {each["content"] for each in content["added_tokens"]}
    lowest = min(range(len(vocabulary)), key=lambda place: vocabulary[place][1])
    needed = {place for place, (text, _) in enumerate(vocabulary) if text in added or text.startswith("<0x")}
    ids = sorted(needed | {model["unk_id"], lowest})
    model["vocab"], model["unk_id"] = [vocabulary[place] for place in ids], ids.index(model["unk_id"])
    np.save(folder / PIECES_FILE, pieces)
    frame = _Frame(content, ids, max(len(text) for text, _ in vocabulary))
    (folder / _FRAME_FILE).write_bytes(msgspec.json.encode(frame))


class UnigramTokenizer:
    """The tokenizer of a folder that `write_pieces` wrote. Thread-safe."""

    def __init__(self, folder: Path, max_length: int) -> None:
        from tokenizers import AddedToken, Tokenizer

        self._pieces = load_array(folder / PIECES_FILE, mapped=True)
        self._hashes = self._pieces["hash"].copy()
        frame = msgspec.json.decode((folder / _FRAME_FILE).read_bytes(), type=_Frame)
        model, added = frame.tokenizer["model"], frame.tokenizer["added_tokens"]
        self._longest, self._max_length = frame.longest, max_length
        self._own = [(str(piece), float(score)) for piece, score in model["vocab"]]
        self._own_ids, self._own_set = frame.ids, frozenset(frame.ids)
        self._unknown, self._has_bytes = model["unk_id"], bool(model.get("byte_fallback"))
        self._added_ids = {each["content"]: each["id"] for each in added}
        self._added = [AddedToken(**{k: v for k, v in each.items() if k != "id"}) for each in added]
        self._splitter = re.compile("|".join(re.escape(each) for each in self._added_ids) or r"(?!)")
        bare = Tokenizer.from_str(msgspec.json.encode(frame.tokenizer).decode())
        self._normalizer, self._pre_tokenizer, self._post_processor = (
            bare.normalizer,
            bare.pre_tokenizer,
            bare.post_processor,
        )
        self.vocabulary: int = 1 + max(len(self._pieces) - 1, *self._added_ids.values())
        """All token ids are below it."""

    def encode(self, text: str) -> TokenizedText:
        """The tokens of one text; never raises."""
        from tokenizers import Tokenizer, models

        found = self._occurring(text)
        ids = [*self._own_ids, *(place for _, place, _ in found)]
        pieces = [*self._own, *((piece, score) for piece, _, score in found)]
        tokenizer = Tokenizer(models.Unigram(pieces, self._unknown, self._has_bytes))
        if self._normalizer is not None:
            tokenizer.normalizer = self._normalizer
        if self._pre_tokenizer is not None:
            tokenizer.pre_tokenizer = self._pre_tokenizer
        if self._post_processor is not None:
            tokenizer.post_processor = self._post_processor
        tokenizer.add_special_tokens(self._added)
        tokenizer.enable_truncation(self._max_length)
        encoding = tokenizer.encode(text)
        ids += [self._added_ids[tokenizer.id_to_token(place)] for place in range(len(ids), tokenizer.get_vocab_size())]
        mask = encoding.special_tokens_mask
        own = [token if special else ids[token] for token, special in zip(encoding.ids, mask, strict=True)]
        return TokenizedText(own, encoding.offsets, mask)

    def _occurring(self, text: str) -> list[tuple[str, int, float]]:
        """The pieces that occur in a text, with their ids and scores, each once."""
        parts = list(dict.fromkeys(self._substrings(text)))
        hashes = np.array([_hash(part) for part in parts], np.uint64)
        places = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        at = np.flatnonzero(self._hashes[places] == hashes)
        found = self._pieces[places[at]]
        triples = zip(at.tolist(), found["id"].tolist(), found["score"].tolist(), strict=True)
        return [(parts[place], piece, score) for place, piece, score in triples if piece not in self._own_set]

    def _substrings(self, text: str) -> Iterator[str]:
        for segment in self._splitter.split(text):
            normal = self._normalizer.normalize_str(segment) if self._normalizer is not None else segment
            words = self._pre_tokenizer.pre_tokenize_str(normal) if self._pre_tokenizer is not None else [(normal, ())]
            for word, _ in words:
                for start in range(len(word)):
                    for end in range(start + 1, min(len(word), start + self._longest) + 1):
                        yield word[start:end]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
