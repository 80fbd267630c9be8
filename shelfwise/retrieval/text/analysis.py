"""Text analysis: the terms of products and queries, in English and Chinese, with synonyms.

Both keyword backends get complete terms and split them only at spaces, so a query ranks the same in each. The rules
were chosen by measurement (docs/decisions). There are no stop words, since they did not help.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from itertools import chain, combinations, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import Stemmer

from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.text import units
from shelfwise.retrieval.updates.validation import read_text

# Ideographs, their compatibility forms and the iteration and zero signs, for use inside a character class.
HAN = "々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

_HAN = re.compile(f"[{HAN}]")

# NFKC would join these to the character before them: "1½" would read as eleven halves, "Core™2" as "coretm2".
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
# Latin letters that Unicode does not decompose; shoppers without that key type the plain letter.
_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
# Only marks on a Latin base are removed: in other scripts (kana, Devanagari) the mark makes another letter.
_LATIN_MARKS = re.compile("([a-z])[\u0300-\u036f]+")


def fold(text: str) -> str:
    """`text` in lower case, with compatibility characters, accents on Latin letters, dashes and quotes normalised.

    "½" becomes " 1/2", "×" becomes "x", "Ｗｉ–Ｆｉ" becomes "wi-fi". Accepts any string, including lone surrogates.
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
    """The form in which two spellings of one SKU, EAN or model number are equal; empty if nothing identifies.

    Only letters and digits count, without case, width or accents. A code of digits only loses its leading zeros, so
    that the UPC-12, EAN-13 and GTIN-14 of one product are equal.
    """
    key = "".join(filter(str.isalnum, fold(text)))
    return key.lstrip("0") if key.isdecimal() else key


MAX_WORD = 100
"""The number of characters after which an unbroken run is cut into a further word."""

Alternatives = tuple[tuple[str, ...], ...]
"""The alternatives that match one word of a query: any one of several conjunctions of terms."""


def _marks() -> str:
    r"""The combining marks of the basic plane: Python's \w lacks the vowel signs inside Indic words."""
    return "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark) in ("Mn", "Mc"))


# Words that titles also write with a space, a hyphen or neither. A longer list did not help (head phone, lap top, ...).
_SPACED = r"(?:(?:wi|hi) fi|t shirts?|blu rays?|x rays?|dish washers?)(?![a-z0-9])"
_WORD = rf"[a-z0-9]{{1,{MAX_WORD}}}+"
_COMPOUND = rf"{_WORD}(?>(?:[-'.&_]{_WORD}){{0,7}})"  # atomic: see retrieval/text/units.py
_PLAIN = rf"[a-z]{{1,{MAX_WORD}}}+(?![a-z0-9]|[-'.&_][a-z0-9])"
_OTHER_SCRIPT = rf"(?:[^\W_a-z0-9{HAN}]|[{_marks()}]){{1,{MAX_WORD}}}+"
# Plain words come early because nearly every chunk is one.
CHUNKS = re.compile(rf"{_SPACED}|{_PLAIN}|(?=[0-9.m])(?:{units.QUANTITIES})|{_COMPOUND}|[{HAN}]+|{_OTHER_SCRIPT}")
"""Finds the chunks of a folded text."""

_QUANTITIES = re.compile(units.QUANTITIES)
_JOINTS = re.compile("[-'.&_ ]")
_LETTERS_OR_DIGITS = re.compile("[a-z]+|[0-9]+")
_MAX_RUNS = 4

# Without the stemmer's own cache: chunks are cached here, and its purges took longer than the stemming.
_stem = cast(Callable[[str], str], Stemmer.Stemmer("english", 0).stemWord)
# PyStemmer does not document whether threads may share a stemmer.
_stemming = threading.Lock()


@dataclass(frozen=True, slots=True)
class Chunk:
    """The result for one chunk: `terms` for an index, `groups` for a query."""

    terms: tuple[str, ...]
    groups: tuple[Alternatives, ...]
    characters: tuple[str, ...] = ()
    """Single characters of a Chinese chunk that are not words; searched in addition to the words."""
    joint: str = ""
    """The chunk as typed if it may be half of a compound ("wi" of "wi fi"), else empty."""


