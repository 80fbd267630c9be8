"""Text that was decoded with the wrong encoding, repaired. ftfy is imported here alone."""

from __future__ import annotations

import re

# A first byte of UTF-8 and a following one, both read as Windows-1252 or Latin-1; or a control character that only
# Windows-1252's quotes and dashes turn into when they are read as Latin-1.
_SUSPECT = re.compile("[\u00c2-\u00f4][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|[\u0080-\u009f]")


def is_suspect(text: str) -> bool:
    """Whether a text has anything that decoding with the wrong encoding leaves behind."""
    return _SUSPECT.search(text) is not None


def without_mojibake(text: str) -> str:
    """A text as it was before it was decoded with the wrong encoding: "CafÃ©" is "Café".

    Only what ftfy is certain about: the text must be impossible as it stands and sensible as it becomes.
    """
    if text.isascii() or not is_suspect(text):
        return text
    from ftfy import fix_encoding
    from ftfy.fixes import fix_c1_controls

    return str(fix_c1_controls(fix_encoding(text)))
