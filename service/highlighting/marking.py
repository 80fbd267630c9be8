"""Marks around spans of a text, and texts cut to what stands around one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from retrieval.word_spans import word_spans

MOST_WORDS = 1_000
"""Words that a text may be cut to."""
_BEFORE = 3
"""Words of an excerpt before the first that matched, where there are so many."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What is put around words that match, and where a text was cut."""

    before: str = "<em>"
    after: str = "</em>"
    cut: str = "…"


def marked(
    text: str,
    spans: Iterable[tuple[int, int]],
    marks: Marks,
    shown: Callable[[str], str] = str,
    bounds: tuple[int, int] | None = None,
) -> str:
    """The text with tags around its spans, which come ascending and apart; each piece of it as `shown` has it. With
    `bounds` what stands between those alone, and a sign where something was cut off."""
    begin, end = bounds or (0, len(text))
    pieces, done = [marks.cut if begin else ""], begin
    for start, stop in spans:
        if begin <= start and stop <= end:
            pieces += [shown(text[done:start]), marks.before, shown(text[start:stop]), marks.after]
            done = stop
    return "".join([*pieces, shown(text[done:end]), marks.cut if end < len(text) else ""])


def excerpt(text: str, words: int, first: int) -> tuple[int, int]:
    """From where up to where so many words stand, a few of them before the one at `first`."""
    if not words:
        return 0, 0
    spans = list(word_spans(text))
    if len(spans) <= words:
        return 0, len(text)
    at = next((place for place, (_, end) in enumerate(spans) if end > first), 0)
    begin = max(0, min(at - min(_BEFORE, words - 1), len(spans) - words))
    chosen = list(islice(spans, begin, begin + words))
    return (chosen[0][0] if begin else 0), (chosen[-1][1] if begin + words < len(spans) else len(text))
