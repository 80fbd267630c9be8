"""The encoder on ONNX Runtime and `tokenizers` alone: what serves, without torch, started in a fraction of a second."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.encoder import prepared, unit_rows
from retrieval.encoder_folder import MODEL_FILE, TOKENIZER_FILE, EncoderSpec, read_spec, whole_folder
from retrieval.errors import EncoderError, EncoderUnavailableError

_BATCH_TOKENS = 320
"""Tokens that one run takes: their activations stay in a core's second-level cache."""
_CHUNK = 1_024
"""Texts tokenized at a time."""
_SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasGeluFusion"]
"""ONNX Runtime's fused kernels that take longer on a CPU than the operators they replace."""


class OnnxEncoder:
    """A model exported by `retrieval.onnx_export`, in float32 or int8.

    Texts run together only with texts of just as many tokens, so nothing is padded, and int8 activations have a scale
    for each token: a product's int8 vector is the same, to the last bit, whatever is encoded beside it. Measured over
    2,000 product titles on two cores, int8 with a scale for each token in such batches was 1.3 times as fast as one
    scale for the tensor and one text at a time, the other way to that purity, and nearer to float32.

    Every run uses the calling thread alone, so threads that search do not wait for each other; products are spread
    over all cores by threads of ours. Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        """Opens an exported folder; raises EncoderUnavailableError naming the file that is missing or damaged."""
        self.spec: EncoderSpec = read_spec(folder)
        self._folder = folder
        self._tokenizer = _tokenizer(folder / TOKENIZER_FILE, self.spec.max_length)
        self._session = _session(folder / MODEL_FILE)
        self._check_graph()

    @property
    def identity(self) -> str:
        """See `retrieval.encoder.Encoder`."""
        return self.spec.identity

    @property
    def dimension(self) -> int:
        """Columns of the vectors."""
        return self.spec.dimension

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of queries, (n, dimension), computed in the calling thread."""
        result = np.empty((len(texts), self.dimension), np.float32)
        for rows, ids in _batches(self._token_ids(texts, self.spec.query_prompt)):
            result[rows] = self._run(ids)
        return result

    def encode_products(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors of product texts, (n, dimension), computed on all cores."""
        result = np.empty((len(texts), self.dimension), np.float32)
        tokens: list[list[int]] = []
        for start in range(0, len(texts), _CHUNK):
            tokens += self._token_ids(texts[start : start + _CHUNK], self.spec.document_prompt)

        def run(batch: tuple[list[int], NDArray[np.int64]]) -> int:
            rows, ids = batch
            result[rows] = self._run(ids)
            return len(rows)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="encode") as threads:
            for done in threads.map(run, _batches(tokens)):
                if progress:
                    progress(done)
        return result

    def save(self, folder: Path) -> None:
        """Copies the exported files to `folder`, complete or not at all."""
        with whole_folder(folder) as scratch:
            shutil.copytree(self._folder, scratch, dirs_exist_ok=True)

    def _token_ids(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        ready = [prepared(text, prompt, self.spec.max_length) for text in texts]
        # A tokenizer without special tokens gives an empty text none; the graph needs one.
        return [encoding.ids or [0] for encoding in self._tokenizer.encode_batch_fast(ready)]

    def _run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        try:
            (vectors,) = self._session.run(None, {"input_ids": ids})
        except Exception as error:
            # ONNX Runtime's exceptions have no common base but Exception.
            raise EncoderError(f"{self._folder}: the model failed on a text ({str(error)[:300]})") from error
        return unit_rows(np.asarray(vectors, np.float32))

    def _check_graph(self) -> None:
        vectors = self._run(np.array([self._tokenizer.encode("a").ids or [0]], np.int64))
        if vectors.shape != (1, self.dimension):
            message = (
                f"{self._folder}: its graph gives vectors of dimension {vectors.shape[-1]}, its encoder.json says "
                f"{self.dimension}; export the model again"
            )
            raise EncoderUnavailableError(message)


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


def _tokenizer(path: Path, max_length: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The Rust library raises bare Exception for every fault.
        raise EncoderUnavailableError(_damaged(path, error)) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not _has_vnni():
        # There, sums of uint8 x int8 products would saturate at 16 bits; this mode is exact, at half the speed.
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOW_FUSIONS
        )
    except Exception as error:
        # ONNX Runtime's exceptions have no common base but Exception.
        raise EncoderUnavailableError(_damaged(path, error)) from error


@cache
def _has_vnni() -> bool:
    """Whether the processor adds products of 8-bit numbers in 32 bits (AVX512-VNNI or AVX-VNNI on x86)."""
    try:
        described = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    return "avx512_vnni" in described or "avx_vnni" in described


def _damaged(path: Path, error: Exception) -> str:
    state = f"cannot be loaded ({str(error)[:300]})" if path.is_file() else "is missing"
    return f"{path} {state}; rebuild the index, or remove the folder to have it made again"
