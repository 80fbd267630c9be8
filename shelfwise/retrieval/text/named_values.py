"""Values of a catalog that queries name: brands, colours and sizes ("hp laptop", "red backpack", "shoes size 8")."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import zstandard

from shelfwise.retrieval.filters.ast import value_text
from shelfwise.retrieval.filters.schema import FieldKind, attribute_kinds
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import format_json, load_json
from shelfwise.retrieval.text.analysis import HAN, contains_chinese, fold

VALUES_FILE = "values.json"

_COLOUR_FIELD = re.compile(r"attributes\.(?:.*[_ ])?colou?rs?(?:_name)?|attributes\..*颜色")
_SIZE_FIELD = re.compile(r"attributes\.(?:.*[_ ])?sizes?|attributes\..*(?:尺码|尺寸)")
_MIN_HELD = 0.01
"""The least share of products with a field for its values to be recognised."""
_MAX_VALUES = 50_000
"""The most phrases that are recognised: those of the most products."""
_MAX_ALTERNATIVES = 12
"""The most values that one phrase names: those of the most products. For example, "Black,Red" is a value of "black"."""
_MIN_AGREEMENT = 0.5
"""The least share of products with the value, among products with the value or with its phrase in the title: "office"
in a title is rarely the brand Office."""
_MAX_WORDS, _MAX_CHARACTERS = 4, 8
_MAX_NAMED = 8
"""The most values of one query: each costs a filter over the candidates."""
_TOKEN = re.compile(rf"[a-z0-9]+|[{HAN}]+")
_WORDS = re.compile(rf"[a-z]{{2}}|[{HAN}]{{2}}|[a-z]\d|\d[a-z]")
_PARTS = re.compile(r"[/,&+;]|\band\b")


@dataclass(frozen=True, slots=True)
class NamedValue:
    """A phrase of a folded query that names a value."""

    start: int
    end: int
    values: Mapping[str, Sequence[str]]
    """The named values by field."""


@dataclass(frozen=True, slots=True)
class NamedValues:
    """The brands, colours and sizes of a catalog by the phrases that name them. Read-only, thread-safe."""

    by_phrase: Mapping[str, Mapping[str, Sequence[str]]]
    """The values by field, for each phrase."""

    @classmethod
    def open(cls, folder: Path) -> NamedValues:
        """Reads the values of a version; raises StoreDamagedError if they cannot be read."""
        return cls(load_json(folder / VALUES_FILE, dict[str, dict[str, list[str]]]))

    def write(self, folder: Path) -> None:
        """Writes the values of a version."""
        (folder / VALUES_FILE).write_bytes(format_json(self.by_phrase))

    def is_value(self, folded: str) -> bool:
        """Whether a folded text names a value and nothing else."""
        return " ".join(_TOKEN.findall(folded)) in self.by_phrase

    def find(self, folded: str) -> list[NamedValue]:
        """The first values (at most 8) that a folded query names, in order; of overlapping ones, the longest."""
        found: list[NamedValue] = []
        end = 0
        for phrase, start, stop in _phrases(folded) if self.by_phrase else ():
            fields = self.by_phrase.get(phrase)
            if fields and start >= end and all(each.values is not fields for each in found):
                found.append(NamedValue(start, stop, fields))
                end = stop
            if len(found) == _MAX_NAMED:
                break
        return found


T = TypeVar("T")


class MapProducts(Protocol):
    """Runs work over all products of a catalog, in parts."""

    def __call__(self, work: Callable[[Sequence[Product]], T], /) -> Iterable[T]:
        """The results of `work`, which must be picklable, for each part, ordered by row."""


@dataclass(slots=True)
class ValueCounts:
    """Counts over a catalog that decide which values its queries may name. The next rebuild updates them."""

    size: int = 0
    held_by: Counter[str] = field(default_factory=Counter)
    """The number of products with each field."""
    values: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of products by field and value."""
    mentions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of products with a phrase and a field but no value that the phrase names, by phrase and field."""
    named: set[tuple[str, str]] = field(default_factory=set)
    """The phrases whose mentions were counted, with the field of each."""

    @classmethod
    def load(cls, folder: Path) -> ValueCounts:
        """Reads the counts that `save` wrote."""
        packed = zstandard.decompress((folder / _COUNTS_FILE).read_bytes())
        size, held_by, values, mentions, named = msgspec.msgpack.decode(packed, type=_Packed)
        return cls(size, Counter(held_by), Counter(dict(values)), Counter(dict(mentions)), set(named))

    def save(self, folder: Path) -> None:
        """Writes the counts into the folder of a version's types."""
        pairs = (list(each.items()) for each in (self.values, self.mentions))
        packed = msgspec.msgpack.encode((self.size, self.held_by, *pairs, list(self.named)))
        (folder / _COUNTS_FILE).write_bytes(zstandard.compress(packed, 1))

    def count_values(self, over_products: MapProducts, sign: int = 1) -> None:
        """Counts the values of products; subtracts them if `sign` is -1."""
        for size, held_by, values in over_products(_count_values):
            self.size += sign * size
            _add(self.held_by, held_by, sign)
            _add(self.values, values, sign)

    def count_mentions(self, over_products: MapProducts, pairs: Iterable[tuple[str, str]], sign: int = 1) -> None:
        """Counts the mentions of some phrases, each with its field; subtracts them if `sign` is -1."""
        fields: defaultdict[str, list[str]] = defaultdict(list)
        for phrase, name in pairs:
            fields[phrase].append(name)
        for part in over_products(partial(_count_mentions, dict(fields))) if fields else ():
            _add(self.mentions, part, sign)

    def holders(self) -> dict[tuple[str, str], Counter[str]]:
        """The values that a phrase names, with their numbers of products, by phrase and field."""
        least = max(1.0, _MIN_HELD * self.size)
        found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for (name, value), count in sorted(self.values.items()):
            for phrase in _phrases_of(name, value) if self.held_by[name] >= least else ():
                found[phrase, name][value] += count
        return found


