"""Teachers: cross-encoders of sentence-transformers, which score pairs of query and product text for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.encoders.base import DEFAULT_MAX_LENGTH, prepare_text
from shelfwise.retrieval.encoders.folder import identity_of
from shelfwise.retrieval.encoders.weights import ModelSource, fetch_model
from shelfwise.retrieval.errors import EncoderError, EncoderUnavailableError
from shelfwise.retrieval.extras import optional_imports

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

DEFAULT_TEACHER = "cross-encoder/ms-marco-MiniLM-L-12-v2"
_SAFE = {"use_safetensors": True}
_BATCH_CPU, _BATCH_GPU = 32, 256
_PART = 1_024
"""Pairs between two reports of progress."""


class Teacher(Protocol):
    """Scores how well texts answer queries, reading both together."""

    @property
    def identity(self) -> str: ...

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Logits (n,) of the pairs (queries[i], texts[i]): higher fits better; only order and distance count.

        `progress` receives the number of further completed pairs. All texts are accepted: of a pair that is too long
        for the model, the end of the longer text is cut. Raises EncoderError if the device fails, ValueError if the
        numbers of queries and texts differ.
        """
        ...


def open_teacher(name: str, cache: Path, max_length: int = DEFAULT_MAX_LENGTH) -> Teacher:
    """The teacher of a cross-encoder's folder, or of its name on the model hub, fetched once into `cache`.

    `max_length` is in tokens of a pair. Raises EncoderUnavailableError if the model cannot be found or loaded, or is
    not a cross-encoder with one output whose weights are safetensors, MissingExtraError without sentence-transformers.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        source = ModelSource(folder.resolve().name, folder)
    else:
        source = ModelSource(name, _from_hub(name, cache))
    with optional_imports():
        return CrossEncoderTeacher(source, max_length)


class CrossEncoderTeacher:
    """A cross-encoder in float32, on the GPU if there is one."""

    def __init__(self, source: ModelSource, max_length: int) -> None:
        """Raises EncoderUnavailableError like `open_teacher`."""
        self._name = source.name
        self._model = _load(source)
        self._max_length = min(max_length, self._model.max_seq_length or DEFAULT_MAX_LENGTH)
        self._model.max_seq_length = self._max_length
        self.identity = identity_of(source.name, source.fingerprint, "torch", self._max_length)

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """See `Teacher`."""
        from torch.nn import Identity

        pairs = [(self._ready(query), self._ready(text)) for query, text in zip(queries, texts, strict=True)]
        parts = [np.empty(0, np.float32)]
        batch = _BATCH_GPU if self._model.device.type == "cuda" else _BATCH_CPU
        for start in range(0, len(pairs), _PART):
            part = pairs[start : start + _PART]
            try:
                scores = self._model.predict(part, batch_size=batch, activation_fn=Identity(), show_progress_bar=False)
            except RuntimeError as error:
                # Mostly a lost or full GPU.
                raise EncoderError(f"{self._name} failed on a pair ({str(error)[:300]})") from error
            parts.append(np.asarray(scores, np.float32))
            if progress:
                progress(len(part))
        return np.concatenate(parts)

    def _ready(self, text: str) -> str:
        return prepare_text(text, "", self._max_length)


def _load(source: ModelSource) -> CrossEncoder:
    import torch
    from sentence_transformers import CrossEncoder

    from shelfwise.retrieval.encoders.torch import no_progress_bar

    place = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with no_progress_bar():
            model: CrossEncoder = CrossEncoder(
                str(source.folder), device=place, local_files_only=True, model_kwargs=_SAFE
            )
            model.float().eval()
            missing = _missing_head(source, model)
    except Exception as error:
        # The type of error depends on the broken file: OSError, ValueError, KeyError, or one of safetensors.
        message = (
            f"{source.folder} cannot be loaded as a cross-encoder with weights as safetensors "
            f"({type(error).__name__}: {str(error)[:300]}); fetch it again, or use another one: {DEFAULT_TEACHER}"
        )
        raise EncoderUnavailableError(message) from error
    if model.num_labels != 1:
        message = f"{source.folder} is a classifier with {model.num_labels} outputs; a cross-encoder that ranks has 1"
        raise EncoderUnavailableError(message)
    if missing:
        # transformers would initialise them randomly, and only log a warning: the scores would be meaningless.
        message = (
            f"{source.folder} lacks weights of its last layers ({', '.join(missing)}): it is an encoder, or damaged; "
            f"fetch it again, or use a cross-encoder, such as {DEFAULT_TEACHER}"
        )
        raise EncoderUnavailableError(message)
    return model


def _missing_head(source: ModelSource, model: CrossEncoder) -> list[str]:
    from safetensors import safe_open

    whole = model.model
    if whole is None:
        return []
    stored: set[str] = set()
    for path in source.folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored |= set(file.keys())
    body = f"{whole.base_model_prefix}."
    return sorted(name for name in whole.state_dict() if not name.startswith(body) and name not in stored)


def _from_hub(name: str, cache: Path) -> Path:
    def download(folder: Path) -> None:
        with optional_imports():
            from sentence_transformers import CrossEncoder

        CrossEncoder(name, device="cpu", model_kwargs=_SAFE).save(str(folder))

    # Separate from encoders: the same name may have been opened as one, and saved with a pooling.
    target = cache / "cross-encoders" / name.replace("/", "--")
    return fetch_model(name, target, download, partial(_not_found, name))


def _not_found(name: str, problem: str) -> str:
    save = f"from sentence_transformers import CrossEncoder; CrossEncoder('{name}').save('teacher')"
    cure = f'where the hub can be reached, run python -c "{save}"; copy the folder and name it: --teacher teacher'
    return f"cross-encoder {name!r} was not found: no folder {name!r}; {problem}; {cure}"
