"""Recorded searches: 500 searches of four small catalogs, compared with `tests/recorded_searches.tsv`.

    python -m tests.recorded_searches record

writes that file: after an intended change of ranking, beside its nDCG. A line has the catalog, the query, the options,
the number of hits, the first ids, and a digest of the whole page: all ids in order, correction, facets, ranges and
choices. Scores are left out, since their last digits differ between processors; encoders run in float32, since int8
rounds these digits up to a hundredth of a similarity; and all products are so old that their age does not count.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.judgments import read_judgments
from shelfwise.retrieval.records import Page
from shelfwise.retrieval.text.analysis import contains_chinese
from shelfwise.service.curation.relevance import Relevance, Signal
from shelfwise.service.curation.rules import Boost, Bury, Match, Pin, Restrict, Rule, RuleStore, When
from shelfwise.service.demo import write_demo_store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import SearchOptions
from shelfwise.service.settings import RankerSettings, Settings, cache_folder

RECORD = Path(__file__).with_suffix(".tsv")
SEARCHES = 125
"""Number of searches of each catalog."""
FIRST = 3
"""Number of ids that a line shows."""
_LONG_AGO = date(2001, 1, 1)
SETTINGS = Settings(backend="embedded", ranker=RankerSettings(deadline=60))
"""Settings with the longest deadline, so that no ranker misses it on a busy machine."""
_ENGLISH_ENCODER, _MULTILINGUAL_ENCODER = "all-MiniLM-L6-v2", "multilingual-e5-small"

OPTIONS: Mapping[str, SearchOptions] = {
    "plain": {},
    "bm25": {"stage": "bm25"},
    "dense": {"stage": "dense"},
    "merged": {"stage": "merged"},
    "rrf": {"stage": "merged", "merge": "rrf"},
    "page 2": {"page": 2},
    "uncorrected": {"correct": False},
    "prefix": {"prefix": True},
    "cheap": {"filters": "price < 60", "ranges": ["price"]},
    "by price": {"sort": "-price"},
    "diverse": {"diversity": 0.3},
    "choices": {"choices": 3},
    "facets": {"facets": ["brand", "category"]},
    "brands": {"group": "brand", "per_group": 2},
    "signals": {"relevance": Relevance(signals=(Signal("price", descending=False),))},
    "advanced": {"advanced_syntax": True, "search_fields": ["title", "brand"]},
}


def _demo_feed(folder: Path, seed: int, is_chinese: bool | None) -> tuple[Path, list[str]]:
    """The feed of a demo store, of one language or both, with its judged queries."""
    files = write_demo_store(folder, seed=seed, products=300, sessions=0, day=_LONG_AGO)
    lines = gzip.decompress(files.products.read_bytes()).splitlines()
    titles = [msgspec.json.decode(line)["title"] for line in lines]
    feed = folder / "feed.jsonl"
    chosen = (line for line, title in zip(lines, titles, strict=True) if is_chinese in (None, contains_chinese(title)))
    feed.write_bytes(b"\n".join(chosen) + b"\n")
    queries = read_judgments(files.judgments).grades
    return feed, [text for text in queries if is_chinese in (None, contains_chinese(text))]


def mixed(folder: Path) -> tuple[Path, list[str]]:
    """The demo store in both languages."""
    return _demo_feed(folder, seed=7, is_chinese=None)


def merchandised(folder: Path) -> tuple[Path, list[str]]:
    """The English part of another demo store."""
    return _demo_feed(folder, seed=11, is_chinese=False)


def chinese(folder: Path) -> tuple[Path, list[str]]:
    """The Chinese part of a third demo store."""
    return _demo_feed(folder, seed=13, is_chinese=True)


def instruments(folder: Path) -> tuple[Path, list[str]]:
    """A CSV feed of musical instruments and groceries with few attributes, and queries of their words."""
    kinds = {
        "Acoustic Guitar": ("Guitars", ("Spruce Top", "Cutaway", "Left Handed")),
        "Guitar Strings": ("Accessories", ("Bronze", "Nickel", "Light Gauge")),
        "Digital Piano": ("Keyboards", ("88 Keys", "61 Keys", "with Stand")),
        "Piano Bench": ("Accessories", ("Leather", "Adjustable", "Black")),
        "Snare Drum": ("Drums", ("Maple", "Steel", "14 Inch")),
        "Violin Bow": ("Strings", ("Carbon", "Brazilwood", "4/4")),
        "Ground Coffee": ("Groceries", ("Dark Roast", "Decaf", "500 g")),
        "Coffee Filter": ("Groceries", ("Paper", "No. 4", "100 Pieces")),
        "Olive Oil": ("Groceries", ("Extra Virgin", "Organic", "750 ml")),
    }
    brands = ("Alder", "Bellaro", "Corvin", "Dunmore")
    feed = folder / "feed.csv"
    with feed.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "title", "brand", "category", "price", "stock"))
        for number, (kind, brand) in enumerate(itertools.product(kinds, brands)):
            category, features = kinds[kind]
            for place, feature in enumerate(features):
                price = 5 + (number * 37 + place * 13) % 190
                row = (f"m{number:02}{place}", f"{brand} {kind}, {feature}", brand, category, f"{price}.50", price % 4)
                rows.writerow(row)
    words = [kind.lower() for kind in kinds] + [f"{brand} {kind}".lower() for brand in brands[:2] for kind in kinds]
    phrases = [f"{feature} {kind}".lower() for kind, (_, each) in kinds.items() for feature in each]
    typing = [
        "guitr",
        "acoustc guitar",
        "pian",
        "cofee",
        "drum sticks",
        "olive",
        "m021",
        "piano under 100",
        "banana",
        "",
    ]
    return feed, [*words, *phrases, *typing]


CATALOGS: Mapping[Callable[[Path], tuple[Path, list[str]]], str] = {
    mixed: _MULTILINGUAL_ENCODER,
    merchandised: _ENGLISH_ENCODER,
    chinese: _MULTILINGUAL_ENCODER,
    instruments: _ENGLISH_ENCODER,
}
"""The encoder of each catalog."""


def _merchandise(index: Path) -> None:
    """Adds rules and live changes to the index."""
    with SearchEngine.open(index, settings=SETTINGS) as engine:
        ids = [hit.product.id for hit in engine.search("", size=8, sort="price").hits]
        drills = [hit.product.id for hit in engine.search("drill", size=4, stage="bm25").hits]
        engine.delete(ids[:2])
        for place, product in enumerate(ids[2:]):
            engine.patch(product, price=20.0 + place, title=f"Sturdy {engine.product(product).title}")
    RuleStore(index).put(
        [
            Rule("cheap-first", (Boost("price < 40", 1.0),)),
            Rule("late", (Bury('availability = "out_of_stock"', 2.0),), priority=2),
            Rule("drills", (Pin((drills[-1],), 2),), When("drill", Match.CONTAINS)),
            Rule("saws", (Restrict("price > 10"),), When("saw", Match.CONTAINS)),
        ]
    )


def build(folder: Path, cache: Path) -> None:
    """Builds the four indexes, each in a folder of its catalog's name, with its queries."""
    for catalog, encoder in CATALOGS.items():
        own = folder / catalog.__name__
        own.mkdir()
        feed, queries = catalog(own)
        (own / "queries.json").write_bytes(msgspec.json.encode(queries))
        synonyms = own / "synonyms.txt"
        options = RebuildOptions(
            (str(feed),), cache, encoder=encoder, runtime="onnx-fp32", synonyms=synonyms if synonyms.exists() else None
        )
        rebuild(own / "index", options)
    _merchandise(folder / "merchandised" / "index")