def _add(counts: Counter[T], others: Counter[T], sign: int) -> None:
    for key, count in others.items():
        counts[key] += sign * count
        if not counts[key]:
            del counts[key]


_COUNTS_FILE = "values.msgpack.zst"
_Pairs = list[tuple[tuple[str, str], int]]
_Packed = tuple[int, dict[str, int], _Pairs, _Pairs, list[tuple[str, str]]]


def derive_values(
    over_products: MapProducts, counts: ValueCounts | None = None, changes: Sequence[tuple[int, MapProducts]] = ()
) -> NamedValues:
    """The values that queries of a catalog may name. `counts` are those of an earlier state; `changes` iterate over the
    products added since (1) or removed (-1). The counts are updated to the current state."""
    counts = ValueCounts() if counts is None else counts
    if not counts.size:
        changes = ((1, over_products),)
    for sign, changed in changes:
        counts.count_values(changed, sign)
    holders = counts.holders()
    for pair in counts.named - holders.keys():
        counts.mentions.pop(pair, None)
    known = counts.named & holders.keys()
    for sign, changed in changes:
        counts.count_mentions(changed, known, sign)
    counts.count_mentions(over_products, sorted(holders.keys() - known))
    counts.named = set(holders)
    by_phrase: defaultdict[str, dict[str, Sequence[str]]] = defaultdict(dict)
    for (phrase, name), counted in sorted(holders.items(), key=lambda each: (-each[1].total(), each[0]))[:_MAX_VALUES]:
        if counted.total() >= _MIN_AGREEMENT * (counted.total() + counts.mentions[phrase, name]):
            by_phrase[phrase][name] = [value for value, _ in counted.most_common(_MAX_ALTERNATIVES)]
    return NamedValues(by_phrase)


