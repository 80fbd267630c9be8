"""The teacher on torch through sentence-transformers: on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.teacher.cross_encoder import fast_tokenizer, load_cross_encoder, logits, spec_of
from rerank.teacher.pairs import Batch, PairTokenizer
from retrieval.encoder import DEFAULT_MAX_LENGTH, Runtime
from retrieval.errors import EncoderError
from retrieval.weights import ModelSource

_BATCH_CPU, _BATCH_GPU = 32, 256


class TorchTeacher:
    """A sentence-transformers CrossEncoder, run by torch; "torch-bf16" computes in bfloat16."""

    def __init__(
        self, source: ModelSource, *, runtime: Runtime = "torch", max_length: int = DEFAULT_MAX_LENGTH
    ) -> None:
        """Loads the model; raises EncoderUnavailableError where sentence-transformers cannot."""
        model = load_cross_encoder(source)
        self._model = model.bfloat16() if runtime == "torch-bf16" else model
        self._batch = _BATCH_GPU if self._model.device.type == "cuda" else _BATCH_CPU
        self.spec = spec_of(source, model, runtime, max_length)
        self._pairs = PairTokenizer(fast_tokenizer(model, source.name), self.spec.max_length, self.spec.prompt)

    @property
    def identity(self) -> str:
        """See `rerank.teacher.teacher.Teacher`."""
        return self.spec.identity

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """See `rerank.teacher.teacher.Teacher`; batches are sorted by length and padded."""
        result = np.empty(len(queries), np.float32)
        for batch in self._pairs.tokens(queries, texts).sorted_by_length(self._batch):
            result[batch.rows] = self._run(batch)
            if progress:
                progress(len(batch.rows))
        return result

    def _run(self, batch: Batch) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                result: NDArray[np.float32] = logits(self._model, batch).cpu().numpy()
        except RuntimeError as error:
            # A GPU that is lost or full, above all.
            raise EncoderError(f"{self.spec.name} failed on a pair ({str(error)[:300]})") from error
        return result
