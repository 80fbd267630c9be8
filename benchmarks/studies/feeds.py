"""How fast feeds are read, rebuilt and searchable, and whether planted defects are found."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from indexer.build import RebuildOptions, RebuildReport, rebuild
from indexer.feeds.io import numbered_lines, open_source
from indexer.pipeline import IntakeOptions, check
from indexer.quality.findings import MOST_EXAMPLES, Example
from indexer.quality.report import QualityReport
from retrieval.errors import SettingError
from retrieval.records import Product
from service.demo.catalog import CATALOG_DAY, make_catalog, named_rng
from service.engine.engine import SearchEngine

# How fast feeds are read and checked, and whether memory grows with them.

_PROGRAM = """
import json, resource, sys, time
started = time.perf_counter()
from indexer.pipeline import check
from indexer.pipeline import IntakeOptions
report = check(IntakeOptions((sys.argv[1],)))
seconds = time.perf_counter() - started
peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps([report.read, seconds, spent, *peaks]))
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """One check of a feed in a program of its own, from its start to the report."""

    rows: int
    bytes: int
    """Of the feed, unpacked."""
    seconds: float
    processor_seconds: float
    """Of all processes together."""
    peak_megabytes: float
    """Resident memory of the program at its largest."""
    worker_megabytes: float
    """That of the largest of its workers."""

    @property
    def rows_per_second(self) -> float:
        """Rows read and checked a second."""
        return self.rows / self.seconds


def measure_reading(feed: Path, folder: Path, rows: int) -> Reading:
    """Checks a feed of so many rows, made from those of `feed` (JSON lines, each with an id and a title)."""
    grown = folder / f"{rows}.jsonl"
    with grown.open("wb") as file:
        size = sum(file.write(line) for line in grown_rows(feed, rows))
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(grown)], capture_output=True, text=True, check=True)
    grown.unlink()
    read, seconds, spent, peak, worker = json.loads(done.stdout)
    return Reading(read, size, seconds, spent, peak, worker)


def grown_rows(feed: Path, rows: int) -> Iterator[bytes]:
    """So many rows: those of the feed, then copies of them that are products of their own: other ids, models, codes.

    Raises SettingError for a feed that is no JSON lines.
    """
    made = 0
    for generation in itertools.count():
        for row in json_rows(feed):
            if made == rows:
                return
            yield msgspec.json.encode(_of_its_own(row, generation) if generation else row) + b"\n"
            made += 1
        if not made:
            raise SettingError(f"{feed}: no rows in it")


def json_rows(feed: Path) -> Iterator[dict[str, Any]]:
    """The rows of a feed in JSON lines; raises SettingError for another one."""
    with open_source(str(feed), lambda _: None) as source:
        for number, line in numbered_lines(source):
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError as error:
                raise SettingError(f"{feed} line {number}: a row is a JSON object, this is not one: {error}") from error


def _of_its_own(row: dict[str, Any], generation: int) -> dict[str, Any]:
    codes = {
        kind: [_own_code(str(code), generation) for code in (spelled if isinstance(spelled, list) else [spelled])]
        for kind, spelled in row.get("identifiers", {}).items()
    }
    title = f"{row['title']} M{generation}"
    return {**row, "id": f"{row['id']}-{generation}", "title": title, "identifiers": codes}


def _own_code(code: str, generation: int) -> str:
    """Another code; of an EAN-13 another one with a right check digit."""
    if len(code) != 13 or not code.isdecimal():
        return f"{code}-{generation}"
    digits = f"{(int(code[:12]) + generation * 7_000_003) % 10**12:012d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-total % 10}"


Row = dict[str, Any]
CHANGE_KINDS: Mapping[str, float] = {"price": 0.4, "availability": 0.2, "title": 0.2, "gone": 0.1, "new": 0.1}
"""What happens to a changed product, with its share."""


@dataclass(frozen=True, slots=True)
class Build:
    """One rebuild, and what it found to do."""

    label: str
    seconds: float
    products: int
    encoded: int
    phases: Mapping[str, float]


