"""The whole check of a feed in one process and in memory: read, clean, settle, inspect, report."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path

from indexer.cleaning.census import Census
from indexer.cleaning.cleaner import Cleaner
from indexer.cleaning.languages import detect
from indexer.feeds import Noted, ProductRow, Rejected, read_products
from indexer.mapping import FeedMapping
from indexer.quality.findings import Example, Place
from indexer.quality.report import Counted, Intake, QualityReport, make_report
from indexer.quality.rules import built_in_rules
from indexer.quality.whole import Asked, inspect_catalog
from retrieval.records import Product


class _Intake:
    """Rows and values that were set aside, counted with all their places."""

    def __init__(self) -> None:
        self.rejected: dict[str, list[Example]] = {}
        self.noted: dict[str, list[Example]] = {}

    def reject(self, row: Rejected) -> None:
        self.rejected.setdefault(row.reason, []).append(Example("", "", row.file, row.line, row.detail))

    def note(self, value: Noted) -> None:
        example = Example("", "", value.file, value.line, value.detail)
        self.noted.setdefault(f"{value.field}: {value.reason}", []).append(example)


def check_feed(path: Path, now: datetime) -> QualityReport:
    """The report of one feed by the built-in rules."""
    intake = _Intake()
    rows = list(read_products([str(path)], FeedMapping(), intake.reject, note=intake.note, now=now))
    products, cleaned = _cleaned([row.product for row in rows])
    rules = built_in_rules()
    with tempfile.TemporaryDirectory() as folder:
        placed = list(zip(products, [_place(path, row) for row in rows], strict=True))
        findings, duplicates = inspect_catalog(placed, Asked(rules, now, detect), Path(folder))
    before = Intake(
        created=now,
        feeds=(str(path),),
        read=len(rows) + sum(map(len, intake.rejected.values())),
        rejected={reason: Counted(len(each), tuple(each)) for reason, each in intake.rejected.items()},
        noted={what: Counted(len(each), tuple(each)) for what, each in intake.noted.items()},
        cleaned=cleaned,
    )
    return make_report(before, findings, duplicates, rules)


def _cleaned(products: list[Product]) -> tuple[list[Product], Counter[str]]:
    cleaned = Cleaner().clean(products)
    census = Census()
    for product in cleaned.products:
        census.add(product)
    settled = census.settler().settle_all(cleaned.products)
    return settled.products, Counter(cleaned.counts) + Counter(settled.counts)


def _place(path: Path, row: ProductRow) -> Place:
    return Place(str(path), row.line, guessed=not row.product.language)
