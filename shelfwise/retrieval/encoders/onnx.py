"""The encoder on ONNX Runtime and `tokenizers`, for serving without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from shelfwise.retrieval.encoders.base import NO_STATES, TextTokens, Tokens, empty_tokens, text_token_indices, unit_rows
from shelfwise.retrieval.encoders.folder import (
    MODEL_FILE,
    ProgressCallback,
    StoredEncoder,
    Vectors,
    describe_damage,
    read_spec,
    run_batches,
)
from shelfwise.retrieval.encoders.tokenizer import StoredTokenizer
from shelfwise.retrieval.errors import EncoderError, EncoderUnavailableError

_BATCH_TOKENS = 320
"""The number of tokens of one run: their activations fit into a core's second-level cache."""
_CHUNK = 1_024
"""The number of texts tokenized at a time."""
_TokenBatch = tuple[list[int], NDArray[np.int64]]
"""Indices of texts, and the ids of their tokens (rows, tokens)."""
_SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasGeluFusion"]
"""Fused kernels of ONNX Runtime that are slower on a CPU than the operators they replace."""


class OnnxEncoder(StoredEncoder):
    """A model exported by `shelfwise.retrieval.encoders.onnx_export`, in float32 or int8.

    A batch has texts of equal length in tokens, so nothing is padded, and int8 activations have one scale per token: an
    int8 vector does not depend on the other texts of its batch, to the last bit.

    Each run uses only the calling thread, so that searches do not wait for each other; a thread pool spreads products
    over all cores. Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        """Opens an exported folder; raises EncoderUnavailableError with the name of a missing or damaged file."""
        self.spec = read_spec(folder)
        self._folder = folder
        self._tokenizer = StoredTokenizer(folder, self.spec.max_length)
        self._session = open_session(folder / MODEL_FILE)
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        self.state_dimension = int(shapes["states"][-1]) if "states" in shapes else 0
        self._check_graph()

    @property
    def vocabulary(self) -> int:
        return self._tokenizer.vocabulary

    def _encode(self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool) -> Vectors:
        result = np.empty((len(texts), self.dimension), np.float32)
        tokens: list[list[int]] = []
        for start in range(0, len(texts), _CHUNK):
            ready = self._prepare(texts[start : start + _CHUNK], prompt)
            # A tokenizer without special tokens returns no tokens for an empty text, but the graph needs one.
            tokens += [encoding.ids or [0] for encoding in self._tokenize(ready)]

        def run(batch: _TokenBatch) -> int:
            rows, ids = batch
            result[rows] = self._run(ids)
            return len(rows)

        run_batches(run, _batches(tokens), progress, parallel=parallel)
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

        def run(batch: _TokenBatch) -> int:
            rows, ids = batch
            found, states = self._outputs(["vectors", "states"], ids)
            vectors[rows] = unit_rows(found)
            for row, token_ids, token_states in zip(rows, ids, states, strict=True):
                tokens[row] = Tokens(token_ids[own[row]].astype(np.int32), token_states[own[row]])
            return len(rows)

        run_batches(run, _batches([encoding.ids or [0] for encoding in encodings]), progress, parallel=parallel)
        return vectors, tokens

    def _tokenize(self, ready: list[str]) -> Sequence[TextTokens]:
        return self._tokenizer.encode_batch(ready)

    def _run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        (vectors,) = self._outputs(["vectors"], ids)
        return unit_rows(vectors)

    def _outputs(self, names: list[str], ids: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        try:
            outputs = self._session.run(names, {"input_ids": ids}, _NOTHING_ELSE)
        except Exception as error:
            # ONNX Runtime's exceptions have no common base class except Exception.
            raise EncoderError(f"{self._folder}: the model failed on a text ({str(error)[:300]})") from error
        return [np.asarray(output, np.float32) for output in outputs]

    def _check_graph(self) -> None:
        vectors = self._run(np.array([self._tokenize(["a"])[0].ids or [0]], np.int64))
        if vectors.shape != (1, self.dimension):
            message = (
                f"{self._folder}: its graph produces vectors of dimension {vectors.shape[-1]}, but its encoder.json "
                f"has {self.dimension}; export the model again"
            )
            raise EncoderUnavailableError(message)


def _batches(tokens: Sequence[list[int]]) -> Iterable[_TokenBatch]:
    """Texts with the same number of tokens; longest first."""
    groups: dict[int, list[int]] = {}
    for row, ids in enumerate(tokens):
        groups.setdefault(len(ids), []).append(row)
    for length in sorted(groups, reverse=True):
        size = max(1, _BATCH_TOKENS // length)
        rows = groups[length]
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            yield batch, np.array([tokens[row] for row in batch], np.int64)


WEIGHTS_FILE = "model.weights"
"""The large tensors of a stored graph, in a file next to it. ONNX Runtime maps it, so that processes share it, and only
those rows of the vocabulary that queries read are in memory."""


def open_session(path: Path) -> ort.InferenceSession:
    """A stored graph, run only by the calling thread; raises EncoderUnavailableError for a damaged file."""
    try:
        return open_graph(path, without=_SLOW_FUSIONS)
    except Exception as error:
        # ONNX Runtime's exceptions have no common base class except Exception.
        raise EncoderUnavailableError(describe_damage(path, error)) from error


_NOTHING_ELSE = ort.RunOptions()
_NOTHING_ELSE.only_execute_path_to_fetches = True
"""Requests for vectors only do not compute states."""


def open_graph(path: Path, *, without: Sequence[str] = ()) -> ort.InferenceSession:
    """A stored graph, run only by the calling thread; `without` names optimizers to disable.

    Raises whatever ONNX Runtime raises: its exceptions have no common base class except Exception.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not _has_vnni():
        # Otherwise sums of uint8 x int8 products would saturate at 16 bits; this mode is exact, at half the speed.
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
