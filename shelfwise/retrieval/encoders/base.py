"""Encoder protocols: texts to unit vectors and, for token encoders, the state of each token. Light to import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Runtime = Literal["torch", "torch-bf16", "onnx-fp32", "onnx-int8", "static-fp32", "static-int8"]
"""The runtime of a model. Each has its own identity, since the last digits of vectors differ."""

DEFAULT_MAX_LENGTH = 128
"""The tokens of a text that are read, including prompt and special tokens, unless the model reads fewer."""
NO_STATES = "produces no token states; rebuild the index to export the encoder again"
_CHARACTERS_PER_TOKEN = 24
"""More than any tokenizer puts into a token of real text, so that cutting by characters loses no word."""
_WHITESPACE_ALLOWANCE = 8


class Encoder(Protocol):
    """An encoder of queries and products into one space; the dot product of two vectors is their cosine."""

    @property
    def identity(self) -> str:
        """The identity of weights, tokenizer, pooling, prompts, runtime and length; valid as a folder name.

        Vectors of encoders with the same identity may be mixed.
        """

    @property
    def dimension(self) -> int:
        """Columns of the vectors."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of queries, (n, dimension).

        Accepts any text; raises EncoderError if the device or the runtime fails.
        """

    def encode_products(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors of product texts, (n, dimension); `progress` receives the number of further texts."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text, without special tokens and those of the prompt."""

    ids: NDArray[np.int32]
    """(t,)"""
    states: NDArray[np.float32]
    """(t, state_dimension): the last layer's states, projected (`shelfwise.retrieval.encoders.torch`), each of length
    1. The first columns, normalised again, are states of fewer dimensions."""

    def narrowed(self, dimension: int) -> Tokens:
        """The tokens with the first `dimension` columns of their states, normalised again."""
        if dimension >= self.states.shape[1]:
            return self
        return Tokens(self.ids, unit_rows(self.states[:, :dimension]))


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """The spans of a text's tokens, in the order of `Tokens`, for display."""

    text: str
    """The text as the encoder reads it: cut, whitespace normalised."""
    ids: NDArray[np.int32]
    """(t,)"""
    spans: NDArray[np.int64]
    """(t, 2): the range of characters of each token."""


class TextTokens(Protocol):
    """The tokens of a text before the model, in the form of `tokenizers.Encoding`."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    @property
    def special_tokens_mask(self) -> list[int]: ...


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that also returns token states, from the same run of the model and with the same vectors."""

    @property
    def state_dimension(self) -> int:
        """Columns of the states; 0 if the model has none."""

    @property
    def vocabulary(self) -> int:
        """A bound above all token ids."""

    def encode_queries_with_tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[Tokens]]:
        """Vectors of queries (n, dimension) and the tokens of each; raises EncoderError like `encode_queries`, and
        EncoderUnavailableError if `state_dimension` is 0."""

    def encode_products_with_tokens(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> tuple[NDArray[np.float32], list[Tokens]]:
        """Vectors of product texts (n, dimension) and the tokens of each; all states are held in memory."""

    def query_spans(self, text: str) -> TokenSpans:
        """The spans of a query's tokens; does not run the model."""

    def product_spans(self, text: str) -> TokenSpans:
        """The spans of a product text's tokens."""


@runtime_checkable
class TableEncoder(TokenEncoder, Protocol):
    """A token encoder whose tokens have the same state in all texts."""

    def token_states(self) -> NDArray[np.float32]:
        """The state of each token (vocabulary, state_dimension), of length 1."""

    def product_token_ids(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """The token ids of product texts, without those of the prompt."""


def as_token_encoder(encoder: Encoder) -> TokenEncoder | None:
    """The encoder if it returns token states, else None."""
    # By its class: isinstance reads every property, and counting a vocabulary takes 50 ms.
    if not hasattr(type(encoder), TokenEncoder.encode_queries_with_tokens.__name__):
        return None
    giving = cast(TokenEncoder, encoder)
    return giving if giving.state_dimension else None


def empty_tokens(dimension: int) -> Tokens:
    """The tokens of an empty text."""
    return Tokens(np.empty(0, np.int32), np.empty((0, dimension), np.float32))


def prepare_text(text: str, prompt: str, max_length: int) -> str:
    """A text for the tokenizer: whitespace normalised, lone surrogates replaced, cut.

    The cost does not depend on the length of the text.
    """
    limit = max_length * _CHARACTERS_PER_TOKEN
    short = " ".join(text[: limit * _WHITESPACE_ALLOWANCE].split())[:limit]
    return prompt + short.encode("utf-8", "replace").decode("utf-8")


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows normalised to length 1, (n, dimension); a row that is zero or not finite becomes the first axis."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    lost = ~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0))
    if lost.any():
        rows = rows.copy()
        rows[lost], rows[lost, 0], lengths[lost] = 0, 1, 1
    unit: NDArray[np.float32] = rows / lengths
    return unit


def text_token_indices(encoding: TextTokens, prompt: str) -> list[int]:
    """The positions of the text's own tokens in an encoding of `prompt` and text.

    A token across the boundary belongs to the text.
    """
    covered = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [place for place, ((_, end), is_special) in enumerate(covered) if end > len(prompt) and not is_special]


def token_spans(encoding: TextTokens, ready: str, prompt: str) -> TokenSpans:
    """The spans of the text's own tokens in `ready`, which is the prompt followed by the text."""
    own = text_token_indices(encoding, prompt)
    spans = np.array([encoding.offsets[place] for place in own], np.int64).reshape(len(own), 2) - len(prompt)
    return TokenSpans(ready[len(prompt) :], np.array(encoding.ids, np.int32)[own], spans.clip(min=0))


# The projection of token states to few dimensions, by directions that are computed once per encoder, on fixed texts. A
# store's own catalog would give slightly better directions, but then no ranker could be trained for several stores.
PROJECTED = 128
"""The columns of a projection, unless the states have fewer."""
PROJECTION_FILE = "token_projection.npy"
"""The file of the projection in the folder of a model's weights."""


@cache
def sample_texts() -> tuple[str, ...]:
    """Sample texts of products and queries, English and Chinese, the same in all installations."""
    return tuple((files("shelfwise.retrieval.encoders") / "token_sample.txt").read_text("utf-8").splitlines())


def principal_directions(states: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The projection (hidden, at most PROJECTED) of states, given as pieces (any, hidden).

    Its columns are the orthonormal directions, largest first, that keep most of the states' squared length: the
    eigenvectors of their uncentred second moment (Jolliffe 2002, Principal Component Analysis, section 14.2.3), to
    preserve dot products of states. Signs are fixed, so that machines agree.
    """
    moment = sum(piece.astype(np.float64).T @ piece.astype(np.float64) for piece in states)
    _, ascending = np.linalg.eigh(moment)
    directions = ascending[:, ::-1][:, :PROJECTED]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return np.ascontiguousarray(directions * np.sign(largest), dtype=np.float32)


def stored_projection(folder: Path, hidden: int) -> NDArray[np.float32] | None:
    """The stored projection of a model; None if there is none for `hidden` columns."""
    try:
        found = np.load(folder / PROJECTION_FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = found.ndim == 2 and found.dtype == np.float32 and found.shape == (hidden, min(PROJECTED, hidden))
    return found if fits else None
