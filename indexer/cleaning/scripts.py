"""The language that a script gives away: Chinese, Japanese, Korean, and those that share their letters with few."""

from __future__ import annotations

import re

from retrieval.textfold import HAN

_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_HAN = re.compile(f"[{HAN}]")
_KANA = re.compile("[\u3041-\u309f\u30a1-\u30fa\uff66-\uff9d]")
_SCRIPTS = {
    "ko": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "he": "\u0590-\u05ff",
    "th": "\u0e00-\u0e7f",
    "ka": "\u10a0-\u10ff",
    "hy": "\u0530-\u058f",
    "bn": "\u0980-\u09ff",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
}
_SCRIPT_OF = {language: re.compile(f"[{letters}]") for language, letters in _SCRIPTS.items()}
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_ARABIC = re.compile("[\u0620-\u06ff]")
_DEVANAGARI = re.compile("[\u0900-\u097f]")
# Letters that one language of a script has and its neighbours have not; Persian's are shared with Urdu.
_UKRAINIAN, _RUSSIAN = re.compile("[іїєґІЇЄҐ]"), re.compile("[ыэёЫЭЁ]")
_NEITHER = re.compile("[ўЎјљњћђџЈЉЊЋЂЏѓќ]")
_PERSIAN, _URDU = re.compile("[پچژگ]"), re.compile("[ٹڈڑںے]")
_FEWEST = 4
"""A script decides from a quarter of the Latin letters on: brands and models are written in Latin everywhere."""


def script_language(text: str) -> str | None:
    """ISO 639-1 of the language that the script of a text belongs to; None for Latin script.

    "" where the script is another one but does not say which language (Bulgarian or Russian, Hindi or Marathi), or
    where there is too little of it beside Latin letters.
    """
    latin = len(_LATIN.findall(text))
    kana, han = len(_KANA.findall(text)), len(_HAN.findall(text))
    if han or kana:
        return _enough("ja" if kana else "zh", 2 * (han + kana), latin)  # a character holds what two letters do
    for script, decide in ((_CYRILLIC, _of_cyrillic), (_ARABIC, _of_arabic), (_DEVANAGARI, None)):
        letters = len(script.findall(text))
        if letters:
            return _enough(decide(text), letters, latin) if decide else ""
    for language, script in _SCRIPT_OF.items():
        letters = len(script.findall(text))
        if letters > 1:  # one alone is a symbol: Ω, µ, π
            return _enough(language, letters, latin)
    return None


def _enough(language: str, letters: int, latin: int) -> str:
    return language if letters * _FEWEST >= latin else ""


def _of_cyrillic(text: str) -> str:
    if _NEITHER.search(text):
        return ""
    ukrainian, russian = _UKRAINIAN.search(text), _RUSSIAN.search(text)
    if bool(ukrainian) == bool(russian):
        return ""
    return "uk" if ukrainian else "ru"


def _of_arabic(text: str) -> str:
    if _URDU.search(text):
        return "ur"
    return "fa" if _PERSIAN.search(text) else "ar"
