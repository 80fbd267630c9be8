"""Recorded searches of an index, to show that a code change leaves hits, scores, totals and facets unchanged.

python -m shelfwise.benchmarks.studies.recorded_searches record INDEX JUDGMENTS.tsv OUT.jsonl
python -m shelfwise.benchmarks.studies.recorded_searches compare BEFORE.jsonl AFTER.jsonl
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shelfwise.retrieval.records import Page
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import SearchOptions

_SEARCHES = 500
_TOLERANCE = 1e-6


def record(index: str, judgments: str, out: str) -> None:
    """Searches for the queries of a judgments file, with varying options; writes one JSON line per search."""
    lines = Path(judgments).read_text("utf-8").splitlines()[1:]
    queries = list(dict.fromkeys(line.split("\t")[0] for line in lines))
    if len(queries) > 3 * _SEARCHES:
        queries = queries[:: len(queries) // 600]
    with SearchEngine.open(index) as engine, Path(out).open("w", encoding="utf-8") as file:
        options = _options(engine)
        for query in itertools.islice(itertools.cycle(queries), _SEARCHES):
            given = next(options)
            file.write(json.dumps(_line(query, given, engine.search(query, **given)), ensure_ascii=False) + "\n")


def compare(before: str, after: str) -> int:
    """Prints the first searches that differ by more than 1e-6; returns the number of those that differ."""
    pairs = itertools.zip_longest(*(Path(each).read_text("utf-8").splitlines() for each in (before, after)))
    rows = [(json.loads(one or "null"), json.loads(other or "null")) for one, other in pairs]
    unequal = [pair for pair in rows if not _is_equal(*pair)]
    for pair in unequal[:5]:
        sys.stdout.writelines(json.dumps(each, ensure_ascii=False)[:600] + "\n" for each in pair)
    sys.stdout.write(f"{len(rows)} searches, {len(unequal)} differ\n")
    return len(unequal)


def _options(engine: SearchEngine) -> Iterator[SearchOptions]:
    """Stages, filters, sort orders, facets and pages in turn; brands and prices if the catalog has brands."""
    known = "brand" in engine.snapshot.catalog.fields
    counts = engine.search("", size=1, facets=["brand"]).facets["brand"].counts[:3] if known else ()
    options: list[SearchOptions] = [
        {},
        {"stage": "bm25"},
        {"stage": "dense"},
        {"stage": "merged", "explain": True},
        {"page": 2, "size": 10},
        {"merge": "rrf", "stage": "merged"},
        {"explain": True, "size": 5},
        {"correct": False, "page": 3},
    ]
    if counts:
        brands = ", ".join(f'"{each.value}"' for each in counts)
        options += [
            {"facets": ["brand"], "size": 10},
            {"filters": f'brand = "{counts[0].value}"', "facets": ["brand"]},
            {"filters": f"brand IN ({brands})", "stage": "merged"},
            {"sort": "-price"},
            {"sort": "price", "filters": "price < 100", "facets": ["brand"]},
        ]
    return itertools.cycle(options)


def _line(query: str, options: SearchOptions, page: Page) -> dict[str, Any]:
    return {
        "query": query,
        "options": options,
        "total": page.total,
        "degraded": page.degraded,
        "suggestion": page.suggestion,
        "corrected": page.corrected,
        "hits": [
            [hit.product.id, hit.score, {name: [each.rank, each.score] for name, each in hit.stages.items()}]
            for hit in page.hits
        ],
        "facets": {name: [[each.value, each.count] for each in facet.counts] for name, facet in page.facets.items()},
    }


def _is_equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    return bool(one == other)


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"] and len(sys.argv) == 5:
        record(*sys.argv[2:])
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) == 4:
        sys.exit(compare(*sys.argv[2:]) > 0)
    else:
        sys.exit(__doc__)
