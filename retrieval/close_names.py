"""Names that a mistyped one may have meant, for error messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable

_LEAST_ALIKE = 65
_MOST = 3


def close_names(name: str, known: Iterable[str], typed: Callable[[str], str] = str) -> tuple[str, ...]:
    """Up to three known names that are spelled nearly so, nearest first; case does not count.

    `typed` gives the part of a name that people type, by which names are compared.
    """
    from rapidfuzz import fuzz, process

    spellings = {each: typed(each) for each in known}
    found = process.extract(
        typed(name), spellings, scorer=fuzz.ratio, processor=str.casefold, score_cutoff=_LEAST_ALIKE, limit=_MOST
    )
    return tuple(close for _, _, close in found)


def meant(name: str, known: Iterable[str], otherwise: str) -> str:
    """What an error message advises: "did you mean drills?", or something else where no known name is close."""
    close = close_names(name, known)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
