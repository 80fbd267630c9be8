"""The folder of a stored encoder: encoder.json, the identity of its vectors, the fingerprint of a model."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from shelfwise.retrieval.encoders.base import (
    Encoder,
    Runtime,
    TextTokens,
    Tokens,
    TokenSpans,
    prepare_text,
    token_spans,
)
from shelfwise.retrieval.errors import EncoderUnavailableError
from shelfwise.retrieval.store.files import atomic_folder, format_json

Vectors = NDArray[np.float32]
ProgressCallback = Callable[[int], None] | None
Batch = TypeVar("Batch")

FORMAT = 2
"""Part of every identity: increased when the export or the quantiser changes a model's output."""
SPEC_FILE = "encoder.json"
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
TORCH_FOLDER = "model"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model")
_CHUNK_BYTES = 1 << 24


class EncoderSpec(msgspec.Struct, frozen=True):
    """The content of encoder.json: everything that running the model needs besides weights and tokenizer."""

    format: int
    identity: str
    name: str
    """The model's name, for display."""
    runtime: Runtime
    dimension: int
    max_length: int
    """The most tokens, including the prompt and special tokens."""
    query_prompt: str = ""
    document_prompt: str = ""
    pooling: str = ""
    """The sentence-transformers modules after the transformer, for display: they are part of the graph."""
    opset: int = 0
    """ONNX operator set; 0 for torch."""
    reads_words: bool = False
    """Whether the tokenizer cuts a word of a text in the same way as the word alone; determined for tables only."""
    origin: str = ""
    """The pretrained model from which its weights were trained; empty if it was not trained."""


class PromptedEncoder(ABC):
    """Base class of the runtimes: the methods of `TokenEncoder` for queries and products, with their prompts."""

    spec: EncoderSpec

    @property
    def identity(self) -> str:
        return self.spec.identity

    @property
    def dimension(self) -> int:
        return self.spec.dimension

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts, self.spec.query_prompt, None, parallel=False)

    def encode_products(self, texts: Sequence[str], progress: ProgressCallback = None) -> Vectors:
        return self._encode(texts, self.spec.document_prompt, progress, parallel=True)

    def encode_queries_with_tokens(self, texts: Sequence[str]) -> tuple[Vectors, list[Tokens]]:
        return self._encode_with_tokens(texts, self.spec.query_prompt, None, parallel=False)

    def encode_products_with_tokens(
        self, texts: Sequence[str], progress: ProgressCallback = None
    ) -> tuple[Vectors, list[Tokens]]:
        return self._encode_with_tokens(texts, self.spec.document_prompt, progress, parallel=True)

    def query_spans(self, text: str) -> TokenSpans:
        return self._spans(text, self.spec.query_prompt)

    def product_spans(self, text: str) -> TokenSpans:
        return self._spans(text, self.spec.document_prompt)

    def _prepare(self, texts: Sequence[str], prompt: str) -> list[str]:
        return [prepare_text(text, prompt, self.spec.max_length) for text in texts]

    def _spans(self, text: str, prompt: str) -> TokenSpans:
        (ready,) = self._prepare([text], prompt)
        return token_spans(self._tokenize([ready])[0], ready, prompt)

    @abstractmethod
    def _encode(self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool) -> Vectors:
        """Unit vectors (n, dimension); uses all cores if `parallel` is set and the runtime can."""

    @abstractmethod
    def _encode_with_tokens(
        self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool
    ) -> tuple[Vectors, list[Tokens]]:
        """Unit vectors (n, dimension) and the tokens of each text; see `_encode`."""

    @abstractmethod
    def _tokenize(self, ready: list[str]) -> Sequence[TextTokens]:
        """The tokens of texts that begin with their prompt."""


def run_batches(
    run: Callable[[Batch], int], batches: Iterable[Batch], progress: ProgressCallback, *, parallel: bool
) -> None:
    """Runs the batches, in this thread or on all cores. `run` returns the number of texts in a batch, which `progress`
    receives."""
    workers = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="encode") if parallel else None
    with workers or nullcontext():
        for done in (workers.map if workers else map)(run, batches):
            if progress:
                progress(done)


def choose_prompts(prompts: Mapping[str, str | None], default_name: str | None) -> tuple[str, str]:
    """The prompts of queries and of product texts among those that a model names, empty if it has none."""
    known = {name: text for name, text in prompts.items() if text}
    default = known.get(default_name or "", "")
    document = next((known[name] for name in ("document", "passage", "corpus") if name in known), default)
    return known.get("query", default), document


class StoredEncoder(PromptedEncoder):
    """Base class of the runtimes that run a stored folder as it is."""

    _folder: Path

    def save(self, folder: Path) -> None:
        with atomic_folder(folder) as scratch:
            shutil.copytree(self._folder, scratch, dirs_exist_ok=True)


def origin_of(encoder: Encoder) -> str:
    """The pretrained model from which an encoder's weights were trained; empty if it was not trained."""
    return encoder.spec.origin if isinstance(encoder, PromptedEncoder) else ""


def read_spec(folder: Path) -> EncoderSpec:
    """The spec of a stored encoder.

    Raises EncoderUnavailableError if the folder or its encoder.json is missing, unreadable or of another format.
    """
    path = folder / SPEC_FILE
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=EncoderSpec)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read ({error}); rebuild the index, or remove the folder to export it again"
        raise EncoderUnavailableError(message) from error
    if spec.format != FORMAT:
        message = f"{path} has format {spec.format}, but this program reads {FORMAT}; rebuild with the encoder's name"
        raise EncoderUnavailableError(message)
    return spec


def write_spec(spec: EncoderSpec, folder: Path) -> None:
    """Writes encoder.json."""
    (folder / SPEC_FILE).write_bytes(format_json(spec))


def describe_damage(path: Path, error: Exception) -> str:
    """The message for a file of a stored encoder that cannot be opened, with what to do."""
    state = f"cannot be loaded ({str(error)[:300]})" if path.is_file() else "is missing"
    return f"{path} {state}; rebuild the index, or remove the folder to export it again"


def identity_of(name: str, fingerprint: str, runtime: Runtime, max_length: int, *, dimension: int | None = None) -> str:
    """The identity of a model's vectors, also a folder name. `fingerprint` covers weights, tokenizer and prompts,
    `dimension` is that of cut vectors."""
    cut = f"-{dimension}d" if dimension else ""
    digest = xxhash.xxh3_64_hexdigest(f"{FORMAT} {fingerprint} {runtime} {max_length}{cut}".encode())
    readable = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in name).strip(".-")[:64]
    return f"{readable or 'model'}-{runtime}-{max_length}{cut}-{digest}"


def folder_fingerprint(folder: Path) -> str:
    """XXH3 (128 bits, hexadecimal) over the names and contents of a model folder's files that determine its vectors."""
    digest = xxhash.xxh3_128()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        # Folders like onnx/ or openvino/ contain other forms of the same weights.
        if path.suffix not in _WEIGHT_SUFFIXES or relative.parts[0] in ("onnx", "openvino") or not path.is_file():
            continue
        digest.update(f"{relative.as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
