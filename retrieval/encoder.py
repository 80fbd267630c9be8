"""What an encoder is: texts in, unit vectors out. Light to import; `retrieval.encoders` opens the implementations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Runtime = Literal["torch", "torch-bf16", "onnx-fp32", "onnx-int8"]
"""How a model runs. Each has an identity of its own, since their vectors differ in the last digits."""

DEFAULT_MAX_LENGTH = 128
"""Tokens of a text that are read, prompt and special tokens included, unless the model itself reads fewer."""
_CHARACTERS_PER_TOKEN = 24
"""More than any tokenizer puts into one token of real text, so the cut by characters never decides about words."""
_WHITESPACE_ALLOWANCE = 8


class Encoder(Protocol):
    """Makes vectors of queries and products in one space; their dot product is the cosine."""

    @property
    def identity(self) -> str:
        """Names weights, tokenizer, pooling, prompts, runtime and length; fit for a folder's name.

        Vectors of two encoders with the same identity may be mixed.
        """
        ...

    @property
    def dimension(self) -> int:
        """Columns of the vectors."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of queries, (n, dimension), rows as in `texts`, each of length 1.

        No text is refused; raises EncoderError when the device or the runtime fails.
        """
        ...

    def encode_products(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Vectors of product texts, as `encode_queries`; `progress` is told how many more texts are done."""
        ...


def prepared(text: str, prompt: str, max_length: int) -> str:
    """A text as every runtime hands it to its tokenizer: runs of whitespace and lone surrogates replaced, cut.

    The cut costs the same for any length of text: a megabyte is never tokenized.
    """
    limit = max_length * _CHARACTERS_PER_TOKEN
    short = " ".join(text[: limit * _WHITESPACE_ALLOWANCE].split())[:limit]
    return prompt + short.encode("utf-8", "replace").decode("utf-8")


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows at length 1, (n, dimension); a row without a direction (zero or not finite) becomes the first axis."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    lost = ~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0))
    if lost.any():
        rows = rows.copy()
        rows[lost], rows[lost, 0], lengths[lost] = 0, 1, 1
    unit: NDArray[np.float32] = rows / lengths
    return unit
