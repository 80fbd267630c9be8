"""Proposals for the fields of a feed that no column is mapped to: the column whose values look like an id, a title or a
price, in any language. Of several such columns, the one with a name similar to a known one is proposed; else the first
for an id, the one with the most varied and the shortest texts for a title, and with the highest amounts for a price.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from rapidfuzz import fuzz

from shelfwise.indexer.feeds.base import Row
from shelfwise.indexer.feeds.mapping import FeedMapping, MappingRule
from shelfwise.indexer.feeds.values import price
from shelfwise.retrieval.errors import FeedError, RowError, close_names

PROPOSABLE = ("id", "title", "price")
_REQUIRED = ("id", "title")
_MIN_FILLED = 0.9
"""Least share of rows with a title."""
_MIN_AMOUNTS = 0.7
"""Least share of amounts among the values of a price column; others are "on request"."""
_MIN_DECIMALS = 0.5
"""Least share of prices with two decimals or a currency."""
_MIN_VARIED = 0.6
"""Least share of different values in a title column."""
_MAX_ID = 40
_MAX_TITLE = 200
"""Longest id and longest average title, in characters."""
_MIN_WORDS = 1.5
"""Least average number of words of a title."""
_NO_ID = re.compile(r"\s|://|^\d{4}-\d\d-\d\d")
"""Blanks, an address, or a date."""
_MIN_ALIKE = 60
"""Least similarity of a column's name and a known one, 0 to 100, for it to count."""
_MIN_PART = 5
"""Least length of a known name that may be similar to a part of a column's name."""
_EXACT = re.compile(r"[.,]\d\d(?!\d)|[^\d\s.,'’+-]")
"""Two decimals, or a currency."""


def missing_fields(names: Sequence[str], mapping: FeedMapping) -> list[str]:
    """The proposable fields for which rows with these names have no value."""
    present = {*names, *(name.partition(".")[0] for name in names)}

    def is_missing(rule: MappingRule) -> bool:
        sources = (source.name for source in rule.sources)
        return rule.value is None and not any(name in present or name.partition(".")[0] in present for name in sources)

    return [field for field in PROPOSABLE if is_missing(mapping.rules[field])]


def propose_columns(rows: Sequence[Row], mapping: FeedMapping) -> Iterator[tuple[str, str]]:
    """The missing fields of some rows, each with the column that looks like it; a column is proposed once."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    used = {source.name for rule in mapping.rules.values() for source in rule.sources}
    columns = {name: [_text(row.get(name)) for row in rows] for name in names if name not in used}
    for field in missing_fields(names, mapping):
        sources = [source.name for source in mapping.rules[field].sources]
        scores = {name: _SCORES[field](values) for name, values in columns.items()}
        if fitting := {name: score for name, score in scores.items() if score is not None}:
            column = max(fitting, key=lambda name: (_similarity(name, sources), fitting[name]))
            del columns[column]
            yield field, column


def _similarity(name: str, sources: Sequence[str]) -> float:
    """The similarity of a column's name to a known one; 0 if it is too small to count."""
    # Part of a long word is often equal to a short one by chance.
    scorers = ((each, fuzz.partial_ratio if _MIN_PART <= len(each) <= len(name) else fuzz.ratio) for each in sources)
    best = max(scorer(each, name.casefold()) for each, scorer in scorers)
    return best if best >= _MIN_ALIKE else 0.0


def check_columns(path: str, names: Sequence[str], mapping: FeedMapping, proposals: Mapping[str, str]) -> None:
    """Raises FeedError if no column of a table can be a product's id, or none its title; the message names both, and
    proposes columns."""
    missing = [field for field in missing_fields(names, mapping) if field in _REQUIRED]
    if not missing:
        return
    problems = []
    guesses = {}
    for field in missing:
        sources = [source.name for source in mapping.rules[field].sources]
        origin = "mapped" if field in mapping.user_fields else "known"
        problems.append(f"no column is the {field} ({origin}: {', '.join(sources)})")
        close = (each for name in (*sources, field) for each in close_names(name, names))
        guesses[field] = proposals.get(field) or next(close, "COLUMN")
    flags = " ".join(map_flag(field, name) for field, name in {**guesses, **proposals}.items())
    cure = f"name {'it' if len(missing) == 1 else 'them'} with {flags}"
    raise FeedError(f"{path}: {', and '.join(problems)}; its columns are {', '.join(names[:20])}; {cure}")


def map_flag(field: str, name: str) -> str:
    """The option of a command that maps a column to a field."""
    return f"--map {shlex.quote(f'{field}={name}')}"


def _text(value: object) -> str:
    """A value as in a table; a price that is a number has two decimals if it has one."""
    if isinstance(value, float):
        return f"{value:.2f}" if round(value, 2) == value and not value.is_integer() else repr(value)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


# The score of a column for a field, None if its values cannot be of this field.


def _id_score(values: Sequence[str]) -> float | None:
    fits = all(0 < len(each) <= _MAX_ID and not _NO_ID.search(each) for each in values)
    return 0.0 if fits and len(set(values)) == len(values) and _price_score(values) is None else None


def _title_score(values: Sequence[str]) -> float | None:
    filled = [each for each in values if each]
    varied = round(len(set(filled)) / max(1, len(filled)), 1)
    if len(filled) < _MIN_FILLED * len(values) or varied < _MIN_VARIED:
        return None
    words = sum(len(each.split()) for each in filled) / len(filled)
    # Chinese and Japanese have no blanks between words.
    is_unspaced = sum(each[0] > "\u2e80" for each in filled) > len(filled) / 2
    length = sum(map(len, filled)) / len(filled)
    is_other = any("://" in each for each in filled) or _price_score(values) is not None
    fits = length <= _MAX_TITLE and (words >= _MIN_WORDS or is_unspaced) and not is_other
    return varied * _MAX_TITLE - length if fits else None


def _price_score(values: Sequence[str]) -> float | None:
    filled = [each for each in values if each]
    amounts = []
    for each in filled:
        with suppress(RowError):
            amounts.append(price("price", each)[0])
    exact = sum(bool(_EXACT.search(each)) for each in filled)
    fits = len(amounts) >= max(1, _MIN_AMOUNTS * len(filled)) and exact >= _MIN_DECIMALS * len(filled)
    return sum(amounts) / len(amounts) if fits else None


_SCORES: Mapping[str, Callable[[Sequence[str]], float | None]] = {
    "id": _id_score,
    "title": _title_score,
    "price": _price_score,
}
