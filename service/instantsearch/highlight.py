"""What of a record's texts matched: `_highlightResult` and `_snippetResult`, a well-formed leaf for every text.

Texts are sent as they are, with the client's own tags around what matched: the front-end libraries escape the text and
then put their elements in the place of the tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from retrieval.word_spans import word_spans
from service.instantsearch.matching import Match, Matcher
from service.instantsearch.parameters import Marks
from service.instantsearch.record import Record

Leaf = dict[str, Any]
_SNIPPET_WORDS = 10
_MOST_SNIPPET_WORDS = 1_000
_BEFORE = 3
"""Words of a snippet before the first that matched, where there are so many."""


def highlighted(record: Record, wanted: Sequence[str], matcher: Matcher, marks: Marks) -> Record:
    """The wanted attributes that have texts, each text replaced by its leaf."""
    is_all = "*" in wanted
    names = {name.partition(".")[0] for name in wanted}
    chosen = {name: value for name, value in record.items() if is_all or name in names}
    return _leaves(chosen, lambda text: _highlight(text, matcher, marks))


def snippets(record: Record, wanted: Sequence[str], matcher: Matcher, marks: Marks) -> Record:
    """The wanted attributes (`description:20`), their texts cut to so many words around the first that matched."""
    found: Record = {}
    for each in wanted:
        name, _, told = each.rpartition(":") if ":" in each else (each, "", "")
        words = min(int(told), _MOST_SNIPPET_WORDS) if told.isascii() and told.isdecimal() else _SNIPPET_WORDS
        names = record if name == "*" else (name.partition(".")[0],)
        chosen = {name: record[name] for name in names if name in record}
        found |= _leaves(chosen, _snipper(words, matcher, marks))
    return found


def _snipper(words: int, matcher: Matcher, marks: Marks) -> Callable[[str], Leaf]:
    return lambda text: _snippet(text, words, matcher, marks)


def _leaves(values: Mapping[str, object], leaf: Callable[[str], Leaf]) -> Record:
    found = {name: _of(value, leaf) for name, value in values.items() if name not in ("objectID", "_tags")}
    return {name: value for name, value in found.items() if value is not None}


def _of(value: object, leaf: Callable[[str], Leaf]) -> object:
    """The same shape with leaves; None for what holds no text."""
    if isinstance(value, str):
        return leaf(value)
    if isinstance(value, list):
        return [made for each in value if (made := _of(each, leaf)) is not None] or None
    if isinstance(value, dict):
        made = {name: _of(each, leaf) for name, each in value.items()}
        return {name: each for name, each in made.items() if each is not None} or None
    return None


def _highlight(text: str, matcher: Matcher, marks: Marks) -> Leaf:
    matches = list(matcher.matches(text))
    leaf: Leaf = {"value": marked(text, ((each.start, each.end) for each in matches), marks)}
    leaf |= _level(matches, matcher)
    if matches:
        leaf["fullyHighlighted"] = sum(each.end - each.start for each in matches) == len(text.strip())
    return leaf


def _snippet(text: str, words: int, matcher: Matcher, marks: Marks) -> Leaf:
    matches = list(matcher.matches(text))
    start, end = _excerpt(text, words, matches[0].start if matches else 0)
    within = [each for each in matches if each.start >= start and each.end <= end]
    value = marked(text[start:end], ((each.start - start, each.end - start) for each in within), marks)
    cut_before, cut_after = marks.cut if start else "", marks.cut if end < len(text) else ""
    return {"value": f"{cut_before}{value}{cut_after}", "matchLevel": _level(within, matcher)["matchLevel"]}


def _excerpt(text: str, words: int, first: int) -> tuple[int, int]:
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


def _level(matches: Sequence[Match], matcher: Matcher) -> Leaf:
    met = frozenset[str]().union(*(each.words for each in matches))
    level = "none" if not met else "full" if len(met) == len(matcher.words) else "partial"
    return {"matchLevel": level, "matchedWords": [word for word in matcher.words if word in met]}


def marked(text: str, spans: Iterable[tuple[int, int]], marks: Marks) -> str:
    """The text with tags around its spans, which come ascending and apart."""
    pieces, done = [], 0
    for start, end in spans:
        pieces += [text[done:start], marks.before, text[start:end], marks.after]
        done = end
    return "".join([*pieces, text[done:]])
