"""Defects planted in a clean feed, and which of them the data-quality check reports."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import msgspec
import typer

from shelfwise.benchmarks.studies import run_study
from shelfwise.indexer.pipeline import FeedOptions, check_feeds
from shelfwise.indexer.quality.findings import MAX_EXAMPLES, Example
from shelfwise.indexer.quality.report import QualityReport
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.records import Product
from shelfwise.service.cli.options import command
from shelfwise.service.cli.output import emit, say
from shelfwise.service.demo.catalog import CATALOG_DAY, make_catalog, named_rng

Row = dict[str, Any]
# The kinds of defect that are planted in a clean feed: how each changes a row, and the expected outcome.

Spoil = Callable[[Row, datetime], None]


class Outcome(StrEnum):
    """Outcomes of a defect in the checker."""

    REJECTED = "rejected"
    NOTED = "noted"
    CLEANED = "cleaned"
    FINDING = "finding"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of defect. `key` is the reason, the field, the cleaning rule or the rule that must report it."""

    name: str
    outcome: Outcome
    key: str
    spoil: Spoil
    repeats: bool = False
    """Whether the defect is planted in a second copy of the row; the first copy stays unchanged."""


def _sets(**values: object) -> Spoil:
    """Replaces values of the row."""
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
    """Sets a date that is `days` days from now."""

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
    """Another product with the same EAN."""
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
"""The kinds of defect; each is planted in separate rows."""


# Plants known defects in the first half of a clean feed and scores what the checker reports.
#
# The checker must report every kind at exactly the rows that have it, and nothing in the other half. Some kinds are
# rejected rows, some are dropped or cleaned values, most are findings; each states its expected outcome.

NOW = CATALOG_DAY + timedelta(days=1)
"""The time as of which the feed is checked."""
ROWS_PER_KIND = 2
_MIN_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class DefectFeed:
    """A feed with planted defects."""

    lines: tuple[bytes, ...]
    planted: Mapping[str, tuple[int, ...]]
    """The lines that have each kind, counted from 1."""
    clean_from: int
    """The first line of the half without defects."""


class DefectScore(msgspec.Struct, frozen=True):
    """The score of a checker."""

    rows: int
    kinds: int
    found: int
    missed: tuple[str, ...]
    """Kinds that it did not report at every planted row."""
    false_findings: tuple[str, ...]
    """Findings reported in the clean half."""


def defects(folder: Path, *, seed: int = 7, products: int = 2_000) -> DefectScore:
    """Writes a feed with defects from the demo store's catalog, checks it, and scores the report."""
    feed = planted([item.product for item in make_catalog(seed, products).products], seed)
    path = folder / "defects.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in feed.lines))
    return score(check_feeds(FeedOptions((str(path),)), now=NOW), feed)