def measure_rebuilds(
    feed: Path,
    folder: Path,
    options: Callable[[Path], RebuildOptions],
    share: float,
    seed: int = 0,
    *,
    without_states: bool = False,
) -> Iterator[Build]:
    """Builds a feed from nothing, again without a change, and again after `share` of its products changed; then, where
    `without_states` says so, from nothing into another index whose products have no token states."""
    rows = list(json_rows(feed))
    before, after = folder / "before.jsonl", folder / "after.jsonl"
    _write(before, rows)
    _write(after, changed_rows(rows, share, seed))
    for label, each in (("from nothing", before), ("unchanged", before), (f"{share:.1%} changed", after)):
        started = time.perf_counter()
        report = rebuild(folder / "index", options(each))
        yield _build(label, time.perf_counter() - started, report)
    if without_states:
        started = time.perf_counter()
        report = rebuild(folder / "without-states", replace(options(before), state_dimension=0))
        yield _build("from nothing, without token states", time.perf_counter() - started, report)


def _build(label: str, seconds: float, report: RebuildReport) -> Build:
    return Build(label, seconds, report.products, report.encoded, report.seconds)


def changed_rows(rows: list[Row], share: float, seed: int) -> Iterator[Row]:
    """The rows after a day: some with another price, stock or title, some gone, some new."""
    draw = random.Random(seed)  # noqa: S311 - a benchmark, not a secret
    for row in rows:
        if draw.random() >= share:
            yield row
            continue
        match draw.choices(list(CHANGE_KINDS), list(CHANGE_KINDS.values()))[0]:
            case "price":
                yield {**row, "price": round(draw.uniform(1, 500), 2)}
            case "availability":
                yield {**row, "availability": "out_of_stock" if row.get("availability") == "in_stock" else "in_stock"}
            case "title":
                yield {**row, "title": f"{row['title']}, new edition"}
            case "new":
                yield row
                yield {**row, "id": f"{row['id']}-new", "title": f"{row['title']} mark {draw.randrange(99)}"}


def _write(path: Path, rows: Iterator[Row] | list[Row]) -> None:
    with path.open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")


# How long it takes until a live change is found: in the engine that took it, and in one of another process.

_READER = """
import json, sys, time
from service.engine.engine import SearchEngine
with SearchEngine.open(sys.argv[1]) as engine:
    print("ready", flush=True)
    for line in sys.stdin:
        product, price = json.loads(line)
        while engine.product(product).price != price:
            time.sleep(0.001)
        hits = engine.search("", filters=f"price = {price}", size=1_000).hits
        print(time.time(), any(hit.product.id == product for hit in hits), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Milliseconds from the call that changes a price to a search that finds it by the new one."""

    changes: int
    searches_per_second: float
    """What ran beside the changes."""
    search_p99: float
    """Of those searches, in milliseconds."""
    here: tuple[float, float, float]
    """In the engine that took the change: p50, p99 and the longest."""
    elsewhere: tuple[float, float, float]
    """In an engine of another process."""


def measure_freshness(
    index: Path, queries: Sequence[str], changes: int, rate: float = 50.0, seed: int = 0
) -> Freshness:
    """Changes prices one after the other while `rate` searches a second run; `index` is changed by it."""
    draw = random.Random(seed)  # noqa: S311 - a benchmark, not a secret
    command = [sys.executable, "-c", _READER, str(index)]
    with (
        SearchEngine.open(index) as engine,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader,
    ):
        assert reader.stdin and reader.stdout  # noqa: S101 - they are pipes
        reader.stdout.readline()
        load = _Load(engine, queries, rate)
        here, elsewhere = [], []
        products = engine.snapshot.products
        with load:
            for number in range(changes):
                product, price = products.id_of(draw.randrange(len(products))), 10_000 + number + 0.25
                reader.stdin.write(json.dumps([product, price]) + "\n")
                reader.stdin.flush()
                started, clock = time.perf_counter(), time.time()
                engine.patch(product, price=price)
                found = engine.search("", filters=f"price = {price}").hits
                here.append((time.perf_counter() - started) * 1_000)
                seen, is_found = reader.stdout.readline().split()
                elsewhere.append((float(seen) - clock) * 1_000)
                if not found or is_found != "True":
                    raise RuntimeError(f"product {product} is not found by its new price {price}")
                time.sleep(draw.uniform(0, 0.1))
        reader.stdin.close()
    return Freshness(changes, load.per_second, load.p99, _spread(here), _spread(elsewhere))


