"""The folder of an exported teacher: what its teacher.json says, beside model.onnx and tokenizer.json."""

from __future__ import annotations

from pathlib import Path

import msgspec

from retrieval.encoder import Runtime
from retrieval.encoder_folder import identity_of
from retrieval.errors import EncoderUnavailableError
from retrieval.weights import ModelSource

FORMAT = 1
"""Part of every identity: counts up when the export or the tokenizing of pairs changes what scores come out."""
SPEC_FILE = "teacher.json"


class TeacherSpec(msgspec.Struct, frozen=True):
    """What teacher.json holds: all that scoring takes beside weights and tokenizer."""

    format: int
    identity: str
    name: str
    """The model's name, for people."""
    runtime: Runtime
    max_length: int
    """Tokens of a pair, special tokens and prompt included."""
    prompt: str = ""
    """What the model wants before a query."""
    opset: int = 0
    """ONNX operator set; 0 for torch."""


def identity_for(source: ModelSource, runtime: Runtime, max_length: int) -> str:
    """The identity of a model's scores, a folder's name."""
    return identity_of(source.name, source.fingerprint, runtime, max_length, made_in=FORMAT)


def read_spec(folder: Path) -> TeacherSpec:
    """What an exported teacher says about itself.

    Raises EncoderUnavailableError where teacher.json is missing, unreadable or of another format.
    """
    path = folder / SPEC_FILE
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=TeacherSpec)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read ({error}); remove the folder to have it made again"
        raise EncoderUnavailableError(message) from error
    if spec.format != FORMAT:
        message = (
            f"{path} is of format {spec.format}, this program reads {FORMAT}; remove the folder to have it made again"
        )
        raise EncoderUnavailableError(message)
    return spec


def write_spec(spec: TeacherSpec, folder: Path) -> None:
    """Writes teacher.json."""
    (folder / SPEC_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1))
