"""Cleaning of one text: mojibake, markup, entities, invisible characters, composition and white space."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection

from indexer.cleaning.markup import decode_entities, fix_mojibake, is_suspect, strip_markup
from retrieval.filters.schema import fold_value

_MOST_ROUNDS = 10
# Control characters that are no white space, soft hyphen, zero-width and direction marks, lone surrogates.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff"
)
# Joiners write Persian, Indic and emoji; beside an ASCII letter they are leftovers.
_MAY_DROP = re.compile(f"[{_INVISIBLE}\u200c\u200d]")
_DROPPED = re.compile(f"[{_INVISIBLE}]|(?:(?<=[\x20-\x7e])|^)[\u200c\u200d]+|[\u200c\u200d]+(?=[\x20-\x7e]|$)")
_MARKS = re.compile("[<>&]+")
Steps = tuple[tuple[str, Callable[[str], str]], ...]


def drop_invisible(text: str) -> str:
    """A text without control, zero-width and direction characters, soft hyphens and lone surrogates."""
    return _DROPPED.sub("", text) if _MAY_DROP.search(text) else text


def compose(text: str) -> str:
    """A text in Unicode's composed form: a letter and its accent are one character."""
    return unicodedata.normalize("NFC", text)


def join_lines(text: str) -> str:
    """A text with each run of white space as one space, none around it."""
    return " ".join(text.split())


def tidy_lines(text: str) -> str:
    """A text whose lines are each without needless white space; blank lines go."""
    return "\n".join(filter(None, map(join_lines, text.splitlines())))


def _steps(spaces: Callable[[str], str]) -> Steps:
    return (
        ("mojibake", fix_mojibake),
        ("markup", strip_markup),
        ("entities", decode_entities),
        ("characters", drop_invisible),
        ("composition", compose),
        ("spaces", spaces),
    )


_ONE_LINE, _LINES = _steps(join_lines), _steps(tidy_lines)


def all_plain(one_liners: Collection[str], others: Collection[str] = ()) -> bool:
    """Whether no rule would change any of these texts: the quick way, right for nearly all.

    True is certain; False asks for a closer look. An empty text is not plain.
    """
    # Between blanks, a blank or nothing at the edge of a text makes two blanks.
    joined = f" {' '.join(one_liners)} " if one_liners else " "
    return _is_plain(f"{joined}{' '.join(others)} " if others else joined) or (
        bool(others) and _is_plain(joined) and all(map(_has_plain_lines, others))
    )


def _has_plain_lines(text: str) -> bool:
    return text != "" and all(_is_plain(f" {line} ") for line in text.split("\n"))


def _is_plain(padded: str) -> bool:
    """Whether one line, with a blank before and behind it, is as it should be.

    What is not printable for Python is every character that a rule drops or takes for white space, and a few more.
    """
    if "  " in padded or "<" in padded or not padded.isprintable():
        return False
    if "&" in padded and ";" in padded:
        return False
    return padded.isascii() or (unicodedata.is_normalized("NFC", padded) and not is_suspect(padded))


def clean_text(text: str, changed: set[str], *, lines: bool = False) -> str:
    """The text after every rule, again until none changes it; the names of those that did are added to `changed`.

    With `lines` it may have several lines, else it becomes one.
    """
    steps = _LINES if lines else _ONE_LINE
    for _ in range(_MOST_ROUNDS):
        before = text
        for name, step in steps:
            after = step(text)
            if after != text:
                changed.add(name)
                text = after
        if text == before or (all_plain((), (text,)) if lines else all_plain((text,))):
            return text
    # Markup inside markup, many times over: nobody's description, so its marks go instead of being read for ever.
    return clean_text(_MARKS.sub(" ", text), changed, lines=lines)


_LONGEST = 32
_WORDS = (
    "n/a|n.a.|n.a|na|#n/a|none|null|nil|nan|undefined|unknown|not known|unspecified|not specified|"
    "not available|not applicable|does not apply|doesn't apply|no brand|nobrand|unbranded|tbd|tba|"
    "to be determined|empty|blank|k.a.|keine angabe|keine angaben|unbekannt|nicht zutreffend|ohne marke|"
    "keine marke|sans marque|inconnu|inconnue|non applicable|non renseigné|sin marca|desconocido|no aplica|"
    "no disponible|sem marca|desconhecido|não se aplica|senza marca|sconosciuto|non disponibile|onbekend|"
    "niet van toepassing|geen merk|nieznany|brak|brak danych|bez marki|okänd|saknas|"
    "无|無|暂无|暫無|无品牌|没有|未知|不适用|不详|なし|該当なし|不明"
)
_LETTER_OR_DIGIT = re.compile("[a-zA-Z0-9]")
_SAYS_NOTHING = frozenset(_WORDS.split("|"))


def is_placeholder(text: str) -> bool:
    """Whether a brand, an identifier, a category or a description says only that it is not there: "N/A", "-", "无"."""
    if len(text) > _LONGEST:
        return False
    if text.isascii():
        return text.lower() in _SAYS_NOTHING or not (text[:1].isalnum() or _LETTER_OR_DIGIT.search(text))
    folded = fold_value(text)
    return folded in _SAYS_NOTHING or not any(map(str.isalnum, folded))