def chunks(folded: str) -> Iterator[Chunk]:
    """The chunks of a text that `fold` returned, in order."""
    return map(_cached if folded.isascii() else _any, CHUNKS.findall(folded))


@lru_cache(maxsize=2**15)
def word_term(word: str) -> str:
    """The term of one word: its unit's name, else its English stem. A word with characters beyond a to z is its own.

    Stems are stemmed again until they no longer change, so a term is always its own term.
    """
    if word in units.WORDS:
        return units.WORDS[word]
    if not (word.isascii() and word.isalpha()):
        return word
    with _stemming:
        stem = _stem(word)
    return stem if stem == word else word_term(stem)


def _any(chunk: str) -> Chunk:
    # Runs of Chinese seldom repeat, and would evict the words from the cache.
    return _chinese(chunk) if contains_chinese(chunk[0]) else _cached(chunk)


@lru_cache(maxsize=2**15)
def _cached(chunk: str) -> Chunk:
    if chunk.isalpha():
        term = word_term(chunk)
        return Chunk((term,), (((term,),),), joint=chunk if chunk.isascii() else "")
    if _QUANTITIES.fullmatch(chunk):
        return _quantities(chunk)
    return _compound(chunk) if chunk.isascii() else Chunk((chunk,), (((chunk,),),))


def _chinese(chunk: str) -> Chunk:
    """Words and characters: the segmenter can cut a word differently in a title and in a query."""
    words = cast(list[str], _segmenter().cut_for_search(chunk))
    known = set(words)
    characters = tuple(character for character in chunk if character not in known)
    return Chunk((*words, *characters), tuple(((word,),) for word in words), characters)


def chinese_words(run: str) -> list[str]:
    """The words of a run of Chinese, adjoining each other, for display."""
    return cast(list[str], _segmenter().cut(run))


def dictionary_words(run: str) -> list[str]:
    """The words of a run of Chinese by the dictionary only; unknown and misspelled words are cut into characters."""
    return cast(list[str], _segmenter().cut(run, False))


@cache
def _segmenter() -> Any:  # noqa: ANN401 - the library ships no types
    # A separate segmenter: words that other code adds to the library's shared one must not change terms.
    # Its dictionary takes longer to load than everything else here, and many stores never need it.
    import rjieba

    return rjieba.Jieba()


def _quantities(chunk: str) -> Chunk:
    if number := units.in_one(chunk):
        term = f"{number}in1"
        return Chunk((number, term, "1"), (((term,),),))
    found = units.quantities(chunk)
    return _quantity(found[0]) if len(found) == 1 else _dimensions([quantity.number for quantity in found])


def _quantity(quantity: units.Quantity) -> Chunk:
    number = quantity.number
    if not quantity.unit:
        return Chunk((number,), (((number,),),), joint=number if number.isdigit() else "")
    terms = filter(None, (number, quantity.term, quantity.unit_word))
    return Chunk(tuple(terms), (((quantity.term,), (number,)),))


def _dimensions(numbers: list[str]) -> Chunk:
    """The whole ("2x4x8"), its neighbours ("2x4", "4x8") and each number; units would only make titles longer."""
    whole = "x".join(numbers)
    neighbours = (f"{first}x{second}" for first, second in pairwise(numbers))
    return Chunk(tuple(dict.fromkeys((*numbers, whole, *neighbours))), (((whole,),),))


def _compound(chunk: str) -> Chunk:
    if chunk.endswith("'s"):
        return _cached(chunk[:-2])
    pieces = _JOINTS.split(chunk)
    if len(pieces) == 1:
        return Chunk((chunk,), (((chunk,), *_cuts(chunk)),), joint=chunk)
    parts = tuple(term for piece in pieces for term in _piece(piece))
    terms = tuple(dict.fromkeys((*parts, *map(word_term, _LETTERS_OR_DIGITS.findall(chunk)))))
    joined = "".join(pieces)
    if len(joined) > MAX_WORD:
        return Chunk(terms, ((parts,),))
    if joined[0] in "0123456789":
        # "2light" would only make the title longer; "2 light", its joint and its cuts find the parts.
        return Chunk(terms, ((parts, (word_term(joined),)),))
    whole = _cached(joined).terms if _QUANTITIES.fullmatch(joined) else (word_term(joined),)
    return Chunk((*terms, *whole), ((whole, parts),))


