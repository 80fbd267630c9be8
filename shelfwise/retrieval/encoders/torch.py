"""The encoder on torch through sentence-transformers, on a GPU if there is one."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers.utils.logging
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Encoding

from shelfwise.retrieval.encoders.base import (
    DEFAULT_MAX_LENGTH,
    NO_STATES,
    PROJECTION_FILE,
    Runtime,
    Tokens,
    empty_tokens,
    principal_directions,
    sample_texts,
    stored_projection,
    text_token_indices,
    unit_rows,
)
from shelfwise.retrieval.encoders.folder import (
    FORMAT,
    TORCH_FOLDER,
    EncoderSpec,
    ProgressCallback,
    PromptedEncoder,
    Vectors,
    choose_prompts,
    identity_of,
    write_spec,
)
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.errors import EncoderError, EncoderUnavailableError, SettingError
from shelfwise.retrieval.store.files import atomic_folder

_BATCH_CPU, _BATCH_GPU = 32, 256
_CHUNK = 4_096
"""The number of texts between two calls of `progress`; sentence-transformers sorts each chunk by length."""
_TOKEN_CHUNK = 512
"""The same with token states, which stay in the device's memory until the chunk is done."""
_LOG = logging.getLogger(__name__)
_Made = TypeVar("_Made")
_Input = TypeVar("_Input")


class TorchEncoder(PromptedEncoder):
    """A sentence-transformers model, run by torch.

    `runtime` "torch" computes in float32, "torch-bf16" in bfloat16: about twice as fast on CPUs with AVX512-BF16 and on
    GPUs, at a cosine of about 0.9999 to float32. The last digits of a vector depend on the other texts of its batch.
    """

    def __init__(self, source: ModelSource, *, runtime: Runtime = "torch", dimension: int | None = None) -> None:
        """`dimension` cuts vectors to their first columns; raises SettingError for more than the model has."""
        model = load_model(source)
        self.spec = model_spec(source, model, runtime, dimension)
        self._model = model.bfloat16() if runtime == "torch-bf16" else model
        self._model.max_seq_length = self.spec.max_length
        self._folder = source.folder
        self._batch = _BATCH_GPU if self._model.device.type == "cuda" else _BATCH_CPU

    @property
    def state_dimension(self) -> int:
        # A transformer with a tokenizer that returns spans has states.
        has_spans = getattr(self._model.tokenizer, "backend_tokenizer", None) is not None
        return self._projection.shape[1] if has_spans and hasattr(self._model[0], "auto_model") else 0

    @cached_property
    def vocabulary(self) -> int:
        return max(self._model.tokenizer.get_vocab().values(), default=0) + 1

    @cached_property
    def _projection(self) -> NDArray[np.float32]:
        return token_projection(self._model, self._folder)

    def save(self, folder: Path) -> None:
        """Writes a folder for `shelfwise.retrieval.encoders.registry.load_encoder`: model, projection of states,
        encoder.json."""
        with atomic_folder(folder) as scratch:
            shutil.copytree(self._folder, scratch / TORCH_FOLDER)
            if self.state_dimension:
                np.save(scratch / TORCH_FOLDER / PROJECTION_FILE, self._projection)
            write_spec(self.spec, scratch)

    def _encode(self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool) -> Vectors:  # noqa: ARG002
        result = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), _CHUNK):
            chunk = self._prepare(texts[start : start + _CHUNK], prompt)
            # An empty prompt; otherwise sentence-transformers would add the model's default one.
            vectors = self._in_batches(self._vectors, chunk)
            result[start : start + len(chunk)] = unit_rows(np.asarray(vectors, np.float32))
            if progress:
                progress(len(chunk))
        return result

    def _encode_with_tokens(
        self,
        texts: Sequence[str],
        prompt: str,
        progress: ProgressCallback,
        *,
        parallel: bool,  # noqa: ARG002
    ) -> tuple[Vectors, list[Tokens]]:
        if not self.state_dimension:
            raise EncoderUnavailableError(f"{self.spec.identity} {NO_STATES}")
        tokens: list[Tokens] = []
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), _TOKEN_CHUNK):
            chunk = self._prepare(texts[start : start + _TOKEN_CHUNK], prompt)
            outputs = self._in_batches(
                lambda ready, batch: list(_run_with_tokens(self._model, ready, prompt, batch)), chunk
            )
            vectors[start : start + len(outputs)] = [output.vector for output in outputs]
            tokens += map(self._project, outputs)
            if progress:
                progress(len(chunk))
        return unit_rows(vectors), tokens

    def _tokenize(self, ready: list[str]) -> list[Encoding]:
        return _read(self._model, ready)

    def _project(self, output: _TokenOutput) -> Tokens:
        if not len(output.ids):
            return empty_tokens(self.state_dimension)
        return Tokens(output.ids, unit_rows(output.states @ self._projection))

    def _vectors(self, ready: list[str], batch: int) -> Any:  # noqa: ANN401
        return self._model.encode(ready, prompt="", batch_size=batch, show_progress_bar=False)

    def _in_batches(self, run: Callable[[list[_Input], int], _Made], ready: list[_Input]) -> _Made:
        """The result of `run` for inputs and the batch size, which is halved, from then on, each time that the GPU runs
        out of memory."""
        with self._translate_errors():
            while True:
                try:
                    return run(ready, self._batch)
                except torch.OutOfMemoryError:
                    if self._batch == 1:
                        raise
                    self._batch //= 2
                # At this point, the error no longer holds the tensors of the batch.
                torch.cuda.empty_cache()
                _LOG.warning("the GPU's memory was full: %d inputs are encoded at a time", self._batch)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raises EncoderError for a failure of the runtime, such as a lost or full GPU."""
        try:
            yield
        except RuntimeError as error:
            raise EncoderError(f"{self.spec.name} failed on an input ({str(error)[:300]})") from error


@dataclass(frozen=True, slots=True)
class _TokenOutput:
    """The model's output for one text: its vector (dimension,), its own tokens (t,) and their states (t, hidden)."""

    vector: NDArray[np.float32]
    ids: NDArray[np.int32]
    states: NDArray[np.float32]


