"""A feed's quality report alone: everything that a rebuild does before it encodes, and nothing is published."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from indexer.aside import Aside
from indexer.intake import Intake, IntakeOptions
from indexer.observing import Observer, Silence
from indexer.quality.report import QualityReport
from indexer.workers import Workers
from retrieval.errors import EmptyCatalogError
from retrieval.product_store import ProductStore, ProductWriter


def check(
    options: IntakeOptions,
    rejected: Path | None = None,
    observer: Observer | None = None,
    *,
    workers: int | None = None,
    now: datetime | None = None,
) -> QualityReport:
    """Reads, cleans and inspects feeds; rejected rows are written to the file `rejected` where one is named.

    `workers` processes share the work, one for each core where it is None; ages are counted from `now`.

    Raises FeedError for a feed that cannot be read at all, EmptyCatalogError for feeds without a row.
    """
    heard = observer or Silence()
    with TemporaryDirectory(prefix="shelfwise-check-") as scratch, Workers(workers) as pool:
        folder = Path(scratch)
        with Aside(rejected or folder / "rejected.jsonl") as aside:
            intake = Intake(options, folder, aside, pool, heard, now or datetime.now(UTC))
            intake.read()
            if not intake.rows:
                raise EmptyCatalogError(f"{', '.join(options.feeds)}: no rows in it")
            return _inspected(intake, folder, heard)


def _inspected(intake: Intake, folder: Path, observer: Observer) -> QualityReport:
    observer.begin("inspect", intake.usable, "products")
    products = ProductWriter(folder)
    for settled in intake.settle():
        for product_id, line in zip(settled.ids, settled.lines, strict=True):
            products.add(product_id, line)
        observer.advance(len(settled.ids))
    products.finish()
    report = intake.report(ProductStore(folder).__getitem__)
    observer.end(f"{intake.products:,} products")
    return report