def _piece(piece: str) -> tuple[str, ...]:
    """The terms of one piece of a compound, read by itself: "8x10ft" of "rug-8x10ft" has dimensions."""
    if piece.isdigit() or not piece[0].isdigit():
        return (word_term(piece),)
    return tuple(term for chunk in CHUNKS.findall(piece) for term in _cached(chunk).terms)


def _cuts(model: str) -> Iterator[tuple[str, ...]]:
    """The ways to type a model number in two or three pieces: dcd771c2 as dcd771 c2, dcd 771c2, dcd 771 c2."""
    runs = _LETTERS_OR_DIGITS.findall(model)
    if not 1 < len(runs) <= _MAX_RUNS:
        return
    for count in (1, 2):
        for places in combinations(range(1, len(runs)), count):
            bounds = (0, *places, len(runs))
            yield tuple(word_term("".join(runs[start:end])) for start, end in pairwise(bounds))


RULES = "terms-3"
"""Increased whenever a text would give other terms: an index made by other rules must be rebuilt."""
MAX_TEXT = 200_000
"""The number of characters of a text that are analysed; the rest is not searched."""
MAX_GROUPS = 128
"""The most groups of one query; further words are not searched."""
_LONGEST_JOINT = 3

Phrase = tuple[str, ...]
"""Consecutive terms."""
_Key = tuple[tuple[str, ...], ...]
_SynonymPhrases = Mapping[_Key, tuple[Phrase, ...]]


class Expansion(NamedTuple):
    """A term of products that counts in place of a typed word."""

    term: str
    strength: float
    """0 to 1: the probability of the word in a query for a product with this term."""


Expansions = Mapping[str, Sequence[Expansion]]
"""Expansions by the term of the typed word, strongest first: `shelfwise.rerank.expansions` learns them."""
NO_EXPANSIONS: Expansions = {}


@dataclass(frozen=True, slots=True)
class TermGroup:
    """One word of a query (or one quantity). The group scores as its best alternative or synonym (dis_max)."""

    alternatives: Alternatives
    """Conjunctions of terms; the first is what the user typed."""
    synonyms: tuple[Phrase, ...] = ()
    """Phrases that match in place of the word, or of a longer phrase that contains it."""
    expansions: Sequence[Expansion] = ()
    """Learned terms, strongest first, that count for the score in place of the word; they count for matching only if no
    product has the word."""
    is_enough: bool = False
    """Whether a product with only this word matches a query of two words."""
    is_optional: bool = False
    """Whether it counts only for the score, like a preference; a query with only such groups needs them."""
    is_character: bool = False
    """Whether it is a character of a Chinese word, searched in addition to the word."""

    @property
    def weighed_terms(self) -> frozenset[str]:
        """The terms whose frequencies weight synonyms and expansions; empty without any."""
        is_met_by_others = self.synonyms or self.expansions
        return frozenset(chain(self.alternatives[0], *self.synonyms)) if is_met_by_others else frozenset()


class AnalyzedText:
    """A text with its terms and its groups, each computed on first use from one reading of the text."""

    def __init__(self, analyzer: Analyzer, text: str) -> None:
        self.text = text
        self._analyzer = analyzer

    @cached_property
    def terms(self) -> frozenset[str]:
        return frozenset(term for chunk in self._chunks for term in chunk.terms)

    @cached_property
    def groups(self) -> tuple[TermGroup, ...]:
        return self._analyzer.expand(self._chunks[:MAX_GROUPS])

    @cached_property
    def _chunks(self) -> list[Chunk]:
        return list(_read(self.text))


_RULE_FORM = 'write "couch, sofa" (each finds the other) or "hdd => hard drive, hard disk" (the left finds the right)'


