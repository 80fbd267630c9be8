"""Suggested queries as the records of an index of their own, which is how the libraries take them."""

from __future__ import annotations

from collections.abc import Callable

from service.highlighting.marking import marked
from service.instantsearch.parameters import Parameters
from service.instantsearch.record import Record
from service.suggesting.suggester import MOST_SUGGESTIONS
from service.suggesting.suggestions import Suggestions


def suggested_queries(suggest: Callable[[str, int], Suggestions], asked: Parameters) -> list[Record]:
    """The queries that go on from what was typed, what was typed of each marked."""
    found = suggest(asked.query, min(asked.size, MOST_SUGGESTIONS))
    return [
        {
            "objectID": each.text,
            "query": each.text,
            "_highlightResult": {
                "query": {
                    "value": marked(each.text, each.spans, asked.shown.marks),
                    "matchLevel": "full",
                    "matchedWords": [each.text[start:end] for start, end in each.spans],
                }
            },
        }
        for each in found.queries
    ]
