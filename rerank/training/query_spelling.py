"""How shoppers spell: other forms of a quantity, singular for plural, compounds apart or together, typing errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from random import Random

from rerank.training.query_catalog import CatalogWords
from rerank.training.query_facts import Words
from rerank.training.query_words import JOINING
from retrieval.textfold import contains_chinese

_PLURAL_SHARE = 0.08
_COMPOUND_SHARE = 0.08
_BARE_SHARE = 0.2
"""How often another form is typed where there is one; of codes, how often their signs are left out."""
_KNOWN = 3
"""A half or a whole of a compound is a word when so many titles of the sample have it."""
_SHORTEST = 4
"""Letters of a word that gets a typing error or another number."""
_METRIC = ("mm", "cm", "m", "kg", "g", "ml", "l", "ah", "mah", "w", "kw", "v", "mb", "gb", "tb", "hz", "mhz", "ghz")
"""Units that are written close to their number or apart from it, and in no other way."""
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "in": (" in", " inch", "in", '"', ""),
    "ft": (" ft", " foot", "ft", "'", ""),
    "gal": (" gal", " gallon", "gal"),
    "lb": (" lb", " lbs", "lb"),
    "oz": (" oz", " ounce", "oz"),
    "volt": (" volt", "v", " v"),
    "amp": (" amp", " amps", "amp"),
    "watt": (" watt", "w", " watts"),
    **{unit: (f" {unit}", unit) for unit in _METRIC},
}
"""A unit as titles have it to its spellings behind a number."""
_SAME = {"inch": "in", '"': "in", "foot": "ft", "'": "ft", "gallon": "gal"}
_UNIT = re.compile(rf"""(?<=[0-9])[ -]?(?:(["'])|({"|".join((*_SPELLINGS, *filter(str.isalpha, _SAME)))})\b)\.?""")
_SPACE_BEFORE_UNIT = re.compile("(?<=[0-9]) (?=[a-z])")
"""What nobody types between Chinese words."""
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def respell(words: Words, catalog: CatalogWords, random: Random) -> Words:
    """Spells the words as a shopper may, without an error."""
    spelled = tuple(_number(word, random) if any(map(str.isdigit, word)) else word for word in words)
    if any(map(contains_chinese, words)):
        spelled = tuple(_SPACE_BEFORE_UNIT.sub("", word) for word in spelled)
    if random.random() < _COMPOUND_SHARE:
        spelled = _other_compound(spelled, catalog, random)
    if random.random() < _PLURAL_SHARE:
        spelled = _other_plural(spelled, catalog)
    return spelled


def mistype(words: Words, random: Random) -> Words:
    """Puts one typing error into one word of English letters; the words as they are where there is none."""
    places = [place for place, word in enumerate(words) if _is_plain(word) and len(word) >= _SHORTEST]
    if not places:
        return words
    place = random.choice(places)
    return (*words[:place], _typo(words[place], random), *words[place + 1 :])


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalpha()


def _number(word: str, random: Random) -> str:
    """A quantity or a model number as a shopper writes it."""
    if _UNIT.search(word) or " " in word:
        return with_other_units(word, random)
    if random.random() >= _BARE_SHARE:
        return word
    return word.replace(",", "").replace("-", " " if word[0].isdigit() else "")


def with_other_units(text: str, random: Random) -> str:
    """A text with the units behind its numbers spelled as another shopper may."""
    # One choice for the whole, so that both sides of "24 in. x 80 in." are spelled alike.
    choice = random.random()

    def unit(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        spellings = _SPELLINGS[_SAME.get(name, name)]
        return spellings[int(choice * len(spellings))]

    spelled = _UNIT.sub(unit, text)
    return spelled if choice < 0.5 else re.sub("(?<=[0-9\"']) x (?=[0-9])", "x", spelled)


def _other_compound(words: Words, catalog: CatalogWords, random: Random) -> Words:
    """One compound of the query taken apart, or two neighbours made one, where titles have that too."""
    choices = [*_apart(words, catalog), *_together(words, catalog)]
    return random.choice(choices) if choices else words


def _apart(words: Words, catalog: CatalogWords) -> Iterator[Words]:
    for place, word in enumerate(words):
        for cut in range(3, len(word) - 2):
            halves = word[:cut], word[cut:].lstrip("-")
            if word.isascii() and all(catalog.frequency(half) >= _KNOWN and half not in JOINING for half in halves):
                yield (*words[:place], *halves, *words[place + 1 :])


def _together(words: Words, catalog: CatalogWords) -> Iterator[Words]:
    for place in range(len(words) - 1):
        whole = words[place] + words[place + 1]
        if _is_plain(whole) and catalog.frequency(whole) >= _KNOWN:
            yield (*words[:place], whole, *words[place + 2 :])


def _other_plural(words: Words, catalog: CatalogWords) -> Words:
    """The last word in singular for plural or the other way, where titles have that."""
    *before, last = words or ("",)
    if not _is_plain(last) or len(last) < _SHORTEST:
        return words
    for other in (last.removesuffix("es"), last.removesuffix("s"), f"{last}s", f"{last}es"):
        if other != last and catalog.frequency(other):
            return (*before, other)
    return words


def _typo(word: str, random: Random) -> str:
    """A letter left out, typed twice, swapped with the one before or hit beside; the first letter is seldom wrong."""
    at = random.randrange(1, len(word))
    before, letter, behind = word[:at], word[at], word[at + 1 :]
    others = (
        before + behind,
        before + letter + letter + behind,
        before[:-1] + letter + before[-1] + behind,
        before + random.choice(_beside(letter)) + behind,
    )
    return random.choice(others)


def _beside(letter: str) -> str:
    """The neighbours of a letter on its row of an English keyboard, capitals of a capital."""
    if letter.isupper():
        return _beside(letter.lower()).upper()
    row = next(row for row in _ROWS if letter in row)
    at = row.index(letter)
    return row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