def _run_with_tokens(model: SentenceTransformer, ready: list[str], prompt: str, batch: int) -> Iterator[_TokenOutput]:
    # An empty prompt; otherwise sentence-transformers would add the model's default one.
    outputs: Any = model.encode(ready, prompt="", batch_size=batch, show_progress_bar=False, output_value=None)
    for output, encoding in zip(outputs, _read(model, ready), strict=True):
        own = text_token_indices(encoding, prompt)
        states = output["token_embeddings"][output["attention_mask"].bool()][own]
        yield _TokenOutput(
            output["sentence_embedding"].float().cpu().numpy(),
            np.array(encoding.ids, np.int32)[own],
            states.float().cpu().numpy(),
        )


def _read(model: SentenceTransformer, ready: list[str]) -> list[Encoding]:
    tokenizer: Any = model.tokenizer
    found: list[Encoding] = tokenizer(ready, truncation=True, max_length=model.max_seq_length).encodings
    return found


def token_projection(model: SentenceTransformer, folder: Path) -> NDArray[np.float32]:
    """The projection of a model's token states (hidden, at most 128): stored in its `folder`, or computed from the
    sample texts as products."""
    body: Any = model[0]
    stored = stored_projection(folder, int(body.auto_model.config.hidden_size))
    if stored is not None:
        return stored
    _, prompt = prompts(model)
    ready = [prompt + text for text in sample_texts()]
    return principal_directions(output.states for output in _run_with_tokens(model, ready, prompt, _BATCH_CPU))


def load_model(source: ModelSource, *, device: str | None = None) -> SentenceTransformer:
    """The model in float32, ready to run; `device` None means the GPU if there is one.

    Raises EncoderUnavailableError if sentence-transformers cannot load the folder.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with no_progress_bar():
            return SentenceTransformer(str(source.folder), device=place, local_files_only=True).float().eval()
    except Exception as error:
        # The type of error depends on the broken file: OSError, ValueError, KeyError, or one of safetensors.
        message = f"{source.folder} cannot be loaded ({type(error).__name__}: {str(error)[:300]}); fetch it again"
        raise EncoderUnavailableError(message) from error


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Disables the progress bars of transformers."""
    bars: Any = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def gpu_ready() -> bool:
    """Whether torch can run on a GPU of this machine."""
    return bool(torch.cuda.is_available())


def prompts(model: SentenceTransformer) -> tuple[str, str]:
    """The prompts of queries and of product texts, empty if the model has none."""
    return choose_prompts(model.prompts, model.default_prompt_name)


def model_length(model: SentenceTransformer) -> int:
    """The most tokens that the model reads; DEFAULT_MAX_LENGTH for one without a limit, such as a table."""
    length = model.max_seq_length or math.inf
    return DEFAULT_MAX_LENGTH if length == math.inf else int(length)


def set_length(model: SentenceTransformer, tokens: int) -> None:
    """Sets the most tokens of a text that the model reads."""
    if isinstance(model[0], StaticEmbedding):
        model[0].tokenizer.enable_truncation(tokens)
    else:
        model.max_seq_length = tokens


def model_spec(
    source: ModelSource, model: SentenceTransformer, runtime: Runtime, dimension: int | None, opset: int = 0
) -> EncoderSpec:
    """The spec of a model, whose vectors are cut to their first `dimension` columns.

    Raises SettingError for more columns than it has.
    """
    there = vector_dimension(model)
    cut = None if dimension == there else dimension
    if cut is not None and not 1 <= cut < there:
        raise SettingError(f"vectors of {cut} columns were requested; the model has {there}: choose 1 to {there}")
    if cut is not None:
        model.truncate_dim = cut
    length = min(DEFAULT_MAX_LENGTH, model_length(model))
    query, document = prompts(model)
    modules = [(type(module).__name__, str(getattr(module, "pooling_mode", ""))) for module in list(model)[1:]]
    return EncoderSpec(
        format=FORMAT,
        identity=identity_of(source.name, source.fingerprint, runtime, length, dimension=cut),
        name=source.name,
        runtime=runtime,
        dimension=cut or there,
        max_length=length,
        query_prompt=query,
        document_prompt=document,
        pooling=", ".join(" ".join(names).strip() for names in modules),
        opset=opset,
        origin=source.origin,
    )


def vector_dimension(model: SentenceTransformer) -> int:
    """The dimension of the model's vectors, determined by encoding a word."""
    return int(np.asarray(model.encode(["a"], show_progress_bar=False)).shape[1])