@dataclass(frozen=True, slots=True)
class SynonymRule:
    """A query with `phrase` also finds `others`."""

    phrase: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Synonyms:
    """The rules of one file, in order."""

    rules: tuple[SynonymRule, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Synonyms:
        """Read a UTF-8 file.

        Raises SettingError if the file cannot be read or a line is not a rule.
        """
        return cls.parse(read_text(Path(path), SettingError).split("\n"), str(path))

    @classmethod
    def stored(cls, path: Path) -> Synonyms:
        """The synonyms in a version's file, or none without a file; raises SettingError if it is damaged."""
        return cls.load(path) if path.exists() else cls()

    @classmethod
    def parse(cls, lines: Iterable[str], name: str = "synonyms") -> Synonyms:
        """Read lines; "#" starts a comment, and empty lines are skipped. Errors show `name` before the line number.

        Raises SettingError with the number of a line that is not a rule.
        """
        rules: list[SynonymRule] = []
        for number, line in enumerate(lines, 1):
            if text := line.split("#", 1)[0].strip():
                rules.extend(_parsed_rules(text, f"{name}:{number}"))
        return cls(tuple(rules))

    @property
    def text(self) -> str:
        """The rules in the format of a file."""
        return "".join(f"{rule.phrase} => {', '.join(rule.others)}\n" for rule in self.rules)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with the rules; comments, spacing and the file's name do not count."""
        lines = ("\t".join((rule.phrase, *rule.others)) for rule in self.rules)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _parsed_rules(text: str, where: str) -> Iterator[SynonymRule]:
    left, *rest = (_split_phrases(side, where) for side in text.split("=>"))
    if len(rest) > 1:
        raise SettingError(f'{where}: more than one "=>" in {text!r}; {_RULE_FORM}')
    if not rest and len(left) < 2:
        raise SettingError(f"{where}: {text!r} has no synonym; {_RULE_FORM}")
    for phrase in left:
        others = tuple(other for other in (rest[0] if rest else left) if other != phrase)
        if others:
            yield SynonymRule(phrase, others)


def _split_phrases(side: str, where: str) -> tuple[str, ...]:
    phrases = tuple(" ".join(phrase.split()) for phrase in side.split(","))
    for phrase in phrases:
        if not any(map(str.isalnum, phrase)):
            raise SettingError(f"{where}: {phrase!r} has no word; {_RULE_FORM}")
    return tuple(dict.fromkeys(phrases))


class Analyzer:
    """Makes the terms of products and queries. Immutable, cheap to create, thread-safe.

    `identity` changes if a text would give other terms or the synonyms changed; `synonyms` and `expansions` are those
    with which it was made.
    """

    def __init__(self, synonyms: Synonyms | None = None, expansions: Expansions = NO_EXPANSIONS) -> None:
        self.synonyms = synonyms = synonyms or Synonyms()
        self.expansions = expansions
        self.identity = f"{RULES}+{synonyms.fingerprint}"
        self.analyze: Callable[[str], AnalyzedText] = lru_cache(maxsize=256)(partial(AnalyzedText, self))
        """The analysis of a query, shared by all parts of a search."""

    @cached_property
    def _synonym_phrases(self) -> _SynonymPhrases:
        # Built for the first query: Chinese synonyms load the dictionary, which a price change does not need.
        return _synonym_phrases(self.synonyms)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._synonym_phrases), default=0)

    def __reduce__(self) -> tuple[type[Analyzer], tuple[Synonyms, Expansions]]:
        return Analyzer, (self.synonyms, self.expansions)  # without the cache; workers of a rebuild get a copy

    def terms(self, text: str) -> list[str]:
        """The terms to index for `text`, none with whitespace.

        Any string is valid. A term's own terms include it, except for Chinese words that the segmenter cut by context.
        """
        return [*_terms_of_name(text)] if len(text) <= _LONGEST_NAME else _terms(text)

    def groups(self, text: str) -> tuple[TermGroup, ...]:
        """The groups to search for, in the order of the words. Each matches a product whose text is `text`."""
        return self.expand(list(islice(_read(text), MAX_GROUPS)))

    def phrases(self, text: str) -> tuple[Phrase, ...]:
        """The forms of a phrase in which products contain it; none for a text without a word."""
        return tuple(filter(None, _phrases(text)))

    def expand(self, found: Sequence[Chunk]) -> tuple[TermGroup, ...]:
        """The groups of a query's chunks, with their synonyms."""
        groups = list(self._expanded(_with_joints(found)))
        for character in chain.from_iterable(chunk.characters for chunk in found):
            # Part of a word, so whatever matches the word matches it.
            words = (group for group in groups if character in group.alternatives[0][0])
            synonyms = next((group.synonyms for group in words), ())
            groups.append(TermGroup(((character,),), synonyms, is_character=True))
        return tuple(groups[:MAX_GROUPS])

    def _expanded(self, groups: Sequence[Alternatives]) -> Iterator[TermGroup]:
        at = 0
        while at < len(groups):
            size = self._match(groups, at)
            end = at + (size or 1)
            synonyms = self._synonym_phrases.get(_key(groups[at:end]), ())
            for alternatives in groups[at:end]:
                typed = alternatives[0]
                learned = self.expansions.get(typed[0], ()) if len(typed) == 1 else ()
                yield TermGroup(alternatives, synonyms, learned)
            at = end

    def _match(self, groups: Sequence[Alternatives], at: int) -> int:
        """The number of groups from `at` on that the longest synonym covers; 0 if none begins there."""
        for size in range(min(self._longest, len(groups) - at), 0, -1):
            if _key(groups[at : at + size]) in self._synonym_phrases:
                return size
        return 0