def lines(folder: Path) -> Iterator[str]:
    """A line for each search of the indexes in `folder`."""
    for catalog in CATALOGS:
        own = folder / catalog.__name__
        queries = msgspec.json.decode((own / "queries.json").read_bytes(), type=list[str])
        chosen = [queries[number * len(queries) // SEARCHES] for number in range(SEARCHES)]
        with SearchEngine.open(own / "index", settings=SETTINGS) as engine:
            for query, (name, options) in zip(chosen, itertools.cycle(OPTIONS.items()), strict=False):
                sized: SearchOptions = {"size": 10, **options}
                page = engine.search(query, **sized)
                yield "\t".join((catalog.__name__, query, name, *summary(page)))


def summary(page: Page) -> tuple[str, str, str]:
    """The number of hits, the first ids, and the digest of a page."""
    ids = [hit.product.id for hit in page.hits]
    document = {
        "ids": ids,
        "nearest": [hit.product.id for hit in page.nearest],
        "suggestion": [page.suggestion, page.corrected, page.completion],
        "facets": {name: [[each.value, each.count] for each in facet.counts] for name, facet in page.facets.items()},
        "ranges": msgspec.to_builtins(page.ranges),
        "choices": [each.field for each in page.choices],
        "rules": page.rules,
    }
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return str(page.total), " ".join(ids[:FIRST]), hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Both lines of each search that changed."""
    pairs = itertools.zip_longest(before, now, fillvalue="nothing")
    return [f"{one}\n    now {other}" for one, other in pairs if one != other]


def main() -> None:
    """Records the searches of this commit."""
    if sys.argv[1:] != ["record"]:
        sys.exit(__doc__)
    before = RECORD.read_text("utf-8").splitlines() if RECORD.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), cache_folder())
        now = list(lines(Path(folder)))
    RECORD.write_text("\n".join(now) + "\n", "utf-8")
    sys.stdout.write(f"{len(now)} searches, {len(differences(before, now))} changed: git diff {RECORD.name}\n")


if __name__ == "__main__":
    main()
