"""Which tokens of an encoded text are the text's own: neither special ones nor those of the prompt before it."""

from __future__ import annotations

import numpy as np
from tokenizers import Encoding

from retrieval.encoder import TokenPlaces


def own_tokens(encoding: Encoding, prompt: str) -> list[int]:
    """The places, ascending, of the text's own tokens in an encoding of `prompt` and text.

    A token that covers the end of the prompt and the beginning of the text belongs to the text.
    """
    covered = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [place for place, ((_, end), is_special) in enumerate(covered) if end > len(prompt) and not is_special]


def token_places(encoding: Encoding, ready: str, prompt: str) -> TokenPlaces:
    """Where the own tokens of `ready`, which is prompt and text, stand in the text."""
    own = own_tokens(encoding, prompt)
    spans = np.array([encoding.offsets[place] for place in own], np.int64).reshape(len(own), 2) - len(prompt)
    return TokenPlaces(ready[len(prompt) :], np.array(encoding.ids, np.int32)[own], spans.clip(min=0))