def _terms(text: str) -> list[str]:
    return [term for chunk in _read(text) for term in chunk.terms]


_LONGEST_NAME = 40


@lru_cache(maxsize=2**15)
def _terms_of_name(text: str) -> tuple[str, ...]:
    """The terms of a brand, a category or a value, cached since many products share them."""
    return tuple(_terms(text))


def _read(text: str) -> Iterator[Chunk]:
    # Cut again after folding: one character can fold to eighteen.
    return chunks(fold(text[:MAX_TEXT])[:MAX_TEXT])


def _with_joints(found: Sequence[Chunk]) -> list[Alternatives]:
    """The groups of the chunks; neighbours that may be one word ("wi fi", "dcd 771 c2") also match that word."""
    joints: list[list[tuple[str, ...]]] = [[] for _ in found]
    for start in range(len(found)):
        for end, whole in _joints(found, start):
            # A word may be half of many compounds, so only the first half counts it; pieces of a model number all do.
            for at in range(start, start + 1 if whole.isalpha() else end):
                joints[at].append((word_term(whole),))
    return [
        (*alternatives, *(joints[at] if chunk.joint else ()))
        for at, chunk in enumerate(found)
        for alternatives in chunk.groups
    ]


def _joints(found: Sequence[Chunk], start: int) -> Iterator[tuple[int, str]]:
    """Each run of two or three chunks from `start` on that may be one word: its end, and the word.

    Runs of three only if they are pieces of a model number, that is, have letters and digits.
    """
    whole = found[start].joint
    for end in range(start + 1, min(start + _LONGEST_JOINT, len(found))):
        if not (whole and found[end].joint):
            return
        whole += found[end].joint
        if not whole.isdigit() and (end == start + 1 or not whole.isalpha()):
            yield end + 1, whole


def _synonym_phrases(synonyms: Synonyms) -> _SynonymPhrases:
    table: dict[_Key, tuple[Phrase, ...]] = {}
    for rule in synonyms.rules:
        key = phrase_key(rule.phrase)
        others = filter(None, chain.from_iterable(map(_phrases, rule.others)))
        table[key] = tuple(dict.fromkeys((*table.get(key, ()), *others)))
    return table


def _phrases(text: str) -> Iterator[Phrase]:
    """The terms of a phrase as a query has them ("wifi router", for "wi-fi router") and, for several words, as a
    product has them ("20 20v volt drill"), where a quantity is several terms."""
    yield tuple(chain.from_iterable(phrase_key(text)))
    if len(found := list(_read(text))) > 1:
        yield tuple(term for chunk in found for term in chunk.terms if term not in chunk.characters)


def phrase_key(phrase: str) -> tuple[tuple[str, ...], ...]:
    """A key that is equal for phrases that are the same to a synonym; empty for a phrase without a word."""
    return _key([group for chunk in _read(phrase) for group in chunk.groups])


def _key(groups: Sequence[Alternatives]) -> _Key:
    return tuple(alternatives[0] for alternatives in groups)
