"""The folder of a stored encoder: encoder.json, the identity of its vectors, the fingerprint of a model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import xxhash

from retrieval.encoders.base import Runtime
from retrieval.errors import EncoderUnavailableError

FORMAT = 2
"""Part of every identity: raised when the export or the quantiser changes a model's output."""
SPEC_FILE = "encoder.json"
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
TORCH_FOLDER = "model"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model")
_CHUNK_BYTES = 1 << 24


class EncoderSpec(msgspec.Struct, frozen=True):
    """The content of encoder.json: all that running the model takes, weights and tokenizer excepted."""

    format: int
    identity: str
    name: str
    """The model's name, for display."""
    runtime: Runtime
    dimension: int
    max_length: int
    """Tokens, prompt and special tokens included."""
    query_prompt: str = ""
    document_prompt: str = ""
    pooling: str = ""
    """The sentence-transformers modules after the transformer, for display: they are part of the graph."""
    opset: int = 0
    """ONNX operator set; 0 for torch."""


def read_spec(folder: Path) -> EncoderSpec:
    """The spec of a stored encoder.

    Raises EncoderUnavailableError where the folder or its encoder.json is missing, unreadable or of another format.
    """
    path = folder / SPEC_FILE
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=EncoderSpec)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read ({error}); rebuild the index, or remove the folder to have it made again"
        raise EncoderUnavailableError(message) from error
    if spec.format != FORMAT:
        message = f"{path} is of format {spec.format}, this program reads {FORMAT}; rebuild with the encoder's name"
        raise EncoderUnavailableError(message)
    return spec


def write_spec(spec: EncoderSpec, folder: Path) -> None:
    """Writes encoder.json."""
    (folder / SPEC_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1))


def identity_of(
    name: str,
    fingerprint: str,
    runtime: Runtime,
    max_length: int,
    *,
    dimension: int | None = None,
    made_in: int = FORMAT,
) -> str:
    """The identity of a model's vectors, a folder's name. `fingerprint` covers weights, tokenizer and prompts,
    `dimension` is that of vectors that are cut, `made_in` the format number of what makes them."""
    cut = f"-{dimension}d" if dimension else ""
    digest = xxhash.xxh3_64_hexdigest(f"{made_in} {fingerprint} {runtime} {max_length}{cut}".encode())
    readable = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in name).strip(".-")[:64]
    return f"{readable or 'model'}-{runtime}-{max_length}{cut}-{digest}"


def folder_fingerprint(folder: Path) -> str:
    """XXH3 (128 bits, hexadecimal) over the files of a model folder that decide its vectors, names and contents."""
    digest = xxhash.xxh3_128()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        # Folders like onnx/ or openvino/ hold other forms of the same weights.
        if path.suffix not in _WEIGHT_SUFFIXES or relative.parts[0] in ("onnx", "openvino") or not path.is_file():
            continue
        digest.update(f"{relative.as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
