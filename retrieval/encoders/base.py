"""Encoder protocols: texts to unit vectors and, for token encoders, a state of each token. Light to import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding


Runtime = Literal["torch", "torch-bf16", "onnx-fp32", "onnx-int8"]
"""How a model runs. Each has an identity of its own, since their vectors differ in the last digits."""

DEFAULT_MAX_LENGTH = 128
"""Tokens of a text that are read, prompt and special tokens included, unless the model itself reads fewer."""
NO_STATES = "gives no states of tokens; rebuild the index to have the encoder made again"
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

    @property
    def dimension(self) -> int:
        """Columns of the vectors."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of queries, (n, dimension), rows as in `texts`, each of length 1.

        No text is refused; raises EncoderError when the device or the runtime fails.
        """

    def encode_products(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Vectors of product texts, as `encode_queries`; `progress` receives the number of further texts."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text, special tokens and the prompt's left out; an empty text has none."""

    ids: NDArray[np.int32]
    """(t,)"""
    states: NDArray[np.float32]
    """(t, state_dimension): the last layer's states, projected (`retrieval.encoders.torch`), each of length 1. The
    columns are ordered: the first ones, at length 1 again, are states of fewer dimensions."""

    def narrowed(self, dimension: int) -> Tokens:
        """The same tokens with the first `dimension` columns of their states, at length 1 again."""
        if dimension >= self.states.shape[1]:
            return self
        return Tokens(self.ids, unit_rows(self.states[:, :dimension]))


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Where the tokens of one text stand in it, for people who want to see words; in the order of `Tokens`."""

    text: str
    """As the encoder reads it: cut, whitespace made one."""
    ids: NDArray[np.int32]
    """(t,)"""
    spans: NDArray[np.int64]
    """(t, 2): the characters from and up to which each token covers `text`."""


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that also tells each token in its context; one run of the model gives both.

    The vectors are those that `encode_queries` and `encode_products` give.
    """

    @property
    def state_dimension(self) -> int:
        """Columns of the states; 0 where the model gives none."""

    @property
    def vocabulary(self) -> int:
        """All token ids are below it."""

    def encode_queries_with_tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[Tokens]]:
        """Vectors of queries (n, dimension), and each one's tokens; raises EncoderError as `encode_queries` does, and
        EncoderUnavailableError where `state_dimension` is 0."""

    def encode_products_with_tokens(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> tuple[NDArray[np.float32], list[Tokens]]:
        """Vectors of product texts (n, dimension), and each one's tokens."""

    def query_spans(self, text: str) -> TokenSpans:
        """Where the tokens of a query stand in it; the model is not run."""

    def product_spans(self, text: str) -> TokenSpans:
        """Where the tokens of a product's text stand in it."""


def as_token_encoder(encoder: Encoder) -> TokenEncoder | None:
    """The encoder, where it gives states of tokens."""
    return encoder if isinstance(encoder, TokenEncoder) and encoder.state_dimension else None


def empty_tokens(dimension: int) -> Tokens:
    """The tokens of an empty text."""
    return Tokens(np.empty(0, np.int32), np.empty((0, dimension), np.float32))


def prepare_text(text: str, prompt: str, max_length: int) -> str:
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


def text_token_indices(encoding: Encoding, prompt: str) -> list[int]:
    """The places, ascending, of the text's own tokens in an encoding of `prompt` and text.

    A token that covers the end of the prompt and the beginning of the text belongs to the text.
    """
    covered = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [place for place, ((_, end), is_special) in enumerate(covered) if end > len(prompt) and not is_special]


def token_spans(encoding: Encoding, ready: str, prompt: str) -> TokenSpans:
    """Where the own tokens of `ready`, which is prompt and text, stand in the text."""
    own = text_token_indices(encoding, prompt)
    spans = np.array([encoding.offsets[place] for place in own], np.int64).reshape(len(own), 2) - len(prompt)
    return TokenSpans(ready[len(prompt) :], np.array(encoding.ids, np.int32)[own], spans.clip(min=0))