class _Load:
    """Searches at a steady rate in a thread of their own, timed."""

    def __init__(self, engine: SearchEngine, queries: Sequence[str], rate: float) -> None:
        self._engine = engine
        self._queries = queries
        self._pause = 1 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._spent: list[float] = []
        self._seconds = 0.0

    def __enter__(self) -> _Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.perf_counter()
        number = 0
        while not self._stop.is_set():
            before = time.perf_counter()
            self._engine.search(self._queries[number % len(self._queries)])
            self._spent.append((time.perf_counter() - before) * 1_000)
            number += 1
            self._stop.wait(max(0.0, started + number * self._pause - time.perf_counter()))
        self._seconds = time.perf_counter() - started

    @property
    def per_second(self) -> float:
        return len(self._spent) / self._seconds

    @property
    def p99(self) -> float:
        return float(np.percentile(self._spent, 99))


def _spread(milliseconds: list[float]) -> tuple[float, float, float]:
    return (
        float(np.percentile(milliseconds, 50)),
        float(np.percentile(milliseconds, 99)),
        max(milliseconds),
    )


# The kinds of defect that are planted in a clean feed: what each does to a row, and what must come of it.

Spoil = Callable[[Row, datetime], None]


class Outcome(StrEnum):
    """What the checker does with a defect."""

    REJECTED = "rejected"
    NOTED = "noted"
    CLEANED = "cleaned"
    FINDING = "finding"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of defect. `key` is the reason, the field, the cleaning rule or the rule that must tell it."""

    name: str
    outcome: Outcome
    key: str
    spoil: Spoil
    repeats: bool = False
    """Whether the row is put in again, as another row, and spoiled there; the first one stays as it is."""


def _sets(**values: object) -> Spoil:
    """Puts values in place of those of the row."""
    return lambda row, _: row.update(values)


def _without(*names: str) -> Spoil:
    def spoil(row: Row, _: datetime) -> None:
        for name in names:
            row.pop(name, None)

    return spoil


def _changes(name: str, change: Callable[[Any], object]) -> Spoil:
    def spoil(row: Row, _: datetime) -> None:
        row[name] = change(row[name])

    return spoil


def _days(name: str, days: int) -> Spoil:
    """Puts a date so many days from now."""

    def spoil(row: Row, now: datetime) -> None:
        row[name] = (now + timedelta(days=days)).isoformat()

    return spoil


def _attribute(name: str, value: object) -> Spoil:
    return _changes("attributes", lambda before: {**before, name: value})


def _identifier(kind: str, change: Callable[[str], str]) -> Spoil:
    return _changes("identifiers", lambda before: {**before, kind: [change(before[kind][0])]})


def _last_digit_up(number: str) -> str:
    return number[:-1] + str((int(number[-1]) + 1) % 10)


def _renamed(row: Row, suffix: str) -> None:
    row["id"] = f"{row['id']}{suffix}"
    row["identifiers"] = {**row["identifiers"], "sku": [f"{row['identifiers']['sku'][0]}{suffix}"]}


def _copied(row: Row, _: datetime) -> None:
    _renamed(row, "-copy")


def _nearly_copied(row: Row, _: datetime) -> None:
    _renamed(row, "-again")
    row["identifiers"] = {"sku": row["identifiers"]["sku"]}
    words = row["description"].split()
    row["description"] = " ".join([*words[:-1], f"{words[-1]} New"])
    row["title"] = row["title"].replace(",", "")


def _same_number(row: Row, _: datetime) -> None:
    """Another product under the same EAN."""
    _renamed(row, "-other")
    row["title"] = " ".join(["Spare lid for", row["id"], *row["title"].split()[:2]])
    row["description"] = "Fits every pot of the series. Dishwasher safe, oven safe to two hundred degrees."
    row["identifiers"] = {key: row["identifiers"][key] for key in ("sku", "ean")}


def _on_sale_for_more(row: Row, _: datetime) -> None:
    row["sale_price"] = round(row["price"] * 1.5, 2)


def _updated_before_created(row: Row, now: datetime) -> None:
    row["created"] = (now - timedelta(days=20)).isoformat()
    row["updated"] = (now - timedelta(days=40)).isoformat()


def _gone(row: Row, now: datetime) -> None:
    row["created"] = (now - timedelta(days=900)).isoformat()
    row["updated"] = (now - timedelta(days=500)).isoformat()


def _sold_out(row: Row, _: datetime) -> None:
    row["availability"] = "in_stock"
    row["attributes"] = {**row["attributes"], "stock": 0}


def _german(row: Row, _: datetime) -> None:
    row["title"] = f"Schwere Bratpfanne mit Deckel für alle Herdarten, auch für Induktion geeignet {row['id']}"


def _in_german(row: Row, now: datetime) -> None:
    _german(row, now)
    row["description"] = (
        "Die Pfanne wird schnell heiß und lässt sich leicht reinigen. Sie ist auch für den Ofen geeignet."
    )
    row["language"] = "de"


_FINDINGS: Mapping[str, Spoil] = {
    "no_description": _without("description"),
    "no_brand": _without("brand"),
    "no_category": _without("category"),
    "no_price": _without("price"),
    "no_currency": _without("currency"),
    "no_image": _without("images"),
    "no_availability": _without("availability"),
    "short_title": lambda row, _: row.update(title=f"Pan {row['id'][-2:]}"),
    "title_as_description": lambda row, _: row.update(description=row["title"]),
    "odd_currency": _sets(currency="SEK"),
    "sale_over_regular": _on_sale_for_more,
    "flat_category": _changes("category", lambda path: path[:1]),
    "updated_before_created": _updated_before_created,
    "in_stock_without_stock": _sold_out,
    "price_zero": _sets(price=0),
    "price_outlier": _sets(price=3_141_592.65),
    "negative_stock": _attribute("stock", -4),
    "broken_gtin": _identifier("ean", _last_digit_up),
    "declared_language": _german,
    "odd_language": _in_german,
    "title_in_capitals": _changes("title", str.upper),
    "placeholder_title": lambda row, _: row.update(title=f"Lorem ipsum dolor {row['id']}"),
    "title_without_words": lambda row, _: row.update(title=f"4711 / 0815 - {row['id'][-6:]}"),
    "address_in_title": _changes("title", lambda title: f"{title} www.shop.example"),
    "markup_left": _changes("description", lambda text: f"{text} {{{{ product.care }}}}"),
    "broken_text": _changes("description", lambda text: f"{text} Caf\ufffd style."),
    "broken_image": _sets(images=["https://oak-table.jpg"]),
    "created_later": _days("created", 90),
    "not_updated_for_a_year": _gone,
    "expired": _days("expires", -5),
}

DEFECT_KINDS: Sequence[Kind] = (
    Kind("no_id", Outcome.REJECTED, "no id", _without("id")),
    Kind("no_title", Outcome.REJECTED, "no title", _without("title")),
    Kind("repeated_id", Outcome.REJECTED, "duplicate id", _sets(), repeats=True),
    Kind("price_of_letters", Outcome.REJECTED, "broken price", _sets(price="call us")),
    Kind("price_below_zero", Outcome.REJECTED, "broken price", _sets(price=-5)),
    Kind("list_for_a_title", Outcome.REJECTED, "bad type", _sets(title=["a", "b"])),
    Kind("rating_past_the_scale", Outcome.NOTED, "rating", _sets(rating=9.5)),
    Kind("unknown_availability", Outcome.NOTED, "availability", _sets(availability="perhaps")),
    Kind("unreadable_date", Outcome.NOTED, "updated", _sets(updated="last spring")),
    Kind("unknown_currency", Outcome.NOTED, "currency", _sets(currency="Dollars")),
    Kind(
        "markup",
        Outcome.CLEANED,
        "markup",
        _changes("description", lambda text: f"<p>{text}</p><ul><li>boxed</li></ul>"),
    ),
    Kind("double_blanks", Outcome.CLEANED, "spaces", _changes("title", lambda title: title.replace(" ", "   "))),
    Kind("entities", Outcome.CLEANED, "entities", _changes("title", lambda title: f"{title} &amp; case")),
    Kind(
        "mojibake", Outcome.CLEANED, "mojibake", _changes("description", lambda text: f"{text} CafetiÃ¨re Ã© piston.")
    ),
    Kind(
        "brand_spelled_otherwise", Outcome.CLEANED, "brand-spelling", _changes("brand", lambda brand: f"{brand} GmbH")
    ),
    Kind(
        "category_spelled_otherwise",
        Outcome.CLEANED,
        "category-spelling",
        _changes("category", lambda path: [path[0].upper(), *path[1:]]),
    ),
    Kind("placeholder_brand", Outcome.CLEANED, "placeholders", _sets(brand="N/A")),
    Kind("spreadsheet_number", Outcome.CLEANED, "broken-identifiers", _identifier("ean", lambda _: "2.00012E+12")),
    Kind("image_in_the_row", Outcome.CLEANED, "unusable-images", _sets(images=["data:image/png;base64,AAAA"])),
    *(Kind(rule, Outcome.FINDING, rule, spoil) for rule, spoil in _FINDINGS.items()),
    Kind("shared_identifier", Outcome.FINDING, "shared_identifier", _same_number, repeats=True),
    Kind("exact_copy", Outcome.FINDING, "exact_copy", _copied, repeats=True),
    Kind("near_copy", Outcome.FINDING, "near_copy", _nearly_copied, repeats=True),
)
"""Each is planted in rows of its own."""


# Plants known defects in the first half of a clean feed and scores what the checker says of it.
#
# The checker must tell every kind at the very rows that have it, and nothing at all of the other half. Some kinds are
# rejected rows, some are dropped or cleaned values, most are findings; each says what it expects.

NOW = CATALOG_DAY + timedelta(days=1)
"""The time as of which the feed is checked."""
ROWS_PER_KIND = 2
_LEAST = 1_000


@dataclass(frozen=True, slots=True)
class DefectFeed:
    """A feed with planted defects."""

    lines: tuple[bytes, ...]
    planted: Mapping[str, tuple[int, ...]]
    """Kind to the lines that have it, counted from 1."""
    clean_from: int
    """The first line of the half without defects."""


class DefectScore(msgspec.Struct, frozen=True):
    """How well a checker did."""

    rows: int
    kinds: int
    found: int
    missed: tuple[str, ...]
    """Kinds that it did not tell at every planted row."""
    false_findings: tuple[str, ...]
    """What it said of the clean half."""


def defects(folder: Path, *, seed: int = 7, products: int = 2_000) -> DefectScore:
    """Writes a feed with defects from the demo store's catalog, checks it, and scores the report."""
    feed = planted([item.product for item in make_catalog(seed, products).products], seed)
    path = folder / "defects.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in feed.lines))
    return score(check(IntakeOptions((str(path),)), now=NOW), feed)


