"""The teacher on only ONNX Runtime and `tokenizers`: int8 or float32 on a CPU, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.teacher.cross_encoder import TeacherSpec, read_spec
from shelfwise.rerank.teacher.pairs import Batch, PairTokenizer
from shelfwise.retrieval.encoders.folder import MODEL_FILE, TOKENIZER_FILE
from shelfwise.retrieval.encoders.onnx import open_session
from shelfwise.retrieval.encoders.tokenizer import open_tokenizer
from shelfwise.retrieval.errors import EncoderError, EncoderUnavailableError

_BATCH_TOKENS = 320
"""The number of tokens of one run: their activations fit into a core's second-level cache."""

_AHEAD = 1_024
"""The number of batches that wait for a thread: those of half a million pairs would fill the memory."""
_INPUTS = ("input_ids", "token_type_ids")


class OnnxTeacher:
    """A cross-encoder exported by `shelfwise.rerank.teacher.onnx_export`.

    Pairs run together only with pairs of equal length, so nothing is padded, and a run uses one thread; a thread pool
    spreads runs over all cores. Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        """Opens an exported folder; raises EncoderUnavailableError with the name of a missing or damaged file."""
        self.spec: TeacherSpec = read_spec(folder)
        self.identity = self.spec.identity
        self._folder = folder
        tokenizer = open_tokenizer(folder / TOKENIZER_FILE, self.spec.max_length)
        self._pairs = PairTokenizer(tokenizer, self.spec.max_length, self.spec.prompt)
        self._session = open_session(folder / MODEL_FILE)
        self._inputs = tuple(given.name for given in self._session.get_inputs())
        self._check_graph()

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """See `shelfwise.rerank.teacher.teacher.Teacher`; computed on all cores."""
        result = np.empty(len(queries), np.float32)

        def run(batch: Batch) -> int:
            result[batch.rows] = self._run(batch)
            return len(batch.rows)

        batches = self._pairs.tokens(queries, texts).same_length(_BATCH_TOKENS)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="teach") as threads:
            while some := list(islice(batches, _AHEAD)):
                for done in threads.map(run, some):
                    if progress:
                        progress(done)
        return result

    def _run(self, batch: Batch) -> NDArray[np.float32]:
        arrays = dict(zip(_INPUTS, (batch.input_ids, batch.type_ids), strict=True))
        try:
            (scores,) = self._session.run(None, {name: arrays[name] for name in self._inputs})
        except Exception as error:
            # ONNX Runtime's exceptions have no common base class except Exception.
            raise EncoderError(f"{self._folder}: the model failed on a pair ({str(error)[:300]})") from error
        return np.asarray(scores, np.float32)[:, 0]

    def _check_graph(self) -> None:
        shapes = [output.shape for output in self._session.get_outputs()]
        fits = "input_ids" in self._inputs and set(self._inputs) <= set(_INPUTS)
        if not fits or [shape[1:] for shape in shapes] != [[1]]:
            message = (
                f"{self._folder / MODEL_FILE} has inputs {', '.join(self._inputs)} and {len(shapes)} outputs of shape "
                f"{', '.join(str(shape) for shape in shapes)}; a teacher has inputs {' and '.join(_INPUTS)} and one "
                "output of shape (batch, 1); remove the folder to export it again"
            )
            raise EncoderUnavailableError(message)
        try:
            scores = self.score(["a"], ["a"])
        except EncoderError as error:
            message = f"{self._folder / MODEL_FILE} does not run ({error}); remove the folder to export it again"
            raise EncoderUnavailableError(message) from error
        if not np.isfinite(scores).all():
            message = (
                f"{self._folder / MODEL_FILE} returns scores that are not finite; remove the folder to export it again"
            )
            raise EncoderUnavailableError(message)
