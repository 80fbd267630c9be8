"""What of a record's texts matched: `_highlightResult` and `_snippetResult`, a well-formed leaf for every text.

Texts are sent as they are, with the client's own tags around what matched: the front-end libraries escape the text and
then put their elements in the place of the tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.highlighting.marking import MOST_WORDS, Marks, excerpt, marked
from service.highlighting.matching import Match, Matcher
from service.instantsearch.record import Record

Leaf = dict[str, Any]
_SNIPPET_WORDS = 10


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
        words = min(int(told), MOST_WORDS) if told.isascii() and told.isdecimal() else _SNIPPET_WORDS
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
    start, end = excerpt(text, words, matches[0].start if matches else 0)
    within = [each for each in matches if each.start >= start and each.end <= end]
    value = marked(text, ((each.start, each.end) for each in within), marks, bounds=(start, end))
    return {"value": value, "matchLevel": _level(within, matcher)["matchLevel"]}


def _level(matches: Sequence[Match], matcher: Matcher) -> Leaf:
    met = frozenset[str]().union(*(each.words for each in matches))
    level = "none" if not met else "full" if len(met) == len(matcher.words) else "partial"
    return {"matchLevel": level, "matchedWords": [word for word in matcher.words if word in met]}