def _count_values(products: Sequence[Product]) -> tuple[int, Counter[str], Counter[tuple[str, str]]]:
    """The number of products, of products by field, and of products by field and value."""
    held_by, counts = Counter[str](), Counter[tuple[str, str]]()
    for product in products:
        values = _values(product)
        held_by.update({field for field, _ in values})
        counts.update(values)
    return len(products), held_by, counts


def _count_mentions(fields: Mapping[str, Sequence[str]], products: Sequence[Product]) -> Counter[tuple[str, str]]:
    """The number of products with a field that have a phrase of its values in their titles, but none of these values.
    `fields` are those of each phrase."""
    openings = {_TOKEN.findall(phrase)[0] for phrase in fields}
    counted = Counter[tuple[str, str]]()
    for product in products:
        values = _values(product)
        present = {field for field, _ in values}
        phrases = {phrase for phrase in _title_phrases(fold(product.title), openings) if phrase in fields}
        named = {(phrase, field) for phrase in phrases for field in fields[phrase] if field in present}
        held = {(phrase, field) for field, value in values for phrase in _phrases_of(field, value)} if named else set()
        counted.update(named - held)
    return counted


def _title_phrases(folded: str, openings: Collection[str]) -> Iterator[str]:
    """The phrases of a folded title; in text that is not Chinese, only those that begin with one of the `openings`."""
    if contains_chinese(folded):
        yield from (phrase for phrase, _, _ in _phrases(folded))
        return
    words = [word for word in _TOKEN.findall(folded) if word != "and"]
    for at, word in enumerate(words):
        for stop in range(at, min(len(words), at + _MAX_WORDS)) if word in openings else ():
            yield " ".join(words[at : stop + 1])


def _values(product: Product) -> list[tuple[str, str]]:
    """The brands, colours and sizes of a product, each with its field."""
    found = [("brand", product.brand)] if product.brand else []
    for name, attribute in product.attributes.items():
        if _is_named(f"attributes.{name}"):
            kinds = attribute_kinds(attribute)
            found += [(f"attributes.{name}", value_text(one)) for kind, one in kinds if kind is not FieldKind.BOOLEAN]
    return found


@lru_cache(maxsize=10_000)
def _is_named(name: str) -> bool:
    return bool(_COLOUR_FIELD.fullmatch(name) or _SIZE_FIELD.fullmatch(name))


@lru_cache(maxsize=2**14)
def _phrases_of(field: str, value: str) -> tuple[str, ...]:
    """The phrases that name a value."""
    return tuple(_named_by(field, value))


def _named_by(field: str, value: str) -> Iterator[str]:
    folded = fold(value)
    tokens = [each for each in _TOKEN.findall(folded) if each != "and"]
    whole = " ".join(tokens)
    is_named = bool(_WORDS.search(whole)) and len(tokens) <= _MAX_WORDS
    if is_named:
        yield whole
    if _SIZE_FIELD.fullmatch(field) and 0 < len(tokens) < _MAX_WORDS:
        yield f"size {whole}"
    if _COLOUR_FIELD.fullmatch(field):
        # "Forest green" and "black/green" are also results for "green".
        ends = (_TOKEN.findall(part)[-1:] for part in _PARTS.split(folded))
        yield from dict.fromkeys(end for each in ends for end in each if end != whole and _WORDS.search(end))


def _phrases(folded: str) -> Iterator[tuple[str, int, int]]:
    """The phrases of a folded text with their start and end, from left to right, longest first."""
    tokens = [token for token in _TOKEN.finditer(folded) if token[0] != "and"]
    for at, token in enumerate(tokens):
        text, start = token[0], token.start()
        for stop in range(min(len(tokens), at + _MAX_WORDS), at, -1):
            yield " ".join(each[0] for each in tokens[at:stop]), start, tokens[stop - 1].end()
        for begin in range(len(text)) if contains_chinese(text) else ():
            for stop in range(min(len(text), begin + _MAX_CHARACTERS), begin + 1, -1):
                yield text[begin:stop], start + begin, start + stop
