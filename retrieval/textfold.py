"""Fold a text to the one spelling that terms are cut from: width, case, accents, dashes, quotes and fractions."""

from __future__ import annotations

import re
import unicodedata

# Ideographs, their compatibility forms and the iteration and zero signs, as the inside of a character class.
HAN = "々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

_HAN = re.compile(f"[{HAN}]")

# NFKC would glue these to what stands before them: "1½" would read as eleven halves, "Core™2" as "coretm2".
_FRACTION = re.compile("[¼½¾⅐-⅞↉]")
_NOISE = dict.fromkeys(map(ord, "™®©℠\u00ad\u200b\u200c\u200d\u2060\ufeff"), None)

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—―−﹘﹣", "-"),
        **dict.fromkeys("‘’‚‛′´`", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("×✕✖⨯", "x"),
        "⁄": "/",
        "∕": "/",
    }
)
# Latin letters that Unicode does not decompose; searchers without that key type the plain letter.
_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
# Only marks on a Latin base go: in other scripts (kana, Devanagari) the mark makes another letter.
_LATIN_MARKS = re.compile("([a-z])[\u0300-\u036f]+")


def fold(text: str) -> str:
    """`text` in lower case, with compatible characters, accents on Latin letters, dashes and quotes made one.

    "½" becomes " 1/2", "×" becomes "x", "Ｗｉ–Ｆｉ" becomes "wi-fi". Takes any string, lone surrogates included.
    """
    if text.isascii():
        return text.lower().replace("`", "'")
    text = _FRACTION.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]), text.translate(_NOISE))
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).casefold()
    text = unicodedata.normalize("NFKD", text).translate(_LETTERS)
    return unicodedata.normalize("NFC", _LATIN_MARKS.sub(r"\1", text)).translate(_SIGNS)


def contains_chinese(text: str) -> bool:
    """Whether `text` has at least one Chinese character."""
    return not text.isascii() and _HAN.search(text) is not None


def identifier_key(text: str) -> str:
    """The form in which two spellings of one SKU, EAN or model number are equal; empty when nothing identifies.

    Only letters and digits count, without case, width or accents. A code of digits alone loses its leading zeros,
    so that the UPC-12, EAN-13 and GTIN-14 of one product meet.
    """
    key = "".join(filter(str.isalnum, fold(text)))
    return key.lstrip("0") if key.isdecimal() else key
