"""An encoder that fails at its work, for the tests of what is left without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EncoderError
from service.engine.engine import SearchEngine


class BrokenEncoder:
    """An encoder whose runtime fails, as a GPU that is lost does."""

    def __init__(self, engine: SearchEngine) -> None:
        self.identity = engine.snapshot.encoder.identity
        self.dimension = engine.snapshot.encoder.dimension

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise EncoderError("the device is gone")

    def encode_products(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        raise EncoderError("the device is gone")
