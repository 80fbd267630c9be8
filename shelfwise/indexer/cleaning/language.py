"""Language detection of titles: by script, by words and endings, and by py3langid if those disagree.

It is built for precision, since a wrong language causes a wrong finding and a wrong filter: model numbers and brand
names have no language. docs/cleaning.md gives its accuracy.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from shelfwise.retrieval.text.analysis import HAN

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


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
# Letters that one language of a script has and its neighbours do not; Persian's are shared with Urdu.
_UKRAINIAN, _RUSSIAN = re.compile("[іїєґІЇЄҐ]"), re.compile("[ыэёЫЭЁ]")
_NEITHER = re.compile("[ўЎјљњћђџЈЉЊЋЂЏѓќ]")
_PERSIAN, _URDU = re.compile("[پچژگ]"), re.compile("[ٹڈڑںے]")
_FEWEST = 4
"""A script decides if it has at least a quarter as many letters as Latin: brands and models are in Latin everywhere."""


def script_language(text: str) -> str | None:
    """ISO 639-1 of the language that the script of a text belongs to; None for Latin script.

    "" if another script does not determine the language (Bulgarian or Russian, Hindi or Marathi), or if there is too
    little of it compared to Latin letters.
    """
    latin = len(_LATIN.findall(text))
    kana, han = len(_KANA.findall(text)), len(_HAN.findall(text))
    if han or kana:
        return _if_enough("ja" if kana else "zh", 2 * (han + kana), latin)  # a character counts as two letters
    for script, decide in ((_CYRILLIC, _of_cyrillic), (_ARABIC, _of_arabic), (_DEVANAGARI, None)):
        letters = len(script.findall(text))
        if letters:
            return _if_enough(decide(text), letters, latin) if decide else ""
    for language, script in _SCRIPT_OF.items():
        letters = len(script.findall(text))
        if letters > 1:  # a single one is a symbol: Ω, µ, π
            return _if_enough(language, letters, latin)
    return None


def _if_enough(language: str, letters: int, latin: int) -> str:
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


_TABLES: Mapping[str, Mapping[str, str]] = tomllib.loads(
    (files("shelfwise.indexer.cleaning") / "languages.toml").read_text("utf-8")
)
_SLOTS = tuple(_TABLES["function_words"])
_OTHER = "other"
LATIN_LANGUAGES = tuple(slot for slot in _SLOTS if slot != _OTHER)
"""The languages in Latin script that are distinguished (ISO 639-1)."""
_BITS = 8
_COUNT = (1 << _BITS) - 1
_MAX_LETTERS = 200
"""Longer texts are cut here: a few words show the language, and its votes must fit their bits."""
_MARGIN = 2
_SHORTEST_COMPOUND = 8
_SURE = 0.75
"""The least probability of a language that the model decides."""
# Letters that none of our languages has, but Nordic, Czech, Slovak, Croatian, Baltic, Hungarian, Romanian, Turkish and
# Vietnamese do: the title is in a language that is not supported.
_ELSEWHERE = re.compile("[æøðþğışřěůžščťďľĺŕőűțșăđģķļņėāēīūơư\u1ea0-\u1ef9]")
_PLAIN_WORD = re.compile(r"(?<![\w./-])[^\W\d_]{3,}(?![\w./])")
_BETWEEN = str.maketrans(dict.fromkeys(",;:()[]{}!?\"'’“”„«»+&|", " "))


def detect(title: str) -> str:
    """The language of a title as ISO 639-1, "" if it is not certain."""
    text = title[:_MAX_LETTERS]
    if not text.isascii():
        by_script = script_language(text)
        if by_script is not None:
            return by_script
    votes = _votes(text.lower())
    if not votes:
        return ""
    clear, candidates = _decide(votes)
    return clear if clear or not candidates else _by_model(text, candidates)


def _packed(lists: Mapping[str, str], weight: int) -> dict[str, int]:
    """The votes of each word: `_BITS` bits per language in one integer, so that adding integers adds up votes."""
    votes: dict[str, int] = {}
    for slot, words in lists.items():
        for word in words.split():
            votes[word] = votes.get(word, 0) | weight << _SLOTS.index(slot) * _BITS
    return votes


_WORD_VOTES = _packed(_TABLES["shop_words"], 1) | _packed(_TABLES["function_words"], 2)
_LETTER_VOTES = _packed(_TABLES["letters"], 1)
_ENDING_VOTES = _packed(_TABLES["endings"], 1) | _packed(_TABLES["compound_heads"], 1)
_ENDING_LENGTHS = tuple(sorted({len(ending) for ending in _ENDING_VOTES}, reverse=True))


def _votes(text: str) -> int:
    """The votes of the distinct words and letters of a lower-case text; 0 for none, or for foreign letters."""
    votes = 0
    if not text.isascii():
        if _ELSEWHERE.search(text):
            return 0
        votes = sum(_LETTER_VOTES[letter] for letter in set(text) & _LETTER_VOTES.keys())
    for word in set(text.translate(_BETWEEN).split()):
        if word in _WORD_VOTES:
            votes += _WORD_VOTES[word]
        elif len(word) >= _SHORTEST_COMPOUND:
            votes += _ending_votes(word)
    return votes


@lru_cache(maxsize=1 << 16)
def _ending_votes(word: str) -> int:
    endings = (word[-length:] for length in _ENDING_LENGTHS)
    return next((_ENDING_VOTES[ending] for ending in endings if ending in _ENDING_VOTES), 0)


@lru_cache(maxsize=1 << 14)
def _decide(votes: int) -> tuple[str, frozenset[str]]:
    """The language that wins clearly, or "" and the candidates for the model (if empty, it is not used).

    A single English word decides nothing: product lines have English names in every country.
    """
    counts = {slot: votes >> index * _BITS & _COUNT for index, slot in enumerate(_SLOTS)}
    ordered = sorted(counts.values())
    best = frozenset(slot for slot, count in counts.items() if count == ordered[-1])
    if _OTHER in best or (best == {"en"} and ordered[-1] == 1):
        return "", frozenset()
    if ordered[-1] >= ordered[-2] + _MARGIN:
        return next(iter(best)), frozenset()
    return "", best


def _by_model(text: str, candidates: frozenset[str]) -> str:
    """The candidate that the model prefers with a clear lead over all our languages; else ""."""
    words = [word for word in _PLAIN_WORD.findall(text) if not word.isupper() or text.isupper()]
    if len(words) < 2:
        return ""
    language, probability = _identifier().classify(" ".join(words).lower())
    return language if language in candidates and probability >= _SURE else ""


@cache
def _identifier() -> LanguageIdentifier:
    """Naive Bayes over sequences of bytes (Lui & Baldwin 2012, langid.py: An Off-the-shelf Language Identification
    Tool)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LATIN_LANGUAGES))
    return identifier