def planted(products: Sequence[Product], seed: int) -> DefectFeed:
    """Rows of clean products, defects planted in the first half of them; the same for the same arguments.

    Raises SettingError when there are too few products to have norms beside the defects.
    """
    if len(products) < _LEAST:
        raise SettingError(f"products is {len(products)}: the defects need {_LEAST} or more to stand out among")
    dice = random.Random(seed)  # noqa: S311  # a benchmark, not a secret
    rows = [_clean_row(product, dice) for product in products]
    half = len(rows) // 2
    versions: list[list[Row]] = [[row] for row in rows]
    kinds: dict[int, Kind] = {}
    chosen = _defects_spread(rows[:half], ROWS_PER_KIND * len(DEFECT_KINDS), seed)
    for place, at in enumerate(chosen):
        kind = kinds[at] = DEFECT_KINDS[place // ROWS_PER_KIND]
        versions[at] = _planted_rows(kind, rows[at])
    ends = list(accumulate(map(len, versions)))
    places: dict[str, list[int]] = {kind.name: [] for kind in DEFECT_KINDS}
    for at in sorted(kinds):
        places[kinds[at].name].append(ends[at])  # of a repeated row, the second
    lines = tuple(msgspec.json.encode(row) for each in versions for row in each)
    return DefectFeed(lines, {name: tuple(found) for name, found in places.items()}, ends[half - 1] + 1)


def _clean_row(product: Product, dice: random.Random) -> Row:
    """A product as a feed's row that nothing can be said against: fresh, with an image."""
    row: Row = {name: value for name, value in msgspec.to_builtins(product).items() if value not in (None, "", [], {})}
    updated = NOW - timedelta(days=dice.randrange(1, 300), seconds=dice.randrange(86_400))
    row["updated"] = updated.isoformat()
    row["created"] = (updated - timedelta(days=dice.randrange(1, 600))).isoformat()
    row["images"] = [f"https://images.shop.example/{product.id}.jpg"]
    if "rating" not in row:
        row.pop("rating_count", None)
    return row


def _planted_rows(kind: Kind, row: Row) -> list[Row]:
    spoiled = dict(row)
    kind.spoil(spoiled, NOW)
    return [row, spoiled] if kind.repeats else [spoiled]


def _defects_spread(rows: Sequence[Row], count: int, seed: int) -> list[int]:
    """Places of English rows, which the defects are written for, in an order that scatters the defects."""
    english = [at for at, row in enumerate(rows) if row["language"] == "en" and len(row["category"]) > 1]
    if len(english) < count:
        raise SettingError(f"{len(english)} English products are too few for {count} defects; ask for more products")
    order = named_rng(seed, "defects").permutation(len(english)).tolist()
    return [english[place] for place in order[:count]]


def score(report: QualityReport, feed: DefectFeed) -> DefectScore:
    """What a report tells of the planted defects, and what it says of the clean half."""
    missed = tuple(kind.name for kind in DEFECT_KINDS if not _is_told(kind, feed.planted[kind.name], report))
    return DefectScore(
        len(feed.lines), len(DEFECT_KINDS), len(DEFECT_KINDS) - len(missed), missed, tuple(_false(report, feed))
    )


def _is_told(kind: Kind, lines: Sequence[int], report: QualityReport) -> bool:
    if kind.outcome is Outcome.CLEANED:
        return report.cleaned.get(kind.key, 0) >= len(lines)
    told = {
        example.line for name, _, examples in _said(report, kind.outcome) if name == kind.key for example in examples
    }
    return set(lines) <= told


def _false(report: QualityReport, feed: DefectFeed) -> list[str]:
    """What a report says of rows in the clean half; a count without all its rows cannot be cleared of it."""
    said = [one for outcome in (Outcome.REJECTED, Outcome.NOTED, Outcome.FINDING) for one in _said(report, outcome)]
    found = []
    for name, count, examples in said:
        lines = [example.line for example in examples if example.line >= feed.clean_from]
        if lines or count > MOST_EXAMPLES:
            found.append(f"{name}: {count:,} rows, line {lines[0]}" if lines else f"{name}: {count:,} rows")
    cleaned = {kind.key for kind in DEFECT_KINDS if kind.outcome is Outcome.CLEANED}
    found.extend(
        f"{name}: {count:,} values"
        for name, count in report.cleaned.items()
        if name not in cleaned or count > MOST_EXAMPLES
    )
    return found


def _said(report: QualityReport, outcome: Outcome) -> list[tuple[str, int, Sequence[Example]]]:
    """The key, the count and the example rows of everything that a report says in one way."""
    if outcome is Outcome.FINDING:
        return [(finding.rule, finding.count, finding.examples) for finding in report.findings]
    counted: Mapping[str, Any] = report.rejected if outcome is Outcome.REJECTED else report.noted
    # A note's key is its field and its reason.
    return [(name.partition(":")[0], each.count, each.examples) for name, each in counted.items()]
