"""Which tokens of an encoded text are the text's own: neither special ones nor those of the prompt before it."""

from __future__ import annotations

from tokenizers import Encoding


def own_tokens(encoding: Encoding, prompt: str) -> list[int]:
    """The places, ascending, of the text's own tokens in an encoding of `prompt` and text.

    A token that covers the end of the prompt and the beginning of the text belongs to the text.
    """
    covered = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [place for place, ((_, end), is_special) in enumerate(covered) if end > len(prompt) and not is_special]
