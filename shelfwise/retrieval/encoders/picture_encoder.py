"""Picture encoders: CLIP-like models (Radford et al. 2021) that map pictures and texts to unit vectors of one space."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shelfwise.retrieval.encoders.base import unit_rows
from shelfwise.retrieval.encoders.folder import TORCH_FOLDER, Vectors, read_spec, write_spec
from shelfwise.retrieval.encoders.torch import TorchEncoder
from shelfwise.retrieval.encoders.weights import ModelSource, find_model
from shelfwise.retrieval.errors import EncoderUnavailableError
from shelfwise.retrieval.memory import require_memory
from shelfwise.retrieval.store.files import atomic_folder, file_bytes

_TORCH_BYTES = 300_000_000


class PictureEncoder(TorchEncoder):
    """A sentence-transformers model that reads texts and pictures, run by torch, on a GPU if there is one."""

    def __init__(self, source: ModelSource) -> None:
        """Raises EncoderUnavailableError for a model that cannot be loaded or does not read pictures."""
        weights = file_bytes(source.folder.rglob("*"))
        require_memory(_TORCH_BYTES + weights, f"{source.folder}: the model of pictures runs with", "a smaller model")
        super().__init__(source)
        model: Any = self._model
        if not (model.supports("image") and model.supports("text")):
            message = f"{source.name} does not read pictures and texts, but {', '.join(map(str, model.modalities))}"
            raise EncoderUnavailableError(f"{message}; use a model such as clip-ViT-B-32")

    @property
    def state_dimension(self) -> int:
        return 0

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> Vectors:
        """Unit vectors of RGB pictures, (n, dimension); raises EncoderError if the runtime fails."""
        if not pictures:
            return np.empty((0, self.dimension), np.float32)
        model: Any = self._model
        run = lambda ready, batch: model.encode(ready, batch_size=batch, show_progress_bar=False)  # noqa: E731
        return unit_rows(np.asarray(self._in_batches(run, list(pictures)), np.float32))

    def save(self, folder: Path) -> None:
        with atomic_folder(folder) as scratch:
            shutil.copytree(self._folder, scratch / TORCH_FOLDER)
            write_spec(self.spec, scratch)


def open_picture_encoder(name_or_folder: str, cache: Path) -> PictureEncoder:
    """The picture encoder of a model's name or folder, found by `shelfwise.retrieval.encoders.weights.find_model`;
    raises EncoderUnavailableError."""
    return PictureEncoder(find_model(name_or_folder, cache))


def load_picture_encoder(folder: Path) -> PictureEncoder:
    """A stored picture encoder; raises EncoderUnavailableError for a folder that is missing or damaged."""
    spec = read_spec(folder)
    encoder = PictureEncoder(ModelSource(spec.name, folder / TORCH_FOLDER))
    if encoder.identity != spec.identity:
        message = f"{folder} has the model {encoder.identity}, but its spec names {spec.identity}; rebuild the index"
        raise EncoderUnavailableError(message)
    return encoder
