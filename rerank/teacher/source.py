"""Finds a cross-encoder's weights, in a folder or on the model hub, and refuses what is none before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from rerank.teacher.default import DEFAULT_TEACHER
from retrieval.errors import EncoderUnavailableError
from retrieval.weights import ModelSource, fetched

_ARCHITECTURE = "ForSequenceClassification"
_USUAL_OUTPUTS = 2
"""Of a config.json that does not say: transformers leaves out what is its default."""


def find_cross_encoder(name: str, cache: Path) -> ModelSource:
    """The cross-encoder of this name: a folder's path, or a name on the model hub, fetched once into `cache`.

    Raises EncoderUnavailableError where there is none, and where it is no cross-encoder with one output whose weights
    are safetensors.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        source = ModelSource(folder.resolve().name, folder)
    else:
        source = ModelSource(name, _from_hub(name, cache))
    _check(source.folder)
    return source


def _from_hub(name: str, cache: Path) -> Path:
    def download(folder: Path) -> None:
        from rerank.teacher.cross_encoder import download as downloaded

        downloaded(name, folder)

    def not_found(said: str) -> str:
        tried = f"no folder {name!r}; {said}"
        return f"cross-encoder {name!r} was not found: {tried}; name a folder that CrossEncoder.save wrote"

    # Apart from encoders: the same name may have been opened as one, and saved with a pooling.
    return fetched(cache / "cross-encoders" / name.replace("/", "--"), download, not_found)


def _check(folder: Path) -> None:
    config = _config(folder / "config.json")
    _check_architecture(folder, config)
    outputs = len(config.get("id2label") or ()) or config.get("num_labels", _USUAL_OUTPUTS)
    if outputs != 1:
        message = f"{folder} is a classifier with {outputs} outputs; a cross-encoder that ranks has 1 (num_labels=1)"
        raise EncoderUnavailableError(message)
    if not any(folder.rglob("*.safetensors")):
        pickled = sorted(path.name for path in folder.rglob("*.bin"))
        found = f"only {', '.join(pickled)}, a pickle, which could run code when it is loaded" if pickled else "none"
        message = (
            f"{folder} must hold its weights as safetensors; there is {found}; "
            "save the model again with CrossEncoder.save, on a machine where you trust its file"
        )
        raise EncoderUnavailableError(message)


def _check_architecture(folder: Path, config: dict[str, Any]) -> None:
    names = [name for name in config.get("architectures") or () if isinstance(name, str)]
    if names and names[0].endswith(_ARCHITECTURE):
        return
    message = (
        f"{folder} is no cross-encoder: its config.json names {', '.join(names) or 'no architecture'}, where one that "
        f"ends with {_ARCHITECTURE} is needed"
    )
    if (folder / "modules.json").is_file():
        message += "; it looks like an encoder, which makes vectors"
    raise EncoderUnavailableError(f"{message}; name a cross-encoder, such as {DEFAULT_TEACHER}")


def _config(path: Path) -> dict[str, Any]:
    try:
        config = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError as error:
        message = f"{path.parent} is no cross-encoder (no {path.name}); name a folder that CrossEncoder.save wrote"
        raise EncoderUnavailableError(message) from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EncoderUnavailableError(f"{path} cannot be read ({error}); fetch the model again") from error
    return config
