"""The encoder while it is trained: a sentence-transformers model with its prompts, read at a training's length."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from torch.nn import functional

from rerank.towers.material import Floats
from retrieval.encoder import prepared, unit_rows
from retrieval.encoder_folder import whole_folder
from retrieval.encoder_torch import load_model, model_length, no_progress_bar, prompts
from retrieval.errors import SettingError, StoreError, TrainingError
from retrieval.weights import ModelSource

_CHUNK = 2_048
_BATCH_CPU, _BATCH_GPU = 64, 256


@dataclass(frozen=True, slots=True, eq=False)
class Tower:
    """Both text towers: they share their weights, and the prompts tell them apart."""

    model: SentenceTransformer
    name: str
    query_prompt: str
    product_prompt: str
    max_length: int
    """Tokens that training reads; the model that is saved reads as many as before."""
    full_length: int

    def ready_query(self, text: str) -> str:
        """A query as the model reads it, its prompt before it."""
        return prepared(text, self.query_prompt, self.max_length)

    def ready_product(self, text: str) -> str:
        """A product's text as the model reads it."""
        return prepared(text, self.product_prompt, self.max_length)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Unit vectors (n, d) by the present weights."""
        return self._encode([self.ready_query(text) for text in texts])

    def encode_products(self, texts: Sequence[str], progress: Callable[[int], None] = lambda _count: None) -> Floats:
        """The same of products' texts; `progress` is told how many more are done."""
        return self._encode([self.ready_product(text) for text in texts], progress)

    def save(self, folder: Path, beside: Callable[[Path], None] = lambda _folder: None) -> None:
        """Writes a new folder that sentence-transformers opens, whole or not at all; `beside` adds files to it.

        Raises SettingError where `folder` exists, StoreError where it cannot be written.
        """
        if folder.exists():
            raise SettingError(f"{folder} exists; name a new folder for the towers, or remove it")
        self.model.max_seq_length = self.full_length
        try:
            with whole_folder(folder) as scratch, no_progress_bar():
                self.model.save(str(scratch), create_model_card=False)
                beside(scratch)
        except (OSError, SafetensorError) as error:
            message = f"the towers cannot be stored as {folder} ({str(error)[:200]}); see to the disk, then try again"
            raise StoreError(message) from error
        finally:
            self.model.max_seq_length = self.max_length

    def _encode(self, ready: list[str], progress: Callable[[int], None] = lambda _count: None) -> Floats:
        batch = _BATCH_GPU if self.model.device.type == "cuda" else _BATCH_CPU
        parts = [np.empty((0, self.model.get_embedding_dimension() or 0), np.float32)]
        self.model.eval()
        for start in range(0, len(ready), _CHUNK):
            chunk = ready[start : start + _CHUNK]
            while (made := self._made(chunk, batch)) is None:
                if batch == 1:
                    raise TrainingError("the GPU has no memory to encode one text: choose a smaller model")
                batch //= 2
                torch.cuda.empty_cache()
            parts.append(unit_rows(made))
            progress(len(chunk))
        return np.concatenate(parts)

    def _made(self, chunk: list[str], batch: int) -> Floats | None:
        """Vectors of texts, so many at a time; None where the GPU has no memory for that."""
        try:
            # An empty prompt, or sentence-transformers would add the model's default one to ours.
            made = self.model.encode(chunk, prompt="", batch_size=batch, show_progress_bar=False)
        except torch.OutOfMemoryError:
            return None
        return np.asarray(made, np.float32)


def open_tower(source: ModelSource, max_length: int, *, device: str | None = None) -> Tower:
    """The model to begin with; `device` None takes the GPU where there is one.

    Raises EncoderUnavailableError where it cannot be loaded, TrainingError where it has no weights to train.
    """
    model = load_model(source, device=device)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise TrainingError(f"{source.name} has no weights that can be trained: name another model to begin with")
    query, product = prompts(model)
    full = model_length(model)
    model.max_seq_length = min(max_length, full)
    return Tower(model, source.name, query, product, model.max_seq_length, full)


def on_gpu(tower: Tower) -> bool:
    """Whether it runs on a GPU."""
    return tower.model.device.type == "cuda"


def trains_in_bfloat16(tower: Tower) -> bool:
    """Whether its device computes faster in bfloat16, in which it trains as well.

    A CPU may have instructions for it and yet be slower by them: one that has is asked.
    """
    if on_gpu(tower):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16")) and _bfloat16_is_faster()


@cache
def _bfloat16_is_faster() -> bool:
    """By the products of matrices that a step consists of, on this CPU, once."""
    return _matrix_seconds(torch.bfloat16) < _matrix_seconds(torch.float32)


def _matrix_seconds(dtype: torch.dtype) -> float:
    """The fastest of some, so that what runs beside does not count."""
    texts, weights = torch.ones(2_048, 384, dtype=dtype), torch.ones(1_536, 384, dtype=dtype)
    taken = []
    for _ in range(8):
        started = time.perf_counter()
        functional.linear(texts, weights)
        taken.append(time.perf_counter() - started)
    return min(taken)