def planted(products: Sequence[Product], seed: int) -> DefectFeed:
    """Rows of clean products, with defects planted in the first half; the same for the same arguments.

    Raises SettingError for too few products to have norms beside the defects.
    """
    if len(products) < _MIN_SIZE:
        raise SettingError(
            f"{len(products)} products are too few for the defects to stand out; use at least {_MIN_SIZE}"
        )
    dice = random.Random(seed)  # noqa: S311  # a benchmark, not a secret
    rows = [_clean_row(product, dice) for product in products]
    half = len(rows) // 2
    versions: list[list[Row]] = [[row] for row in rows]
    kinds: dict[int, Kind] = {}
    chosen = _defects_spread(rows[:half], ROWS_PER_KIND * len(DEFECT_KINDS), seed)
    for index, at in enumerate(chosen):
        kind = kinds[at] = DEFECT_KINDS[index // ROWS_PER_KIND]
        kind.spoil(spoiled := dict(rows[at]), NOW)
        versions[at] = [rows[at], spoiled] if kind.repeats else [spoiled]
    ends = list(accumulate(map(len, versions)))
    line_numbers: dict[str, list[int]] = {kind.name: [] for kind in DEFECT_KINDS}
    for at in sorted(kinds):
        line_numbers[kinds[at].name].append(ends[at])  # of a repeated row, the second
    lines = tuple(msgspec.json.encode(row) for each in versions for row in each)
    return DefectFeed(lines, {name: tuple(numbers) for name, numbers in line_numbers.items()}, ends[half - 1] + 1)


def _clean_row(product: Product, dice: random.Random) -> Row:
    """A product as a feed's row that can have no findings: fresh, with an image."""
    row: Row = {name: value for name, value in msgspec.to_builtins(product).items() if value not in (None, "", [], {})}
    updated = NOW - timedelta(days=dice.randrange(1, 300), seconds=dice.randrange(86_400))
    row["updated"] = updated.isoformat()
    row["created"] = (updated - timedelta(days=dice.randrange(1, 600))).isoformat()
    row["images"] = [f"https://images.shop.example/{product.id}.jpg"]
    if "rating" not in row:
        row.pop("rating_count", None)
    return row


def _defects_spread(rows: Sequence[Row], count: int, seed: int) -> list[int]:
    """Places of English rows (the defects are written in English), in an order that scatters the defects."""
    english = [at for at, row in enumerate(rows) if row["language"] == "en" and len(row["category"]) > 1]
    if len(english) < count:
        raise SettingError(f"{len(english)} English products are too few for {count} defects; use more products")
    order = named_rng(seed, "defects").permutation(len(english)).tolist()
    return [english[index] for index in order[:count]]


def score(report: QualityReport, feed: DefectFeed) -> DefectScore:
    """Compares a report with the planted defects, and lists what it reports in the clean half."""
    missed = tuple(kind.name for kind in DEFECT_KINDS if not _is_reported(kind, feed.planted[kind.name], report))
    return DefectScore(
        len(feed.lines), len(DEFECT_KINDS), len(DEFECT_KINDS) - len(missed), missed, tuple(_false(report, feed))
    )


def _is_reported(kind: Kind, lines: Sequence[int], report: QualityReport) -> bool:
    if kind.outcome is Outcome.CLEANED:
        return report.cleaned.get(kind.key, 0) >= len(lines)
    reported = {
        example.line
        for name, _, examples in _findings(report, kind.outcome)
        if name == kind.key
        for example in examples
    }
    return set(lines) <= reported


def _false(report: QualityReport, feed: DefectFeed) -> list[str]:
    """Findings of a report about rows in the clean half; a count whose rows are not all listed is included."""
    findings = [
        one for outcome in (Outcome.REJECTED, Outcome.NOTED, Outcome.FINDING) for one in _findings(report, outcome)
    ]
    messages = []
    for name, count, examples in findings:
        lines = [example.line for example in examples if example.line >= feed.clean_from]
        if lines or count > MAX_EXAMPLES:
            messages.append(f"{name}: {count:,} rows, line {lines[0]}" if lines else f"{name}: {count:,} rows")
    cleaned = {kind.key for kind in DEFECT_KINDS if kind.outcome is Outcome.CLEANED}
    messages.extend(
        f"{name}: {count:,} values"
        for name, count in report.cleaned.items()
        if name not in cleaned or count > MAX_EXAMPLES
    )
    return messages


def _findings(report: QualityReport, outcome: Outcome) -> list[tuple[str, int, Sequence[Example]]]:
    """The key, the count and the example rows of all entries of a report with one outcome."""
    if outcome is Outcome.FINDING:
        return [(finding.rule, finding.count, finding.examples) for finding in report.findings]
    counted: Mapping[str, Any] = report.rejected if outcome is Outcome.REJECTED else report.noted
    # A note's key is its field and its reason.
    return [(name.partition(":")[0], each.count, each.examples) for name, each in counted.items()]


@command("defects --products 2000")
def defects_command(
    products: Annotated[int, typer.Option(help="Rows of the feed.", min=1_000)] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of the places of the defects.")] = 7,
) -> None:
    """Plant many kinds of defect in one half of a feed, and count which of them the check reports."""
    with TemporaryDirectory() as folder:
        emit(defects(Path(folder), seed=seed, products=products), show_defects)


def show_defects(score: DefectScore) -> None:
    """The number of reported kinds, the kinds that were not reported, and what was reported of clean rows."""
    say(f"{score.found} of {score.kinds} planted kinds of defect are reported, in a feed of {score.rows:,} rows")
    say(f"missed: {', '.join(score.missed) or 'none'}")
    say(f"reported of the clean half: {', '.join(score.false_findings) or 'nothing'}")


if __name__ == "__main__":
    run_study(defects_command)
