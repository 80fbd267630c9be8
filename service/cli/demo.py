"""`shelfwise demo`: makes the demo store, builds its index, shows a few searches, and says what to try next."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from rich.rule import Rule
from rich.text import Text

from indexer.build import RebuildOptions, rebuild
from indexer.events.importer import import_events
from retrieval.events.privacy import utc_now
from service.cli.output import ProgressLines, out, show_page, show_report
from service.demo import DemoFiles, write_demo_store
from service.engine.engine import SearchEngine
from service.events.derived_tables import DerivedTablesManager
from service.events.event_log import EventLog, rejects_path
from service.settings import Settings, load_settings

_SHOWN_CLASSES = (
    ("head", "en"),
    ("synonym", "en"),
    ("misspelling", "en"),
    ("attribute", "en"),
    ("use_case", "en"),
    ("identifier", "en"),
    ("head", "zh"),
    ("synonym", "zh"),
)


def show_demo(folder: Path, *, products: int, seed: int, sessions: int, cache: Path) -> None:
    """The whole tour; run again it finds its work done and takes seconds."""
    with ProgressLines() as progress:
        progress.begin("demo store", None, "")
        files = write_demo_store(folder, seed=seed, products=products, sessions=sessions)
        progress.end(f"{products:,} products in {folder}")
        options = RebuildOptions(feeds=(str(files.products),), cache=cache, synonyms=files.synonyms)
        report = rebuild(folder / "index", options, progress)
        _take_events(folder / "index", files, progress)
    show_report(report, folder / "index")
    with SearchEngine.open(folder / "index") as engine:
        for label, query in _examples(files):
            out.print(Rule(Text.assemble((query, "bold"), f"  ({label})"), align="left"))
            show_page(engine.search(query, size=5), explain=True)
        query = "gift for a gardener"
        out.print(Rule(Text.assemble((query, "bold"), "  (with a filter and facets)"), align="left"))
        filtered = engine.search(query, size=5, filters="price < 30 AND availability = in_stock", facets=["category"])
        show_page(filtered, explain=True)
    out.print(_next_steps(folder, files), soft_wrap=True)


def _take_events(index: Path, files: DemoFiles, progress: ProgressLines) -> None:
    """Imports the log of what its shoppers did, and makes the tables of it."""
    settings = Settings(backend="embedded", events=load_settings().events)
    with EventLog.open(index, settings) as log:
        rejected = rejects_path(log.folder, utc_now())
        import_events([str(files.events)], log.store, log.intake, rejected=rejected, progress=progress)
        DerivedTablesManager(index, log, settings.events, progress=progress).refresh()


def _examples(files: DemoFiles) -> Iterator[tuple[str, str]]:
    """For each shown class the first query that is kept for development."""
    with files.queries.open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    for name, language in _SHOWN_CLASSES:
        for row in rows:
            if (row["class"], row["language"], row["split"]) == (name, language, "dev"):
                yield f"{name.replace('_', ' ')}, {language}", row["query"]
                break


def _next_steps(folder: Path, files: DemoFiles) -> Text:
    index = folder / "index"
    commands = (
        ("search it", f'.venv/bin/shelfwise search {index} "12v drill" --filter "price < 150" --facet brand --explain'),
        ("check its feed", f".venv/bin/shelfwise check {files.products} --html report.html"),
        ("change a price", f".venv/bin/shelfwise patch {index} d000001 price=9.99"),
        ("measure it", f".venv/bin/shelfwise evaluate {index} {files.judgments_test} --stage bm25,dense,merged"),
        ("what shoppers did", f".venv/bin/shelfwise events report --index {index} --html report.html"),
        ("learn from it", f".venv/bin/shelfwise learn --index {index}"),
        ("time it", f".venv/bin/shelfwise bench latency {index} --judgments {files.judgments_dev}"),
        ("use your own", ".venv/bin/shelfwise rebuild YOUR-CATALOG.jsonl --index store"),
        ("open it", f".venv/bin/shelfwise serve --index {index}"),
    )
    lines = "\n".join(f"  {purpose:<18} {command}" for purpose, command in commands)
    page = "and then in a browser: http://127.0.0.1:8080/, with what is behind it at http://127.0.0.1:8080/admin"
    return Text(f"\nThe demo store is in {folder}. Next:\n{lines}\n{'':<21}{page}")
